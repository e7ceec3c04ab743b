"""escape: losses along negative curvature, at points whose surroundings are known."""

import numpy as np
import pytest

import optcore as oc


def network(scale=1.0, height=1.0, shift=0.0):
    """height (1 - ab)^2 + shift with (a, b) = theta / scale."""
    return oc.Objective(lambda t: height * (1 - t[0] * t[1] / scale**2) ** 2 + shift,
                        lambda t: -2 * height * (1 - t[0] * t[1] / scale**2) * t[::-1] / scale**2,
                        theta0=np.ones(2) * scale)


@pytest.mark.parametrize(("scale", "height", "shift"), [
    (1, 1, 0), (1e-3, 1, 0), (1e4, 1e-6, 0), (1, 1, 100.0)])
def test_escape_from_the_saddle(scale, height, shift):
    obj = network(scale, height, shift)
    result = oc.curvature.escape(obj, np.zeros(2))
    assert result.steps == len(result.lengths) == 1
    assert result.loss == obj.loss(result.theta)
    assert result.decrease == obj.loss(np.zeros(2)) - result.loss
    assert result.decrease > 0.5 * height  # of a depth of 1
    assert "fell" in result.message


def test_escape_in_several_steps_from_two_saddles():
    # From (0, 0) the sharper direction y leads to (0, +-1), a saddle of x.
    obj = oc.Objective(lambda t: (t[0] ** 2 - 1) ** 2 + 3 * (t[1] ** 2 - 1) ** 2,
                       lambda t: np.array([4 * t[0] * (t[0] ** 2 - 1), 12 * t[1] * (t[1] ** 2 - 1)]),
                       theta0=np.zeros(2))
    one, two = (oc.curvature.escape(obj, np.zeros(2), max_steps=steps) for steps in (1, 2))
    assert one.steps == 1
    assert two.steps == 2
    assert two.loss < one.loss < obj.loss(np.zeros(2))


@pytest.mark.parametrize("theta", [[1, 1], [2, 0.5]])
def test_escape_says_that_there_is_no_negative_curvature(theta):
    result = oc.curvature.escape(network(), theta)
    assert (result.steps, result.decrease, result.lengths) == (0, 0.0, ())
    assert np.array_equal(result.theta, theta)
    assert result.message.startswith("no direction of negative curvature")


@pytest.mark.parametrize("side", [-1, 1])
def test_escape_takes_the_deeper_side(side):
    obj = oc.Objective(lambda t: float(np.sum(t**4 - side * t**3 - t**2)),
                       lambda t: 4 * t**3 - side * 3 * t**2 - 2 * t, theta0=np.zeros(1))
    assert side * oc.curvature.escape(obj, np.zeros(1)).theta[0] > 0.5


def test_escape_says_that_the_loss_is_not_lower():
    # The product claims a negative curvature that the loss does not have.
    obj = oc.Objective(lambda t: float(np.abs(t).sum()), lambda t: 0 * t, lambda t, v: -v, theta0=np.ones(2))
    point = oc.curvature.classify(network(), np.zeros(2))
    result = oc.curvature.escape(obj, np.zeros(2), point=point)
    assert result.steps == 0
    assert "lower at none" in result.message
    with pytest.raises(ValueError, match="max_steps"):
        oc.curvature.escape(obj, np.zeros(2), max_steps=0)


def test_escape_from_an_objective_that_is_not_finite():
    obj = oc.Objective(lambda t: np.nan, lambda t: t, theta0=np.ones(2))
    result = oc.curvature.escape(obj, np.ones(2))
    assert result.steps == 0
    assert "not finite" in result.message


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({"obj": 3}, TypeError, "obj: expected an Objective"), ({"point": 3}, TypeError, "point: expected a CriticalPoint"),
    ({"point": oc.curvature.classify(oc.Objective(lambda t: 0.0, lambda t: 0 * t, theta0=np.ones(3)), np.ones(3))},
     ValueError, "point: expected one of 2 parameters")])
def test_errors_of_escape(arguments, error, match):
    with pytest.raises(error, match=match):
        oc.curvature.escape(**{"obj": network(), "theta": np.zeros(2), **arguments})


# --- times


@pytest.mark.parametrize("distance", [1e-3, 1e-6])
def test_the_escape_time_is_that_of_gradient_descent(distance):
    lr, obj = 0.01, network()
    theta = np.full(2, distance * np.sqrt(0.5))  # along the eigenvector of -2
    result = oc.curvature.escape(obj, theta)
    assert result.curvature == pytest.approx(-2, rel=1e-4)
    assert result.offset == pytest.approx(distance, rel=1e-3)
    steps, t = 0, theta.copy()
    while np.linalg.norm(t) < 0.1:
        t -= lr * obj.loss_and_grad(t)[1]
        steps += 1
    # The quadratic is 1 % off at a distance of 0.1.
    assert oc.curvature.escape_time(-2, lr, 0.1, distance) == pytest.approx(steps, abs=1.5)
    assert result.time(lr) == pytest.approx(np.log(result.lengths[0] / result.offset) / np.log(1.02), rel=1e-3)


def test_escape_times_at_the_ends():
    assert oc.curvature.escape_time(-1, 0.1, 1e-3, 1) == 0
    at_rest = oc.curvature.escape(network(), np.zeros(2))
    assert at_rest.offset == pytest.approx(2.2e-16 * np.sqrt(2), rel=0.01)  # the rounding of |theta0|
    assert np.isnan(oc.curvature.escape(network(), np.ones(2)).time(0.1))
    for arguments in ((1, 0.1, 1, 1), (-1, 0, 1, 1), (-1, 1, -1, 1), (-1, 1, 1, np.inf)):
        with pytest.raises(ValueError, match="expected a"):
            oc.curvature.escape_time(*arguments)


# --- perturbed gradient descent


def plateau(n, negative):
    """A saddle in n dimensions that turns up far away: x'Dx/2 + |x|^4/4."""
    d = np.ones(n)
    d[0] = -negative
    return oc.Objective(lambda t: float(0.5 * t @ (d * t) + 0.25 * (t @ t) ** 2),
                        lambda t: d * t + (t @ t) * t, theta0=np.zeros(n))


@pytest.mark.parametrize("n", [2, 300])
def test_perturbed_descent_leaves_a_saddle_at_which_gradient_descent_rests(n):
    obj = plateau(n, 0.5)
    result = oc.curvature.perturbed_descent(obj, np.zeros(n), lr=0.2)
    assert result.loss == pytest.approx(-0.0625, rel=1e-3)  # x_1^2 = 1/2: the minimum
    assert abs(result.theta[0]) == pytest.approx(np.sqrt(0.5), rel=1e-2)
    assert result.decrease == -result.loss
    assert len(result.lengths) == 2  # from the saddle, and at the minimum, where it ends
    assert "did not fall" in result.message


def test_perturbed_descent_ends_at_a_minimum_where_it_was():
    obj = plateau(5, -1.0)
    result = oc.curvature.perturbed_descent(obj, np.zeros(5), lr=0.2)
    assert not result.theta.any()
    assert (result.loss, result.decrease, len(result.lengths)) == (0, 0, 1)


def test_perturbed_descent_never_returns_a_higher_loss():
    obj = plateau(5, 0.5)
    theta = np.full(5, 0.9)
    for lr in (0.3, 3.0, 1e6):
        result = oc.curvature.perturbed_descent(obj, theta, lr=lr, max_steps=50)
        assert result.loss <= obj.loss(theta)
        assert result.loss == obj.loss(result.theta)
    assert "not finite" in result.message
    first, again = (oc.curvature.perturbed_descent(obj, np.zeros(5), 0.2, seed=3) for _ in range(2))
    assert np.array_equal(first.theta, again.theta)


@pytest.mark.parametrize("options", [{"lr": 0}, {"curvature": -1}, {"radius": np.inf}, {"gradient_tol": 0},
                                     {"max_steps": 0}])
def test_errors_of_perturbed_descent(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        oc.curvature.perturbed_descent(network(), np.zeros(2), **{"lr": 0.1, **options})
