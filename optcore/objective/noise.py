"""The relative error of a gradient, from its differences."""

import math

import numpy as np

_MOST = 1e-3  # a step of the central difference longer than a tenth of theta sees another place


def relative_noise(gradient, theta0, unit):
    """Return the error of a gradient relative to its size; `Objective.gradient_noise` says how it is found.

    Parameters
    ----------
    gradient : callable
        theta -> array [n], both of the dtype of `theta0`.
    theta0 : array [n]
    unit : float
        The length over which the gradient changes, where theta itself is near zero.

    Returns
    -------
    float
        The rounding unit of the dtype where the noise is below a hundred times it.

    Examples
    --------
    >>> import numpy as np
    >>> relative_noise(lambda t: 2 * t, np.ones(3), 1.0)
    2.220446049250313e-16
    """
    eps = float(np.finfo(theta0.dtype).eps)
    u = np.random.default_rng(0).standard_normal(theta0.size)
    u *= (unit + float(np.linalg.norm(theta0.astype(np.float64)))) / np.linalg.norm(u)

    def gradients(places):
        for place in places:
            yield gradient((theta0 + place * u).astype(theta0.dtype)).astype(np.float64)

    with np.errstate(all="ignore"):
        table, found = np.stack([*gradients(eps**0.3 * np.arange(7))]), []
        for k in range(1, 7):
            table = np.diff(table, axis=0)
            square = np.mean(np.sum(table**2, axis=1)) * math.factorial(k) ** 2 / math.factorial(2 * k)
            found.append(math.sqrt(square) if square >= 0 else math.nan)
        size = max(float(np.linalg.norm(g)) for g in gradients((-0.1, 0.1)))
    relative = min(found[2:]) / size if size > 0 else math.nan
    return min(relative, _MOST) if relative > 100 * eps else eps
