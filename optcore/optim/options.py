"""The options of a parameter group: how each is checked, and which constants of the C kernel it sets."""

import math
from functools import partial

from optcore.checks import flag, integer, number, one_of


def within(low, high=math.inf):
    """Return the check of a number in [low, high)."""
    return partial(number, low=low, high=high, open_high=True)


def numbers(count, low, high=math.inf):
    """Return the check of a tuple of ``count`` numbers in [low, high)."""

    def check(name, value):
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"{name}: expected {count} numbers in [{low}, {high}), got {value!r}")
        if len(value) != count:
            raise ValueError(f"{name}: expected {count} numbers, got {len(value)}")
        return tuple(within(low, high)(f"{name}[{i}]", v) for i, v in enumerate(value))

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
    return float(integer(name, value, 0))


def _count_or_none(name, value):
    return 0.0 if value is None else _count(name, value)


def _few(name, value):
    if integer(name, value, 0) >= 100:
        raise ValueError(f"{name}: expected a number of steps below 100, got {value!r}")
    return float(value)


def _adjustment(name, value):
    return int(value is not None and one_of(name, value, ("original", "match_rms_adamw")) == "match_rms_adamw")


# Option of a group -> (check that returns the number or numbers, the C options that they set). A rule that means
# something else by a name says so in its row (``Rule.checks``).
CHECKS = {
    "lr": (within(0), ("lr",)),
    "betas": (numbers(2, 0, 1), ("beta1", "beta2")),
    "eps": (within(0), ("eps",)),
    "alpha": (partial(number, high=1.0), ("alpha",)),  # 1 as in PyTorch: v stays
    "momentum": (within(0), ("momentum",)),
    "dampening": (within(-math.inf), ("dampening",)),
    "weight_decay": (within(0), ("weight_decay",)),
    "lr_decay": (within(0), ("lr_decay",)),
    "rho": (within(0), ("rho",)),
    "momentum_decay": (within(0), ("momentum_decay",)),
    "alpha_warmup": (_count_or_none, ("alpha_warmup",)),
    "beta3_warmup": (_count_or_none, ("beta3_warmup",)),
    "etas": (_etas, ("shrink", "grow")),
    "step_sizes": (_step_sizes, ("step_min", "step_max")),
    "lambd": (within(0), ("lambd",)),
    "t0": (within(0), ("t0",)),
    "warmup_steps": (_count, ("warmup_steps",)),
    "r": (within(0), ("r",)),
    "weight_lr_power": (within(0), ("weight_lr_power",)),
    "trust_coefficient": (within(0), ("trust",)),
    "beta2_decay": (partial(number, low=-math.inf, high=0.0), ("beta2_decay",)),
    "d": (within(1), ("rms_u",)),
    "ns_coefficients": (numbers(3, -math.inf), ("ns_a", "ns_b", "ns_c")),
    "ns_steps": (_few, ("ns_steps",)),
    "adjust_lr_fn": (_adjustment, ("match_rms",)),
    "initial_accumulator_value": (within(0), ()),
    "amsgrad": (flag, ("amsgrad",)),
    "maximize": (flag, ("maximize",)),
    "nesterov": (flag, ("nesterov",)),
    "centered": (flag, ("centered",)),
    "average": (flag, ("average",)),
    "warm_start": (flag, ("warm_start",)),
    "bias_correction": (flag, ("bias_correction",)),
    "decoupled_weight_decay": (flag, ("decoupled",)),
}

# Options that may be a schedule: a callable of the number of steps taken.
SCHEDULED = ("lr", "weight_decay")


def in_groups(name):
    """The error of an option that is set as an attribute, which nothing would read."""
    return AttributeError(f"{name}: expected it in the groups, param_groups[0][{name!r}] = ..., for each has its own")
