"""Compiled networks: gradient, step and output, small enough to be serial and large enough to be shared."""

import numpy as np

import optcore as oc
from optcore.nn.compiled import loss_form
from optcore.nn.penalty import penalty_of
from optcore.process import one_pool

SIZES = [(5, 7, 6, 3), (97, 300, 280, 40)]


def network(sizes, dtype):
    a, b, c, d = sizes
    nn = oc.nn
    return nn.Sequential(nn.Linear(a, b), nn.BatchNorm(b), nn.ReLU(), nn.Linear(b, c), nn.ELU(), nn.Linear(c, c),
                         nn.Tanh(), nn.Linear(c, c, bias=False), nn.Sigmoid(), nn.Linear(c, d), dtype=dtype)


def images(dtype):
    nn = oc.nn
    return nn.Sequential(nn.Conv2d(2, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
                         nn.Residual(nn.Conv2d(6, 6, 3, padding=1), nn.GELU()), nn.AvgPool2d(2), nn.Flatten(),
                         nn.Linear(96, 5), dtype=dtype, input_shape=(2, 16, 16))


LOSSES = {"weighted": oc.nn.CrossEntropy(label_smoothing=0.1, weight=(1, 2, 3, 4, 5)), "huber": oc.nn.Huber(0.3),
          "bce": oc.nn.BCE(pos_weight=(1, 2, 3, 4, 5))}


def cases(rng):
    for dtype in ("float32", "float64"):
        x = rng.standard_normal((400, 2, 16, 16)).astype(dtype)
        for name, loss in LOSSES.items():
            target = rng.integers(0, 5, 400) if name == "weighted" else rng.random((400, 5)).astype(dtype)
            yield f"images {name} {dtype}", run(images(dtype), x, target, loss, rng.permutation(400))
        for sizes in SIZES:
            x, index = rng.standard_normal((400, sizes[0])).astype(dtype), rng.permutation(400)
            targets = {"cross_entropy": rng.integers(0, sizes[-1], 400),
                       "mse": rng.standard_normal((400, sizes[-1])).astype(dtype)}
            for loss, target in targets.items():
                yield f"{loss} {dtype} {sizes}", run(network(sizes, dtype), x, target, loss, index)


def run(net, x, target, loss, index):
    grad, opt = np.full_like(net.theta, np.nan), oc.optim.AdamW(net.theta, clip_norm=0.1)
    values, weight = [net.loss_and_grad(x, target, loss, grad)], np.arange(1.0, 401.0)
    values.append(net.loss_and_grad(x, target, loss, grad, sample_weight=weight))
    with one_pool:
        for n in (300, 17):
            network = net.compiled.take(n, True)
            values.append(network.step(x, target, index[:n], loss_form(loss), grad, grad, opt,
                                       weight if n == 17 else None, penalty_of(net.program, l1=1e-3, l2=n / 1e4)))
            net.compiled.give(network, True)
    return [np.array(values), grad, net.theta, *net.buffers.values(), net.predict(x)]
