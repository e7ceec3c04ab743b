"""Rates too large, at the edge of stability, too small; the floor of the noise; and trainings that are on their way."""

import failing_checks as check
import failing_problems as problem
import failing_states as make
import numpy as np
from failing_checks import advance
from failing_family import family

import optcore as oc


@family("lr_too_large")
def log_cosh_valley(rng):
    return make.in_a_valley(rng, problem.log_cosh_valley)


@family("lr_too_large")
def square_root_valley(rng):
    return make.in_a_valley(rng, problem.square_root_valley)


@family("lr_too_large")
def quadratic_that_begins_to_leave(rng):
    obj = problem.quadratic(rng, make.spectrum(rng), make.any_dtype(rng))
    state = advance(make.sgd(rng, obj, rng.uniform(1.05, 1.5)), int(rng.integers(1, 6)))
    return make.clear(check.runs_away(state) and state.losses[-1] < 15 * state.losses[0], state)


@family("lr_too_large")
def adaptive_rule_around_a_minimum(rng):
    obj = problem.quadratic(rng, make.spectrum(rng, 8), make.any_dtype(rng))
    state = advance(make.adaptive(rng, obj, 10 ** rng.uniform(-1.3, 0)), int(rng.integers(300, 1500)))
    return make.clear(check.bounces(state), state)


@family("lr_too_large")
def network_with_a_large_rate(rng):
    activation = str(rng.choice(["tanh", "relu"]))
    obj = make.digits_objective(rng, (12,), activation, examples=150, gain=1.4)
    state = advance(make.adaptive(rng, obj, 10 ** rng.uniform(-1.3, -0.3)), int(rng.integers(50, 200)))
    slopes = make.layer_facts(obj, (64, 12, 10), activation, obj._x, obj._y, state.theta)[2]
    return make.clear(np.mean(~(slopes[0] > 1e-6).any(axis=0)) < 0.4 and check.bounces(state), state)


@family("lr_too_large")
def huber_with_a_large_rate(rng):
    obj = problem.regression(rng, 150, int(rng.integers(2, 10)), 0.1, kind="huber")
    state = advance(make.sgd(rng, obj, rng.uniform(1.3, 5)), 400)
    leaves = check.runs_away(state) and state.losses[-1] < 15 * state.losses[0]
    return make.clear(leaves or check.bounces(state), state)


@family("lr_too_large")
def rosenbrock_that_begins_to_leave(rng):
    obj = problem.rosenbrock() if rng.random() < 0.5 else problem.factorization(rng)
    state = make.sgd(rng, obj, 0.3)
    advance(state, 100)
    state.optimizer.param_groups[0]["lr"] *= rng.uniform(6, 12)
    return make.clear(check.runs_away(state), state)


@family("edge_of_stability")
def tanh_network_at_the_edge(rng):
    return make.network_at_edge(rng, "tanh", "mse")


@family("edge_of_stability")
def sigmoid_network_at_the_edge(rng):
    return make.network_at_edge(rng, "sigmoid", "mse")


@family("edge_of_stability")
def smooth_network_at_the_edge(rng):
    return make.network_at_edge(rng, str(rng.choice(["elu", "silu", "gelu"])), "mse")


@family("noise_floor")
def least_squares_at_the_floor(rng):
    obj = problem.regression(rng, 400, int(rng.integers(3, 15)), 10 ** rng.uniform(-0.5, 0.5), 4.0,
                             dtype=make.any_dtype(rng))
    return make.noise_level(rng, obj, int(rng.choice([1, 4, 10, 20])))


@family("noise_floor")
def logistic_at_the_floor(rng):
    obj = problem.logistic(rng, 400, int(rng.integers(2, 10)), 0.05, make.any_dtype(rng))
    return make.noise_level(rng, obj, int(rng.choice([2, 4, 10])), share=rng.uniform(0.1, 0.3))


@family("noise_floor")
def softmax_regression_at_the_floor(rng):
    x = rng.standard_normal((400, 5))
    y = (x[:, :3] + rng.standard_normal((400, 3))).argmax(axis=1)
    dtype = make.any_dtype(rng)
    obj = oc.nn.objective(problem.network(rng, (5, 3), dtype=dtype), "cross_entropy", x.astype(dtype), y)
    return make.noise_level(rng, obj, int(rng.choice([2, 4, 8])), share=rng.uniform(0.1, 0.4))


@family("noise_floor")
def huber_at_the_floor(rng):
    obj = problem.regression(rng, 400, int(rng.integers(3, 15)), 1.0, 4.0, kind="huber", dtype=make.any_dtype(rng))
    return make.noise_level(rng, obj, int(rng.choice([1, 4, 10, 20])))


@family("noise_floor")
def network_at_the_floor(rng):
    obj = make.digits_objective(rng, (8,), str(rng.choice(["tanh", "elu"])), examples=400, gain=1.2)
    return make.noise_level(rng, obj, int(rng.choice([2, 4])), steps=3000, share=rng.uniform(0.05, 0.2))


@family("lr_too_small")
def quadratic_that_crawls(rng):
    obj = problem.quadratic(rng, make.spectrum(rng), "float64", shift=float(rng.choice([0.0, 3.0, -3.0])))
    return make.slowed_down(rng, obj)


@family("lr_too_small")
def logistic_that_crawls(rng):
    batch = None if rng.random() < 0.5 else 20
    return make.slowed_down(rng, problem.logistic(rng, 200, int(rng.integers(2, 12)), 0.01), batch)


@family("lr_too_small")
def network_that_crawls(rng):
    return make.slowed_down(rng, make.some_network(rng), None if rng.random() < 0.5 else 32)


@family("lr_too_small")
def polynomial_that_crawls(rng):
    return make.slowed_down(rng, problem.rosenbrock() if rng.random() < 0.5 else problem.factorization(rng))


@family("lr_too_small")
def smooth_network_that_crawls(rng):
    return make.slowed_down(rng, make.some_network(rng, held_out=True), None if rng.random() < 0.5 else 32)


@family("progressing")
def quadratic_that_falls(rng):
    obj = problem.quadratic(rng, make.spectrum(rng), make.any_dtype(rng), shift=float(rng.choice([0.0, 3.0, -3.0])))
    return make.on_its_way(rng, obj)


@family("progressing")
def logistic_that_falls(rng):
    batch = None if rng.random() < 0.5 else 20
    return make.on_its_way(rng, problem.logistic(rng, 200, int(rng.integers(2, 12)), 0.01, make.any_dtype(rng)), batch)


@family("progressing")
def network_that_falls(rng):
    return make.on_its_way(rng, make.some_network(rng), None if rng.random() < 0.5 else 32)


@family("progressing")
def polynomial_that_falls(rng):
    obj = problem.factorization(rng) if rng.random() < 0.5 else problem.regression(rng, 200, 8, 0.3, kind="huber")
    return make.on_its_way(rng, obj)


@family("progressing")
def smooth_network_that_falls(rng):
    return make.on_its_way(rng, make.some_network(rng, held_out=True), None if rng.random() < 0.5 else 32)
