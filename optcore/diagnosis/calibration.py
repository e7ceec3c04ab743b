"""How often a verdict was right, by its distance from another one."""

from bisect import bisect_right

# (distance from here on, confidence): fitted to 532 cases that no threshold had been tuned on; see docs/diagnosis.md.
_TABLE = ((0.0, 0.5), (0.15, 0.714), (0.3, 0.868), (0.6, 0.891), (0.999, 0.969))


def confidence(name, distance):
    """Return the confidence of a verdict at a distance in [0, 1] from another one; 0 where nothing was decided."""
    if name == "undetermined":
        return 0.0
    return _TABLE[bisect_right(_TABLE, distance, key=lambda row: row[0]) - 1][1]
