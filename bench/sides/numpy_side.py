"""NumPy without temporaries, the way a careful user writes it."""

import harness
import numpy as np

VERSION = f"NumPy {np.__version__}"


def adam(t, p, g, m, v, w, lr, betas, eps, weight_decay=0.0):
    b1, b2 = betas
    _mix(m, g, b1, w)
    _mix_square(v, g, b2, w)
    np.sqrt(v, out=w)
    w *= 1 / np.sqrt(1 - b2**t)
    w += eps
    np.divide(m, w, out=w)
    w *= lr / (1 - b1**t)
    if weight_decay:
        p *= 1 - lr * weight_decay
    p -= w


def momentum(t, p, g, m, v, w, lr, momentum):
    m *= momentum
    m += g
    np.multiply(m, lr, out=w)
    p -= w


def adagrad(t, p, g, m, v, w, lr, eps):
    np.multiply(g, g, out=w)
    v += w
    _step(p, g, v, w, lr, eps)


def rmsprop(t, p, g, m, v, w, lr, alpha, eps):
    _mix_square(v, g, alpha, w)
    _step(p, g, v, w, lr, eps)


def lion(t, p, g, m, v, w, lr, betas, weight_decay):
    b1, b2 = betas
    np.subtract(m, g, out=w)  # b1*m + (1-b1)*g = g + b1*(m-g)
    w *= b1
    w += g
    np.copysign(np.float32(lr), w, out=w)  # np.sign branches, and the signs of gradients cannot be predicted
    p *= 1 - lr * weight_decay
    p -= w
    _mix(m, g, b2, w)


def _mix(m, g, keep, w):
    m *= keep
    np.multiply(g, 1 - keep, out=w)
    m += w


def _mix_square(v, g, keep, w):
    v *= keep
    np.multiply(g, g, out=w)
    w *= 1 - keep
    v += w


def _step(p, g, v, w, lr, eps):
    np.sqrt(v, out=w)
    w += eps
    np.divide(g, w, out=w)
    w *= lr
    p -= w


RULES = {"Adam": adam, "AdamW": adam, "SGD": momentum, "Adagrad": adagrad, "RMSprop": rmsprop, "Lion": lion}


def prepare(work, variant):
    params, grads = work.data()
    flat = [(p.reshape(-1), g.reshape(-1), *(np.zeros(p.size, p.dtype) for _ in range(3)))
            for p, g in zip(params, grads, strict=True)]
    rule, t = RULES[work.rule], 0

    def step():
        nonlocal t
        t += 1
        if work.clip_norm:
            clip([g for _, g, *_ in flat], work.clip_norm)
        for arrays in flat:
            rule(t, *arrays, **work.options)

    return harness.repeated(step), lambda: params


def clip(grads, most):
    norm = np.sqrt(sum(np.dot(g, g) for g in grads))
    for g in grads:
        g *= min(np.float32(1), most / (norm + np.float32(1e-6)))
