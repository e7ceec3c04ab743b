"""Families of failing trainings that were written after the last change of `oc.diagnosis`: see docs/diagnosis.md.

Poisson regression, walls whose slope dies away, wells of Lorentz's curve, a regression that has saturated, a
convolution network, layers of GELU and ELU, a schedule that has ended.
"""

import failing_checks as check
import failing_problems as problem
import failing_states as make
import numpy as np
from failing_checks import advance, begin
from failing_family import family

import optcore as oc


def _poisson(rng, examples=300):
    """Counts whose mean is exp(x . t): mean of exp(z) - y z, which SGD leaves fast where its rate is too large."""
    d = int(rng.integers(3, 10))
    x = rng.standard_normal((examples, d)) * np.geomspace(0.6, 0.25, d)
    y = rng.poisson(np.exp(x @ rng.standard_normal(d))).astype(float)
    return problem.over_examples(x, y, lambda z, y: np.exp(z) - y * z, lambda z, y: np.exp(z) - y,
                                 lambda z, y: np.exp(z), rng.standard_normal(d), dtype=str(rng.choice(make.DTYPES)))


def _lorentz(rng, signs):
    """Sum of s c u^2 / (1 + u^2) beside zero, where the curvature is 2 s c."""
    n = len(signs)
    c = np.asarray(signs) * rng.uniform(0.5, 2, n)
    obj = problem.separable(rng, lambda u: c * u**2 / (1 + u**2), lambda u: 2 * c * u / (1 + u**2) ** 2,
                            lambda u: 2 * c * (1 - 3 * u**2) / (1 + u**2) ** 3, n, "float64", np.ones(n))[0]
    theta = 10 ** rng.uniform(-7, -5) * rng.standard_normal(n)
    return begin(obj, "sgd", theta=theta, lr=0.1, momentum=float(rng.choice([0.0, 0.9])))


def _log_valley(rng, walls, floor, width, dtype="float64"):
    """Walls w s^2/2 log(1 + u^2/s^2), whose slope dies away, beside a floor 1/2 b u^2."""
    k, n = len(walls), len(walls) + len(floor)

    def f(u):
        return np.r_[0.5 * walls * width**2 * np.log1p((u[:k] / width) ** 2), 0.5 * floor * u[k:] ** 2]

    def df(u):
        return np.r_[walls * u[:k] / (1 + (u[:k] / width) ** 2), floor * u[k:]]

    def ddf(u):
        a = (u[:k] / width) ** 2
        return np.r_[walls * (1 - a) / (1 + a) ** 2, floor]

    start = np.r_[width * rng.standard_normal(k), 3 * rng.standard_normal(n - k)]
    return problem.separable(rng, f, df, ddf, n, dtype, start)[0]


@family("diverged", held_out="fresh")
def poisson_beyond_the_limit(rng):
    state = advance(make.sgd(rng, _poisson(rng), rng.uniform(4, 30), options={}), 80)
    return make.clear(check.diverged(state), state)


@family("lr_too_large", held_out="fresh")
def valley_of_logarithms(rng):
    return make.in_a_valley(rng, _log_valley)


@family("saddle", held_out="fresh")
def saddle_of_lorentz_curves(rng):
    signs = rng.choice([1.0, -1.0], int(rng.integers(2, 20)))
    signs[:2] = 1, -1
    state = _lorentz(rng, signs)
    return make.clear(check.critical(state, "saddle"), state)


@family("maximum", held_out="fresh")
def maximum_of_lorentz_curves(rng):
    state = _lorentz(rng, -np.ones(int(rng.integers(2, 20))))
    return make.clear(check.critical(state, "maximum"), state)


@family("minimum", held_out="fresh")
def poisson_at_its_minimum(rng):
    obj = _poisson(rng)
    state = advance(begin(obj, "adam", lr=0.03), 400)
    top = check.sharpest(obj, state.theta)
    state = advance(begin(obj, "sgd", theta=state.theta, lr=1 / top, momentum=0.8), 4000, record=1000)
    state.losses.insert(0, obj.loss(obj.theta0))
    return make.clear(check.critical(state, "minimum"), state)


@family("noise_floor", held_out="fresh")
def poisson_at_the_floor(rng):
    obj = _poisson(rng, 400)
    state = make.adaptive(rng, obj, 10 ** rng.uniform(-2, -1), batch_size=int(rng.choice([2, 5, 10])))
    state = advance(state, 2000, rng, record=100)
    return make.clear(check.stationary_noise(state, rng), state)


@family("lr_too_small", held_out="fresh")
def poisson_that_crawls(rng):
    return make.slowed_down(rng, _poisson(rng), None if rng.random() < 0.5 else 20)


@family("lr_too_small", held_out="fresh")
def schedule_that_has_ended(rng):
    """A healthy training whose rate was set to zero; at its old rate a copy goes on falling."""
    obj = make.some_network(rng, held_out=bool(rng.integers(2)))
    state = make.on_its_way(rng, obj, None if rng.random() < 0.5 else 32)
    if state is None:
        return None
    lr = state.optimizer.param_groups[0]["lr"]
    state.optimizer.param_groups[0]["lr"] = 0.0
    state.losses = {"loss": state.losses, "lr": [lr] * len(state.losses)} if rng.random() < 0.5 else state.losses
    return state


@family("progressing", held_out="fresh")
def poisson_that_falls(rng):
    return make.on_its_way(rng, _poisson(rng), None if rng.random() < 0.5 else 30)


@family("plateau", held_out="fresh")
def saturated_regression(rng):
    """Squared error of a sigmoid that is sure of the wrong answer for every example."""
    d = int(rng.integers(2, 8))
    x = rng.standard_normal((200, d)) * 0.1 + 1
    y = (x.mean(axis=1) > 0).astype(float)
    s = check._sigmoid
    obj = problem.over_examples(
        x, y, lambda z, y: (s(z) - y) ** 2, lambda z, y: 2 * (s(z) - y) * s(z) * (1 - s(z)),
        lambda z, y: 2 * (s(z) * (1 - s(z))) ** 2 + 2 * (s(z) - y) * s(z) * (1 - s(z)) * (1 - 2 * s(z)),
        -rng.uniform(12, 25) / d * np.ones(d))
    state = begin(obj, "sgd", lr=10 ** rng.uniform(-1, 0.5), momentum=float(rng.choice([0.0, 0.9])))
    return make.clear(check.flat(state, 0.0), state)


@family("undetermined", held_out="fresh")
def seventh_power_at_zero(rng):
    obj = problem.power(rng, int(rng.integers(2, 10)), 7)
    state = begin(obj, "sgd", theta=np.zeros(obj.size), lr=0.01)
    return make.clear(check.no_second_order(state), state)


@family("dead_units", held_out="fresh")
def channels_pushed_off(rng):
    """A convolution network on the digits, whose channels answer nowhere: the bias is below what weights can reach."""
    x, y = problem.digits(rng, 120)
    net = oc.nn.Sequential(oc.nn.Conv2d(1, 10, 3), oc.nn.ReLU(), oc.nn.Flatten(), oc.nn.Linear(360, 10),
                           input_shape=(1, 8, 8), dtype="float64", seed=int(rng.integers(2**31)))
    net.parameters["0.bias"][:int(np.ceil(10 * rng.uniform(0.75, 1)))] = -30
    obj = oc.nn.objective(net, "cross_entropy", x.reshape(-1, 1, 8, 8), y)
    reach = np.abs(net.parameters["0.weight"]).sum(axis=(1, 2, 3)) * np.abs(x).max()
    dead = float(np.mean(net.parameters["0.bias"] + reach < 0))
    return make.clear(dead >= 0.78, begin(obj, "adam", int(rng.choice([16, 120])), lr=1e-3))


@family("exploding_gradients", held_out="fresh")
def elu_layers_that_amplify(rng):
    state, (signals, _, _) = make.deep(rng, "elu", int(rng.integers(5, 9)), rng.uniform(3, 5))
    return make.clear(signals[0] / signals[-1] > 100, state)


@family("edge_of_stability", held_out="fresh")
def narrow_network_at_the_edge(rng):
    return make.network_at_edge(rng, str(rng.choice(["tanh", "gelu"])), "mse", (6, int(rng.integers(8, 14))))
