"""What a user's values are turned into: vectors and numbers of an objective's dtype."""

import numpy as np

_LINE = 64  # bytes


def reals(name, value, size, expected="real numbers"):
    """Return a vector of so many integers or floats, or raise."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected {expected}, got {array.dtype}")
    if array.shape != (size,):
        raise ValueError(f"{name}: expected shape ({size},), got {array.shape}")
    return array


def aligned(array, dtype):
    """A copy that begins at a cache line: JAX takes such memory as it is, and copies any other."""
    room = np.empty(array.size * dtype.itemsize + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    copy = room[start:start + array.size * dtype.itemsize].view(dtype)
    copy[:] = array
    return copy


def starting_point(theta0):
    """Return theta0 as a read-only copy, float32 or float64."""
    if theta0 is None:
        raise TypeError("theta0: expected an array, got None")
    array = np.asarray(theta0)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise TypeError(f"theta0: expected float32 or float64, got {array.dtype}")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"theta0: expected a vector with at least one element, got shape {array.shape}")
    theta0 = np.array(array, dtype=np.float32 if array.dtype == np.float32 else np.float64)
    theta0.flags.writeable = False
    return theta0


def scalar(name, value):
    """Return a number, or an array of one, as a float."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected a real number, got {array.dtype}")
    if array.size != 1:
        raise ValueError(f"{name}: expected a scalar, got shape {array.shape}")
    return float(array.reshape(()))
