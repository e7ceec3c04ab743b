"""The checks of numbers, words, paths and arrays that a user types: each returns what it was given, numbers as plain
Python values, or raises an error that names the argument.
"""

import math
import os
from numbers import Integral

import numpy as np


def number(name, x, low=0.0, high=math.inf, *, open_low=False, open_high=False):
    """Return x as a float after checking that it is finite and low <= x <= high (< where a side is open).

    A number of Python or NumPy, or a 0-d array or tensor of one; no bool, for a flag in its place is an error.
    """
    value = x if type(x) is float else _as_float(name, x)
    if not math.isfinite(value) or not low <= value <= high or (open_low and value == low) or (
            open_high and value == high):
        left, right = "(" if open_low or low == -math.inf else "[", ")" if open_high or high == math.inf else "]"
        raise ValueError(f"{name}: expected a number in {left}{low:g}, {high:g}{right}, got {x!r}")
    return value


def _as_float(name, x):
    if np.ndim(x) != 0 or isinstance(x, (bool, str, bytes)) or getattr(x, "dtype", None) == "bool":
        raise TypeError(f"{name}: expected a number, got {x!r}")
    try:
        return float(x)
    except OverflowError:
        raise ValueError(f"{name}: expected a number within the range of float64, got a larger one") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {x!r}") from None


def integer(name, n, low=1):
    """Return n as an int after checking n >= low."""
    if type(n) is not int and (isinstance(n, bool) or not isinstance(n, Integral)):
        raise TypeError(f"{name}: expected an integer, got {n!r}")
    if n < low:
        raise ValueError(f"{name}: expected at least {low}, got {n}")
    return int(n)


def indices(name, rows, n):
    """Return a non-empty vector of indices from 0 to n - 1 as int64; None for None."""
    if rows is None:
        return None
    array = np.asarray(rows)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected a non-empty vector of indices, got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer indices, got {array.dtype}")
    if array.min() < 0 or array.max() >= n:
        raise ValueError(f"{name}: expected indices from 0 to {n - 1}, got {array.min()} to {array.max()}")
    return array.astype(np.int64, copy=False)


def flag(name, value):
    """Return the bool."""
    if type(value) is not bool and not isinstance(value, np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def array(name, x):
    """Return the array after checking that it is one of NumPy, and no subclass that means something else by it."""
    if type(x) is np.ndarray:
        return x
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray | np.matrix):
        raise TypeError(f"{name}: expected a NumPy array, got {type(x).__name__}")
    return x


def path(name, x):
    """Return the path as a string."""
    if not isinstance(x, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {type(x).__name__}")
    return os.fspath(x)


def float_dtype(name, dtype):
    """Return float32 or float64 as a dtype."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name}: expected float32 or float64, got {dtype!r}") from None
    if found not in (np.dtype("float32"), np.dtype("float64")):
        raise TypeError(f"{name}: expected float32 or float64, got {found.str}")
    return found


def one_of(name, x, choices):
    """Return x, one of the choices: strings, and None where it is one."""
    if not isinstance(x, str | None):
        raise TypeError(f"{name}: expected a string, got {x!r}")
    if x not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {x!r}")
    return x
