"""What a wrapper needs of arrays: a rule's parameters as numbers to compute on, copies of them in a state, and
arithmetic in place, a block at a time.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np

from optcore._native import reduce as _reduce
from optcore._native.storage import check_parameter
from optcore.optim import storage

BLOCK = 16384  # elements: a few arrays of a block stay in the cache between two passes


def named(params):
    """Names and arrays of ``params``: one array, a sequence or a mapping."""
    if isinstance(params, Mapping):
        return [str(k) for k in params], list(params.values())
    if isinstance(params, (list, tuple)):
        return [f"params[{i}]" for i in range(len(params))], list(params)
    return ["params"], [params]


def blocks(*arrays):
    """Yield flat views of the same up to BLOCK elements of C-contiguous arrays of one size."""
    flat = [a.reshape(-1) for a in arrays]
    for begin in range(0, flat[0].size, BLOCK):
        yield [f[begin:begin + BLOCK] for f in flat]


def wide(a, kind):
    """The numbers of an array of a kind: itself, or of half precision a float32 copy."""
    return storage.values(a, kind, None, "float32") if kind in storage.HALVES else a


def joined_norm(norms):
    """The 2-norm of a whole from those of its parts; NaN where one is, which hypot passes over beside infinity."""
    norms = list(norms)
    return math.nan if any(map(math.isnan, norms)) else math.hypot(*norms)


def norm_of(grads):
    """The 2-norm of all gradients together, None ones left out; each float32 or float64."""
    return joined_norm(_reduce.norm(g) for g in grads if g is not None)


def has_nonfinite(g):
    """Whether a float32 or float64 gradient has an element that is NaN or infinite."""
    return _reduce.count_nonfinite(g) > 0


def exchange(a, b):
    """Exchange the contents of two arrays of one shape and dtype, bit for bit."""
    kept = np.empty(min(BLOCK, a.size), a.dtype)
    for x, y in blocks(a, b):
        kept[:x.size] = x
        x[...] = y
        y[...] = kept[:x.size]


class Parameters:
    """The parameters of a rule, or bare arrays, as a wrapper computes on them: in float32 or float64.

    Parameters
    ----------
    names : list of str
    arrays : list of ndarray
        As a user gave them; ``bits`` has them as a dtype of NumPy's own, bfloat16 as uint16.
    kinds : list of str
        How each is kept, as ``storage.Plan`` has it.
    masters : list of ndarray or None
        What a rule moves in the place of each half-precision one.
    """

    def __init__(self, names, arrays, kinds, masters):
        self.names, self.arrays, self._kinds, self._masters = names, arrays, kinds, masters
        self.bits = [storage.raw(a) for a in arrays]

    @classmethod
    def bare(cls, params, uint16_as):
        """Those of arrays that no rule moves; raise unless each can be updated in place and has memory of its own."""
        storage.check_uint16_as(uint16_as)
        names, arrays = named(params)
        for name, a in zip(names, arrays, strict=True):
            check_parameter(a, name, uint16_as)
        spans = sorted((*_span(a), name) for name, a in zip(names, arrays, strict=True) if a.size)
        for before, after in itertools.pairwise(spans):
            if after[0] < before[1]:
                raise ValueError(f"params: expected arrays of their own memory, but {after[2]} overlaps {before[2]}")
        kinds = [storage.kind_of(a, uint16_as) for a in arrays]
        return cls(names, arrays, kinds, [None] * len(arrays))

    def __len__(self):
        return len(self.arrays)

    def check_writable(self):
        """Raise ValueError if an array has become read-only."""
        for name, a in zip(self.names, self.arrays, strict=True):
            if not a.flags.writeable:
                raise ValueError(f"{name}: expected a writable array, got a read-only one")

    def is_half(self, i):
        """Whether parameter i is rounded to half precision, its numbers kept apart from it."""
        return self._kinds[i] in storage.HALVES

    def numbers(self, i):
        """The numbers of parameter i: the array itself, or its master, or a float32 copy. `settle` what is written."""
        master = self._masters[i]
        return wide(self.arrays[i], self._kinds[i]) if master is None else master

    def copy(self, i):
        """A copy of the numbers of parameter i."""
        return np.array(self.numbers(i), order="C", subok=False)

    def zeros(self, i):
        """Zeros like its numbers."""
        master = self._masters[i]
        dtype = master.dtype if master is not None else np.float32 if self.is_half(i) else self.arrays[i].dtype
        return np.zeros(self.arrays[i].shape, dtype)

    def settle(self, i, numbers):
        """Round numbers into a half-precision parameter, to nearest; nothing to do for another, which is they."""
        if self.is_half(i):
            storage.put(numbers, self.arrays[i], self._kinds[i])


def _span(a):
    begin = a.__array_interface__["data"][0]
    return begin, begin + a.nbytes


def copies(arrays):
    """State of a wrapper as a checkpoint holds it: index -> copy of the array, None left out."""
    return {i: a.copy() for i, a in enumerate(arrays) if a is not None}


def checked_copies(key, saved, like, *, all_of_them=True):
    """Return a list of copies from what `copies` made, None where one is missing; raise if one does not fit."""
    if not isinstance(saved, Mapping):
        raise TypeError(f"state[{key!r}]: expected a dict of index to array, got {type(saved).__name__}")
    expected = set(range(len(like)))
    if set(saved) - expected or (all_of_them and set(saved) != expected):
        raise ValueError(f"state[{key!r}]: expected arrays for {len(like)} parameters, got {sorted(map(str, saved))}")
    result = [None] * len(like)
    for i, x in saved.items():
        given = np.asarray(x)
        if given.shape != like[i].shape or given.dtype != like[i].dtype:
            raise ValueError(f"state[{key!r}][{i}]: expected {like[i].dtype} of shape {like[i].shape}, "
                             f"got {given.dtype} of shape {given.shape}")
        result[i] = np.array(given, order="C")
    return result
