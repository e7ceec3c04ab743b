"""Batch norm at inference is a linear map of each channel, and goes into the linear map before it."""

import numpy as np

from optcore._native import norm as _norm
from optcore.checks import array, integer, number

__all__ = ["fold_batch_norm"]


def fold_batch_norm(weight, bias, bn_weight, bn_bias, running_mean, running_var, *, eps=1e-5, channel_axis=0):
    """Weight and bias of the linear or convolution layer that does what the layer and its batch norm do at inference.

    With a = bn_weight/sqrt(running_var + eps): weight' = a*weight, bias' = a*(bias - running_mean) + bn_bias,
    in double, rounded once.

    Parameters
    ----------
    weight : ndarray of float32 or float64
        [out, ...]: [out, in] of a linear layer, [out, in, height, width] of a convolution.
    bias : ndarray, shape [out], or None
        None stands for zeros.
    bn_weight, bn_bias : ndarray, shape [out], or None
        Those of the batch norm; None stands for ones and zeros.
    running_mean, running_var : ndarray, shape [out]
        Its running buffers.
    eps : float, at least 0
        As in the batch norm.
    channel_axis : int
        The axis of `weight` that is `out`: 1 for a transposed convolution; negative ones count from the last.

    Returns
    -------
    weight, bias : ndarray
        New C-contiguous arrays in the dtype of `weight`.

    Raises
    ------
    TypeError, ValueError
        An argument that is no array, or of the wrong dtype or shape; an eps that is no number at least 0, a negative
        variance, a channel_axis that `weight` does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import fold_batch_norm
    >>> weight, bias = fold_batch_norm(np.array([[2.0, 4.0]]), np.array([1.0]), np.array([3.0]), np.array([0.5]),
    ...                                np.array([2.0]), np.array([4.0]), eps=0.0)
    >>> weight, bias
    (array([[3., 6.]]), array([-1.]))
    """
    if array("weight", weight).dtype not in (np.float32, np.float64):
        raise TypeError(f"weight: expected dtype float32 or float64, got {weight.dtype}")
    eps = number("eps", eps)
    if integer("channel_axis", channel_axis, -weight.ndim) >= weight.ndim:
        raise ValueError(f"channel_axis: expected an axis of weight, of shape {weight.shape}, got {channel_axis!r}")
    channels = weight.shape[channel_axis]
    for name, buffer in (("running_mean", running_mean), ("running_var", running_var)):
        if buffer is None:
            raise ValueError(f"{name}: expected the running statistics that are folded, got None")
    mean, var = (_norm.doubles(a, n, channels, 0) for a, n in ((running_mean, "running_mean"),
                                                               (running_var, "running_var")))
    if np.any(var < 0):
        raise ValueError(f"running_var: expected variances, at least 0, got {var.min()}")
    w, b, c = (_norm.doubles(a, name, channels, otherwise) for a, name, otherwise in (
        (bn_weight, "bn_weight", 1), (bn_bias, "bn_bias", 0), (bias, "bias", 0)))
    each = [1] * weight.ndim
    each[channel_axis] = channels
    with np.errstate(all="ignore"):  # without a variance or beyond the dtype: infinite or NaN, as the two layers
        scale = w / np.sqrt(var + eps)
        return (weight * scale.reshape(each)).astype(weight.dtype, "C"), (scale * (c - mean) + b).astype(weight.dtype)
