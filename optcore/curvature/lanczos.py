"""The Lanczos process: never restarted, fully reorthogonalised, with bounds that hold with a stated probability."""

from dataclasses import dataclass
from math import log, sqrt
from numbers import Real

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import betaincinv

from optcore._native import blas, reduce
from optcore.curvature.quadrature import Probe

_EPS = float(np.finfo(np.float64).eps)


def most_vectors(n, memory, dtype=np.float64):
    """How many vectors of n numbers a number of bytes allows."""
    if isinstance(memory, bool) or not isinstance(memory, Real) or not memory > 0:
        raise ValueError(f"memory: expected a positive number of bytes, got {memory!r}")
    return int(min(memory / (n * np.dtype(dtype).itemsize), n + 1))


def most_steps(n, memory, dtype=np.float64):
    """How many Lanczos steps a number of bytes allows: the basis holds one vector more; at least 2."""
    return max(2, min(most_vectors(n, memory, dtype) - 1, n))


def project(w, rows):
    """Make w orthogonal to orthonormal rows, in place; return its components along them."""
    components = reduce.components(rows, w)
    reduce.subtract_rows(rows, components, w)
    return components


def residual_norms(product, values, vectors):
    """``|H v - lambda v|`` of each pair."""
    norms = []
    for value, v in zip(values, np.ascontiguousarray(vectors.T), strict=True):
        rest = np.array(product(v))  # a copy: the operator may have returned v itself
        reduce.subtract_rows(v[None], np.array([value]), rest)
        norms.append(reduce.norm(rest))
    return np.array(norms)


@dataclass(frozen=True)
class Ritz:
    """Eigenvalues of a Lanczos process's tridiagonal matrix: approximations from inside the spectrum.

    Attributes
    ----------
    values : array [j]
        Ascending.
    residuals : array [j]
        beta_j times the last component of each eigenvector: ``|H v - lambda v|`` in exact arithmetic.
    weights : array [j]
        Squared first components: the Gauss quadrature of the spectral measure of the starting vector.
    coordinates : array [j, j]
        The eigenvectors in the Lanczos basis, as columns.
    """

    values: np.ndarray
    residuals: np.ndarray
    weights: np.ndarray
    coordinates: np.ndarray


class Lanczos:
    """The Lanczos process of a symmetric operator, never restarted, with full reorthogonalisation.

    It keeps its basis, ``n (max_steps + 1)`` numbers of the dtype, so that a run can be continued, that no
    eigenvalue shows up twice and that `bounds` holds.

    Parameters
    ----------
    product : callable
        ``product(v) -> H v`` for a vector of the dtype.
    start : array [n]
        A vector that is not zero; for `bounds` one with independent Gaussian components.
    max_steps : int
    dtype : {"float64", "float32"}
        Of the basis.
    locked : array [m, n], optional
        Orthonormal rows: the process is that of the operator on the space orthogonal to them.

    Attributes
    ----------
    steps : int
        Products so far.
    exhausted : bool
        The Krylov space is invariant up to rounding: the Ritz values are all the eigenvalues that the start
        contains.
    noise : float
        Largest component of a product where the recurrence of a symmetric matrix has none: a measure of the
        error of the products.
    """

    def __init__(self, product, start, max_steps, dtype=np.float64, locked=None):
        locked = np.empty((0, start.size)) if locked is None else locked
        self._product, self._locked = product, len(locked)
        n = start.size - len(locked)  # the dimension of the space
        self._basis = np.empty((len(locked) + min(max_steps, n) + 1, start.size), dtype)
        self._basis[:len(locked)] = locked
        first = self._basis[len(locked)]
        first[:] = start
        project(first, self._basis[:len(locked)])
        self._square = reduce.sum_squares(first)
        first /= sqrt(self._square)
        self._alpha, self._beta = [], []
        self._dimension = n
        self._along = np.zeros(len(locked))  # of the last vector, what is still to be taken out of it
        self.exhausted, self.noise = False, 0.0

    @property
    def steps(self):
        """Products so far."""
        return len(self._alpha)

    def run(self, steps):
        """Continue for a number of steps, or until the space is exhausted; return the Ritz values."""
        for _ in range(steps):
            if self.exhausted or self.steps == len(self._basis) - self._locked - 1:
                break
            self._step()
        return self.ritz()

    def _step(self):
        """One step, with one reading of the basis.

        What a product has along the basis beside the three terms of the recurrence is its own error: small. So it is
        measured now and taken out of the new vector at the next step, when the basis is read again (delayed
        reorthogonalisation: Hernandez, Roman, Tomas 2007; Bielich et al. 2022). The product with the vector as it was,
        q + Q c, has along the basis H Q c = Q T c more, which is known and goes at once, so that nothing grows.
        """
        j = self.steps
        known, w = np.split(self._basis[:self._locked + j + 2], [-1])
        q, w = known[-1], w[0]  # the next row: no temporary takes as much memory
        w[:] = self._product(q)
        alpha = reduce.dot(q, w)
        reduce.subtract_rows(known[-2:] if j else known[-1:], np.array([*self._beta[-1:], alpha]), w)
        before = reduce.sweep(known[:-1], self._along, q, self._images(alpha), w)
        components = np.append(before, reduce.dot(q, w))
        self.noise = max(self.noise, float(np.linalg.norm(before[self._locked:])))
        self._alpha.append(alpha + float(components[-1]) - (self._beta[-1] * float(self._along[-1]) if j else 0.0))
        self._along, beta = self._delayed(known, components, w)
        self._beta.append(beta)
        scale = max(np.abs(self._alpha).max(), max(self._beta[:-1], default=0.0))
        eps = float(np.finfo(w.dtype).eps)
        self.exhausted = beta <= 10 * eps * sqrt(j + 1) * scale or j + 1 == self._dimension
        if not self.exhausted:
            w /= beta
            self._along /= beta

    def _images(self, alpha):
        """(T - alpha) c: what the error c of the last vector brought into its product, along the vectors before it."""
        images = np.zeros_like(self._along)
        c, image = self._along[self._locked:], images[self._locked:]
        image[:] = c * (np.array(self._alpha) - alpha)
        image[1:] += c[:-1] * self._beta[:-1]
        image[:-1] += c[1:] * self._beta[:-1]
        return images

    def _delayed(self, known, components, w):
        """What of w's components along the basis the next step takes out, and the norm of w; the others go now.

        Up to the root of the rounding unit they leave the recurrence as it is (Simon 1984). A large part of w goes
        twice (Daniel, Gragg, Kaufman, Stewart 1976). Locked vectors have no T that says what their products are.
        """
        size, norm = float(np.linalg.norm(components)), reduce.norm(w)
        if not self._locked and size <= sqrt(np.finfo(w.dtype).eps) * norm:
            return components, norm
        reduce.subtract_rows(known, components, w)
        if size > 0.1 * reduce.norm(w):
            project(w, known)
        return np.zeros(len(known)), reduce.norm(w)

    def ritz(self):
        """Return the Ritz values of the steps so far."""
        values, coordinates = eigh_tridiagonal(np.array(self._alpha), np.array(self._beta[:-1]))
        last = 0.0 if self.exhausted else self._beta[-1]
        return Ritz(values, last * np.abs(coordinates[-1]), coordinates[0] ** 2, coordinates)

    def probe(self):
        """Return what the start knows of the whole spectrum, a `Probe`."""
        ritz = self.ritz()
        beta = np.array(self._beta)
        beta[-1] = 0.0 if self.exhausted else beta[-1]
        return Probe(np.array(self._alpha), beta, self._square, self.slack(ritz.values), ritz.values, ritz.weights,
                     ritz.residuals)

    def vectors(self, coordinates):
        """Return Ritz vectors, as columns, from their coordinates."""
        basis = self._basis[self._locked:self._locked + self.steps]
        rows = np.empty((coordinates.shape[1], basis.shape[1]), basis.dtype)
        blas.matmul(np.ascontiguousarray(coordinates.T, basis.dtype), basis, rows)
        return rows.T

    def slack(self, values):
        """How far rounding and the error of the products may have moved Ritz values."""
        return 2 * self.noise + 10 * _EPS * sqrt(self.steps) * float(np.abs(values).max())

    def bounds(self, values, confidence):
        """Return an interval that holds all eigenvalues with a stated probability over the Gaussian start.

        With v_1 uniform on the sphere and p_j the Lanczos polynomials (``q_{j+1} = p_j(H) v_1`` is a unit
        vector), ``|p_j(lambda_1)| |x_1' v_1| <= 1``. The component ``|x_1' v_1|`` is below delta with
        probability ``I_{delta^2}(1/2, (n-1)/2)`` (regularised incomplete beta), and p_j grows outside the
        Ritz values, so lambda_1 lies inside the point where ``|p_j| = 1/delta``. One event serves every j:
        the run may stop whenever the bound is good enough. Widened by the noise of the products.

        Reference: van Dorsselaer, Hochstenbach, van der Vorst, SIAM J. Matrix Anal. Appl. 22 (2000) 837.

        Parameters
        ----------
        values : array [j]
            The Ritz values of the steps so far.
        confidence : float
            Of both ends together.

        Returns
        -------
        low, high : float
        """
        slack = self.slack(values)
        if self.exhausted:
            return float(values[0]) - slack, float(values[-1]) + slack
        n = self._dimension
        delta2 = float(betaincinv(0.5, 0.5 * (n - 1), 0.5 * (1 - confidence)))
        level = -0.5 * log(delta2) + float(np.sum(np.log(self._beta)))
        low, high = (_reach(level, gaps) for gaps in (values - values[0], values[-1] - values))
        return float(values[0]) - low - slack, float(values[-1]) + high + slack


def _reach(level, gaps):
    """The distance x > 0 at which sum(log(x + gaps)) = level: the sum grows from -inf, since one gap is 0."""

    def excess(u):
        return float(np.sum(np.log(np.exp(u) + gaps))) - level

    above = level / gaps.size + 1e-9  # no gap is negative, so the sum at exp(level / size) is at least level
    below = above - 1.0
    while excess(below) > 0:
        below -= 2 * (above - below)
    return float(np.exp(brentq(excess, below, above, xtol=1e-6)))
