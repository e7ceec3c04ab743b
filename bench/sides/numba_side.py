"""numba: one loop for each tensor, parallel where the tensor is large."""

import harness
import numba
import numpy as np

VERSION = f"numba {numba.__version__}"
# Below, a parallel region costs more than it gains.
WORTH_TWO = 16384
# The loops may be reordered as the plain C loop may, and a division by zero gives infinity.
COMPILER = {"fastmath": True, "error_model": "numpy"}
ONE = np.float32(1)


def adam(p, g, m, v, scale, lr, decay, b1, b2, eps, c1, c2):
    for i in numba.prange(p.size):
        gi = scale * g[i]
        m[i] = b1 * m[i] + (ONE - b1) * gi
        v[i] = b2 * v[i] + (ONE - b2) * gi * gi
        p[i] = (ONE - lr * decay) * p[i] - lr * c1 * m[i] / (np.sqrt(v[i]) * c2 + eps)


def momentum(p, g, m, v, scale, lr, decay, b1, b2, eps, c1, c2):
    for i in numba.prange(p.size):
        m[i] = b1 * m[i] + scale * g[i]
        p[i] -= lr * m[i]


def adagrad(p, g, m, v, scale, lr, decay, b1, b2, eps, c1, c2):
    for i in numba.prange(p.size):
        gi = scale * g[i]
        v[i] += gi * gi
        p[i] -= lr * gi / (np.sqrt(v[i]) + eps)


def rmsprop(p, g, m, v, scale, lr, decay, b1, b2, eps, c1, c2):
    for i in numba.prange(p.size):
        gi = scale * g[i]
        v[i] = b2 * v[i] + (ONE - b2) * gi * gi
        p[i] -= lr * gi / (np.sqrt(v[i]) + eps)


def lion(p, g, m, v, scale, lr, decay, b1, b2, eps, c1, c2):
    for i in numba.prange(p.size):
        gi = scale * g[i]
        p[i] = (ONE - lr * decay) * p[i] - lr * np.sign(b1 * m[i] + (ONE - b1) * gi)
        m[i] = b2 * m[i] + (ONE - b2) * gi


def sum_squares(g):
    total = np.float32(0)
    for i in numba.prange(g.size):
        total += g[i] * g[i]
    return total


RULES = {"Adam": adam, "AdamW": adam, "SGD": momentum, "Adagrad": adagrad, "RMSprop": rmsprop, "Lion": lion}
compiled = {(f, parallel): numba.njit(parallel=parallel, **COMPILER)(f)
            for f in {*RULES.values(), sum_squares} for parallel in (False, True)}


def prepare(work, variant):
    params, grads = work.data()
    tensors = [(p.reshape(-1), g.reshape(-1), np.zeros(p.size, p.dtype), np.zeros(p.size, p.dtype))
               for p, g in zip(params, grads, strict=True)]
    rule = [compiled[RULES[work.rule], p.size > WORTH_TWO] for p in params]
    square = [compiled[sum_squares, p.size > WORTH_TWO] for p in params]
    o, t = work.options, 0
    b1, b2 = o.get("betas", (o.get("momentum", 0), o.get("alpha", 0)))
    fixed = [np.float32(x) for x in (o["lr"], o.get("weight_decay", 0), b1, b2, o.get("eps", 0))]

    def step():
        nonlocal t
        t += 1
        scale = ONE
        if work.clip_norm:
            norm = np.sqrt(sum(f(g) for f, (_, g, *_) in zip(square, tensors, strict=True)))
            scale = np.float32(min(1, work.clip_norm / (norm + 1e-6)))
        corrections = np.float32(1 / (1 - b1**t)), np.float32(1 / np.sqrt(1 - b2**t))
        for f, arrays in zip(rule, tensors, strict=True):
            f(*arrays, scale, *fixed, *corrections)

    return harness.repeated(step), lambda: params
