"""Dropout around the edges of the blocks."""

import numpy as np

from optcore._native.dropout import dropout


def cases(rng):
    for dtype in ("float32", "float64"):
        for n in (0, 1, 17, 8191, 8193, 200_003):
            x = rng.standard_normal(n).astype(dtype)
            for p in (0.0, 0.1, 0.5, 1.0):
                yield f"{dtype} {n} {p}", [dropout(x, p, 7, 3), dropout(x, p, 2**63 - 1, -1)]
            x[:] = np.inf
            yield f"{dtype} {n} infinite", [dropout(x, 0.5, 1, 1)]
