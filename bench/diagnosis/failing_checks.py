"""Whether a failing training is what it claims to be: by long runs and dense matrices, without `optcore.diagnosis`.

Each check is stricter than the claim: what passes is a clear case. `State` is a training at a moment.
"""

import math
from dataclasses import dataclass, field

import numpy as np

import optcore as oc


@dataclass
class State:
    """A training at a moment: theta, the optimizer that moved it, its batch size (None: all examples)."""

    obj: oc.Objective
    theta: np.ndarray
    optimizer: object
    batch_size: int | None = None
    losses: list = field(default_factory=list)


def begin(obj, name, batch_size=None, theta=None, **options):
    """A training at its start, by the rule of a name."""
    theta = np.array(obj.theta0 if theta is None else theta, obj.dtype)
    return State(obj, theta, oc.optim.get(name)(theta, **options), batch_size, [obj.loss(theta)])


def copied(state, factor=1.0):
    """The same training over a copy of theta, its rate multiplied."""
    theta = state.theta.copy()
    group = state.optimizer.param_groups[0]
    options = {k: v for k, v in group.items() if k != "params"}
    optimizer = type(state.optimizer)(theta, **options)
    optimizer.load_state_dict(state.optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = factor * group["lr"]
    return State(state.obj, theta, optimizer, state.batch_size, [])


def advance(state, steps, rng=None, record=1):
    """Train on; the losses over all examples after every `record` steps go to state.losses. Stops at infinity."""
    obj, n = state.obj, state.obj.n_examples
    order = np.empty(0, int)
    with np.errstate(all="ignore"):
        for step in range(steps):
            batch = None
            if state.batch_size is not None and state.batch_size < n:
                if order.size < state.batch_size:
                    order = rng.permutation(n)
                batch, order = order[:state.batch_size], order[state.batch_size:]
            grad = obj.loss_and_grad(state.theta, batch)[1]
            state.optimizer.step(grad)
            if step % record == record - 1:
                state.losses.append(obj.loss(state.theta))
                if not math.isfinite(state.losses[-1]):
                    break
    return state


def curve(state, steps, factor=1.0, rng=None, noise=True, record=1):
    """The losses of a copy that goes on, from now on."""
    copy = copied(state, factor)
    copy.batch_size = state.batch_size if noise else None
    copy.losses = [state.obj.loss(state.theta)]
    return np.array(advance(copy, steps, rng, record).losses), copy


def _end(losses, last=10):
    return float(np.median(losses[-last:])) if np.isfinite(losses).all() else math.inf


def dense(obj, theta):
    """The eigenvalues of the Hessian, from products with unit vectors; by power iteration beyond 400 parameters."""
    if obj.size <= 400:
        h = np.array([obj.hvp(theta, e) for e in np.eye(obj.size)], float)
        return np.linalg.eigvalsh(0.5 * (h + h.T))
    return np.array([np.nan, sharpest(obj, theta)])


def sharpest(obj, theta, steps=60):
    """The largest eigenvalue, by power iteration on H + c."""
    v, shift = np.random.default_rng(0).standard_normal(obj.size), 0.0
    for _ in range(2):
        for _ in range(steps):
            v /= np.linalg.norm(v)
            w = obj.hvp(theta, v).astype(float) + shift * v
            value = float(v @ w)
            v = w
        if value - shift > 0:
            break
        shift = abs(value)
    return value - shift


def limit(optimizer):
    """Rate times curvature at which a quadratic run of SGD stops shrinking."""
    g = optimizer.param_groups[0]
    b = g.get("momentum", 0.0)
    return (2 + 2 * b) / (1 + 2 * b if g.get("nesterov") else 1)


def best_gain(state, steps=100):
    """What the best of many rates gains, without noise."""
    start = state.obj.loss(state.theta)
    return max(start - _end(curve(state, steps, f, noise=False)[0], 3) for f in (0.1, 0.3, 1, 3, 10, 30, 100, 1e3, 1e4))


def diverged(state):
    """The loss is not finite, or more than 1e3 times the height of the start above the best one known."""
    loss = state.obj.loss(state.theta)
    low = min(x for x in state.losses if math.isfinite(x))
    gentle = begin(state.obj, "sgd", lr=1e-3 / max(1e-12, abs(sharpest(state.obj, state.obj.theta0))))
    low = min(low, _end(np.array(advance(gentle, 300).losses), 1))
    return not math.isfinite(loss) or loss - low > 300 * (state.losses[0] - low)


def bounces(state, steps=600):
    """Stays bounded, the loss does not fall by itself, and a tenth of the rate gains at once."""
    loss = state.obj.loss(state.theta)
    on, copy = curve(state, steps, noise=False)
    if not np.isfinite(on).all() or on.max() - on.min() > 50 * abs(loss - on.min()) + 1e-300:
        return False
    now = _end(curve(state, 60, 0.1, noise=False)[0], 5)
    drop = np.median(on[-100:]) - _end(curve(copied(copy), 60, 0.1, noise=False)[0], 5)
    left = loss - min(now, on.min())
    fell = np.median(on[:100]) - np.median(on[-100:])
    return loss - now > 0.05 * left and drop > 3 * abs(fell) and loss - now > 3 * max(loss - np.median(on[-100:]), 0)


def runs_away(state, steps=400):
    """A copy that goes on rises beyond all bounds, one at a tenth of the rate falls."""
    on = curve(state, steps, noise=False)[0]
    gentle = curve(state, steps, 0.1, noise=False)[0]
    fall = on[0] - _end(gentle)
    return fall > 0 and (not np.isfinite(on).all() or on[-1] - on[0] > 100 * fall)


def held_up(state):
    """The rate keeps the loss up for 600 steps; a tenth of it takes more than 60 % away, at once as well as later."""
    loss = state.obj.loss(state.theta)
    on, copy = curve(state, 600, noise=False)
    if not np.isfinite(on).all():
        return False
    now, later = (_end(curve(s, 60, 0.1, noise=False)[0], 5) for s in (state, copied(copy)))
    drop = loss - now
    return drop > 0.6 * loss and np.median(on[-100:]) - later > 0.7 * drop and now - later < 0.1 * drop


def at_the_edge(state):
    """Rate times the largest eigenvalue stays at the limit for 150 steps, while the loss falls in the long run."""
    obj, copy, found = state.obj, copied(state), []
    copy.losses = [obj.loss(copy.theta)]
    for _ in range(4):
        found.append(state.optimizer.param_groups[0]["lr"] * sharpest(obj, copy.theta) / limit(state.optimizer))
        advance(copy, 50)
    losses = np.array(copy.losses)
    if not (min(found) > 0.97 and max(found) < 1.35 and np.isfinite(losses).all()):
        return False
    now = _end(curve(state, 60, 0.1)[0], 5)
    long = advance(copy, 100)
    later = _end(curve(long, 60, 0.1)[0], 5)
    falls = losses[0] - np.median(losses[-40:]) > 0 and losses.max() < 2 * losses[0]
    return falls and now - later > 0.5 * (losses[0] - now)


def stationary_noise(state, rng, steps=400):
    """The mean loss of mini-batch steps stands still over 800 steps; the same rate without noise goes far below it."""
    first, copy = curve(state, steps, rng=rng, record=4)
    second, copy = curve(copy, steps, rng=rng, record=4)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return False
    free = curve(state, steps, noise=False)[0]
    level = float(second.mean())
    gap = level - _end(free)
    spread = np.concatenate([first, second]).std()
    soon = curve(state, 50, noise=False)[0]
    now = state.obj.loss(state.theta)
    return (gap > 0 and abs(first.mean() - second.mean()) < 0.15 * gap and abs(now - level) < 2 * spread
            and now - _end(free) > 0.5 * gap and now - _end(soon, 5) > 0.3 * gap)


def crawls(state, rng=None):
    """Ten and a hundred times the rate gain in proportion; 500 steps at this one gain next to nothing."""
    steps = 50
    one, ten, hundred = (curve(state, steps, f, noise=False)[0] for f in (1, 10, 100))
    gains = [c[0] - _end(c, 1) for c in (one, ten, hundred)]
    rounding = 100 * np.finfo(state.obj.dtype).eps * abs(one[0])
    long = curve(state, 500, noise=False)[0]
    return (gains[0] > rounding and gains[1] > 8 * gains[0] and gains[2] > 50 * gains[0]
            and long[0] - long[-1] < 0.1 * best_gain(state))


def flows(state, rng=None):
    """The next 50 steps gain much of what any rate gains, and the gain goes on."""
    start = state.obj.loss(state.theta)
    noisy = state.batch_size is not None and state.batch_size < state.obj.n_examples
    curves = [[curve(state, steps, rng=rng)[0] for _ in range(8 if noisy else 1)] for steps in (50, 150)]
    if not all(np.isfinite(c).all() for found in curves for c in found):
        return False
    on, more = (np.mean(found, axis=0) for found in curves)
    gain = start - _end(on, 5)
    others = [start - _end(curve(state, 50, f, noise=False)[0], 5) for f in (0.1, 0.3, 3.0, 10.0)]
    free = start - _end(curve(state, 50, noise=False)[0], 5)
    stays = state.obj.loss(state.theta) - _end(curve(state, 150, 0.1, noise=False)[0], 5)
    return (gain > 0.35 * max(*others, free, 1e-300) and gain > 0.8 * free and gain > stays * 0.8
            and start - _end(more, 5) > 1.05 * gain and np.diff(on)[:50].mean() < 0
            and gain > 1e3 * np.finfo(state.obj.dtype).eps * abs(start))


def flat(state, reference):
    """2,000 steps gain next to nothing of what another start reaches, and the loss hardly changes around theta."""
    obj, theta = state.obj, state.theta
    loss = obj.loss(theta)
    left = loss - reference
    long = curve(state, 2000, record=50)[0]
    rng = np.random.default_rng(0)
    radius = 0.1 * max(1.0, float(np.linalg.norm(theta)))
    around = []
    for _ in range(8):
        v = rng.standard_normal(obj.size)
        around.append(abs(obj.loss((theta + radius * v / np.linalg.norm(v)).astype(obj.dtype)) - loss))
    g = obj.loss_and_grad(theta)[1].astype(float)
    down = loss - obj.loss((theta - radius * g / np.linalg.norm(g)).astype(obj.dtype)) if g.any() else math.nan
    return left > 0 and long[0] - long[-1] < 2e-3 * left and max(around) < 1e-2 * left and down < 3e-3 * left


def critical(state, kind):
    """The gradient is tiny beside the Hessian, whose dense eigenvalues have the signs of the kind; losses agree."""
    obj, theta = state.obj, state.theta
    g = obj.loss_and_grad(theta)[1].astype(float)
    values = dense(obj, theta)
    top = np.abs(values).max()
    if not top > 0 or np.linalg.norm(g) > 2e-3 * top * 0.1 * max(1.0, np.linalg.norm(theta)):
        return False
    loss, rng = obj.loss(theta), np.random.default_rng(0)
    radius = 1e-2 * max(1.0, np.linalg.norm(theta))
    around = np.array([obj.loss((theta + radius * v / np.linalg.norm(v)).astype(obj.dtype)) - loss
                       for v in rng.standard_normal((200, obj.size))])
    if kind == "minimum":
        return values[0] > -1e-6 * top and np.linalg.norm(g) <= 1e-5 * top and (around > 0).all()
    if kind == "maximum":
        return values[-1] < 1e-6 * top and (around < 0).all()
    if not (values[0] < -1e-2 * top and values[-1] > 1e-2 * top):
        return False
    away = begin(obj, "sgd", theta=theta + 1e-2 * rng.standard_normal(obj.size), lr=0.3 / top)
    return loss - _end(np.array(advance(away, 3000, record=100).losses), 3) > 0.1 * abs(top) * radius**2


def no_second_order(state):
    """Gradient and dense Hessian vanish, and yet the loss changes around theta."""
    obj, theta = state.obj, state.theta
    g, values = obj.loss_and_grad(theta)[1], dense(obj, theta)
    v = np.random.default_rng(0).standard_normal(obj.size)
    change = abs(obj.loss(theta + 0.1 * v / np.linalg.norm(v)) - obj.loss(theta))
    return change > 0 and np.linalg.norm(g) < 1e-6 * change and np.abs(values).max() < 1e-4 * change


# --------------------------------------------------------------------------------------------------------- layers

def _sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


_SLOPES = {"silu": lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z))),
           "relu": lambda z: (z > 0) * 1.0, "tanh": lambda z: 1 / np.cosh(z) ** 2, None: np.ones_like,
           "sigmoid": lambda z: 0.25 / np.cosh(np.clip(0.5 * z, -300, 300)) ** 2,
           "elu": lambda z: np.exp(np.minimum(z, 0))}
_VALUES = {"silu": lambda z: z * _sigmoid(z),
           "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, None: lambda z: z,
           "sigmoid": lambda z: 0.5 * (1 + np.tanh(0.5 * z)),
           "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0)))}


def passes(weights, biases, activation, x, labels):
    """Pre-activation gradients, weight gradients and slopes of every layer, for softmax cross-entropy, by hand."""
    a, inputs, zs = x.astype(float), [], []
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        inputs.append(a)
        zs.append(a @ w.T + b)
        a = _VALUES[activation](zs[-1]) if i < len(weights) - 1 else zs[-1]
    p = np.exp(zs[-1] - zs[-1].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(x)), labels] -= 1
    dz, signals, grads = p / len(x), [], []
    for i in range(len(weights) - 1, -1, -1):
        signals.append(float(np.linalg.norm(dz)))
        grads.append(float(np.linalg.norm(dz.T @ inputs[i])))
        if i:
            dz = (dz @ weights[i]) * _SLOPES[activation](zs[i - 1])
    return signals[::-1], grads[::-1], [_SLOPES[activation](z) for z in zs[:-1]]
