"""Prints what a step, a gradient and an evaluation take from the heap: run by test_compiled_heap.py.

Python's own objects come from the heap too (PYTHONMALLOC=malloc), so that a count that does not grow with the layers
says that there is neither memory nor Python between them.
"""

import ctypes

import numpy as np

import optcore as oc
from optcore import nn
from optcore.nn.compiled import loss_form
from optcore.nn.ops import OPS
from optcore.process import one_pool

TIMES = 10


def images():
    """Every layer on images [4, 6, 6], as often as one likes in a row."""
    return [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm(4), nn.ReLU(), nn.InstanceNorm(4), nn.GroupNorm(2, 4),
            nn.ELU(), nn.MaxPool2d(3, stride=1, padding=1), nn.AvgPool2d(3, stride=1, padding=1),
            nn.LayerNorm((6, 6)), nn.Dropout(0.1)]


def rows():
    """Every layer on rows [36]."""
    return [nn.Linear(36, 36), nn.BatchNorm(36), nn.GELU(), nn.LayerNorm(36), nn.Tanh(), nn.RMSNorm(36), nn.SiLU(),
            nn.Residual(nn.Linear(36, 36), nn.Sigmoid(), nn.GELU("tanh")), nn.GroupNorm(4, 36), nn.ELU(), nn.ReLU(),
            nn.Dropout(0.1)]


def network(depth):
    """All of them, `depth` times."""
    between = [nn.Flatten(), nn.Linear(144, 36)]
    layers = [layer for _ in range(depth) for layer in images()] + between + [r for _ in range(depth) for r in rows()]
    return nn.Sequential(*layers, nn.Linear(36, 3), input_shape=(4, 6, 6))


def taken(call):
    """Allocations of `TIMES` calls, after two that make what is kept."""
    allocations = ctypes.CDLL(None).allocations  # of allocations.c, which is preloaded
    allocations.restype = ctypes.c_long
    call(), call()
    before = allocations()
    for _ in range(TIMES):
        call()
    return allocations() - before


def main():
    """One line for each number of threads and depth: a step, a gradient, an evaluation."""
    rng, form = np.random.default_rng(0), loss_form(nn.CrossEntropy(label_smoothing=0.1, weight=[1, 2, 3]))
    x, y = rng.standard_normal((256, 4, 6, 6), dtype="float32"), rng.integers(0, 3, 256)
    out, index = np.empty((256, 3), "float32"), rng.permutation(256)
    for threads in (1, 2):
        for depth in (1, 3):
            net = network(depth)
            assert {op.name for op in net.program.every_op()} == set(OPS)
            grad, optimizer = np.empty_like(net.theta), oc.optim.AdamW(net.theta, clip_norm=1.0)
            penalty = nn.penalty.penalty_of(net.program, 1e-4, 1e-4)
            grads, weight = [grad], np.ones(256)
            with one_pool, oc.process.threads(threads):
                train, evaluate = net.compiled.take(256, True), net.compiled.take(256, False)
                print(taken(lambda: train.step(x, y, index, form, grad, grads, optimizer, weight, penalty)),  # noqa: B023
                      taken(lambda: train.loss_and_grad(x, y, form, grad, weight, penalty)),  # noqa: B023
                      taken(lambda: evaluate.output(x, out)))  # noqa: B023


if __name__ == "__main__":
    main()
