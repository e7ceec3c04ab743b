"""Weights of examples: against PyTorch, repeated examples, and finite differences; compiled and not."""

import numpy as np
import pytest
import torch

import optcore as oc
from optcore import functional as F
from optcore.nn import BCE, MSE, BatchNorm, CrossEntropy, Huber, Linear, ReLU, Sequential, Tanh, losses, passes
from optcore.process import one_pool

N, K = 37, 5
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
LOSSES = [CrossEntropy(), CrossEntropy(label_smoothing=0.1, weight=(1, 2, 3, 4, 5)), MSE(), MSE(scale=0.5), Huber(0.7),
          BCE(), BCE(pos_weight=3, scale=K)]


def data(loss, dtype, seed=0, n=N):
    rng = np.random.default_rng(seed)
    y, weight = rng.standard_normal((n, K)).astype(dtype), rng.integers(1, 4, n).astype(float)
    if isinstance(loss, CrossEntropy):
        return y, rng.integers(0, K, n), weight
    return y, rng.random((n, K)).astype(dtype), weight


def by_torch(loss, y, target, weight):
    """The weighted mean of the examples' losses and its gradient, in double; an example's is its outputs' mean."""
    t = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    target, w = torch.tensor(target), torch.tensor(weight)
    if isinstance(loss, CrossEntropy):
        classes = torch.tensor(loss.weight or [1.0] * K, dtype=torch.float64)
        each = torch.nn.functional.cross_entropy(t, target, reduction="none", weight=classes,
                                                 label_smoothing=loss.label_smoothing)
        value = (w * each).sum() / (w * classes[target]).sum()
    else:
        functions = {MSE: torch.nn.functional.mse_loss, Huber: torch.nn.functional.huber_loss,
                     BCE: torch.nn.functional.binary_cross_entropy_with_logits}
        options = {"delta": loss.delta} if isinstance(loss, Huber) else {}
        if isinstance(loss, BCE) and loss.pos_weight:
            options["pos_weight"] = torch.tensor(loss.pos_weight, dtype=torch.float64)
        each = functions[type(loss)](t, target.double(), reduction="none", **options).mean(dim=1)
        value = getattr(loss, "scale", 1) * (w * each).sum() / w.sum()
    value.backward()
    return value.item(), t.grad.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_against_torch(loss, dtype):
    y, target, weight = data(loss, dtype)
    value, dy = loss.value(y, target, sample_weight=weight)
    expected, gradient = by_torch(loss, y, target, weight)
    # An exponential and a few roundings to the dtype; where a gradient crosses zero, of its terms.
    assert value == pytest.approx(expected, rel=8 * EPS[dtype])
    np.testing.assert_allclose(dy, gradient, rtol=16 * EPS[dtype], atol=16 * EPS[dtype] * abs(gradient).max())
    assert loss.value(y, target, gradient=False, sample_weight=weight) == (value, None)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_weight_is_a_number_of_copies(loss):
    y, target, weight = data(loss, "float64")
    copies = np.repeat(np.arange(N), weight.astype(int))
    value, dy = loss.value(y, target, sample_weight=weight)
    repeated, dy_repeated = loss.value(y[copies], target[copies])
    assert value == pytest.approx(repeated, rel=1e-14)          # two orders of a sum in double
    np.testing.assert_allclose(dy, np.add.reduceat(dy_repeated, np.r_[0, np.cumsum(weight)[:-1]].astype(int)),
                               rtol=1e-13, atol=1e-16)
    ry = np.random.default_rng(1).standard_normal((N, K))
    found = loss.curvature(y, target, sample_weight=weight)(ry.copy())
    expected = loss.curvature(y[copies], target[copies])(ry[copies].copy())
    np.testing.assert_allclose(found, np.add.reduceat(expected, np.r_[0, np.cumsum(weight)[:-1]].astype(int)),
                               rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_equal_weights_are_none(loss):
    y, target, _ = data(loss, "float64")
    value, dy = loss.value(y, target, sample_weight=np.full(N, 4.0))
    plain, dy_plain = loss.value(y, target)
    assert value == pytest.approx(plain, rel=1e-14)
    np.testing.assert_allclose(dy, dy_plain, rtol=1e-13, atol=1e-17)


def test_any_shape_and_soft_targets():
    rng = np.random.default_rng(2)
    y, target, w = rng.standard_normal((6, 2, 3)), rng.standard_normal((6, 2, 3)), rng.random(6)
    value, dy = F.mse(y, target, sample_weight=w)
    assert value == pytest.approx(np.average(((y - target)**2).mean(axis=(1, 2)), weights=w), rel=1e-14)
    np.testing.assert_allclose(dy, 2 * (y - target) * w[:, None, None] / (6 * w.sum()), rtol=1e-13)
    z, q = rng.standard_normal((6, 3)), rng.random((6, 3))
    each = np.array([F.cross_entropy(z[i:i + 1], q[i:i + 1])[0] for i in range(6)])
    assert F.cross_entropy(z, q, sample_weight=w)[0] == pytest.approx(np.average(each, weights=w), rel=1e-14)


def networks(dtype):
    return Sequential(Linear(4, 6), BatchNorm(6), ReLU(), Linear(6, K), dtype=dtype)


@pytest.mark.parametrize("n", [N, 700])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_compiled_step_has_the_bits_of_the_python_passes(loss, dtype, n):
    _, target, weight = data(loss, dtype, 3, n)
    net, grad = networks(dtype), None
    x = np.random.default_rng(4).standard_normal((n, 4)).astype(dtype)
    grad, expected = np.empty_like(net.theta), np.empty_like(net.theta)
    with one_pool:
        records = passes.forward(net.program, net.theta, dict(net.buffers), x, training=True)
        value, dy = losses.find(loss).value(records[-1].y, target, sample_weight=weight)
        passes.backward(net.program, records, dy, expected)
    found = net.loss_and_grad(x, target, loss, grad, sample_weight=weight)
    assert found == value
    assert grad.tobytes() == expected.tobytes()


@pytest.mark.parametrize("batch_size", [None, 10])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_objective(loss, batch_size):
    _, target, weight = data(loss, "float64", 5)
    net = Sequential(Linear(4, 6), Tanh(), Linear(6, K), dtype="float64")
    x, v = np.random.default_rng(6).standard_normal((N, 4)), np.random.default_rng(7).standard_normal(net.theta.size)
    copies = np.repeat(np.arange(N), weight.astype(int))
    weighted = oc.nn.objective(net, loss, x, target, sample_weight=weight, batch_size=batch_size)
    repeated = oc.nn.objective(net, loss, x[copies], target[copies])
    assert weighted.loss(net.theta) == pytest.approx(repeated.loss(net.theta), rel=1e-13)
    # A Fisher matrix in batches takes the gradients of each batch's mean, which has the divisor of its classes.
    for product in ("hvp", "gauss_newton", *(["fisher"] if not (batch_size and getattr(loss, "weight", None)) else [])):
        found, expected = (getattr(o, product)(net.theta, v) for o in (weighted, repeated))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * abs(expected).max())
    step = 1e-5     # a central difference: error of order step^2 beside rounding / step
    difference = (weighted.loss_and_grad(net.theta + step * v)[1] - weighted.loss_and_grad(net.theta - step * v)[1])
    if not isinstance(loss, Huber):     # has kinks
        np.testing.assert_allclose(weighted.hvp(net.theta, v), difference / (2 * step), rtol=1e-5, atol=1e-7)


def test_a_batch_of_classes_of_weight_0_counts_nothing():
    """Classes in order: whole batches of the objective are of the one that is left out."""
    net, loss = Sequential(Linear(4, K), dtype="float64"), CrossEntropy(weight=[0, *range(1, K)])
    x, target = np.random.default_rng(6).standard_normal((8 * K, 4)), np.repeat(np.arange(K), 8)
    found, expected = (oc.nn.objective(net, loss, a, t, batch_size=b) for a, t, b in
                       ((x, target, 4), (x[8:], target[8:], None)))
    assert found.loss(net.theta) == pytest.approx(expected.loss(net.theta), rel=1e-13)
    np.testing.assert_allclose(found.loss_and_grad(net.theta)[1], expected.loss_and_grad(net.theta)[1], rtol=1e-10)


class Apart(oc.optim.SGD):
    """A rule with a step of its own: the Python passes."""

    def step(self, grads):
        super().step(grads)


@pytest.mark.parametrize("rule", [oc.optim.SGD, Apart])
def test_fit_on_weights_is_fit_on_copies(rule):
    """Full batches in order: the two runs differ by rounding alone."""
    _, target, weight = data(CrossEntropy(), "float64", 8)
    weight[:3] = 0
    x, copies = np.random.default_rng(9).standard_normal((N, 4)), np.repeat(np.arange(N), weight.astype(int))
    nets = [networks("float64") for _ in range(2)]
    nets = [Sequential(Linear(4, 6), Tanh(), Linear(6, K), dtype="float64") for _ in range(2)]
    for net, data_, w in zip(nets, ((x, target), (x[copies], target[copies])), (weight, None), strict=True):
        history = oc.train.fit(net, *data_, optimizer=rule(net.theta, lr=0.1, momentum=0.9), epochs=20, batch_size=None,
                               shuffle=False, sample_weight=w, progress=False)
        assert history.steps["examples"][0] == (N - 3 if w is not None else len(copies))
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-10, atol=1e-12)


def test_fit_in_batches_compiled_and_apart():
    _, target, weight = data(CrossEntropy(), "float32", 10)
    x, thetas = np.random.default_rng(11).standard_normal((N, 4)).astype("f4"), []
    for rule in (oc.optim.SGD, Apart):
        net = networks("float32")
        history = oc.train.fit(net, x, target, optimizer=rule(net.theta, lr=0.1), epochs=4, batch_size=8,
                               sample_weight=weight, validation=0.3, progress=False)
        thetas.append((net.theta.tobytes(), history.epochs["validation_loss"]))
    assert thetas[0] == thetas[1]


def test_validation_by_weights():
    _, target, weight = data(CrossEntropy(), "float32", 12)
    x = np.random.default_rng(13).standard_normal((N, 4)).astype("f4")
    net = networks("float32")
    history = oc.train.fit(net, x, target, epochs=1, validation=(x, target, weight), progress=False)
    out = net.predict(x)
    assert history.epochs["validation_accuracy"] == [np.average(out.argmax(axis=1) == target, weights=weight)]
    assert history.epochs["validation_loss"] == [F.cross_entropy(out, target, sample_weight=weight)[0]]


@pytest.mark.parametrize(("weight", "message"), [
    (np.ones(3), r"sample_weight: expected shape \(37,\), one weight per example, got \(3,\)"),
    (-np.ones(N), "sample_weight: expected finite numbers >= 0, got -1.0"),
    (np.full(N, np.nan), "sample_weight: expected finite numbers >= 0, got nan"),
    (np.zeros(N), "sample_weight: expected a positive one among them, got zeros only"),
], ids=["length", "negative", "NaN", "zeros"])
def test_bad_weights(weight, message):
    _, target, _ = data(CrossEntropy(), "float32")
    x, net = np.zeros((N, 4), "f4"), networks("float32")
    before = net.theta.copy()
    with pytest.raises(ValueError, match=message):
        oc.train.fit(net, x, target, sample_weight=weight, progress=False)
    with pytest.raises(ValueError, match=message):
        net.loss_and_grad(x, target, grad=np.empty_like(net.theta), sample_weight=weight)
    np.testing.assert_array_equal(net.theta, before)
