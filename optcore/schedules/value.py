"""What every schedule shares: a small immutable value, checked when it is built."""

import math
from dataclasses import dataclass

from optcore.checks import number

value = dataclass(frozen=True)


def checked_step(step):
    """Return a step after checking that it is a number, not negative."""
    if type(step) is not int or step < 0:
        number("step", step)
    return step


def scaled(x, base, exponent):
    """Return x * base**exponent, infinite where that is beyond a float: a rule refuses it as it does any infinity."""
    try:
        return x * base ** exponent
    except OverflowError:
        return x and math.inf


def put(self, **values):
    """Set attributes of a value under construction."""
    for name, x in values.items():
        object.__setattr__(self, name, x)
