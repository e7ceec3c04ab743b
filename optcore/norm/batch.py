"""Batch normalization: forward, backward, and the R-operator (derivative along a direction) of both.

Every channel's values x are shifted and scaled by their own mean mu and biased variance v:

    x_hat = (x - mu) * s,    s = 1/sqrt(v + eps),    y = weight * x_hat + bias        (Ioffe and Szegedy 2015)

The mean and the variance are two-pass and merged in double, and the mean is carried beyond its own rounding:
a mean that is large beside the deviation costs no digits, neither in the statistics nor in y.
"""

from optcore._native import norm as _norm
from optcore.norm.saved import check_belongs

__all__ = ["Saved", "batch_norm", "batch_norm_backward", "batch_norm_backward_jvp", "batch_norm_jvp"]


class Saved:
    """What a forward pass keeps for the backward one: opaque but for two arrays.

    Attributes
    ----------
    mean, inv_std : ndarray of float64, shape [C]
        mu and s of each channel; of `batch_norm_jvp`, their derivatives; None of an evaluation.
    """

    __slots__ = ("activation", "bias", "channel_axis", "dtype", "inv_std", "mean", "mean_rest", "shape")

    def __init__(self, x, mean, mean_rest, inv_std, channel_axis, activation=None, bias=None):
        self.shape = x.shape
        self.dtype = x.dtype
        self.mean = mean
        self.mean_rest = mean_rest  # what rounding mu to float64 lost
        self.inv_std = inv_std
        self.channel_axis = channel_axis
        self.activation = activation
        self.bias = bias  # after an activation without residual: with it, x says where the ReLU let pass

    def __repr__(self):
        return f"Saved(shape={self.shape}, dtype={self.dtype}, channel_axis={self.channel_axis})"


def _check(saved, x, name="saved"):
    if not isinstance(saved, Saved):
        raise TypeError(f"{name}: expected a Saved as the forward pass returns it, got {type(saved).__name__}")
    check_belongs(saved, x, name)


def _behind(saved, x, y, channel_axis):
    """Return the statistics and the channel axis of the forward pass behind a derivative, or raise.

    An output that no ReLU made is refused, and the lack of one where x alone does not say what the ReLU let pass.
    """
    if saved is None:
        return None, channel_axis
    _check(saved, x)
    if saved.activation is None and y is not None:
        raise ValueError(f"y: expected None, the forward pass had no activation, got {type(y).__name__}")
    if saved.activation is not None and saved.bias is None and y is None:
        had = "a residual and an activation" if saved.mean is not None else "an activation, in evaluation"
        raise ValueError(f"y: expected the output of the forward pass, which had {had}, got None")
    return None if saved.mean is None else saved, saved.channel_axis


def batch_norm(x, weight=None, bias=None, running_mean=None, running_var=None, *, training, momentum=0.1,
               eps=1e-5, channel_axis=1, out=None, num_batches=None, residual=None, activation=None,
               unbiased=True, momentum_on="new"):
    """Normalise each channel by its mean and variance, then scale and shift it; add and rectify where asked to.

    y = f(weight * (x - mu) / sqrt(v + eps) + bias + residual). In training mu and v are the mean and the biased
    variance of the channel's values in x; in evaluation they are the running buffers. f is the identity, or
    max(., 0). What is fused this way costs no pass over memory of its own.

    Parameters
    ----------
    x : ndarray of float32, float64 or bfloat16, at least 2 dimensions, C-contiguous
        (N, C) or (N, C, ...) with ``channel_axis=1``, (..., C) with ``channel_axis=-1``.
    weight, bias : ndarray of float32 or float64, shape [C], or None
        None stands for ones and zeros.
    running_mean, running_var : ndarray of float32 or float64, shape [C], or None
        In training they change in place, new = (1 - momentum)*old + momentum*batch. Evaluation needs both.
    training : bool
        Whether mu and v come from x.
    momentum : float from 0 to 1, or None
        The weight that `momentum_on` names. None is the cumulative average: the weight of the new value is
        1/num_batches.
    eps : float, at least 0
        Added to the variance, inside the root.
    channel_axis : {1, -1}
        Where the channels are.
    out : ndarray like x, optional
        Where y is written; a new array where None. A loop that passes the same `out` spares the pages of a
        new one.
    num_batches : ndarray of int64 with one element, optional
        How many batches the running buffers have seen; training adds 1 in place. Needed where
        ``momentum=None`` updates a running buffer.
    residual : ndarray like x, optional
        Added to the normalised values, before the activation.
    activation : {None, "relu"}
        f.
    unbiased : bool
        Whether the variance that enters `running_var` is the unbiased one, n/(n-1) times v, as in PyTorch, or
        v itself, as in Flax. y does not depend on it.
    momentum_on : {"new", "old"}
        What momentum is the weight of: the batch's value, as in PyTorch, or the old one, as in Keras.
        docs/normalization.md says which library does what.

    Returns
    -------
    y : ndarray like x
    saved : Saved or None
        What `batch_norm_backward` needs; None in evaluation without an activation. Nothing of x is copied into it.

    Raises
    ------
    TypeError
        An array that is none, of another dtype or byte order; a momentum or eps that is no number.
    ValueError
        A wrong shape, a layout that is not C-contiguous, a read-only or overlapping array that is to be
        written, fewer than 2 values per channel in training, evaluation without running buffers, an option
        out of range. Nothing has been changed.

    Notes
    -----
    float32 statistics are within 1 ulp of the exact ones, or, for a mean near 0, within 1e-16 of the
    deviation; float64 statistics are those of a corrected two-pass algorithm (Chan, Golub and
    LeVeque 1983). Every finite x of float32 gives the right y, up to the largest numbers and down to the smallest,
    also where weight/sqrt(v + eps) is beyond float32; in float64 the variance overflows from deviations of about
    1e154. Without a deviation and with ``eps=0`` y is NaN, 0/0. A float32 `running_var` cannot hold the variance of
    deviations above 1.8e19 and becomes infinite: make it float64 there. The same bits for any number of threads, and
    with an activation and a residual those of three passes one after the other.

    An x of bfloat16 (`ml_dtypes.bfloat16`) has the y of float32 arithmetic, rounded to nearest; `out` and `residual`
    are bfloat16 then, what is per channel is not.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_norm
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> y, saved = batch_norm(x, training=True, eps=0.0)
    >>> y
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> saved.mean, saved.inv_std
    (array([ 2., 20.]), array([1. , 0.1]))
    >>> y, _ = batch_norm(x, training=True, eps=0.0, residual=np.full((2, 2), 0.5), activation="relu")
    >>> y
    array([[0. , 0. ],
           [1.5, 1.5]])
    """
    y, mean, mean_rest, inv_std, _, _ = _norm.forward(
        x, weight, bias, running_mean, running_var, training, momentum, eps, channel_axis, out, num_batches,
        residual, activation, unbiased, momentum_on)
    if not training:
        return y, Saved(x, None, None, None, channel_axis, activation) if activation else None
    kept = _norm.doubles(bias, "bias", mean.size, 0) if activation and residual is None else None
    return y, Saved(x, mean, mean_rest, inv_std, channel_axis, activation, kept)


def batch_norm_backward(dy, x, weight, saved, *, running_mean=None, running_var=None, eps=1e-5,
                        channel_axis=1, out=None, y=None, dresidual=None):
    """Gradients of a loss with respect to x, weight and bias, from its gradient with respect to y.

    dx = weight * s * (d - mean(d) - x_hat*mean(d*x_hat)), dweight = sum(d*x_hat), dbias = sum(d), where d is dy,
    and after a ReLU dy where y > 0, else 0. In evaluation mu and s are constants and
    dx = weight * s * d.

    Parameters
    ----------
    dy, x : ndarray of float32, float64 or bfloat16, C-contiguous
        The gradient of the loss with respect to y, and the x of the forward pass; the same shape and dtype.
    weight : ndarray, shape [C], or None
        As in the forward pass.
    saved : Saved or None
        What `batch_norm` returned.
    running_mean, running_var, eps, channel_axis
        What the forward pass was given, where it was an evaluation; not looked at where `saved` says it all.
    out : ndarray like x, optional
        Where dx is written; a new array where None.
    y : ndarray like x, or None
        What the forward pass returned, where it had a residual and a ReLU, or was an evaluation with a ReLU; only
        signs are read. A training pass with a ReLU and no residual does not need it: x says the same, and then
        nothing but dy and x is read.
    dresidual : ndarray like x, optional
        Where d is written, the gradient with respect to `residual`; only with y (without a ReLU it is dy itself).

    Returns
    -------
    dx : ndarray like x
    dweight, dbias : ndarray, shape [C]
        In the dtype of `weight`, of the arithmetic where it is None; there whether the layer has the parameter or
        not.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`; `saved` of an x of another shape or dtype; y missing or given against what `saved` says.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_norm, batch_norm_backward
    >>> x = np.array([[1.0], [3.0]])
    >>> y, saved = batch_norm(x, training=True, eps=0.0)
    >>> dx, dweight, dbias = batch_norm_backward(np.array([[1.0], [0.0]]), x, None, saved)
    >>> dx.ravel(), dweight, dbias
    (array([0., 0.]), array([-1.]), array([1.]))
    >>> y, saved = batch_norm(x, training=True, eps=0.0, activation="relu")
    >>> dx, dweight, dbias = batch_norm_backward(np.array([[1.0], [0.0]]), x, None, saved)
    >>> dbias                                                  # y[0] is 0: nothing passes
    array([0.])
    """
    saved, axis = _behind(saved, x, y, channel_axis)
    return _norm.backward(dy, x, weight, saved, running_mean, running_var, eps, axis, out, y, dresidual)


def batch_norm_jvp(x, weight, saved, rx, rweight, rbias, *, running_mean=None, running_var=None, eps=1e-5,
                   channel_axis=1, y=None, rresidual=None):
    """Derivative of the forward pass along the direction (rx, rweight, rbias, rresidual).

    ry = weight * s * (rx - mean(rx) - x_hat*mean(x_hat*rx)) + rweight*x_hat + rbias + rresidual; in evaluation
    weight * s * rx + rweight*x_hat + rbias + rresidual. After a ReLU it is 0 where y is.

    Parameters
    ----------
    x, weight, saved, running_mean, running_var, eps, channel_axis
        As for `batch_norm_backward`.
    rx : ndarray like x
        The direction of x.
    rweight, rbias : ndarray, shape [C], or None
        The directions of the parameters; None stands for zeros.
    y : ndarray like x, or None
        As for `batch_norm_backward`.
    rresidual : ndarray like x, optional
        The direction of the residual; None stands for zeros.

    Returns
    -------
    ry : ndarray like x
    rsaved : Saved or None
        The derivatives of `saved.mean` and `saved.inv_std`, for `batch_norm_backward_jvp`; None in
        evaluation.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_norm, batch_norm_jvp
    >>> x = np.array([[1.0], [3.0], [8.0]])
    >>> _, saved = batch_norm(x, training=True, eps=0.0)
    >>> ry, rsaved = batch_norm_jvp(x, None, saved, x, None, None)  # y does not change with the scale of x
    >>> np.allclose(ry, 0), np.allclose(rsaved.mean, saved.mean), np.allclose(rsaved.inv_std, -saved.inv_std)
    (True, True, True)
    """
    saved, axis = _behind(saved, x, y, channel_axis)
    ry, rmean, rinv_std = _norm.jvp(
        x, weight, saved, rx, rweight, rbias, running_mean, running_var, eps, axis, y, rresidual)
    return ry, None if saved is None else Saved(x, rmean, 0 * rmean, rinv_std, axis)


def batch_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, *, running_mean=None,
                            running_var=None, eps=1e-5, channel_axis=1, y=None):
    """Derivative of the backward pass along the direction (rdy, rx, rweight).

    With k = mean(dy*x_hat) and r the derivative along the direction, from differentiating dx:

        rdx = r(weight*s) * (dy - mean(dy) - x_hat*k) + weight*s * (rdy - mean(rdy) - rx_hat*k - x_hat*rk)

    After a ReLU, which is linear around every point but 0, dy and rdy pass where y > 0 only.

    Parameters
    ----------
    dy, x, weight, saved, running_mean, running_var, eps, channel_axis
        As for `batch_norm_backward`.
    rdy, rx : ndarray like x
        The directions of dy and x.
    rweight : ndarray, shape [C], or None
        The direction of the weight; None stands for zeros.
    rsaved : Saved or None
        What `batch_norm_jvp` returned for the same rx.
    y : ndarray like x, or None
        As for `batch_norm_backward`.

    Returns
    -------
    rdx : ndarray like x
    rdweight, rdbias : ndarray, shape [C]

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_norm, batch_norm_backward_jvp, batch_norm_jvp
    >>> x, dy = np.array([[1.0], [3.0], [8.0]]), np.array([[1.0], [0.0], [2.0]])
    >>> _, saved = batch_norm(x, training=True)
    >>> _, rsaved = batch_norm_jvp(x, None, saved, 0 * x, None, None)
    >>> rdx, rdweight, rdbias = batch_norm_backward_jvp(dy, x, None, saved, dy, 0 * x, None, rsaved)
    >>> rdbias  # the backward pass is linear in dy
    array([3.])
    """
    saved, axis = _behind(saved, x, y, channel_axis)
    if saved is not None and rsaved is not None:
        _check(rsaved, x, "rsaved")
    if saved is not None and (rsaved is None or rsaved.channel_axis != axis or rsaved.mean is None):
        raise ValueError("rsaved: expected what batch_norm_jvp returned with this saved, got "
                         f"{rsaved!r} for {saved!r}")
    return _norm.backward_jvp(
        dy, x, weight, saved, rdy, rx, rweight, rsaved, running_mean, running_var, eps, axis, y)
