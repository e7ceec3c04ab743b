"""Norms in float32, training, against PyTorch, JAX, NumPy, and plain C loops with the least traffic that they need.

Bytes: forward 8 an element (read x, write y), backward 12 (read dy and x, write dx). Batch norm's statistics have to
be known before the first result can be written, so x (and dy) are walked twice. "loop" walks them once, the least
traffic there is; "walking twice" reads them, then does the same: where it takes as long as batch norm does, memory is
the limit, of every implementation. "in double" takes a sum and a sum of products in double on the first walk, which
exact statistics cannot do without: the limit of arrays in cache. Beside a missed row of batch norm stands what the
target leaves, what those loops take, and a call of an array of eight numbers, all checks included. A row or a group
stays in cache between its statistics and its results: "loop" is the limit of the other norms, or "past the caches",
the same loop with stores that do not read what they overwrite. Where the arrays of layer and RMS norm are in cache
their limit is "in double", row by row those sums, then the results; beside a missed target stands the same as for
batch norm.

Batch norm with ReLU: in one pass against PyTorch's two operations, and against our own two. In training nothing but x
has to be read, and dy; so the fused form walks as much as batch norm alone, whose time is its limit.

Every side runs in a process of its own, with an allocator that keeps its pages (GLIBC_TUNABLES): the results are fresh
arrays, whose pages would else come from the kernel at every call.
"""

import dataclasses
import math

import harness
import workers
from work import Norm

import optcore as oc

OURS, TORCH, JAX, NUMPY, LOOP = "optcore", "PyTorch", "JAX", "NumPy", "loop"
TWICE, IN_DOUBLE, PAST = "walking twice", "in double", "past the caches"
APART, ALONE, EMPTY = "our two", "the norm alone", "an empty call"
LIMITS = LOOP, TWICE, IN_DOUBLE, PAST, ALONE, EMPTY  # sides that do less
EMPTY_SHAPE = (2, 4)
IN_CACHE = 4 << 20  # bytes of an array
JAX_TARGET = 2.0  # everywhere

# Shape, channel axis; times faster than PyTorch, forward and with the backward pass; the floor of the latter.
BATCH = [((4096, 512), 1, 1.6, 1.25, 1.2), ((65536, 64), 1, 1.6, 1.25, None), ((128, 1024), 1, 2.0, 2.0, None),
         ((32, 128), 1, None, None, None), ((32, 64, 56, 56), 1, 4.0, 2.3, 1.5), ((64, 256, 14, 14), 1, 4.0, 2.3, None),
         ((8, 512, 7, 7), 1, 2.0, 2.0, None), ((32, 56, 56, 64), -1, 1.6, 1.25, 0.97),
         ((64, 14, 14, 256), -1, 1.6, 1.25, None)]
FUSED_TARGETS = {False: 1.5, True: 1.3}  # of our own two operations: forward, with the backward pass
# Norm, shape, channel axis, groups; times faster than PyTorch.
OTHERS = [("layer_norm", (8192, 1024), -1, None, 1.15), ("rms_norm", (8192, 1024), -1, None, 1.15),
          ("layer_norm", (512, 1024), -1, None, None), ("rms_norm", (512, 1024), -1, None, None),
          ("layer_norm", (8192, 64), -1, None, None), ("group_norm", (32, 64, 56, 56), 1, 32, None),
          ("group_norm", (64, 256, 14, 14), 1, 32, None), ("group_norm", (32, 56, 56, 64), -1, 32, None),
          ("instance_norm", (32, 64, 56, 56), 1, 64, None)]
# Sums over up to 4e5 elements, in float32 on the peers' sides, relative to the largest of them.
TOLERANCE = 1e-4
# Of the numbers compared: a ReLU whose input is 0 to rounding lets the gradient through on one side only, into two sums
# of its channel.
FLIPPED = 0.02


def race(pool, work, names, rounds=9):
    """Return the seconds of each side, after checking that they agree. `names` has worker and variant of each."""
    with workers.Sides(pool) as sides:
        for name, (worker, variant, its_work) in names.items():
            sides.add(name, worker, its_work or work, variant)
            if name not in LIMITS:
                apart = abs(sides.results[name] - sides.results[OURS])
                far = ~(apart <= TOLERANCE * abs(sides.results[OURS]).max())
                if far.mean() > (FLIPPED if work.relu and work.backward else 0):
                    raise AssertionError(f"{work.name} {work}: {name} differs from optcore by {apart.max():.1e}")
        return sides.race(rounds, 0.05)


def peers(*names):
    return {name: (name, None, None) for name in names}


def label(work):
    return f"{work} {'both' if work.backward else 'forward'}".ljust(36)


def gigabytes(work, seconds):
    return math.prod(work.shape) * work.bytes_each / seconds / 1e9


def speed(work, times):
    return f"{gigabytes(work, harness.median(times, OURS)):6.1f} GB/s"


def limit(work, times):
    """What the missed target against JAX asks of memory, and what the loops get of it."""
    asked = gigabytes(work, harness.median(times, JAX) / JAX_TARGET)
    loops = gigabytes(work, min(harness.median(times, LOOP), harness.median(times, PAST)))
    return f"    {JAX_TARGET}x JAX is {asked:.1f} GB/s, the loops reach {loops:.1f}: " + (
        "memory forbids it" if loops < asked else "arithmetic, not memory, is the limit")


def least(times, name, target):
    """What a missed target leaves, and what of it we, the loops in double and an empty call take.

    Loops that take longer than we do, being what the compiler makes of them, are no limit.
    """
    left, ours, loops, call = (1e6 * t for t in (harness.median(times, name) / target,
                                                 *(harness.median(times, n) for n in (OURS, IN_DOUBLE, EMPTY))))
    verdict = "they leave room" if loops + call <= left else "they forbid it" if loops + call <= ours else "no limit"
    return (f"    {target}x {name} is {left:.1f} us of our {ours:.1f}; loops in double {loops:.1f} + an empty call "
            f"{call:.1f} = {loops + call:.1f}: {verdict}")


def against(times, name, target=None, floor=None):
    """Return (what to print, whether the target is missed)."""
    value = harness.ratio(times, name)
    if target is None:
        return f"{name} {value:6.2f}x", 0
    text = f"{name} {harness.verdict(value, target)}"
    if floor is not None:
        text = f"{text[:-1]}; floor {floor}x{', MISSED' if value < floor else ''})"
    return text, value < target


def batch_norm(pool, shape, axis, forward, both, floor):
    missed = 0
    for backward, target in ((False, forward), (True, both)):
        work = Norm("batch_norm", shape, axis, backward=backward)
        times = race(pool, work, peers(OURS, TORCH, JAX, NUMPY, LOOP)
                     | {TWICE: (LOOP, "twice", None), IN_DOUBLE: (LOOP, "in double", None),
                       EMPTY: (OURS, None, dataclasses.replace(work, shape=EMPTY_SHAPE))})
        torch, torch_missed = against(times, TORCH, target, floor if backward else None)
        jax, jax_missed = against(times, JAX, JAX_TARGET)
        print(f"{label(work)}{speed(work, times)}, {harness.ratio(times, LOOP):5.2f} of the loop, "
              f"{harness.ratio(times, TWICE):5.2f} of walking twice, {harness.ratio(times, IN_DOUBLE):5.2f} in double; "
              f"{torch}, {jax}, {against(times, NUMPY)[0]}",
              flush=True)
        for name, its_target in ((TORCH, target),) * torch_missed + ((JAX, JAX_TARGET),) * jax_missed:
            print(least(times, name, its_target), flush=True)
        missed += torch_missed + jax_missed
    return missed


def fused(pool, shape, axis):
    missed = 0
    for backward, target in FUSED_TARGETS.items():
        work = Norm("batch_norm", shape, axis, backward=backward, relu="fused")
        times = race(pool, work, peers(OURS, TORCH, JAX)
                     | {APART: (OURS, None, dataclasses.replace(work, relu="apart")),
                        ALONE: (OURS, None, dataclasses.replace(work, relu=None))})
        ours, ours_missed = against(times, APART, target)
        jax, jax_missed = against(times, JAX, JAX_TARGET)
        print(f"{label(work)}{ours}; PyTorch's two {harness.ratio(times, TORCH):6.2f}x, {jax}", flush=True)
        if ours_missed:
            free = harness.ratio(times, APART, ALONE)
            print(f"    a ReLU that took no time would have {free:.2f}x: "
                  + ("the norm alone forbids it" if free < target else "it leaves room"), flush=True)
        missed += ours_missed + jax_missed
    return missed


def other(pool, name, shape, axis, groups, target):
    missed = 0
    for backward in (False, True):
        work = Norm(name, shape, axis, groups, backward)
        in_double = name in ("layer_norm", "rms_norm") and 4 * math.prod(shape) <= IN_CACHE
        times = race(pool, work, peers(OURS, TORCH, JAX, LOOP) | {PAST: (LOOP, "past", None)} | (
            {IN_DOUBLE: (LOOP, "rows in double", None),
             EMPTY: (OURS, None, dataclasses.replace(work, shape=EMPTY_SHAPE))} if in_double else {}))
        torch, torch_missed = against(times, TORCH, target)
        jax, jax_missed = against(times, JAX, JAX_TARGET)
        limits = {LOOP: "of the loop", PAST: "past the caches"} | ({IN_DOUBLE: "in double"} if in_double else {})
        reached = ", ".join(f"{harness.ratio(times, side):5.2f} {words}" for side, words in limits.items())
        print(f"{name:14}{label(work)}{speed(work, times)}, {reached}; {torch}, {jax}", flush=True)
        if jax_missed:
            print(least(times, JAX, JAX_TARGET) if in_double else limit(work, times), flush=True)
        missed += torch_missed + jax_missed
    return missed


def main():
    modules = {OURS: "norm_optcore", TORCH: "norm_torch", JAX: "norm_jax", NUMPY: "norm_numpy", LOOP: "norm_loop"}
    pool = {name: workers.Worker(module, oc.get_num_threads(), workers.PAGES_KEPT) for name, module in modules.items()}
    versions = ", ".join(pool[name].ask("version") for name in (TORCH, JAX, NUMPY))
    print(f"\nBatch norm, float32, training, against {versions}; forward 8, both passes 20 bytes an element")
    missed = sum(batch_norm(pool, *row) for row in BATCH)
    print("\nBatch norm + ReLU in one pass against two")
    missed += sum(fused(pool, *row[:2]) for row in BATCH)
    print("\nNorms of rows and groups; forward 8, both passes 20 bytes an element")
    missed += sum(other(pool, *row) for row in OTHERS)
    for worker in pool.values():
        worker.close()
    return missed


if __name__ == "__main__":
    harness.require_clean_environment()
    harness.header()
    raise SystemExit(main() > 0)
