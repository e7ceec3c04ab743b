"""The density of a whole spectrum by stochastic Lanczos quadrature, with its error."""

import itertools
from dataclasses import dataclass
from functools import partial

import numpy as np

from optcore import checks
from optcore.curvature.estimates import Estimate, standard_error
from optcore.curvature.lanczos import Lanczos, most_steps, most_vectors, run_together
from optcore.curvature.operators import Products
from optcore.curvature.quadrature import Shares, counted, estimated
from optcore.process import at_once, one_pool

_DENSE_BELOW = 2000
_TAU = 1e-6
_GROUPS = 4  # of probes, where several can run at once: enough to keep cores busy, few enough to share much


@dataclass(frozen=True)
class SpectralDensity:
    """What `spectral_density` found: a density with its error, and the shares of the signs as intervals.

    Attributes
    ----------
    grid, density, standard_error : array [m]
        The density of eigenvalues (its integral is 1), each eigenvalue a normal bump of width `sigma`, and its standard
        error over the probes: NaN for one probe, 0 where all eigenvalues are known.
    sigma : float
        The length of the spectrum over the number of steps: about the spacing of Ritz values.
    outliers : array [o]
        Eigenvalues at either end that stand alone, ascending: farther than sigma from the next, and, of a probe,
        converged to a tenth of that.
    smallest, largest : float
        Of all Ritz values: lambda_min and lambda_max lie outside; `extremes` bounds them.
    shares : Shares
        Of positive, zero and negative eigenvalues at the tau that was asked for; see `at_tau` for another.
    minimum_ratio : float
        ``shares.positive``.
    minimum_ratio_interval : (float, float)
        ``shares.positive_interval``.
    zero_share : float
        ``shares.zero``.
    probes : tuple of Probe
        The tridiagonal matrices; empty where all eigenvalues are known.
    eigenvalues : array [n] or None
        Where they are known.
    size, steps, products : int
        n; Lanczos steps of the longest probe (0 where all eigenvalues are known); products with H.
    """

    grid: np.ndarray
    density: np.ndarray
    standard_error: np.ndarray
    sigma: float
    outliers: np.ndarray
    smallest: float
    largest: float
    shares: Shares
    probes: tuple
    eigenvalues: np.ndarray | None
    size: int
    steps: int
    products: int

    @property
    def minimum_ratio(self):
        """Positive eigenvalues / all."""
        return self.shares.positive

    @property
    def minimum_ratio_interval(self):
        """An interval for it."""
        return self.shares.positive_interval

    @property
    def zero_share(self):
        """Eigenvalues within +-tau / all."""
        return self.shares.zero

    def at(self, x, sigma=None):
        """Return the density at x.

        Parameters
        ----------
        x : array
        sigma : float, optional
            Width of the bumps; `sigma` by default.

        Returns
        -------
        Estimate
            Of the shape of x.
        """
        sigma = self.sigma if sigma is None else sigma
        checks.number("sigma", sigma, open_low=True)
        return _smoothed(self.probes, self.eigenvalues, np.asarray(x, dtype=np.float64), sigma)

    def at_tau(self, tau, confidence=None):
        """Return the shares of the signs at another tau, without a product.

        Parameters
        ----------
        tau : float
            An eigenvalue, not relative.
        confidence : float, optional
            As asked for by default.

        Returns
        -------
        Shares
        """
        confidence = self.shares.confidence if confidence is None else confidence
        checks.number("tau", tau)
        if self.eigenvalues is not None:
            return counted(self.eigenvalues, tau)
        checks.number("confidence", confidence, high=1, open_low=True, open_high=True)
        return estimated(self.probes, self.size, tau, confidence)


def spectral_density(H, probes=10, steps=80, seed=0, *, tau=None, confidence=0.99, memory=2**32):
    """Return the density of the eigenvalues, and the shares of their signs as intervals.

    A Lanczos process from a Gaussian vector v, fully reorthogonalised, gives a Gauss quadrature of the measure that
    puts the weight ``(x_i'v)^2 / |v|^2`` on each eigenvalue: on average 1/n (Golub and Welsch 1969; Lin, Saad, Yang
    2016; Ubaru, Chen, Saad 2017). The density is the mean over the probes of these, smoothed to the width sigma, and
    its standard error comes from their differences. What more steps would resolve is not in the standard error.

    The shares claim more. For each probe the Gauss-Radau quadrature with a node at tau brackets its measure above tau,
    sharply (Chebyshev, Markov, Stieltjes); for Gaussian starts the measures together are a Beta variable whose mean is
    the share, whatever the spectrum. So their intervals hold with probability `confidence` each, for every n. They are
    wide where the steps cannot separate eigenvalues near tau: a cluster at zero, closer than about the length of the
    spectrum over `steps`.

    Parameters
    ----------
    H : Hessian, LinearOperator or array [n, n]
        Real and symmetric.
    probes, steps : int
        Starts, and Lanczos steps from each: ``probes * steps`` products. Where n products (n up to 2,000) are no more
        than that, all eigenvalues are computed instead, and nothing is left to chance.
    seed : int
    tau : float, optional
        Relative: eigenvalues within +-tau |lambda|_max count as zero. Default: 1e-6, or ten times the error of the
        products if that is more.
    confidence : float
        Of each interval.
    memory : float
        Bytes for the bases of the processes at work, each 8 n (steps + 1), or half of it where products are float32.
        There are up to ``Objective.together`` for each thread, where the products allow it
        (``Objective.concurrent``): fewer where they do not fit, and of one fewer steps. ``.steps`` says how many were
        made.

    Returns
    -------
    SpectralDensity

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> values = np.r_[np.linspace(-1, -0.5, 1000), np.linspace(0.5, 2, 3000)]
    >>> density = oc.curvature.spectral_density(np.diag(values), probes=4, steps=40)
    >>> low, high = density.minimum_ratio_interval
    >>> low <= 0.75 <= high, high - low < 0.03
    (True, True)
    """
    product = Products(H)
    checks.integer("probes", probes)
    checks.integer("steps", steps)
    checks.integer("seed", seed, low=0)
    checks.number("confidence", confidence, high=1, open_low=True, open_high=True)
    if tau is not None:
        checks.number("tau", tau, high=1, open_high=True)
    n = product.n
    most = most_steps(n, memory, product.dtype)
    with one_pool:
        if n <= min(_DENSE_BELOW, probes * steps, most):
            found, values = (), np.linalg.eigvalsh(product.dense()[0])
        else:
            found, values = _probes(product, np.random.default_rng(seed), probes, min(steps, most), memory), None
    return _density(found, values, n, steps, product, tau, confidence)


def _probes(product, rng, probes, steps, memory):
    """The probes from starts drawn in turn: in groups whose products are made together, as many groups at once as there
    are threads, where products and memory allow it. The groups do not depend on the threads: neither do the bits."""
    fitting = max(1, most_vectors(product.n, memory, product.dtype) // (steps + 1))
    largest = min(product.together, fitting)
    sizes = _sizes(probes, largest, _GROUPS)
    most = min(len(sizes), fitting // sizes[0]) if product.concurrent else 1
    if most == 1:
        sizes = _sizes(probes, largest, 1)
    groups = ([rng.standard_normal(product.n) for _ in range(size)] for size in sizes)
    run = partial(_group, product, steps=steps)
    return tuple(itertools.chain(*at_once(run, groups, product.stop, most)))


def _sizes(probes, largest, least):
    """Of groups of at most `largest` probes, as even as can be; `least` of them or more, where there are as many."""
    groups = max(min(least, probes), -(-probes // largest))
    return [len(group) for group in np.array_split(range(probes), groups)]


def _group(product, starts, steps):
    processes = [Lanczos(product, start, steps, product.dtype) for start in starts]
    run_together(processes, steps, product.multiply)
    return [process.probe() for process in processes]


def _density(probes, values, n, steps, product, tau, confidence):
    nodes = [values] if values is not None else [probe.nodes for probe in probes]
    smallest, largest = min(x[0] for x in nodes), max(x[-1] for x in nodes)
    scale = max(abs(smallest), abs(largest))
    sigma = float(largest - smallest) / steps
    if sigma <= 1e-12 * scale:  # all eigenvalues are one
        sigma = 1e-3 * scale or 1.0
    grid = np.linspace(smallest - 4 * sigma, largest + 4 * sigma, 8 * steps + 65)
    curve = _smoothed(probes, values, grid, sigma)
    tau = scale * (max(_TAU, 10 * product.error) if tau is None else tau)
    return SpectralDensity(
        grid=grid, density=curve.value, standard_error=curve.standard_error, sigma=sigma,
        outliers=_outliers(probes, values, sigma), smallest=float(smallest), largest=float(largest),
        shares=counted(values, tau) if values is not None else estimated(probes, n, tau, confidence), probes=probes,
        eigenvalues=values, size=n, steps=max((probe.alpha.size for probe in probes), default=0),
        products=product.count)


def _smoothed(probes, values, x, sigma):
    if values is not None:
        return Estimate(_bumps(x, values, sigma).mean(axis=-1), np.zeros(x.shape))
    curves = np.stack([_bumps(x, probe.nodes, sigma) @ probe.weights for probe in probes])
    return Estimate(curves.mean(axis=0), standard_error(curves), samples=len(curves))


def _bumps(x, nodes, sigma):
    return np.exp(-0.5 * ((x[..., None] - nodes) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def _outliers(probes, values, sigma):
    """The eigenvalues that stand alone, from both ends inwards; of the probe with the most steps."""
    if values is None:
        probe = max(probes, key=lambda probe: probe.alpha.size)
        values, residuals = probe.nodes, probe.residuals
    else:
        residuals = np.zeros(values.size)
    gaps = np.diff(values)
    alone = (gaps > sigma) & (residuals[1:] <= 0.1 * gaps)  # of the upper end
    high = values.size if alone.all() else values.size - int(np.argmin(alone[::-1]))
    alone = (gaps > sigma) & (residuals[:-1] <= 0.1 * gaps)
    low = 0 if alone.all() else int(np.argmin(alone))
    return np.concatenate([values[:min(low, high)], values[high:]])
