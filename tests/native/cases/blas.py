"""Matrix products on both sides of each rule of the cut: one panel, rows cut, columns cut, for small kernels, rows
turned, few rows, long sums, ragged edges."""

import numpy as np

from optcore._native.blas import matmul, use_small_kernels
from optcore.process import one_pool

SHAPES = [(1, 1, 1), (3, 5, 0), (17, 1, 9), (1, 33, 64), (5, 7, 300), (128, 10, 32), (130, 131, 257),
          (311, 129, 160), (129, 300, 700), (65, 64, 5000), (1000, 130, 64), (2, 700, 3600),
          (45, 333, 130), (130, 9, 128), (700, 500, 128), (144, 290, 200), (16, 33, 100)]
FEW_ROWS = [(10, 784, 1000), (12, 47, 200), (5, 8, 3), (6, 35, 1500)]


def cases(rng):
    for dtype in ("float32", "float64"):
        for m, n, k in SHAPES:
            for ta, tb in ((0, 0), (0, 1), (1, 0), (1, 1)):
                a = rng.standard_normal((k, m) if ta else (m, k)).astype(dtype)
                b = rng.standard_normal((n, k) if tb else (k, n)).astype(dtype)
                out, total = np.full((m, n), np.nan, dtype), np.ones((m, n), dtype)
                with one_pool:
                    matmul(a, b, out, ta, tb)
                    matmul(a, b, total, ta, tb, accumulate=True)
                yield f"{dtype} {(m, n, k)} {'nt'[ta]}{'nt'[tb]}", [out, total]
                if k:
                    with one_pool:
                        matmul(a, b, out, ta, tb, plus=(a, b))
                    yield f"two of {dtype} {(m, n, k)} {'nt'[ta]}{'nt'[tb]}", [out]
    before = use_small_kernels(False)  # of BLAS, which would take these where it has some
    for dtype in ("float32", "float64"):
        for m, n, k in FEW_ROWS:
            for ta, tb in ((1, 0), (0, 0), (0, 1)):
                a = rng.standard_normal((k, m) if ta else (m, k)).astype(dtype)
                b = rng.standard_normal((n, k) if tb else (k, n)).astype(dtype)
                out = np.empty((m, n), dtype)
                with one_pool:
                    matmul(a, b, out, ta, tb)
                yield f"few rows {dtype} {(m, n, k)} {'nt'[ta]}{'nt'[tb]}", [out]
    use_small_kernels(before)
