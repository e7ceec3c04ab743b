"""Batch norm in float32, training, against PyTorch, NumPy, and plain C loops with the least traffic that it needs.

Bytes: forward 8 an element (read x, write y), backward 12 (read dy and x, write dx). The statistics have to be known
before the first result can be written, so x (and dy) are walked twice. "loop" walks them once, the least traffic there
is; "walk twice" reads them, then does the same: where it takes as long as batch norm does, memory is the limit, of
every implementation.

Batch norm with ReLU: fused against PyTorch's two operations (ReLU into a new array, as torch.relu), and against our own
two. In training nothing but x has to be read, and dy; so the fused form walks as much as batch norm alone.

PyTorch takes fresh pages at every call, NumPy does too: both, and optcore, run with an allocator that keeps them
(GLIBC_TUNABLES), or the ratio would measure the kernel. A process gets that at its start, so the bench starts itself
again with it.
"""

import ctypes
import os
import subprocess
import sys

import harness
import numpy as np
from workers import PAGES_KEPT

# Shape, channel axis, target of forward + backward against PyTorch.
ROWS = [((4096, 512), 1, 1.2), ((32, 64, 56, 56), 1, 1.5), ((32, 56, 56, 64), -1, 0.97),
        ((64, 256, 14, 14), 1, None), ((8, 512, 7, 7), 1, None), ((128, 1024), 1, None), ((65536, 64), 1, None),
        ((64, 14, 14, 256), -1, None), ((32, 128), 1, None)]

# The fused form against our own two operations: forward, forward + backward.
FUSED_TARGETS = {"forward": 1.5, "both": 1.3}


def ours(x, dy, w, b, axis):
    from optcore import norm

    mean, var = np.zeros(w.size, np.float32), np.ones(w.size, np.float32)

    def forward():
        return norm.batch_norm(x, w, b, mean, var, training=True, channel_axis=axis)

    def both():
        _, saved = forward()
        return norm.batch_norm_backward(dy, x, w, saved)

    return forward, both


def torchs(x, dy, w, b, axis):
    """The operators that torch.nn.BatchNorm2d reaches, without its Python; channels last as a memory format."""
    import torch

    aten = torch.ops.aten
    tx, tdy = torch.from_numpy(x), torch.from_numpy(dy)
    if axis == -1:
        tx, tdy = tx.movedim(-1, 1), tdy.movedim(-1, 1)
    tw, tb, mean, var = torch.from_numpy(w), torch.from_numpy(b), torch.zeros(w.size), torch.ones(w.size)

    def forward():
        return aten.native_batch_norm(tx, tw, tb, mean, var, True, 0.1, 1e-5)

    def both():
        _, m, s = forward()
        return aten.native_batch_norm_backward(tdy, tx, tw, mean, var, m, s, True, 1e-5, [True, True, True])

    return forward, both


def ours_fused(x, dy, w, b, axis):
    from optcore import norm

    mean, var = np.zeros(w.size, np.float32), np.ones(w.size, np.float32)

    def forward():
        return norm.batch_norm(x, w, b, mean, var, training=True, channel_axis=axis, activation="relu")

    def both():
        _, saved = forward()
        return norm.batch_norm_backward(dy, x, w, saved)

    return forward, both


def ours_in_two(x, dy, w, b, axis):
    from optcore import functional, norm

    forward_norm, _ = ours(x, dy, w, b, axis)

    def forward():
        z, saved = forward_norm()
        return functional.relu(z), saved

    def both():
        y, saved = forward()
        return norm.batch_norm_backward(functional.relu_backward(dy, y), x, w, saved)

    return forward, both


def torchs_in_two(x, dy, w, b, axis):
    import torch

    aten = torch.ops.aten
    tx, tdy = torch.from_numpy(x), torch.from_numpy(dy)
    if axis == -1:
        tx, tdy = tx.movedim(-1, 1), tdy.movedim(-1, 1)
    tw, tb, mean, var = torch.from_numpy(w), torch.from_numpy(b), torch.zeros(w.size), torch.ones(w.size)

    def forward():
        z, m, s = aten.native_batch_norm(tx, tw, tb, mean, var, True, 0.1, 1e-5)
        return aten.relu(z), m, s

    def both():
        y, m, s = forward()
        dz = aten.threshold_backward(tdy, y, 0)
        return aten.native_batch_norm_backward(dz, tx, tw, mean, var, m, s, True, 1e-5, [True, True, True])

    return forward, both


def numpys(x, dy, w, b, axis):
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    each = tuple(slice(None) if i == axis % x.ndim else None for i in range(x.ndim))

    def normalised():
        s = 1 / np.sqrt(x.var(axes) + np.float32(1e-5))
        return (x - x.mean(axes)[each]) * s[each], s

    def forward():
        return normalised()[0] * w[each] + b[each]

    def both():
        x_hat, s = normalised()
        y = x_hat * w[each] + b[each]
        n = np.float32(x.size / w.size)
        dbias, dweight = dy.sum(axes), (dy * x_hat).sum(axes)
        return y, (w * s)[each] * (dy - (dbias / n)[each] - x_hat * (dweight / n)[each]), dweight, dbias

    return forward, both


def loops(library, x, dy, twice):
    import optcore as oc

    y, dx = np.empty_like(x), np.empty_like(x)
    n, one, threads = ctypes.c_ssize_t(x.size), ctypes.c_float(1), oc.get_num_threads()

    def forward():
        if twice:
            library.read_all(n, harness.pointer(x), threads)
        library.scale(n, harness.pointer(x), harness.pointer(y), one, one, threads)

    def both():
        forward()
        if twice:
            library.read_all(n, harness.pointer(x), threads)
            library.read_all(n, harness.pointer(dy), threads)
        library.blend(n, harness.pointer(x), harness.pointer(dy), harness.pointer(dx), one, one, threads)

    return forward, both


def measure():
    import torch

    import optcore as oc

    torch.set_num_threads(oc.get_num_threads())
    library = harness.compile_loops()
    print(f"\nBatch norm, float32, training (PyTorch {torch.__version__}; forward 8, forward + backward 20 bytes an "
          "element)")
    missed = 0
    for shape, axis, target in ROWS:
        x, dy, w, b = problem(shape, axis)
        found = {"optcore": ours(x, dy, w, b, axis), "torch": torchs(x, dy, w, b, axis),
                 "numpy": numpys(x, dy, w, b, axis), "loop": loops(library, x, dy, False),
                 "twice": loops(library, x, dy, True)}
        name = row_name(shape, axis)
        for i, (work, size) in enumerate((("forward", 8), ("both", 20))):
            times = harness.race({k: v[i] for k, v in found.items()})
            against = harness.ratio(times, "torch")
            wanted = target if work == "both" else None
            missed += wanted is not None and against < wanted
            speed = x.size * size / harness.median(times, "optcore") / 1e9
            print(f"{name:26} {work:8} {speed:6.1f} GB/s, {harness.ratio(times, 'loop'):5.2f} of the loop, "
                  f"{harness.ratio(times, 'twice'):5.2f} of walking twice, "
                  f"{harness.ratio(times, 'numpy'):6.1f}x NumPy, PyTorch "
                  + (harness.verdict(against, wanted) if wanted else f"{against:6.2f}x"))
    return missed + measure_fused()


def measure_fused():
    print("\nBatch norm + ReLU, float32, training, in one pass against two")
    missed = 0
    for shape, axis, _ in ROWS:
        arguments = *problem(shape, axis), axis
        found = {"optcore": ours_fused(*arguments), "two": ours_in_two(*arguments), "torch": torchs_in_two(*arguments)}
        for i, (work, wanted) in enumerate(FUSED_TARGETS.items()):
            times = harness.race({k: v[i] for k, v in found.items()})
            gain = harness.ratio(times, "two")
            missed += gain < wanted
            print(f"{row_name(shape, axis):26} {work:8} PyTorch's two {harness.ratio(times, 'torch'):6.2f}x, our two "
                  + harness.verdict(gain, wanted))
    return missed


def problem(shape, axis):
    rng = np.random.default_rng(0)
    return *rng.standard_normal((2, *shape), dtype=np.float32), *rng.standard_normal((2, shape[axis]), dtype=np.float32)


def row_name(shape, axis):
    return "x".join(map(str, shape)) + (" channels last" if axis == -1 else "")


def main():
    if os.environ.get("GLIBC_TUNABLES") == PAGES_KEPT:
        return measure()
    again = subprocess.run([sys.executable, __file__], env={**os.environ, "GLIBC_TUNABLES": PAGES_KEPT}, check=False)
    return again.returncode


if __name__ == "__main__":
    sys.exit(main())
