"""What a loss with options is: the same loss without them, of other targets and weights."""

import numpy as np

from optcore._native import functional as _native
from optcore.checks import number


def smoothing(value):
    """Return the share that label smoothing spreads, or raise a TypeError or ValueError."""
    return number("label_smoothing", value, high=1.0)


def weights(value, name):
    """Return weights as a float64 array, or raise unless they are finite and at least 0."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if not ((array >= 0) & np.isfinite(array)).all():
        raise ValueError(f"{name}: expected finite numbers >= 0, got {array[~((array >= 0) & np.isfinite(array))][0]}")
    return array.astype(np.float64)


def row_weights(value, like, name="sample_weight"):
    """Return weights of examples as a float64 array, one for each row of `like`, or None for None."""
    if value is None:
        return None
    array, n = weights(value, name), len(like) if np.ndim(like) else 1
    if array.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), one weight per example, got {array.shape}")
    return np.ascontiguousarray(array)


def soft_targets(z, target, label_smoothing=0.0, weight=None, rows=None):
    """Return the rows of weights that stand for a target with label smoothing and class weights, and their divisor.

    Parameters
    ----------
    z, target, label_smoothing, weight
        As for `cross_entropy`.
    rows : ndarray [N], optional
        The examples' weights: they are in the divisor only.

    Returns
    -------
    q : ndarray [N, K]
        In the dtype of `z`.
    total : float or None
        What the sum over the rows is divided by; None for their number or the sum of their weights.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> soft_targets(np.zeros((1, 2)), np.array([1]), 0.5, [1.0, 3.0])
    (array([[0.25, 2.25]]), 3.0)
    """
    target, e = _native.targets(target, z), smoothing(label_smoothing)
    n, classes = z.shape
    w = np.ones(classes) if weight is None else weights(weight, "weight")
    if w.shape != (classes,):
        raise ValueError(f"weight: expected shape ({classes},), one weight per class, got {w.shape}")
    if target.ndim == 2:
        return (w * ((1 - e) * target + e / classes)).astype(z.dtype), None
    q = np.tile((w * (e / classes)).astype(z.dtype), (n, 1))
    q[np.arange(n), target] = (w * (1 - e + e / classes))[target]
    return q, _native.class_weights(target, w, rows) if weight is not None else None


def weighted_binary(z, target, weight=None, pos_weight=None):
    """Return target and weight without `pos_weight` that stand for the same loss as those with it.

    p*t*a + (1-t)*b = w*(u*a + (1-u)*b) with w = p*t + (1-t) and u = p*t/w.

    Parameters
    ----------
    z, target, weight, pos_weight
        As for `bce_with_logits`.

    Returns
    -------
    target, weight : ndarray
        Of the shape and dtype of `z`.

    Raises
    ------
    TypeError, ValueError
        As `bce_with_logits`.

    Examples
    --------
    >>> import numpy as np
    >>> weighted_binary(np.zeros(2), np.array([1.0, 0.5]), pos_weight=3.0)
    (array([1.  , 0.75]), array([3., 2.]))
    """
    t = _native.pair(z, target)
    w = np.float64(1) if weight is None else weights(weight, "weight")
    p = np.float64(1) if pos_weight is None else weights(pos_weight, "pos_weight")
    for name, a in (("weight", w), ("pos_weight", p)):
        if a.ndim > z.ndim or any(n not in (1, m) for n, m in zip(a.shape[::-1], z.shape[::-1], strict=False)):
            raise ValueError(f"{name}: expected a shape that broadcasts to that of z, {z.shape}, got {a.shape}")
    both = p * t + (1.0 - t)
    share = np.divide(p * t, both, out=t.astype(np.float64), where=both != 0)
    return share.astype(z.dtype), np.ascontiguousarray(np.broadcast_to(w * both, z.shape), z.dtype)
