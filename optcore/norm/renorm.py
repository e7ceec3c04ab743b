"""Batch renormalization: batch norm whose training output is moved towards that of evaluation (Ioffe 2017).

    y = weight * (x_hat*r + d) + bias,    r = clip(sigma_batch/sigma, 1/r_max, r_max),
                                          d = clip((mu_batch - mu)/sigma, -d_max, d_max)

mu and sigma are those of the running buffers before the batch enters them. r and d are constants for every derivative,
so that all of it is batch norm with weight*r for a weight and bias + weight*d for a bias.
"""

import numpy as np

from optcore._native import norm as _norm
from optcore.norm.batch import Saved, batch_norm_backward, batch_norm_backward_jvp, batch_norm_jvp

__all__ = ["RenormSaved", "batch_renorm", "batch_renorm_backward", "batch_renorm_backward_jvp", "batch_renorm_jvp"]


class RenormSaved:
    """What `batch_renorm` keeps: opaque but for four arrays.

    Attributes
    ----------
    mean, inv_std : ndarray of float64, shape [C]
        As in `Saved`, of the batch.
    r, d : ndarray of float64, shape [C]
        The correction that the batch got.
    """

    __slots__ = ("batch", "d", "r")

    def __init__(self, batch, r, d):
        self.batch = batch  # the Saved of the batch norm with weight*r and bias + weight*d
        self.r = r
        self.d = d

    def __repr__(self):
        return f"Renorm{self.batch!r}"

    @property
    def mean(self):
        """The mean of each channel."""
        return self.batch.mean

    @property
    def inv_std(self):
        """1/sqrt(v + eps) of each channel."""
        return self.batch.inv_std

    def _weight(self, weight, name="weight"):
        """Return weight*r; zeros stay zeros where a direction is None."""
        return self.r * _norm.doubles(weight, name, self.r.size, 1 if name == "weight" else 0)

    def _dweight(self, dweight, dbias):
        """Return the gradient of the weight, from those of weight*r and of bias + weight*d."""
        return self.r * dweight + self.d * dbias


def _check(saved):
    if not isinstance(saved, RenormSaved):
        raise TypeError(f"saved: expected None or a RenormSaved as batch_renorm returns it, got {type(saved).__name__}")


def _rounded(x, weight, *gradients):
    dtype = np.float64 if (x if weight is None else weight).dtype == np.float64 else np.float32
    return tuple(g.astype(dtype) for g in gradients)


def batch_renorm(x, weight=None, bias=None, running_mean=None, running_var=None, *, training, momentum=0.1, eps=1e-5,
                 r_max=3.0, d_max=5.0, channel_axis=1, out=None, num_batches=None, unbiased=True, momentum_on="new"):
    """Normalise each channel as `batch_norm`, corrected towards the running statistics.

    In training y = weight * (x_hat*r + d) + bias with r = clip(sqrt(v + eps)/sigma, 1/r_max, r_max),
    d = clip((mu - running_mean)/sigma, -d_max, d_max) and sigma = sqrt(running_var + eps); then the running buffers
    move as in batch norm. Evaluation is that of batch norm. ``r_max=1, d_max=0`` is batch norm.

    Parameters
    ----------
    x : ndarray of float32, float64 or bfloat16, at least 2 dimensions, C-contiguous
        (N, C) or (N, C, ...) with ``channel_axis=1``, (..., C) with ``channel_axis=-1``.
    weight, bias : ndarray of float32 or float64, shape [C], or None
        None stands for ones and zeros.
    running_mean, running_var : ndarray of float32 or float64, shape [C]
        Needed in training too, which changes them in place: new = (1 - momentum)*old + momentum*batch. (The paper
        averages the deviation instead of the variance.)
    training : bool
        Whether the statistics come from x.
    momentum : float from 0 to 1, or None
        As for `batch_norm`; None is the cumulative average.
    eps : float, at least 0
        Added to both variances, inside the root.
    r_max : float, at least 1
        Bound of r; the paper lets it grow from 1 to 3.
    d_max : float, at least 0
        Bound of d; the paper lets it grow from 0 to 5.
    channel_axis : {1, -1}
        Where the channels are.
    out : ndarray like x, optional
        Where y is written.
    num_batches, unbiased, momentum_on
        As for `batch_norm`.

    Returns
    -------
    y : ndarray like x
    saved : RenormSaved or None
        What `batch_renorm_backward` needs; None in evaluation.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`; in training also for missing running buffers. Nothing has been changed.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_renorm
    >>> x = np.array([[1.0], [3.0]])
    >>> mean, var = np.array([1.5]), np.array([4.0])
    >>> y, saved = batch_renorm(x, None, None, mean, var, training=True, eps=0.0)
    >>> saved.r, saved.d, y.ravel()
    (array([0.5]), array([0.25]), array([-0.25,  0.75]))
    """
    y, mean, mean_rest, inv_std, r, d = _norm.forward(
        x, weight, bias, running_mean, running_var, training, momentum, eps, channel_axis, out, num_batches,
        unbiased=unbiased, momentum_on=momentum_on, limits=(r_max, d_max))
    return y, RenormSaved(Saved(x, mean, mean_rest, inv_std, channel_axis), r, d) if training else None


def batch_renorm_backward(dy, x, weight, saved, *, running_mean=None, running_var=None, eps=1e-5, channel_axis=1,
                          out=None):
    """Gradients of a loss with respect to x, weight and bias, r and d being constants.

    dx = weight*r * s * (dy - mean(dy) - x_hat*mean(dy*x_hat)), dweight = sum(dy*(x_hat*r + d)), dbias = sum(dy).

    Parameters
    ----------
    dy, x, weight, running_mean, running_var, eps, channel_axis, out
        As for `batch_norm_backward`.
    saved : RenormSaved or None
        What `batch_renorm` returned.

    Returns
    -------
    dx : ndarray like x
    dweight, dbias : ndarray, shape [C]

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_renorm, batch_renorm_backward
    >>> x = np.array([[1.0], [3.0]])
    >>> y, saved = batch_renorm(x, None, None, np.array([1.5]), np.array([4.0]), training=True, eps=0.0)
    >>> dx, dweight, dbias = batch_renorm_backward(np.array([[1.0], [0.0]]), x, None, saved)
    >>> dweight, dbias                                         # y itself is x_hat*r + d
    (array([-0.25]), array([1.]))
    """
    running = {"running_mean": running_mean, "running_var": running_var, "eps": eps, "channel_axis": channel_axis}
    if saved is None:
        return batch_norm_backward(dy, x, weight, saved, out=out, **running)
    _check(saved)
    dx, dweight, dbias = batch_norm_backward(dy, x, saved._weight(weight), saved.batch, out=out)
    return dx, *_rounded(x, weight, saved._dweight(dweight, dbias), dbias)


def batch_renorm_jvp(x, weight, saved, rx, rweight, rbias, *, running_mean=None, running_var=None, eps=1e-5,
                     channel_axis=1):
    """Derivative of the forward pass along the direction (rx, rweight, rbias), r and d being constants.

    ry = weight*r * s * (rx - mean(rx) - x_hat*mean(x_hat*rx)) + rweight*(x_hat*r + d) + rbias.

    Parameters
    ----------
    x, weight, rx, rweight, rbias, running_mean, running_var, eps, channel_axis
        As for `batch_norm_jvp`.
    saved : RenormSaved or None
        What `batch_renorm` returned.

    Returns
    -------
    ry : ndarray like x
    rsaved : Saved or None
        For `batch_renorm_backward_jvp`.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_jvp`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_renorm, batch_renorm_jvp
    >>> x = np.array([[1.0], [3.0]])
    >>> y, saved = batch_renorm(x, None, None, np.array([1.5]), np.array([4.0]), training=True, eps=0.0)
    >>> ry, _ = batch_renorm_jvp(x, None, saved, 0 * x, np.array([1.0]), None)
    >>> np.allclose(ry, y)                                     # y is linear in the weight
    True
    """
    if saved is None:
        return batch_norm_jvp(x, weight, saved, rx, rweight, rbias, running_mean=running_mean, running_var=running_var,
                              eps=eps, channel_axis=channel_axis)
    _check(saved)
    shift = saved.d * _norm.doubles(rweight, "rweight", saved.d.size, 0)
    return batch_norm_jvp(x, saved._weight(weight), saved.batch, rx, saved._weight(rweight, "rweight"),
                          shift + _norm.doubles(rbias, "rbias", saved.d.size, 0))


def batch_renorm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, *, running_mean=None, running_var=None,
                              eps=1e-5, channel_axis=1):
    """Derivative of the backward pass along the direction (rdy, rx, rweight), r and d being constants.

    That of batch norm with the weight weight*r, moved along rweight*r.

    Parameters
    ----------
    dy, x, weight, rdy, rx, rweight, running_mean, running_var, eps, channel_axis
        As for `batch_norm_backward_jvp`.
    saved : RenormSaved or None
        What `batch_renorm` returned.
    rsaved : Saved or None
        What `batch_renorm_jvp` returned for the same rx.

    Returns
    -------
    rdx : ndarray like x
    rdweight, rdbias : ndarray, shape [C]

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward_jvp`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import batch_renorm, batch_renorm_backward_jvp, batch_renorm_jvp
    >>> x, dy = np.array([[1.0], [3.0]]), np.array([[1.0], [0.0]])
    >>> y, saved = batch_renorm(x, None, None, np.array([1.5]), np.array([4.0]), training=True, eps=0.0)
    >>> _, rsaved = batch_renorm_jvp(x, None, saved, 0 * x, None, None)
    >>> rdx, rdweight, rdbias = batch_renorm_backward_jvp(dy, x, None, saved, dy, 0 * x, None, rsaved)
    >>> rdweight, rdbias                                       # the backward pass is linear in dy
    (array([-0.25]), array([1.]))
    """
    if saved is None:
        return batch_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, running_mean=running_mean,
                                       running_var=running_var, eps=eps, channel_axis=channel_axis)
    _check(saved)
    rdx, rdweight, rdbias = batch_norm_backward_jvp(dy, x, saved._weight(weight), saved.batch, rdy, rx,
                                                    saved._weight(rweight, "rweight"), rsaved)
    return rdx, *_rounded(x, weight, saved._dweight(rdweight, rdbias), rdbias)
