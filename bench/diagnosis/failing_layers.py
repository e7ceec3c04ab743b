"""Runs that diverged, and layers whose gradients vanish, explode, or do not arrive."""

import failing_checks as check
import failing_problems as problem
import failing_states as make
import numpy as np
from failing_checks import advance
from failing_family import family


@family("diverged")
def quadratic_beyond_the_limit(rng):
    obj = problem.quadratic(rng, make.spectrum(rng), make.any_dtype(rng), shift=float(rng.choice([0.0, -3.0, 100.0])))
    state = advance(make.sgd(rng, obj, rng.uniform(1.1, 3)), int(rng.integers(40, 400)))
    return make.clear(check.diverged(state), state)


@family("diverged")
def regression_beyond_the_limit(rng):
    obj = problem.regression(rng, 200, int(rng.integers(3, 20)), 0.5, dtype=make.any_dtype(rng))
    state = advance(make.sgd(rng, obj, rng.uniform(1.3, 4), batch_size=20), int(rng.integers(40, 300)), rng)
    return make.clear(check.diverged(state), state)


@family("diverged")
def network_beyond_the_limit(rng):
    obj = make.digits_objective(rng, (16,), "relu", loss=str(rng.choice(["mse", "cross_entropy"])), gain=1.4)
    state = advance(make.sgd(rng, obj, 10 ** rng.uniform(1.5, 3)), 60)
    return make.clear(check.diverged(state), state)


@family("diverged")
def polynomial_beyond_the_limit(rng):
    obj = problem.rosenbrock() if rng.random() < 0.5 else problem.factorization(rng)
    state = advance(make.sgd(rng, obj, rng.uniform(2, 5)), 100)
    return make.clear(check.diverged(state), state)


@family("dead_units")
def relu_units_pushed_off(rng):
    depth = int(rng.integers(1, 4))
    state, (_, _, slopes) = make.deep(rng, "relu", depth, 1.4, dead=(int(rng.integers(depth)), rng.uniform(0.8, 1)))
    dead = [float(np.mean(~(s > 0).any(axis=0))) for s in slopes]
    return make.clear(max(dead) >= 0.78, state)


@family("dead_units")
def relu_units_killed_by_a_step(rng):
    obj = make.digits_objective(rng, (16, 16), "relu", gain=1.4)
    state = advance(make.sgd(rng, obj, 10 ** rng.uniform(1, 2.5), options={}), 2)
    state.optimizer.param_groups[0]["lr"] = 0.01
    x, y = obj._x, obj._y
    _, _, slopes = make.layer_facts(obj, (64, 16, 16, 10), "relu", x, y, state.theta)
    dead = [float(np.mean(~(s > 0).any(axis=0))) for s in slopes]
    bounded = np.isfinite(state.losses[-1]) and state.losses[-1] < 4 * state.losses[0]
    return make.clear(bounded and max(dead) >= 0.78, state)


@family("dead_units")
def torch_relu_units_pushed_off(rng):
    state = make.torch_state(rng, "ReLU", 2, 1.4, dead=rng.uniform(0.8, 1))
    return state


@family("exploding_gradients")
def relu_layers_that_amplify(rng):
    state, (signals, _, _) = make.deep(rng, "relu", int(rng.integers(4, 9)), rng.uniform(3, 6))
    return make.clear(signals[0] / signals[-1] > 100, state)


@family("exploding_gradients")
def linear_layers_that_amplify(rng):
    activation = "elu" if rng.random() < 0.5 else None
    state, (signals, _, _) = make.deep(rng, activation, int(rng.integers(4, 9)), rng.uniform(2.5, 5))
    return make.clear(signals[0] / signals[-1] > 100, state)


@family("vanishing_gradients")
def sigmoid_layers(rng):
    state, (_, grads, _) = make.deep(rng, "sigmoid", int(rng.integers(5, 9)), rng.uniform(0.7, 1.3))
    return make.clear(grads[0] / grads[-1] < 5e-4, state)


@family("vanishing_gradients")
def tanh_layers_with_small_weights(rng):
    state, (_, grads, _) = make.deep(rng, "sigmoid", int(rng.integers(4, 7)), rng.uniform(0.3, 0.8))
    return make.clear(grads[0] / grads[-1] < 5e-4, state)


@family("vanishing_gradients")
def torch_sigmoid_layers(rng):
    return make.torch_state(rng, "Sigmoid", int(rng.integers(5, 8)), 1.0, vanishing=True)
