"""What kind of point theta is, with what was shown for it."""

from dataclasses import dataclass

import numpy as np

from optcore import checks
from optcore.curvature.operators import Hessian, Products
from optcore.curvature.spectrum import dense_spectrum, lanczos_spectrum
from optcore.objective import check_objective
from optcore.process import one_pool

_TAU = 1e-6  # default of tau: eigenvalues that are smaller relative to the largest count as zero
_TAU_CERTIFIED = 1e-3  # how coarse a bound from Lanczos may be: finer ones take thousands of products


@dataclass(frozen=True)
class CriticalPoint:
    """What `classify` found. ``str(point)`` is a short report.

    Attributes
    ----------
    kind : str
        "minimum", "maximum", "saddle", "degenerate", "not critical" or "undetermined".
    curvature : str
        What the Hessian alone says, whether or not the gradient is small: "minimum", "maximum", "saddle",
        "degenerate" or "undetermined".
    loss, gradient_norm : float
    decrease : float
        1/2 g' max(\\|H\\|, 1e-3 \\|lambda\\|_max)^-1 g, what a Newton-like step promises.
    near : float
        `decrease` as a share of what the sharpest direction costs at distance `radius`; see `classify`.
    distance : float
        Length of the Newton-like step as a share of `radius`: how far off the critical point is.
    radius : float
        The distance up to which the second-order model was compared with the loss; see `classify`.
    eigenvalues, residuals : array [m]
        The extreme ones, ascending, and \\|Hv - lambda v\\| of each.
    bounds : (float, float)
        Interval of all eigenvalues, with probability `confidence` (1 where all were computed).
    confidence : float
    tau : float
        Eigenvalues within +-tau count as zero.
    minimum_ratio : float
        Eigenvalues above tau / all.
    minimum_ratio_interval : (float, float)
        Equal ends where all eigenvalues were computed.
    zero_share : float
        Eigenvalues within +-tau / all; where not all were computed an estimate, or NaN if there is none.
    zero_share_interval : (float, float)
        As `minimum_ratio_interval`; where not all were computed, each holds its share with probability `confidence`
        over the random start (see `spectral_density`).
    certificate : str
        What was shown, to which tolerance.
    direction : array [n] or None
        Unit vector of negative curvature, pointing down the gradient.
    flat : array [n, m] or None
        Unit vectors (columns) of those reported eigenvalues that are within +-tau.
    size, products : int
    mode : str or None
        The objective's: "train" or "eval" statistics.
    """

    kind: str
    curvature: str
    loss: float
    gradient_norm: float
    certificate: str
    size: int
    eigenvalues: np.ndarray
    residuals: np.ndarray
    decrease: float = float("nan")
    near: float = float("nan")
    distance: float = float("nan")
    radius: float = float("nan")
    bounds: tuple = (-np.inf, np.inf)
    confidence: float = 0.0
    tau: float = float("nan")
    minimum_ratio: float = float("nan")
    minimum_ratio_interval: tuple = (0.0, 1.0)
    zero_share: float = float("nan")
    zero_share_interval: tuple = (0.0, 1.0)
    direction: np.ndarray | None = None
    flat: np.ndarray | None = None
    products: int = 0
    mode: str | None = None

    def __str__(self):
        lines = [f"{self.kind}: {self.size} parameters, loss {self.loss:.6g}, "
                 f"|gradient| {self.gradient_norm:.3g}" + (f", {self.mode} statistics" if self.mode else "")]
        if self.eigenvalues.size:
            values = ", ".join(f"{value:.4g}" for value in self.eigenvalues)
            ratio = _share(self.minimum_ratio, self.minimum_ratio_interval)
            zeros = f"zero share {_share(self.zero_share, self.zero_share_interval)} (tau {self.tau:.2g})"
            lines += [f"  extreme eigenvalues  {values}  (residuals up to {self.residuals.max():.1g})",
                      f"  minimum ratio        {ratio}, {zeros}"]
        return "\n".join([*lines, *("  " + part for part in self.certificate.split("\n"))])


def _share(value, interval):
    low, high = interval
    if np.isnan(value):
        return f"between {low:.3g} and {high:.3g}"
    return f"{value:.4g}" if low == high else f"{value:.3g} (between {low:.3g} and {high:.3g})"


def classify(obj, theta, batch=None, *, tau=None, critical_tol=1e-8, dense_limit=2000, max_products=300,
             confidence=0.99, k=3, seed=0, memory=2**32, progress=None):
    r"""Say what kind of point theta is: minimum, maximum, saddle, degenerate, not critical, or undetermined.

    Nothing is called certain that was not shown. Up to `dense_limit` parameters all eigenvalues are computed
    (n products). Beyond, an unrestarted Lanczos process finds both ends. A vector with v'Hv < -tau proves a
    negative eigenvalue; that there is none is shown by a bound that holds with probability `confidence` over
    the random start (van Dorsselaer, Hochstenbach, van der Vorst 2000). Where `max_products` are not enough
    for a bound, the answer is "undetermined".

    - "saddle": an eigenvalue below -tau and one above tau.
    - "minimum": no eigenvalue below -tau, the largest above tau. A statement of second order: along the flat
      directions (within +-tau), which are counted and reported, higher orders may still lower the loss.
    - "maximum": the same for -H.
    - "degenerate": all within +-tau, or the loss follows its second-order model at no distance where that
      can be measured (x^4): the second order says nothing.
    - "not critical": the gradient still promises a decrease.

    The gradient g is small if, with the curvatures c = max(\|lambda\|, 1e-3 \|lambda\|_max),

        decrease = 1/2 sum (g'v)^2 / c,    near = decrease / (\|lambda\|_max r^2 / 2) <= critical_tol:

    what a Newton-like step promises, as a share of the loss at distance r in the sharpest direction. So near
    does not depend on the loss's zero or scale. r is 0.1 max(theta_scale, \|theta\|, \|theta0\|), divided
    by ten until the second-order model explains the even part of the loss there,
    (L(theta + r v) + L(theta - r v))/2 - L(theta), within a half: the length over which theta really varies.
    critical_tol = 1e-8 is a distance from the critical point of 1e-4 r.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Never changed.
    batch : int array, optional
        The examples to take the loss over; None for all.
    tau : float, optional
        Relative tolerance: eigenvalues within +-tau \|lambda\|_max count as zero. Default: 1e-6, or ten times
        the objective's `product_error` if that is more; a bound from Lanczos may be as coarse as 1e-3, and
        the tau of the result is then the one that was shown. Never below four times the measured error of the
        products, nor, at a point that counts as critical, below the length of the Newton-like step over r:
        the eigenvalues at the critical point itself differ by that much, relative to \|lambda\|_max.
    critical_tol : float
    dense_limit : int
        Up to this many parameters all eigenvalues are computed; n^2 numbers are held.
    max_products : int
        Of the Lanczos process, whose basis holds n numbers for each.
    confidence : float
        Of the bounds from Lanczos.
    k : int
        How many eigenvalues to report from each end.
    seed : int
        Of the Lanczos start.
    memory : float
        Bytes for the bases of the Lanczos processes: fewer steps where they do not fit.
    progress : bool or callable, optional
        As for `Hessian`: the number of products done.

    Returns
    -------
    CriticalPoint

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above, or the objective has no gradient. A loss, gradient or product
        that is not finite is no error: the answer is "undetermined" and says so.

    Notes
    -----
    With batch norm in training mode the Hessian is indefinite at every point that is not critical (weights w
    that feed a normalisation have g'w = 0 and Hw = -g): a negative eigenvalue alone is no saddle.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: (1 - t[0] * t[1]) ** 2, lambda t: -2 * (1 - t[0] * t[1]) * t[::-1],
    ...                    theta0=np.ones(2))
    >>> point = oc.curvature.classify(obj, np.zeros(2))
    >>> point.kind, np.round(point.eigenvalues, 6), point.minimum_ratio
    ('saddle', array([-2.,  2.]), 0.5)
    """
    _check_options(obj, tau, critical_tol, dense_limit, confidence, k, max_products, seed)
    theta = obj.check_theta(theta)
    with one_pool:
        loss, gradient = obj.loss_and_grad(theta, batch)
        gradient = gradient.astype(np.float64)
        facts = {"loss": loss, "gradient_norm": float(np.linalg.norm(gradient)), "size": obj.size,
                 "mode": obj.mode}
        finite = {"the loss": np.isfinite(loss), "the gradient": np.isfinite(gradient).all(),
                  "theta": np.isfinite(theta).all()}
        if not all(finite.values()):
            which = next(name for name, good in finite.items() if not good)
            return _unknown(facts, f"{which} is not finite: nothing can be said about the curvature")
        product = Products(Hessian(obj, theta, batch, progress=progress))
        relative = max(_TAU, 10 * obj.product_error) if tau is None else tau
        coarse = max(relative, _TAU_CERTIFIED) if tau is None else tau
        try:
            if obj.size <= dense_limit:
                spectrum = dense_spectrum(product, gradient, k)
            else:
                spectrum = lanczos_spectrum(product, gradient, k, max_products, confidence,
                                            _stop(relative, coarse), seed, memory)
        except FloatingPointError as error:
            return _unknown(facts, f"{error}: nothing can be said about the curvature")
        radius = _quadratic_radius(obj, theta, batch, loss, spectrum)
    return _judge(facts, spectrum, gradient, radius, relative, coarse, critical_tol)


def _check_options(obj, tau, critical_tol, dense_limit, confidence, k, max_products, seed):
    check_objective(obj)
    if tau is not None:
        checks.number("tau", tau, high=1, open_high=True)
    checks.number("critical_tol", critical_tol)
    checks.number("dense_limit", dense_limit)
    checks.number("confidence", confidence, high=1, open_low=True, open_high=True)
    checks.integer("k", k)
    checks.integer("max_products", max_products)
    checks.integer("seed", seed, low=0)


def _unknown(facts, why):
    empty = np.zeros(0)
    return CriticalPoint(kind="undetermined", curvature="undetermined", certificate=why, eigenvalues=empty,
                         residuals=empty, **facts)


def _stop(relative, coarse):
    """When the Lanczos process knows enough: a saddle is proven, or a bound and the other end are good."""

    def enough(ritz, low, high):
        values, residuals = ritz.values, ritz.residuals
        scale = float(np.abs(values).max())
        settled = residuals[[0, -1]] <= np.maximum(1e-2 * np.abs(values[[0, -1]]), 1e-4 * scale)
        saddle = values[0] < -relative * scale and values[-1] > relative * scale and settled.all()
        return saddle or (settled[1] and low >= -coarse * scale) or (settled[0] and high <= coarse * scale)

    return enough


def _quadratic_radius(obj, theta, batch, loss, spectrum):
    """The largest r = R, R/10, ... at which the even part of the loss along the sharpest direction is the
    quadratic.

    R where rounding hides every comparison; None where the loss can be measured and the quadratic never
    explains it.
    """
    start = 0.1 * obj.length(theta)
    finest = 3 * obj.difference_reach(theta)  # closer in, a difference quotient agrees with any loss
    sharpest = int(np.argmax(np.abs(spectrum.values)))
    value, v = spectrum.values[sharpest], spectrum.vectors[:, sharpest]
    rounding = 8 * float(np.finfo(obj.dtype).eps) * abs(loss)
    measured = False
    for radius in start * 10.0 ** -np.arange(10):
        if radius < finest:
            break
        with np.errstate(all="ignore"):  # far points may overflow; they then disagree with the model
            sides = [obj.loss((theta + sign * radius * v).astype(obj.dtype), batch) for sign in (1, -1)]
        even, model = 0.5 * sum(sides) - loss, 0.5 * value * radius**2
        if max(abs(even), abs(model)) <= 10 * rounding:
            return None if measured else start
        if abs(even - model) <= 0.5 * abs(model) + rounding:
            return radius
        measured = True
    return None if measured else start


def _judge(facts, spectrum, gradient, radius, relative, coarse, critical_tol):
    scale = spectrum.scale
    explained = radius is not None
    energy = 0.5 * scale * (radius or 0.0) ** 2
    near = 0.0 if spectrum.decrease == 0 else spectrum.decrease / energy if energy > 0 else float("inf")
    critical = near <= critical_tol
    distance = 0.0 if spectrum.step == 0 else spectrum.step / radius if explained else float("inf")
    tau = max(relative * scale, distance * scale if critical else 0.0, 4 * spectrum.noise)
    curvature, tau = _kind(spectrum, tau, max(coarse * scale, tau)) if explained else ("degenerate", scale)
    direction = None
    if spectrum.values[0] < -tau:
        v = spectrum.vectors[:, 0] / np.linalg.norm(spectrum.vectors[:, 0])
        direction = -v if gradient @ v > 0 else v
    flat = spectrum.vectors[:, np.abs(spectrum.values) <= tau]
    shares = spectrum.shares(tau)
    words = [_shown(spectrum, curvature, tau, explained), _criticality(spectrum.decrease, near, critical_tol)]
    if facts["mode"] == "train" and direction is not None and not critical:
        words.append("batch norm in training mode, if there is any, makes the Hessian indefinite wherever the "
                     "gradient is not zero: the negative eigenvalue alone is no saddle")
    return CriticalPoint(
        kind=curvature if critical else "not critical", curvature=curvature, decrease=spectrum.decrease,
        near=near, distance=distance, radius=radius or 0.0, eigenvalues=spectrum.values + 0.0,
        residuals=spectrum.residuals,
        bounds=(spectrum.low, spectrum.high), confidence=spectrum.confidence, tau=float(tau),
        minimum_ratio=shares.positive, minimum_ratio_interval=shares.positive_interval, zero_share=shares.zero,
        zero_share_interval=shares.zero_interval,
        direction=direction, flat=flat / np.linalg.norm(flat, axis=0),
        certificate="\n".join(words), products=spectrum.products, **facts)


def _kind(spectrum, tau, coarse):
    """The kind that the ends of the spectrum allow, and the tau to which it was shown."""
    smallest, largest = spectrum.values[0], spectrum.values[-1]
    if smallest < -tau and largest > tau:
        return "saddle", tau
    allowed = tau if spectrum.exact else coarse
    no_negative, no_positive = spectrum.low >= -allowed, spectrum.high <= allowed
    if no_negative and no_positive:
        return "degenerate", tau
    if no_negative and smallest >= -tau and largest > tau:
        return "minimum", max(tau, -spectrum.low)
    if no_positive and largest <= tau and smallest < -tau:
        return "maximum", max(tau, spectrum.high)
    return "undetermined", tau


def _shown(spectrum, curvature, tau, explained):
    """The sentence on the spectrum: what was computed, and what follows."""
    if not explained:
        sharpest = spectrum.values[np.argmax(np.abs(spectrum.values))]
        return ("the second order explains the loss at no distance along its sharpest direction "
                f"(eigenvalue {sharpest:.3g}): higher orders decide, or a "
                "difference quotient in place of the Hessian-vector product was too coarse (theta_scale)")
    if spectrum.exact:
        return _counted(spectrum, curvature, tau)
    found = (f"Lanczos, {spectrum.products} products: unit vectors with v'Hv = {spectrum.values[0]:.4g} and "
             f"{spectrum.values[-1]:.4g} were found")
    if curvature == "saddle":
        return f"{found}; they prove eigenvalues of both signs beyond tau = {tau:.2g}"
    bound = (f"{found}; all eigenvalues lie between {spectrum.low:.3g} and {spectrum.high:.3g} "
             f"with probability {spectrum.confidence:g}")
    if curvature == "undetermined":
        return f"{bound}, which leaves the sign open: more products (max_products) would narrow it"
    second = "" if curvature == "degenerate" else (
        f"; a {curvature} to second order: along directions within tau of flat, higher orders decide")
    return f"{bound}, so none has the other sign beyond tau = {tau:.2g}{second}"


def _counted(spectrum, curvature, tau):
    n = spectrum.size
    negative, positive = int((spectrum.nodes < -tau).sum()), int((spectrum.nodes > tau).sum())
    zeros = n - negative - positive
    flat = " (flat directions)" if zeros and curvature != "degenerate" else ""
    second = f"; a {curvature} to second order: along the flat directions higher orders decide" if (
        zeros and curvature in ("minimum", "maximum")) else ""
    return (f"all {n} eigenvalues computed, from {spectrum.values[0]:.4g} to {spectrum.values[-1]:.4g}: "
            f"{negative} negative, {zeros} zero within tau = {tau:.2g}{flat}, {positive} positive{second}")


def _criticality(decrease, near, critical_tol):
    if near <= critical_tol:
        return (f"critical: a Newton-like step promises a decrease of {decrease:.2g} "
                f"(near = {near:.1e} <= {critical_tol:g})")
    return (f"not critical: a Newton-like step promises a decrease of {decrease:.2g} "
            f"(near = {near:.1e} > {critical_tol:g})")
