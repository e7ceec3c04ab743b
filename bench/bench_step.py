"""A training step (forward, backward, update), float32, Adam, against PyTorch, JAX and scikit-learn.

"optcore" is what a step of ``oc.train.fit`` takes, with its gathering of the batch, checks and history; "own loop" is
``net.loss_and_grad`` and ``opt.step``; "products" are a step's matrix products alone, a limit for who calls this BLAS;
"and update" are those and the update, which roots and divisions limit. The peers are given their batches ready. Each
side has a process of its own.
"""

from functools import partial

import harness
import numpy as np
import workers
from work import LeNet, Training

import optcore as oc
from optcore.nn.compiled import loss_form

OURS, LOOP, TORCH, JAX, SKLEARN = "optcore", "own loop", "PyTorch", "JAX", "scikit-learn"
PRODUCTS, UPDATE = "products", "and update"
# Times faster than each of the peers.
ROWS = {
    "64-128-10, batch 32, batch norm": (Training((64, 128, 10), 32, 64, True), {TORCH: 10, JAX: 4, SKLEARN: 8}),
    "784-256-128-10, batch 128": (Training((784, 256, 128, 10), 128, 16), {TORCH: 2, JAX: 1.6, SKLEARN: 2.5}),
    "784-1024-1024-10, batch 512": (Training((784, 1024, 1024, 10), 512, 4), {TORCH: 1.9, JAX: 1.2}),
    "convolutions, 28 x 28, batch 64": (LeNet(64, 8), {TORCH: 1.0}),
}
# Of the median parameter after three steps. Adam divides by the root of the squared gradient: one whose gradient is
# zero but for rounding, as that of a bias before a batch norm, moves by up to lr.
TOLERANCE = 1e-6


def race(pool, work, rounds=7, seconds=0.1):
    """Return the seconds of each side, after checking that those with the same start agree."""
    with workers.Sides(pool) as sides:
        limits = (PRODUCTS, UPDATE)
        names = (OURS, LOOP, TORCH) if isinstance(work, LeNet) else (OURS, LOOP, TORCH, JAX, SKLEARN, *limits)
        for name in names:
            mine = name in (LOOP, *limits)
            sides.add(name, OURS if mine else name, work, name if mine else None)
        for name in names[1:4]:
            apart = np.median(np.abs(sides.results[name] - sides.results[OURS]))
            if not apart <= TOLERANCE:
                raise AssertionError(f"{name}: its parameters differ from optcore's by {apart:.1e}")
        return sides.race(rounds, seconds)


def report(pool, label, work, targets):
    """Print a row; return how many targets it misses."""
    times = race(pool, work)
    ratios = {name: harness.ratio(times, name) for name in times}
    shown = ", ".join(f"{name} " + (harness.verdict(ratios[name], targets[name]) if name in targets
                                    else f"{ratios[name]:6.2f}x") for name in (TORCH, JAX, SKLEARN) if name in ratios)
    print(f"{label:<33}{harness.median(times, OURS) * 1e6:8.1f} us (own loop {harness.median(times, LOOP) * 1e6:.1f}), "
          f"{shown}", flush=True)
    if PRODUCTS in times:
        limit(work, times)
    return sum(ratios[name] < target for name, target in targets.items())


def limit(work, times):
    """Print what the matrix products of a step take alone, and how fast a step of nothing else would be."""
    layers = list(zip(work.sizes, work.sizes[1:], strict=False))
    pairs = work.batch * (3 * sum(a * b for a, b in layers) - layers[0][0] * layers[0][1])
    alone = harness.median(times, PRODUCTS)
    peers, least = (", ".join(f"{name} {harness.ratio(times, name, ours):.2f}x" for name in (TORCH, JAX, SKLEARN))
                    for ours in (PRODUCTS, UPDATE))
    print(f"{'':<33}{alone * 1e6:8.1f} us, {alone / harness.median(times, OURS):.0%}, are its products "
          f"({2e-9 * pairs / alone:.0f} GFLOP/s); with nothing else {peers};\n"
          f"{'':<33}{harness.median(times, UPDATE) * 1e6:8.1f} us with the update: {least}", flush=True)


def overhead(rounds=7):
    """Print what a step takes whose kernels have next to nothing to do: all but them; return whether it misses 5 us."""
    X, y = np.ones((64, 1), "float32"), np.ones((64, 1), "float32")
    net = oc.nn.Sequential(oc.nn.Linear(1, 1))
    opt, grad = oc.optim.SGD(net.theta, lr=1e-3), np.empty_like(net.theta)
    form = loss_form("mse")

    def fit(count):
        oc.train.fit(net, X, y, "mse", opt, epochs=max(1, count // 64), batch_size=1, progress=False)

    def compiled(count):
        network, index = net.compiled.take(1, True), np.array([3])
        for _ in range(count):
            network.step(X, y, index, form, grad, grad, opt)
        net.compiled.give(network, True)

    times = harness.take_turns({name: partial(harness.burst, run) for name, run in (("fit", fit), ("call", compiled))},
                               rounds, 0.1)
    step, call = (harness.median(times, name) * 1e6 for name in ("fit", "call"))
    print(f"A step of one value through one weight: {step:.2f} us in fit, to reach 5; its compiled call {call:.2f} us")
    return step > 5


def main():
    modules = {OURS: "step_optcore", TORCH: "step_torch", JAX: "step_jax", SKLEARN: "step_sklearn"}
    pool = {name: workers.Worker(module, oc.get_num_threads(), workers.PAGES_KEPT) for name, module in modules.items()}
    print("\nTraining step, float32, Adam, against "
          + ", ".join(pool[name].ask("version") for name in (TORCH, JAX, SKLEARN)))
    missed = sum(report(pool, label, *row) for label, row in ROWS.items())
    missed += overhead()
    for worker in pool.values():
        worker.close()
    return missed


if __name__ == "__main__":
    harness.require_clean_environment()
    harness.header()
    raise SystemExit(main() > 0)
