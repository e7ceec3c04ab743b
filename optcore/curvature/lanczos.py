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
_LINE = 16  # numbers in one or two cache lines


def most_vectors(n, memory, dtype=np.float64):
    """How many vectors of n numbers a number of bytes allows."""
    if isinstance(memory, bool) or not isinstance(memory, Real) or not memory > 0:
        raise ValueError(f"memory: expected a positive number of bytes, got {memory!r}")
    return int(min(memory / (n * np.dtype(dtype).itemsize), n + 1))


def most_steps(n, memory, dtype=np.float64):
    """How many Lanczos steps a number of bytes allows: the basis holds one vector more; at least 2."""
    return max(2, min(most_vectors(n, memory, dtype) - 1, n))


def _longer(vector):
    return np.append(vector, 0.0)


def project(w, rows):
    """Make w orthogonal to orthonormal rows, in place; return its components along them."""
    components = reduce.components(rows, w)
    reduce.subtract_rows(rows, components, w)
    return components


def run_together(processes, steps, multiply):
    """Continue each process as its `run` does, all at the same pace.

    Parameters
    ----------
    processes : sequence of Lanczos
    steps : int
    multiply : callable
        From a list of vectors to the list of their products: what the processes ask for at one time.
    """
    waiting = [(asks, next(asks, None)) for asks in (process.asks(steps) for process in processes)]
    while waiting := [(asks, vector) for asks, vector in waiting if vector is not None]:
        products = multiply([vector for _, vector in waiting])
        waiting = [(asks, _sent(asks, product)) for (asks, _), product in zip(waiting, products, strict=True)]


def _sent(asks, product):
    try:
        return asks.send(product)
    except StopIteration:
        return None


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
        self._product, self._locked, self._size = product, len(locked), start.size
        n = start.size - len(locked)  # the dimension of the space
        width = -(-start.size // _LINE) * _LINE  # rows that begin on cache lines are read in two thirds of the time
        self._basis = np.empty((len(locked) + min(max_steps, n) + 1, width), dtype)
        self._basis[:, start.size:] = 0.0
        self._basis[:len(locked), :start.size] = locked
        first = self._basis[len(locked)]
        first[:start.size] = start
        project(first, self._basis[:len(locked)])
        self._square = reduce.sum_squares(first)
        first /= sqrt(self._square)
        self._alpha, self._beta = [], []
        self._dimension = n
        self._along = np.zeros((2, max(len(locked) - 1, 0)))  # what is still to be taken out of the last two vectors
        self.exhausted, self.noise = False, 0.0

    @property
    def steps(self):
        """Products so far."""
        return len(self._alpha)

    def run(self, steps):
        """Continue for a number of steps, or until the space is exhausted; return the Ritz values."""
        run_together([self], steps, lambda vs: [self._product(v) for v in vs])
        return self.ritz()

    def asks(self, steps):
        """Continue for a number of steps, or until the space is exhausted: yields vectors, is sent their products."""
        end = min(self.steps + steps, len(self._basis) - self._locked - 1)
        while self.steps < end and not self.exhausted:
            yield from self._step(end - self.steps)

    def _step(self, most):
        """One or two steps, at most as many as asked for, with one reading of the basis.

        What a product has along the basis beside the three terms of the recurrence is its own error: small. So it is
        measured now and taken out of the new vectors at the next step, when the basis is read again (delayed
        reorthogonalisation: Hernandez, Roman, Tomas 2007; Bielich et al. 2022); the second product takes the first's
        vector as it is, where that is sure to be orthogonal to the root of the rounding unit (Simon 1984). The product
        with a vector as it was, q + Q c, has along the basis H Q c = Q T c more, which is known and goes at once, so
        nothing grows.
        """
        last, before, beta = self._locked + self.steps, self._along, self._beta[-1] if self._beta else 0.0
        w, size = yield from self._recurrence()
        new, known = [w], [self._image(before[1]) - beta * _longer(before[0])]
        if most > 1 and not self._locked and self._may_wait(size, known[0]):
            self._append(size, new[0])
            known[0] /= size
            new.append((yield from self._recurrence())[0])
            known.append(self._image(known[0][:-1]) - size * _longer(before[1]))
        measured = self._swept(last, before, known, new)
        if len(new) == 2:
            self._end_two(last, *known, *measured, *new)
        else:
            self._end_one(last, *known, *measured, *new)

    def _recurrence(self):
        """Append alpha; return what the three terms leave of the product with the last vector, and its norm: the next
        row, as no temporary takes as much memory."""
        last = self._locked + self.steps
        known, w = self._basis[max(last - 1, self._locked):last + 1], self._basis[last + 1]
        product = np.ascontiguousarray((yield known[-1, :self._size]), w.dtype)
        alpha, size = reduce.recur(known, self._beta[-1] if self._beta else 0.0, product, w)
        self._alpha.append(alpha)
        return w, size

    def _image(self, c):
        """(T - alpha) c: what the error c of the last vector brought into its product, along the same vectors and one
        more."""
        image, alpha, beta = np.zeros(len(c) + 1), np.array(self._alpha), np.array(self._beta)
        c, own = c[self._locked:], image[self._locked:]
        own[:c.size] = c * (alpha[:c.size] - alpha[-1])
        own[1:c.size + 1] += c * beta[:c.size]
        own[:max(c.size - 1, 0)] += c[1:] * beta[:max(c.size - 1, 0)]
        return image

    def _may_wait(self, size, known):
        """Whether a product may begin from what the recurrence left, of this norm, before it is measured."""
        eps = float(np.finfo(self._basis.dtype).eps)
        doubt = reduce.norm(known) + self.noise + eps * self._scale()
        return self.steps < self._dimension and doubt < sqrt(eps) * size

    def _swept(self, last, before, known, new):
        """Take what is known of them out of the last two vectors and the new ones; return the components of the latter,
        along all before each."""
        old = before.shape[1]
        swept = np.empty((len(new), 0))
        if old:
            factors = np.stack([*before, *(row[:old] for row in known)])
            swept = reduce.sweep(self._basis[:old], factors, self._basis[old:last + 1 + len(new)])
        return [np.append(row, reduce.components(self._basis[old:last + 1 + i], w))
                for i, (row, w) in enumerate(zip(swept, new, strict=True))]

    def _end_one(self, last, known, components, w):
        self._alpha[-1] += float(components[-1])
        self._hear(components[:-1], known)
        left, beta = self._delayed(self._basis[:last + 1], components, w)
        self._append(beta, w)
        self._along = np.stack([np.zeros(last), left / (beta or 1.0)])

    def _end_two(self, last, known, known_second, components, of_second, first, second):
        basis, root, beta = self._basis[:last + 2], sqrt(np.finfo(first.dtype).eps), self._beta[-1]
        if reduce.norm(components) > root:  # no product before had such an error: the second one is in vain
            first *= beta
            self._alpha.pop(), self._beta.pop()
            return self._end_one(last, beta * known, beta * components, first)
        self._hear(beta * components[:-1], beta * known)
        self._hear(of_second[:-1] - self._image(components)[:-1], known_second)
        self._alpha[-2] += beta * float(components[-1])
        self._alpha[-1] += float(of_second[-1]) - beta * float(components[-1])
        if reduce.norm(of_second) > root * reduce.norm(second):
            reduce.subtract_rows(basis[:-1], components, first)
            project(second, basis)
            components, of_second = np.zeros(last + 1), reduce.components(basis, second)
        left, beta = self._delayed(basis, of_second, second)
        self._append(beta, second)
        self._along = np.stack([components, left / (beta or 1.0)])

    def _hear(self, components, known):
        """Keep the largest error of a product: of its components, of which the last known one is still among them."""
        error = components[self._locked:].copy()
        error[len(known) - 1 - self._locked:][:1] -= known[-1]
        self.noise = max(self.noise, reduce.norm(error))

    def _scale(self):
        """About the norm of the operator."""
        return max(np.abs(self._alpha).max(), max(self._beta, default=0.0))

    def _append(self, beta, w):
        """Append beta, the norm of w, and normalise w, unless the space is exhausted."""
        eps = float(np.finfo(w.dtype).eps)
        exhausted = beta <= 10 * eps * sqrt(self.steps) * self._scale()
        self._beta.append(beta)
        self.exhausted = exhausted or self.steps == self._dimension
        if not self.exhausted:
            w /= beta

    def _delayed(self, known, components, w):
        """What of w's components along the basis the next step takes out, and the norm of w; the others go now.

        Up to the root of the rounding unit they leave the recurrence as it is (Simon 1984), but the next reading does
        not have w's predecessor. A large part of w goes twice (Daniel, Gragg, Kaufman, Stewart 1976). Locked vectors
        have no T that says what their products are.
        """
        size, norm = reduce.norm(components), reduce.norm(w)
        if not self._locked and size <= sqrt(np.finfo(w.dtype).eps) * norm:
            reduce.subtract_rows(known[-1:], components[-1:], w)
            return components[:-1], norm
        reduce.subtract_rows(known, components, w)
        if size > 0.1 * reduce.norm(w):
            project(w, known)
        return np.zeros(len(components) - 1), reduce.norm(w)

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
        old = self._along.shape[1]
        reduce.subtract_rows(self._basis[:old], self._along[0], self._basis[old])
        self._along[0] = 0.0
        basis = self._basis[self._locked:self._locked + self.steps]
        rows = np.empty((coordinates.shape[1], basis.shape[1]), basis.dtype)
        blas.matmul(np.ascontiguousarray(coordinates.T, basis.dtype), basis, rows)
        return rows[:, :self._size].T

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
