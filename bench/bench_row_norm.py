"""Layer, RMS, group and instance norm in float32 against PyTorch and a plain C loop with the least traffic.

Bytes: forward 8 an element (read x, write y), backward 12 (read dy and x, write dx). A row or group stays in cache
between its statistics and its results, so the plain loop, which walks the arrays once, is the limit. Allocators keep
their pages (GLIBC_TUNABLES), as in bench_norm.
"""

import os
import subprocess
import sys

import harness
import numpy as np
from bench_norm import loops
from workers import PAGES_KEPT

# Norm, shape, groups, channel axis, targets of forward and of forward + backward against PyTorch.
ROWS = [("layer_norm", (8192, 1024), None, -1, 1.15, 1.15), ("rms_norm", (8192, 1024), None, -1, 1.15, 1.15),
        ("layer_norm", (512, 1024), None, -1, None, None), ("rms_norm", (512, 1024), None, -1, None, None),
        ("layer_norm", (8192, 64), None, -1, None, None), ("group_norm", (32, 64, 56, 56), 32, 1, None, None),
        ("group_norm", (64, 256, 14, 14), 32, 1, None, None), ("group_norm", (32, 56, 56, 64), 32, -1, None, None),
        ("instance_norm", (32, 64, 56, 56), 64, 1, None, None)]


def ours(name, x, dy, w, b, groups, axis):
    from optcore import norm

    call, backward = getattr(norm, name), getattr(norm, f"{name}_backward")
    args = ([groups] if name == "group_norm" else []) + ([w] if name == "rms_norm" else [w, b])
    options = {} if name in ("layer_norm", "rms_norm") else {"channel_axis": axis}

    def forward():
        return call(x, *args, **options)

    def both():
        _, saved = forward()
        return backward(dy, x, w, saved)

    return forward, both


def torchs(name, x, dy, w, b, groups, axis):
    """The operators that torch.nn.LayerNorm and GroupNorm reach, without their Python. PyTorch has no operator for the
    backward pass of RMS norm on a CPU: autograd, with its graph. Channels last as a memory format."""
    import torch

    aten, f = torch.ops.aten, torch.nn.functional
    tx, tdy, tw, tb = map(torch.from_numpy, (x, dy, w, b))
    if axis == -1 and groups:
        tx, tdy = tx.movedim(-1, 1), tdy.movedim(-1, 1)
    n, c = tx.shape[:2]
    each = tx.numel() // (n * c)

    def rms_both():
        lx, lw = tx.detach().requires_grad_(), tw.detach().requires_grad_()
        f.rms_norm(lx, (w.size,), lw, 1e-5).backward(tdy)

    def layer_both():
        _, m, s = aten.native_layer_norm(tx, (w.size,), tw, tb, 1e-5)
        aten.native_layer_norm_backward(tdy, tx, (w.size,), m, s, tw, tb, [True, True, True])

    def group_both():
        _, m, s = aten.native_group_norm(tx, tw, tb, n, c, each, groups, 1e-5)
        aten.native_group_norm_backward(tdy, tx, m, s, tw, n, c, each, groups, [True, True, True])

    if name == "rms_norm":
        return lambda: f.rms_norm(tx, (w.size,), tw, 1e-5), rms_both
    if name == "layer_norm":
        return lambda: aten.native_layer_norm(tx, (w.size,), tw, tb, 1e-5), layer_both
    return lambda: aten.native_group_norm(tx, tw, tb, n, c, each, groups, 1e-5), group_both


def measure():
    import torch

    import optcore as oc

    torch.set_num_threads(oc.get_num_threads())
    library = harness.compile_loops()
    print(f"\nNorms of rows and groups, float32 (PyTorch {torch.__version__}; forward 8, forward + backward 20 bytes "
          "an element)")
    missed = 0
    for name, shape, groups, axis, *targets in ROWS:
        rng = np.random.default_rng(0)
        x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
        w, b = rng.standard_normal((2, shape[axis]), dtype=np.float32)
        found = {"optcore": ours(name, x, dy, w, b, groups, axis), "torch": torchs(name, x, dy, w, b, groups, axis),
                 "loop": loops(library, x, dy, False)}
        label = f"{name} {'x'.join(map(str, shape))}" + (f", {groups}" if groups else "")
        label += " channels last" if groups and axis == -1 else ""
        for i, (work, size, target) in enumerate(zip(("forward", "both"), (8, 20), targets, strict=True)):
            times = harness.race({k: v[i] for k, v in found.items()})
            against = harness.ratio(times, "torch")
            missed += target is not None and against < target
            speed = x.size * size / harness.median(times, "optcore") / 1e9
            print(f"{label:42} {work:8} {speed:6.1f} GB/s, {harness.ratio(times, 'loop'):5.2f} of the loop, PyTorch "
                  + (harness.verdict(against, target) if target else f"{against:6.2f}x"))
    return missed


def main():
    if os.environ.get("GLIBC_TUNABLES") == PAGES_KEPT:
        return measure()
    again = subprocess.run([sys.executable, __file__], env={**os.environ, "GLIBC_TUNABLES": PAGES_KEPT}, check=False)
    return again.returncode


if __name__ == "__main__":
    sys.exit(main())
