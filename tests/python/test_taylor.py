"""The second-order model against functions whose derivatives are known."""

import numpy as np
import pytest

import optcore as oc
from optcore import nn


def cubic():
    return oc.Objective(lambda t: float(np.sum(t**2 + t**3)), lambda t: 2 * t + 3 * t**2,
                        lambda t, v: (2 + 6 * t) * v, theta0=np.zeros(3))


def quadratic(h, g):
    return oc.Objective(lambda t: float(0.5 * t @ h @ t + g @ t), lambda t: h @ t + g, lambda t, v: h @ v,
                        theta0=np.zeros(len(g)))


def test_prediction_and_error_of_a_cubic():
    model, theta = oc.curvature.taylor(cubic(), [1.0, 0, -0.5]), np.array([1.0, 0, -0.5])
    deltas = np.random.default_rng(0).uniform(-1, 1, (5, 3))
    values = np.sum(theta**2 + theta**3 + (2 * theta + 3 * theta**2) * deltas + (1 + 3 * theta) * deltas**2, axis=1)
    np.testing.assert_allclose(model.predict(deltas), values, rtol=1e-13)
    np.testing.assert_allclose(model.error(deltas), np.sum(deltas**3, axis=1), atol=1e-13)
    assert model.predict(deltas[0]) == model.predict(deltas)[0]
    assert isinstance(model.error(deltas[0]), float)


def test_the_error_of_a_network_is_of_third_order():
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3), dtype="float64", seed=2)
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((40, 5)), rng.integers(0, 3, 40)
    for batch in (None, np.arange(7)):
        model = oc.curvature.taylor(nn.objective(net, "cross_entropy", x, y), net.theta, batch)
        direction = rng.standard_normal(net.theta.size)
        errors = model.error(np.array([[1e-2], [2e-2]]) * direction / np.linalg.norm(direction))
        assert errors[1] / errors[0] == pytest.approx(8, rel=0.15)  # the fourth order is 1e-2 of the third


def test_steps_of_a_bowl():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((30, 30))
    h, g = a @ a.T + np.eye(30), rng.standard_normal(30)
    obj = quadratic(h, g)
    model, best = oc.curvature.taylor(obj, np.zeros(30)), np.linalg.solve(h, -g)
    newton = model.newton(tol=1e-12)
    np.testing.assert_allclose(newton.delta, best, atol=1e-8)
    assert newton.converged
    assert newton.residual < 1e-9
    assert newton.predicted == pytest.approx(-0.5 * g @ best, rel=1e-9)
    assert newton.realised == pytest.approx(newton.predicted, rel=1e-9)
    cauchy = model.cauchy()
    np.testing.assert_allclose(cauchy.delta, -(g @ g) / (g @ h @ g) * g, rtol=1e-12)
    assert cauchy.predicted == pytest.approx(0.5 * (g @ g) ** 2 / (g @ h @ g))
    assert cauchy.realised == pytest.approx(cauchy.predicted)
    short = model.cauchy(radius=1e-3)
    assert short.length == pytest.approx(1e-3)
    assert "radius" in short.message
    few = model.newton(tol=1e-12, max_products=3)
    assert not few.converged
    assert few.predicted > 0


def test_steps_where_the_curvature_is_negative():
    model = oc.curvature.taylor(quadratic(np.diag([1.0, -2.0]), np.array([1.0, 2.0])), np.zeros(2))
    newton = model.newton()
    np.testing.assert_allclose(newton.delta, [-1, 1], atol=1e-5)  # the saddle
    assert "negative curvature" in newton.message
    assert newton.predicted == pytest.approx(-0.5, abs=1e-5)
    with pytest.raises(ValueError, match="radius: expected a length"):
        model.cauchy()
    assert model.cauchy(radius=2).length == pytest.approx(2)
    assert model.cauchy(radius=2).realised > 0


def test_singular_zero_and_one():
    model = oc.curvature.taylor(quadratic(np.diag([3.0, 0.0]), np.array([3.0, 0.0])), np.zeros(2))
    np.testing.assert_allclose(model.newton().delta, [-1, 0], atol=1e-9)
    model = oc.curvature.taylor(quadratic(np.eye(2), np.zeros(2)), np.zeros(2))
    for step in (model.newton(), model.cauchy()):
        assert not step.delta.any()
        assert (step.predicted, step.realised, step.residual) == (0, 0, 0)
    model = oc.curvature.taylor(quadratic(np.array([[4.0]]), np.array([2.0])), np.zeros(1))
    assert model.newton().delta == pytest.approx(-0.5)


@pytest.mark.parametrize("values", [
    [1, 0], np.repeat([1, -2, 0], [500, 300, 200]), np.r_[np.linspace(1, 2, 50), np.zeros(9)], [0, 0]],
    ids=["plane", "three values", "many values", "zero"])
def test_a_model_without_a_stationary_point_says_so(values):
    """H is singular and g no image of it. MINRES alone would leave along the null space, by 1e14 and more."""
    values = np.array(values, float)
    g = np.random.default_rng(3).standard_normal(values.size)
    step = oc.curvature.taylor(quadratic(np.diag(values), g), np.zeros(values.size)).newton()
    least = np.linalg.norm(g[values == 0]) / np.linalg.norm(g)
    assert step.residual == pytest.approx(least, rel=1e-6)  # the square of what the tolerance leaves
    np.testing.assert_allclose((values * step.delta)[values != 0], -g[values != 0], atol=1e-4)
    assert step.length < 10 * np.linalg.norm(g)
    assert f"no stationary point within the tolerance: |H delta + g| is least here, {least:.2g} |g|" in step.message
    assert oc.curvature.taylor(quadratic(np.eye(2), np.ones(2)), np.zeros(2)).newton().message.startswith("stationary")


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_gradients_whose_squares_no_float_holds(scale):
    model = oc.curvature.taylor(quadratic(np.diag([1.0, 2.0]), scale * np.ones(2)), np.zeros(2))
    with np.errstate(over="ignore"):    # the decreases are of the order of the square
        np.testing.assert_allclose(model.newton().delta / scale, [-1, -0.5], rtol=1e-12)
        cauchy = model.cauchy()
    np.testing.assert_allclose(cauchy.delta / scale, np.full(2, -2 / 3), rtol=1e-14)
    assert cauchy.length / scale == pytest.approx(np.sqrt(8) / 3)


def test_float32():
    """theta + delta is rounded: the model is asked about the step that this makes."""
    obj = oc.Objective(lambda t: float(t.astype(float) @ t), lambda t: 2 * t, lambda t, v: 2 * v,
                       np.full(2, 1e3, "float32"))
    model = oc.curvature.taylor(obj, obj.theta0)
    assert abs(model.error(np.full(2, 1e-4))) < 1e-9  # 0.4 if it were asked about delta itself


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda m: m.predict(np.ones(4)), ValueError, "delta: expected shape"),
    (lambda m: m.error("a"), TypeError, "delta"), (lambda m: m.newton(tol=-1), ValueError, "tol"),
    (lambda m: m.newton(max_products=0), ValueError, "max_products"),
    (lambda m: m.cauchy(radius=0), ValueError, "radius")])
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call(oc.curvature.taylor(cubic(), np.zeros(3)))
    with pytest.raises(TypeError, match="obj: expected an Objective"):
        oc.curvature.taylor(3, np.zeros(3))
    with pytest.raises(TypeError, match="grad"):
        oc.curvature.taylor(oc.Objective(lambda t: 0.0, theta0=np.ones(2)), np.ones(2))
