"""Sharpness against quadratics, whose maxima are known, and along runs whose curvature is."""

import numpy as np
import pytest
import torch

import optcore as oc
from optcore import nn


def bowl(values, loss=0.0, dtype="float64"):
    values = np.asarray(values, dtype)
    return oc.Objective(lambda t: float(0.5 * t @ (values * t)) + loss, lambda t: values * t, lambda t, v: values * v,
                        theta0=np.zeros(values.size, dtype))


def test_a_bowl_at_its_minimum():
    values = np.array([0.5, 1.0, 4.0])
    found = oc.curvature.flatness(bowl(values, loss=1.0), np.zeros(3), epsilon=0.1, rho=0.2)
    assert found.largest == pytest.approx(4)
    np.testing.assert_allclose(np.abs(found.direction), [0, 0, 1], atol=1e-6)
    assert (found.trace.value, found.trace.standard_error) == (5.5, 0)
    # The corners of the box, (1/2) sum lambda eps^2, over 1 + L; and lambda_max rho^2 / 2.
    assert found.keskar == pytest.approx(100 * 0.5 * 5.5 * 0.01 / 2, rel=1e-9)
    assert found.sam == pytest.approx(0.5 * 4 * 0.04, rel=1e-3)
    assert found.loss == 1
    assert found.products == 3 + 1 + 3  # dense for the pair, its residual, the diagonal
    assert str(found).startswith("lambda_max 4, trace 5.5, Keskar")


def test_keskar_sharpness_scales_its_box_with_theta():
    obj, theta = bowl([2.0, 0.0]), np.array([3.0, 0.0])
    rise = (3 + 0.01 * 4) ** 2 - 9
    assert oc.curvature.keskar_sharpness(obj, theta, epsilon=0.01) == pytest.approx(100 * rise / 10)
    down = oc.curvature.keskar_sharpness(bowl([-2.0, -1.0]), np.zeros(2))
    assert down == 0  # a maximum: nothing in the box is higher


def test_one_step_of_sam_is_the_rule_s():
    obj, theta = bowl([1.0, 3.0]), np.array([1.0, 1.0])
    g = np.array([1.0, 3.0])
    exact = obj.loss(theta + 0.1 * g / np.sqrt(10)) - obj.loss(theta)
    assert oc.curvature.sam_sharpness(obj, theta, rho=0.1, steps=1) == pytest.approx(exact)
    assert oc.curvature.sam_sharpness(obj, theta, rho=0.1) >= exact
    best = max(obj.loss(theta + 0.1 * np.array([np.cos(a), np.sin(a)])) for a in np.linspace(0, 7, 5000))
    assert oc.curvature.sam_sharpness(obj, theta, rho=0.1) == pytest.approx(best - obj.loss(theta), rel=1e-6)


def test_what_is_not_finite_is_infinitely_sharp():
    obj = oc.Objective(lambda t: 0.0 if not t.any() else np.inf, lambda t: t, theta0=np.zeros(2))
    assert oc.curvature.keskar_sharpness(obj, np.zeros(2)) == np.inf
    assert oc.curvature.sam_sharpness(obj, np.zeros(2)) == np.inf


def test_keskar_sharpness_is_of_losses_from_zero_on():
    """It divides by 1 + L; a likelihood, say, may be below -1. The other measures stand."""
    found = oc.curvature.flatness(bowl([1.0, 2.0], loss=-1.0), np.zeros(2))
    assert np.isnan(found.keskar)
    assert (found.largest, found.trace.value) == pytest.approx((2, 3))


@pytest.mark.parametrize(("call", "match"), [
    (lambda o, t: oc.curvature.flatness(o, t, rho=0), "rho"),
    (lambda o, t: oc.curvature.flatness(o, t, products=0), "products"),
    (lambda o, t: oc.curvature.keskar_sharpness(o, t, epsilon=-1), "epsilon"),
    (lambda o, t: oc.curvature.keskar_sharpness(o, t, steps=0), "steps"),
    (lambda o, t: oc.curvature.keskar_sharpness(o, t, direction=np.ones(3)), "direction"),
    (lambda o, t: oc.curvature.sam_sharpness(o, t, rho=np.nan), "rho"),
    (lambda o, t: oc.curvature.follow(o, every=0), "every"), (lambda o, t: oc.curvature.follow(o, tol=0), "tol")])
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call(bowl([1.0, 2.0]), np.zeros(2))
    with pytest.raises(TypeError, match="obj"):
        oc.curvature.follow(3)


# --- preconditioners


@pytest.mark.parametrize(("name", "options"), [
    ("SGD", {}), ("Adam", {}), ("Adam", {"amsgrad": True}), ("AdamW", {"eps": 1e-3}), ("NAdam", {}), ("RMSprop", {}),
    ("RMSprop", {"centered": True}), ("Adagrad", {})])
def test_the_preconditioner_is_the_one_that_steps_are_divided_by(name, options):
    """From PyTorch's state by the paper's formula, and the same from this library's."""
    rng = np.random.default_rng(0)
    theta, grads = rng.standard_normal(6), rng.standard_normal((4, 6))
    tensor = torch.tensor(theta.copy())
    ours = getattr(oc.optim, name)(theta.copy(), lr=0.1, **options)
    theirs = getattr(torch.optim, name)([tensor], lr=0.1, **options)
    for g in grads:
        ours.step(g)
        tensor.grad = torch.tensor(g)
        theirs.step()
    b2 = 0.999
    v, top, s, mean = (np.zeros(6) for _ in range(4))
    for g in grads:
        v = b2 * v + (1 - b2) * g**2
        top = np.maximum(top, v)
        s, mean = 0.99 * s + 0.01 * g**2, 0.99 * mean + 0.01 * g
    eps = options.get("eps", 1e-10 if name == "Adagrad" else 1e-8)
    exact = {"SGD": np.ones(6), "RMSprop": np.sqrt(s - options.get("centered", 0) * mean**2) + eps,
             "Adagrad": np.sqrt((grads**2).sum(axis=0)) + eps}.get(
                 name, np.sqrt((top if options.get("amsgrad") else v) / (1 - b2**4)) + eps)
    np.testing.assert_allclose(oc.curvature.preconditioner(ours), exact, rtol=1e-12)
    np.testing.assert_allclose(oc.curvature.preconditioner(theirs), exact, rtol=1e-12)


def test_groups_in_any_order_give_the_order_of_theta():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1), dtype="float64", seed=0)
    names = list(net.parameters)
    grad = np.random.default_rng(0).standard_normal(net.theta.size)
    whole, parts = oc.optim.Adam(net.theta), oc.optim.Adam(
        [{"params": [net.parameters[n] for n in names[::-2]]}, {"params": [net.parameters[n] for n in names[-2::-2]]}])
    views = {}
    begin = 0
    for n in names:
        views[n] = grad[begin:begin + net.parameters[n].size].reshape(net.parameters[n].shape)
        begin += net.parameters[n].size
    whole.step(grad)
    parts.step([views[n] for n in [*names[::-2], *names[-2::-2]]])
    np.testing.assert_allclose(oc.curvature.preconditioner(parts), oc.curvature.preconditioner(whole), rtol=1e-12)


def test_errors_of_preconditioner():
    with pytest.raises(ValueError, match="at least one step"):
        oc.curvature.preconditioner(oc.optim.Adam(np.ones(2)))
    for other in (3, oc.optim.Lion(np.ones(2))):
        with pytest.raises(TypeError, match="optimizer: expected one of SGD"):
            oc.curvature.preconditioner(other)


# --- follow


def regression(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((60, 4))
    net = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 1), dtype="float64", seed=1)
    return net, X, np.sin(X[:, :1])


def test_follow_measures_along_a_run():
    net, X, y = regression()
    obj = nn.objective(net, "mse", X, y)
    sharpness, thetas = oc.curvature.follow(obj, every=10, tol=1e-6), []
    oc.train.fit(net, X, y, "mse", oc.optim.SGD(net.theta, lr=0.05), epochs=40, batch_size=None, progress=False,
                 callbacks=[sharpness, lambda run: thetas.append(run.net.theta.copy()) and None])
    assert sharpness.steps == [10, 20, 30, 40]
    exact = [np.linalg.eigvalsh(oc.curvature.Hessian(obj, thetas[s - 1]) @ np.eye(obj.size))[-1]
             for s in sharpness.steps]
    np.testing.assert_allclose(sharpness.values, exact, rtol=1e-6)
    assert sharpness.lr == [0.05] * 4
    assert max(sharpness.products) <= 21  # 10 for the vector, 10 to look for another, 1 for the residual


def test_follow_is_part_of_a_checkpoint(tmp_path):
    def run(epochs, **more):
        net, X, y = regression()
        sharpness = oc.curvature.follow(nn.objective(net, "mse", X, y), every=4)
        oc.train.fit(net, X, y, "mse", oc.optim.SGD(net.theta, lr=0.05), epochs=epochs, batch_size=30, progress=False,
                     callbacks=[sharpness], **more)
        return sharpness

    whole = run(6)
    run(3, checkpoint=tmp_path / "c")
    resumed = run(6, resume=tmp_path / "c")
    assert resumed.steps == whole.steps == [4, 8, 12]
    assert resumed.values == whole.values
    assert np.array_equal(resumed.vector, whole.vector)
    with pytest.raises(ValueError, match="state: expected a vector"):
        whole.load_state_dict({**whole.state_dict(), "vector": np.ones(3)})


@pytest.mark.parametrize("around", [lambda rule: rule, lambda rule: oc.optim.EMA(oc.optim.MultiSteps(rule, 1), 0.9)],
                         ids=["rule", "wrappers"])
def test_follow_what_an_adaptive_rule_sees(around):
    net, X, y = regression()
    obj, rule = nn.objective(net, "mse", X, y), oc.optim.Adam(net.theta, lr=1e-3)
    sharpness = oc.curvature.follow(obj, every=15, tol=1e-6, preconditioned=True)
    oc.train.fit(net, X, y, "mse", around(rule), epochs=15, batch_size=None, callbacks=[sharpness], progress=False)
    p = np.sqrt(rule.state_dict()["state"][0]["exp_avg_sq"] / (1 - 0.999**15)) + 1e-8
    dense = oc.curvature.Hessian(obj, net.theta) @ np.eye(obj.size)
    exact = np.linalg.eigvalsh(dense / np.sqrt(np.outer(p, p)))[-1]
    assert sharpness.values == pytest.approx([exact], rel=1e-5)


def test_follow_waits_for_the_first_step_of_a_rule_and_refuses_before_it():
    net, X, y = regression()
    obj, before = nn.objective(net, "mse", X, y), net.theta.copy()

    def run(rule, net=net):
        sharpness = oc.curvature.follow(obj, every=1, preconditioned=True)
        oc.train.fit(net, X, y, "mse", rule, epochs=3, batch_size=None, callbacks=[sharpness], progress=False)
        return sharpness.steps

    with pytest.raises(TypeError, match=r"^optimizer: expected one of SGD, .*, got Lion"):
        run(oc.optim.Lion(net.theta))
    other = nn.Sequential(nn.Linear(X.shape[1], 1), dtype="float64")
    with pytest.raises(ValueError, match=r"^theta: expected shape"):
        run(oc.optim.Adam(other.theta), other)
    assert np.array_equal(net.theta, before)
    assert run(oc.optim.MultiSteps(oc.optim.Adam(net.theta), 2)) == [2, 3]
