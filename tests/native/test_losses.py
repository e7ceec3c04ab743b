"""Losses and their gradients against PyTorch float64 and mpmath, far ahead and far behind; R-operators; errors."""

import math

import mpmath
import numpy as np
import pytest
import torch

from optcore import functional as F
from optcore._native.functional import cross_entropy_r

# Around the last class count whose lanes are rows, a full last group and not, tiles of fewer rows, rows beyond a tile.
SHAPES = [(1, 1), (5, 2), (16, 10), (37, 10), (9, 40), (9, 41), (35, 48), (9, 64), (9, 65), (3, 300), (9, 1000),
          (3, 4096), (3, 4097), (2, 5001)]
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def problem(n, k, dtype, seed=0):
    rng = np.random.default_rng([n, k, seed])
    z = (rng.standard_normal((n, k)) * 4).astype(dtype)
    q = rng.dirichlet(np.ones(k), n).astype(dtype)
    return z, rng.integers(0, k, n), q


def torch_loss(z, target):
    t = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    target = torch.tensor(target) if target.ndim == 1 else torch.tensor(target, dtype=torch.float64)
    loss = torch.nn.functional.cross_entropy(t, target)
    loss.backward()
    return loss.item(), t.grad.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_against_pytorch_in_double(n, k, dtype):
    z, classes, q = problem(n, k, dtype)
    eps = EPS[dtype]
    t = torch.tensor(z, dtype=torch.float64)
    # z_j - m is rounded once (|z| < 20: 16 eps absolute), the exponential and its share once or twice each.
    np.testing.assert_allclose(F.softmax(z), torch.softmax(t, 1).numpy(), rtol=24 * eps)
    np.testing.assert_allclose(F.log_softmax(z), torch.log_softmax(t, 1).numpy(), rtol=4 * eps, atol=16 * eps)
    for target in (classes, q):
        loss, dz = F.cross_entropy(z, target)
        want, grad = torch_loss(z, target)
        assert loss == pytest.approx(want, rel=24 * eps, abs=eps)
        np.testing.assert_allclose(dz, grad, rtol=24 * eps, atol=8 * eps / n)
        assert F.cross_entropy(z, target, gradient=False) == (loss, None)


@pytest.mark.parametrize("k", [2, 10, 64, 65, 1000])
@pytest.mark.parametrize("lead", [0.0, 1.0, 20.0, 40.0, 80.0, -20.0, -80.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_class_far_ahead_or_behind(dtype, lead, k):
    """loss = log(1 + sum of e^-lead); where PyTorch and JAX give 0 from lead = 20 on in float32."""
    z = np.zeros((3, k), dtype)
    z[1, k // 2] = lead
    target = np.full(3, k // 2)
    for t in (target, np.eye(k, dtype=dtype)[target]):
        loss, dz = F.cross_entropy(z, t)
        with mpmath.workprec(200):
            others = (k - 1) * mpmath.exp(-mpmath.mpf(lead))
            want = (mpmath.log1p(others) + 2 * mpmath.log(k)) / 3
            right, wrong = float(-others / (1 + others) / 3), float(mpmath.exp(-mpmath.mpf(lead)) / (1 + others) / 3)
        # The terms are 1 or exact powers e^-lead: an exponential (1 ulp), a share and a product remain.
        assert loss == pytest.approx(float(want), rel=4 * EPS[dtype])
        row = F.cross_entropy(z[1:2], t[1:2])[0]
        assert row == pytest.approx(float(3 * want - 2 * mpmath.log(k)), rel=1e-6 if dtype == "float32" else 1e-14)
        np.testing.assert_allclose(dz[1, k // 2], right, rtol=4 * EPS[dtype])
        np.testing.assert_allclose(np.delete(dz[1], k // 2), wrong, rtol=4 * EPS[dtype])


@pytest.mark.parametrize("k", [255, 256, 257, 272, 1000, 4097])
@pytest.mark.parametrize("rest", [1e-12, 1e-6, 0.5, 0.999, 1.001, 3.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_how_much_the_others_have(dtype, rest, k):
    """loss = log1p(rest), to as many digits where the rest is small as where it is not; the gradient has them, too."""
    rng = np.random.default_rng(k)
    for at in (0, k // 2, k - 1):
        z = rng.standard_normal(k)
        z -= np.logaddexp.reduce(np.delete(z, at)) - np.log(rest)
        z[at] = 0
        z = z.astype(dtype)
        top = z.max()  # where the rest is large, another one may be in front
        exact = np.exp(np.longdouble(z) - np.longdouble(top))
        first = int(z.argmax())
        others = np.delete(exact, first).sum()
        loss, dz = F.cross_entropy(z[None], np.array([first]))
        # Exponentials of an ulp and a half, and two roundings in a sum, twice where a 1 is taken off; those of z - m
        # average out. What is returned in the dtype is rounded once or twice more.
        bound = (1.5 + 2 * 2 / 2) * EPS[dtype]
        np.testing.assert_allclose(loss, float(np.log1p(others)), rtol=bound)
        np.testing.assert_allclose(dz[0, first], float(-others / (1 + others)), rtol=bound + EPS[dtype])
        assert F.cross_entropy(z[None], np.array([first]), gradient=False) == (loss, None)
        np.testing.assert_allclose(F.log_softmax(z[None])[0, first], float(-np.log1p(others)), rtol=bound + EPS[dtype])


@pytest.mark.parametrize("k", [3, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits(dtype, k):
    big = 1e30
    z = np.zeros((4, k), dtype)
    z[0, 0], z[1, 0], z[2, 1], z[3] = big, -big, -np.inf, -big
    target = np.array([0, 0, 1, 2])
    loss, dz = zip(*(F.cross_entropy(z[i:i + 1], target[i:i + 1]) for i in range(4)), strict=True)
    exact_big = float(np.array(big, dtype))
    np.testing.assert_allclose(loss, [0, exact_big + math.log(k - 1), math.inf, math.log(k)], rtol=1e-15)
    p = 1 / (k - 1)
    np.testing.assert_array_equal(dz[0], np.zeros((1, k)))
    np.testing.assert_allclose(dz[1][0], [-1, *[p] * (k - 1)], rtol=2 * EPS[dtype])
    np.testing.assert_allclose(dz[2][0], [p, -1, *[p] * (k - 2)], rtol=2 * EPS[dtype])
    np.testing.assert_allclose(dz[3][0], np.full(k, 1 / k) - np.eye(k)[2], rtol=2 * EPS[dtype])
    np.testing.assert_allclose(F.log_softmax(z)[2], [-math.log(k - 1), -math.inf, *[-math.log(k - 1)] * (k - 2)],
                               rtol=2 * EPS[dtype])


@pytest.mark.parametrize("k", [3, 100])
@pytest.mark.parametrize("bad", [np.nan, np.inf, "all -inf"])
def test_undefined_rows_are_nan_and_alone(bad, k):
    z = np.random.default_rng(0).standard_normal((20, k)).astype("f4")
    clean = z.copy()
    z[7] = -np.inf if bad == "all -inf" else z[7]
    if bad != "all -inf":
        z[7, 1] = bad
    others = np.arange(20) != 7
    for f in (F.softmax, F.log_softmax, lambda z: F.cross_entropy(z, np.full(20, 1))[1],
              lambda z: F.cross_entropy(z, np.full(20, 2))[1], lambda z: F.cross_entropy(z, F.softmax(clean))[1]):
        assert np.isnan(f(z)[7]).all()
        np.testing.assert_array_equal(f(z)[others], f(clean)[others])
    assert math.isnan(F.cross_entropy(z, np.full(20, 1))[0])


def test_classes_are_any_int64():
    """long long is a type of its own in NumPy, and the same numbers."""
    z, classes, _ = problem(5, 3, "float64")
    assert F.cross_entropy(z, classes.astype(np.longlong))[0] == F.cross_entropy(z, classes)[0]


def test_zero_probability_of_an_impossible_class_costs_nothing():
    z = np.array([[0.0, -np.inf, 1.0]])
    loss, dz = F.cross_entropy(z, np.array([[0.25, 0.0, 0.75]]))
    assert loss == pytest.approx(math.log(1 + math.e) - 0.75, rel=1e-15)
    p = 1 / (1 + math.e)
    np.testing.assert_allclose(dz, [[p - 0.25, 0, 0.25 - p]], rtol=1e-14)


@pytest.mark.parametrize(("n", "k"), [(37, 10), (5, 100)])
def test_r_operator_of_cross_entropy(n, k):
    z, classes, _ = problem(n, k, "float64")
    rz = np.random.default_rng(1).standard_normal((n, k))
    h = 1e-5
    difference = (F.cross_entropy(z + h * rz, classes)[1] - F.cross_entropy(z - h * rz, classes)[1]) / (2 * h)
    # h^2/6 of the third derivative and eps/h, both below 1e-10 / n
    np.testing.assert_allclose(cross_entropy_r(F.softmax(z), rz), difference, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (300,), (70, 300)])
def test_mse(shape, dtype):
    rng = np.random.default_rng(2)
    y, target = (np.array(rng.standard_normal(shape), dtype) for _ in range(2))
    t = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    want = torch.nn.functional.mse_loss(t, torch.tensor(target, dtype=torch.float64))
    want.backward()
    loss, dy = F.mse(y, target)
    assert loss == pytest.approx(want.item(), rel=1e-14)  # sums in double
    np.testing.assert_allclose(dy, t.grad.numpy(), rtol=2 * EPS[dtype])
    assert F.mse(y, target, gradient=False) == (loss, None)
    for i in range(2):
        inputs = [np.array(y), np.array(target)]
        np.testing.assert_array_equal(F.mse(*inputs, out=inputs[i])[1], dy)


@pytest.mark.parametrize("k", [10, 49, 64, 81, 100, 112, 5001])
def test_in_place_is_the_same(k):
    z, classes, q = problem(50, k, "float32")
    rz = problem(50, k, "float32", seed=1)[0]
    for f in (F.softmax, F.log_softmax):
        np.testing.assert_array_equal(f(a := z.copy(), out=a), f(z))
    for target in (classes, q):
        np.testing.assert_array_equal(F.cross_entropy(a := z.copy(), target, out=a)[1], F.cross_entropy(z, target)[1])
    p = F.softmax(z)
    want = cross_entropy_r(p, rz)
    np.testing.assert_array_equal(cross_entropy_r(a := p.copy(), rz, a), want)
    np.testing.assert_array_equal(cross_entropy_r(p, a := rz.copy(), a), want)


def test_empty():
    assert F.softmax(np.ones((3, 0))).shape == (3, 0)
    assert F.log_softmax(np.ones((0, 3))).shape == (0, 3)
    assert cross_entropy_r(np.ones((0, 3)), np.ones((0, 3))).shape == (0, 3)
    for loss, gradient in (F.cross_entropy(np.ones((0, 3)), np.ones(0, "i8")), F.mse(np.ones((0, 3)), np.ones((0, 3)))):
        assert math.isnan(loss)
        assert gradient.shape == (0, 3)


def test_errors_change_nothing():
    z, classes, q = problem(6, 4, "float32")
    out = np.full_like(z, 9)
    for call, error, message in [
        (lambda: F.softmax(z[0]), ValueError, r"z: expected shape \[N, K\], got \(4,\)"),
        (lambda: F.softmax(z.T), ValueError, "z: expected a C-contiguous array"),
        (lambda: F.softmax(out[:3], out[1:4]), ValueError, "out: expected z itself or memory of its own"),
        (lambda: F.cross_entropy(z, list(classes), out=out), TypeError, "target: expected a NumPy array"),
        (lambda: F.cross_entropy(z, classes.astype("i4"), out=out), TypeError, "target: expected int64 classes"),
        (lambda: F.cross_entropy(z, classes + 4, out=out), ValueError, "target: expected classes from 0 to 3, got"),
        (lambda: F.cross_entropy(z, classes - 4, out=out), ValueError, "in row 0"),
        (lambda: F.cross_entropy(z, classes[:5], out=out), ValueError, r"target: expected shape \(6,\)"),
        (lambda: F.cross_entropy(z, q.astype("f8"), out=out), TypeError, "target: expected the dtype of z"),
        (lambda: F.cross_entropy(z, q[:5], out=out), ValueError, "target: expected the shape of z"),
        (lambda: F.cross_entropy(z, q, out=q), ValueError, "out: expected memory of its own"),
        (lambda: F.cross_entropy(z[:, :0].copy(), classes), ValueError, "z: expected at least one class"),
        (lambda: F.mse(z, z[:3], out=out), ValueError, "target: expected the shape of y"),
        (lambda: cross_entropy_r(z, q.astype("f8"), out), TypeError, "rz: expected the dtype of p"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert (out == 9).all()
