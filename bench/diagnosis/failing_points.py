"""Plateaus, and critical points of every kind."""

import failing_checks as check
import failing_problems as problem
import failing_states as make
import numpy as np
from failing_checks import advance, begin
from failing_family import family

import optcore as oc


@family("plateau")
def far_from_a_well(rng):
    obj = problem.bump(rng, int(rng.integers(2, 12)), 1.0, "float64")
    theta = obj.theta0 / np.linalg.norm(obj.theta0) * rng.uniform(8, 12)
    state = begin(obj, "sgd", theta=theta, lr=10 ** rng.uniform(-2, 0), **make.plain_options(rng))
    return make.clear(check.flat(state, 0.0), state)


@family("plateau")
def saturated_sigmoid_with_squared_error(rng):
    obj = make.digits_objective(rng, (), None, loss="mse", gain=1.0, last="sigmoid")
    theta = obj.theta0.copy()
    theta[-10:] = rng.uniform(11, 15)
    state = begin(obj, "sgd", theta=theta.astype(obj.dtype), lr=10 ** rng.uniform(-1.5, 0), **make.plain_options(rng))
    other = _end_of(make.sgd(rng, obj, 0.5, options={"momentum": 0.9}), 500)
    return make.clear(check.flat(state, other), state)


def _end_of(state, steps):
    return advance(state, steps, record=steps).losses[-1]


@family("plateau")
def far_from_a_rational_well(rng):
    obj = problem.bump(rng, int(rng.integers(2, 12)), 1.0, "float64", kind="rational")
    theta = obj.theta0 / np.linalg.norm(obj.theta0) * rng.uniform(60, 300)
    state = begin(obj, "sgd", theta=theta, lr=10 ** rng.uniform(-2, 0), **make.plain_options(rng))
    return make.clear(check.flat(state, 0.0), state)


@family("plateau")
def saturated_tanh_with_squared_error(rng):
    obj = make.digits_objective(rng, (8,), "tanh", loss="mse", gain=1.0, last="tanh")
    theta = obj.theta0.copy()
    theta[-10:] = rng.choice([-1, 1], 10) * rng.uniform(6, 9)
    rate = 10 ** rng.uniform(-1.5, -0.5)
    state = begin(obj, "sgd", theta=theta.astype(obj.dtype), lr=rate, **make.plain_options(rng))
    return make.clear(check.flat(state, _end_of(make.sgd(rng, obj, 0.3, options={"momentum": 0.9}), 500)), state)


@family("saddle")
def chain_near_zero(rng):
    obj = problem.chain(2, 10 ** rng.uniform(-3, 3), make.any_dtype(rng))
    state = begin(obj, "sgd", theta=make.near(rng, np.zeros(2), 10 ** rng.uniform(-6, -3)),
                  lr=0.05 / abs(obj.loss(np.zeros(2, obj.dtype))), **make.plain_options(rng))
    return make.clear(check.critical(state, "saddle"), state)


@family("saddle")
def quartic_with_negative_curvature(rng):
    n = int(rng.integers(3, 30))
    values = rng.uniform(0.2, 1, n) * rng.choice([1, 1, -1], n)
    values[0], values[1] = -0.5, 1.0
    obj = problem.separable(rng, lambda u: 0.5 * values * u**2 + 0.1 * u**4, lambda u: values * u + 0.4 * u**3,
                            lambda u: values + 1.2 * u**2, n, make.any_dtype(rng), np.ones(n))[0]
    theta = make.near(rng, np.zeros(n), 10 ** rng.uniform(-6, -3.5))
    state = begin(obj, "sgd", theta=theta, lr=0.1, **make.plain_options(rng))
    return make.clear(check.critical(state, "saddle"), state)


@family("saddle")
def tanh_network_at_zero(rng):
    obj = make.digits_objective(rng, (4,), "tanh", loss="mse", examples=150, dtype="float64")
    theta = np.zeros(obj.size)
    state = begin(obj, "sgd", theta=make.near(rng, theta, 1e-6), lr=0.1, momentum=0.9)
    state.theta[-10:] = obj._y.mean(axis=0)
    slope = np.linalg.norm(obj.loss_and_grad(state.theta)[1])
    return make.clear(slope < 1e-4 and check.critical(state, "saddle"), state)


@family("saddle")
def factorization_near_zero(rng):
    obj = problem.factorization(rng, int(rng.integers(3, 6)), 2, "float64")
    theta = make.near(rng, np.zeros(obj.size), 10 ** rng.uniform(-6, -3))
    state = begin(obj, "sgd", theta=theta, lr=0.02, **make.plain_options(rng))
    return make.clear(check.critical(state, "saddle"), state)


def _newton(obj, theta, steps=60):
    """A critical point by Newton's method, with the dense Hessian."""
    theta = np.array(theta, float)
    for _ in range(steps):
        h = np.array([obj.hvp(theta, e) for e in np.eye(obj.size)])
        theta = theta - np.linalg.solve(h, obj.loss_and_grad(theta)[1])
    return theta


@family("saddle")
def polynomial_saddle(rng):
    if rng.random() < 0.5:
        obj, at = problem.himmelblau(), [(0.0867, 2.8843), (3.3852, 0.0739), (-3.0730, -0.0813)][rng.integers(3)]
    else:
        n = int(rng.integers(2, 8))
        obj, at = problem.styblinski_tang(n), np.where(np.arange(n) < n // 2 + 1, 0.157, -2.9)
        at[-1] = -2.9
    state = begin(obj, "sgd", theta=make.near(rng, _newton(obj, at), 1e-6), lr=0.005, **make.plain_options(rng))
    return make.clear(check.critical(state, "saddle"), state)


@family("maximum")
def top_of_a_bump(rng):
    obj = problem.bump(rng, int(rng.integers(2, 20)), -1.0, make.any_dtype(rng))
    theta = make.near(rng, np.zeros(obj.size), 10 ** rng.uniform(-7, -4))
    state = begin(obj, "sgd", theta=theta, lr=0.1, **make.plain_options(rng))
    return make.clear(check.critical(state, "maximum"), state)


@family("maximum")
def polynomial_maximum(rng):
    obj, at = ((problem.himmelblau(), (-0.27, -0.92)) if rng.random() < 0.5
               else (problem.styblinski_tang(4), np.full(4, 0.157)))
    state = begin(obj, "sgd", theta=make.near(rng, _newton(obj, at), 1e-6), lr=0.005, **make.plain_options(rng))
    return make.clear(check.critical(state, "maximum"), state)


@family("minimum")
def quadratic_at_its_minimum(rng):
    values = np.geomspace(1, 1 / rng.uniform(2, 15), int(rng.integers(2, 40)))
    obj = problem.quadratic(rng, values, make.any_dtype(rng), shift=float(rng.choice([0.0, 5.0, -2.0])))
    state = advance(make.sgd(rng, obj, 0.4), 4000, record=500)
    return make.clear(check.critical(state, "minimum"), state)


@family("minimum")
def logistic_at_its_minimum(rng):
    obj = problem.logistic(rng, 150, int(rng.integers(2, 12)), 0.05, "float64")
    state = advance(make.sgd(rng, obj, 0.4), 6000, record=500)
    return make.clear(check.critical(state, "minimum"), state)


@family("minimum")
def softmax_regression_at_its_minimum(rng):
    """With soft targets, which the softmax meets: the sums of the weights over the classes are flat."""
    x = rng.standard_normal((80, 4))
    target = np.exp(x @ rng.standard_normal((4, 3)))
    target /= target.sum(axis=1, keepdims=True)
    net = problem.network(rng, (4, 3))
    obj = oc.nn.objective(net, "cross_entropy", x, target)
    state = advance(make.sgd(rng, obj, 0.5, options={"momentum": 0.9}), 6000, record=1000)
    values = check.dense(obj, state.theta)
    small = np.linalg.norm(obj.loss_and_grad(state.theta)[1]) < 1e-8 * values[-1]
    return make.clear(small and values[0] > -1e-9 * values[-1], state)


@family("minimum")
def polynomial_minimum(rng):
    obj, at = [(problem.rosenbrock(), (1.0, 1.0)), (problem.himmelblau(), (3.0, 2.0)),
               (problem.styblinski_tang(5), np.full(5, -2.9))][rng.integers(3)]
    state = begin(obj, "sgd", theta=make.near(rng, _newton(obj, at), 1e-9), lr=0.001, **make.plain_options(rng))
    return make.clear(check.critical(state, "minimum"), state)


@family("minimum")
def huber_at_its_minimum(rng):
    obj = problem.regression(rng, 100, int(rng.integers(2, 10)), 0.3, kind="huber")
    state = advance(begin(obj, "sgd", lr=0.1, momentum=0.9), 4000, record=500)
    return make.clear(check.critical(state, "minimum"), state)


@family("undetermined")
def power_at_zero(rng):
    obj = problem.power(rng, int(rng.integers(2, 10)), 4)
    state = begin(obj, "sgd", theta=np.zeros(obj.size), lr=0.01, **make.plain_options(rng))
    return make.clear(check.no_second_order(state), state)


@family("undetermined")
def monkey_saddle_at_zero(rng):
    obj = problem.monkey_saddle(rng, 10 ** rng.uniform(-2, 2))
    state = begin(obj, "sgd", theta=np.zeros(2), lr=0.01, **make.plain_options(rng))
    return make.clear(check.no_second_order(state), state)


@family("undetermined")
def sixth_power_at_zero(rng):
    obj = problem.power(rng, int(rng.integers(2, 10)), 6)
    state = begin(obj, "sgd", theta=np.zeros(obj.size), lr=0.01, **make.plain_options(rng))
    return make.clear(check.no_second_order(state), state)
