"""The checks of what a user types: each returns the plain Python value, or raises an error that names the argument."""

import math
import numbers

import numpy as np


def positive(value, name):
    """Return the integer, of Python or NumPy, at least 1."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return int(value)


def pair(value, name, least):
    """Return an integer, taken twice, or two integers as a tuple, each at least `least`."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in both):
        raise TypeError(f"{name}: expected an integer or two, got {value!r}")
    if min(both) < least:
        raise ValueError(f"{name}: expected at least {least}, got {value!r}")
    return tuple(map(int, both))


def real(value, name):
    """Return the number as a float; NaN and infinities pass."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    return float(value)


def coefficient(value, name):
    """Return the number, finite and at least 0, as a float."""
    value = real(value, name)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")
    return value


def flag(value, name):
    """Return the bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def shape(value, name):
    """Return the shape of one example as a tuple of integers."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name}: expected a tuple of integers, got {value!r}")
    return tuple(positive(n, f"{name}[{i}]") for i, n in enumerate(value))


def one_of(value, name, choices):
    """Return the string, one of the choices."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a string, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value
