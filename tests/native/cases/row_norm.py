"""Layer and RMS norm over every form of the partition, for the same-bits test."""

import ml_dtypes
import numpy as np

from optcore import norm

# Rows shorter and longer than a line, a vector, a block of lanes; whole and cut bands of them; one row, more rows than
# blocks; a fold of blocks.
SHAPES = [(1, 1), (300, 3), (33, 15), (517, 16), (70, 17), (40, 64), (129, 100), (1000, 129), (37, 300), (11, 511),
          (9, 700), (5, 8192), (3, 20001), (1, 40000), (0, 3)]


def cases(rng):
    for dtype, number in (("float32", "float32"), ("float64", "float64"), (ml_dtypes.bfloat16, "float32")):
        for shape in SHAPES:
            x, dy, rx, rdy = ((3 + rng.standard_normal(shape)).astype(dtype) for _ in range(4))
            w, b, rw, rb = rng.standard_normal((4, shape[-1])).astype(number)
            label = f"{np.dtype(dtype)} {shape}"
            for name, bias, rbias in (("layer_norm", [b], [rb]), ("rms_norm", [], [])):
                y, saved = getattr(norm, name)(x, w, *bias)
                ry, rsaved = getattr(norm, f"{name}_jvp")(x, w, saved, rx, rw, *rbias)
                yield f"{name} {label}", [y, saved.mean, saved.mean_rest, saved.inv_std]
                yield f"{name} backward {label}", getattr(norm, f"{name}_backward")(dy, x, w, saved)[:2]
                yield f"{name} jvp {label}", [ry, rsaved.mean, rsaved.inv_std]
                yield f"{name} backward jvp {label}", getattr(norm, f"{name}_backward_jvp")(
                    dy, x, w, saved, rdy, rx, rw, rsaved)[:2]
