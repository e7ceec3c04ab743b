"""Clipping of gradients apart from a step (the option ``clip_norm`` of a rule needs no pass of its own)."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from optcore._native import reduce as _reduce
from optcore.checks import number


def _gradients(grads):
    """Return the arrays among ``grads``, checked to be writable in place."""
    if isinstance(grads, np.ndarray):
        grads = [grads]
    elif isinstance(grads, Mapping):
        grads = list(grads.values())
    elif isinstance(grads, (str, bytes)) or not isinstance(grads, Iterable):
        raise TypeError(f"grads: expected an array, sequence or mapping of arrays, got {type(grads).__name__}")
    arrays = [g for g in grads if g is not None]
    for i, g in enumerate(arrays):
        if not isinstance(g, np.ndarray) or g.dtype not in (np.float32, np.float64):
            got = g.dtype if isinstance(g, np.ndarray) else type(g).__name__
            raise TypeError(f"grads[{i}]: expected a float32 or float64 array, got {got}")
        if not g.flags.writeable or not g.flags.c_contiguous:
            raise ValueError(f"grads[{i}]: expected a writable C-contiguous array")
    return arrays


def clip_grad_norm_(grads, max_norm, norm_type=2.0):
    """Scale gradients in place so that their common norm is at most ``max_norm``.

    Parameters
    ----------
    grads : array, sequence or mapping of arrays
        float32 or float64, C-contiguous, writable; None entries are passed over.
    max_norm : float
        The largest norm that is left as it is.
    norm_type : float
        p of the p-norm over all elements; ``inf`` for the largest magnitude.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    TypeError, ValueError
        An array that cannot be scaled in place, or a number out of range; nothing has been changed.

    Notes
    -----
    As ``torch.nn.utils.clip_grad_norm_``: by max_norm / (norm + 1e-6) where that is below 1. Squares are summed in
    double, so that a float32 gradient of 1e20 or 1e-25 has its right norm.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> g = np.array([3.0, 4.0])
    >>> oc.optim.clip_grad_norm_(g, 1.0)
    5.0
    >>> bool(abs(np.linalg.norm(g) - 1) < 1e-6)
    True
    """
    arrays = _gradients(grads)
    if max_norm != math.inf:
        max_norm = number("max_norm", max_norm)
    if norm_type != math.inf and number("norm_type", norm_type) == 0:
        raise ValueError(f"norm_type: expected a number > 0, got {norm_type!r}")
    if norm_type == 2:
        norm = math.hypot(*(_reduce.norm(g) for g in arrays))
    elif norm_type == math.inf:
        norm = max((_reduce.abs_max(g) for g in arrays), default=0.0)
    else:
        norm = float(sum(np.sum(np.abs(g, dtype=np.float64) ** norm_type) for g in arrays) ** (1 / norm_type))
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:
        with np.errstate(all="ignore"):         # infinite times 0 is NaN, as it is in PyTorch
            for g in arrays:
                np.multiply(g, g.dtype.type(scale), out=g)
    return norm


def clip_grad_value_(grads, clip_value):
    """Clamp gradients in place to [-clip_value, clip_value]; NaN stays NaN.

    Parameters
    ----------
    grads : array, sequence or mapping of arrays
        float32 or float64, C-contiguous, writable; None entries are passed over.
    clip_value : float
        Not negative.

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
    arrays = _gradients(grads)
    clip_value = number("clip_value", clip_value)
    for g in arrays:
        np.clip(g, -clip_value, clip_value, out=g)
