"""The checks of sizes, beside those of `optcore.checks`."""

from numbers import Integral

from optcore.checks import integer


def pair(name, value, low):
    """Return an integer, taken twice, or two integers as a tuple, each at least `low`."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or not all(isinstance(n, Integral) and not isinstance(n, bool) for n in both):
        raise TypeError(f"{name}: expected an integer or two, got {value!r}")
    if min(both) < low:
        raise ValueError(f"{name}: expected at least {low}, got {value!r}")
    return tuple(map(int, both))


def shape(name, value):
    """Return the shape of one example as a tuple of integers."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name}: expected a tuple of integers, got {value!r}")
    return tuple(integer(f"{name}[{i}]", n) for i, n in enumerate(value))
