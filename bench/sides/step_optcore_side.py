"""optcore's training step: what ``oc.train.fit`` takes for one, a loop of a user's own ("own loop"), or nothing but the
matrix products of a step, cut as it cuts them ("products"), or those and the update ("and update")."""

import numpy as np
from work import LeNet

import optcore as oc
from optcore._native.blas import matmul
from optcore.process import one_pool

VERSION = oc.__version__


def le_net():
    nn = oc.nn
    return [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]


def dense(work):
    layers = []
    for i, (a, b) in enumerate(zip(work.sizes, work.sizes[1:], strict=False)):
        layers += [oc.nn.Linear(a, b)]
        if i + 2 < len(work.sizes):
            layers += [oc.nn.BatchNorm(b), oc.nn.ReLU()] if work.batch_norm else [oc.nn.ReLU()]
    return layers


def network(work):
    image = isinstance(work, LeNet)
    net = oc.nn.Sequential(*(le_net() if image else dense(work)), input_shape=(1, 28, 28) if image else None)
    weights = [p for name, p in net.parameters.items() if name.endswith("weight") and p.ndim > 1]
    for here, (weight, _) in zip(weights, work.start(), strict=True):
        here[...] = weight
    for name, p in net.parameters.items():
        if name.endswith("bias"):
            p[...] = 0
    return net


def prepare(work, variant):
    net = network(work)
    opt = oc.optim.Adam(net.theta, lr=work.lr)
    if variant in ("products", "and update"):
        return products(work, opt, np.full_like(net.theta, 1e-3), variant != "products"), lambda: [np.zeros(1)]
    X, y = work.data()
    run = own_loop(net, opt, work, X, y) if variant == "own loop" else fit(net, opt, work, X, y)
    return run, lambda: list(net.parameters.values())


def fit(net, opt, work, X, y):
    def run(count):
        while count:
            epochs = max(1, count // work.batches)
            steps = min(count, work.batches)
            n = steps * work.batch
            oc.train.fit(net, X[:n], y[:n], optimizer=opt, epochs=epochs, batch_size=work.batch, shuffle=False,
                         progress=False)
            count -= epochs * steps

    return run


def own_loop(net, opt, work, X, y):
    batches = list(zip(np.split(X, work.batches), np.split(y, work.batches), strict=True))
    grad = np.empty_like(net.theta)

    def run(count):
        for i in range(count):
            x, target = batches[i % len(batches)]
            net.loss_and_grad(x, target, grad=grad)
            opt.step(grad)

    return run


def products(work, opt, grad, update):
    jobs = []
    for i, (a, b) in enumerate(zip(work.sizes, work.sizes[1:], strict=False)):
        x, y, weight = (np.ones(shape, "float32") for shape in ((work.batch, a), (work.batch, b), (b, a)))
        jobs += [(x, weight, np.empty_like(y), False, True), (y, x, np.empty_like(weight), True)]
        jobs += [(y, weight, np.empty_like(x))] if i else []

    def run(count):
        with one_pool:
            for _ in range(count):
                for job in jobs:
                    matmul(*job)
                if update:
                    opt.step(grad)

    return run
