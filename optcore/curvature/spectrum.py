"""What is known of a Hessian's spectrum at a point: both ends, bounds, and the shares of its signs."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from optcore.curvature.lanczos import Lanczos, most_steps, residual_norms
from optcore.curvature.quadrature import Probe, counted, estimated

_EPS = float(np.finfo(np.float64).eps)
_BLOCK = 10  # Lanczos steps between two looks at the bounds
_FLOOR = 1e-3  # curvatures below this share of the largest count as this much in a Newton-like step


@dataclass
class Spectrum:
    """The ends of a spectrum, found and bounded, with what a Newton-like step along the gradient promises.

    Attributes
    ----------
    exact : bool
        All n eigenvalues were computed; else a Lanczos process found the ends.
    values, vectors, residuals : array [m], array [n, m], array [m]
        The extreme pairs, ascending.
    low, high : float
        An interval that holds every eigenvalue, with probability `confidence`.
    confidence : float
        1 where exact (rounding is in `noise`).
    noise : float
        Estimated error of the eigenvalues that comes from the products.
    products : int
    nodes : array [j]
        All eigenvalues, or the Ritz values.
    probe : Probe or None
        What the Gaussian start of the Lanczos process says of the whole spectrum.
    decrease, step : float
        1/2 g' P g and the norm of P g for P = max(|H|, 1e-3 |lambda|_max)^-1: what a Newton-like step
        promises, and how long it is.
    """

    exact: bool
    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    low: float
    high: float
    confidence: float
    noise: float
    products: int
    nodes: np.ndarray
    probe: Probe | None
    decrease: float
    step: float
    size: int

    @property
    def scale(self):
        """The largest |lambda| found."""
        return float(np.abs(self.values[[0, -1]]).max())

    def shares(self, tau):
        """The `Shares` of eigenvalues above, within and below +-tau."""
        if self.exact:
            return counted(self.nodes, tau)
        return estimated([self.probe], self.size, tau, self.confidence)


def dense_spectrum(product, gradient, k):
    """All eigenvalues by n products with unit vectors; the k extreme pairs of each end are kept."""
    matrix, noise = product.dense()
    values, vectors = np.linalg.eigh(matrix)
    n = values.size
    ends = np.arange(n) if n <= 2 * k else np.r_[0:k, n - k:n]
    residuals = np.linalg.norm(matrix @ vectors[:, ends] - vectors[:, ends] * values[ends], axis=0)
    noise += 10 * _EPS * float(np.abs(values).max())
    decrease, step = _newton_like(values, (gradient @ vectors) ** 2, float(np.abs(values).max()))
    return Spectrum(exact=True, values=values[ends], vectors=vectors[:, ends], residuals=residuals,
                    low=float(values[0]), high=float(values[-1]), confidence=1.0, noise=noise,
                    products=product.count, nodes=values, probe=None, decrease=decrease,
                    step=step, size=n)


def lanczos_spectrum(product, gradient, k, max_products, confidence, enough, seed, memory):
    """Both ends by an unrestarted Lanczos process that stops when ``enough(ritz, low, high)`` says so."""
    n = product.n
    k = max(1, min(k, n // 2))
    most = most_steps(n, memory)
    along = _along(product, gradient, max(min(max_products, most) // 5, 1))
    held = along.steps if along else 0
    steps = max(min(max_products - held - 2 * k, most - held - 1), 1)
    process = Lanczos(product, np.random.default_rng(seed).standard_normal(n), steps)
    while True:
        ritz = process.run(min(_BLOCK, steps - process.steps))
        low, high = process.bounds(ritz.values, confidence)
        if process.exhausted or process.steps >= steps or enough(ritz, low, high):
            break
    m = ritz.values.size
    ends = np.arange(m) if m <= 2 * k else np.r_[0:k, m - k:m]
    vectors = process.vectors(ritz.coordinates[:, ends])
    values, decrease, step, noise = ritz.values[ends], 0.0, 0.0, process.noise
    residuals = residual_norms(product, values, vectors)
    if along:
        quadrature = along.ritz()
        scale = max(float(np.abs(values).max()), float(np.abs(quadrature.values).max()))
        squares = quadrature.weights * float(gradient @ gradient)
        decrease, step = _newton_like(quadrature.values, squares, scale)
        noise = max(noise, along.noise)
    return Spectrum(exact=False, values=values, vectors=vectors, residuals=residuals, low=low, high=high,
                    confidence=confidence, noise=noise, products=product.count, nodes=ritz.values,
                    probe=process.probe(), decrease=decrease, step=step, size=n)


def _along(product, gradient, steps):
    """A Lanczos process from the gradient: its Gauss quadrature gives g' f(H) g. None for a zero gradient."""
    if not gradient.any():
        return None
    process = Lanczos(product, gradient, min(steps, 40))
    process.run(40)
    return process


def _newton_like(values, squares, scale):
    """The decrease that a Newton-like step promises, and its length, from squared components of the gradient.

    Both are infinite for a gradient where there is no curvature at all.
    """
    if not squares.any():
        return 0.0, 0.0
    if scale == 0.0:
        return float("inf"), float("inf")
    curvature = np.maximum(np.abs(values), _FLOOR * scale)
    return 0.5 * float(np.sum(squares / curvature)), sqrt(float(np.sum(squares / curvature**2)))
