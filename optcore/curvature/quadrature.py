"""What Lanczos processes from Gaussian starts say of a whole spectrum: sharp brackets, and the chance of the start."""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import betainc


@dataclass(frozen=True)
class Shares:
    """The shares of eigenvalues above tau, within +-tau and below -tau.

    Attributes
    ----------
    positive, zero, negative : float
        Of all n: counts, or the weights of the Gauss quadratures, moved into the intervals. `zero` is NaN where no node
        lies within +-tau: Ritz values repel each other, and a gap between two of them says nothing.
    positive_interval, zero_interval, negative_interval : (float, float)
        Each holds its share with probability `confidence`; equal ends where all eigenvalues are known.
    tau : float
    confidence : float
    """

    positive: float
    zero: float
    negative: float
    positive_interval: tuple
    zero_interval: tuple
    negative_interval: tuple
    tau: float
    confidence: float


@dataclass(frozen=True)
class Probe:
    """The tridiagonal matrix of a Lanczos process: what its start v knows of the spectrum.

    The spectral measure of v puts the weight ``(x_i'v)^2 / |v|^2`` on the eigenvalue of x_i.

    Attributes
    ----------
    alpha, beta : array [m], array [m]
        The diagonal and beside it; the last beta is the norm of what is left, 0 where the space is exhausted.
    square : float
        ``|v|^2``.
    slack : float
        How far the error of the products may have moved an eigenvalue.
    nodes, weights, residuals : array [m]
        The Gauss quadrature of the measure (Golub and Welsch 1969), ascending, and the residual of each Ritz value.
    """

    alpha: np.ndarray
    beta: np.ndarray
    square: float
    slack: float
    nodes: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray

    def above(self, tau, closed=False):
        """Return an interval that holds the measure of (tau, inf), or of [tau, inf).

        The Gauss-Radau quadrature with a node at tau: no measure with these moments has less above tau than its nodes
        there, or more than these and the node at tau (Chebyshev, Markov, Stieltjes; Golub 1973 for the node). Taken at
        tau + slack for the lower end and tau - slack for the upper.
        """
        return self._radau(tau + self.slack, closed)[0], self._radau(tau - self.slack, closed)[1]

    def _radau(self, tau, closed):
        if self.beta[-1] == 0:  # the quadrature is the measure
            inside = self.nodes >= tau if closed else self.nodes > tau
            return (min(1.0, float(self.weights[inside].sum())),) * 2
        exponent = -int(np.frexp(np.abs(self.nodes).max())[1])  # so that no square overflows or vanishes
        nodes, alpha, beta, tau = (np.ldexp(x, exponent) for x in (self.nodes, self.alpha, self.beta, tau))
        weights, pivot = self.weights, _last_pivot(alpha - tau, beta)
        if abs(pivot) > 1e-8 * float(np.abs(nodes).max()):  # else tau is a node already
            nodes, vectors = eigh_tridiagonal(np.append(alpha, tau + beta[-1] ** 2 / pivot), beta)
            weights = vectors[0] ** 2
        here = int(np.argmin(np.abs(nodes - tau)))
        high = min(1.0, float(weights[here:].sum()))
        return min(high, float(weights[here + 1:].sum())), high


def _last_pivot(diagonal, beta):
    """The last pivot of the factorisation LDL' of a tridiagonal matrix: zero where the matrix is singular."""
    tiny = float(np.finfo(np.float64).tiny) ** 0.5
    pivot = diagonal[0]
    for a, b in zip(diagonal[1:], beta[:-1], strict=True):
        pivot = a - b * b / (pivot if abs(pivot) > tiny else tiny)
    return pivot


def counted(values, tau):
    """Return the Shares of a spectrum that is known."""
    negative, positive = float(np.mean(values < -tau)), float(np.mean(values > tau))
    zero = float(np.mean(np.abs(values) <= tau))
    return Shares(positive, zero, negative, (positive,) * 2, (zero,) * 2, (negative,) * 2, float(tau), 1.0)


def estimated(probes, n, tau, confidence):
    """Return the Shares that probes with Gaussian starts show of n eigenvalues.

    Averaged with the weights ``|v|^2``, the measures of p starts are together a ratio of sums of squares of p n normal
    numbers: of a set with the share s it is Beta(p n s / 2, p n (1 - s) / 2), exactly. The brackets of the probes
    bracket it, and its quantiles bound s (as Clopper and Pearson bound a proportion).
    """
    squares = np.array([probe.square for probe in probes])
    upper = np.array([probe.above(tau) for probe in probes])
    lower = np.array([probe.above(-tau, closed=True) for probe in probes])[:, ::-1]
    known = {"positive": upper, "negative": np.clip(1 - lower, 0, 1),
             "zero": np.clip(np.column_stack([lower[:, 1] - upper[:, 1], lower[:, 0] - upper[:, 0]]), 0, 1)}
    inside = {"positive": lambda x: x > tau, "negative": lambda x: x < -tau, "zero": lambda x: np.abs(x) <= tau}
    found = {}
    for name, brackets in known.items():
        low, high = np.round(squares @ brackets / squares.sum(), 12)
        weight = [float(probe.weights[inside[name](probe.nodes)].sum()) for probe in probes]
        found[name] = float(np.clip(squares @ weight / squares.sum(), low, high))
        found[f"{name}_interval"] = _proportion(low, high, n, n * len(probes), 1 - confidence)
    if not any(inside["zero"](probe.nodes).any() for probe in probes):
        found["zero"] = float("nan")
    return Shares(**found, tau=float(tau), confidence=float(confidence))


def _proportion(low, high, n, size, alpha):
    """The shares s for which Beta(size s / 2, size (1 - s) / 2) is above `low` and below `high`, each with a chance of
    more than alpha / 2; as counts over n, which they are."""
    low, high = low - 1e-10, high + 1e-10  # rounding of the quadrature
    edge = 1e-3 / n

    def cdf(s, x):
        return float(betainc(0.5 * size * s, 0.5 * size * (1 - s), x))

    least, most = 0.0, 1.0
    if low > 0 and cdf(edge, low) > 1 - 0.5 * alpha:
        least = brentq(lambda s: cdf(s, low) - (1 - 0.5 * alpha), edge, 1 - edge, xtol=edge)
    if high < 1 and cdf(1 - edge, high) < 0.5 * alpha:
        most = brentq(lambda s: cdf(s, high) - 0.5 * alpha, edge, 1 - edge, xtol=edge)
    return ceil(least * n - 0.01) / n, floor(most * n + 0.01) / n
