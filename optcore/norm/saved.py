"""What the normalizations of rows and groups keep between their passes."""


class Statistics:
    """What a forward pass keeps for the backward one: opaque but for two arrays.

    Attributes
    ----------
    mean, inv_std : ndarray of float64
        mu and s of each row or group (mu is 0 where none is subtracted); of a ``*_jvp``, their derivatives.
    """

    __slots__ = ("inv_std", "layout", "mean", "mean_rest", "norm")

    def __init__(self, norm, layout, mean, mean_rest, inv_std):
        self.norm = norm  # the function that made it
        self.layout = layout  # how x is read: the number of normalised dimensions; or groups and channel axis
        self.mean = mean
        self.mean_rest = mean_rest  # what rounding mu to float64 lost
        self.inv_std = inv_std

    def __repr__(self):
        return f"Statistics({self.norm}, shape={self.mean.shape})"


def checked(saved, norm, name="saved"):
    """Return the layout of what `norm` saved."""
    if not isinstance(saved, Statistics):
        raise TypeError(f"{name}: expected a Statistics as {norm} returns it, got {type(saved).__name__}")
    if saved.norm != norm:
        raise ValueError(f"{name}: expected what {norm} returned, got that of {saved.norm}")
    return saved.layout


def checked_pair(saved, rsaved, norm):
    """Return the layout of what `norm` and its R-operator saved."""
    layout = checked(saved, norm)
    if checked(rsaved, norm, "rsaved") != layout:
        raise ValueError(f"rsaved: expected what {norm}_jvp returned with this saved, got {rsaved!r} for {saved!r}")
    return layout
