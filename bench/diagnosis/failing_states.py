"""How failing trainings are begun: rules at a share of their limit, networks, and what several families share."""

from itertools import pairwise

import failing_checks as check
import failing_problems as problem
import numpy as np
from failing_checks import advance, begin

import optcore as oc

DTYPES = ("float64", "float64", "float32")


def clear(passed, state):
    """The state if it passed its check, else None."""
    return state if passed else None


def any_dtype(rng):
    return str(rng.choice(DTYPES))


def plain_options(rng):
    """SGD's options: plain, momentum or Nesterov."""
    kind = rng.integers(3)
    momentum = float(rng.choice([0.5, 0.8, 0.9]))
    return [{}, {"momentum": momentum}, {"momentum": momentum, "nesterov": True}][kind]


def sgd(rng, obj, share, theta=None, batch_size=None, options=None):
    """SGD at a share of its limit, by the curvature at the start."""
    options = plain_options(rng) if options is None else options
    state = begin(obj, "sgd", batch_size, theta, lr=1.0, **options)
    top = check.sharpest(obj, state.theta)
    state.optimizer.param_groups[0]["lr"] = share * check.limit(state.optimizer) / abs(top)
    return state


def adaptive(rng, obj, lr, theta=None, batch_size=None):
    name = str(rng.choice(["adam", "rmsprop", "adamw"]))
    return begin(obj, name, batch_size, theta, lr=lr)


def spectrum(rng, n=None):
    n = int(rng.integers(3, 40)) if n is None else n
    return np.geomspace(1, 1 / rng.uniform(3, 300), n) * 10 ** rng.uniform(-2, 2)


def digits_objective(rng, widths, activation, examples=None, loss="cross_entropy", **options):
    examples = int(rng.integers(150, 400)) if examples is None else examples
    dtype = options.setdefault("dtype", any_dtype(rng))
    x, y = problem.digits(rng, examples, dtype)
    net = problem.network(rng, (64, *widths, 10), activation, **options)
    target = problem.one_hot(y).astype(dtype) if loss == "mse" else y
    return oc.nn.objective(net, loss, x, target)


def some_network(rng, held_out=False, **options):
    activation = str(rng.choice(["elu", "gelu", "silu"] if held_out else ["tanh", "sigmoid", "relu"]))
    widths = (int(rng.integers(8, 20)),) * int(rng.integers(1, 3))
    norm = ("LayerNorm" if held_out else "BatchNorm") if rng.random() < 0.3 else None
    return digits_objective(rng, widths, activation, gain=1.4, norm=norm, **options)


def layer_facts(obj, depth, activation, x, y, theta):
    weights, biases, at, widths = [], [], 0, depth
    for a, b in pairwise(widths):
        weights.append(theta[at:at + a * b].reshape(b, a).astype(float))
        biases.append(theta[at + a * b:at + a * b + b].astype(float))
        at += a * b + b
    return check.passes(weights, biases, activation, x, y)


def deep(rng, activation, depth, gain, width=None, dead=None):
    """A deep network on the digits, its state under a sensible rule, and its layers' facts by hand."""
    dtype = any_dtype(rng)
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
    return state, layer_facts(obj, widths, activation, x, y, state.theta)


def torch_state(rng, activation, depth, gain, dead=None, vanishing=False):
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
    return clear(bool(ok), state)


def near(rng, theta, distance):
    v = rng.standard_normal(theta.size)
    return theta + distance * v / np.linalg.norm(v)


def in_a_valley(rng, make):
    walls = rng.uniform(1, 4, int(rng.integers(1, 3))) * 10 ** rng.uniform(0, 2)
    floor = rng.uniform(0.2, 1, int(rng.integers(1, 8))) * walls.min() * 10 ** rng.uniform(-4, -2.5)
    obj = make(rng, walls, floor, 10 ** rng.uniform(-2, 0), any_dtype(rng))
    if rng.random() < 0.35:
        state = adaptive(rng, obj, 10 ** rng.uniform(-1, 0.3))
    else:
        state = begin(obj, "sgd", lr=1.0, **plain_options(rng))
        state.optimizer.param_groups[0]["lr"] = rng.uniform(1.2, 8) * check.limit(state.optimizer) / walls.max()
    state = advance(state, int(rng.integers(200, 800)))
    return clear(check.bounces(state), state)


def network_at_edge(rng, activation, loss, widths=None):
    """Gradient descent on all examples, until the sharpness has risen to its limit and stays there."""
    widths = widths or (int(rng.integers(8, 16)),)
    obj = digits_objective(rng, widths, activation, int(rng.integers(60, 150)), loss,
                           gain=rng.uniform(0.7, 1.2), dtype="float64")
    state = sgd(rng, obj, rng.uniform(0.3, 0.9), options={} if rng.random() < 0.7 else {"momentum": 0.5})
    for _ in range(12):
        advance(state, 250, record=50)
        if not np.isfinite(state.losses[-1]):
            return None
        edge = state.optimizer.param_groups[0]["lr"] * check.sharpest(obj, state.theta) / check.limit(state.optimizer)
        if edge > 0.98 and check.at_the_edge(state):
            return state
    return None


def noise_level(rng, obj, batch, steps=2000, share=None):
    if rng.random() < 0.25:
        state = adaptive(rng, obj, 10 ** rng.uniform(-2, -1), batch_size=batch)
    else:
        state = sgd(rng, obj, rng.uniform(0.02, 0.12) if share is None else share, batch_size=batch)
    state = advance(state, steps, rng, record=100)
    return clear(check.stationary_noise(state, rng), state)


def slowed_down(rng, obj, batch_size=None):
    if rng.random() < 0.3:
        state = adaptive(rng, obj, 10 ** rng.uniform(-7, -5), batch_size=batch_size)
    else:
        state = sgd(rng, obj, 10 ** rng.uniform(-6, -3.7), batch_size=batch_size)
    state = advance(state, int(rng.integers(5, 200)), rng, record=50)
    return clear(check.crawls(state), state)


def on_its_way(rng, obj, batch_size=None):
    if rng.random() < 0.3:
        state = adaptive(rng, obj, 10 ** rng.uniform(-2.5, -1), batch_size=batch_size)
    else:
        state = sgd(rng, obj, rng.uniform(0.1, 0.6), batch_size=batch_size)
    state = advance(state, int(rng.integers(2, 20)), rng)
    return clear(check.flows(state, rng), state)
