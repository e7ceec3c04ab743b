"""Curvature against matrices whose spectrum is known, closed forms and dense Hessians by PyTorch."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
import torch

import optcore as oc
from optcore.curvature.lanczos import Lanczos
from optcore.curvature.operators import Products


def quadratic(eigenvalues, seed=None):
    """1/2 t'At with A = Q diag(l) Q': Q a product of reflections, or the identity."""
    values = np.asarray(eigenvalues, dtype=float)
    rng = np.random.default_rng(seed)
    mirrors = [] if seed is None else [u / np.linalg.norm(u) for u in rng.standard_normal((3, values.size))]

    def apply(v):
        for u in mirrors:
            v = v - 2 * (u @ v) * u
        v = values * v
        for u in reversed(mirrors):
            v = v - 2 * (u @ v) * u
        return v

    return oc.Objective(lambda t: float(0.5 * t @ apply(t)), apply, lambda t, v: apply(v),
                        theta0=np.zeros(values.size))


def network(scale=1.0, height=1.0, shift=0.0, **more):
    """height (1 - ab)^2 + shift with (a, b) = theta / scale."""
    return oc.Objective(lambda t: height * (1 - t[0] * t[1] / scale**2) ** 2 + shift,
                        lambda t: -2 * height * (1 - t[0] * t[1] / scale**2) * t[::-1] / scale**2,
                        theta0=np.ones(2) * scale, **more)


def double_well():
    return oc.Objective(lambda t: (t[0] ** 2 - 1) ** 2 + t[1] ** 2,
                        lambda t: np.array([4 * t[0] * (t[0] ** 2 - 1), 2 * t[1]]), theta0=np.zeros(2))


def rosenbrock():
    return oc.Objective(
        lambda t: (1 - t[0]) ** 2 + 100 * (t[1] - t[0] ** 2) ** 2,
        lambda t: np.array([-2 * (1 - t[0]) - 400 * t[0] * (t[1] - t[0] ** 2), 200 * (t[1] - t[0] ** 2)]),
        theta0=np.zeros(2))


# --- the operator


def tanh_network():
    """A 3-4-2 network with 26 parameters, by PyTorch in float64: loss, gradient, dense Hessian."""
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(30, width, generator=generator, dtype=torch.float64) for width in (3, 2))

    def loss(t, batch=None):
        rows = slice(None) if batch is None else torch.as_tensor(batch)
        hidden = torch.tanh(x[rows] @ t[:12].reshape(3, 4) + t[12:16])
        return ((hidden @ t[16:24].reshape(4, 2) + t[24:26] - y[rows]) ** 2).mean()

    def grad(theta, batch=None):
        t = torch.tensor(theta, requires_grad=True)
        return torch.autograd.grad(loss(t, batch), t)[0].numpy()

    start = torch.randn(26, generator=generator, dtype=torch.float64).numpy()
    obj = oc.Objective(lambda t, batch=None: loss(torch.tensor(t), batch).item(), grad, theta0=start,
                       n_examples=30)
    return obj, lambda theta, batch=None: torch.autograd.functional.hessian(
        lambda t: loss(t, batch), torch.tensor(theta)).numpy()


@pytest.mark.parametrize("batch", [None, np.array([0, 3, 3, 7])])
def test_hessian_is_the_dense_hessian(batch):
    obj, dense = tanh_network()
    H = oc.curvature.Hessian(obj, obj.theta0, batch)
    assert isinstance(H, sla.LinearOperator)
    assert (H.shape, H.dtype) == ((26, 26), np.float64)
    exact = dense(np.array(obj.theta0), batch)
    # Central differences: eps^(2/3) times a third derivative of order |H|.
    np.testing.assert_allclose(H @ np.eye(26), exact, atol=1e-8 * np.abs(exact).max())
    assert H.products == 26
    v = np.random.default_rng(0).standard_normal(26)
    for product in (H @ v, H.T @ v, H.H @ v, H.rmatvec(v), (H @ v[:, None])[:, 0]):
        np.testing.assert_allclose(product, exact @ v, atol=1e-7)
    assert H.products == 31


def test_hessian_of_a_float32_objective_is_a_float64_operator():
    obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, lambda t, v: 2 * v, np.ones(3, "float32"))
    H = oc.curvature.Hessian(obj, obj.theta0)
    assert (H @ np.ones(3)).dtype == np.float64
    with pytest.raises(TypeError, match="obj: expected an Objective"):
        oc.curvature.Hessian(lambda t: t, np.ones(3))
    with pytest.raises(ValueError, match="theta"):
        oc.curvature.Hessian(obj, np.ones(4, "float32"))


# --- eigenpairs


def expected(values, k, which):
    if which == "LM":
        return np.sort(values[np.argsort(np.abs(values))[-k:]])
    low = {"LA": 0, "SA": k, "BE": k // 2}[which]
    values = np.sort(values)
    return np.concatenate([values[:low], values[len(values) - (k - low):]])


@pytest.mark.parametrize("which", ["LA", "SA", "BE", "LM"])
@pytest.mark.parametrize("k", [1, 4, 5])
@pytest.mark.parametrize("n", [5, 40, 150])
def test_eigenpairs_of_a_prescribed_spectrum(n, k, which):
    rng = np.random.default_rng(n)
    values = np.concatenate([rng.uniform(-1, 1, n - 5), [-7.0, -5.0, 5.5, 9.0, 12.0]])
    H = oc.curvature.Hessian(quadratic(values, seed=1), np.zeros(n))
    pairs = oc.curvature.eigenpairs(H, k, which, tol=1e-8)
    # The error of an eigenvalue is at most its residual, which tol times the norm 12 bounds.
    np.testing.assert_allclose(pairs.values, expected(values, k, which), atol=1e-6)
    assert pairs.converged
    assert (pairs.residuals <= 1e-6).all()
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(k), atol=1e-8)


def test_the_smallest_eigenvalue_near_zero_converges():
    # ARPACK's own rule, residual <= tol |lambda|, takes 18,000 products here: 40 times as many.
    values = np.random.default_rng(0).uniform(0, 1, 1000) ** 2
    pairs = oc.curvature.eigenpairs(np.diag(values), 1, "SA", tol=1e-4)
    assert pairs.converged
    assert abs(pairs.values[0] - values.min()) <= pairs.residuals[0] <= 1e-4
    assert pairs.products < 1000


@pytest.mark.parametrize("n", [1, 2, 3, 200])
@pytest.mark.parametrize("which", ["LA", "SA", "BE", "LM"])
def test_zero_and_identity(n, which):
    k = min(3, n)
    for factor in (0.0, 1.0, -2.0):
        pairs = oc.curvature.eigenpairs(factor * np.eye(n), k, which)
        np.testing.assert_allclose(pairs.values, np.full(k, factor), atol=1e-12)
        np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(k), atol=1e-10)


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_k_near_n_and_low_rank(which):
    n = 80
    a = np.diag(np.concatenate([[3.0, -2.0], np.zeros(n - 2)]))
    for k in (4, n - 1, n):
        pairs = oc.curvature.eigenpairs(a, k, which)
        np.testing.assert_allclose(pairs.values, expected(np.diag(a), k, which), atol=1e-6)


def test_eigenpairs_repeat_and_leave_numpy_alone():
    H = quadratic(np.linspace(-1, 3, 120), seed=3)
    H = oc.curvature.Hessian(H, np.zeros(120))
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (oc.curvature.eigenpairs(H, 3, seed=4) for _ in range(2))
    assert np.array_equal(first.vectors, second.vectors)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert not np.array_equal(first.vectors, oc.curvature.eigenpairs(H, 3, seed=5).vectors)


def test_partial_results_are_returned_and_marked():
    values = np.concatenate([np.linspace(0, 1, 395), [1.0001, 1.0002, 1.0003, 5, 9]])
    pairs = oc.curvature.eigenpairs(np.diag(values), 5, tol=1e-12, maxiter=2)
    assert not pairs.converged
    assert pairs.values.size < 5
    assert pairs.vectors.shape == (400, pairs.values.size)
    assert pairs.residuals.shape == pairs.values.shape


def test_products_that_are_not_finite_are_an_error():
    bad = sla.LinearOperator((100, 100), matvec=lambda v: v * np.nan, dtype=float)
    with pytest.raises(FloatingPointError, match="H: expected finite products"):
        oc.curvature.eigenpairs(bad, 2)


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({"H": np.ones((3, 2))}, ValueError, "H: expected a square"),
    ({"H": np.triu(np.ones((3, 3)))}, ValueError, "H: expected a symmetric"),
    ({"H": np.eye(3) * 1j}, TypeError, "H: expected a real"),
    ({"H": None}, TypeError, "H: expected a Hessian, a LinearOperator or a square array, got NoneType"),
    ({"k": 0}, ValueError, "k"), ({"k": 4}, ValueError, "k"), ({"k": 1.0}, TypeError, "k"),
    ({"which": "XX"}, ValueError, "which"), ({"tol": -1.0}, ValueError, "tol"),
    ({"tol": "a"}, TypeError, "tol: expected a number"),
])
def test_errors_of_eigenpairs(arguments, error, match):
    with pytest.raises(error, match=match):
        oc.curvature.eigenpairs(**{"H": np.eye(3), "k": 1, **arguments})


# --- the Lanczos bounds


@pytest.mark.parametrize("shape", ["uniform", "hidden", "clustered", "outliers", "geometric"])
def test_coverage_of_the_lanczos_bounds(shape):
    """At confidence 0.8 (0.1 for each end), over 150 starts, either end is missed about 15 times or fewer."""
    rng = np.random.default_rng(6)
    n, confidence, starts = 60, 0.8, 150
    values = {"uniform": rng.uniform(-1, 1, n), "hidden": np.r_[-0.02, rng.uniform(0, 1, n - 1)],
              "clustered": np.r_[np.zeros(30), np.ones(29), 1.001], "geometric": -np.geomspace(1e-8, 1, n),
              "outliers": np.r_[rng.normal(0, 0.01, n - 3), 1.0, 10.0, 100.0]}[shape]
    true_low, true_high = values.min(), values.max()
    low_missed = high_missed = looser = 0
    for _ in range(starts):
        process = Lanczos(lambda v: values * v, rng.standard_normal(n), 6)
        ritz = process.run(6).values
        low, high = process.bounds(ritz, confidence)
        low_missed += low > true_low
        high_missed += high < true_high
        looser += low < ritz[0] and high > ritz[-1]
    # Binomial(150, 0.1): more than 28 misses has probability 2e-4.
    assert low_missed <= 28
    assert high_missed <= 28
    assert looser == starts


def test_lanczos_bounds_close_in_and_ritz_values_do_not_repeat():
    n = 400
    values = np.concatenate([np.linspace(0, 1, n - 1), [50.0]])  # without reorthogonalisation 50 comes twice
    process = Lanczos(Products(quadratic_matrix(values)), np.random.default_rng(0).standard_normal(n), 120)
    widths = []
    for _ in range(6):
        ritz = process.run(20)
        low, high = process.bounds(ritz.values, 0.99)
        assert low <= 0
        assert high >= 50
        widths.append(-low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 2e-3
    assert (ritz.values > 2).sum() == 1
    assert process.noise < 1e-12


SPECTRA = {"uniform": np.linspace(-1, 1, 3000), "needle": np.r_[np.linspace(0, 1, 2999), 1e4],
           "outliers": np.r_[np.random.default_rng(0).normal(0, 0.01, 2990), 10.0 ** np.arange(-6, 4)],
           "few": np.r_[np.zeros(1000), np.ones(1999), 1.001]}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("error", [0.0, 1e-6, 1e-2])  # of products; with the last, corrections cannot be put off
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_basis_is_orthonormal_and_its_recurrence_holds_to_working_precision(spectrum, error, dtype):
    values, rng = SPECTRA[spectrum], np.random.default_rng(3)

    def product(v):
        exact = values * v
        noise = rng.standard_normal(values.size)
        return (exact + error * np.linalg.norm(exact) / np.linalg.norm(noise) * noise).astype(dtype)

    process = Lanczos(product, rng.standard_normal(values.size), 90, dtype)
    for steps in (1, 4, 85):  # continued runs are one run
        process.run(steps)
    Q = process.vectors(np.eye(process.steps)).T.astype(float)
    eps, size = np.finfo(dtype).eps, np.abs(values).max()
    # One reading of the basis leaves what it rounds: an eps or so of each of up to 90 unit vectors' components.
    assert np.abs(Q @ Q.T - np.eye(len(Q))).max() <= 10 * eps
    alpha, beta = process.probe().alpha, process.probe().beta[:-1]
    T = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
    assert np.linalg.norm((Q * values) @ Q.T - T, 2) <= (10 * np.sqrt(len(Q)) * eps + 2 * error) * size


def quadratic_matrix(values):
    return sla.LinearOperator((len(values),) * 2, matvec=lambda v: values * v.reshape(-1), dtype=float)


def test_an_exhausted_space_gives_tight_bounds():
    for values in (np.zeros(7), np.ones(50), np.r_[np.full(20, -1.0), np.full(30, 2.0)], np.ones(1)):
        start = np.random.default_rng(1).standard_normal(values.size)
        process = Lanczos(lambda v, values=values: values * v, start, 10)
        ritz = process.run(10)
        assert process.exhausted
        low, high = process.bounds(ritz.values, 0.99)
        np.testing.assert_allclose([low, high], [values.min(), values.max()], atol=1e-12)


# --- classify: the known answers


@pytest.mark.parametrize(("obj", "theta", "kind", "eigenvalues"), [
    (network(), [0, 0], "saddle", [-2, 2]),
    (network(), [1, 1], "minimum", [0, 4]),
    (network(), [2, 0.5], "minimum", [0, 8.5]),
    (double_well(), [0, 0], "saddle", [-4, 2]),
    (double_well(), [1, 0], "minimum", [2, 8]),
    (rosenbrock(), [1, 1], "minimum", [501 - np.sqrt(250601), 501 + np.sqrt(250601)]),
    (quadratic([-1, -3]), [0, 0], "maximum", [-3, -1]),
    (quadratic([2.0]), [0], "minimum", [2]),
    (quadratic([0.0, 0.0]), [3, 4], "degenerate", [0, 0]),
])
def test_known_answers(obj, theta, kind, eigenvalues):
    point = oc.curvature.classify(obj, theta)
    assert point.kind == kind
    # Central differences: 4e-11 times the third derivative, 2,400 for Rosenbrock's function.
    np.testing.assert_allclose(point.eigenvalues, eigenvalues, atol=1e-6)
    assert point.gradient_norm == 0
    positive, zero = (np.mean([test(value) for value in eigenvalues])
                      for test in (lambda value: value > 0, lambda value: value == 0))
    assert (point.minimum_ratio, point.zero_share) == (positive, zero)
    assert point.minimum_ratio_interval == (positive, positive)
    assert (point.direction is not None) == (min(eigenvalues) < 0)
    assert kind in str(point)


def test_the_direction_at_the_origin_of_the_network():
    direction = oc.curvature.classify(network(), np.zeros(2)).direction
    np.testing.assert_allclose(np.abs(direction), np.sqrt(0.5), atol=1e-9)
    assert direction[0] * direction[1] > 0


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_higher_orders_are_degenerate(shift):
    """x^3 - 3xy^2, and x^4, to which a difference quotient gives 1e-10 that the loss does not confirm."""
    monkey = oc.Objective(lambda t: t[0] ** 3 - 3 * t[0] * t[1] ** 2 + shift,
                          lambda t: np.array([3 * t[0] ** 2 - 3 * t[1] ** 2, -6 * t[0] * t[1]]),
                          theta0=np.ones(2))
    quartic, unit = (oc.Objective(lambda t: float(np.sum(t**4)) + shift, lambda t: 4 * t**3, theta0=start)
                     for start in (np.ones(2), np.zeros(2)))
    for obj in (monkey, quartic, unit):
        point = oc.curvature.classify(obj, np.zeros(2))
        assert point.kind == "degenerate"
        np.testing.assert_allclose(point.eigenvalues, [0, 0], atol=1e-9)
    assert oc.curvature.classify(quartic, np.full(2, 0.1)).kind == "not critical"


PLACES = [((0, 0), "saddle"), ((1, 1), "minimum"), ((2, 0.5), "minimum"), ((1 + 1e-7, 1 + 1e-7), "minimum"),
          ((1e-7, 2e-7), "saddle"),
          ((1 + 1e-5, 1 - 3e-6), "minimum"),  # a curvature of -1.4e-5 beside the valley
          ((0.99, 0.99), "not critical"), ((0.9, 0.9), "not critical"), ((0.5, 0.3), "not critical"),
          ((0.01, 0.01), "not critical"), ((3, 2), "not critical")]


@pytest.mark.parametrize(("scale", "height", "shift"), [
    (1, 1, 0), (1, 1, 1e3), (1, 1, -1.0), (1, 1e-6, 0), (1, 1e-6, 1e-6), (1, 1e6, 0), (1, 1e6, -3e7),
    (1e-3, 1, 0), (1e3, 1, 5), (1e4, 1e6, 0)])
def test_kind_is_free_of_the_scales_and_the_zero_of_the_loss(scale, height, shift):
    obj = network(scale, height, shift)
    for place, kind in PLACES:
        assert oc.curvature.classify(obj, scale * np.array(place)).kind == kind, place


def test_a_unit_of_theta_can_be_stated():
    """theta varies over 1e-8: the difference quotient's step must know."""
    obj = network(1e-8, theta_scale=1e-8)
    for place, kind in PLACES:
        assert oc.curvature.classify(obj, 1e-8 * np.array(place)).kind == kind, place


@pytest.mark.parametrize("condition", [1e2, 1e5])
def test_valley(condition):
    obj = quadratic([1.0, 1 / condition, 0.3], seed=4)
    valley = np.linalg.eigh(oc.curvature.Hessian(obj, np.zeros(3)) @ np.eye(3))[1][:, 0]
    assert oc.curvature.classify(obj, valley).kind == "not critical"
    assert oc.curvature.classify(obj, 1e-9 * valley).kind == "minimum"


def test_float32_objective():
    h = np.array([[2.0, 0.0], [0.0, -1.0]], "float32")
    obj = oc.Objective(lambda t: float(t @ h @ t) / 2 + 1, lambda t: h @ t, theta0=np.ones(2, "float32"))
    point = oc.curvature.classify(obj, np.zeros(2, "float32"))
    assert point.kind == "saddle"
    np.testing.assert_allclose(point.eigenvalues, [-1, 2], atol=1e-5)
    assert oc.curvature.classify(obj, np.array([0.1, 0.1], "float32")).kind == "not critical"


def test_noise_of_the_products_raises_tau():
    """Products with an error of 1e-3: an eigenvalue of -1e-4 cannot be told from zero."""
    rng = np.random.default_rng(8)
    values = np.linspace(1, 2, 30)
    values[0] = -1e-4
    errors = 1e-3 * rng.standard_normal((30, 30))
    noisy = oc.Objective(lambda t: float(t @ (values * t)) / 2, lambda t: values * t,
                         lambda t, v: values * v + errors @ v, theta0=np.zeros(30))
    point = oc.curvature.classify(noisy, np.zeros(30))
    assert point.tau > 1e-3
    assert point.kind == "minimum"
    assert point.zero_share == 1 / 30


def test_kink_is_never_called_a_saddle_by_its_gradient():
    obj = oc.Objective(lambda t: float(np.abs(t).sum()), np.sign, lambda t, v: 0 * v, theta0=np.ones(2))
    assert oc.curvature.classify(obj, np.ones(2)).kind == "not critical"
    assert oc.curvature.classify(obj, np.zeros(2)).kind == "degenerate"


def scale_free(t):
    """A loss of the direction of w = t[:2] only, as of weights that feed a batch norm, and of t[2]."""
    return (t[0] / np.hypot(t[0], t[1]) - 0.5) ** 2 + (t[2] - 1) ** 2


def test_weights_before_a_normalisation_are_no_saddle_off_the_critical_point():
    def torch_loss(t):
        return (t[0] / torch.hypot(t[0], t[1]) - 0.5) ** 2 + (t[2] - 1) ** 2  # of scale_free

    def grad(theta):
        t = torch.tensor(theta, requires_grad=True)
        return torch.autograd.grad(torch_loss(t), t)[0].numpy()

    obj = oc.Objective(scale_free, grad, theta0=np.array([1.0, 0.5, 2.0]))
    obj.mode = "train"
    point = oc.curvature.classify(obj, obj.theta0)
    assert point.eigenvalues[0] < 0
    assert point.kind == "not critical"
    assert "alone is no saddle" in point.certificate
    at_rest = oc.curvature.classify(obj, np.array([0.5, np.sqrt(0.75), 1.0]))
    assert at_rest.kind == "minimum"
    assert at_rest.zero_share == pytest.approx(1 / 3)


# --- classify without all eigenvalues


def test_a_hidden_negative_eigenvalue():
    """n = 50,000, one -0.01 under a bulk in [0, 1]: 20 products do not see it and must not say minimum."""
    values = np.random.default_rng(0).uniform(0, 1, 50_000)
    values[123] = -0.01
    obj = quadratic(values, seed=5)
    few = oc.curvature.classify(obj, np.zeros(50_000), max_products=20)
    assert few.kind == "undetermined"
    assert few.products == 20
    assert few.bounds[0] < -0.01
    assert few.minimum_ratio_interval[0] <= 49_999 / 50_000 <= few.minimum_ratio_interval[1]
    point = oc.curvature.classify(obj, np.zeros(50_000))
    assert point.kind == "saddle"
    assert abs(point.eigenvalues[0] + 0.01) <= point.residuals[0]
    np.testing.assert_allclose(point.direction @ obj.hvp(np.zeros(50_000), point.direction), -0.01, rtol=1e-3)


@pytest.mark.parametrize(("shape", "kind"), [
    ("bowl", "minimum"), ("flat bowl", "minimum"), ("hill", "maximum"), ("pass", "saddle"),
    ("nothing", "degenerate")])
def test_kinds_from_lanczos(shape, kind):
    n = 4000
    bulk = np.random.default_rng(3).uniform(0, 1, n)
    first = np.arange(n) < 1000
    values = {"bowl": bulk + 0.1, "flat bowl": np.where(first, 0.0, 0.1 + bulk), "hill": -bulk - 0.1,
              "pass": np.where(first, -bulk, bulk), "nothing": 0 * bulk}[shape]
    point = oc.curvature.classify(quadratic(values, seed=6), np.zeros(n))
    assert point.kind == kind
    low, high = point.bounds
    assert low <= values.min()
    assert values.max() <= high
    share_low, share_high = point.minimum_ratio_interval
    assert share_low <= np.mean(values > point.tau) <= share_high
    if kind == "minimum":
        assert point.tau <= 1e-3 * 1.2
        assert point.confidence == 0.99
    if shape == "flat bowl":
        assert abs(point.zero_share - 0.25) < 0.05  # one Gaussian probe of 4,000: a deviation of 0.01


def test_lanczos_and_dense_agree_on_being_critical():
    values = np.random.default_rng(4).uniform(0.1, 1, 300)
    obj = quadratic(values, seed=7)
    theta = 1e-3 * np.random.default_rng(5).standard_normal(300)
    dense, lanczos = (oc.curvature.classify(obj, theta, dense_limit=limit) for limit in (300, 0))
    assert dense.kind == lanczos.kind == "not critical"
    assert dense.curvature == lanczos.curvature == "minimum"
    # 40 Lanczos steps on a condition number of 10: the quadrature has converged.
    assert lanczos.decrease == pytest.approx(dense.decrease, rel=1e-6)
    assert lanczos.decrease == pytest.approx(obj.loss(theta), rel=1e-6)


def test_a_minimum_with_flat_directions_is_one_of_second_order():
    """x^2 - y^4 is none: the Hessian cannot know, and what is said must not go beyond it."""
    obj = oc.Objective(lambda t: t[0] ** 2 - t[1] ** 4, lambda t: np.array([2 * t[0], -4 * t[1] ** 3]),
                       lambda t, v: np.array([2 * v[0], -12 * t[1] ** 2 * v[1]]), theta0=np.zeros(2))
    point = oc.curvature.classify(obj, np.zeros(2))
    assert (point.kind, point.zero_share) == ("minimum", 0.5)
    assert "to second order" in point.certificate
    np.testing.assert_allclose(np.abs(point.flat), [[0], [1]], atol=1e-15)  # of a diagonal matrix
    bowl = oc.curvature.classify(double_well(), [1, 0])
    assert "second order" not in bowl.certificate
    assert bowl.flat.shape == (2, 0)
    values = np.r_[np.zeros(50), np.linspace(0.1, 1, 150)]
    lanczos = oc.curvature.classify(quadratic(values, seed=1), np.zeros(200), dense_limit=0)
    assert "to second order" in lanczos.certificate


# --- classify: what comes in


def test_not_finite_is_reported():
    nan = np.full(2, np.nan)
    cases = {"loss": oc.Objective(lambda t: np.inf, lambda t: t, theta0=np.ones(2)),
             "gradient": oc.Objective(lambda t: 1.0, lambda t: nan, theta0=np.ones(2)),
             "product": oc.Objective(lambda t: 1.0, lambda t: 0 * t, lambda t, v: nan, theta0=np.ones(2))}
    for name, obj in cases.items():
        for limit in (2000, 0):
            point = oc.curvature.classify(obj, np.ones(2), dense_limit=limit)
            assert point.kind == "undetermined"
            assert name in point.certificate
            assert "not finite" in str(point)


def test_theta_is_never_changed():
    obj, _ = tanh_network()
    theta = np.array(obj.theta0)
    theta.flags.writeable = False
    oc.curvature.classify(obj, theta)
    oc.curvature.classify(obj, theta, dense_limit=0)
    result = oc.curvature.escape(obj, theta)
    assert np.array_equal(theta, obj.theta0)
    assert not np.shares_memory(result.theta, theta)


@pytest.mark.parametrize("options", [{"tau": 2.0}, {"tau": -1}, {"confidence": 1.0}, {"k": 0},
                                     {"max_products": 0}, {"critical_tol": np.nan}, {"critical_tol": -1}])
def test_errors_of_classify(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        oc.curvature.classify(network(), np.zeros(2), **options)


@pytest.mark.parametrize("name", ["tau", "critical_tol", "confidence", "dense_limit"])
def test_numbers_of_classify(name):
    with pytest.raises(TypeError, match=f"{name}: expected a number, got 'a'"):
        oc.curvature.classify(network(), np.zeros(2), **{name: "a"})


def test_classify_needs_a_gradient():
    with pytest.raises(TypeError, match="grad"):
        oc.curvature.classify(oc.Objective(lambda t: 0.0, theta0=np.ones(2)), np.ones(2))
    with pytest.raises(TypeError, match="obj"):
        oc.curvature.classify(np.ones(2), np.ones(2))


def test_classify_in_little_memory():
    obj = quadratic(np.random.default_rng(0).uniform(0.1, 1, 3000), seed=5)
    point = oc.curvature.classify(obj, np.full(3000, 1e-3), memory=8 * 3000 * 20)
    assert point.products <= 20 + 6  # bases of 19 vectors, and 6 for residuals
    assert point.bounds[0] <= 0.1
    with pytest.raises(ValueError, match="memory: expected a positive number of bytes"):
        oc.curvature.classify(obj, np.zeros(3000), memory=0)
