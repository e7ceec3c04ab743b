"""Reductions around the lanes, the block edges and the threading threshold."""

import numpy as np

from optcore._native import reduce

SIZES = (0, 1, 15, 16, 17, 31, 33, 8191, 8192, 8193, 16385, 200_003)


def cases(rng):
    for dtype in ("float32", "float64"):
        for n in SIZES:
            x, y = ((rng.standard_normal(n) * 10.0 ** rng.uniform(-20, 20, n)).astype(dtype) for _ in range(2))
            values = [reduce.sum_squares(x), reduce.norm(x), reduce.dot(x, y), reduce.abs_max(x)]
            tiny = (x * dtype_tiny(dtype)).astype(dtype)
            yield f"{dtype} {n}", [np.array([*values, reduce.norm(tiny), reduce.count_nonfinite(x)])]
            rows, less = rng.standard_normal((7, n)).astype(dtype), x.copy()
            factors = reduce.components(rows, x)
            reduce.subtract_rows(rows, factors, less)
            yield f"projection {dtype} {n}", [factors, less]
            w = np.empty(n, dtype)
            yield f"recurrence {dtype} {n}", [np.array(reduce.recur(rows[:2], 0.5, x, w)), w]
            rows, vectors = rng.standard_normal((19, n)).astype(dtype), rng.standard_normal((4, n)).astype(dtype)
            factors = rng.standard_normal((4, 19))
            yield f"sweep {dtype} {n}", [reduce.sweep(rows, factors, vectors), vectors,
                                         reduce.sweep(rows, factors[:3], vectors[:3]), vectors]


def dtype_tiny(dtype):
    return 1e-15 if dtype == "float32" else 1e-200
