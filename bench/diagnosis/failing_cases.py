"""Failing trainings by cause: every family draws its parameters, builds a training, and checks it to be what it claims.

A family is a function of a generator that returns a `State`, or None where this draw is no clear case. Families marked
``held_out`` are drawn for the held-out half only; those of `failing_fresh` for the fresh set, with new draws of these.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import failing_checks as check
import failing_problems as problem
import numpy as np
from failing_checks import advance, begin

import optcore as oc

FAMILIES = []
_SETS = ("tuning", "held-out", "fresh")
_DTYPES = ("float64", "float64", "float32")


@dataclass(frozen=True)
class Case:
    """A training that is known to fail for a cause."""

    cause: str
    family: str
    seed: tuple
    state: Any


@dataclass(frozen=True)
class Family:
    """A way to make trainings that fail for a cause."""

    cause: str
    make: Any
    held_out: bool | str

    def case(self, seed, tries=12):
        """The first draw that passes its check; None if none does."""
        for attempt in range(tries):
            with np.errstate(all="ignore"):
                state = self.make(np.random.default_rng([*seed, attempt]))
            if state is not None:
                return Case(self.cause, self.make.__name__, (*seed, attempt), state)
        return None


def family(cause, held_out=False):
    """Register a family."""
    def add(make):
        FAMILIES.append(Family(cause, make, held_out))
        return make
    return add


def cases(half, per_family, only=None):
    """Yield the cases of a set, "tuning", "held-out" or "fresh"; of one family or cause if `only` names it."""
    takes = {"tuning": (False,), "held-out": (False, True), "fresh": (True, "fresh")}[half]
    for number, f in enumerate(FAMILIES):
        if f.held_out not in takes or only not in (None, f.cause, f.make.__name__):
            continue
        for k in range(per_family):
            case = f.case(([*_SETS].index(half), number, k))
            if case is not None:
                yield case


def _where(passed, state):
    return state if passed else None


def _dtype(rng):
    return str(rng.choice(_DTYPES))


def _plain(rng):
    """SGD's options: plain, momentum or Nesterov."""
    kind = rng.integers(3)
    momentum = float(rng.choice([0.5, 0.8, 0.9]))
    return [{}, {"momentum": momentum}, {"momentum": momentum, "nesterov": True}][kind]


def _sgd(rng, obj, share, theta=None, batch_size=None, options=None):
    """SGD at a share of its limit, by the curvature at the start."""
    options = _plain(rng) if options is None else options
    state = begin(obj, "sgd", batch_size, theta, lr=1.0, **options)
    top = check.sharpest(obj, state.theta)
    state.optimizer.param_groups[0]["lr"] = share * check.limit(state.optimizer) / abs(top)
    return state


def _adaptive(rng, obj, lr, theta=None, batch_size=None):
    name = str(rng.choice(["adam", "rmsprop", "adamw"]))
    return begin(obj, name, batch_size, theta, lr=lr)


def _spectrum(rng, n=None):
    n = int(rng.integers(3, 40)) if n is None else n
    return np.geomspace(1, 1 / rng.uniform(3, 300), n) * 10 ** rng.uniform(-2, 2)


def _digits_objective(rng, widths, activation, examples=None, loss="cross_entropy", **options):
    examples = int(rng.integers(150, 400)) if examples is None else examples
    dtype = options.setdefault("dtype", _dtype(rng))
    x, y = problem.digits(rng, examples, dtype)
    net = problem.network(rng, (64, *widths, 10), activation, **options)
    target = problem.one_hot(y).astype(dtype) if loss == "mse" else y
    return oc.nn.objective(net, loss, x, target)


def _some_network(rng, held_out=False, **options):
    activation = str(rng.choice(["elu", "gelu", "silu"] if held_out else ["tanh", "sigmoid", "relu"]))
    widths = (int(rng.integers(8, 20)),) * int(rng.integers(1, 3))
    norm = ("LayerNorm" if held_out else "BatchNorm") if rng.random() < 0.3 else None
    return _digits_objective(rng, widths, activation, gain=1.4, norm=norm, **options)


# ------------------------------------------------------------------------------------------------------- diverged

@family("diverged")
def quadratic_beyond_the_limit(rng):
    obj = problem.quadratic(rng, _spectrum(rng), _dtype(rng), shift=float(rng.choice([0.0, -3.0, 100.0])))
    state = advance(_sgd(rng, obj, rng.uniform(1.1, 3)), int(rng.integers(40, 400)))
    return _where(check.diverged(state), state)


@family("diverged")
def regression_beyond_the_limit(rng):
    obj = problem.regression(rng, 200, int(rng.integers(3, 20)), 0.5, dtype=_dtype(rng))
    state = advance(_sgd(rng, obj, rng.uniform(1.3, 4), batch_size=20), int(rng.integers(40, 300)), rng)
    return _where(check.diverged(state), state)


@family("diverged")
def network_beyond_the_limit(rng):
    obj = _digits_objective(rng, (16,), "relu", loss=str(rng.choice(["mse", "cross_entropy"])), gain=1.4)
    state = advance(_sgd(rng, obj, 10 ** rng.uniform(1.5, 3)), 60)
    return _where(check.diverged(state), state)


@family("diverged")
def polynomial_beyond_the_limit(rng):
    obj = problem.rosenbrock() if rng.random() < 0.5 else problem.factorization(rng)
    state = advance(_sgd(rng, obj, rng.uniform(2, 5)), 100)
    return _where(check.diverged(state), state)


# --------------------------------------------------------------------------------------------- layers of a network

def _layer_facts(obj, depth, activation, x, y, theta):
    weights, biases, at, widths = [], [], 0, depth
    for a, b in pairwise(widths):
        weights.append(theta[at:at + a * b].reshape(b, a).astype(float))
        biases.append(theta[at + a * b:at + a * b + b].astype(float))
        at += a * b + b
    return check.passes(weights, biases, activation, x, y)


def _deep(rng, activation, depth, gain, width=None, dead=None):
    """A deep network on the digits, its state under a sensible rule, and its layers' facts by hand."""
    dtype = _dtype(rng)
    x, y = problem.digits(rng, 200, dtype)
    widths = (64, *([int(rng.integers(10, 24)) if width is None else width] * depth), 10)
    net = problem.network(rng, widths, activation, gain=gain, dtype=dtype)
    if dead is not None:
        layer, share = dead
        names = [n for n in net.parameters if n.endswith("bias")]
        bias = net.parameters[names[layer]]
        bias[: int(np.ceil(share * bias.size))] = -30
    obj = oc.nn.objective(net, "cross_entropy", x, y)
    name = str(rng.choice(["sgd", "adam"]))
    batch = None if rng.random() < 0.5 else 32
    state = begin(obj, name, batch, lr=10 ** rng.uniform(-3, -1.5))
    return state, _layer_facts(obj, widths, activation, x, y, state.theta)


@family("dead_units")
def relu_units_pushed_off(rng):
    depth = int(rng.integers(1, 4))
    state, (_, _, slopes) = _deep(rng, "relu", depth, 1.4, dead=(int(rng.integers(depth)), rng.uniform(0.8, 1)))
    dead = [float(np.mean(~(s > 0).any(axis=0))) for s in slopes]
    return _where(max(dead) >= 0.78, state)


@family("dead_units")
def relu_units_killed_by_a_step(rng):
    obj = _digits_objective(rng, (16, 16), "relu", gain=1.4)
    state = advance(_sgd(rng, obj, 10 ** rng.uniform(1, 2.5), options={}), 2)
    state.optimizer.param_groups[0]["lr"] = 0.01
    x, y = obj._x, obj._y
    _, _, slopes = _layer_facts(obj, (64, 16, 16, 10), "relu", x, y, state.theta)
    dead = [float(np.mean(~(s > 0).any(axis=0))) for s in slopes]
    bounded = np.isfinite(state.losses[-1]) and state.losses[-1] < 4 * state.losses[0]
    return _where(bounded and max(dead) >= 0.78, state)


@family("dead_units")
def torch_relu_units_pushed_off(rng):
    state = _torch_state(rng, "ReLU", 2, 1.4, dead=rng.uniform(0.8, 1))
    return state


@family("exploding_gradients")
def relu_layers_that_amplify(rng):
    state, (signals, _, _) = _deep(rng, "relu", int(rng.integers(4, 9)), rng.uniform(3, 6))
    return _where(signals[0] / signals[-1] > 100, state)


@family("exploding_gradients")
def linear_layers_that_amplify(rng):
    activation = "elu" if rng.random() < 0.5 else None
    state, (signals, _, _) = _deep(rng, activation, int(rng.integers(4, 9)), rng.uniform(2.5, 5))
    return _where(signals[0] / signals[-1] > 100, state)


@family("vanishing_gradients")
def sigmoid_layers(rng):
    state, (_, grads, _) = _deep(rng, "sigmoid", int(rng.integers(5, 9)), rng.uniform(0.7, 1.3))
    return _where(grads[0] / grads[-1] < 5e-4, state)


@family("vanishing_gradients")
def tanh_layers_with_small_weights(rng):
    state, (_, grads, _) = _deep(rng, "sigmoid", int(rng.integers(4, 7)), rng.uniform(0.3, 0.8))
    return _where(grads[0] / grads[-1] < 5e-4, state)


@family("vanishing_gradients")
def torch_sigmoid_layers(rng):
    return _torch_state(rng, "Sigmoid", int(rng.integers(5, 8)), 1.0, vanishing=True)


def _torch_state(rng, activation, depth, gain, dead=None, vanishing=False):
    """A PyTorch module with a PyTorch optimizer; PyTorch's own gradients say what it is."""
    import torch

    x, y = problem.digits(rng, 150, "float64")
    widths = (64, *([16] * depth), 10)
    layers, generator = [], torch.Generator().manual_seed(int(rng.integers(2**31)))
    for i, (a, b) in enumerate(pairwise(widths)):
        linear = torch.nn.Linear(a, b, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(gain / a**0.5 * torch.randn(b, a, dtype=torch.float64, generator=generator))
            linear.bias.zero_()
            if dead is not None and i == 0:
                linear.bias[:int(np.ceil(16 * dead))] = -30
        layers += [linear, getattr(torch.nn, activation)()] if i < depth else [linear]
    model = torch.nn.Sequential(*layers)
    X, Y = torch.from_numpy(x), torch.from_numpy(y)
    torch.nn.functional.cross_entropy(model(X), Y).backward()
    first, last = layers[0].weight.grad.norm(), layers[-1].weight.grad.norm()
    silent = float((~(layers[1](layers[0](X)) > 0).any(0)).double().mean())
    ok = first / last < 5e-4 if vanishing else silent >= 0.78
    rule = str(rng.choice(["SGD", "Adam", "AdamW", "RMSprop"]))
    optimizer = getattr(torch.optim, rule)(model.parameters(), lr=1e-3)
    obj = oc.torch.objective(model, torch.nn.functional.cross_entropy, x, y)
    state = check.State(obj, obj.theta0.copy(), optimizer, int(rng.choice([16, 150])), [obj.loss(obj.theta0)])
    return _where(bool(ok), state)


# ------------------------------------------------------------------------------------------------------- plateau

@family("plateau")
def far_from_a_well(rng):
    obj = problem.bump(rng, int(rng.integers(2, 12)), 1.0, "float64")
    theta = obj.theta0 / np.linalg.norm(obj.theta0) * rng.uniform(8, 12)
    state = begin(obj, "sgd", theta=theta, lr=10 ** rng.uniform(-2, 0), **_plain(rng))
    return _where(check.flat(state, 0.0), state)


@family("plateau")
def saturated_sigmoid_with_squared_error(rng):
    obj = _digits_objective(rng, (), None, loss="mse", gain=1.0, last="sigmoid")
    theta = obj.theta0.copy()
    theta[-10:] = rng.uniform(11, 15)
    state = begin(obj, "sgd", theta=theta.astype(obj.dtype), lr=10 ** rng.uniform(-1.5, 0), **_plain(rng))
    other = _end_of(_sgd(rng, obj, 0.5, options={"momentum": 0.9}), 500)
    return _where(check.flat(state, other), state)


def _end_of(state, steps):
    return advance(state, steps, record=steps).losses[-1]


@family("plateau")
def far_from_a_rational_well(rng):
    obj = problem.bump(rng, int(rng.integers(2, 12)), 1.0, "float64", kind="rational")
    theta = obj.theta0 / np.linalg.norm(obj.theta0) * rng.uniform(60, 300)
    state = begin(obj, "sgd", theta=theta, lr=10 ** rng.uniform(-2, 0), **_plain(rng))
    return _where(check.flat(state, 0.0), state)


@family("plateau")
def saturated_tanh_with_squared_error(rng):
    obj = _digits_objective(rng, (8,), "tanh", loss="mse", gain=1.0, last="tanh")
    theta = obj.theta0.copy()
    theta[-10:] = rng.choice([-1, 1], 10) * rng.uniform(6, 9)
    state = begin(obj, "sgd", theta=theta.astype(obj.dtype), lr=10 ** rng.uniform(-1.5, -0.5), **_plain(rng))
    return _where(check.flat(state, _end_of(_sgd(rng, obj, 0.3, options={"momentum": 0.9}), 500)), state)


# ------------------------------------------------------------------------------------------------- critical points

def _near(rng, theta, distance):
    v = rng.standard_normal(theta.size)
    return theta + distance * v / np.linalg.norm(v)


@family("saddle")
def chain_near_zero(rng):
    obj = problem.chain(2, 10 ** rng.uniform(-3, 3), _dtype(rng))
    state = begin(obj, "sgd", theta=_near(rng, np.zeros(2), 10 ** rng.uniform(-6, -3)),
                  lr=0.05 / abs(obj.loss(np.zeros(2, obj.dtype))), **_plain(rng))
    return _where(check.critical(state, "saddle"), state)


@family("saddle")
def quartic_with_negative_curvature(rng):
    n = int(rng.integers(3, 30))
    values = rng.uniform(0.2, 1, n) * rng.choice([1, 1, -1], n)
    values[0], values[1] = -0.5, 1.0
    obj = problem.separable(rng, lambda u: 0.5 * values * u**2 + 0.1 * u**4, lambda u: values * u + 0.4 * u**3,
                            lambda u: values + 1.2 * u**2, n, _dtype(rng), np.ones(n))[0]
    state = begin(obj, "sgd", theta=_near(rng, np.zeros(n), 10 ** rng.uniform(-6, -3.5)), lr=0.1, **_plain(rng))
    return _where(check.critical(state, "saddle"), state)


@family("saddle")
def tanh_network_at_zero(rng):
    obj = _digits_objective(rng, (4,), "tanh", loss="mse", examples=150, dtype="float64")
    theta = np.zeros(obj.size)
    state = begin(obj, "sgd", theta=_near(rng, theta, 1e-6), lr=0.1, momentum=0.9)
    state.theta[-10:] = obj._y.mean(axis=0)
    return _where(np.linalg.norm(obj.loss_and_grad(state.theta)[1]) < 1e-4 and check.critical(state, "saddle"), state)


@family("saddle")
def factorization_near_zero(rng):
    obj = problem.factorization(rng, int(rng.integers(3, 6)), 2, "float64")
    state = begin(obj, "sgd", theta=_near(rng, np.zeros(obj.size), 10 ** rng.uniform(-6, -3)), lr=0.02, **_plain(rng))
    return _where(check.critical(state, "saddle"), state)


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
    state = begin(obj, "sgd", theta=_near(rng, _newton(obj, at), 1e-6), lr=0.005, **_plain(rng))
    return _where(check.critical(state, "saddle"), state)


@family("maximum")
def top_of_a_bump(rng):
    obj = problem.bump(rng, int(rng.integers(2, 20)), -1.0, _dtype(rng))
    state = begin(obj, "sgd", theta=_near(rng, np.zeros(obj.size), 10 ** rng.uniform(-7, -4)), lr=0.1, **_plain(rng))
    return _where(check.critical(state, "maximum"), state)


@family("maximum")
def polynomial_maximum(rng):
    obj, at = ((problem.himmelblau(), (-0.27, -0.92)) if rng.random() < 0.5
               else (problem.styblinski_tang(4), np.full(4, 0.157)))
    state = begin(obj, "sgd", theta=_near(rng, _newton(obj, at), 1e-6), lr=0.005, **_plain(rng))
    return _where(check.critical(state, "maximum"), state)


@family("minimum")
def quadratic_at_its_minimum(rng):
    values = np.geomspace(1, 1 / rng.uniform(2, 15), int(rng.integers(2, 40)))
    obj = problem.quadratic(rng, values, _dtype(rng), shift=float(rng.choice([0.0, 5.0, -2.0])))
    state = advance(_sgd(rng, obj, 0.4), 4000, record=500)
    return _where(check.critical(state, "minimum"), state)


@family("minimum")
def logistic_at_its_minimum(rng):
    obj = problem.logistic(rng, 150, int(rng.integers(2, 12)), 0.05, "float64")
    state = advance(_sgd(rng, obj, 0.4), 6000, record=500)
    return _where(check.critical(state, "minimum"), state)


@family("minimum")
def softmax_regression_at_its_minimum(rng):
    """With soft targets, which the softmax meets: the sums of the weights over the classes are flat."""
    x = rng.standard_normal((80, 4))
    target = np.exp(x @ rng.standard_normal((4, 3)))
    target /= target.sum(axis=1, keepdims=True)
    net = problem.network(rng, (4, 3))
    obj = oc.nn.objective(net, "cross_entropy", x, target)
    state = advance(_sgd(rng, obj, 0.5, options={"momentum": 0.9}), 6000, record=1000)
    values = check.dense(obj, state.theta)
    small = np.linalg.norm(obj.loss_and_grad(state.theta)[1]) < 1e-8 * values[-1]
    return _where(small and values[0] > -1e-9 * values[-1], state)


@family("minimum")
def polynomial_minimum(rng):
    obj, at = [(problem.rosenbrock(), (1.0, 1.0)), (problem.himmelblau(), (3.0, 2.0)),
               (problem.styblinski_tang(5), np.full(5, -2.9))][rng.integers(3)]
    state = begin(obj, "sgd", theta=_near(rng, _newton(obj, at), 1e-9), lr=0.001, **_plain(rng))
    return _where(check.critical(state, "minimum"), state)


@family("minimum")
def huber_at_its_minimum(rng):
    obj = problem.regression(rng, 100, int(rng.integers(2, 10)), 0.3, kind="huber")
    state = advance(begin(obj, "sgd", lr=0.1, momentum=0.9), 4000, record=500)
    return _where(check.critical(state, "minimum"), state)


@family("undetermined")
def power_at_zero(rng):
    obj = problem.power(rng, int(rng.integers(2, 10)), 4)
    state = begin(obj, "sgd", theta=np.zeros(obj.size), lr=0.01, **_plain(rng))
    return _where(check.no_second_order(state), state)


@family("undetermined")
def monkey_saddle_at_zero(rng):
    obj = problem.monkey_saddle(rng, 10 ** rng.uniform(-2, 2))
    state = begin(obj, "sgd", theta=np.zeros(2), lr=0.01, **_plain(rng))
    return _where(check.no_second_order(state), state)


@family("undetermined")
def sixth_power_at_zero(rng):
    obj = problem.power(rng, int(rng.integers(2, 10)), 6)
    state = begin(obj, "sgd", theta=np.zeros(obj.size), lr=0.01, **_plain(rng))
    return _where(check.no_second_order(state), state)


# ---------------------------------------------------------------------------------------------------- rate too large

def _valley(rng, make):
    walls = rng.uniform(1, 4, int(rng.integers(1, 3))) * 10 ** rng.uniform(0, 2)
    floor = rng.uniform(0.2, 1, int(rng.integers(1, 8))) * walls.min() * 10 ** rng.uniform(-4, -2.5)
    obj = make(rng, walls, floor, 10 ** rng.uniform(-2, 0), _dtype(rng))
    if rng.random() < 0.35:
        state = _adaptive(rng, obj, 10 ** rng.uniform(-1, 0.3))
    else:
        state = begin(obj, "sgd", lr=1.0, **_plain(rng))
        state.optimizer.param_groups[0]["lr"] = rng.uniform(1.2, 8) * check.limit(state.optimizer) / walls.max()
    state = advance(state, int(rng.integers(200, 800)))
    return _where(check.bounces(state), state)


@family("lr_too_large")
def log_cosh_valley(rng):
    return _valley(rng, problem.log_cosh_valley)


@family("lr_too_large")
def square_root_valley(rng):
    return _valley(rng, problem.square_root_valley)


@family("lr_too_large")
def quadratic_that_begins_to_leave(rng):
    obj = problem.quadratic(rng, _spectrum(rng), _dtype(rng))
    state = advance(_sgd(rng, obj, rng.uniform(1.05, 1.5)), int(rng.integers(1, 6)))
    return _where(check.runs_away(state) and state.losses[-1] < 15 * state.losses[0], state)


@family("lr_too_large")
def adaptive_rule_around_a_minimum(rng):
    obj = problem.quadratic(rng, _spectrum(rng, 8), _dtype(rng))
    state = advance(_adaptive(rng, obj, 10 ** rng.uniform(-1.3, 0)), int(rng.integers(300, 1500)))
    return _where(check.bounces(state), state)


@family("lr_too_large")
def network_with_a_large_rate(rng):
    activation = str(rng.choice(["tanh", "relu"]))
    obj = _digits_objective(rng, (12,), activation, examples=150, gain=1.4)
    state = advance(_adaptive(rng, obj, 10 ** rng.uniform(-1.3, -0.3)), int(rng.integers(50, 200)))
    slopes = _layer_facts(obj, (64, 12, 10), activation, obj._x, obj._y, state.theta)[2]
    return _where(np.mean(~(slopes[0] > 1e-6).any(axis=0)) < 0.4 and check.bounces(state), state)


@family("lr_too_large")
def huber_with_a_large_rate(rng):
    obj = problem.regression(rng, 150, int(rng.integers(2, 10)), 0.1, kind="huber")
    state = advance(_sgd(rng, obj, rng.uniform(1.3, 5)), 400)
    return _where(check.bounces(state) or (check.runs_away(state) and state.losses[-1] < 15 * state.losses[0]), state)


@family("lr_too_large")
def rosenbrock_that_begins_to_leave(rng):
    obj = problem.rosenbrock() if rng.random() < 0.5 else problem.factorization(rng)
    state = _sgd(rng, obj, 0.3)
    advance(state, 100)
    state.optimizer.param_groups[0]["lr"] *= rng.uniform(6, 12)
    return _where(check.runs_away(state), state)


def _at_the_edge(rng, activation, loss, widths=None):
    """Gradient descent on all examples, until the sharpness has risen to its limit and stays there."""
    widths = widths or (int(rng.integers(8, 16)),)
    obj = _digits_objective(rng, widths, activation, int(rng.integers(60, 150)), loss,
                            gain=rng.uniform(0.7, 1.2), dtype="float64")
    state = _sgd(rng, obj, rng.uniform(0.3, 0.9), options={} if rng.random() < 0.7 else {"momentum": 0.5})
    for _ in range(12):
        advance(state, 250, record=50)
        if not np.isfinite(state.losses[-1]):
            return None
        edge = state.optimizer.param_groups[0]["lr"] * check.sharpest(obj, state.theta) / check.limit(state.optimizer)
        if edge > 0.98 and check.at_the_edge(state):
            return state
    return None


@family("edge_of_stability")
def tanh_network_at_the_edge(rng):
    return _at_the_edge(rng, "tanh", "mse")


@family("edge_of_stability")
def sigmoid_network_at_the_edge(rng):
    return _at_the_edge(rng, "sigmoid", "mse")


@family("edge_of_stability")
def smooth_network_at_the_edge(rng):
    return _at_the_edge(rng, str(rng.choice(["elu", "silu", "gelu"])), "mse")


# ------------------------------------------------------------------------------------------------------------ noise

def _floor(rng, obj, batch, steps=2000, share=None, adaptive=None):
    if rng.random() < 0.25:
        state = _adaptive(rng, obj, 10 ** rng.uniform(-2, -1), batch_size=batch)
    else:
        state = _sgd(rng, obj, rng.uniform(0.02, 0.12) if share is None else share, batch_size=batch)
    state = advance(state, steps, rng, record=100)
    return _where(check.stationary_noise(state, rng), state)


@family("noise_floor")
def least_squares_at_the_floor(rng):
    obj = problem.regression(rng, 400, int(rng.integers(3, 15)), 10 ** rng.uniform(-0.5, 0.5), 4.0, dtype=_dtype(rng))
    return _floor(rng, obj, int(rng.choice([1, 4, 10, 20])))


@family("noise_floor")
def logistic_at_the_floor(rng):
    obj = problem.logistic(rng, 400, int(rng.integers(2, 10)), 0.05, _dtype(rng))
    return _floor(rng, obj, int(rng.choice([2, 4, 10])), share=rng.uniform(0.1, 0.3))


@family("noise_floor")
def softmax_regression_at_the_floor(rng):
    x = rng.standard_normal((400, 5))
    y = (x[:, :3] + rng.standard_normal((400, 3))).argmax(axis=1)
    dtype = _dtype(rng)
    obj = oc.nn.objective(problem.network(rng, (5, 3), dtype=dtype), "cross_entropy", x.astype(dtype), y)
    return _floor(rng, obj, int(rng.choice([2, 4, 8])), share=rng.uniform(0.1, 0.4))


@family("noise_floor")
def huber_at_the_floor(rng):
    obj = problem.regression(rng, 400, int(rng.integers(3, 15)), 1.0, 4.0, kind="huber", dtype=_dtype(rng))
    return _floor(rng, obj, int(rng.choice([1, 4, 10, 20])))


@family("noise_floor")
def network_at_the_floor(rng):
    obj = _digits_objective(rng, (8,), str(rng.choice(["tanh", "elu"])), examples=400, gain=1.2)
    return _floor(rng, obj, int(rng.choice([2, 4])), steps=3000, share=rng.uniform(0.05, 0.2))


# ------------------------------------------------------------------------------------- rate too small, and healthy

def _slow(rng, obj, batch_size=None):
    if rng.random() < 0.3:
        state = _adaptive(rng, obj, 10 ** rng.uniform(-7, -5), batch_size=batch_size)
    else:
        state = _sgd(rng, obj, 10 ** rng.uniform(-6, -3.7), batch_size=batch_size)
    state = advance(state, int(rng.integers(5, 200)), rng, record=50)
    return _where(check.crawls(state), state)


@family("lr_too_small")
def quadratic_that_crawls(rng):
    return _slow(rng, problem.quadratic(rng, _spectrum(rng), "float64", shift=float(rng.choice([0.0, 3.0, -3.0]))))


@family("lr_too_small")
def logistic_that_crawls(rng):
    batch = None if rng.random() < 0.5 else 20
    return _slow(rng, problem.logistic(rng, 200, int(rng.integers(2, 12)), 0.01), batch)


@family("lr_too_small")
def network_that_crawls(rng):
    return _slow(rng, _some_network(rng), None if rng.random() < 0.5 else 32)


@family("lr_too_small")
def polynomial_that_crawls(rng):
    return _slow(rng, problem.rosenbrock() if rng.random() < 0.5 else problem.factorization(rng))


@family("lr_too_small")
def smooth_network_that_crawls(rng):
    return _slow(rng, _some_network(rng, held_out=True), None if rng.random() < 0.5 else 32)


def _healthy(rng, obj, batch_size=None):
    if rng.random() < 0.3:
        state = _adaptive(rng, obj, 10 ** rng.uniform(-2.5, -1), batch_size=batch_size)
    else:
        state = _sgd(rng, obj, rng.uniform(0.1, 0.6), batch_size=batch_size)
    state = advance(state, int(rng.integers(2, 20)), rng)
    return _where(check.flows(state, rng), state)


@family("progressing")
def quadratic_that_falls(rng):
    return _healthy(rng, problem.quadratic(rng, _spectrum(rng), _dtype(rng), shift=float(rng.choice([0.0, 3.0, -3.0]))))


@family("progressing")
def logistic_that_falls(rng):
    batch = None if rng.random() < 0.5 else 20
    return _healthy(rng, problem.logistic(rng, 200, int(rng.integers(2, 12)), 0.01, _dtype(rng)), batch)


@family("progressing")
def network_that_falls(rng):
    return _healthy(rng, _some_network(rng), None if rng.random() < 0.5 else 32)


@family("progressing")
def polynomial_that_falls(rng):
    obj = problem.factorization(rng) if rng.random() < 0.5 else problem.regression(rng, 200, 8, 0.3, kind="huber")
    return _healthy(rng, obj)


@family("progressing")
def smooth_network_that_falls(rng):
    return _healthy(rng, _some_network(rng, held_out=True), None if rng.random() < 0.5 else 32)


# -------------------------------------------------------------------------------- what the tuning half has nothing of

def _quartic(rng, n=None):
    n = int(rng.integers(2, 10)) if n is None else n
    c = rng.uniform(0.5, 2, n)
    return problem.separable(rng, lambda u: 0.25 * c * u**4 + 0.5 * u**2, lambda u: c * u**3 + u,
                             lambda u: 3 * c * u**2 + 1, n, "float64", rng.standard_normal(n))[0]


def _waves(rng, at, kind):
    """A sum of cosines near one of its critical points."""
    c = rng.uniform(0.5, 2, at.size)
    obj, q = problem.separable(rng, lambda u: c * np.cos(u), lambda u: -c * np.sin(u), lambda u: -c * np.cos(u),
                               at.size, _dtype(rng), np.ones(at.size))
    state = begin(obj, "sgd", theta=_near(rng, q.T @ at, 10 ** rng.uniform(-7, -5)), lr=0.1, **_plain(rng))
    return _where(check.critical(state, kind), state)


def _pseudo_huber(rng, examples=300, noise=0.5):
    d = int(rng.integers(3, 12))
    x = rng.standard_normal((examples, d)) * np.geomspace(1, 0.4, d)
    y = x @ rng.standard_normal(d) + noise * rng.standard_normal(examples)
    return problem.over_examples(x, y, lambda z, y: np.sqrt(1 + (z - y) ** 2) - 1,
                                 lambda z, y: (z - y) / np.sqrt(1 + (z - y) ** 2),
                                 lambda z, y: (1 + (z - y) ** 2) ** -1.5, 2 * rng.standard_normal(d), dtype=_dtype(rng))


def _normed_network(rng):
    return _digits_objective(rng, (12,), str(rng.choice(["tanh", "gelu"])), norm="RMSNorm", gain=1.2)


@family("diverged", held_out=True)
def quartic_beyond_the_limit(rng):
    state = advance(_sgd(rng, _quartic(rng), rng.uniform(2.5, 6)), 60)
    return _where(check.diverged(state), state)


@family("dead_units", held_out=True)
def units_dead_behind_a_batch_norm(rng):
    dtype = _dtype(rng)
    x, y = problem.digits(rng, 150, dtype)
    net = problem.network(rng, (64, 16, 12, 10), "relu", norm="BatchNorm", gain=1.4, dtype=dtype)
    share = rng.uniform(0.8, 1)
    net.parameters["4.bias"][:int(np.ceil(12 * share))] = -30  # the normalised values are below 13 = sqrt(150 - 1)
    obj = oc.nn.objective(net, "cross_entropy", x, y)
    return begin(obj, "adam", int(rng.choice([16, 150])), lr=1e-3)


@family("exploding_gradients", held_out=True)
def silu_layers_that_amplify(rng):
    state, (signals, _, _) = _deep(rng, "silu", int(rng.integers(4, 9)), rng.uniform(3, 6))
    return _where(signals[0] / signals[-1] > 100, state)


@family("vanishing_gradients", held_out=True)
def torch_softplus_layers_with_small_weights(rng):
    return _torch_state(rng, "Softplus", int(rng.integers(6, 9)), rng.uniform(0.25, 0.5), vanishing=True)


@family("plateau", held_out=True)
def far_from_a_secant_well(rng):
    obj = problem.bump(rng, int(rng.integers(2, 12)), 1.0, "float64", kind="secant")
    theta = obj.theta0 / np.linalg.norm(obj.theta0) * rng.uniform(25, 40)
    state = begin(obj, "sgd", theta=theta, lr=10 ** rng.uniform(-2, 0), **_plain(rng))
    return _where(check.flat(state, 0.0), state)


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
    return _where(check.critical(state, "minimum"), state)


@family("undetermined", held_out=True)
def fifth_power_at_zero(rng):
    obj = problem.power(rng, int(rng.integers(2, 10)), 5)
    state = begin(obj, "sgd", theta=np.zeros(obj.size), lr=0.01, **_plain(rng))
    return _where(check.no_second_order(state), state)


@family("lr_too_large", held_out=True)
def valley_of_rounded_powers(rng):
    return _valley(rng, problem.rounded_power_valley)


@family("lr_too_large", held_out=True)
def nadam_around_a_minimum(rng):
    obj = problem.logistic(rng, 150, int(rng.integers(3, 10)), 0.05)
    state = advance(begin(obj, "nadam", lr=10 ** rng.uniform(-0.5, 0.7)), int(rng.integers(300, 800)))
    return _where(check.bounces(state), state)


@family("lr_too_large", held_out=True)
def quartic_that_begins_to_leave(rng):
    state = advance(_sgd(rng, _quartic(rng), 0.2), 3)
    state.optimizer.param_groups[0]["lr"] *= rng.uniform(15, 40)
    return _where(check.runs_away(state), state)


@family("edge_of_stability", held_out=True)
def deeper_network_at_the_edge(rng):
    return _at_the_edge(rng, "tanh", "mse", (int(rng.integers(8, 12)),) * 2)


@family("noise_floor", held_out=True)
def pseudo_huber_at_the_floor(rng):
    return _floor(rng, _pseudo_huber(rng, 400, 1.0), int(rng.choice([1, 2, 5, 10])))


@family("noise_floor", held_out=True)
def normed_network_at_the_floor(rng):
    x = rng.standard_normal((400, 5))
    y = (x[:, :3] + rng.standard_normal((400, 3))).argmax(axis=1)
    net = problem.network(rng, (5, 6, 3), str(rng.choice(["tanh", "gelu"])), norm="RMSNorm")
    return _floor(rng, oc.nn.objective(net, "cross_entropy", x, y), 4, 3000, rng.uniform(0.05, 0.3))


@family("lr_too_small", held_out=True)
def pseudo_huber_that_crawls(rng):
    return _slow(rng, _pseudo_huber(rng), None if rng.random() < 0.5 else 20)


@family("lr_too_small", held_out=True)
def normed_network_that_crawls(rng):
    return _slow(rng, _normed_network(rng), None if rng.random() < 0.5 else 32)


@family("progressing", held_out=True)
def pseudo_huber_that_falls(rng):
    return _healthy(rng, _pseudo_huber(rng), None if rng.random() < 0.5 else 30)


@family("progressing", held_out=True)
def normed_network_that_falls(rng):
    return _healthy(rng, _normed_network(rng), None if rng.random() < 0.5 else 32)
