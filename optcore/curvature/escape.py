"""The way off a saddle: steps along negative curvature, and how long plain steps would take."""

from dataclasses import dataclass
from math import inf, log

import numpy as np

from optcore import checks
from optcore.curvature.critical import CriticalPoint, classify
from optcore.objective import check_objective
from optcore.process import one_pool

_FARTHEST, _CLOSEST = 10, 40  # powers of four from 0.1 of theta's length: 3e4 of it, and rounding in float64


@dataclass(frozen=True)
class Escape:
    """What `escape` reached.

    Attributes
    ----------
    theta : array [n]
        The best point; a copy of the start where nothing was gained.
    loss, decrease : float
        The loss there, and how much lower it is (0 where nothing was gained).
    steps : int
        How many steps were made.
    lengths : tuple of float
        Of each step.
    message : str
        What was done, or why the loss was not lowered.
    curvature : float
        v'Hv along the first step; NaN where there was none.
    offset : float
        ``|g'v| / |v'Hv|``, the distance along v from the saddle at the start; at least the rounding of theta.
    """

    theta: np.ndarray
    loss: float
    decrease: float
    steps: int
    lengths: tuple
    message: str
    curvature: float = float("nan")
    offset: float = float("nan")

    def time(self, lr, start=None):
        """Return how many plain gradient steps the first step stands for; see `escape_time`.

        Parameters
        ----------
        lr : float
        start : float, optional
            Distance from the saddle along v; `offset` where it is not given.

        Returns
        -------
        float
            NaN where no step was made.
        """
        if not self.lengths:
            checks.number("lr", lr, open_low=True)
            return float("nan")
        return escape_time(self.curvature, lr, self.lengths[0], self.offset if start is None else start)


def escape_time(curvature, lr, reach, start):
    """Return how many gradient steps move from `start` to `reach` away from a saddle: ln(s/r) / ln(1 + lr |lambda|).

    Along an eigenvector with a negative eigenvalue each step multiplies the distance by ``1 + lr |lambda|``.

    Parameters
    ----------
    curvature : float
        The negative eigenvalue.
    lr, reach, start : float
        Positive. 0 steps where `start` is at least `reach`.

    Returns
    -------
    float

    Examples
    --------
    >>> round(escape_time(-2.0, lr=0.5, reach=1.0, start=1e-3), 2)  # doubled ten times
    9.97
    """
    for name, value in (("lr", lr), ("reach", reach), ("start", start)):
        checks.number(name, value, open_low=True)
    checks.number("curvature", curvature, -inf, 0, open_low=True, open_high=True)
    return max(0.0, log(reach / start)) / log(1 + lr * abs(curvature))


def escape(obj, theta, batch=None, *, max_steps=1, point=None, **options):
    """Step along negative curvature: the loss gets strictly lower, or the message says why not.

    Each step takes the unit vector of most negative curvature and tries the lengths r 4^j,
    r = 0.1 max(theta_scale, |theta|, |theta0|), in both directions: up as long as the loss falls, down to
    where the second order promises less than rounding; then ever finer around the best. Losses decide, not
    the model.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Never changed.
    batch : int array, optional
    max_steps : int
        Each classifies anew: after the first the gradient is usually large, and any update rule takes over.
    point : CriticalPoint, optional
        What `classify` said about theta, to save its products.
    **options
        Of `classify`.

    Returns
    -------
    Escape

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: (1 - t[0] * t[1]) ** 2, lambda t: -2 * (1 - t[0] * t[1]) * t[::-1],
    ...                    theta0=np.ones(2))
    >>> result = oc.curvature.escape(obj, np.zeros(2))
    >>> result.loss < 0.01, result.steps
    (True, 1)
    """
    checks.integer("max_steps", max_steps)
    check_objective(obj)
    if point is not None and not isinstance(point, CriticalPoint):
        raise TypeError(f"point: expected a CriticalPoint, got {type(point).__name__}")
    if point is not None and point.size != obj.size:
        raise ValueError(f"point: expected one of {obj.size} parameters, got {point.size}")
    theta = obj.check_theta(theta)
    lengths, message, first = [], "", {}
    with one_pool:
        start = loss = obj.loss(theta, batch)
        for _ in range(max_steps):
            if point is None:
                point = classify(obj, theta, batch, **options)
            if point.direction is None:
                message = "no direction of negative curvature: " + point.certificate.split("\n")[0]
                break
            fall = 0.5 * abs(float(point.eigenvalues[0]))
            better, length, tried = line_search(obj, theta, batch, loss, point.direction,
                                               lambda distance, fall=fall: fall * distance**2)
            if better is None:
                message = (f"v'Hv = {point.eigenvalues[0]:.4g}, but the loss, {loss:.6g}, is lower at none "
                           f"of {tried} points along +-v: higher orders, a kink, or rounding")
                break
            first = first or _first(obj, theta, batch, point)
            (theta, loss), point = better, None
            lengths.append(length)
    if lengths:
        message = (f"the loss fell from {start:.6g} to {loss:.6g} in {len(lengths)} step(s) along negative "
                   "curvature")
    return Escape(theta, loss, start - loss if lengths else 0.0, len(lengths), tuple(lengths), message,
                  **first)


def _first(obj, theta, batch, point):
    """The curvature of the first step, and how far from the saddle it starts."""
    curvature = float(point.eigenvalues[0])
    slope = abs(float(obj.loss_and_grad(theta, batch)[1].astype(np.float64) @ point.direction))
    rounding = float(np.finfo(obj.dtype).eps) * obj.length(theta)
    return {"curvature": curvature, "offset": max(slope / abs(curvature), rounding)}


def line_search(obj, theta, batch, loss, direction, promise, signs=(1, -1)):
    """Return the best (theta, loss) along +-direction, its distance, and the number of losses that it took.

    Distances are r 4^j, then finer around the best. Parameters: `direction` a unit vector;
    ``promise(distance)`` the decrease that a model predicts, at which the search towards zero ends when
    rounding would hide it. The pair is None where no loss was lower beyond rounding, 4 eps |loss|.
    """
    unit = 0.1 * obj.length(theta)
    rounding = 4 * float(np.finfo(obj.dtype).eps) * abs(loss)
    best, length, tried = None, 0.0, 0

    def improves(distance):
        nonlocal best, length, tried
        before = best
        for sign in signs:
            with np.errstate(all="ignore"):  # far points may overflow: then they are not lower
                moved = (theta + sign * distance * direction).astype(obj.dtype)
                value = obj.loss(moved, batch)
            tried += 1
            if value < (loss - rounding if best is None else best[1]):
                best, length = (moved, value), distance
        return best is not before

    for j in range(_FARTHEST):
        if not improves(unit * 4.0**j) and j >= 2:
            break
    for j in range(1, _CLOSEST):
        distance = unit * 4.0**-j
        if not improves(distance) and j >= 6 and (best is not None or promise(distance) <= rounding):
            break
    if best is not None:
        for factor in (2.0, 2.0**0.5, 2.0**0.25):  # 4^j is coarse
            coarse = length
            improves(coarse * factor)
            improves(coarse / factor)
    return best, length, tried
