"""Column sums around the edges of the blocks of rows, narrow and wide; arrays turned."""

import numpy as np

from optcore._native.dense import column_sums, turned

SHAPES = [(0, 5), (1, 1), (3, 7), (33, 128), (129, 128), (1639, 10), (20_001, 10), (3, 20_000), (1300, 130)]


def cases(rng):
    for dtype in ("float32", "float64"):
        for shape in SHAPES:
            x, out = rng.standard_normal(shape).astype(dtype), np.full(shape[1], np.nan, dtype)
            column_sums(x, out)
            yield f"column sums {dtype} {shape}", [out, turned(x)]
