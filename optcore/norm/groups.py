"""Group norm and instance norm: forward, backward, and the R-operator (derivative along a direction) of both.

The C channels of an example are cut into groups of C/G neighbours. All values of a group, over its channels and all
positions, are shifted and scaled by their own mean mu and biased variance v; weight and bias belong to the channel:

    x_hat = (x - mu) * s,    s = 1/sqrt(v + eps),    y = weight * x_hat + bias             (Wu and He 2018)

Instance norm is the case of one channel a group (Ulyanov, Vedaldi and Lempitsky 2016).
"""


from optcore._native import group_norm as _groups
from optcore._native import row_norm as _rows
from optcore.checks import array, integer
from optcore.norm.saved import Statistics, checked, checked_pair

__all__ = ["group_norm", "group_norm_backward", "group_norm_backward_jvp", "group_norm_jvp", "instance_norm",
           "instance_norm_backward", "instance_norm_backward_jvp", "instance_norm_jvp"]


def _channels(x, channel_axis):
    """Return the number of channels, or raise."""
    array("x", x)
    if integer("channel_axis", channel_axis, -1) not in (1, -1):
        raise ValueError(f"channel_axis: expected 1 or -1, got {channel_axis!r}")
    if x.ndim < 2:
        raise ValueError(f"x: expected at least 2 dimensions, got shape {x.shape}")
    return x.shape[channel_axis]


def _layout(x, num_groups, channel_axis):
    channels = _channels(x, channel_axis)
    groups = integer("num_groups", num_groups)
    if channels % groups:
        raise ValueError(f"num_groups: expected a divisor of the number of channels, {channels}, got {num_groups}")
    return groups, channel_axis


def _native(x, layout):
    """Return the driver and what it wants to know of the layout: features without positions are rows."""
    groups, channel_axis = layout
    channels = _channels(x, channel_axis)
    if x.ndim == 2 or (channels and x.size == len(x) * channels):
        return _rows, {"shape": (channels,), "groups": groups, "centred": True}
    return _groups, {"groups": groups, "channel_axis": channel_axis}


def _statistics(norm, layout, x, *arrays):
    return Statistics(norm, x, layout, *(a.reshape(len(x), layout[0]) for a in arrays))


def _forward(norm, x, weight, bias, eps, layout, out):
    values = x.size // max(1, len(x) * layout[0])
    if values < 2 and x.size:
        raise ValueError(f"x: expected at least 2 values in each group, got {values}, with shape {x.shape}")
    native, how = _native(x, layout)
    y, *statistics = native.forward(x, weight, bias, eps=eps, out=out, **how)
    return y, _statistics(norm, layout, x, *statistics)


def _backward(norm, dy, x, weight, saved, out):
    native, how = _native(x, checked(saved, norm, x))
    return native.backward(dy, x, weight, saved, out=out, **how)


def _jvp(norm, x, weight, saved, rx, rweight, rbias):
    layout = checked(saved, norm, x)
    native, how = _native(x, layout)
    ry, rmean, rinv_std = native.jvp(x, weight, saved, rx, rweight, rbias, **how)
    return ry, _statistics(norm, layout, x, rmean, 0 * rmean, rinv_std)


def _backward_jvp(norm, dy, x, weight, saved, rdy, rx, rweight, rsaved):
    native, how = _native(x, checked_pair(saved, rsaved, norm, x))
    return native.backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, **how)


def group_norm(x, num_groups, weight=None, bias=None, *, eps=1e-5, channel_axis=1, out=None):
    """Normalise each group of channels of each example by its mean and variance, then scale and shift the channels.

    y = weight * (x - mu) / sqrt(v + eps) + bias, with the mean mu and the biased variance v of the group.

    Parameters
    ----------
    x : ndarray of float32, float64 or bfloat16, at least 2 dimensions, C-contiguous
        (N, C) or (N, C, ...) with ``channel_axis=1``, (N, ..., C) with ``channel_axis=-1``.
    num_groups : int
        G, a divisor of C.
    weight, bias : ndarray of float32 or float64, shape [C], or None
        None stands for ones and zeros.
    eps : float, at least 0
        Added to the variance, inside the root.
    channel_axis : {1, -1}
        Where the channels are.
    out : ndarray like x, optional
        Where y is written; a new array where None.

    Returns
    -------
    y : ndarray like x
    saved : Statistics
        What `group_norm_backward` needs; its arrays are [N, G]. Nothing of x is copied into it.

    Raises
    ------
    TypeError
        An array that is none, of another dtype or byte order; an eps or number of groups that is no number.
    ValueError
        A wrong shape, a layout that is not C-contiguous, a read-only or overlapping `out`, an option out of its
        range, fewer than 2 values in a group. The message names the argument; nothing has been changed.

    Notes
    -----
    Statistics are in double, as those of `layer_norm`. The same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import group_norm
    >>> x = np.array([[[1.0, 1.0], [3.0, 3.0], [10.0, 30.0], [10.0, 30.0]]])     # one example, four channels
    >>> y, saved = group_norm(x, 2, eps=0.0)
    >>> y[0].tolist()
    [[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]
    >>> saved.mean, saved.inv_std
    (array([[ 2., 20.]]), array([[1. , 0.1]]))
    """
    return _forward("group_norm", x, weight, bias, eps, _layout(x, num_groups, channel_axis), out)


def group_norm_backward(dy, x, weight, saved, *, out=None):
    """Gradients of a loss with respect to x, weight and bias, from its gradient with respect to y.

    With u = weight*dy: dx = s * (u - mean(u) - x_hat*mean(u*x_hat)), with means over a group; dweight = sum(dy*x_hat)
    and dbias = sum(dy) over all values of a channel.

    Parameters
    ----------
    dy, x : ndarray of float32, float64 or bfloat16, C-contiguous
        The gradient of the loss with respect to y, and the x of the forward pass; the same shape and dtype.
    weight : ndarray, shape [C], or None
        As in the forward pass.
    saved : Statistics
        What `group_norm` returned.
    out : ndarray like x, optional
        Where dx is written; a new array where None.

    Returns
    -------
    dx : ndarray like x
    dweight, dbias : ndarray, shape [C]
        In the dtype of `weight`, of the arithmetic where it is None; there whether the layer has the parameter or not.

    Raises
    ------
    TypeError, ValueError
        As `group_norm`; `saved` of other groups.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import group_norm, group_norm_backward
    >>> x = np.array([[1.0, 3.0]])
    >>> _, saved = group_norm(x, 1, eps=0.0)
    >>> group_norm_backward(np.array([[1.0, 0.0]]), x, None, saved)
    (array([[0., 0.]]), array([-1.,  0.]), array([1., 0.]))
    """
    return _backward("group_norm", dy, x, weight, saved, out)


def group_norm_jvp(x, weight, saved, rx, rweight, rbias):
    """Derivative of the forward pass along the direction (rx, rweight, rbias).

    ry = weight * rx_hat + rweight*x_hat + rbias, with rx_hat = s * (rx - mean(rx) - x_hat*mean(rx*x_hat)).

    Parameters
    ----------
    x, weight, saved
        As for `group_norm_backward`.
    rx : ndarray like x
        The direction of x.
    rweight, rbias : ndarray, shape [C], or None
        The directions of the parameters; None stands for zeros.

    Returns
    -------
    ry : ndarray like x
    rsaved : Statistics
        The derivatives of `saved.mean` and `saved.inv_std`, for `group_norm_backward_jvp`.

    Raises
    ------
    TypeError, ValueError
        As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import group_norm, group_norm_jvp
    >>> x = np.array([[1.0, 3.0, 2.0, 8.0]])
    >>> _, saved = group_norm(x, 2, eps=0.0)
    >>> np.allclose(group_norm_jvp(x, None, saved, x, None, None)[0], 0)  # y does not change with the scale of x
    True
    """
    return _jvp("group_norm", x, weight, saved, rx, rweight, rbias)


def group_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved):
    """Derivative of the backward pass along the direction (rdy, rx, rweight).

    The formula of `layer_norm_backward_jvp`, with means over a group.

    Parameters
    ----------
    dy, x, weight, saved
        As for `group_norm_backward`.
    rdy, rx : ndarray like x
        The directions of dy and x.
    rweight : ndarray, shape [C], or None
        The direction of the weight; None stands for zeros.
    rsaved : Statistics
        What `group_norm_jvp` returned for the same rx.

    Returns
    -------
    rdx : ndarray like x
    rdweight, rdbias : ndarray, shape [C]

    Raises
    ------
    TypeError, ValueError
        As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import group_norm, group_norm_backward_jvp, group_norm_jvp
    >>> x, dy = np.array([[1.0, 3.0, 2.0, 8.0]]), np.array([[1.0, 0.0, 2.0, 0.0]])
    >>> _, saved = group_norm(x, 2)
    >>> _, rsaved = group_norm_jvp(x, None, saved, 0 * x, None, None)
    >>> group_norm_backward_jvp(dy, x, None, saved, dy, 0 * x, None, rsaved)[2]  # the backward pass is linear in dy
    array([1., 0., 2., 0.])
    """
    return _backward_jvp("group_norm", dy, x, weight, saved, rdy, rx, rweight, rsaved)


def instance_norm(x, weight=None, bias=None, *, eps=1e-5, channel_axis=1, out=None):
    """Normalise each channel of each example by its mean and variance, then scale and shift it.

    `group_norm` with as many groups as channels, and no running statistics (Ulyanov, Vedaldi and Lempitsky 2016).

    Parameters
    ----------
    x, weight, bias, eps, channel_axis, out
        As for `group_norm`.

    Returns
    -------
    y : ndarray like x
    saved : Statistics
        What `instance_norm_backward` needs; its arrays are [N, C].

    Raises
    ------
    TypeError, ValueError
        As `group_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import instance_norm
    >>> instance_norm(np.array([[[1.0, 3.0], [10.0, 30.0]]]), eps=0.0)[0].tolist()
    [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    layout = max(1, _channels(x, channel_axis)), channel_axis
    return _forward("instance_norm", x, weight, bias, eps, layout, out)


def instance_norm_backward(dy, x, weight, saved, *, out=None):
    """Gradients of a loss with respect to x, weight and bias, from its gradient with respect to y.

    The formulas of `group_norm_backward`.

    Parameters
    ----------
    dy, x, weight, saved, out
        As for `group_norm_backward`; `saved` is what `instance_norm` returned.

    Returns
    -------
    dx : ndarray like x
    dweight, dbias : ndarray, shape [C]

    Raises
    ------
    TypeError, ValueError
        As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import instance_norm, instance_norm_backward
    >>> x = np.array([[[1.0, 3.0]]])
    >>> _, saved = instance_norm(x, eps=0.0)
    >>> instance_norm_backward(np.array([[[1.0, 0.0]]]), x, None, saved)
    (array([[[0., 0.]]]), array([-1.]), array([1.]))
    """
    return _backward("instance_norm", dy, x, weight, saved, out)


def instance_norm_jvp(x, weight, saved, rx, rweight, rbias):
    """Derivative of the forward pass along the direction (rx, rweight, rbias); see `group_norm_jvp`.

    Parameters
    ----------
    x, weight, saved, rx, rweight, rbias
        As for `group_norm_jvp`.

    Returns
    -------
    ry : ndarray like x
    rsaved : Statistics
        For `instance_norm_backward_jvp`.

    Raises
    ------
    TypeError, ValueError
        As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import instance_norm, instance_norm_jvp
    >>> x = np.array([[[1.0, 3.0, 8.0]]])
    >>> _, saved = instance_norm(x, eps=0.0)
    >>> np.allclose(instance_norm_jvp(x, None, saved, x, None, None)[0], 0)  # y does not change with the scale of x
    True
    """
    return _jvp("instance_norm", x, weight, saved, rx, rweight, rbias)


def instance_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved):
    """Derivative of the backward pass along the direction (rdy, rx, rweight); see `group_norm_backward_jvp`.

    Parameters
    ----------
    dy, x, weight, saved, rdy, rx, rweight, rsaved
        As for `group_norm_backward_jvp`.

    Returns
    -------
    rdx : ndarray like x
    rdweight, rdbias : ndarray, shape [C]

    Raises
    ------
    TypeError, ValueError
        As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import instance_norm, instance_norm_backward_jvp, instance_norm_jvp
    >>> x, dy = np.array([[[1.0, 3.0, 8.0]]]), np.array([[[1.0, 0.0, 2.0]]])
    >>> _, saved = instance_norm(x)
    >>> _, rsaved = instance_norm_jvp(x, None, saved, 0 * x, None, None)
    >>> instance_norm_backward_jvp(dy, x, None, saved, dy, 0 * x, None, rsaved)[2]  # the backward pass is linear in dy
    array([3.])
    """
    return _backward_jvp("instance_norm", dy, x, weight, saved, rdy, rx, rweight, rsaved)
