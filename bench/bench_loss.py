"""Softmax cross-entropy with its gradient, float32, against PyTorch, JAX and a plain C loop with the same traffic.

Bytes: 8 an element, read z and write dz. "loop" is a plain loop that reads one array and writes one. What a logit takes
one thread in cache is arithmetic; its share of the time, on all threads, says whether that or memory is the limit.
Below a missed target stands what a plain loop of the same arithmetic takes, its sums in float, at its best here.

PyTorch's side is the four operators that its cross_entropy and its backward pass reach, without Python's autograd;
beside it stands what a user calls, ``torch.nn.functional.cross_entropy`` and ``backward``. Every side runs in a process
of its own, with an allocator that keeps its pages (GLIBC_TUNABLES).
"""

import harness
import numpy as np
import workers
from work import Logits

import optcore as oc

# Rows, classes; times faster than PyTorch's operators, than JAX.
ROWS = [(4096, 1000, 4.0, 2.0), (512, 10, 4.0, 2.0), (4096, 100, None, 2.0), (65536, 10, None, 2.0),
        (256, 3000, None, 2.0)]
# Numbers of classes between which nothing is to be slower than PyTorch's operators; each with about 400,000 logits.
SWEEP = (2, 3, 5, 8, 17, 31, 33, 40, 41, 48, 63, 65, 81, 100, 127, 129, 200, 300, 500, 1001, 2000, 3000)
SWEEP_SIZE = 400_000
OURS, LOOP, PLAIN, OPERATORS, AUTOGRAD, JAX = "optcore", "loop", "plain", "PyTorch", "with autograd", "JAX"
# Losses of up to 9, a mean over up to 2e5 rows, summed by the peers in float32; the gradients are far smaller.
TOLERANCE = 1e-5


def race(pool, work, names, rounds=9):
    """Return the seconds of each side, after checking that they agree."""
    variants = {AUTOGRAD: (OPERATORS, "autograd"), PLAIN: (LOOP, "arithmetic")}
    with workers.Sides(pool) as sides:
        for name in names:
            worker, variant = variants.get(name, (name, None))
            sides.add(name, worker, work, variant)
        for name in set(names) - {LOOP}:
            apart = abs(sides.results[name] - sides.results[OURS]).max()
            if not apart <= TOLERANCE:
                raise AssertionError(f"{name}: its loss or gradient differs from optcore's by {apart:.1e}, more than "
                                     f"{TOLERANCE}")
        return sides.race(rounds, 0.05)


def in_cache(classes):
    """Return the seconds a logit takes one thread where logits and gradient, half a megabyte, stay in its cache."""
    z, target = Logits(max(1, 65536 // classes), classes).data()
    dz, threads = np.empty_like(z), oc.get_num_threads()
    oc.set_num_threads(1)
    try:
        return harness.burst(harness.repeated(lambda: oc.functional.cross_entropy(z, target, out=dz)), 0.2) / z.size
    finally:
        oc.set_num_threads(threads)


def report(pool, n, classes, target, target_jax):
    """Print a row; return how many targets it misses."""
    times = race(pool, Logits(n, classes), (OURS, LOOP, PLAIN, OPERATORS, AUTOGRAD, JAX))
    seconds = harness.median(times, OURS)
    arithmetic = in_cache(classes)
    ratio = {name: harness.ratio(times, name) for name in times}
    wanted = {OPERATORS: target, JAX: target_jax}
    shown = ", ".join(f"{name} " + (harness.verdict(ratio[name], wanted[name]) if wanted.get(name)
                                    else f"{ratio[name]:6.2f}x") for name in (OPERATORS, AUTOGRAD, JAX))
    print(f"{n}x{classes}".ljust(12) + f"{seconds * 1e6:8.1f} us {8 * n * classes / seconds / 1e9:6.1f} GB/s, "
          f"{ratio[LOOP]:5.2f} of the loop; {shown}; {arithmetic * 1e9:.3f} ns a logit in cache on one thread, "
          f"{arithmetic * n * classes / oc.get_num_threads() / seconds:.2f} of the time", flush=True)
    missed = [name for name, w in wanted.items() if w is not None and ratio[name] < w]
    for name in missed:
        left, plain = (1e6 * t for t in (harness.median(times, name) / wanted[name], harness.median(times, PLAIN)))
        print(f"    {wanted[name]}x {name} is {left:.1f} us; a plain loop, row by row, takes {plain:.1f}", flush=True)
    return len(missed)


def sweep(pool):
    """Race PyTorch's operators over the numbers of classes; return how many are slower here."""
    found = {k: harness.ratio(race(pool, Logits(SWEEP_SIZE // k, k), (OURS, OPERATORS), 5), OPERATORS) for k in SWEEP}
    print("against PyTorch by classes (target 1x): " + ", ".join(
        f"{k}: {r:.2f}x{'' if r >= 1 else ' MISSED'}" for k, r in found.items()), flush=True)
    return sum(r < 1 for r in found.values())


def main():
    modules = {OURS: "loss_optcore", LOOP: "loss_loop", OPERATORS: "loss_torch", JAX: "loss_jax"}
    pool = {name: workers.Worker(module, oc.get_num_threads(), workers.PAGES_KEPT) for name, module in modules.items()}
    print("\nCross-entropy with its gradient, float32, 8 bytes an element, against "
          + ", ".join(pool[name].ask("version") for name in (OPERATORS, JAX)))
    missed = sum(report(pool, *row) for row in ROWS) + sweep(pool)
    for worker in pool.values():
        worker.close()
    return missed


if __name__ == "__main__":
    harness.require_clean_environment()
    harness.header()
    raise SystemExit(main() > 0)
