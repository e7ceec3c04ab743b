"""A training step (forward, backward, update), float32, Adam, against PyTorch, JAX and scikit-learn.

"optcore" is what a step of ``oc.train.fit`` takes, with its gathering of the batch, checks and history; "own loop" is
``net.loss_and_grad`` and ``opt.step``. The peers are given their batches ready. Each side has a process of its own.
"""

import harness
import numpy as np
import workers
from work import Training

import optcore as oc

OURS, LOOP, TORCH, JAX, SKLEARN = "optcore", "own loop", "PyTorch", "JAX", "scikit-learn"
# Times faster than each of the peers.
ROWS = {
    "64-128-10, batch 32, batch norm": (Training((64, 128, 10), 32, 64, True), {TORCH: 10, JAX: 4, SKLEARN: 8}),
    "784-256-128-10, batch 128": (Training((784, 256, 128, 10), 128, 16), {TORCH: 2, JAX: 1.6, SKLEARN: 2.5}),
    "784-1024-1024-10, batch 512": (Training((784, 1024, 1024, 10), 512, 4), {TORCH: 1.9, JAX: 1.2}),
}
# Of the median parameter after three steps. Adam divides by the root of the squared gradient: one whose gradient is
# zero but for rounding, as that of a bias before a batch norm, moves by up to lr.
TOLERANCE = 1e-6


def race(pool, work, rounds=7, seconds=0.1):
    """Return the seconds of each side, after checking that those with the same start agree."""
    with workers.Sides(pool) as sides:
        for name in (OURS, LOOP, TORCH, JAX, SKLEARN):
            sides.add(name, OURS if name == LOOP else name, work, name if name == LOOP else None)
        for name in (LOOP, TORCH, JAX):
            apart = np.median(np.abs(sides.results[name] - sides.results[OURS]))
            if not apart <= TOLERANCE:
                raise AssertionError(f"{name}: its parameters differ from optcore's by {apart:.1e}")
        return sides.race(rounds, seconds)


def report(pool, label, work, targets):
    """Print a row; return how many targets it misses."""
    times = race(pool, work)
    ratios = {name: harness.ratio(times, name) for name in times}
    shown = ", ".join(f"{name} " + (harness.verdict(ratios[name], targets[name]) if name in targets
                                    else f"{ratios[name]:6.2f}x") for name in (TORCH, JAX, SKLEARN))
    print(f"{label:<33}{harness.median(times, OURS) * 1e6:8.1f} us (own loop {harness.median(times, LOOP) * 1e6:.1f}), "
          f"{shown}", flush=True)
    return sum(ratios[name] < target for name, target in targets.items())


def main():
    modules = {OURS: "step_optcore", TORCH: "step_torch", JAX: "step_jax", SKLEARN: "step_sklearn"}
    pool = {name: workers.Worker(module, oc.get_num_threads(), workers.PAGES_KEPT) for name, module in modules.items()}
    print("\nTraining step, float32, Adam, against "
          + ", ".join(pool[name].ask("version") for name in (TORCH, JAX, SKLEARN)))
    missed = sum(report(pool, label, *row) for label, row in ROWS.items())
    for worker in pool.values():
        worker.close()
    return missed


if __name__ == "__main__":
    harness.require_clean_environment()
    harness.header()
    raise SystemExit(main() > 0)
