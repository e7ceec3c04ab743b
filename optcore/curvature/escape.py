"""The way off a saddle: steps along negative curvature."""

from dataclasses import dataclass

import numpy as np

from optcore.curvature import arguments
from optcore.curvature.critical import CriticalPoint, classify
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
    """

    theta: np.ndarray
    loss: float
    decrease: float
    steps: int
    lengths: tuple
    message: str


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
    arguments.count("max_steps", max_steps)
    arguments.objective(obj)
    if point is not None and not isinstance(point, CriticalPoint):
        raise TypeError(f"point: expected a CriticalPoint, got {type(point).__name__}")
    if point is not None and point.size != obj.size:
        raise ValueError(f"point: expected one of {obj.size} parameters, got {point.size}")
    theta = obj.check_theta(theta)
    lengths, message = [], ""
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
            (theta, loss), point = better, None
            lengths.append(length)
    if lengths:
        message = (f"the loss fell from {start:.6g} to {loss:.6g} in {len(lengths)} step(s) along negative "
                   "curvature")
    return Escape(theta, loss, start - loss if lengths else 0.0, len(lengths), tuple(lengths), message)


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
