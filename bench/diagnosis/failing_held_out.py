"""Families that the tuning half has nothing of."""

import failing_checks as check
import failing_problems as problem
import failing_states as make
import numpy as np
from failing_checks import advance, begin
from failing_family import family

import optcore as oc


def _quartic(rng, n=None):
    n = int(rng.integers(2, 10)) if n is None else n
    c = rng.uniform(0.5, 2, n)
    return problem.separable(rng, lambda u: 0.25 * c * u**4 + 0.5 * u**2, lambda u: c * u**3 + u,
                             lambda u: 3 * c * u**2 + 1, n, "float64", rng.standard_normal(n))[0]


def _waves(rng, at, kind):
    """A sum of cosines near one of its critical points."""
    c = rng.uniform(0.5, 2, at.size)
    obj, q = problem.separable(rng, lambda u: c * np.cos(u), lambda u: -c * np.sin(u), lambda u: -c * np.cos(u),
                               at.size, make.any_dtype(rng), np.ones(at.size))
    theta = make.near(rng, q.T @ at, 10 ** rng.uniform(-7, -5))
    state = begin(obj, "sgd", theta=theta, lr=0.1, **make.plain_options(rng))
    return make.clear(check.critical(state, kind), state)


def _pseudo_huber(rng, examples=300, noise=0.5):
    d = int(rng.integers(3, 12))
    x = rng.standard_normal((examples, d)) * np.geomspace(1, 0.4, d)
    y = x @ rng.standard_normal(d) + noise * rng.standard_normal(examples)
    return problem.over_examples(x, y, lambda z, y: np.sqrt(1 + (z - y) ** 2) - 1,
                                 lambda z, y: (z - y) / np.sqrt(1 + (z - y) ** 2),
                                 lambda z, y: (1 + (z - y) ** 2) ** -1.5, 2 * rng.standard_normal(d),
                                 dtype=make.any_dtype(rng))


def _normed_network(rng):
    return make.digits_objective(rng, (12,), str(rng.choice(["tanh", "gelu"])), norm="RMSNorm", gain=1.2)


@family("diverged", held_out=True)
def quartic_beyond_the_limit(rng):
    state = advance(make.sgd(rng, _quartic(rng), rng.uniform(2.5, 6)), 60)
    return make.clear(check.diverged(state), state)


@family("dead_units", held_out=True)
def units_dead_behind_a_batch_norm(rng):
    dtype = make.any_dtype(rng)
    x, y = problem.digits(rng, 150, dtype)
    net = problem.network(rng, (64, 16, 12, 10), "relu", norm="BatchNorm", gain=1.4, dtype=dtype)
    share = rng.uniform(0.8, 1)
    net.parameters["4.bias"][:int(np.ceil(12 * share))] = -30  # the normalised values are below 13 = sqrt(150 - 1)
    obj = oc.nn.objective(net, "cross_entropy", x, y)
    return begin(obj, "adam", int(rng.choice([16, 150])), lr=1e-3)


@family("exploding_gradients", held_out=True)
def silu_layers_that_amplify(rng):
    state, (signals, _, _) = make.deep(rng, "silu", int(rng.integers(4, 9)), rng.uniform(3, 6))
    return make.clear(signals[0] / signals[-1] > 100, state)


@family("vanishing_gradients", held_out=True)
def torch_softplus_layers_with_small_weights(rng):
    return make.torch_state(rng, "Softplus", int(rng.integers(6, 9)), rng.uniform(0.25, 0.5), vanishing=True)


@family("plateau", held_out=True)
def far_from_a_secant_well(rng):
    obj = problem.bump(rng, int(rng.integers(2, 12)), 1.0, "float64", kind="secant")
    theta = obj.theta0 / np.linalg.norm(obj.theta0) * rng.uniform(25, 40)
    state = begin(obj, "sgd", theta=theta, lr=10 ** rng.uniform(-2, 0), **make.plain_options(rng))
    return make.clear(check.flat(state, 0.0), state)


@family("saddle", held_out=True)
def saddle_of_waves(rng):
    n = int(rng.integers(2, 20))
    at = np.pi * rng.integers(0, 2, n).astype(float)
    at[:2] = 0, np.pi
    return _waves(rng, at, "saddle")


@family("maximum", held_out=True)
def maximum_of_waves(rng):
    return _waves(rng, np.zeros(int(rng.integers(2, 20))), "maximum")


@family("minimum", held_out=True)
def minimum_of_waves(rng):
    return _waves(rng, np.full(int(rng.integers(2, 20)), np.pi), "minimum")


@family("minimum", held_out=True)
def pseudo_huber_at_its_minimum(rng):
    obj = _pseudo_huber(rng)
    state = advance(begin(obj, "nadam", lr=0.05), 300)
    state = advance(begin(obj, "sgd", theta=state.theta, lr=0.5, momentum=0.9), 6000, record=1000)
    return make.clear(check.critical(state, "minimum"), state)


@family("undetermined", held_out=True)
def fifth_power_at_zero(rng):
    obj = problem.power(rng, int(rng.integers(2, 10)), 5)
    state = begin(obj, "sgd", theta=np.zeros(obj.size), lr=0.01, **make.plain_options(rng))
    return make.clear(check.no_second_order(state), state)


@family("lr_too_large", held_out=True)
def valley_of_rounded_powers(rng):
    return make.in_a_valley(rng, problem.rounded_power_valley)


@family("lr_too_large", held_out=True)
def nadam_around_a_minimum(rng):
    obj = problem.logistic(rng, 150, int(rng.integers(3, 10)), 0.05)
    state = advance(begin(obj, "nadam", lr=10 ** rng.uniform(-0.5, 0.7)), int(rng.integers(300, 800)))
    return make.clear(check.bounces(state), state)


@family("lr_too_large", held_out=True)
def quartic_that_begins_to_leave(rng):
    state = advance(make.sgd(rng, _quartic(rng), 0.2), 3)
    state.optimizer.param_groups[0]["lr"] *= rng.uniform(15, 40)
    return make.clear(check.runs_away(state), state)


@family("edge_of_stability", held_out=True)
def deeper_network_at_the_edge(rng):
    return make.network_at_edge(rng, "tanh", "mse", (int(rng.integers(8, 12)),) * 2)


@family("noise_floor", held_out=True)
def pseudo_huber_at_the_floor(rng):
    return make.noise_level(rng, _pseudo_huber(rng, 400, 1.0), int(rng.choice([1, 2, 5, 10])))


@family("noise_floor", held_out=True)
def normed_network_at_the_floor(rng):
    x = rng.standard_normal((400, 5))
    y = (x[:, :3] + rng.standard_normal((400, 3))).argmax(axis=1)
    net = problem.network(rng, (5, 6, 3), str(rng.choice(["tanh", "gelu"])), norm="RMSNorm")
    return make.noise_level(rng, oc.nn.objective(net, "cross_entropy", x, y), 4, 3000, rng.uniform(0.05, 0.3))


@family("lr_too_small", held_out=True)
def pseudo_huber_that_crawls(rng):
    return make.slowed_down(rng, _pseudo_huber(rng), None if rng.random() < 0.5 else 20)


@family("lr_too_small", held_out=True)
def normed_network_that_crawls(rng):
    return make.slowed_down(rng, _normed_network(rng), None if rng.random() < 0.5 else 32)


@family("progressing", held_out=True)
def pseudo_huber_that_falls(rng):
    return make.on_its_way(rng, _pseudo_huber(rng), None if rng.random() < 0.5 else 30)


@family("progressing", held_out=True)
def normed_network_that_falls(rng):
    return make.on_its_way(rng, _normed_network(rng), None if rng.random() < 0.5 else 32)
