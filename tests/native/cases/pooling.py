"""Pools, with equal values, NaN and infinities among the images."""

import numpy as np

from optcore._native import pooling

# Images, channels, height, width, kernel, stride, padding.
SHAPES = [(0, 2, 4, 5, (2, 2), (2, 2), (0, 0)), (1, 1, 1, 1, (1, 1), (1, 1), (0, 0)),
          (3, 2, 7, 9, (3, 2), (2, 1), (1, 1)), (64, 6, 28, 28, (2, 2), (2, 2), (0, 0)),
          (9, 5, 33, 35, (3, 3), (2, 2), (1, 1)), (2, 3, 20, 18, (5, 4), (3, 3), (2, 1))]


def cases(rng):
    for dtype in ("float32", "float64"):
        for n, c, height, width, *window in SHAPES:
            x = rng.integers(-4, 5, (n, c, height, width)).astype(dtype)
            dirty = x.copy()
            dirty.flat[::7], dirty.flat[::11] = np.nan, -np.inf
            y, argmax = pooling.max_pool(dirty, *window)
            dy = rng.standard_normal(y.shape).astype(dtype)
            mean = pooling.average_pool(x, *window)
            yield f"{dtype} {n}x{c}x{height}x{width} {window}", [
                y, argmax, pooling.max_pool_backward(dy, argmax, (height, width), *window),
                pooling.max_pool_r(x, argmax, *window), mean,
                pooling.average_pool_backward(dy, (height, width), *window)]
