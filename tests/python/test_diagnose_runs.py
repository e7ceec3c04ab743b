"""What a diagnosis reads of an optimizer, that it changes nothing, and the proof of its remedy."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest
import torch

import optcore as oc
from optcore.diagnosis import runs
from optcore.diagnosis.rule import read


def bowl(values, examples=None):
    """1/2 sum l_i (t_i - x_ki)^2 over examples x_k; one at zero where none are given."""
    values = np.asarray(values, float)
    x = np.zeros((1, values.size)) if examples is None else examples

    def grad(t, batch=None):
        return values * (t - (x if batch is None else x[batch]).mean(axis=0))

    def loss(t, batch=None):
        return float(0.5 * np.mean(((x if batch is None else x[batch]) - t) ** 2 @ values))

    return oc.Objective(loss, grad, lambda t, v, batch=None: values * v, theta0=np.ones(values.size), n_examples=len(x))


RULES = [("sgd", {}), ("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "nesterov": True}), ("adam", {}),
         ("adamw", {"amsgrad": True}), ("rmsprop", {"momentum": 0.5}), ("rmsprop", {"centered": True}), ("adagrad", {}),
         ("lion", {}), ("radam", {}), ("adafactor", {}), ("muon", {})]


@pytest.mark.parametrize(("name", "options"), RULES)
@pytest.mark.parametrize("steps", [0, 3])
def test_a_copy_goes_on_with_the_bits_of_the_original(name, options, steps):
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(12)
    arrays = {"a": theta[:4].reshape(2, 2), "b": theta[4:].reshape(4, 2)} if name in ("adafactor", "muon") else theta
    opt = oc.optim.get(name)(arrays, lr=0.01, **options)
    grads = rng.standard_normal((steps + 5, 12))

    def step(optimizer, g):
        optimizer.step({"a": g[:4].reshape(2, 2), "b": g[4:].reshape(4, 2)} if isinstance(arrays, dict) else g)

    for g in grads[:steps]:
        step(opt, g)
    before = theta.copy()
    rule, other = read(opt, 12), theta.copy()
    copy = rule.copy(other)
    for g in grads[steps:]:
        copy.step(rule.split(g))
    assert np.array_equal(theta, before)
    for g in grads[steps:]:
        step(opt, g)
    assert np.array_equal(theta, other)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_copy_of_pytorchs_rule_steps_as_it_would(name):
    rng = np.random.default_rng(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)).double()
    options = {"momentum": 0.8} if name == "SGD" else {}
    opt = getattr(torch.optim, name)(model.parameters(), lr=0.03, **options)
    obj = oc.torch.objective(model, torch.nn.functional.mse_loss, rng.standard_normal((20, 3)),
                             rng.standard_normal((20, 1)))

    def vector():
        return torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()

    def train(steps):
        for _ in range(steps):
            g = torch.from_numpy(obj.loss_and_grad(vector())[1])
            for p, part in zip(model.parameters(), torch.split(g, [p.numel() for p in model.parameters()]),
                               strict=True):
                p.grad = part.view_as(p).clone()
            opt.step()

    train(4)
    theta = vector()
    rule = read(opt, theta.size, obj.place_of)
    assert (rule.name, rule.lr) == (name, 0.03)
    run = runs.full(obj, theta, rule, 10)
    train(10)
    np.testing.assert_allclose(run.theta, vector(), rtol=1e-12)  # the same arithmetic, another order of operations


def test_rates_that_differ_are_part_of_the_preconditioner():
    theta = np.ones(3)
    opt = oc.optim.SGD([{"params": theta[:1], "lr": 0.5}, {"params": theta[1:], "lr": 0.1}])
    rule = read(opt, 3)
    assert rule.lr == 0.5
    np.testing.assert_allclose(rule.preconditioner(np.ones(3)), [1, 5, 5])
    # Curvatures 1, 2, 4 at these rates: 0.5, 0.2, 0.4 over the limit 2.
    d = oc.diagnose(bowl([1, 2, 4]), theta, opt)
    assert d.evidence["sharpness"].value == pytest.approx(0.25, rel=1e-6)


def test_rprop_does_not_stop_with_its_rate():
    """Each parameter has a step of its own, which the rate no longer touches: at 0 it goes on as before."""
    theta, obj = np.ones(3), bowl([1, 2, 3])
    opt = oc.optim.Rprop(theta, lr=1e-3)
    for _ in range(5):
        opt.step(obj.loss_and_grad(theta)[1])
    opt.param_groups[0]["lr"] = 0.0
    assert read(opt, 3).lr == pytest.approx(1e-3 * 1.2**4)      # grown with each gradient of the same sign
    assert oc.diagnose(obj, theta, opt).verdict == "progressing"


@pytest.mark.parametrize(("name", "options", "limit"), [
    ("adam", {"betas": (0.9, 0.999)}, 38), ("adamw", {"betas": (0.5, 0.999), "weight_decay": 0.0}, 6),
    ("rmsprop", {}, 2), ("rmsprop", {"momentum": 0.5}, 3)])
def test_the_limit_of_an_adaptive_rule(name, options, limit):
    """Cohen et al. 2022, with a preconditioner that stands still: run on both sides, from a state of huge memory."""
    slow = {"alpha": 1 - 1e-12} if name == "rmsprop" else {"betas": (options["betas"][0], 1 - 1e-12)}
    for factor in (0.97, 1.03):
        theta = np.full(1, 1e-6)
        opt = oc.optim.get(name)(theta, lr=1e-9, **{**options, **slow, "eps": 0})
        state = opt.state_dict()
        key = "square_avg" if name == "rmsprop" else "exp_avg_sq"
        state["state"][0][key] = np.full(1, 4.0 * (1 if name == "rmsprop" else 1e-12 * 10**6))
        state["state"][0]["step"] = state["step"] = 10**6
        opt.load_state_dict(state)
        opt.param_groups[0]["lr"] = factor * limit * 2.0 / 3.0  # P = sqrt(4), curvature 3
        d = oc.diagnose(bowl([3.0]), theta, opt)
        assert d.evidence["sharpness"].value == pytest.approx(factor, rel=1e-3)
        peak = 0.0
        for _ in range(3000):
            opt.step(3.0 * theta)
            peak = max(peak, abs(theta[0]))
        assert (peak > 1e-3) == (factor > 1)  # far below where g^2 would show in P


def small_network(dtype="float32"):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((60, 4)).astype(dtype), rng.integers(0, 3, 60)
    return x, y, oc.nn.Sequential(oc.nn.Linear(4, 6), oc.nn.BatchNorm(6), oc.nn.ReLU(), oc.nn.Linear(6, 3), dtype=dtype)


@pytest.mark.parametrize("rule", ["SGD", "AdamW"])
def test_nothing_is_changed_and_the_same_seed_says_the_same(rule):
    x, y, net = small_network()
    opt = getattr(oc.optim, rule)(net.theta, lr=lambda step: 0.1)
    history = oc.train.fit(net, x, y, optimizer=opt, epochs=3, batch_size=10, progress=False)

    def bits():
        state = opt.state_dict()
        return [net.theta.tobytes(), *(b.tobytes() for b in net.buffers.values()), repr(opt.param_groups), opt.steps,
                *(np.asarray(v).tobytes() for v in state["state"][0].values()), random.getstate(),
                np.random.get_state()[1].tobytes()]  # noqa: NPY002

    before, obj = bits(), oc.nn.objective(net, "cross_entropy", x, y)
    d = oc.diagnose(obj, net.theta, opt, 10, history)
    d.verify(steps=20)
    assert bits() == before
    again = oc.diagnose(oc.nn.objective(net, "cross_entropy", x, y), net.theta, opt, 10, history)
    assert again.to_dict() == d.to_dict()
    assert oc.diagnose(obj, net.theta, opt, 10, history, seed=1).to_dict() != d.to_dict()


def test_nothing_of_a_pytorch_training_is_changed():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    opt = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
    x, y = torch.randn(40, 4), torch.randint(0, 3, (40,))
    for _ in range(5):
        opt.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        opt.step()

    def bits():
        tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters()), torch.get_rng_state(),
                   *(v for s in opt.state_dict()["state"].values() for v in s.values())]
        return [t.numpy().tobytes() for t in tensors], repr(opt.param_groups), model.training

    before = bits()
    obj = oc.torch.objective(model, torch.nn.functional.cross_entropy, x, y)
    d = oc.diagnose(obj, obj.theta0, opt, batch_size=8)
    d.verify(steps=10)
    assert bits() == before
    assert d.evidence["learning rate"].value == pytest.approx(0.01)
    assert d.evidence["dead units"].value < 1
    assert d.evidence["noise takes back"].low <= d.evidence["noise takes back"].value


def test_remedies_of_layers_of_a_pytorch_module_are_tried_on_copies():
    torch.manual_seed(0)
    widths = [4, *[8] * 7, 3]
    layers = [m for a, b in pairwise(widths) for m in (torch.nn.Linear(a, b), torch.nn.Sigmoid())][:-1]
    model, x, y = torch.nn.Sequential(*layers), torch.randn(60, 4), torch.randint(0, 3, (60,))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    before, state = [p.detach().clone() for p in model.parameters()], torch.get_rng_state()
    obj = oc.torch.objective(model, torch.nn.functional.cross_entropy, x, y)
    d = oc.diagnose(obj, obj.theta0, opt)
    assert d.verdict == "vanishing_gradients"
    assert "weights drawn by xavier_uniform, biases 0" in d.remedy
    # The number beside ReLU is that of the module built by hand with the same weights.
    other = torch.nn.Sequential(*(torch.nn.ReLU() if isinstance(m, torch.nn.Sigmoid) else m for m in model))
    weights = [other[0].weight, other[-1].weight]
    grads = torch.autograd.grad(torch.nn.functional.cross_entropy(other(x), y), weights)
    relu = next(v for v in obj.variants(obj.theta0) if v.name.startswith("ReLU"))
    states = relu.objective.layers(relu.theta)
    assert states[0].weight_gradient == pytest.approx(float(grads[0].norm()), rel=1e-4)  # sums in float32
    assert states[-1].weight_gradient == pytest.approx(float(grads[1].norm()), rel=1e-4)
    # Xavier's bound is sqrt(6 / (fan_in + fan_out)), biases are 0, and the module keeps every bit.
    drawn = torch.from_numpy(obj.variants(obj.theta0)[0].theta)
    assert 0.3 < float(drawn[:32].abs().max()) <= (6 / 12) ** 0.5
    assert not drawn[32:40].any()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert [type(m) for m in model] == [type(m) for m in layers]


class Scaled(torch.optim.Optimizer):
    """A rule that no one knows."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})


def test_an_unknown_rule_is_said_to_be_unknown():
    model = torch.nn.Linear(3, 1).double()
    obj = oc.torch.objective(model, torch.nn.functional.mse_loss, np.eye(3), np.ones((3, 1)))
    d = oc.diagnose(obj, obj.theta0, Scaled(model.parameters()))
    assert any("Scaled, a rule not known here" in item for item in d.missing)
    theta = np.ones(2)
    wrapped = oc.optim.Lookahead(oc.optim.SGD(theta, lr=0.1))
    assert any("Lookahead" in item for item in oc.diagnose(bowl([1, 2]), theta, wrapped).missing)
    with pytest.raises(ValueError, match="over the 3 parameters of theta"):
        oc.diagnose(bowl([1, 2, 3]), np.ones(3), oc.optim.SGD(np.ones(2)))
    with pytest.raises(ValueError, match="of the objective"):
        oc.diagnose(obj, obj.theta0, torch.optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.1))


def test_weight_decay_is_part_of_what_is_descended():
    """1/2 l (t - 1)^2 + 1/2 w t^2 has its minimum at l / (l + w), curvature l + w."""
    values, decay = np.array([1.0, 3.0]), 0.5
    obj = oc.Objective(lambda t: float(0.5 * values @ (t - 1) ** 2), lambda t: values * (t - 1),
                       lambda t, v: values * v, theta0=np.zeros(2))
    for rule in (oc.optim.SGD, oc.optim.Adam):
        theta = values / (values + decay)
        d = oc.diagnose(obj, theta, rule(theta, lr=0.1, weight_decay=decay))
        assert d.verdict == "minimum"
        assert d.evidence["largest eigenvalue"].value == pytest.approx(3.5)
        assert "penalty of weight decay" in d.evidence["loss"].note
        assert d.verify(steps=50).verdict == "confirmed"
    assert oc.diagnose(obj, values / (values + decay), oc.optim.SGD(np.zeros(2), lr=0.1)).verdict == "progressing"


def test_layers_against_pytorch():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 5)), rng.integers(0, 3, 30)
    net = oc.nn.Sequential(oc.nn.Linear(5, 8), oc.nn.ReLU(), oc.nn.Linear(8, 7), oc.nn.BatchNorm(7), oc.nn.Tanh(),
                           oc.nn.Linear(7, 3), dtype="float64")
    net.parameters["0.bias"][:3] = -50
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 7), torch.nn.BatchNorm1d(7),
                                torch.nn.Tanh(), torch.nn.Linear(7, 3)).double()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(net.theta.copy()), model.parameters())
    ours = oc.nn.objective(net, "cross_entropy", x, y).layers(net.theta)
    theirs = oc.torch.objective(model, torch.nn.functional.cross_entropy, x, y).layers(net.theta)
    np.testing.assert_allclose([s[1:] for s in ours], [s[1:] for s in theirs], rtol=1e-10)
    # And against autograd on the tensors themselves.
    h = [torch.from_numpy(x)]
    for layer in model:
        h.append(layer(h[-1]))
    grads = torch.autograd.grad(torch.nn.functional.cross_entropy(h[-1], torch.from_numpy(y)),
                                [h[1], h[4], h[6], model[0].weight, model[2].weight, model[5].weight])
    np.testing.assert_allclose([s.signal_gradient for s in ours] + [s.weight_gradient for s in ours],
                               [float(g.norm()) for g in grads], rtol=1e-10)
    assert [s.dead for s in ours[:2]] == [float((h[2] == 0).all(0).double().mean()), 0]


def test_noise_against_its_closed_form():
    """With gradients l (t - x), batches of b without replacement from N: N = eta^2/2 sum l^3 var (1 - b/N) / b."""
    rng = np.random.default_rng(3)
    x, values, lr, b = rng.standard_normal((400, 5)), np.array([1.0, 2, 3, 4, 5]), 0.05, 4
    theta = np.full(5, 0.1)
    d = oc.diagnose(bowl(values, x), theta, oc.optim.SGD(theta, lr=lr), batch_size=b)
    exact = 0.5 * lr**2 * float(np.sum(values**3 * x.var(axis=0, ddof=1))) * (1 - b / 400) / b
    q = d.evidence["noise takes back"]
    assert q.value == pytest.approx(exact, rel=3 * (q.high - q.value) / q.value / 2)  # three standard errors
    g = values * (theta - x.mean(axis=0))
    assert d.evidence["first order of a step"].value == pytest.approx(lr * float(g @ g))
    assert d.evidence["curvature takes back"].value == pytest.approx(0.5 * lr**2 * float(g @ (values * g)))
    assert d.verdict == "noise_floor"
    assert d.verify(steps=100).verdict == "confirmed"


def test_the_remedy_of_a_large_rate_has_its_numbers():
    theta = np.array([1.0, 1.0])
    d = oc.diagnose(bowl([64.1, 1.0]), theta, oc.optim.SGD(theta, lr=0.5, momentum=0.9))
    assert d.verdict == "lr_too_large"
    for piece in ("lower lr from 0.5", "largest curvature 64.1", "3.8/lr", "stable up to 0.0593"):
        assert piece in d.remedy
    v = d.verify(steps=60)
    assert (v.verdict, v.unchanged.shape, v.remedy.shape) == ("confirmed", (1, 61), (1, 61))
    assert v.remedy[0, -1] < v.remedy[0, 0] == v.unchanged[0, 0]


def test_a_wrong_remedy_is_refuted():
    theta = np.array([1.0, 1.0])
    d = oc.diagnose(bowl([1.0, 0.5]), theta, oc.optim.SGD(theta, lr=0.5))
    object.__setattr__(d, "_change", type(d._change)("", factor=0.01))
    assert d.verify(steps=30).verdict == "refuted"
    with pytest.raises(ValueError, match="steps"):
        d.verify(steps=0)
    with pytest.raises(ValueError, match="optimizer"):
        oc.diagnose(bowl([1.0, 0.5]), theta).verify()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lr", [0.0, 1e-30])
@pytest.mark.parametrize("known", [True, False])
def test_a_schedule_that_has_ended(dtype, lr, known):
    """The rate is what stopped it; put back to a rate below 2 / lambda_max the bowl is left, by hand 0.55 -> 0."""
    values = np.array([1.0, 0.1])
    obj = oc.Objective(lambda t: float(0.5 * values @ t.astype(float) ** 2), lambda t: values * t,
                       lambda t, v: values * v, theta0=2 * np.ones(2, dtype))
    theta = np.ones(2, dtype)
    opt = oc.optim.SGD(theta, lr=lr)
    history = {"loss": [2.2, 0.55], "lr": [0.5, lr]} if known else [2.2, 0.55]
    d = oc.diagnose(obj, theta, opt, history=history)
    assert d.verdict == "lr_too_small"
    assert "the rate is what stopped it: train on with lr" in d.remedy
    assert ("a schedule has lowered it from 0.5" in d.causes[0].reason) == known
    gain = d.evidence["gain at a rate put back"].value
    assert gain > 0.4
    assert f"{gain / (2.2 - 0.55):.1g} of what was gained since the start" in d.causes[0].reason
    assert d.verify(steps=30).verdict == "confirmed"
    assert opt.param_groups[0]["lr"] == lr


def test_a_rate_of_zero_at_a_minimum_is_a_minimum():
    theta = np.zeros(2)
    d = oc.diagnose(bowl([1.0, 0.5]), theta, oc.optim.SGD(theta, lr=0.0))
    assert d.verdict == "minimum"
    # 100 max L(z) / (1 + 0) over |z_i| <= 1e-3: 100 * 0.5 * (1 + 0.5) * 1e-6
    assert d.evidence["Keskar sharpness"].value == pytest.approx(7.5e-5, rel=1e-6)


def test_what_successive_steps_meet_in_a_valley():
    """Gradient descent on a quadratic at lr 1.9 / l: each step is -0.9 times the one before, the secant is l."""
    from optcore.diagnosis import runs
    from optcore.diagnosis.rule import read

    obj, theta = bowl([4.0]), np.ones(1)
    run = runs.full(obj, theta, read(oc.optim.SGD(theta.copy(), lr=1.9 / 4), 1), 6)
    x = (-0.9) ** np.arange(7)
    assert run.secant.curvature == pytest.approx(4, rel=1e-12)
    assert run.secant.cosine == pytest.approx(-1)
    assert run.secant.middle == pytest.approx(2 * (0.5 * (x[5]**2 + x[6]**2) - (0.5 * (x[5] + x[6])) ** 2), rel=1e-9)


def deep(activation, scale=1.0):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 6)), rng.integers(0, 3, 80)
    layers = [oc.nn.Linear(6, 8), activation()]
    for _ in range(5):
        layers += [oc.nn.Linear(8, 8), activation()]
    net = oc.nn.Sequential(*layers, oc.nn.Linear(8, 3), dtype="float64")
    net.theta = scale * net.theta
    return net, oc.nn.objective(net, "cross_entropy", X, y)


def test_remedies_of_layers_are_tried_on_copies():
    net, obj = deep(oc.nn.Sigmoid)
    before, opt = net.theta.copy(), oc.optim.SGD(net.theta, lr=0.1)
    d = oc.diagnose(obj, net.theta, opt)
    assert d.verdict == "vanishing_gradients"
    assert "tried on copies: " in d.remedy
    assert "batch norm before each activation" in d.remedy
    assert d.verify(steps=100).verdict == "confirmed"
    assert net.theta.tobytes() == before.tobytes()
    # The number beside batch norm is that of a network with batch norm, built by hand.
    layers = [x for layer in net.layers for x in ([oc.nn.BatchNorm(8), layer] if isinstance(layer, oc.nn.Sigmoid)
                                                  else [layer])]
    other = oc.nn.Sequential(*layers, dtype="float64")
    ours = iter(net.parameters.values())
    for i, layer in enumerate(layers):
        for name in ("weight", "bias") if isinstance(layer, oc.nn.Linear) else ():
            other.parameters[f"{i}.{name}"][...] = next(ours)
    states = oc.nn.objective(other, "cross_entropy", obj._x, obj._y).layers(other.theta)
    ratio = states[0].weight_gradient / states[-1].weight_gradient
    assert f"batch norm before each activation {ratio:.3g}" in d.remedy


def test_dead_units_are_drawn_anew():
    net, obj = deep(oc.nn.ReLU, 2.0)
    net.parameters["4.bias"][...] = -100
    d = oc.diagnose(obj, net.theta, oc.optim.SGD(net.theta, lr=0.05))
    assert d.verdict == "dead_units"
    # of the objective's theta: the bias is in it
    assert "weights of layer 4 drawn by kaiming_uniform, its bias 0" in d.remedy
    assert d.verify(steps=50).verdict == "confirmed"


def saturated(seed, epochs):
    """A tanh network on digits after some epochs of SGD at rate 2 with momentum 0.9: the loss is far above ln 10."""
    source = oc.data.load("digits")
    x, y = (source.X[:] / 16).astype("float32"), source.y[:]
    net = oc.nn.Sequential(oc.nn.Linear(64, 32), oc.nn.Tanh(), oc.nn.Linear(32, 32), oc.nn.Tanh(),
                           oc.nn.Linear(32, 10), dtype="float32", seed=seed)
    opt = oc.optim.SGD(net.theta, lr=2.0, momentum=0.9)
    history = oc.train.fit(net, x, y, optimizer=opt, epochs=epochs, batch_size=64, progress=False)
    return net, oc.nn.objective(net, "cross_entropy", x, y), opt, history


@pytest.mark.parametrize("seed", [0, 1])
def test_units_that_a_large_rate_saturates_are_not_what_binds(seed):
    """Checked without a diagnosis: a tenth of the rate, from the same theta, takes away most of the loss."""
    net, obj, opt, history = saturated(seed, 5)
    theta = net.theta.copy()
    mover = oc.optim.SGD(theta, lr=0.2, momentum=0.9)
    for _ in range(100):
        mover.step(obj.loss_and_grad(theta)[1])
    assert obj.loss(theta) < 0.5 * obj.loss(net.theta)
    d = oc.diagnose(obj, net.theta, opt, 64, history)
    assert d.verdict == "lr_too_large"
    assert d.verify(steps=100).verdict == "confirmed"


def test_a_new_start_takes_a_rate_that_does_not_undo_it():
    """New weights alone, without batch norm, at rate 2 with momentum 0.9: checked by steps without a diagnosis."""
    source = oc.data.load("digits")
    x, y = (source.X[:] / 16).astype("float32"), source.y[:]
    net = oc.nn.Sequential(oc.nn.Linear(64, 32), oc.nn.ReLU(), oc.nn.Linear(32, 10), dtype="float32")
    obj, ends = oc.nn.objective(net, "cross_entropy", x, y, mode="eval"), []
    for lr in (2.0, 0.2):
        theta = net.theta.copy()
        mover = oc.optim.SGD(theta, lr=lr, momentum=0.9)
        for _ in range(50):
            mover.step(obj.loss_and_grad(theta)[1])
        ends.append(obj.loss(theta))
    assert ends[1] < 0.5 * ends[0]
    net.parameters["0.bias"][...] = -100
    d = oc.diagnose(oc.nn.objective(net, "cross_entropy", x, y, mode="eval"), net.theta,
                    oc.optim.SGD(net.theta, lr=2.0, momentum=0.9))
    assert d.verdict == "dead_units"
    assert "at 0.1 of the rate, which gains more from that start" in d.remedy
    assert d.verify(steps=100).verdict == "confirmed"


@pytest.mark.parametrize(("steps", "verdict"), [(80, "open"), (100, "refuted")])
def test_a_remedy_that_ends_higher_is_not_confirmed(steps, verdict):
    """x^2/2 from 1e-6 at rate 2.2: 0.5e-12 * 1.44^k, 2.3 after 80 steps, 0.19 in the mean of 40 to 80; beside 0.49."""
    theta = np.array([1.0])
    obj = oc.Objective(lambda t: float(0.5 * t @ t), lambda t: t, lambda t, v: v, theta0=np.array([1e-6]))
    d = oc.diagnose(obj, theta, oc.optim.SGD(theta, lr=1e-4))
    object.__setattr__(d, "_change", type(d._change)("", restart=True, lr=2.2))
    v = d.verify(steps=steps)
    assert v.remedy[0, -1] == pytest.approx(0.5e-12 * 1.44**steps, rel=1e-6)
    assert v.verdict == verdict


def test_a_diagnosis_is_fit_for_json():
    theta = np.array([1.0, 1.0])
    d = oc.diagnose(bowl([1.0, 0.5]), theta, oc.optim.SGD(theta, lr=50.0))
    assert json.loads(json.dumps(d.to_dict(), allow_nan=False))["verdict"] == d.verdict
    assert json.dumps(d.verify(steps=2000).to_dict(), allow_nan=False)


def test_large_data_are_sampled():
    obj = oc.Objective(lambda t, batch=None: float(t @ t), lambda t, batch=None: 2 * t,
                       lambda t, v, batch=None: 2 * v, theta0=np.ones(3000), n_examples=200_000)
    d = oc.diagnose(obj, np.ones(3000))
    assert "over a sample of 100000 of 200000 examples" in d.evidence["loss"].note


# ------------------------------------------------------------------------------------------------------- callback

def watched(lr=0.5, epochs=60, **options):
    x, y, net = small_network()
    why = oc.train.Diagnose(**options)
    history = oc.train.fit(net, x, y, optimizer=oc.optim.SGD(net.theta, lr=lr), epochs=epochs, batch_size=10,
                           callbacks=[why], progress=False)
    return net.theta.copy(), why, history


def test_the_callback_changes_no_bit_and_says_why():
    theta, why, _ = watched(lr=1e-6)
    other = watched(lr=1e-6, patience=10**6)[0]
    assert np.array_equal(theta, other)
    assert why.diagnoses[0][1].verdict == "lr_too_small"
    assert len(why.diagnoses) <= 3
    assert [r["verdict"] for r in why.reports] == [d.verdict for _, d in why.diagnoses]


def test_the_callback_keeps_still_while_the_loss_falls():
    assert watched(lr=0.02, epochs=20)[1].diagnoses == []


def test_the_callback_shows_one_line_and_may_end_the_training(capsys):
    x, y, net = small_network()
    why = oc.train.Diagnose(stop=["lr_too_small"], every=10)
    history = oc.train.fit(net, x, y, optimizer=oc.optim.SGD(net.theta, lr=1e-6), epochs=100, batch_size=10,
                           callbacks=[why])
    assert len(history.epochs["loss"]) < 100
    assert capsys.readouterr().err.count("lr_too_small (") == 1


def test_the_callback_goes_on_from_a_checkpoint(tmp_path):
    def run(epochs, **places):
        x, y, net = small_network()
        why = oc.train.Diagnose()
        oc.train.fit(net, x, y, optimizer=oc.optim.SGD(net.theta, lr=1e-6), epochs=epochs, batch_size=10,
                     callbacks=[why], progress=False, **places)
        return why.reports

    whole = run(60)
    run(25, checkpoint=tmp_path / "run")
    assert run(60, resume=tmp_path / "run") == whole


def test_the_callback_asks_when_the_run_ends_in_infinity():
    x, y, net = small_network()
    why = oc.train.Diagnose()
    with pytest.raises(FloatingPointError), np.errstate(all="ignore"):
        oc.train.fit(net, x, y, optimizer=oc.optim.SGD(net.theta, lr=1e38), epochs=60, batch_size=10, callbacks=[why],
                     progress=False)
    assert len(why.diagnoses) == 1


@pytest.mark.parametrize(("options", "error"), [
    ({"every": 0}, ValueError), ({"patience": 1.5}, TypeError), ({"min_share": 2}, ValueError),
    ({"min_share": "x"}, TypeError), ({"stop": "minimum"}, TypeError), ({"most": True}, TypeError)])
def test_errors_of_the_callback(options, error):
    with pytest.raises(error, match=next(iter(options))):
        oc.train.Diagnose(**options)


def test_the_picture_of_a_proof(tmp_path):
    theta = np.array([1.0, 1.0])
    d = oc.diagnose(bowl([64.1, 1.0]), theta, oc.optim.SGD(theta, lr=0.5, momentum=0.9))
    oc.plot.verification(d.verify(steps=60), tmp_path / "proof.png", title="a rate that is too large")
    assert (tmp_path / "proof.png").stat().st_size > 5000
