"""Convolutions: few and many images, with and without padding, columns in one piece and in several."""

import numpy as np

from optcore._native.convolution import convolve_images, convolve_images_backward
from optcore.process import one_pool

# Images, channels in and out, height, width, kernel, stride, padding. The last are cut into rows of outputs.
SHAPES = [(0, 2, 3, 4, 5, (3, 3), (1, 1), (1, 1)), (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0)),
          (3, 2, 5, 7, 6, (3, 2), (2, 1), (1, 2)), (17, 1, 6, 28, 28, (5, 5), (1, 1), (2, 2)),
          (33, 6, 16, 14, 14, (5, 5), (1, 1), (0, 0)), (64, 3, 8, 15, 17, (3, 3), (2, 2), (1, 1)),
          (2, 64, 30, 40, 40, (3, 3), (1, 1), (1, 1)), (5, 300, 280, 6, 5, (5, 5), (1, 1), (2, 2))]


def cases(rng):
    for dtype in ("float32", "float64"):
        for n, c, o, height, width, kernel, stride, padding in SHAPES:
            x, w = (rng.standard_normal(s).astype(dtype) for s in ((n, c, height, width), (o, c, *kernel)))
            bias = rng.standard_normal(o).astype(dtype)
            outputs = [(size + 2 * p - k) // s + 1
                       for size, k, s, p in zip((height, width), kernel, stride, padding, strict=True)]
            y = np.full((n, o, *outputs), np.nan, dtype)
            found = [np.full_like(a, np.nan) for a in (w, bias, x)]
            with one_pool:
                convolve_images(x, w, bias, y, stride, padding)
                convolve_images_backward(y, x, w, *found, stride, padding)
                found.append(y.copy())
                convolve_images(x, w, None, y, stride, padding, add=True)
            yield f"{dtype} {n}x{c}x{height}x{width} {o} of {kernel} / {stride} + {padding}", [y, *found]
