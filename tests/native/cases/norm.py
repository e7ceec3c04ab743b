"""Batch norm over every form of the partition, for the same-bits test."""

import ml_dtypes
import numpy as np

from optcore import norm

# (shape, channel axis): folded rows with a tail, one panel, several panels, short and wide; segments shorter
# and longer than a block, and than the lanes; one channel; below and above the threading threshold.
SHAPES = [((33, 3), 1), ((5001, 3), 1), ((2100, 64), -1), ((700, 130), 1), ((129, 1100), 1), ((300, 528), 1),
          ((7, 9000), 1), ((90, 1000), 1), ((70, 2600), 1), ((3, 5, 7, 7), 1), ((9, 4, 31, 33), 1), ((2, 3, 20001), 1),
          ((40, 70, 49), 1), ((60, 70, 9), 1), ((100003, 1), 1), ((1, 1, 150001), 1)]


def cases(rng):
    for dtype, number in (("float32", "float32"), ("float64", "float64"), (ml_dtypes.bfloat16, "float32")):
        for shape, axis in SHAPES:
            x, dy, rx, rdy = ((3 + rng.standard_normal(shape)).astype(dtype) for _ in range(4))
            c = shape[axis]
            w, b, rw, mean = rng.standard_normal((4, c)).astype(number)
            var = np.ones(c, number)
            label = f"{np.dtype(dtype)} {shape} {axis}"
            y, saved = norm.batch_norm(x, w, b, mean, var, training=True, channel_axis=axis)
            yield f"forward {label}", [y, saved.mean, saved.mean_rest, saved.inv_std, mean, var]
            yield f"backward {label}", norm.batch_norm_backward(dy, x, w, saved)
            ry, rsaved = norm.batch_norm_jvp(x, w, saved, rx, rw, b)
            yield f"jvp {label}", [ry, rsaved.mean, rsaved.inv_std]
            yield f"backward jvp {label}", norm.batch_norm_backward_jvp(dy, x, w, saved, rdy, rx, rw, rsaved)
            _, fused = norm.batch_norm(x, w, b, training=True, channel_axis=axis, activation="relu")
            yield f"relu backward {label}", norm.batch_norm_backward(dy, x, w, fused)
            relu, fused = norm.batch_norm(x, w, b, training=True, channel_axis=axis, residual=rx, activation="relu")
            dresidual = np.empty_like(x)
            gradients = norm.batch_norm_backward(dy, x, w, fused, y=relu, dresidual=dresidual)
            yield f"residual and relu {label}", [relu, dresidual, *gradients]
            renormed, corrected = norm.batch_renorm(x, w, b, rw.copy(), var.copy(), training=True, channel_axis=axis)
            yield f"renorm {label}", [renormed, *norm.batch_renorm_backward(dy, x, w, corrected)]
            m = norm.moments(x, axis)
            both = m.merge(norm.moments(rx, axis))
            yield f"moments {label}", [m.mean, m.mean_rest, m.m2, both.mean, both.mean_rest, both.m2]
            running = {"running_mean": mean, "running_var": var, "channel_axis": axis}
            yield f"evaluation {label}", [norm.batch_norm(x, w, b, training=False, **running)[0],
                                          *norm.batch_norm_backward(dy, x, w, None, **running)]
            yield f"evaluation jvp {label}", [norm.batch_norm_jvp(x, w, None, rx, rw, b, **running)[0]]
            yield f"evaluation backward jvp {label}", norm.batch_norm_backward_jvp(
                dy, x, w, None, rdy, rx, rw, None, **running)
    yield from extreme_cases(rng)


def extreme_cases(rng):
    """Channels whose inputs take a power of 2 first, beside others."""
    for shape, axis in SHAPES:
        w = 10.0 ** rng.choice([-15, 0, 15], shape[axis]).astype(np.float32)
        x, dy, rx, rdy = (rng.choice([1e-25, 1, 1e30]) * rng.standard_normal((4, *shape))).astype(np.float32)
        _, saved = norm.batch_norm(x, w, w, training=True, channel_axis=axis, eps=0.0)
        y, fused = norm.batch_norm(x, w, w, training=True, channel_axis=axis, eps=0.0, activation="relu")
        ry, rsaved = norm.batch_norm_jvp(x, w, saved, rx, w, w)
        yield f"extremes {shape} {axis}", [
            y, *norm.batch_norm_backward(dy, x, w, fused), ry,
            *norm.batch_norm_backward_jvp(dy, x, w, saved, rdy, rx, w, rsaved)]
