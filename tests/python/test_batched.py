"""Objectives in batches: weighted by the number of examples, from files, within a stated memory."""

import numpy as np
import pytest

import optcore as oc
from optcore import nn


def network(dtype="float64"):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), dtype=dtype, seed=2)


def data(n=41):
    rng = np.random.default_rng(4)
    return rng.standard_normal((n, 6)), rng.integers(0, 4, n)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 41, 100])
@pytest.mark.parametrize("memory", [1, 2**30])
def test_batches_count_by_their_examples(batch_size, memory):
    """The last batch is smaller; whether a batch's activations are kept changes no bit."""
    net, (x, y) = network(), data()
    whole = nn.objective(net, "cross_entropy", x, y)
    parts = nn.objective(net, "cross_entropy", x, y, batch_size=batch_size, memory=memory)
    v = np.random.default_rng(1).standard_normal(whole.size)
    for batch in (None, np.array([3, 3, 40, 0, 7, 8, 9, 10, 11])):
        # The same sums in another order, in double.
        np.testing.assert_allclose(parts.loss(net.theta, batch), whole.loss(net.theta, batch), rtol=1e-13)
        np.testing.assert_allclose(parts.loss_and_grad(net.theta, batch)[1], whole.loss_and_grad(net.theta, batch)[1],
                                   rtol=1e-11, atol=1e-13)
        for method in ("hvp", "gauss_newton", "fisher"):
            a, b = (getattr(obj, method)(net.theta, v, batch) for obj in (whole, parts))
            np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("counts", [
    {"sample_weight": (np.arange(41) >= 8) * 2.0}, {"loss": nn.CrossEntropy(weight=[1, 0, 1, 1])},
])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_batch_without_weight_has_no_mean(counts, batch_size):
    net, (x, y) = network(), data()
    y[:8] = 1
    obj = nn.objective(net, **{"loss": "cross_entropy", **counts}, X=x, y=y, batch_size=batch_size)
    for f in (obj.loss, obj.loss_and_grad, lambda theta, batch: obj.hvp(theta, theta, batch)):
        with pytest.raises(ValueError, match=r"^batch: expected an example with a positive weight, got weight 0"):
            f(net.theta, np.arange(5))
    assert np.isfinite(obj.loss(net.theta, np.arange(5, 12)))


def test_a_memory_map_is_read_batch_by_batch(tmp_path):
    net, (x, y) = network("float32"), data(1000)
    pixels = (40 * x + 128).clip(0, 255).astype("uint8")
    pixels.tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", dtype="uint8", mode="r", shape=pixels.shape)
    obj = nn.objective(net, "cross_entropy", mapped, y, batch_size=64)
    assert np.shares_memory(obj._x, mapped)  # not converted as a whole
    whole = nn.objective(net, "cross_entropy", pixels, y)
    assert obj.loss(net.theta) == pytest.approx(whole.loss(net.theta), rel=1e-5)  # float32 sums
    v = np.ones(obj.size)
    np.testing.assert_allclose(obj.hvp(net.theta, v), whole.hvp(net.theta, v), rtol=1e-3, atol=1e-3)


class Counted(oc.data.Rows):
    """Remembers how many rows were read together."""

    most = 0

    def __getitem__(self, index):
        rows = super().__getitem__(index)
        self.most = max(self.most, len(rows))
        return rows


def test_rows_are_read_batch_by_batch():
    """Standardised as they are read; the same bits as of the array that they stand for."""
    net, (x, y) = network("float32"), data(1000)
    rows, pixels = np.arange(0, 1000, 2), (40 * x + 128).clip(0, 255).astype("uint8")
    read = Counted(pixels, oc.data.Standardizer().fit(pixels, rows), rows=rows)
    obj, same = (nn.objective(net, "cross_entropy", X, y[rows], batch_size=64) for X in (read, np.asarray(read[:])))
    read.most, v = 0, np.ones(obj.size)
    for batch in (None, np.arange(200, 300)):
        assert obj.loss(net.theta, batch) == same.loss(net.theta, batch)
        assert np.array_equal(obj.hvp(net.theta, v, batch), same.hvp(net.theta, v, batch))
    assert read.most == 64
    whole = nn.objective(net, "cross_entropy", read, y[rows])
    assert whole.loss(net.theta) == pytest.approx(obj.loss(net.theta), rel=1e-5)     # float32 sums in another order
    bad = oc.data.Rows(pixels[:, :5])
    with pytest.raises(ValueError, match=r"X: expected shape \[N, 6\]"):
        nn.objective(net, "cross_entropy", bad, y, batch_size=64)


def test_forward_passes_are_saved_as_far_as_memory_goes(monkeypatch):
    net, (x, y) = network(), data(40)
    probe = nn.objective(net, "cross_entropy", x, y, batch_size=10)
    each = probe._bytes(probe._evaluate(net.theta, slice(0, 10))[2])
    obj = nn.objective(net, "cross_entropy", x, y, batch_size=10, memory=2 * each)
    v = np.ones(obj.size)
    obj.hvp(net.theta, v)
    calls = []
    forward = nn.passes.forward
    monkeypatch.setattr("optcore.nn.passes.forward", lambda *a, **o: calls.append(1) or forward(*a, **o))
    obj.hvp(net.theta, v)
    assert len(calls) == 2  # two of four batches are kept


@pytest.mark.parametrize("name", ["batch_size", "memory"])
@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_errors(name, value, error):
    x, y = data()
    with pytest.raises(error, match=f"{name}: expected a"):
        nn.objective(network(), "cross_entropy", x, y, **{name: value})


def test_objectives_without_outputs_say_so():
    obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, theta0=np.ones(2))
    for method in (obj.gauss_newton, obj.fisher):
        with pytest.raises(TypeError, match="obj: expected an objective that knows the model's outputs"):
            method(np.ones(2), np.ones(2))


# --- the step of the central difference


def noisy(noise, sampled):
    """A quartic in 30 dimensions whose gradient carries an error: of rounding to few digits, or new at each call."""
    rng = np.random.default_rng(3)
    scales = rng.uniform(0.5, 2, 30)

    def grad(t):
        g = scales * t + t**3
        if sampled:
            return g + noise * rng.standard_normal(30)
        return np.round(g / (noise * 12**0.5)) * (noise * 12**0.5)  # a uniform error of this deviation

    obj = oc.Objective(lambda t: float(np.sum(scales * t**2 / 2 + t**4 / 4)), grad, theta0=rng.uniform(0.5, 1.5, 30))
    return obj, np.diag(scales + 3 * obj.theta0**2)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("noise", [1e-10, 1e-7, 1e-5])
def test_the_step_is_chosen_from_the_noise(noise, sampled):
    obj, exact = noisy(noise, sampled)
    measured = obj.gradient_noise()
    size = np.linalg.norm(obj.loss_and_grad(obj.theta0)[1])
    # The estimate takes the least of four orders and a size 0.1 of theta away: within a factor of ten.
    assert 0.1 < measured / (noise * 30**0.5 / size) < 10
    u = np.random.default_rng(0).standard_normal(30)
    error, naive = (np.linalg.norm(o.hvp(obj.theta0, u) - exact @ u) / np.linalg.norm(exact @ u)
                    for o in (obj, oc.Objective(obj._loss, obj._grad, theta0=obj.theta0, noise=0.0)))
    assert error < 5 * obj.product_error
    assert error < 0.1 * naive


def test_an_exact_gradient_is_exact_to_rounding():
    for dtype in ("float32", "float64"):
        obj = oc.Objective(lambda t: float(np.sum(t**4)), lambda t: 4 * t**3, theta0=np.ones(5, dtype))
        assert obj.gradient_noise() == np.finfo(dtype).eps
    assert oc.Objective(lambda t: 0.0, lambda t: t * np.nan, theta0=np.ones(5)).gradient_noise() < 1e-15
    assert oc.Objective(lambda t: 0.0, theta0=np.ones(5)).product_error < 1e-10
    with pytest.raises(ValueError, match="noise: expected a number in"):
        oc.Objective(lambda t: 0.0, theta0=np.ones(5), noise=-1.0)
