"""Surfaces of two parameters on which rules are compared, with exact gradients, products and known minima."""

import math
from dataclasses import dataclass

import numpy as np

from optcore.objective import Objective

__all__ = ["Surface", "get", "names"]


@dataclass(frozen=True)
class Surface:
    """A surface.

    Attributes
    ----------
    name : str
    formula : str
    objective : Objective
        float64, with exact gradient and product.
    minima : array [m, 2]
        The global ones (of `two_parameters`, whose minima are a curve, two of them).
    x, y : (float, float)
        The part of the plane to look at.
    starts : array [s, 2]
        Points that rules may start from.
    """

    name: str
    formula: str
    objective: Objective
    minima: np.ndarray
    x: tuple
    y: tuple
    starts: np.ndarray


def names():
    """Return the names of all surfaces.

    Returns
    -------
    list of str

    Examples
    --------
    >>> names()
    ['double_well', 'rosenbrock', 'saddle', 'styblinski_tang', 'two_parameters', 'valley']
    """
    return sorted(_SURFACES)


def get(name):
    """Return the surface of this name.

    Parameters
    ----------
    name : str
        "valley", (x^2 + 100*y^2)/2, the narrow valley of the lecture; "saddle", x^2 - y^2 + y^4/4; "double_well",
        (x^2 - 1)^2 + y^2; "rosenbrock", (1 - x)^2 + 100*(y - x^2)^2 (Rosenbrock 1960); "styblinski_tang", the sum over
        both of (t^4 - 16*t^2 + 5*t)/2 (Styblinski and Tang 1990); "two_parameters", the lecture's network (1 - x*y)^2.

    Returns
    -------
    Surface

    Raises
    ------
    ValueError
        There is no such surface.

    Examples
    --------
    >>> get("rosenbrock").minima.tolist()
    [[1.0, 1.0]]
    """
    if name not in _SURFACES:
        raise ValueError(f"name: expected one of {', '.join(names())}, got {name!r}")
    formula, loss, grad, hessian, minima, x, y, starts = _SURFACES[name]
    starts = np.array(starts, dtype=np.float64)
    objective = Objective(loss=lambda t: float(loss(*t)), grad=lambda t: np.array(grad(*t), dtype=np.float64),
                          hvp=lambda t, v: np.array(hessian(*t), dtype=np.float64) @ v, theta0=starts[0])
    return Surface(name, formula, objective, np.array(minima), x, y, starts)


def _tang(t):
    return (t**4 - 16 * t**2 + 5 * t) / 2


def _tang_slope(t):
    return 2 * t**3 - 16 * t + 2.5


# The smallest root of 2*t^3 - 16*t + 5/2, by the trigonometric form of Cardano's formula.
_TANG = 2 * math.sqrt(8 / 3) * math.cos(math.acos(-1.875 / 8 * math.sqrt(3 / 8)) / 3 + 2 * math.pi / 3)

# formula; loss, gradient, Hessian; minima; the part to look at; starts
_SURFACES = {
    "valley": ("(x² + 100 y²) / 2", lambda x, y: (x * x + 100 * y * y) / 2, lambda x, y: (x, 100 * y),
               lambda x, y: ((1, 0), (0, 100)), [[0.0, 0.0]], (-4.5, 4.5), (-1.2, 1.2),
               [[-4, 1], [4, 0.8], [-3, -0.9]]),
    "saddle": ("x² - y² + y⁴ / 4", lambda x, y: x * x - y * y + y**4 / 4, lambda x, y: (2 * x, -2 * y + y**3),
               lambda x, y: ((2, 0), (0, -2 + 3 * y * y)), [[0.0, -math.sqrt(2)], [0.0, math.sqrt(2)]], (-2.0, 2.0),
               (-2.2, 2.2), [[-1.8, 0.01], [1.5, -0.05], [1.0, 0.3]]),
    "double_well": ("(x² - 1)² + y²", lambda x, y: (x * x - 1) ** 2 + y * y,
                    lambda x, y: (4 * x * (x * x - 1), 2 * y), lambda x, y: ((12 * x * x - 4, 0), (0, 2)),
                    [[-1.0, 0.0], [1.0, 0.0]], (-1.8, 1.8), (-1.5, 1.5), [[0.01, 1.4], [-1.6, 1.0], [0.3, -1.2]]),
    "rosenbrock": ("(1 - x)² + 100 (y - x²)²", lambda x, y: (1 - x) ** 2 + 100 * (y - x * x) ** 2,
                   lambda x, y: (-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)),
                   lambda x, y: ((2 - 400 * y + 1200 * x * x, -400 * x), (-400 * x, 200)), [[1.0, 1.0]], (-2.0, 2.0),
                   (-1.0, 3.0), [[-1.2, 1.0], [0.0, 2.5], [1.8, -0.5]]),
    "styblinski_tang": ("Σ (t⁴ - 16 t² + 5 t) / 2", lambda x, y: _tang(x) + _tang(y),
                        lambda x, y: (_tang_slope(x), _tang_slope(y)),
                        lambda x, y: ((6 * x * x - 16, 0), (0, 6 * y * y - 16)), [[_TANG, _TANG]], (-4.5, 4.5),
                        (-4.5, 4.5), [[0.1, 0.2], [4.2, 0.5], [0.5, -4.2]]),
    "two_parameters": ("(1 - x y)²", lambda x, y: (1 - x * y) ** 2,
                       lambda x, y: (-2 * y * (1 - x * y), -2 * x * (1 - x * y)),
                       lambda x, y: ((2 * y * y, 4 * x * y - 2), (4 * x * y - 2, 2 * x * x)),
                       [[1.0, 1.0], [-1.0, -1.0]], (-2.0, 2.0), (-2.0, 2.0), [[0.01, 0.02], [-1.8, 0.5], [1.5, -1.0]]),
}
