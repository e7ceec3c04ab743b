"""Huber's and the logistic error, smoothing and weights: against PyTorch float64 and mpmath, at extremes; errors."""

import math

import mpmath
import numpy as np
import pytest
import torch

from optcore import functional as F

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
SHAPES = [(), (1,), (300,), (70, 300)]


def against_torch(ours, peer, y, rtol, atol=0.0, target=None, **options):
    """Loss and gradient of ours(y, target), beside peer(y, target) in double."""
    t = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    want = peer(t, target)
    want.backward()
    loss, dy = ours(y, target, **options)
    assert dy.dtype == y.dtype
    assert loss == pytest.approx(want.item(), rel=rtol)
    np.testing.assert_allclose(dy, t.grad.numpy(), rtol=rtol, atol=atol)
    assert ours(y, target, gradient=False, **options) == (loss, None)


def double(a):
    return torch.tensor(np.asarray(a, np.float64))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("delta", [0.3, 1.0, 50])
def test_huber(shape, dtype, delta):
    rng = np.random.default_rng(2)
    y, target = (np.array(rng.standard_normal(shape), dtype) for _ in range(2))
    # Both in double; the gradient is rounded once to the dtype.
    against_torch(F.huber, lambda t, u: torch.nn.functional.huber_loss(t, double(u), delta=delta), y,
                  2 * EPS[dtype] if dtype == "float32" else 1e-13, target=target, delta=delta)


def test_huber_on_either_side_of_delta():
    y = np.array([-3.0, -0.5, 0.0, 0.5, 3.0, np.inf, np.nan])
    loss = [F.huber(y[i:i + 1], np.zeros(1), 0.5) for i in range(7)]
    np.testing.assert_array_equal([v for v, _ in loss], [1.375, 0.125, 0, 0.125, 1.375, np.inf, np.nan])
    np.testing.assert_array_equal([d[0] for _, d in loss], [-0.5, -0.5, 0, 0.5, 0.5, 0.5, np.nan])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("soft", [False, True])
def test_bce(shape, dtype, soft):
    rng = np.random.default_rng(3)
    z = np.array(rng.standard_normal(shape) * 4, dtype)
    target = np.array(rng.uniform(0, 1, shape) if soft else rng.integers(0, 2, shape), dtype)
    # An exponential (1 ulp) and a few roundings; a soft target's gradient crosses zero, and PyTorch's s(z) - 1 cancels.
    against_torch(F.bce_with_logits, lambda t, u: torch.nn.functional.binary_cross_entropy_with_logits(t, double(u)), z,
                  8 * EPS[dtype], 4 * EPS[dtype if soft else "float64"] / z.size, target=target)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weight", [None, 2.5, "classes", "elements"])
@pytest.mark.parametrize("pos_weight", [None, 3, "classes"])
def test_weights_of_bce(weight, pos_weight, dtype):
    rng = np.random.default_rng(4)
    z = (rng.standard_normal((40, 6)) * 3).astype(dtype)
    target = np.concatenate([rng.integers(0, 2, (20, 6)), rng.uniform(0, 1, (20, 6))]).astype(dtype)
    shape = {"classes": 6, "elements": (40, 6)}
    w, p = (rng.uniform(0, 2, shape[x]) if isinstance(x, str) else x for x in (weight, pos_weight))
    # As above; target and weight are each rounded once more, and the sum of weights may cancel in none of them.
    against_torch(F.bce_with_logits, lambda t, u: torch.nn.functional.binary_cross_entropy_with_logits(
        t, double(u), weight=None if w is None else double(w), pos_weight=None if p is None else double(p)), z,
        12 * EPS[dtype], 12 * EPS[dtype] / z.size * 6, target=target, weight=w, pos_weight=p)


@pytest.mark.parametrize("z", [-800.0, -40.0, -17.0, 0.0, 17.0, 40.0, 800.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bce_far_ahead_and_behind(z, dtype):
    """Both the loss e^-|z| of a right answer and the gradient keep their digits."""
    for target in (0.0, 1.0):
        loss, dz = F.bce_with_logits(np.full(1, z, dtype), np.full(1, target, dtype))
        with mpmath.workprec(300):
            miss = mpmath.mpf(z if target == 0 else -z)
            want, slope = mpmath.log1p(mpmath.exp(miss)), 1 / (1 + mpmath.exp(-miss))
        least = float(np.finfo(dtype).smallest_subnormal)
        assert loss == pytest.approx(float(want), rel=4 * EPS[dtype], abs=least)
        assert abs(float(dz[0])) == pytest.approx(float(slope), rel=4 * EPS[dtype], abs=least)
        assert dz[0] * (0.5 - target) >= 0


def test_bce_at_infinity():
    z, target = np.array([np.inf, -np.inf, np.inf, -np.inf, np.nan]), np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    found = [F.bce_with_logits(z[i:i + 1], target[i:i + 1]) for i in range(5)]
    np.testing.assert_array_equal([v for v, _ in found], [0, 0, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal([d[0] for _, d in found], [0, 0, 1, -1, np.nan])


def test_a_positive_weight_of_zero():
    """Nothing is left of a positive target, and nothing is undefined."""
    loss, dz = F.bce_with_logits(np.array([2.0, -1.0]), np.array([1.0, 1.0]), pos_weight=0)
    assert loss == 0
    assert not dz.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [2, 10, 41, 300])
@pytest.mark.parametrize(("smoothing", "weighted"), [(0.1, False), (0.0, True), (0.3, True), (1.0, False)])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_smoothing_and_class_weights(kind, smoothing, weighted, k, dtype):
    rng = np.random.default_rng([k, 5])
    z = (rng.standard_normal((37, k)) * 4).astype(dtype)
    target = rng.integers(0, k, 37) if kind == "classes" else rng.dirichlet(np.ones(k), 37).astype(dtype)
    w = rng.uniform(0, 3, k) if weighted else None
    peer = torch.tensor(target) if kind == "classes" else double(target)
    # 24 roundings as without options (test_losses.py), the rows of targets one more each.
    against_torch(F.cross_entropy, lambda t, _: torch.nn.functional.cross_entropy(
        t, peer, label_smoothing=smoothing, weight=None if w is None else double(w)), z, 32 * EPS[dtype],
        24 * EPS[dtype] / 37, target=target, label_smoothing=smoothing, weight=w)


def test_without_weight_the_mean_is_undefined():
    assert math.isnan(F.cross_entropy(np.zeros((3, 2)), np.zeros(3, int), weight=[0, 1])[0])
    assert F.cross_entropy(np.zeros((3, 2)), np.array([0, 1, 0]), weight=[0, 1])[0] == pytest.approx(math.log(2))


def test_empty():
    values = np.ones((0, 3))
    for f, target in ((F.huber, values), (F.bce_with_logits, values), (F.cross_entropy, np.ones(0, int))):
        loss, gradient = f(values, target)
        assert math.isnan(loss)
        assert gradient.shape == (0, 3)
    assert math.isnan(F.cross_entropy(np.ones((0, 3)), np.ones(0, int), label_smoothing=0.1)[0])


def test_in_place_is_the_same():
    rng = np.random.default_rng(6)
    y, target = rng.uniform(0, 1, (2, 50, 7))
    for f, options in ((F.huber, {}), (F.bce_with_logits, {}), (F.bce_with_logits, {"pos_weight": 2})):
        want = f(y, target, **options)[1]
        for i in range(2):
            inputs = [y.copy(), target.copy()]
            np.testing.assert_array_equal(f(*inputs, out=inputs[i], **options)[1], want)


def test_errors_change_nothing():
    y, out, classes = np.ones((6, 4), "f4"), np.full((6, 4), 9, "f4"), np.zeros(6, int)
    for call, error, message in [
        (lambda: F.huber(y, y[:3], out=out), ValueError, "target: expected the shape of y"),
        (lambda: F.huber(y, y, 0, out=out), ValueError, r"delta: expected a number in \(0, inf\), got 0"),
        (lambda: F.huber(y, y, np.inf, out=out), ValueError, r"delta: expected a number in \(0, inf\), got inf"),
        (lambda: F.huber(y, y, "1", out=out), TypeError, "delta: expected a number, got '1'"),
        (lambda: F.bce_with_logits(y, classes, out=out), TypeError, "target: expected dtype float32 or float64"),
        (lambda: F.bce_with_logits(y, y.astype("f8"), out=out), TypeError, "target: expected the dtype of z"),
        (lambda: F.bce_with_logits([1.0], y, pos_weight=1), TypeError, "z: expected a NumPy array"),
        (lambda: F.bce_with_logits(y, y, pos_weight=[1, 2], out=out), ValueError,
         r"pos_weight: expected a shape that broadcasts to that of z, \(6, 4\), got \(2,\)"),
        (lambda: F.bce_with_logits(y, y, weight=-1, out=out), ValueError, "weight: expected finite .* got -1"),
        (lambda: F.bce_with_logits(y, y, weight="heavy", out=out), TypeError, "weight: expected real numbers"),
        (lambda: F.cross_entropy(y, classes, weight=[1, 2, 3], out=out), ValueError,
         r"weight: expected shape \(4,\), one weight per class, got \(3,\)"),
        (lambda: F.cross_entropy(y, classes, weight=[1, 2, 3, np.nan], out=out), ValueError, "weight: expected finite"),
        (lambda: F.cross_entropy(y, classes, label_smoothing=1.5, out=out), ValueError,
         r"label_smoothing: expected a number in \[0, 1\], got 1.5"),
        (lambda: F.cross_entropy(y, classes, label_smoothing="a", out=out), TypeError, "label_smoothing: expected"),
        (lambda: F.cross_entropy(y, classes + 4, label_smoothing=0.1, out=out), ValueError, "target: expected classes"),
        (lambda: F.cross_entropy(y, classes - 1, weight=np.ones(4), out=out), ValueError, "target: expected classes"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert (out == 9).all()
