"""Group and instance norm in both layouts and every form of the partition, for the same-bits test."""
import ml_dtypes
import numpy as np

from optcore import norm

# (shape, channel axis, groups): features alone; channels first; channels last within and beyond a tile, task, block.
SHAPES = [((700, 24), 1, 3), ((300, 60), -1, 60 // 2), ((9, 6, 7, 7), 1, 3), ((3, 4, 150, 151), 1, 2),
          ((40, 30, 49), 1, 30),
          ((5, 49, 24), -1, 8), ((2, 23, 23, 700), -1, 7), ((3, 1000, 130), -1, 130), ((2, 70, 1200), -1, 2),
          ((1, 40000, 2), -1, 1)]


def cases(rng):
    for dtype, number in (("float32", "float32"), ("float64", "float64"), (ml_dtypes.bfloat16, "float32")):
        for shape, axis, groups in SHAPES:
            x, dy, rx, rdy = ((3 + rng.standard_normal(shape)).astype(dtype) for _ in range(4))
            w, b, rw, rb = rng.standard_normal((4, shape[axis])).astype(number)
            label = f"{np.dtype(dtype)} {shape} {axis} {groups}"
            y, saved = norm.group_norm(x, groups, w, b, channel_axis=axis)
            ry, rsaved = norm.group_norm_jvp(x, w, saved, rx, rw, rb)
            yield f"forward {label}", [y, saved.mean, saved.mean_rest, saved.inv_std]
            yield f"backward {label}", norm.group_norm_backward(dy, x, w, saved)
            yield f"jvp {label}", [ry, rsaved.mean, rsaved.inv_std]
            yield f"backward jvp {label}", norm.group_norm_backward_jvp(dy, x, w, saved, rdy, rx, rw, rsaved)
