"""The state dict that a user gives, checked as a whole before anything of it is taken over."""

import math
from collections.abc import Mapping
from numbers import Integral
from typing import NamedTuple

import numpy as np

from optcore.checks import integer, number
from optcore.optim import storage
from optcore.optim.storage import Kept

SCALE = "_scale"                            # behind the key of an array of codes: their scales
EXTRAS = ("master", "compensation", "ema")  # what stands beside a parameter whatever the rule
_MOST_STEPS = 2**63 - 2  # so that one step more is still an int64
# What an array holds, by its dtype; of uint8 the slot tells which codes.
_KINDS = {"float32": "float32", "float64": "float64", "float16": "float16", "bfloat16": "bfloat16",
          "uint16": "bfloat16"}


class Entry(NamedTuple):
    """The state of one parameter: ``arrays`` maps keys to what is `Kept` under them."""

    step: int
    arrays: dict
    scalars: list


class State(NamedTuple):
    """A whole state, fit to be taken over: new options and their numbers for each group, an entry per parameter."""

    groups: list
    numbers: list
    entries: list
    steps: int
    seed: int


def checked(opt, state):
    """Return the `State` that ``state`` holds for the optimizer ``opt``; TypeError or ValueError, nothing changed."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state):
        raise TypeError("state: expected a dict with 'state' and 'param_groups'")
    indices = _indices(state["param_groups"], [len(g["params"]) for g in opt.param_groups])
    if not isinstance(state["state"], Mapping):
        raise TypeError(f"state['state']: expected a dict, got {type(state['state']).__name__}")
    strangers = [k for k in state["state"] if k not in indices]
    if strangers:
        raise ValueError(f"state: expected entries of the parameters {indices}, got {strangers}")
    groups = [_options(opt, *pair) for pair in zip(opt.param_groups, state["param_groups"], strict=True)]
    given = [state["state"].get(i, {}) for i in indices]
    for i, entry in zip(indices, given, strict=True):
        if not isinstance(entry, Mapping):
            raise TypeError(f"state[{i}]: expected a dict, got {type(entry).__name__}")
    counts = [_step(f"state[{i}]['step']", e.get("step", 0)) for i, e in zip(indices, given, strict=True)]
    steps = _step("state['step']", state.get("step", max(counts, default=0)))
    numbers = [opt._numbers(index, {**opt.param_groups[index], **new}, steps) for index, new in enumerate(groups)]
    entries = []
    for index in range(len(groups)):
        entries += [_entry(opt, i, given[i], numbers[index]) for i in opt._members(index)]
    return State(groups, numbers, entries, steps, checked_seed("state['seed']", state.get("seed", opt._seed)))


def _indices(groups, sizes):
    """The parameters of all groups, in order, by their number in the state."""
    if not isinstance(groups, (list, tuple)):
        raise TypeError(f"state['param_groups']: expected a list, got {type(groups).__name__}")
    for i, g in enumerate(groups):
        if not isinstance(g, Mapping) or not isinstance(g.get("params"), (list, tuple)):
            raise TypeError(f"state['param_groups'][{i}]: expected a dict with a list 'params', got {g!r}")
    got = [len(g["params"]) for g in groups]
    if got != sizes:
        raise ValueError(f"state: expected groups of {sizes} arrays, got {got}")
    indices = [p for g in groups for p in g["params"]]
    if any(not isinstance(p, Integral) for p in indices) or len(set(indices)) < len(indices):
        raise ValueError(f"state['param_groups']: expected the number of each parameter once, got {indices}")
    return indices


def _options(opt, group, saved):
    """The options to take over: those that the rule has; a schedule stays."""
    return {k: _bare(saved[k]) for k in opt.rule.options if k in saved and not callable(group.get(k))}


def _bare(value):
    """A value without what it may come in from elsewhere: a list, a 0-d array or tensor."""
    if isinstance(value, (list, tuple)):
        return tuple(_bare(v) for v in value)
    return value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value


def _step(name, value):
    """A count of steps; torch.optim keeps it as a floating-point tensor."""
    try:
        whole = int(value)
        exact = bool(value == whole)  # not by way of float, which holds no count above 2**53
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise TypeError(f"{name}: expected a number of steps, got {value!r}") from None
    if not exact or not 0 <= whole <= _MOST_STEPS:
        raise ValueError(f"{name}: expected a whole number of steps from 0 to 2**63 - 2, got {value!r}")
    return whole


def _entry(opt, i, entry, numbers):
    slots = [s for s in opt.rule.slots if s.shape(opt._arrays[i].shape) is not None]
    arrays = {}
    for slot in slots:
        if entry.get(slot.key) is not None:
            arrays[slot.key] = _kept(f"state[{i}]", entry, slot.key, slot.shape(opt._arrays[i].shape), slot.codes)
    for key in EXTRAS:
        if key in opt._state[i] and entry.get(key) is not None:
            arrays[key] = _kept(f"state[{i}]", entry, key, opt._arrays[i].shape)
    step = _step(f"state[{i}]['step']", entry.get("step", 0))
    # torch.optim.SGD counts no steps, nor does it go on with a count: a momentum buffer tells that there was one.
    if any(s.restarts and s.key in arrays for s in slots):
        step = max(step, 1)
    wanted = [s.key for s in slots if (s.when is None or numbers[s.when]) and not s.restarts]
    wanted += [s.key for s in opt.rule.scalars]
    missing = [key for key in wanted if entry.get(key) is None]
    if step and missing:
        raise ValueError(f"state[{i}]: expected the keys {missing}, got {list(entry)}")
    scalars = [number(f"state[{i}][{s.key!r}]", entry[s.key], -math.inf) for s in opt.rule.scalars] if step else []
    return Entry(step, arrays, scalars)


def _kept(name, entry, key, shape, codes=None):
    """The array under a key of an entry, of whatever storage; ``codes`` is what uint8 holds there."""
    given = _array(entry[key])
    kind = codes if given.dtype == np.uint8 else _KINDS.get(given.dtype.name)
    if kind is None or given.shape != shape:
        also = " or codes (uint8)" if codes else ""
        raise ValueError(f"{name}[{key!r}]: expected float32, float64, float16, bfloat16 (also as uint16){also} of "
                         f"shape {shape}, got {given.dtype} of shape {given.shape}")
    return Kept(kind, given, _scales(name, entry, key + SCALE, shape) if given.dtype == np.uint8 else None)


def _scales(name, entry, key, shape):
    if entry.get(key) is None:
        raise ValueError(f"{name}: expected the scales {key!r} beside the codes, got {list(entry)}")
    given, count = _array(entry[key]), storage.scales(shape).shape
    if given.dtype != np.float32 or given.shape != count:
        raise ValueError(f"{name}[{key!r}]: expected float32 of shape {count}, "
                         f"got {given.dtype} of shape {given.shape}")
    if not np.all(storage.are_scales(given)):
        raise ValueError(f"{name}[{key!r}]: expected powers of two from 2^-90 on, infinity, or 0 for a block of zeros, "
                         f"got {given[~storage.are_scales(given)][:4].tolist()}")
    return given


def _array(value):
    """An array or tensor as a NumPy array, C-contiguous, of native byte order."""
    if hasattr(value, "detach"):  # of PyTorch, which need not be here
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # a dtype that NumPy has not
            value = value.float()
    given = np.asarray(value)
    return np.require(given, given.dtype.newbyteorder("="), "CA")


def checked_seed(name, value):
    """Return a seed as an int after checking that it is one of 64 bits."""
    if not 0 <= integer(name, value, -math.inf) < 2**64:
        raise ValueError(f"{name}: expected an integer in [0, 2**64), got {value!r}")
    return int(value)
