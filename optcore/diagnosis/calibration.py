"""How often a verdict was right, by its distance from another one."""

from bisect import bisect_right

# (distance from here on, confidence): what `make diagnosis-study` fits to its tuning half.
_TABLE = ((0.0, 0.5), (0.15, 0.667), (0.3, 0.929), (0.6, 0.941), (0.999, 0.962))


def confidence(name, distance):
    """Return the confidence of a verdict at a distance in [0, 1] from another one; 0 where nothing was decided."""
    if name == "undetermined":
        return 0.0
    return _TABLE[bisect_right(_TABLE, distance, key=lambda row: row[0]) - 1][1]
