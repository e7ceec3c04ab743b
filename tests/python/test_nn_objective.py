"""The objective of a network: pure, exact, symmetric, and quick where it is asked again."""

import hashlib

import numpy as np
import pytest

import optcore as oc
from optcore import nn


def smooth(mode, dtype="float64", loss="cross_entropy"):
    """Smooth everywhere, so that a central difference sees the derivative."""
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm(8), nn.Tanh(), nn.Linear(8, 7), nn.Sigmoid(), nn.Linear(7, 4),
                        dtype=dtype, seed=2)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((40, 6))
    net.forward(x.astype(dtype), training=True)
    y = rng.integers(0, 4, 40) if loss == "cross_entropy" else rng.standard_normal((40, 4))
    return net, nn.objective(net, loss, x, y, mode=mode), rng


def state(net):
    digest = hashlib.sha256(net.theta.tobytes())
    for b in net.buffers.values():
        digest.update(b.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_product_against_differences_of_the_gradient(mode, loss):
    net, obj, rng = smooth(mode, loss=loss)
    for _ in range(3):
        v = rng.standard_normal(obj.size)
        v /= np.linalg.norm(v)

        def slope(h, v=v):
            plus, minus = (obj.loss_and_grad(net.theta + s * h * v)[1] for s in (1, -1))
            return (plus - minus) / (2 * h)

        # Richardson's extrapolation removes h^2: truncation about h^4 = 1e-12, rounding eps/h about 2e-13.
        expected = (4 * slope(1e-3) - slope(2e-3)) / 3
        product = obj.hvp(net.theta, v)
        assert np.linalg.norm(product - expected) < 1e-7 * np.linalg.norm(expected)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradient_against_differences_of_the_loss(mode):
    net, obj, rng = smooth(mode)
    v = rng.standard_normal(obj.size)
    v /= np.linalg.norm(v)

    def slope(h):
        return (obj.loss(net.theta + h * v) - obj.loss(net.theta - h * v)) / (2 * h)

    expected = (4 * slope(1e-3) - slope(2e-3)) / 3
    # The same extrapolation: 1e-12 of a slope of order 0.1.
    assert abs(obj.loss_and_grad(net.theta)[1] @ v - expected) < 1e-10


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_symmetric_and_linear(mode):
    net, obj, rng = smooth(mode)
    u, v = rng.standard_normal((2, obj.size))
    hu, hv = obj.hvp(net.theta, u), obj.hvp(net.theta, v)
    scale = np.linalg.norm(hu) * np.linalg.norm(v)
    # Two products and a sum of 150 terms in double: 1e-13 is some 500 roundings.
    assert abs(u @ hv - v @ hu) < 1e-13 * scale
    np.testing.assert_allclose(obj.hvp(net.theta, 2 * u - 3 * v), 2 * hu - 3 * hv, atol=1e-13 * scale)
    assert not obj.hvp(net.theta, np.zeros(obj.size)).any()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_nothing_is_changed(mode):
    net, obj, rng = smooth(mode)
    before = state(net)
    theta, v = net.theta + 0.5, rng.standard_normal(obj.size)
    kept = theta.copy(), v.copy()
    obj.loss(theta)
    obj.loss_and_grad(theta, np.arange(9))
    obj.hvp(theta, v)
    assert state(net) == before
    assert np.array_equal(theta, kept[0])
    assert np.array_equal(v, kept[1])


def test_the_objective_is_a_fixed_function():
    """Training the network later moves neither the starting point nor the running statistics it evaluates with."""
    net, obj, rng = smooth("eval")
    theta = net.theta.copy()
    value = obj.loss(theta)
    net.forward(5 + rng.standard_normal((30, 6)), training=True)
    net.theta += 1
    assert obj.loss(theta) == value
    assert np.array_equal(obj.theta0, theta)


def test_what_is_kept_is_never_wrong():
    """Points and batches in any order give the bits of a fresh objective."""
    net, obj, rng = smooth("train")
    v = rng.standard_normal(obj.size)
    points = [net.theta.copy(), net.theta + 0.1]
    batches = [None, np.arange(40), np.arange(20), np.arange(20)[::-1].copy()]
    for _ in range(40):
        theta, batch = points[rng.integers(2)], batches[rng.integers(4)]
        fresh = smooth("train")[1]
        match rng.integers(4):
            case 0:
                assert obj.loss(theta, batch) == fresh.loss(theta, batch)
            case 1:
                got, expected = obj.loss_and_grad(theta, batch), fresh.loss_and_grad(theta, batch)
                assert got[0] == expected[0]
                assert np.array_equal(got[1], expected[1])
                got[1][...] = np.nan  # the caller's own
            case 2:
                assert np.array_equal(obj.hvp(theta, v, batch), fresh.hvp(theta, v, batch))
            case 3:  # the caller moves its array in place
                theta += 0.01


def test_repeated_products_take_no_new_forward_pass(monkeypatch):
    net, obj, rng = smooth("train")
    v = rng.standard_normal(obj.size)
    first = obj.hvp(net.theta, v)

    def fail(*args, **options):
        raise AssertionError("a forward pass")

    monkeypatch.setattr("optcore.nn.passes.forward", fail)
    monkeypatch.setattr("optcore.nn.passes.backward", fail)
    assert np.array_equal(obj.hvp(net.theta.copy(), v), first)
    with pytest.raises(AssertionError, match="a forward pass"):
        obj.hvp(net.theta + 1e-12, v)


def test_a_known_point_is_known_however_it_lies():
    net, obj, rng = smooth("train")
    v = rng.standard_normal(obj.size)
    first = obj.hvp(net.theta, v)
    swapped = net.theta.astype(net.theta.dtype.newbyteorder())
    for theta in (np.repeat(net.theta, 2)[::2], swapped, net.theta.tolist()):
        assert np.array_equal(obj.hvp(theta, v), first)
    with np.errstate(all="ignore"):  # the same bytes in the other order are another point
        assert not np.array_equal(obj.hvp(net.theta.view(swapped.dtype), v), first)
    for wrong in (net.theta[:-1], net.theta[None], net.theta * 1j):
        with pytest.raises((TypeError, ValueError), match="theta"):
            obj.hvp(wrong, v)


def test_a_batch_is_its_examples():
    net, obj, _ = smooth("train")
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((40, 6)), rng.integers(0, 4, 40)
    batch = np.array([5, 5, 7, 30])
    other = nn.objective(net, "cross_entropy", x[batch], y[batch])
    assert obj.loss(net.theta, batch) == other.loss(net.theta)
    assert obj.n_examples == 40
    assert other.n_examples == 4
    with pytest.raises(ValueError, match="at least 2 values per channel"):
        obj.loss(net.theta, np.array([3]))


def test_mean_of_batches_in_eval_mode():
    """Without batch statistics the loss, its gradient and its products are means over examples."""
    net, obj, rng = smooth("eval")
    v = rng.standard_normal(obj.size)
    halves = np.arange(20), np.arange(20, 40)
    # Means of the same terms in another order: a few roundings in double.
    np.testing.assert_allclose(obj.loss(net.theta), np.mean([obj.loss(net.theta, b) for b in halves]), rtol=1e-13)
    parts = np.mean([obj.hvp(net.theta, v, b) for b in halves], axis=0)
    np.testing.assert_allclose(obj.hvp(net.theta, v), parts, rtol=1e-10, atol=1e-12)


def test_precision_is_the_objectives():
    """A float32 network can be looked at in double; inputs are converted once, results are in that dtype."""
    net, obj, rng = smooth("train", "float32")
    assert obj.dtype == np.float32
    assert obj.hvp(net.theta, np.ones(obj.size)).dtype == np.float32
    x, y = rng.integers(0, 255, (40, 6), dtype=np.uint8), rng.integers(0, 4, 40, dtype=np.int32)
    double = nn.objective(net, "cross_entropy", x, y, dtype="float64")
    single = nn.objective(net, "cross_entropy", x, y)
    v = rng.standard_normal(obj.size)
    expected, got = double.hvp(net.theta, v), single.hvp(net.theta, v)
    assert expected.dtype == np.float64
    assert got.dtype == np.float32
    # float32 rounds to 6e-8; the passes, batch norm among them, multiply that by some tens to hundreds.
    assert np.linalg.norm(got - expected) < 1e-4 * np.linalg.norm(expected)
    assert np.linalg.norm(got - expected) > 0


def test_values_that_are_not_finite_are_returned():
    net, obj, _ = smooth("train")
    assert np.isnan(obj.loss(np.full(obj.size, np.nan)))
    assert np.isnan(obj.hvp(net.theta, np.full(obj.size, np.nan))).any()


def test_errors():
    net, obj, rng = smooth("train")
    x, y = rng.standard_normal((5, 6)), np.zeros(5, int)
    for arguments, error, message in [
        ((None, "cross_entropy", x, y), TypeError, "net: expected an optcore.nn network, got NoneType"),
        ((net, "hinge", x, y), ValueError, "loss: expected one of 'cross_entropy', 'mse'"),
        ((net, "cross_entropy", x, y, "test"), ValueError, "mode: expected one of 'train', 'eval', got 'test'"),
        ((net, "cross_entropy", x[:, :5], y), ValueError, r"X: expected shape \[N, 6\]"),
        ((net, "cross_entropy", x.astype(complex), y), TypeError, "X: expected real numbers"),
        ((net, "cross_entropy", x, y + 4), ValueError, "y: expected class indices from 0 to 3"),
        ((net, "cross_entropy", x, y[:4]), ValueError, "y: expected 5 class indices"),
        ((net, "cross_entropy", x, y.astype(float)), TypeError, "y: expected int64 class indices"),
        ((net, "mse", x, y), ValueError, r"y: expected shape \(5, 4\)"),
        ((net, "cross_entropy", x[:0], y[:0]), ValueError, "at least one example"),
    ]:
        with pytest.raises(error, match=message):
            nn.objective(*arguments)
    with pytest.raises(TypeError, match="dtype: expected float32 or float64"):
        nn.objective(net, "cross_entropy", x, y, dtype="float16")
    with pytest.raises(ValueError, match="theta: expected shape"):
        obj.hvp(net.theta[1:], net.theta)
    with pytest.raises(ValueError, match="v: expected shape"):
        obj.hvp(net.theta, net.theta[1:])
    with pytest.raises(ValueError, match="batch: expected indices from 0 to 39"):
        obj.loss(net.theta, [40])


def test_is_an_objective():
    _, obj, _ = smooth("eval")
    assert isinstance(obj, oc.Objective)
    assert obj.mode == "eval"
    assert obj.size == obj.theta0.size


class Linear(nn.losses.Loss):
    """The mean of the outputs: a loss of one's own, without second derivatives."""

    classification = False

    def value(self, y, target, gradient=True, sample_weight=None):
        return float(y.mean()), np.full_like(y, 1 / y.size) if gradient else None

    def check(self, target, n, shape, dtype):
        pass


def test_a_loss_says_which_method_it_lacks():
    net, x, y = nn.Sequential(nn.Linear(2, 1)), np.ones((3, 2), "float32"), np.ones((3, 1), "float32")
    assert np.isfinite(net.loss_and_grad(x, y, Linear(), np.empty_like(net.theta)))
    obj = nn.objective(net, Linear(), x, y)
    with pytest.raises(TypeError, match=r"Linear: .* method curvature"):
        obj.loss_and_grad(obj.theta0)
    with pytest.raises(TypeError, match=r"Loss: .* method value"):
        nn.losses.Loss().value(y, y)
