"""Activations on the special values and across the block edges; losses with few and many classes and ragged tiles."""

import numpy as np

from optcore import functional as F
from optcore._native.functional import (
    DERIVATIVE_OF,
    activation,
    activation_backward,
    activation_second,
    cross_entropy_r,
)

SIZES = (0, 1, 15, 17, 255, 8191, 8193, 16385, 200_003)
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-310, -1e-310, 88.8, -88.8, -103.9, -104.1, 710.0,
           -745.1]
ROWS = ((1, 1), (3, 2), (16, 10), (17, 10), (2000, 10), (33, 40), (33, 41), (50, 63), (33, 64), (33, 65), (31, 300),
        (70, 1000), (3, 50_000))


def activations(rng, dtype):
    for n in SIZES:
        x = (rng.standard_normal(n) * 10.0 ** rng.uniform(-8, 2, n)).astype(dtype)
        if n > len(SPECIAL):
            x[-len(SPECIAL):] = SPECIAL
        dy, rdy, rx = (rng.standard_normal(n).astype(dtype) for _ in range(3))
        for name, of in DERIVATIVE_OF.items():
            y = activation(name, x)
            source = x if of == "x" else y
            yield f"{name} {dtype} {n}", [y, activation_backward(name, dy, source),
                                          activation_second(name, dy, rdy, source, rx)]
        z = np.nan_to_num(x)  # the sign of a NaN that comes of two others is not ours to promise
        for name, (loss, dx) in {"mse": F.mse(dy, rdy), "huber": F.huber(dy, rdy, 0.7),
                                 "bce": F.bce_with_logits(z, rdy, weight=abs(rx))}.items():
            yield f"{name} {dtype} {n}", [np.array(loss), dx]


def losses(rng, dtype):
    for n, k in ROWS:
        z = (rng.standard_normal((n, k)) * 10.0 ** rng.uniform(-2, 2, (n, 1))).astype(dtype)
        p = F.softmax(z)
        rz = rng.standard_normal((n, k)).astype(dtype)
        hard, dhard = F.cross_entropy(z, rng.integers(0, k, n))
        soft, dsoft = F.cross_entropy(z, F.softmax(rz))
        yield f"softmax {dtype} {n}x{k}", [p, F.log_softmax(z), cross_entropy_r(p, rz)]
        yield f"cross-entropy {dtype} {n}x{k}", [np.array([hard, soft]), dhard, dsoft]


def cases(rng):
    for dtype in ("float32", "float64"):
        yield from activations(rng, dtype)
        yield from losses(rng, dtype)
