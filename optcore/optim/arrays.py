"""What a wrapper needs of arrays: a rule's parameters with their names, gradients checked before anything is written,
and arithmetic in place, a block at a time.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping

import numpy as np

from optcore._native import reduce as _reduce

GRADIENTS = ("float32", "float64", "float16", "bfloat16")
BLOCK = 16384  # elements: a few arrays of a block stay in the cache between two passes


def named(params):
    """Names and arrays of ``params``: one array, a sequence or a mapping."""
    if isinstance(params, Mapping):
        return [str(k) for k in params], list(params.values())
    if isinstance(params, (list, tuple)):
        return [f"params[{i}]" for i in range(len(params))], list(params)
    return ["params"], [params]


def check_wide(names, arrays):
    """Raise TypeError if one of the arrays is narrower than float32. Whether each is an array is not asked here."""
    for name, a in zip(names, arrays, strict=True):
        if isinstance(a, np.ndarray) and a.dtype.itemsize < 4:
            raise TypeError(f"{name}: expected float32 or float64 under a wrapper, got {a.dtype}")


def check_updatable(name, a):
    """Raise unless a is an array that can be updated in place."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(a).__name__}")
    if a.dtype not in (np.float32, np.float64) or not a.dtype.isnative:
        raise TypeError(f"{name}: expected float32 or float64 of native byte order, got {a.dtype.str}")
    if not a.flags.c_contiguous or not a.flags.aligned:
        raise ValueError(f"{name}: expected a C-contiguous, aligned array, got strides {a.strides}")
    check_writable(name, a)


def check_writable(name, a):
    """Raise if a is read-only."""
    if not a.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")


def blocks(*arrays):
    """Yield flat views of the same up to BLOCK elements of C-contiguous arrays of one size."""
    flat = [a.reshape(-1) for a in arrays]
    for begin in range(0, flat[0].size, BLOCK):
        yield [f[begin:begin + BLOCK] for f in flat]


def norm_of(grads):
    """The 2-norm of all gradients together, None ones left out."""
    return math.hypot(*(_reduce.norm(_wide(g)) for g in grads if g is not None))


def has_nonfinite(g):
    """Whether a gradient has an element that is NaN or infinite."""
    return _reduce.count_nonfinite(_wide(g)) > 0


def _wide(g):
    return g if g.dtype.itemsize >= 4 else g.astype(np.float32)


def exchange(a, b):
    """Exchange the contents of two arrays of one shape and dtype, bit for bit."""
    kept = np.empty(min(BLOCK, a.size), a.dtype)
    for x, y in blocks(a, b):
        kept[:x.size] = x
        x[...] = y
        y[...] = kept[:x.size]


class Parameters:
    """Arrays with their names, and the check of gradients for them."""

    def __init__(self, names, arrays):
        self.names, self.arrays = names, arrays
        self._spans = sorted((*_span(a), name) for name, a in zip(names, arrays, strict=True) if a.size)
        self._ends = [end for _, end, _ in self._spans]

    def check_apart(self):
        """Raise ValueError if two of the arrays share memory."""
        for before, after in zip(self._spans, self._spans[1:], strict=False):
            if after[0] < before[1]:
                raise ValueError(f"params: expected arrays of their own memory, but {after[2]} overlaps {before[2]}")

    def check_writable(self):
        """Raise ValueError if an array has become read-only."""
        for name, a in zip(self.names, self.arrays, strict=True):
            check_writable(name, a)

    def gradients(self, grads, single):
        """Return the gradients as a list, one for each array, None where there is none; raise if one does not fit.

        ``single``: a bare array may stand for a list of one.
        """
        if isinstance(grads, Mapping):
            if len(grads) != len(self.names) or any(name not in grads for name in self.names):
                raise ValueError(f"grads: expected the names {sorted(self.names)}, got {sorted(map(str, grads))}")
            given = [grads[name] for name in self.names]
        elif isinstance(grads, (list, tuple)):
            given = list(grads)
        elif single:
            given = [grads]
        else:
            raise TypeError(f"grads: expected a sequence or mapping like params, got {type(grads).__name__}")
        if len(given) != len(self.names):
            raise ValueError(f"grads: expected {len(self.names)} gradients, one per parameter, got {len(given)}")
        for name, a, g in zip(self.names, self.arrays, given, strict=True):
            if g is not None:
                self._check_gradient(f"gradient of {name}", a, g)
        return given

    def _check_gradient(self, name, a, g):
        if not isinstance(g, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array, got {type(g).__name__}")
        if g.dtype.name not in GRADIENTS or not g.dtype.isnative:
            raise TypeError(f"{name}: expected dtype {', '.join(GRADIENTS)} of native byte order, got {g.dtype.name}")
        if g.shape != a.shape:
            raise ValueError(f"{name}: expected the shape of the parameter, {a.shape}, got {g.shape}")
        if not g.flags.c_contiguous or not g.flags.aligned:
            raise ValueError(f"{name}: expected a C-contiguous, aligned array, got strides {g.strides}")
        begin, end = _span(g)
        i = bisect_right(self._ends, begin)
        if begin < end and i < len(self._spans) and self._spans[i][0] < end:
            raise ValueError(f"{name}: expected memory of its own, got an array that overlaps {self._spans[i][2]}")


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
