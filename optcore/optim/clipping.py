"""Clipping of gradients apart from a step (the option ``clip_norm`` of a rule needs no pass of its own)."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from optcore._native import reduce as _reduce
from optcore._native.storage import check_parameter
from optcore.checks import flag, number
from optcore.optim import storage
from optcore.optim.arrays import norm_of, wide


def _gradients(grads, uint16_as):
    """Return (array, kind) of each gradient that is not None, checked to be writable in place."""
    storage.check_uint16_as(uint16_as)
    if isinstance(grads, np.ndarray):
        grads = [grads]
    elif isinstance(grads, Mapping):
        grads = list(grads.values())
    elif isinstance(grads, (str, bytes)) or not isinstance(grads, Iterable):
        raise TypeError(f"grads: expected an array, sequence or mapping of arrays, got {type(grads).__name__}")
    found = [(f"grads[{i}]", g) for i, g in enumerate(grads) if g is not None]
    for name, g in found:
        check_parameter(g, name, uint16_as)
    return [(storage.raw(g), storage.kind_of(g, uint16_as)) for _, g in found]


def _replace(g, kind, numbers):
    """Write what was computed from `wide` numbers back, where they are not the array itself."""
    if numbers is not g:
        storage.put(numbers, g, kind)


def clip_grad_norm_(grads, max_norm, norm_type=2.0, error_if_nonfinite=False, *, uint16_as=None):
    """Scale gradients in place so that their common norm is at most ``max_norm``.

    Parameters
    ----------
    grads : array, sequence or mapping of arrays
        float32, float64, bfloat16 or float16, C-contiguous, writable; None entries are passed over.
    max_norm : float
        The largest norm that is left as it is.
    norm_type : float
        p of the p-norm over all elements; ``inf`` for the largest magnitude.
    error_if_nonfinite : bool
        Refuse a norm that is NaN or infinite. Otherwise gradients are scaled by it too: NaN makes all of them NaN,
        infinity makes 0 of what is finite and NaN of the rest.
    uint16_as : {None, "bfloat16", "float16"}
        What uint16 arrays hold.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    TypeError, ValueError
        An array that cannot be scaled in place, or a number out of range; nothing has been changed.
    FloatingPointError
        With ``error_if_nonfinite``: the norm is NaN or infinite; nothing has been changed.

    Notes
    -----
    As ``torch.nn.utils.clip_grad_norm_``: by max_norm / (norm + 1e-6) where that is below 1. Squares are summed in
    double, so that a float32 gradient of 1e20 or 1e-25 has its right norm. Half precision is scaled in float32 and
    rounded to nearest.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> g = np.array([3.0, 4.0])
    >>> oc.optim.clip_grad_norm_(g, 1.0)
    5.0
    >>> bool(abs(np.linalg.norm(g) - 1) < 1e-6)
    True
    """
    arrays = _gradients(grads, uint16_as)
    if not _is_infinite(max_norm):
        max_norm = number("max_norm", max_norm)
    if not _is_infinite(norm_type):
        norm_type = number("norm_type", norm_type, open_low=True)
    strict = flag("error_if_nonfinite", error_if_nonfinite)
    norm = _norm((wide(g, kind) for g, kind in arrays), norm_type)
    if strict and not math.isfinite(norm):
        raise FloatingPointError(f"grads: expected gradients with a finite norm, got {norm}; nothing was changed")
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:
        with np.errstate(all="ignore"):         # infinite times 0 is NaN, as it is in PyTorch
            for g, kind in arrays:
                x = wide(g, kind)
                np.multiply(x, x.dtype.type(scale), out=x)
                _replace(g, kind, x)
    return norm


def _is_infinite(x):
    return isinstance(x, float) and x == math.inf


def _norm(arrays, p):
    """The p-norm over all elements of float32 and float64 arrays."""
    if p == 2:
        return norm_of(arrays)
    if p == math.inf:
        return float(np.max([0.0, *map(_reduce.abs_max, arrays)]))  # NaN where one is
    return float(sum(np.sum(np.abs(x, dtype=np.float64) ** p) for x in arrays) ** (1 / p))


def clip_grad_value_(grads, clip_value, *, uint16_as=None):
    """Clamp gradients in place to [-clip_value, clip_value]; NaN stays NaN.

    Parameters
    ----------
    grads : array, sequence or mapping of arrays
        float32, float64, bfloat16 or float16, C-contiguous, writable; None entries are passed over.
    clip_value : float
        Not negative.
    uint16_as : {None, "bfloat16", "float16"}
        What uint16 arrays hold.

    Raises
    ------
    TypeError, ValueError
        An array that cannot be changed in place, or a number out of range; nothing has been changed.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> g = np.array([3.0, -0.5])
    >>> oc.optim.clip_grad_value_(g, 1.0)
    >>> g
    array([ 1. , -0.5])
    """
    arrays = _gradients(grads, uint16_as)
    clip_value = number("clip_value", clip_value)
    for g, kind in arrays:
        x = wide(g, kind)
        _replace(g, kind, np.clip(x, -clip_value, clip_value, out=x))
