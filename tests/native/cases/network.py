"""Compiled networks: gradient, step and output, small enough to be serial and large enough to be shared."""

import numpy as np

import optcore as oc
from optcore.process import one_pool

SIZES = [(5, 7, 6, 3), (97, 300, 280, 40)]


def network(sizes, dtype):
    a, b, c, d = sizes
    nn = oc.nn
    return nn.Sequential(nn.Linear(a, b), nn.BatchNorm(b), nn.ReLU(), nn.Linear(b, c), nn.ELU(), nn.Linear(c, c),
                         nn.Tanh(), nn.Linear(c, c, bias=False), nn.Sigmoid(), nn.Linear(c, d), dtype=dtype)


def cases(rng):
    for dtype in ("float32", "float64"):
        for sizes in SIZES:
            x, index = rng.standard_normal((400, sizes[0])).astype(dtype), rng.permutation(400)
            targets = {"cross_entropy": rng.integers(0, sizes[-1], 400),
                       "mse": rng.standard_normal((400, sizes[-1])).astype(dtype)}
            for loss, target in targets.items():
                yield f"{loss} {dtype} {sizes}", run(network(sizes, dtype), x, target, loss, index)


def run(net, x, target, loss, index):
    grad, opt = np.full_like(net.theta, np.nan), oc.optim.AdamW(net.theta, clip_norm=0.1)
    values = [net.loss_and_grad(x, target, loss, grad)]
    with one_pool:
        for n in (300, 17):
            network = net.compiled.take(n, True)
            values.append(network.step(x, target, index[:n], loss, grad, grad, opt))
            net.compiled.give(network, True)
    return [np.array(values), grad, net.theta, *net.buffers.values(), net.predict(x)]
