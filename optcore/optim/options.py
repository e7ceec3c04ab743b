"""The options of a parameter group: how each is checked, and which constants of the C kernel it sets."""

import math
from numbers import Integral

import numpy as np


def number(low, high=math.inf):
    """Return the check of a number in [low, high)."""

    def check(name, value):
        if isinstance(value, (str, bytes)) or np.ndim(value) != 0:
            raise TypeError(f"{name}: expected a number, got {value!r}")
        try:
            number = float(value)
        except TypeError:
            raise TypeError(f"{name}: expected a number, got {value!r}") from None
        if not low <= number < high or math.isinf(number):
            raise ValueError(f"{name}: expected a number in [{low}, {high}), got {value!r}")
        return number

    return check


def _flag(name, value):
    if not isinstance(value, (bool, np.bool_, Integral)) or value not in (0, 1):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return int(value)


def numbers(count, low, high=math.inf):
    """Return the check of a tuple of ``count`` numbers in [low, high)."""

    def check(name, value):
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"{name}: expected {count} numbers in [{low}, {high}), got {value!r}")
        if len(value) != count:
            raise ValueError(f"{name}: expected {count} numbers, got {len(value)}")
        return tuple(number(low, high)(f"{name}[{i}]", v) for i, v in enumerate(value))

    return check


def _etas(name, value):
    shrink, grow = numbers(2, 0)(name, value)
    if not 0 < shrink < 1 < grow:
        raise ValueError(f"{name}: expected one number in (0, 1) and one above 1, got {value!r}")
    return shrink, grow


def _step_sizes(name, value):
    low, high = numbers(2, 0)(name, value)
    if low > high:
        raise ValueError(f"{name}: expected the smallest step, then the largest, got {value!r}")
    return low, high


def _count(name, value):
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number of steps, got {value!r}")
    if value < 0:
        raise ValueError(f"{name}: expected a number of steps, at least 0, got {value!r}")
    return float(value)


def _count_or_none(name, value):
    return 0.0 if value is None else _count(name, value)


def _power(name, value):
    if number(-math.inf)(name, value) > 0:
        raise ValueError(f"{name}: expected a power of the step number, at most 0, got {value!r}")
    return float(value)


def _few(name, value):
    if _count(name, value) >= 100:
        raise ValueError(f"{name}: expected a number of steps below 100, got {value!r}")
    return float(value)


def _adjustment(name, value):
    if value not in (None, "original", "match_rms_adamw"):
        raise ValueError(f'{name}: expected "original", "match_rms_adamw" or None, got {value!r}')
    return int(value == "match_rms_adamw")


# Option of a group -> (check that returns the number or numbers, the C options that they set). A rule that means
# something else by a name says so in its row (``Rule.checks``).
CHECKS = {
    "lr": (number(0), ("lr",)),
    "betas": (numbers(2, 0, 1), ("beta1", "beta2")),
    "eps": (number(0), ("eps",)),
    "alpha": (number(0, 1), ("alpha",)),
    "momentum": (number(0), ("momentum",)),
    "dampening": (number(-math.inf), ("dampening",)),
    "weight_decay": (number(0), ("weight_decay",)),
    "lr_decay": (number(0), ("lr_decay",)),
    "rho": (number(0), ("rho",)),
    "momentum_decay": (number(0), ("momentum_decay",)),
    "alpha_warmup": (_count_or_none, ("alpha_warmup",)),
    "beta3_warmup": (_count_or_none, ("beta3_warmup",)),
    "etas": (_etas, ("shrink", "grow")),
    "step_sizes": (_step_sizes, ("step_min", "step_max")),
    "lambd": (number(0), ("lambd",)),
    "t0": (number(0), ("t0",)),
    "warmup_steps": (_count, ("warmup_steps",)),
    "r": (number(0), ("r",)),
    "weight_lr_power": (number(0), ("weight_lr_power",)),
    "trust_coefficient": (number(0), ("trust",)),
    "beta2_decay": (_power, ("beta2_decay",)),
    "d": (number(1), ("rms_u",)),
    "ns_coefficients": (numbers(3, -math.inf), ("ns_a", "ns_b", "ns_c")),
    "ns_steps": (_few, ("ns_steps",)),
    "adjust_lr_fn": (_adjustment, ("match_rms",)),
    "initial_accumulator_value": (number(0), ()),
    "amsgrad": (_flag, ("amsgrad",)),
    "maximize": (_flag, ("maximize",)),
    "nesterov": (_flag, ("nesterov",)),
    "centered": (_flag, ("centered",)),
    "average": (_flag, ("average",)),
    "warm_start": (_flag, ("warm_start",)),
    "bias_correction": (_flag, ("bias_correction",)),
    "decoupled_weight_decay": (_flag, ("decoupled",)),
}

# Options that may be a schedule: a callable of the number of steps taken.
SCHEDULED = ("lr", "weight_decay")
