"""What oc.diagnose is given: bad input has a message that names it, and odd input an honest answer."""

import re
import sys
import warnings

import numpy as np
import pytest
import torch

import optcore as oc
from optcore.diagnosis import Thresholds


def bowl(**options):
    """The sum of squares, of three parameters."""
    return oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, lambda t, v: 2 * v,
                        **{"theta0": np.array([3.0, 2.0, 1.0]), **options})


def sgd(theta=(1.0, 1.0, 1.0), lr=0.1, **options):
    return oc.optim.SGD(np.array(theta), lr=lr, **options)


def at_rate(lr):
    """An optimizer whose rate was set by hand, past the checks of its constructor."""
    opt = sgd()
    opt.param_groups[0]["lr"] = lr
    return opt


ARGUMENTS = [
    ({"theta": np.float64(1)}, ValueError, "theta: expected shape (3,), got ()"),
    ({"theta": np.ones(4)}, ValueError, "theta: expected shape (3,), got (4,)"),
    ({"theta": np.ones((3, 1))}, ValueError, "theta: expected shape (3,), got (3, 1)"),
    ({"theta": np.ones(3, complex)}, TypeError, "theta: expected float64, got complex128"),
    ({"theta": None}, TypeError, "theta: expected float64, got object"),
    ({"obj": bowl(theta0=np.ones(3, np.float32))}, TypeError, "theta: expected float32, got float64"),
    ({"optimizer": oc.optim.SGD}, TypeError, "optimizer: expected an optcore.optim rule"),
    ({"optimizer": sgd(np.ones(5))}, ValueError, "optimizer: expected a rule over the 3 parameters"),
    ({"optimizer": at_rate(np.nan)}, ValueError, "lr of the optimizer: expected a number in [0, inf), got nan"),
    ({"optimizer": at_rate(-0.1)}, ValueError, "lr of the optimizer: expected a number in [0, inf), got -0.1"),
    ({"batch_size": True}, TypeError, "batch_size: expected an integer, got True"),
    ({"history": ["a"]}, TypeError, "history: expected one number for each entry of loss, got ['a']"),
    ({"history": np.ones((2, 2))}, TypeError, "history: expected one number for each entry of loss"),
    ({"history": np.array(3.0)}, TypeError, "history: expected one number for each entry of loss, got array(3.)"),
    ({"history": b"ab"}, TypeError, "history: expected a History"),
    ({"history": {"losses": [1.0]}}, ValueError, "history: expected a mapping with 'loss', got one with 'losses'"),
    ({"history": {"loss": [1.0], "lr": 0.1}}, TypeError, "its lr is float"),
    ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
    ({"sed": 1}, TypeError, "sed: diagnose has no such option; expected one of tau,"),
    ({"batch": [0]}, TypeError, "batch: diagnose has no such option")]


@pytest.mark.parametrize(("arguments", "error", "message"), ARGUMENTS)
def test_a_message_names_the_argument(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        oc.diagnose(**{"obj": bowl(), "theta": np.ones(3), "optimizer": sgd(), **arguments})


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"dead": np.nan}, ValueError, "dead: expected a number in (0, inf), got nan"),
    ({"edge": -1}, ValueError, "edge: expected a number in (0, inf), got -1"),
    ({"noise": "x"}, TypeError, "noise: expected a number, got 'x'"),
    ({"depth": 1}, ValueError, "depth: expected at least 2, got 1")])
def test_thresholds_are_positive_numbers(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Thresholds(**options)


@pytest.mark.parametrize(("options", "error", "name"), [
    ({"steps": 1.5}, TypeError, "steps"), ({"steps": 0}, ValueError, "steps"), ({"steps": True}, TypeError, "steps"),
    ({"seed": -1}, ValueError, "seed"), ({"seed": "x"}, TypeError, "seed")])
def test_a_proof_of_nothing(options, error, name):
    with pytest.raises(error, match=f"{name}: expected"):
        oc.diagnose(bowl(), np.ones(3), sgd()).verify(**options)


def test_theta_of_every_form_gives_the_same_answer():
    theta = np.array([1.0, -2.0, 0.5])
    read_only = theta.copy()
    read_only.flags.writeable = False
    forms = [theta, theta.tolist(), read_only, np.repeat(theta, 2)[::2], theta[::-1].copy()[::-1], theta.astype(">f8"),
             theta.astype("f4"), torch.from_numpy(theta)]
    found = [oc.diagnose(bowl(), form, sgd(theta), 4).to_dict() for form in forms]
    assert all(d == found[0] for d in found)


def network():
    rng = np.random.default_rng(0)
    net = oc.nn.Sequential(oc.nn.Linear(4, 6), oc.nn.Tanh(), oc.nn.Linear(6, 3), dtype="float64")
    return net, oc.nn.objective(net, "cross_entropy", rng.standard_normal((60, 4)), rng.integers(0, 3, 60))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_theta_that_is_not_finite(value, place):
    """tanh hides an infinite weight from the loss; a warning would be an error here."""
    net, obj = network()
    theta = net.theta.copy()
    theta[place] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d = oc.diagnose(obj, theta, oc.optim.SGD(net.theta.copy(), lr=0.1), 10)
    assert d.verdict == "diverged"
    assert "not finite" in d.causes[0].reason
    assert not any("knows no layers" in item for item in d.missing)


@pytest.mark.parametrize("rule", [oc.optim.Adam, oc.optim.Lion, lambda t: oc.optim.SGD(t, lr=0.1, momentum=0.9)])
def test_a_state_that_is_not_finite(rule):
    """One gradient that was NaN stays in the averages, whatever theta was put back to."""
    net, obj = network()
    theta = net.theta.copy()
    opt = rule(theta)
    opt.step(np.full(theta.size, np.nan))
    theta[...] = net.theta
    d = oc.diagnose(obj, theta, opt, 10)
    assert d.verdict == "diverged"
    assert "state of the optimizer is not finite" in d.causes[0].reason
    assert d.verify(steps=10).verdict == "confirmed"


def test_runs_that_leave_all_bounds_warn_nobody():
    net, obj = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d = oc.diagnose(obj, net.theta, oc.optim.SGD(net.theta.copy(), lr=1e300, momentum=0.9), 10)
    assert d.verdict == "lr_too_large"


def test_an_even_slope_is_no_plateau():
    """A linear loss falls for ever: ten times the rate gains ten times as much, exactly."""
    obj = oc.Objective(lambda t: float(t.sum()), lambda t: np.ones(3), lambda t, v: 0 * v, theta0=np.ones(3))
    d = oc.diagnose(obj, np.ones(3), sgd())
    assert d.verdict == "lr_too_small"
    assert d.evidence["gain at ten times"].value == pytest.approx(10 * d.evidence["gain at the rate"].value)
    assert "there is no curvature" in d.remedy
    assert d.verify(steps=20).verdict == "confirmed"


def test_what_does_not_fit_is_said():
    theta = np.ones(3)
    fits = oc.diagnose(bowl(), theta, sgd(), 1, [14.0, 5.0]).missing
    assert not any(word in str(fits) for word in ("history", "one example", "other values"))
    assert "one example (n_examples)" in str(oc.diagnose(bowl(), theta, sgd(), 10).missing)
    assert "other values" in str(oc.diagnose(bowl(), theta, sgd(2 * theta)).missing)
    assert "its losses go from 0.002 to 0.001, here it is 3" in str(oc.diagnose(
        bowl(), theta, sgd(), history=[0.002, 0.001]).missing)


def test_callables_say_the_same_for_the_same_seed():
    x = np.random.default_rng(3).standard_normal((40, 3))

    def grad(t, batch=None):
        return 2 * (t - (x if batch is None else x[batch]).mean(axis=0))

    def loss(t, batch=None):
        return float(np.mean(np.sum(((x if batch is None else x[batch]) - t) ** 2, axis=1)))

    def answer(seed):
        obj = oc.Objective(loss, grad, theta0=np.ones(3), n_examples=40)
        d = oc.diagnose(obj, 0.5 * np.ones(3), sgd(0.5 * np.ones(3), momentum=0.5), 4, seed=seed)
        return d.to_dict(), d.verify(steps=20).to_dict()

    assert answer(0) == answer(0)
    assert answer(0)[0] != answer(1)[0]


def dropped():
    """A PyTorch module with dropout, in training mode, and its optimizer after a few steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Dropout(0.3),
                                torch.nn.Linear(8, 3))
    opt, x, y = torch.optim.Adam(model.parameters(), lr=0.01), torch.randn(50, 4), torch.randint(0, 3, (50,))
    for _ in range(3):
        opt.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    return model, opt, oc.torch.objective(model, torch.nn.functional.cross_entropy, x, y)


def test_a_module_with_dropout_says_the_same_for_the_same_seed_and_keeps_every_bit(monkeypatch):
    monkeypatch.setattr(sys.modules["optcore.diagnosis.measure"], "_REPEATS", 2)  # runs on mini-batches: for speed
    answers = []
    for _ in range(2):
        model, opt, obj = dropped()

        def bits(model=model, opt=opt):
            tensors = [*model.state_dict().values(), torch.get_rng_state(), *(p.grad for p in model.parameters()),
                       *(v for s in opt.state_dict()["state"].values() for v in s.values())]
            return [t.numpy().tobytes() for t in tensors]

        before = bits()
        d = oc.diagnose(obj, obj.theta0, opt, 10)
        answers.append((d.to_dict(), d.verify(steps=10).to_dict()))
        assert bits() == before
        torch.rand(3)  # the answer does not hang on where PyTorch's generator is
    assert answers[0] == answers[1]
    # One mask: the product is the derivative of the gradient (central difference in float64).
    wide = oc.torch.objective(model.double(), torch.nn.functional.cross_entropy, obj._x.double(), obj._y)
    v = np.random.default_rng(0).standard_normal(wide.size)
    sides = [wide.loss_and_grad(wide.theta0 + s * 1e-5 * v)[1] for s in (1, -1)]
    np.testing.assert_allclose(wide.hvp(wide.theta0, v), (sides[0] - sides[1]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_an_optcore_rule_over_the_vector_of_a_module():
    *_, obj = dropped()
    theta = obj.theta0.copy()
    d = oc.diagnose(obj, theta, oc.optim.Adam(theta, lr=0.01))
    assert d.evidence["learning rate"].value == 0.01
    assert d.missing == ()
    with pytest.raises(ValueError, match=f"over the {obj.size} parameters of theta, got one over 7"):
        oc.diagnose(obj, theta, oc.optim.Adam(np.ones(7, np.float32)))


def test_layers_that_share_their_weights():
    """The gradient of a weight that two layers have is one; autograd is the reference."""
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (torch.nn.Linear(4, k) for k in (4, 4, 3))
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))

    torch.manual_seed(0)
    model, x, y = Tied().double(), torch.randn(30, 4).double(), torch.randint(0, 3, (30,))
    obj = oc.torch.objective(model, torch.nn.functional.cross_entropy, x, y)
    grads = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y), [model.a.weight, model.c.weight])
    found = [state.weight_gradient for state in obj.layers(obj.theta0)]
    np.testing.assert_allclose(found, [float(grads[i].norm()) for i in (0, 0, 1)], rtol=1e-12)
    assert oc.diagnose(obj, obj.theta0, torch.optim.SGD(model.parameters(), lr=0.1)).verdict == "progressing"


def test_the_activation_of_the_output_is_kept():
    """BCE takes probabilities: ReLU behind the last layer would leave their range."""
    torch.manual_seed(0)
    act = torch.nn.Sigmoid()  # one object at two places
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), act, torch.nn.Linear(8, 8), act, torch.nn.Linear(8, 1),
                                torch.nn.Sigmoid())
    obj = oc.torch.objective(model, torch.nn.functional.binary_cross_entropy, 9 * torch.randn(20, 4), torch.ones(20, 1))
    relu = next(v for v in obj.variants(obj.theta0) if v.name.startswith("ReLU"))
    kinds = [type(m).__name__ for m in relu.objective._module]
    assert kinds == ["Linear", "ReLU", "Linear", "ReLU", "Linear", "Sigmoid"]
    assert np.isfinite(relu.objective.loss(50 * relu.theta))
    plain = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())
    names = [v.name for v in oc.torch.objective(plain, torch.nn.functional.mse_loss, torch.randn(20, 4), torch.ones(
        20, 1)).variants(torch.nn.utils.parameters_to_vector(plain.parameters()).detach().numpy())]
    assert not any("xavier" in name or "ReLU" in name for name in names)
    # The same for oc.nn.
    net = oc.nn.Sequential(oc.nn.Linear(4, 8), oc.nn.Sigmoid(), oc.nn.Linear(8, 1), oc.nn.Sigmoid(), dtype="float64")
    ours = oc.nn.objective(net, "mse", np.ones((20, 4)), np.ones((20, 1)))
    relu = next(v for v in ours.variants(net.theta) if v.name.startswith("ReLU"))
    assert [type(m).__name__ for m in relu.objective._layers] == ["Linear", "ReLU", "Linear", "Sigmoid"]


@pytest.mark.parametrize(("name", "value", "error"), [
    ("X", [[1.0] * 4], TypeError), ("y", [1], TypeError), ("loss_fn", lambda z, y: z.sum(1), ValueError),
    ("loss_fn", lambda z, y: 1.0, ValueError)])
def test_errors_of_a_module(name, value, error):
    given = {"module": torch.nn.Linear(4, 3), "loss_fn": torch.nn.functional.cross_entropy, "X": torch.ones(2, 4),
             "y": torch.tensor([0, 1])}
    with pytest.raises(error, match=f"{name}: expected"):
        oc.torch.objective(**{**given, name: value}).loss_and_grad(np.zeros(15, np.float32))
