"""The checks of arguments that several analyses take."""

from numbers import Real

import numpy as np

from optcore.objective import Objective


def count(name, value):
    """Refuse what is no positive int."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}: expected a positive int, got {value!r}")


def number(name, value):
    """Refuse what is no real number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")


def positive(name, value):
    """Refuse what is no positive number, infinity included."""
    number(name, value)
    if not 0 < value < np.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}")


def not_negative(name, value):
    """Refuse what is no number from 0."""
    number(name, value)
    if not value >= 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")


def probability(name, value):
    """Refuse what is not strictly between 0 and 1."""
    number(name, value)
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a probability between 0 and 1, got {value}")


def relative(name, value):
    """Refuse what is no relative tolerance; None stands for a default."""
    if value is None:
        return
    number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a relative tolerance from 0 to 1, got {value}")


def objective(obj):
    """Refuse what is no Objective."""
    if not isinstance(obj, Objective):
        raise TypeError(f"obj: expected an Objective, got {type(obj).__name__}")
