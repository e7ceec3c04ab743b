"""What the normalizations of rows and groups keep between their passes, and what every norm checks of it."""

import numpy as np


class Statistics:
    """What a forward pass keeps for the backward one: opaque but for two arrays.

    Attributes
    ----------
    mean, inv_std : ndarray of float64
        mu and s of each row or group (mu is 0 where none is subtracted); of a ``*_jvp``, their derivatives.
    """

    __slots__ = ("dtype", "inv_std", "layout", "mean", "mean_rest", "norm", "shape")

    def __init__(self, norm, x, layout, mean, mean_rest, inv_std):
        self.shape = x.shape
        self.dtype = x.dtype
        self.norm = norm  # the function that made it
        self.layout = layout  # how x is read: the number of normalised dimensions; or groups and channel axis
        self.mean = mean
        self.mean_rest = mean_rest  # what rounding mu to float64 lost
        self.inv_std = inv_std

    def __repr__(self):
        return f"Statistics({self.norm}, shape={self.shape}, dtype={self.dtype})"


def check_belongs(saved, x, name, of="x"):
    """Refuse what was saved of an x, or an array of another name, of another shape or dtype."""
    if isinstance(x, np.ndarray) and (x.shape != saved.shape or x.dtype != saved.dtype):
        raise ValueError(f"{name}: expected that of this {of}, {x.dtype} of shape {x.shape}, got that of "
                         f"{saved.dtype} of shape {saved.shape}")


def checked(saved, norm, x, name="saved"):
    """Return the layout of what `norm` saved of this x."""
    if not isinstance(saved, Statistics):
        raise TypeError(f"{name}: expected a Statistics as {norm} returns it, got {type(saved).__name__}")
    if saved.norm != norm:
        raise ValueError(f"{name}: expected what {norm} returned, got that of {saved.norm}")
    check_belongs(saved, x, name)
    return saved.layout


def checked_pair(saved, rsaved, norm, x):
    """Return the layout of what `norm` and its R-operator saved of this x."""
    layout = checked(saved, norm, x)
    if checked(rsaved, norm, x, "rsaved") != layout:
        raise ValueError(f"rsaved: expected what {norm}_jvp returned with this saved, got {rsaved!r} for {saved!r}")
    return layout
