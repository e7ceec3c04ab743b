"""Trace, diagonal and Frobenius norm: exact where they can be, coverage of their errors over seeded runs elsewhere."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla

import optcore as oc
from optcore import nn


def rotated(values, seed=0):
    """Q diag(values) Q' with a random rotation."""
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))[0]
    return (q * values) @ q.T


VALUES = {"flat": np.linspace(-1, 2, 200), "outliers": np.r_[np.geomspace(100, 1, 8), np.linspace(-0.1, 0.1, 192)],
          "decay": 1.0 / np.arange(1, 201)}


@pytest.mark.parametrize("name", VALUES)
def test_coverage_of_the_trace_and_the_norm(name):
    """500 seeded runs: Student's interval at 0.9."""
    h, runs, held = rotated(VALUES[name]), 500, np.zeros(2)
    truth = np.array([VALUES[name].sum(), np.sqrt((VALUES[name] ** 2).sum())])
    for seed in range(runs):
        found = [f(h, products=60, seed=seed) for f in (oc.curvature.trace, oc.curvature.frobenius_norm)]
        ends = np.array([estimate.interval(0.9) for estimate in found])
        held += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    # Binomial(500, 0.9): a deviation of 7; the terms are sums of many, so nearly normal.
    assert (np.abs(held - 450) <= 24).all()


def test_coverage_of_the_diagonal():
    h = rotated(VALUES["flat"])
    held = 0.0
    for seed in range(50):
        low, high = oc.curvature.diagonal(h, products=40, seed=seed).interval(0.9)
        held += np.mean((low <= np.diag(h)) & (np.diag(h) <= high)) / 50
    # 10,000 intervals of nearly normal terms, those of one run dependent: a deviation below 0.01.
    assert held == pytest.approx(0.9, abs=0.02)


def test_the_sketch_takes_the_large_eigenvalues():
    """Hutch++ against Hutchinson with the same products, over 40 seeds."""
    h, truth = rotated(VALUES["decay"]), VALUES["decay"].sum()
    sketched, plain = [], []
    for seed in range(40):
        sketched.append(oc.curvature.trace(h, products=60, seed=seed).value - truth)
        signs = np.random.default_rng(1000 + seed).choice([-1.0, 1.0], (200, 60))
        plain.append(np.mean(np.sum(signs * (h @ signs), axis=0)) - truth)
    # sqrt(2 sum of squares / terms): 0.23 of all 60, 0.067 of the 20 beside the 20 largest. The sketch is not perfect.
    assert np.std(sketched) < np.std(plain) / 2


@pytest.mark.parametrize("n", [1, 2, 30])
def test_small_matrices_are_exact(n):
    a = np.random.default_rng(n).standard_normal((n, n))
    h = a + a.T
    for name, exact in (("trace", np.trace(h)), ("frobenius_norm", np.linalg.norm(h)), ("diagonal", np.diag(h))):
        estimate = getattr(oc.curvature, name)(h)
        np.testing.assert_allclose(estimate.value, exact, rtol=1e-12, atol=1e-14)
        assert estimate.products == n
        assert not np.any(estimate.standard_error)
        assert np.array_equal(estimate.interval(), (estimate.value, estimate.value))


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_low_rank_is_exact(rank):
    h = rotated(np.r_[np.arange(1.0, rank + 1), np.zeros(400 - rank)])
    trace, norm = oc.curvature.trace(h, products=30), oc.curvature.frobenius_norm(h, products=30)
    assert trace.value == pytest.approx(rank * (rank + 1) / 2, abs=1e-10)
    assert norm.value == pytest.approx(np.sqrt(np.sum(np.arange(rank + 1.0) ** 2)), abs=1e-10)
    assert trace.standard_error < 1e-10
    assert (trace.products, trace.samples) == (30, 30 - 10 - min(rank, 10))


def test_a_diagonal_matrix_needs_one_product():
    values = np.random.default_rng(0).standard_normal(300)
    estimate = oc.curvature.diagonal(np.diag(values), products=2)
    np.testing.assert_allclose(estimate.value, values, rtol=1e-15)
    assert not estimate.standard_error.any()


def test_less_memory_and_one_product():
    h, products = rotated(VALUES["decay"]), []
    operator = sla.LinearOperator(h.shape, lambda v: products.append(1) or h @ v, dtype=float)
    little = oc.curvature.trace(operator, products=60, memory=8 * 200 * 4)
    assert (little.samples, little.products, len(products)) == (52, 60, 60)
    assert abs(little.value - VALUES["decay"].sum()) < 5 * little.standard_error
    assert oc.curvature.trace(h, products=60, memory=1).samples == 60
    assert np.isnan(oc.curvature.trace(h, products=1).standard_error)
    assert np.isnan(oc.curvature.diagonal(h, products=1).standard_error).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network(dtype):
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4), dtype=dtype, seed=2)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((40, 6)).astype(dtype)
    H = oc.curvature.Hessian(nn.objective(net, "cross_entropy", x, rng.integers(0, 4, 40)), net.theta)
    dense = H @ np.eye(net.theta.size)
    trace, norm = oc.curvature.trace(H, products=60), oc.curvature.frobenius_norm(H, products=60)
    assert abs(trace.value - np.trace(dense)) < 4 * trace.standard_error + 1e-5
    assert abs(norm.value - np.linalg.norm(dense)) < 4 * norm.standard_error + 1e-5
    assert trace.value == oc.curvature.trace(H, products=60).value


@pytest.mark.parametrize("name", ["trace", "frobenius_norm", "diagonal"])
def test_errors(name):
    f = getattr(oc.curvature, name)
    with pytest.raises(ValueError, match="products: expected at least 1, got 0"):
        f(np.eye(3), products=0)
    with pytest.raises(ValueError, match="H: expected a square"):
        f(np.ones((3, 2)))
    with pytest.raises(FloatingPointError, match="H: expected finite"):
        f(np.diag([np.inf, 1.0]))
    with pytest.raises(ValueError, match="confidence"):
        f(np.eye(3)).interval(2)
    if name != "diagonal":
        with pytest.raises(ValueError, match="memory"):
            f(np.eye(3), memory=-1)


@pytest.mark.parametrize("exponent", [-560, -50, 520])
@pytest.mark.parametrize("what", ["eigenpairs", "density", "trace"])
def test_eigenvalues_of_any_size(what, exponent):
    def measured(scale):
        values = scale * np.linspace(-1, 2, 2000)
        H = sla.LinearOperator((2000, 2000), lambda v: values * v.reshape(-1), dtype=float)
        if what == "eigenpairs":
            return oc.curvature.eigenpairs(H, 3, "BE", tol=1e-6).values / scale
        if what == "trace":
            found = oc.curvature.trace(H, 20)
            return np.array([found.value, found.standard_error]) / scale
        found = oc.curvature.spectral_density(H, 4, 30)
        return np.array([found.density, found.standard_error]) * scale

    # By powers of two, so that nothing rounds otherwise; no more is promised of eigenvalues than their tol.
    np.testing.assert_allclose(measured(2.0**exponent), measured(1.0), rtol=1e-6, atol=1e-9)
