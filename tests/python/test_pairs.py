"""What eigenpairs may not miss, how much it may hold, and the intervals of extremes."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse.linalg as sla

import optcore as oc
from optcore import nn


def diagonal(values):
    return sla.LinearOperator((len(values),) * 2, matvec=lambda v: values * v.reshape(-1), dtype=float)


def peak(call):
    """(what it returns, the most bytes that arrays took meanwhile)."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("which", ["LA", "SA", "BE", "LM"])
def test_copies_of_an_eigenvalue_are_found(which):
    """One start sees one vector of each eigenspace."""
    values = np.r_[np.linspace(-1, 1, 400), 5.0, 5.0, 9.0, -6.0, -6.0, -8.0]
    chosen = {"LA": [5, 5, 9], "SA": [-8, -6, -6], "BE": [-8, 5, 9], "LM": [-6, -8, 9]}[which]
    pairs = oc.curvature.eigenpairs(diagonal(values), 3, which, tol=1e-8)
    np.testing.assert_allclose(pairs.values, np.sort(chosen), atol=1e-6)  # tol times the norm 9
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(3), atol=1e-8)


@pytest.mark.parametrize("which", ["LA", "LM"])
def test_little_memory_means_fewer_vectors_and_the_same_pairs(which):
    n = 3000
    values = np.r_[np.random.default_rng(0).uniform(-1, 1, n - 4), [2.0, 3.0, 4.0, -5.0]]
    (much, high), (little, low) = (peak(lambda m=m: oc.curvature.eigenpairs(diagonal(values), 3, which, memory=m))
                                   for m in (2**32, 8 * n * 6))
    np.testing.assert_allclose(little.values, much.values, atol=1e-5)  # 2 tol times the norm 5
    # 6 vectors asked for; ARPACK, the pairs and the check of what was missed take some 3 times that, 130 without a
    # limit.
    assert low < 8 * n * 25
    assert high > 8 * n * 100


def test_a_start_nearby_saves_products():
    rng = np.random.default_rng(1)
    values = np.r_[rng.uniform(0, 1, 2000), 1.3]
    cold = oc.curvature.eigenpairs(diagonal(values), 1)
    warm = oc.curvature.eigenpairs(diagonal(values), 1, v0=cold.vectors[:, 0] + 1e-5 * rng.standard_normal(2001))
    np.testing.assert_allclose(warm.values, 1.3, atol=1e-9)  # the square of the residual over the gap
    assert warm.products < cold.products
    for bad in (np.zeros(2001), np.full(2001, np.nan), np.ones(3), np.ones((2001, 1))):
        with pytest.raises(ValueError, match="v0"):
            oc.curvature.eigenpairs(diagonal(values), 1, v0=bad)
    with pytest.raises(TypeError, match="v0: expected real numbers, got dtype complex128"):
        oc.curvature.eigenpairs(diagonal(values), 1, v0=np.ones(2001, complex))
    with pytest.raises(ValueError, match="memory: expected a positive number"):
        oc.curvature.eigenpairs(diagonal(values), 1, memory=0)


@pytest.mark.parametrize("shape", ["uniform", "hidden", "clustered", "outliers"])
def test_coverage_of_extremes(shape):
    """500 seeded runs at confidence 0.8."""
    rng = np.random.default_rng(6)
    n, confidence, runs = 80, 0.8, 500
    values = {"uniform": rng.uniform(-1, 1, n), "hidden": np.r_[-0.02, rng.uniform(0, 1, n - 1)],
              "clustered": np.r_[np.zeros(40), np.ones(39), 1.001],
              "outliers": np.r_[rng.normal(0, 0.01, n - 3), 1.0, 10.0, 100.0]}[shape]
    missed = 0
    for seed in range(runs):
        ends = oc.curvature.extremes(diagonal(values), confidence, max_products=6, seed=seed)
        assert ends.products <= 6
        assert ends.confidence == confidence
        missed += not (ends.smallest[0] <= values.min() <= ends.smallest[1]
                       and ends.largest[0] <= values.max() <= ends.largest[1])
    # Binomial(500, 0.2) has mean 100 and deviation 9: more than 135 misses has probability 1e-4.
    assert missed <= 135


def test_extremes_of_50_000_dimensions_hold_the_needle():
    values = np.random.default_rng(0).uniform(0, 1, 50_000)
    values[123] = -0.01
    few, more = (oc.curvature.extremes(diagonal(values), max_products=m, tol=1e-3) for m in (20, 150))
    for ends in (few, more):
        assert ends.smallest[0] <= -0.01 <= ends.smallest[1]
        assert ends.largest[0] <= values.max() <= ends.largest[1]
    assert few.smallest[1] > 0  # 20 products do not see it
    assert more.smallest[1] < 0


@pytest.mark.parametrize("values", [np.zeros(3), np.ones(200), np.zeros(200), np.array([-2.0])])
def test_extremes_of_small_and_flat_spectra(values):
    ends = oc.curvature.extremes(diagonal(values))
    np.testing.assert_allclose([*ends.smallest, *ends.largest], values[0], atol=1e-12)


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({"confidence": 1.0}, ValueError, "confidence"), ({"max_products": 0}, ValueError, "max_products"),
    ({"tol": -1.0}, ValueError, "tol"), ({"memory": -1}, ValueError, "memory")])
def test_errors_of_extremes(arguments, error, match):
    with pytest.raises(error, match=match):
        oc.curvature.extremes(diagonal(np.arange(100.0)), **arguments)


# --- operators


def small(dtype="float64"):
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), dtype=dtype, seed=2)
    rng = np.random.default_rng(4)
    return net, nn.objective(net, "cross_entropy", rng.standard_normal((40, 6)), rng.integers(0, 4, 40))


def test_operators_of_outer_products():
    net, obj = small()
    v = np.random.default_rng(0).standard_normal(obj.size)
    for make, method in ((oc.curvature.GaussNewton, obj.gauss_newton), (oc.curvature.EmpiricalFisher, obj.fisher)):
        matrix = make(obj, net.theta)
        assert np.array_equal(matrix @ v, method(net.theta, v))
        # A sum of squares: no eigenvalue is negative beyond rounding.
        assert oc.curvature.eigenpairs(matrix, 1, "SA").values[0] > -1e-6 * np.abs(matrix @ v).max()


def test_pairs_of_a_float32_network():
    net, obj = small("float32")
    pairs = oc.curvature.eigenpairs(oc.curvature.Hessian(obj, net.theta), 3)
    other, double = small("float64")
    exact = np.linalg.eigvalsh(oc.curvature.Hessian(double, other.theta) @ np.eye(obj.size))
    # The start is the same up to rounding; float32 products err by some 1e-6 of the norm.
    np.testing.assert_allclose(pairs.values, exact[-3:], rtol=1e-4)


def test_preconditioned():
    rng = np.random.default_rng(1)
    a, p = rng.standard_normal((90, 90)), rng.uniform(0.1, 5, 90)
    h = a + a.T
    got = oc.curvature.eigenpairs(oc.curvature.Preconditioned(h, p), 3).values
    exact = np.linalg.eigvalsh(h / np.sqrt(np.outer(p, p)))
    np.testing.assert_allclose(got, exact[-3:], atol=1e-6 * np.abs(exact).max())
    for bad, match in ((-p, "p: expected positive"), (p[:3], "p: expected shape")):
        with pytest.raises(ValueError, match=match):
            oc.curvature.Preconditioned(h, bad)


def test_progress_counts_the_products(capsys):
    net, obj = small()
    seen = []
    H = oc.curvature.Hessian(obj, net.theta, progress=seen.append)
    pairs = oc.curvature.eigenpairs(H, 2)
    assert seen == list(range(1, pairs.products + 1))
    oc.curvature.Hessian(obj, net.theta, progress=True) @ np.eye(obj.size)
    assert capsys.readouterr().err.split("\n")[:3] == ["10 products", "20 products", "50 products"]
    with pytest.raises(TypeError, match="progress: expected a bool or a callable"):
        oc.curvature.Hessian(obj, net.theta, progress=3)


@pytest.mark.parametrize("call", [
    lambda *at, progress: oc.curvature.classify(*at, progress=progress).products,
    lambda *at, progress: oc.curvature.escape(*at, progress=progress) and None,
    lambda *at, progress: oc.curvature.flatness(*at, progress=progress).products,
    lambda *at, progress: oc.curvature.taylor(*at, progress=progress).newton(max_products=5).products])
def test_progress_of_what_makes_its_own_products(call):
    net, obj = small()
    seen = []
    products = call(obj, net.theta, progress=seen.append)
    assert seen == list(range(1, len(seen) + 1))
    assert seen[-1] == (products or obj.size)  # classify, and so the one step of escape, takes a dense Hessian


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({"maxiter": 0}, ValueError, "maxiter: expected at least 1, got 0"),
    ({"maxiter": 1.5}, TypeError, "maxiter: expected an integer, got 1.5"),
    ({"H": np.eye(2).astype(object)}, TypeError, "H: expected a real operator, got object")])
def test_what_scipy_would_refuse_later(arguments, error, match):
    with pytest.raises(error, match=match):
        oc.curvature.eigenpairs(**{"H": np.eye(3), "k": 1, **arguments})


@pytest.mark.parametrize("call", [
    lambda H, obj, seed: oc.curvature.eigenpairs(H, 1, seed=seed),
    lambda H, obj, seed: oc.curvature.extremes(H, seed=seed),
    lambda H, obj, seed: oc.curvature.spectral_density(H, seed=seed),
    lambda H, obj, seed: oc.curvature.trace(H, seed=seed),
    lambda H, obj, seed: oc.curvature.frobenius_norm(H, seed=seed),
    lambda H, obj, seed: oc.curvature.diagonal(H, seed=seed),
    lambda H, obj, seed: oc.curvature.classify(obj, obj.theta0, seed=seed),
    lambda H, obj, seed: oc.curvature.flatness(obj, obj.theta0, seed=seed),
    lambda H, obj, seed: oc.curvature.follow(obj, seed=seed),
    lambda H, obj, seed: oc.curvature.perturbed_descent(obj, obj.theta0, 0.1, seed=seed)])
def test_a_seed_is_a_number_that_repeats(call):
    """None would draw other vectors each time."""
    _, obj = small()
    for bad, error, match in ((None, TypeError, "seed: expected an integer, got None"),
                              (-1, ValueError, "seed: expected at least 0, got -1")):
        with pytest.raises(error, match=match):
            call(oc.curvature.Hessian(obj, obj.theta0), obj, bad)


@pytest.mark.parametrize("which", ["LA", "SA", "BE"])
def test_pairs_of_50_000_dimensions(which):
    """A prescribed spectrum behind three reflections: a bulk, five outliers, and a needle below the bulk."""
    n, rng = 50_000, np.random.default_rng(0)
    values = rng.uniform(0, 1, n)
    values[[1, 10, 100, 1000, 10_000]] = [1.5, 2.0, 2.5, 3.0, 4.0]
    values[123] = -0.01
    mirrors = [u / np.linalg.norm(u) for u in rng.standard_normal((3, n))]

    def turn(v, order):
        for u in order:
            v = v - 2 * (u @ v) * u
        return v

    H = sla.LinearOperator((n, n), lambda v: turn(values * turn(v.reshape(-1), mirrors), mirrors[::-1]), dtype=float)
    k = {"LA": 5, "SA": 1, "BE": 3}[which]
    exact = {"LA": [1.5, 2, 2.5, 3, 4], "SA": [-0.01], "BE": [-0.01, 3, 4]}[which]
    pairs = oc.curvature.eigenpairs(H, k, which, tol=1e-4)
    assert pairs.converged
    # A residual r and a gap g put the value within r^2 / g: the needle's gap is 0.01, of the others at least 0.4.
    np.testing.assert_allclose(pairs.values, exact, atol=(4e-4) ** 2 / 0.01)
    for value, v in zip(exact, pairs.vectors.T, strict=True):
        axis = turn(v, mirrors)
        assert abs(axis[np.flatnonzero(values == value)[0]]) > 0.99
