"""Quantities of a whole matrix from products with random vectors, each with its standard error."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from optcore import checks
from optcore._native import reduce
from optcore.curvature.lanczos import most_vectors, project
from optcore.curvature.operators import Products
from optcore.process import one_pool


@dataclass(frozen=True)
class Estimate:
    """An estimated quantity, a number or an array.

    Attributes
    ----------
    value, standard_error : float or array
        The standard error is 0 where nothing was left to chance, NaN where one sample is all there is.
    samples : int
        How many independent terms the value is a mean of.
    products : int
        Products with H that it took.
    """

    value: float | np.ndarray
    standard_error: float | np.ndarray
    samples: int = 1
    products: int = 0

    def interval(self, confidence=0.95):
        """Return Student's interval with ``samples - 1`` degrees of freedom.

        Parameters
        ----------
        confidence : float
            In (0, 1).

        Returns
        -------
        low, high : float or array
            Like `value`; NaN for one sample.
        """
        checks.number("confidence", confidence, high=1, open_low=True, open_high=True)
        t = stdtrit(self.samples - 1, 0.5 + 0.5 * confidence) if self.samples > 1 else 1.0
        return self.value - t * self.standard_error, self.value + t * self.standard_error


def trace(H, products=90, seed=0, *, memory=2**32):
    """Return the trace of a symmetric operator, the sum of its eigenvalues.

    Hutch++ (Meyer, Musco, Musco, Woodruff 2021): with Q an orthonormal basis of H S, S a third of the random vectors,
    ``trace(H) = trace(Q'HQ) + trace((I - QQ') H (I - QQ'))``. The first term is exact and holds the large eigenvalues;
    the second is the mean of g'Hg over vectors g of random signs, projected (Hutchinson 1990). With k vectors in Q the
    error falls as 1/k, not as 1/sqrt(k).

    Parameters
    ----------
    H : Hessian, LinearOperator or array [n, n]
        Real and symmetric.
    products : int
        A third each for H S, H Q, H g. From n on the diagonal is computed.
    seed : int
    memory : float
        Bytes for Q, 8 n for each vector, or half of it where products are float32: fewer where they do not fit, and
        more vectors g instead.

    Returns
    -------
    Estimate
        Its standard error is that of the mean over g, given Q. Rounding and the error of the products come on top.

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> values = np.r_[100.0, -50.0, np.full(998, 0.01)]
    >>> estimate = oc.curvature.trace(np.diag(values), products=30)
    >>> bool(abs(estimate.value - values.sum()) < 0.1)
    True
    """
    return _sketched(H, products, seed, memory, reduce.dot)


def frobenius_norm(H, products=90, seed=0, *, memory=2**32):
    """Return the Frobenius norm of a symmetric operator, the root of the sum of squared eigenvalues.

    As `trace`, of H'H: ``|H|^2 = |HQ|^2 + |H (I - QQ')|^2``, the second term the mean of ``|Hg|^2``. The standard error
    is that of the square over twice the norm.

    Parameters
    ----------
    H, products, seed, memory
        As for `trace`.

    Returns
    -------
    Estimate

    Raises
    ------
    FloatingPointError, TypeError, ValueError
        As for `trace`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> float(round(oc.curvature.frobenius_norm(np.diag([3.0, 4.0])).value, 12))
    5.0
    """
    square = _sketched(H, products, seed, memory, lambda v, product: reduce.sum_squares(product))
    norm = sqrt(max(square.value, 0.0))
    return Estimate(norm, square.standard_error / (2 * norm) if norm else 0.0, square.samples, square.products)


def diagonal(H, products=100, seed=0):
    """Return the diagonal of a symmetric operator.

    The mean of v * Hv over vectors v of random signs (Bekas, Kokiopoulou, Saad 2007). The variance of one term is the
    sum of the squares of a row beside the diagonal: the estimate is good where the diagonal dominates.

    Parameters
    ----------
    H : Hessian, LinearOperator or array [n, n]
        Real and symmetric.
    products : int
        From n on the diagonal is computed. Two vectors of n numbers are held, and two for each product that the
        objective makes at once (``Objective.together``).
    seed : int

    Returns
    -------
    Estimate
        `value` and `standard_error` of shape [n].

    Raises
    ------
    FloatingPointError, TypeError, ValueError
        As for `trace`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.curvature.diagonal(np.diag(np.arange(200.0))).value[:3]
    array([0., 1., 2.])
    """
    product = Products(H)
    checks.integer("products", products)
    checks.integer("seed", seed, low=0)
    n = product.n
    with one_pool:
        if n <= products:
            return Estimate(_diagonal(product), np.zeros(n), n, product.count)
        rng, mean, squares = np.random.default_rng(seed), np.zeros(n), np.zeros(n)
        for i, (v, Hv) in enumerate(product.of(_signs(rng, n) for _ in range(products))):  # Welford's recurrence
            v *= Hv
            v -= mean
            mean += v / (i + 1)
            squares += v * v * (i / (i + 1))
    error = np.sqrt(squares / (products * (products - 1))) if products > 1 else np.full(n, np.nan)
    return Estimate(mean, error, products, product.count)


def _sketched(H, products, seed, memory, term):
    """The sum of ``term(v, Hv)`` over an orthonormal basis: over Q exactly, beside it by random signs."""
    product = Products(H)
    checks.integer("products", products)
    checks.integer("seed", seed, low=0)
    n, rng = product.n, np.random.default_rng(seed)
    fitting = most_vectors(n, memory, product.dtype)
    with one_pool:
        if n <= products:
            return Estimate(sum(term(v, Hv) for v, Hv in product.of(_units(n))), 0.0, n, product.count)
        basis = _range(product, rng, min(products // 3, fitting))
        known = sum(term(q, Hq) for q, Hq in product.of(basis))
        beside = _beside(basis, (_signs(rng, n, product.dtype) for _ in range(products - product.count)))
        samples = [term(v, Hv) for v, Hv in product.of(beside)]
    return Estimate(float(known + np.mean(samples)), float(standard_error(samples)), len(samples), product.count)


def standard_error(samples):
    """That of the mean over the first axis, NaN of one sample. Powers of two are taken out first, so that no square
    overflows."""
    samples = np.asarray(samples, np.float64)
    if len(samples) < 2:
        return np.full(samples.shape[1:], np.nan)
    exponent = int(np.frexp(np.abs(samples).max())[1])
    return np.ldexp(np.std(np.ldexp(samples, -exponent), axis=0, ddof=1) / sqrt(len(samples)), exponent)


def _range(product, rng, k):
    """Orthonormal rows that span H S, S k random vectors; fewer where H has a lower rank."""
    basis, count = np.empty((k, product.n), product.dtype), 0
    for _, found in product.of(_signs(rng, product.n, product.dtype) for _ in range(k)):
        v = basis[count]
        v[:] = found
        length = reduce.norm(v)
        for _ in range(2):  # once leaves rounding (Daniel, Gragg, Kaufman, Stewart 1976)
            project(v, basis[:count])
        rest = reduce.norm(v)
        if rest > 1e3 * np.finfo(product.dtype).eps * length:
            v /= rest
            count += 1
    return basis[:count]


def _beside(basis, vectors):
    for v in vectors:
        project(v, basis)
        yield v


def _signs(rng, n, dtype=np.float64):
    bits = rng.integers(0, 2, n, dtype=np.int8)
    return (2 * bits - 1).astype(dtype)


def _units(n):
    for i in range(n):
        unit = np.zeros(n)
        unit[i] = 1.0
        yield unit


def _diagonal(product):
    return np.array([Hv[i] for i, (_, Hv) in enumerate(product.of(_units(product.n)))])
