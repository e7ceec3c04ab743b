"""Extreme eigenvalues: pairs with residuals, by a Lanczos process and SciPy's eigsh; ends with a stated confidence."""

import inspect
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from optcore import checks
from optcore._native import blas
from optcore.curvature.lanczos import Lanczos, most_steps, residual_norms
from optcore.curvature.operators import Products
from optcore.process import one_pool

_EPS = float(np.finfo(np.float64).eps)
_DENSE_BELOW = 64  # n products and a small eigh cost less than a Lanczos run
_WHICH = ("LA", "SA", "BE", "LM")
_BLOCK = 5  # Lanczos steps between two looks at the residuals
_CHECK = 10  # Lanczos steps from a new start, orthogonal to what was found, to see what the first start missed


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of a symmetric operator with their vectors and residuals.

    Attributes
    ----------
    values : array [m]
        Ascending; m = k, or fewer where not all converged.
    vectors : array [n, m]
        Orthonormal columns.
    residuals : array [m]
        ``|H v - lambda v|``, each from a product of its own: an eigenvalue of H lies within it of the value.
    converged : bool
        All k pairs met the tolerance by the solver's account. With products of limited precision (float32)
        the residuals can be larger: they are what was reached.
    products : int
        Products with H, those for the residuals included.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    converged: bool
    products: int


def eigenpairs(H, k=5, which="LA", tol=1e-6, seed=0, maxiter=None, *, v0=None, memory=2**32):
    """Return k extreme eigenpairs of a symmetric operator.

    A Lanczos process that is never restarted takes the fewest products, so it goes first, as far as `memory`
    allows (at most 100 + 10 k steps). One start sees one vector of each eigenspace: a few steps from a second start,
    orthogonal to what was found, look for another copy or a pair that the first start missed. Where the process did
    not converge, ended early or missed something, SciPy's `eigsh` (ARPACK) continues from its vectors.

    ARPACK stops at ``residual <= tol * |lambda|``, which an eigenvalue near zero reaches last or never. It is
    given ``H + c I`` instead, c twice the norm of H: the same Krylov spaces, and a tolerance relative to the norm of
    H for every eigenvalue ("LM" needs no shift). Up to n = 64, and for k >= n - 1, the matrix is formed by n products.

    Parameters
    ----------
    H : Hessian, LinearOperator or array [n, n]
        Real and symmetric.
    k : int
        From 1 to n.
    which : {"LA", "SA", "BE", "LM"}
        The largest, the smallest, half from both ends (one more of the large for odd k), the largest in
        magnitude.
    tol : float
        Residual that counts as converged, relative to the norm of H; 0 is machine precision.
    seed : int
        Of all random vectors: the same seed gives the same answer.
    maxiter : int, optional
        Restarts of `eigsh`; SciPy's default is 10 n.
    v0 : array [n], optional
        A start near the wanted vectors (from a point nearby); Gaussian where it is not given.
    memory : float
        Bytes for basis vectors of n numbers, 8 n each (4 n where products are float32): the process stops and
        `eigsh` works with fewer vectors, at least k + 2, where they do not fit.

    Returns
    -------
    Eigenpairs

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.curvature.eigenpairs(np.diag(np.arange(100.0)), k=3).values
    array([97., 98., 99.])
    """
    product = Products(H)
    n = product.n
    _check_request(n, k, which, tol, seed)
    if maxiter is not None:
        checks.integer("maxiter", maxiter)
    start = _start(v0, n, seed)
    with one_pool:
        if n <= _DENSE_BELOW or k >= n - 1:
            values, vectors = np.linalg.eigh(product.dense()[0])
            chosen, converged = _choose(values, k, which), True
            values, vectors = values[chosen], vectors[:, chosen]
        else:
            values, vectors, converged = _krylov(product, k, which, tol, start, seed, maxiter, memory)
        residuals = residual_norms(product, values, vectors)
    return Eigenpairs(values, vectors, residuals, converged, product.count)


def _check_request(n, k, which, tol, seed):
    if not 1 <= checks.integer("k", k, low=-np.inf) <= n:
        raise ValueError(f"k: expected 1 to n = {n}, got {k}")
    checks.one_of("which", which, _WHICH)
    checks.number("tol", tol)
    checks.integer("seed", seed, low=0)


def _start(v0, n, seed):
    if v0 is None:
        return np.random.default_rng(seed).standard_normal(n)
    start = np.asarray(v0)
    if start.dtype.kind not in "iuf":
        raise TypeError(f"v0: expected real numbers, got dtype {start.dtype}")
    if start.shape != (n,):
        raise ValueError(f"v0: expected shape ({n},), got {start.shape}")
    start = start.astype(np.float64)
    if not (np.isfinite(start).all() and start.any()):
        raise ValueError("v0: expected a finite vector that is not zero")
    return start


def _choose(values, k, which):
    """Positions of the k wanted values among all of them, ascending."""
    n = values.size
    if which == "LM":
        return np.sort(np.argsort(np.abs(values), kind="stable")[n - k:])
    low = {"LA": 0, "SA": k, "BE": k // 2}[which]
    return np.r_[0:low, n - (k - low):n]


def _krylov(product, k, which, tol, start, seed, maxiter, memory):
    """The pairs by a Lanczos process, or by eigsh from where it ended."""
    n, rng = product.n, np.random.default_rng([seed, 1])
    dtype = np.float32 if product.dtype == np.float32 else np.float64
    process = Lanczos(product, start, min(most_steps(n, memory, dtype), 100 + 10 * k), dtype)
    while True:
        before = process.steps
        ritz = process.run(_BLOCK)
        norm = float(np.abs(ritz.values).max())
        if norm == 0.0 and process.exhausted:  # H start = 0 for a Gaussian start: H = 0 with probability one
            return np.zeros(k), np.linalg.qr(rng.standard_normal((n, k)))[0], True
        chosen = _choose(ritz.values, k, which) if ritz.values.size >= k else slice(None)
        vectors = None
        done = ritz.values.size >= k and bool((ritz.residuals[chosen] <= tol * norm).all())
        if done and not process.exhausted:
            values, vectors = ritz.values[chosen], _orthonormal(process.vectors(ritz.coordinates[:, chosen]))
            if not _missed(product, values, vectors, which, tol * norm, rng, dtype):
                return values, vectors, True
        if done or process.exhausted or process.steps == before:
            break
    if vectors is None:
        vectors = process.vectors(ritz.coordinates[:, chosen])
    norm += float(ritz.residuals[[0, -1]].max())
    del process  # its basis, before another is made
    return _arpack(product, k, which, tol, vectors.sum(axis=1).astype(np.float64), norm, rng, maxiter, memory)


def _orthonormal(vectors):
    """The columns in double, orthonormal to its rounding: those of a float32 basis are to its own."""
    rows = np.ascontiguousarray(vectors.T, np.float64)
    gram, result = np.empty((len(rows),) * 2), np.empty_like(rows)
    blas.matmul(rows, rows, gram, transpose_b=True)
    blas.matmul(np.linalg.inv(np.linalg.cholesky(gram)), rows, result)
    return result.T


def _missed(product, values, vectors, which, slack, rng, dtype):
    """Whether a process orthogonal to the pairs found sees a value that belongs among them."""
    n, k = vectors.shape
    steps = min(_CHECK, n - k)
    other = Lanczos(product, rng.standard_normal(n), steps, dtype, vectors.T).run(steps).values
    merged = np.sort(np.concatenate([values, other]))
    return float(np.abs(merged[_choose(merged, k, which)] - values).max()) > 10 * slack


def _arpack(product, k, which, tol, start, norm, rng, maxiter, memory):
    n = product.n
    which = "LA" if (which, k) == ("BE", 1) else which  # ARPACK has no half of one
    # In units of a power of two near the norm: ARPACK takes what is below eps^(2/3) for converged.
    unit = 2.0 ** float(np.clip(np.frexp(norm)[1], -1000, 1000))
    shift = 0.0 if which == "LM" else 2.0 * (norm / unit)

    def matvec(v):
        return np.multiply(product(v.reshape(-1)), 1 / unit, dtype=np.float64) + shift * v.reshape(-1)

    shifted = LinearOperator((n, n), dtype=np.float64, matvec=matvec)
    # From SciPy 1.17 eigsh takes the generator of the vectors that it draws when a Krylov space is exhausted.
    more = {"rng": rng} if "rng" in inspect.signature(eigsh).parameters else {}
    vectors = max(k + 2, min(max(2 * k + 1, 20), most_steps(n, memory)))
    try:
        # Shifted eigenvalues lie between norm and 3 norm: a third of tol keeps it relative to the norm of H.
        values, vectors = eigsh(shifted, k=k, which=which, tol=tol / 3 if shift else tol, v0=start,
                                ncv=min(vectors, n), maxiter=maxiter, **more)
        converged = True
    except ArpackNoConvergence as error:
        values, vectors, converged = error.eigenvalues, error.eigenvectors.reshape(n, -1), False
    order = np.argsort(values, kind="stable")
    return (values[order] - shift) * unit, vectors[:, order], converged


@dataclass(frozen=True)
class Extremes:
    """Where the smallest and the largest eigenvalue lie.

    Attributes
    ----------
    smallest, largest : (float, float)
        Intervals that hold lambda_min and lambda_max, both with probability `confidence` over the random start.
    confidence : float
        1 where all eigenvalues were computed.
    products : int
    """

    smallest: tuple
    largest: tuple
    confidence: float
    products: int


def extremes(H, confidence=0.99, *, tol=1e-2, max_products=300, seed=0, memory=2**32):
    """Return intervals for the smallest and the largest eigenvalue, with a stated confidence.

    A Lanczos process with a Gaussian start, full reorthogonalisation and no restart. From inside: a Ritz value is a
    Rayleigh quotient, so lambda_max is at least the largest, up to the error of the products. From outside: the bound
    of van Dorsselaer, Hochstenbach and van der Vorst (2000), which fails with probability ``1 - confidence`` at most
    for both ends together. The process ends when both intervals are within `tol`, or with its products or memory.

    Parameters
    ----------
    H : Hessian, LinearOperator or array [n, n]
        Real and symmetric.
    confidence : float
        Between 0 and 1.
    tol : float
        Length of both intervals, relative to the norm of H.
    max_products : int
    seed : int
    memory : float
        Bytes; the process keeps 8 n for each product.

    Returns
    -------
    Extremes

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> ends = oc.curvature.extremes(np.diag(np.linspace(-1, 3, 500)))
    >>> ends.smallest[0] <= -1 <= ends.smallest[1] and ends.largest[0] <= 3 <= ends.largest[1]
    True
    """
    product = Products(H)
    n = product.n
    checks.number("confidence", confidence, high=1, open_low=True, open_high=True)
    _check_request(n, 1, "LA", tol, seed)
    checks.integer("max_products", max_products)
    with one_pool:
        if n <= min(_DENSE_BELOW, max_products):
            matrix, noise = product.dense()
            values, confidence = np.linalg.eigvalsh(matrix), 1.0
            slack = noise + 10 * _EPS * n * float(np.abs(values).max())
            low, high = values[0] - slack, values[-1] + slack
        else:
            process = Lanczos(product, _start(None, n, seed), min(max_products, most_steps(n, memory)))
            while True:
                before = process.steps
                values = process.run(10).values
                low, high = process.bounds(values, confidence)
                wide = max(values[0] - low, high - values[-1]) > tol * float(np.abs(values).max())
                if not wide or process.exhausted or process.steps == before:
                    break
            slack = process.slack(values)
    return Extremes((float(low), float(values[0] + slack)), (float(values[-1] - slack), float(high)), confidence,
                    product.count)
