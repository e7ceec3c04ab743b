"""How an optimizer keeps its arrays in memory, apart from what a step computes with."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from optcore._native import storage as _native
from optcore.checks import flag, number, one_of

#: What an array of a kind is to NumPy. Codes have a float32 scale for each block beside them.
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": np.uint16,
          "signed": np.uint8, "unsigned": np.uint8}
CODES = ("signed", "unsigned")
LINE = 64  # bytes
SMALL = 1 << 20  # bytes of an array that pages of its own do nothing for
HALVES = ("float16", "bfloat16")
_STATE_DTYPES = ("float32", "float64", "bfloat16", "float16", "int8")


class Kept(NamedTuple):
    """An array and how it is kept: its kind, and the scales where it holds codes."""

    kind: str
    array: np.ndarray
    scale: np.ndarray | None = None

    def wide(self):
        """The numbers, exactly: a new array of float64 where it is kept so, else of float32."""
        return values(self.array, self.kind, self.scale, "float64" if self.kind == "float64" else "float32")

    def take(self, other):
        """Write the numbers of another such array: bit for bit where it is of the same kind, else rounded."""
        if self.kind != other.kind:
            put(other.wide(), self.array, self.kind, self.scale)
            return
        np.copyto(self.array, other.array.view(self.array.dtype))
        if self.scale is not None:
            np.copyto(self.scale, other.scale)


def check_uint16_as(value):
    """Raise ValueError unless the option says what uint16 arrays hold."""
    one_of("uint16_as", value, (None, *HALVES))


def kind_of(array, uint16_as):
    """The kind of an array that `check_parameter` has let pass."""
    return uint16_as if array.dtype == np.uint16 else array.dtype.name


@dataclass(frozen=True)
class Plan:
    """How the arrays of one parameter are kept, and the dtype of the arithmetic on them."""

    parameter: str
    arithmetic: str
    state: str
    master: bool
    rounding: str

    @property
    def theta(self):
        """The kind of what the rule moves: of the parameter, or of its master."""
        return self.arithmetic if self.master else self.parameter


@dataclass(frozen=True)
class Storage:
    """The options of an optimizer that say how arrays are kept, checked."""

    state_dtype: str | None
    master_weights: bool
    compensated: bool
    stochastic_rounding: bool
    ema_decay: float | None
    uint16_as: str | None

    def __post_init__(self):
        if self.state_dtype is not None and str(self.state_dtype) not in _STATE_DTYPES:
            raise ValueError(f"state_dtype: expected None or one of {list(_STATE_DTYPES)}, got {self.state_dtype!r}")
        for name in ("master_weights", "compensated", "stochastic_rounding"):
            flag(name, getattr(self, name))
        if self.master_weights + self.compensated + self.stochastic_rounding > 1:
            raise ValueError("master_weights, compensated, stochastic_rounding: expected one of them at most, for each "
                             "keeps what rounding a parameter would lose")
        check_uint16_as(self.uint16_as)
        if self.ema_decay is not None:
            number("ema_decay", self.ema_decay, high=1.0, open_high=True)

    def kind(self, array):
        """The kind of a user's array that `Stepper._bind` will accept."""
        return kind_of(array, self.uint16_as)

    def plan(self, name, array, layerwise):
        """Return the `Plan` of a parameter; ValueError where the options do not fit it."""
        kind, state = self.kind(array), None if self.state_dtype is None else str(self.state_dtype)
        master = bool(self.master_weights) and kind in HALVES
        pair, random = bool(self.compensated), bool(self.stochastic_rounding) and kind == "bfloat16"
        if pair and kind == "float64":
            raise ValueError(f"compensated: expected parameters of float32, bfloat16 or float16, got {name} of float64")
        if self.stochastic_rounding and kind == "float16":
            raise ValueError(f"stochastic_rounding: expected parameters of bfloat16, got {name} of float16")
        wide = kind == "float64" or state == "float64" or (pair and kind == "float32")
        arithmetic = "float64" if wide else "float32"
        if state is None:
            state = arithmetic if master else kind
        if state == "int8" and wide:
            raise ValueError(f"state_dtype: expected one that holds float64 for {name}, got 'int8'")
        plan = Plan(kind, arithmetic, state, master, "pair" if pair else "random" if random else "nearest")
        if layerwise and (plan.theta != arithmetic or state != arithmetic or pair):
            raise ValueError(f"{name}: expected float32 or float64, or bfloat16 or float16 with master_weights=True, "
                             f"and states of the same dtype, for a rule that looks at whole layers; got {kind} with "
                             f"state_dtype={self.state_dtype!r}, compensated={self.compensated!r}")
        return plan


def zeros(wanted):
    """Zeros for each (like, shape, kind) whose elements lie to the cache lines as those of ``like`` do.

    Full-width accesses of both cross no line. Small arrays lie end to end: what a processor looks up and asks for ahead
    goes on from one to the next.
    """
    dtypes = [np.dtype(DTYPES[kind]) for _, _, kind in wanted]
    sizes = [math.prod(shape) * dtype.itemsize + LINE for (_, shape, _), dtype in zip(wanted, dtypes, strict=True)]
    shared, at = np.zeros(sum(size for size in sizes if size <= SMALL), np.uint8), 0
    arrays = []
    for (like, shape, _), dtype, size in zip(wanted, dtypes, sizes, strict=True):
        room, begin = (shared, at) if size <= SMALL else (np.zeros(size, np.uint8), 0)
        at += size if size <= SMALL else 0
        into_line = like.ctypes.data % LINE // like.dtype.itemsize * dtype.itemsize
        arrays.append(np.ndarray(shape, dtype, room, begin + (into_line - room.ctypes.data - begin) % LINE))
    return arrays


def scales(shape):
    """The scales of an array of codes, of zeros so far."""
    return np.zeros(-(-math.prod(shape) // _native.BLOCK), np.float32)


def are_scales(x):
    """Where ``x`` holds what a block of codes has for a scale: a power of two from 2^-90 on, infinity, or 0."""
    return (np.frexp(x)[0] == 0.5) & (x >= 2.0**-90) | np.isposinf(x) | (x == 0)


def values(array, kind, scale, arithmetic):
    """The numbers that an array holds, as a new array of the arithmetic's dtype."""
    out = np.empty(array.shape, arithmetic)
    _native.load(raw(array), kind, scale, out)
    return out


def put(numbers, array, kind, scale=None, key=0):
    """Write numbers of any floating dtype into an array of a kind."""
    dtype = np.float64 if np.asarray(numbers).dtype == np.float64 else np.float32
    wide = np.ascontiguousarray(np.broadcast_to(np.asarray(numbers, dtype), array.shape))
    _native.store(wide, raw(array), kind, scale, key)


def raw(array):
    """The bits of an array of bfloat16 as uint16; another array as it is."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
