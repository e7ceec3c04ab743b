"""How often a verdict was right, by its distance from another one: from `make diagnosis-study`, the tuning half."""

from itertools import pairwise

_TABLE = ((0.0, 0.5), (0.3, 0.75), (0.6, 0.9), (1.0, 0.97))


def confidence(name, distance):
    """Return the calibrated confidence of a verdict at a distance in [0, 1] from another one."""
    if name == "undetermined":
        return 0.0
    for (x0, y0), (x1, y1) in pairwise(_TABLE):
        if distance <= x1:
            return round(y0 + (y1 - y0) * max(0.0, distance - x0) / (x1 - x0), 3)
    return _TABLE[-1][1]
