"""Layer norm and RMS norm: forward, backward, and the R-operator (derivative along a direction) of both.

A row is what the last dimensions of x hold, D values that are shifted and scaled by their own statistics:

    x_hat = (x - mu) * s,    s = 1/sqrt(v + eps),    y = weight * x_hat + bias        (Ba, Kiros and Hinton 2016)

with the mean mu and biased variance v of the row; RMS norm takes mu = 0 and the mean square for v (Zhang and Sennrich
2019). Both derivatives are made of one projection, for RMS norm without its first mean:

    P u = s * (u - mean(u) - x_hat*mean(u*x_hat))
"""


from optcore._native import row_norm as _rows
from optcore.checks import array, integer
from optcore.norm.saved import Statistics, checked, checked_pair

__all__ = ["layer_norm", "layer_norm_backward", "layer_norm_backward_jvp", "layer_norm_jvp", "rms_norm",
           "rms_norm_backward", "rms_norm_backward_jvp", "rms_norm_jvp"]


def _dimensions(x, ndim, **parameters):
    """Return how many trailing dimensions a row has: those of the first parameter that is there, else `ndim`."""
    if not array("x", x).ndim:
        raise ValueError("x: expected at least 1 dimension, got shape ()")
    ndim = integer("ndim", ndim)
    name = "ndim"
    for key, given in parameters.items():
        if given is not None:
            if ndim not in (1, array(key, given).ndim):
                raise ValueError(f"ndim: expected that of {key}, {given.ndim}, got {ndim}")
            name, ndim = key, given.ndim
            break
    if not 1 <= ndim <= x.ndim:
        raise ValueError(f"{name}: expected 1 to {x.ndim} dimensions, those of x, got {ndim}")
    return ndim


def _forward(norm, x, weight, bias, eps, ndim, out):
    shape, c = x.shape, x.ndim - ndim
    y, mean, rest, inv_std = _rows.forward(x, weight, bias, shape[c:], 1, eps, norm == "layer_norm", out)
    if c != 1:
        mean, rest, inv_std = mean.reshape(shape[:c]), rest.reshape(shape[:c]), inv_std.reshape(shape[:c])
    return y, Statistics(norm, x, ndim, mean, rest, inv_std)


def _shape(x, ndim):
    """Return the shape of a row of this x, which the native layer has not checked yet."""
    if array("x", x).ndim < ndim:
        raise ValueError(f"x: expected at least {ndim} dimensions, those of a row, got shape {x.shape}")
    return x.shape[x.ndim - ndim:]


def _backward(norm, dy, x, weight, saved, out):
    ndim = checked(saved, norm, x)
    return _rows.backward(dy, x, weight, saved, _shape(x, ndim), 1, norm == "layer_norm", out)


def _jvp(norm, x, weight, saved, rx, rweight, rbias):
    ndim = checked(saved, norm, x)
    ry, rmean, rinv_std = _rows.jvp(x, weight, saved, rx, rweight, rbias, _shape(x, ndim), 1, norm == "layer_norm")
    rmean, rinv_std = rmean.reshape(saved.mean.shape), rinv_std.reshape(saved.mean.shape)
    return ry, Statistics(norm, x, ndim, rmean, 0 * rmean, rinv_std)


def _backward_jvp(norm, dy, x, weight, saved, rdy, rx, rweight, rsaved):
    ndim = checked_pair(saved, rsaved, norm, x)
    return _rows.backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, _shape(x, ndim), 1, norm == "layer_norm")


def layer_norm(x, weight=None, bias=None, *, eps=1e-5, ndim=1, out=None):
    """Normalise each row by its mean and variance, then scale and shift it.

    y = weight * (x - mu) / sqrt(v + eps) + bias, with the mean mu and the biased variance v of the row.

    Parameters
    ----------
    x : ndarray of float32, float64 or bfloat16, C-contiguous
        ``[..., *row]``: its last dimensions are a row, all dimensions before count rows.
    weight, bias : ndarray of float32 or float64, shape of a row, or None
        None stands for ones and zeros. Their dimensions say which dimensions of x are a row.
    eps : float, at least 0
        Added to the variance, inside the root.
    ndim : int
        How many dimensions are a row where neither weight nor bias says it.
    out : ndarray like x, optional
        Where y is written; a new array where None.

    Returns
    -------
    y : ndarray like x
    saved : Statistics
        What `layer_norm_backward` needs. Nothing of x is copied into it.

    Raises
    ------
    TypeError
        An array that is none, of another dtype or byte order; an eps or ndim that is no number.
    ValueError
        A wrong shape, a layout that is not C-contiguous, a read-only or overlapping `out`, an option out of its
        range. The message names the argument; nothing has been changed.

    Notes
    -----
    Statistics are in double: the float32 mean and variance are within 1 ulp, however large the mean is beside the
    deviation, and every finite row of float32 has the right result, up to the largest numbers and down to the smallest.
    In float64 the variance overflows from deviations of about 1e154. The same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import layer_norm
    >>> y, saved = layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]]), eps=0.0)
    >>> y
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> saved.mean, saved.inv_std
    (array([ 2., 20.]), array([1. , 0.1]))
    """
    return _forward("layer_norm", x, weight, bias, eps, _dimensions(x, ndim, weight=weight, bias=bias), out)


def layer_norm_backward(dy, x, weight, saved, *, out=None):
    """Gradients of a loss with respect to x, weight and bias, from its gradient with respect to y.

    With u = weight*dy: dx = s * (u - mean(u) - x_hat*mean(u*x_hat)), dweight = sum(dy*x_hat), dbias = sum(dy); the
    means are over a row, the sums over all rows.

    Parameters
    ----------
    dy, x : ndarray of float32, float64 or bfloat16, C-contiguous
        The gradient of the loss with respect to y, and the x of the forward pass; the same shape and dtype.
    weight : ndarray, shape of a row, or None
        As in the forward pass.
    saved : Statistics
        What `layer_norm` returned.
    out : ndarray like x, optional
        Where dx is written; a new array where None.

    Returns
    -------
    dx : ndarray like x
    dweight, dbias : ndarray, shape of a row
        In the dtype of `weight`, of the arithmetic where it is None; there whether the layer has the parameter or not.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm`; `saved` of other rows.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import layer_norm, layer_norm_backward
    >>> x = np.array([[1.0, 3.0]])
    >>> y, saved = layer_norm(x, eps=0.0)
    >>> layer_norm_backward(np.array([[1.0, 0.0]]), x, None, saved)
    (array([[0., 0.]]), array([-1.,  0.]), array([1., 0.]))
    """
    return _backward("layer_norm", dy, x, weight, saved, out)


def layer_norm_jvp(x, weight, saved, rx, rweight, rbias):
    """Derivative of the forward pass along the direction (rx, rweight, rbias).

    ry = weight * rx_hat + rweight*x_hat + rbias, with rx_hat = s * (rx - mean(rx) - x_hat*mean(rx*x_hat)).

    Parameters
    ----------
    x, weight, saved
        As for `layer_norm_backward`.
    rx : ndarray like x
        The direction of x.
    rweight, rbias : ndarray, shape of a row, or None
        The directions of the parameters; None stands for zeros.

    Returns
    -------
    ry : ndarray like x
    rsaved : Statistics
        The derivatives of `saved.mean` and `saved.inv_std`, for `layer_norm_backward_jvp`.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import layer_norm, layer_norm_jvp
    >>> x = np.array([[1.0, 3.0, 8.0]])
    >>> _, saved = layer_norm(x, eps=0.0)
    >>> ry, rsaved = layer_norm_jvp(x, None, saved, x, None, None)  # y does not change with the scale of x
    >>> np.allclose(ry, 0), np.allclose(rsaved.mean, saved.mean), np.allclose(rsaved.inv_std, -saved.inv_std)
    (True, True, True)
    """
    return _jvp("layer_norm", x, weight, saved, rx, rweight, rbias)


def layer_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved):
    """Derivative of the backward pass along the direction (rdy, rx, rweight).

    With u = weight*dy, ru = rweight*dy + weight*rdy, P the projection that makes dx = P u, and rs the derivative of s:

        rdx = P ru + rs/s * P u - s*mean(u*x_hat)*rx_hat - s*mean(u*rx_hat)*x_hat

    Parameters
    ----------
    dy, x, weight, saved
        As for `layer_norm_backward`.
    rdy, rx : ndarray like x
        The directions of dy and x.
    rweight : ndarray, shape of a row, or None
        The direction of the weight; None stands for zeros.
    rsaved : Statistics
        What `layer_norm_jvp` returned for the same rx.

    Returns
    -------
    rdx : ndarray like x
    rdweight, rdbias : ndarray, shape of a row

    Raises
    ------
    TypeError, ValueError
        As `layer_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import layer_norm, layer_norm_backward_jvp, layer_norm_jvp
    >>> x, dy = np.array([[1.0, 3.0, 8.0]]), np.array([[1.0, 0.0, 2.0]])
    >>> _, saved = layer_norm(x)
    >>> _, rsaved = layer_norm_jvp(x, None, saved, 0 * x, None, None)
    >>> layer_norm_backward_jvp(dy, x, None, saved, dy, 0 * x, None, rsaved)[2]  # the backward pass is linear in dy
    array([1., 0., 2.])
    """
    return _backward_jvp("layer_norm", dy, x, weight, saved, rdy, rx, rweight, rsaved)


def rms_norm(x, weight=None, *, eps=1e-5, ndim=1, out=None):
    """Divide each row by its root mean square, then scale it.

    y = weight * x / sqrt(mean(x^2) + eps) (Zhang and Sennrich 2019).

    Parameters
    ----------
    x : ndarray of float32, float64 or bfloat16, C-contiguous
        ``[..., *row]``: its last dimensions are a row, all dimensions before count rows.
    weight : ndarray of float32 or float64, shape of a row, or None
        None stands for ones. Its dimensions say which dimensions of x are a row.
    eps : float, at least 0
        Added to the mean square, inside the root. PyTorch's default is the machine epsilon of the dtype.
    ndim : int
        How many dimensions are a row where no weight says it.
    out : ndarray like x, optional
        Where y is written; a new array where None.

    Returns
    -------
    y : ndarray like x
    saved : Statistics
        What `rms_norm_backward` needs. Nothing of x is copied into it.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import rms_norm
    >>> y, saved = rms_norm(np.array([[3.0, -3.0], [0.5, 0.5]]), np.array([1.0, 10.0]), eps=0.0)
    >>> y
    array([[  1., -10.],
           [  1.,  10.]])
    """
    return _forward("rms_norm", x, weight, None, eps, _dimensions(x, ndim, weight=weight), out)


def rms_norm_backward(dy, x, weight, saved, *, out=None):
    """Gradients of a loss with respect to x and weight, from its gradient with respect to y.

    With u = weight*dy: dx = s * (u - x_hat*mean(u*x_hat)), dweight = sum(dy*x_hat); the mean is over a row, the sum
    over all rows.

    Parameters
    ----------
    dy, x, weight, saved, out
        As for `layer_norm_backward`.

    Returns
    -------
    dx : ndarray like x
    dweight : ndarray, shape of a row
        In the dtype of `weight`, of the arithmetic where it is None.
    dbias : None
        There is no bias; the place is that of the other norms.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import rms_norm, rms_norm_backward
    >>> x = np.array([[3.0, -3.0]])
    >>> _, saved = rms_norm(x, eps=0.0)
    >>> dx, dweight, _ = rms_norm_backward(np.array([[3.0, 0.0]]), x, None, saved)
    >>> dx, dweight
    (array([[0.5, 0.5]]), array([3., 0.]))
    """
    dx, dweight, _ = _backward("rms_norm", dy, x, weight, saved, out)
    return dx, dweight, None


def rms_norm_jvp(x, weight, saved, rx, rweight):
    """Derivative of the forward pass along the direction (rx, rweight).

    ry = weight * rx_hat + rweight*x_hat, with rx_hat = s * (rx - x_hat*mean(rx*x_hat)).

    Parameters
    ----------
    x, weight, saved, rx, rweight
        As for `layer_norm_jvp`.

    Returns
    -------
    ry : ndarray like x
    rsaved : Statistics
        For `rms_norm_backward_jvp`.

    Raises
    ------
    TypeError, ValueError
        As `layer_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import rms_norm, rms_norm_jvp
    >>> x = np.array([[1.0, 3.0, 8.0]])
    >>> _, saved = rms_norm(x, eps=0.0)
    >>> np.allclose(rms_norm_jvp(x, None, saved, x, None)[0], 0)  # y does not change with the scale of x
    True
    """
    return _jvp("rms_norm", x, weight, saved, rx, rweight, None)


def rms_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved):
    """Derivative of the backward pass along the direction (rdy, rx, rweight).

    The formula of `layer_norm_backward_jvp`, with the projection P of RMS norm.

    Parameters
    ----------
    dy, x, weight, saved, rdy, rx, rweight, rsaved
        As for `layer_norm_backward_jvp`.

    Returns
    -------
    rdx : ndarray like x
    rdweight : ndarray, shape of a row
    rdbias : None

    Raises
    ------
    TypeError, ValueError
        As `layer_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import rms_norm, rms_norm_backward, rms_norm_backward_jvp, rms_norm_jvp
    >>> x, dy = np.array([[1.0, 3.0, 8.0]]), np.array([[1.0, 0.0, 2.0]])
    >>> _, saved = rms_norm(x)
    >>> _, rsaved = rms_norm_jvp(x, None, saved, 0 * x, None)
    >>> rdx, rdweight, _ = rms_norm_backward_jvp(dy, x, None, saved, dy, 0 * x, None, rsaved)
    >>> np.allclose(rdx, rms_norm_backward(dy, x, None, saved)[0])  # the backward pass is linear in dy
    True
    """
    rdx, rdweight, _ = _backward_jvp("rms_norm", dy, x, weight, saved, rdy, rx, rweight, rsaved)
    return rdx, rdweight, None
