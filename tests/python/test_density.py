"""Spectral densities: brackets against the measures they bracket, coverage over seeded runs, exact spectra."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla

import optcore as oc
from optcore import nn
from optcore.curvature.lanczos import Lanczos
from optcore.curvature.quadrature import estimated


def diagonal(values, dtype=float):
    values = np.asarray(values, dtype)
    operator = sla.LinearOperator((len(values),) * 2, lambda v: values * v.reshape(-1).astype(dtype), dtype=dtype)
    operator.product_dtype = np.dtype(dtype)
    return operator


def smoothed(values, x, sigma):
    return np.exp(-0.5 * ((x[:, None] - values) / sigma) ** 2).mean(axis=1) / (sigma * np.sqrt(2 * np.pi))


SPECTRA = {
    "uniform": np.linspace(-1, 1, 200), "cluster": np.r_[np.zeros(120), np.linspace(-0.1, 1, 78), 5.0, 9.0],
    "one sign": np.linspace(0.5, 2, 200), "needle": np.r_[-0.01, np.linspace(0, 1, 199)],
}


# --- brackets


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("steps", [1, 2, 7, 25])
def test_the_bracket_holds_the_measure_and_is_sharp(name, steps):
    values, v = SPECTRA[name], np.random.default_rng(3).standard_normal(200)
    process = Lanczos(lambda u: values * u, v, steps)
    process.run(steps)
    probe, measure = process.probe(), v**2 / (v @ v)
    assert probe.square == pytest.approx(v @ v)
    for tau in (-1.1, -0.3, -0.005, 0.0, 0.004, 0.31, 0.77, 1.2, 6.0, 12.0):
        low, high = probe.above(tau)
        assert low - 1e-12 <= measure[values > tau].sum() <= measure[values >= tau].sum() <= high + 1e-12
        # Its width is the Christoffel number at tau, 1 / sum p_j(tau)^2, p_j the orthonormal polynomials.
        p, before, total = np.longdouble(1), np.longdouble(0), np.longdouble(1)
        for alpha, beta, last in zip(probe.alpha, probe.beta, np.r_[0, probe.beta[:-1]], strict=True):
            p, before = ((tau - alpha) * p - last * before) / beta, p
            total += p * p
        assert high - low == pytest.approx(float(1 / total), rel=1e-6, abs=1e-9)


def test_the_bracket_at_a_ritz_value_and_of_an_exhausted_space():
    values, v = SPECTRA["uniform"], np.random.default_rng(3).standard_normal(200)
    process = Lanczos(lambda u: values * u, v, 9)
    probe, measure = process.run(9) and process.probe(), v**2 / (v @ v)
    for node in probe.nodes:
        low, high = probe.above(node)
        assert low <= measure[values > node].sum() <= high
    values = np.repeat([-1.0, 0.0, 2.0], [50, 100, 50])
    process = Lanczos(lambda u: values * u, v, 9)
    process.run(9)
    low, high = process.probe().above(0.5)
    assert low == high == pytest.approx(measure[150:].sum(), rel=1e-12)


# --- coverage over 500 seeded runs


@pytest.mark.parametrize("counts", [(10, 20, 30), (1, 0, 59), (3, 57, 0), (0, 60, 0)])
def test_coverage_of_the_shares_where_only_the_start_is_left_to_chance(counts):
    """Three distinct eigenvalues: the quadrature is the measure, and 20 % is all that the intervals may miss."""
    values = np.repeat([-1.0, 0.0, 2.0], counts)
    runs, missed, widths = 500, np.zeros(3), []
    for seed in range(runs):
        found = oc.curvature.spectral_density(diagonal(values), 3, 4, seed=seed, confidence=0.8).shares
        intervals = [found.negative_interval, found.zero_interval, found.positive_interval]
        missed += [not low <= count / 60 <= high for (low, high), count in zip(intervals, counts, strict=True)]
        widths.append(found.positive_interval[1] - found.positive_interval[0])
    assert (missed <= 135).all()  # Binomial(500, 0.2): more has probability 1e-4
    if counts == (10, 20, 30):
        assert (missed >= 40).all()  # and they are no wider than they need: intervals of counts miss about 15 %
        # 2 x 1.28 deviations of Beta(45, 45), less the rounding to counts.
        assert np.mean(widths) == pytest.approx(2.56 * np.sqrt(0.25 / 91) - 1 / 60, rel=0.1)


@pytest.mark.parametrize("name", SPECTRA)
def test_coverage_of_the_shares(name):
    values, runs = SPECTRA[name], 500
    truth = [np.mean(values < -1e-3), np.mean(np.abs(values) <= 1e-3), np.mean(values > 1e-3)]
    missed = np.zeros(3)
    for seed in range(runs):
        rng, probes = np.random.default_rng(seed), []
        for _ in range(2):
            process = Lanczos(lambda v: values * v, rng.standard_normal(200), 12)
            process.run(12)
            probes.append(process.probe())
        s = estimated(probes, 200, 1e-3, 0.8)
        for value, (low, high) in ((s.negative, s.negative_interval), (s.positive, s.positive_interval)):
            assert low - 0.5 <= value <= high + 0.5
        intervals = (s.negative_interval, s.zero_interval, s.positive_interval)
        missed += [not low <= share <= high for (low, high), share in zip(intervals, truth, strict=True)]
    assert (missed <= 135).all()


def test_coverage_of_the_standard_error():
    """Of the density at three points, by Student's interval, where the quadrature is the measure."""
    values = np.repeat([-1.0, 0.0, 2.0], [100, 250, 150])
    x, runs, held = np.array([-1.0, 0.0, 2.1]), 500, np.zeros(3)
    for seed in range(runs):
        found = oc.curvature.spectral_density(diagonal(values), 10, 4, seed=seed).at(x, sigma=0.3)
        low, high = found.interval(0.9)
        exact = smoothed(values, x, 0.3)
        held += (low <= exact) & (exact <= high)
    # Binomial(500, 0.9) has the deviation 7; shares of 500 normal squares are nearly normal.
    assert (np.abs(held - 450) <= 27).all()


# --- densities


def test_the_density_of_a_random_matrix_is_a_semicircle():
    a = np.random.default_rng(12).standard_normal((3000, 3000))  # seed 0 would give the first row as the start
    a = (a + a.T) / np.sqrt(2 * 3000)
    found = oc.curvature.spectral_density(a, probes=4, steps=40)
    x = np.linspace(-1.5, 1.5, 31)
    estimate = found.at(x, sigma=0.2)
    # Wigner 1958. The bump of 0.2 changes it by 0.2^2/2 times its second derivative, 0.006 at most here; the deviation
    # over 4 starts is sqrt(2 f / (3000 * 4 * 0.2 * 2 sqrt(pi))) = 0.009.
    np.testing.assert_allclose(estimate.value, np.sqrt(4 - x**2) / (2 * np.pi), atol=0.006 + 3 * 0.009)
    assert (found.products, found.steps, found.size) == (160, 40, 3000)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=2e-4)  # 4 sigma of a bump lie outside: 6e-5
    assert found.minimum_ratio_interval[0] < 0.5 < found.minimum_ratio_interval[1]
    # The weight of a node in the middle, 2 / 41, and 2 x 2.6 deviations of the start, sqrt(0.25 / 6000).
    assert found.minimum_ratio_interval[1] - found.minimum_ratio_interval[0] < 0.085
    assert found.outliers.size == 0


def test_outliers_stand_alone():
    values = np.r_[np.random.default_rng(1).uniform(-1, 1, 5000), [-9.0, 7.0, 12.0]]
    found = oc.curvature.spectral_density(diagonal(values), probes=3, steps=60)
    np.testing.assert_allclose(found.outliers, [-9, 7, 12], atol=1e-8)
    assert (found.smallest, found.largest) == pytest.approx((-9, 12), abs=1e-8)


def test_a_small_spectrum_is_computed():
    values = np.r_[np.linspace(-1, 1, 90), np.zeros(10)]
    found = oc.curvature.spectral_density(diagonal(values))
    assert found.products == 100
    assert (found.minimum_ratio, found.zero_share, found.shares.negative) == (0.45, 0.1, 0.45)
    assert found.minimum_ratio_interval == (0.45, 0.45)
    assert not found.standard_error.any()
    np.testing.assert_allclose(found.density, smoothed(values, found.grid, found.sigma), rtol=1e-12)
    assert found.at_tau(0.5).positive == np.mean(values > 0.5)


@pytest.mark.parametrize("values", [np.zeros(1), np.ones(3), np.zeros(5000), np.full(5000, -2.0)])
def test_flat_spectra(values):
    found = oc.curvature.spectral_density(diagonal(values), probes=2, steps=5)
    assert np.isfinite(found.density).all()
    sign = ["negative", "zero", "positive"][int(np.sign(values[0])) + 1]
    assert getattr(found.shares, sign) == 1
    assert getattr(found.shares, sign + "_interval") == (1, 1)


def test_shares_of_a_spectrum_whose_squares_no_float_holds():
    """The factor is a power of two, which changes no rounding."""
    values = np.linspace(-1, 2, 3000)
    shares, large = (oc.curvature.spectral_density(diagonal(factor * values), probes=2, steps=30).shares
                     for factor in (1.0, 2.0**520))
    for name in ("positive", "negative", "positive_interval", "negative_interval"):
        assert getattr(large, name) == pytest.approx(getattr(shares, name), abs=1e-9)


def test_fifty_thousand_dimensions_hold_the_needle():
    values = np.random.default_rng(0).uniform(0.05, 1, 50_000)
    values[123] = -0.01
    found = oc.curvature.spectral_density(diagonal(values), probes=2, steps=60, tau=0)
    low, high = found.shares.negative_interval
    assert low <= 1 / 50_000 <= high < 1e-2
    assert found.minimum_ratio_interval[0] <= 49_999 / 50_000 <= found.minimum_ratio_interval[1]


def test_a_network():
    net = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 4), dtype="float64", seed=2)
    rng = np.random.default_rng(4)
    obj = nn.objective(net, "cross_entropy", rng.standard_normal((200, 8)), rng.integers(0, 4, 200))
    H = oc.curvature.Hessian(obj, net.theta)
    values = np.linalg.eigvalsh(H @ np.eye(obj.size))
    found = oc.curvature.spectral_density(H, probes=6, steps=40)
    assert found.products == 240 < obj.size
    low, high = found.at(found.grid).interval(0.999)
    exact = smoothed(values, found.grid, found.sigma)
    # Two probes' bumps at places where there is hardly any weight may agree: a tenth of a percent of the peak.
    assert np.mean((low - 1e-3 * exact.max() <= exact) & (exact <= high + 1e-3 * exact.max())) > 0.98
    for tau in (1e-6, 1e-3, 1e-2, 1e-1):
        interval = found.at_tau(tau).positive_interval
        assert interval[0] <= np.mean(values > tau) <= interval[1]


def test_repeats_and_less_memory():
    values = np.random.default_rng(1).uniform(-1, 1, 3000)
    first, again, other = (oc.curvature.spectral_density(diagonal(values), 2, 30, seed=s) for s in (0, 0, 1))
    assert np.array_equal(first.density, again.density)
    assert not np.array_equal(first.density, other.density)
    little = oc.curvature.spectral_density(diagonal(values), 2, 30, memory=8 * 3000 * 11)
    assert (little.steps, little.products) == (10, 20)
    single = oc.curvature.spectral_density(diagonal(values, "float32"), 2, 30, memory=4 * 3000 * 31)
    assert single.steps == 30
    np.testing.assert_allclose(single.density, first.density, atol=1e-4)


def test_one_probe_has_no_standard_error():
    found = oc.curvature.spectral_density(diagonal(np.arange(500.0)), 1, 20)
    assert np.isnan(found.standard_error).all()
    assert np.isnan(found.at(np.array([3.0])).interval()[0])


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({"probes": 0}, ValueError, "probes"), ({"steps": 1.5}, TypeError, "steps"), ({"tau": -1}, ValueError, "tau"),
    ({"tau": "a"}, TypeError, "tau"), ({"confidence": 1}, ValueError, "confidence"),
    ({"memory": 0}, ValueError, "memory"),
    ({"H": np.ones((3, 2))}, ValueError, "H"), ({"H": np.diag([np.nan, 1])}, FloatingPointError, "H")])
def test_errors(arguments, error, match):
    with pytest.raises(error, match=match):
        oc.curvature.spectral_density(**{"H": np.eye(3), **arguments})
    found = oc.curvature.spectral_density(np.eye(3))
    with pytest.raises(ValueError, match="sigma"):
        found.at(np.zeros(2), sigma=0)
    with pytest.raises(ValueError, match="tau"):
        found.at_tau(-1)
