"""What the curvature of ten million parameters holds: peak of resident memory in each call, against the stated bound.

The bound is `memory`, which the basis may take, and on top the vectors of n doubles that docs/curvature.md states. The
network is 784-3000-2500-10, float32, with 100 examples. Linux only: the peak is the kernel's.
"""

import time
from pathlib import Path

import harness
import numpy as np

import optcore as oc
from optcore import curvature, nn

GIB = 2**30
MOST = 24  # GiB, for the whole process
ROWS = (  # call, GiB for the basis, vectors on top
    ("eigenpairs(H, 5, tol=1e-3)", 4, 39, lambda H, memory: curvature.eigenpairs(H, 5, tol=1e-3, memory=memory)),
    ("eigenpairs(H, 5, tol=1e-3)", 0.5, 39, lambda H, memory: curvature.eigenpairs(H, 5, tol=1e-3, memory=memory)),
    ("spectral_density(H, 1, 40)", 2, 12, lambda H, memory: curvature.spectral_density(H, 1, 40, memory=memory)),
    ("trace(H, 60)", 1, 12, lambda H, memory: curvature.trace(H, 60, memory=memory)),
    ("extremes(H, max_products=30)", 2, 12,
     lambda H, memory: curvature.extremes(H, max_products=30, memory=memory)),
)


def resident(key):
    """VmRSS or VmHWM of this process, in GiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 2**20
    raise KeyError(key)


def measure(H, call, memory):
    """(GiB above those before the call, GiB of the whole process, products, seconds)."""
    before, products, begin = resident("VmRSS"), H.products, time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    call(H, int(memory * GIB))
    peak = resident("VmHWM")
    return peak - before, peak, H.products - products, time.perf_counter() - begin


def main():
    """Print a row for each call; return how many bounds were broken."""
    layers = [nn.Linear(784, 3000), nn.ReLU(), nn.Linear(3000, 2500), nn.ReLU(), nn.Linear(2500, 10)]
    net, rng = nn.Sequential(*layers, seed=0), np.random.default_rng(0)
    X, y = rng.standard_normal((100, 784), dtype="float32"), rng.integers(0, 10, 100)
    obj = nn.objective(net, "cross_entropy", X, y)
    H = curvature.Hessian(obj, net.theta)
    H @ np.ones(obj.size, "float32")  # what the objective keeps, and BLAS's buffers
    print(f"\n{obj.size:,} parameters, {oc.get_num_threads()} threads\n{'call':30}{'memory':>8}{'bound':>8}{'peak':>8}"
          f"{'process':>9}  GiB  products  seconds")
    broken = 0
    for name, memory, vectors, call in ROWS:
        bound = memory + 8 * obj.size * vectors / GIB
        held, peak, products, seconds = measure(H, call, memory)
        missed = held > bound or peak > MOST
        print(f"{name:30}{memory:8g}{bound:8.2f}{held:8.2f}{peak:9.2f}{products:15d}{seconds:9.0f}"
              f"{'  MISSED' if missed else ''}", flush=True)
        broken += missed
    return broken


if __name__ == "__main__":
    harness.header()
    raise SystemExit(main() > 0)
