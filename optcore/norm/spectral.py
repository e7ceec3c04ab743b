"""Spectral normalization: a weight divided by an estimate of its largest singular value (Miyato et al. 2018).

    w = weight/sigma,    sigma = u' weight v

u and v, unit vectors, are a state that each training pass moves by steps of the power iteration towards the singular
vectors. For the derivatives they are constants.
"""

import numpy as np

from optcore._native import reduce as _reduce
from optcore._native.blas import matmul
from optcore._native.norm_arrays import float_array
from optcore.checks import flag, integer, number
from optcore.process import one_pool

__all__ = ["SpectralNormSaved", "spectral_norm", "spectral_norm_backward", "spectral_norm_backward_jvp",
           "spectral_norm_jvp"]

# Largest elements between which products with unit vectors neither overflow nor lose digits to underflow.
_SAFE = {np.dtype(np.float32): (2.0**-60, 2.0**60), np.dtype(np.float64): (2.0**-500, 2.0**500)}

class SpectralNormSaved:
    """What `spectral_norm` keeps for its derivatives: opaque but for three.

    Attributes
    ----------
    sigma : float
        What the weight was divided by; of `spectral_norm_jvp`, its derivative.
    u, v : ndarray
        The vectors that gave it.
    """

    __slots__ = ("exponent", "scaled_sigma", "u", "v")

    def __init__(self, u, v, scaled_sigma, exponent):
        self.u = u
        self.v = v
        self.scaled_sigma = np.float64(scaled_sigma)  # of weight * 2^-exponent
        self.exponent = exponent

    @property
    def sigma(self):
        """What the weight was divided by."""
        return float(np.ldexp(self.scaled_sigma, self.exponent))

    def _down(self, a):
        """Return a * 2^-exponent, exact unless it leaves the range."""
        with np.errstate(over="ignore"):  # the gradient of a tiny weight is infinite, as in IEEE arithmetic
            return np.ldexp(a, -self.exponent) if self.exponent else a


def _checked(a, name, like=None, shape=None, writable=False):
    """Return `a` if it is a C-contiguous array of a known dtype, or of the dtype and shape asked for."""
    float_array(a, name, writable)
    if like is not None and a.dtype != like.dtype:
        raise TypeError(f"{name}: expected the dtype of weight, {like.dtype}, got {a.dtype}")
    if shape is not None and a.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {a.shape}")
    return a


def _matrix(weight):
    if _checked(weight, "weight").ndim < 2:
        raise ValueError(f"weight: expected at least 2 dimensions, got shape {weight.shape}")
    if not weight.size:
        raise ValueError(f"weight: expected at least one element, got shape {weight.shape}")
    return weight.reshape(weight.shape[0], -1)


def _check_state(weight, matrix, u, v, training):
    arrays = {"weight": weight, "u": u, "v": v}
    for name, size in (("u", matrix.shape[0]), ("v", matrix.shape[1])):
        _checked(arrays[name], name, weight, (size,), writable=training)
    for name, other in (("u", "weight"), ("v", "weight"), ("v", "u")) if training else ():
        if np.may_share_memory(arrays[name], arrays[other]):
            raise ValueError(f"{name}: expected memory of its own, got an array that overlaps {other}")


def _check_options(n_power_iterations, eps, training):
    flag("training", training)
    integer("n_power_iterations", n_power_iterations)
    number("eps", eps)


def _check_saved(weight, saved, name="saved"):
    if not isinstance(saved, SpectralNormSaved):
        raise TypeError(f"{name}: expected a SpectralNormSaved as the forward pass returns it, got "
                        f"{type(saved).__name__}")
    matrix = _matrix(weight)
    if (saved.u.size, saved.v.size) != matrix.shape or saved.u.dtype != weight.dtype:
        raise ValueError(f"{name}: expected that of a {weight.dtype} weight with {matrix.shape[0]} rows and "
                         f"{matrix.shape[1]} columns, got {saved.u.dtype}, {saved.u.size} and {saved.v.size}")
    return matrix


def _times(matrix, x, transpose=False):
    """matrix x, or matrix' x."""
    y = np.empty((matrix.shape[1 if transpose else 0], 1), matrix.dtype)
    matmul(matrix, x.reshape(-1, 1), y, transpose_a=transpose)
    return y.ravel()


def _divided(a, sigma):
    """a/sigma, in the dtype of a. A weight that is zero divides by zero, and gives NaN as in PyTorch."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(a, a.dtype.type(sigma))


def _unit(x, eps):
    """x/max(|x|, eps), as PyTorch's normalize."""
    return _divided(x, max(_reduce.norm(x), eps))


def _exponent(matrix):
    """Where the weight is scaled by a power of 2 to be safe to work with: its exponent; else 0."""
    largest = _reduce.abs_max(matrix)
    low, high = _SAFE[matrix.dtype]
    return 0 if low <= largest <= high or not 0 < largest < np.inf else int(np.frexp(largest)[1])


def _add_outer(a, slope, saved):
    """a <- a + slope/sigma^2 u v', in place."""
    scale = _divided(_divided(np.float64(slope), saved.scaled_sigma), saved.scaled_sigma)
    matmul((a.dtype.type(scale) * saved.u).reshape(-1, 1), saved.v.reshape(1, -1), a, accumulate=True)


def spectral_norm(weight, u, v, *, n_power_iterations=1, eps=1e-12, training):
    """w = weight/sigma with sigma = u' weight v, the largest singular value where the power iteration has arrived.

    Parameters
    ----------
    weight : ndarray of float32 or float64, at least 2 dimensions, C-contiguous
        A matrix [rows, columns], or [rows, ...] that is taken as one: the weight of a linear or a convolution layer.
    u : ndarray like weight, shape [rows]
        The state of the power iteration: unit vectors, at random at first. Training changes both in place, once for
        each iteration: v fixed, u = weight v / max(|weight v|, eps), then v = weight' u / max(|weight' u|, eps).
    v : ndarray like weight, shape [columns]
    n_power_iterations : int, at least 1
        How many iterations a training pass takes. (PyTorch takes 15 more when it makes the state.)
    eps : float, at least 0
        The least length that u and v are divided by. Below it they shrink, to zero in the end, as in PyTorch: a weight
        that small needs a smaller eps.
    training : bool
        Whether to iterate; evaluation takes u and v as they are.

    Returns
    -------
    w : ndarray like weight
    saved : SpectralNormSaved
        What `spectral_norm_backward` needs, copies of u and v among it.

    Raises
    ------
    TypeError
        An argument that is no array, or of another dtype or byte order; an option of another type.
    ValueError
        A wrong shape, a layout that is not C-contiguous, an empty weight, in training a u or v that is read-only or
        overlaps another array, an option out of range. Nothing has been changed.

    Notes
    -----
    The weight is scaled by a power of 2 first where its products would overflow or underflow.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import spectral_norm
    >>> weight = np.array([[4.0, 0.0], [0.0, 1.0]])
    >>> u, v = np.array([0.6, 0.8]), np.array([0.6, 0.8])
    >>> w, saved = spectral_norm(weight, u, v, n_power_iterations=20, training=True)
    >>> w
    array([[1.  , 0.  ],
           [0.  , 0.25]])
    >>> round(saved.sigma, 12), u.round(12), v.round(12)
    (4.0, array([1., 0.]), array([1., 0.]))
    """
    matrix = _matrix(weight)
    _check_options(n_power_iterations, eps, training)
    _check_state(weight, matrix, u, v, training)
    exponent = _exponent(matrix)
    saved = SpectralNormSaved(u.copy(), v.copy(), 0.0, exponent)
    matrix, least = saved._down(matrix), np.ldexp(float(eps), -exponent)
    with one_pool:
        for _ in range(n_power_iterations if training else 0):
            saved.u = _unit(_times(matrix, saved.v), least)
            saved.v = _unit(_times(matrix, saved.u, transpose=True), least)
        saved.scaled_sigma = np.float64(_reduce.dot(saved.u, _times(matrix, saved.v)))
    w = _divided(matrix, saved.scaled_sigma).reshape(weight.shape)
    if training:
        u[...] = saved.u
        v[...] = saved.v
    return w, saved


def spectral_norm_backward(dw, weight, saved):
    """Gradient of a loss with respect to the weight, from its gradient with respect to w; u and v are constants.

    dweight = dw/sigma - <dw, weight>/sigma^2 u v'.

    Parameters
    ----------
    dw, weight : ndarray of float32 or float64, C-contiguous
        The gradient with respect to w, and the weight of the forward pass; the same shape and dtype.
    saved : SpectralNormSaved
        What `spectral_norm` returned.

    Returns
    -------
    dweight : ndarray like weight

    Raises
    ------
    TypeError, ValueError
        As `spectral_norm`; `saved` of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import spectral_norm, spectral_norm_backward
    >>> weight, e = np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0])
    >>> w, saved = spectral_norm(weight, e, e.copy(), training=False)
    >>> spectral_norm_backward(np.ones((2, 2)), weight, saved)
    array([[-0.0625,  0.25  ],
           [ 0.25  ,  0.25  ]])
    """
    matrix = _check_saved(weight, saved)
    _checked(dw, "dw", weight, weight.shape)
    matrix, sigma = saved._down(matrix), saved.scaled_sigma
    dweight = _divided(dw.reshape(matrix.shape), sigma)
    with one_pool:
        _add_outer(dweight, -_reduce.dot(dw.reshape(matrix.shape), matrix), saved)
    return saved._down(dweight).reshape(weight.shape)


def spectral_norm_jvp(weight, saved, rweight):
    """Derivative of the forward pass along the direction rweight; u and v are constants.

    rw = rweight/sigma - weight * rsigma/sigma^2, rsigma = u' rweight v.

    Parameters
    ----------
    weight, saved
        As for `spectral_norm_backward`.
    rweight : ndarray like weight
        The direction of the weight.

    Returns
    -------
    rw : ndarray like weight
    rsaved : SpectralNormSaved
        The derivative of sigma, for `spectral_norm_backward_jvp`.

    Raises
    ------
    TypeError, ValueError
        As `spectral_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import spectral_norm, spectral_norm_jvp
    >>> weight, e = np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0])
    >>> w, saved = spectral_norm(weight, e, e.copy(), training=False)
    >>> rw, rsaved = spectral_norm_jvp(weight, saved, weight)  # w does not change with the scale of the weight
    >>> np.abs(rw).max(), rsaved.sigma
    (np.float64(0.0), 4.0)
    """
    matrix = _check_saved(weight, saved)
    _checked(rweight, "rweight", weight, weight.shape)
    matrix, direction, sigma = saved._down(matrix), saved._down(rweight.reshape(matrix.shape)), saved.scaled_sigma
    with one_pool:
        rsigma = _reduce.dot(saved.u, _times(direction, saved.v))
    rw = _divided(direction, sigma) - _divided(matrix, sigma) * matrix.dtype.type(_divided(np.float64(rsigma), sigma))
    return rw.reshape(weight.shape), SpectralNormSaved(saved.u, saved.v, rsigma, saved.exponent)


def spectral_norm_backward_jvp(dw, weight, saved, rdw, rweight, rsaved):
    """Derivative of the backward pass along the direction (rdw, rweight); u and v are constants.

    rdweight = rdw/sigma - dw*rsigma/sigma^2
    - (<rdw, weight> + <dw, rweight> - 2 <dw, weight> rsigma/sigma)/sigma^2 u v'.

    Parameters
    ----------
    dw, weight, saved
        As for `spectral_norm_backward`.
    rdw, rweight : ndarray like weight
        The directions of dw and the weight.
    rsaved : SpectralNormSaved
        What `spectral_norm_jvp` returned for the same rweight.

    Returns
    -------
    rdweight : ndarray like weight

    Raises
    ------
    TypeError, ValueError
        As `spectral_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import spectral_norm, spectral_norm_backward_jvp, spectral_norm_jvp
    >>> weight, e = np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0])
    >>> w, saved = spectral_norm(weight, e, e.copy(), training=False)
    >>> rw, rsaved = spectral_norm_jvp(weight, saved, 0 * weight)
    >>> ones = np.ones((2, 2))
    >>> spectral_norm_backward_jvp(ones, weight, saved, ones, 0 * weight, rsaved)    # linear in dw
    array([[-0.0625,  0.25  ],
           [ 0.25  ,  0.25  ]])
    """
    matrix = _check_saved(weight, saved)
    _check_saved(weight, rsaved, "rsaved")
    for name, a in (("dw", dw), ("rdw", rdw), ("rweight", rweight)):
        _checked(a, name, weight, weight.shape)
    d, rd, direction = (a.reshape(matrix.shape) for a in (dw, rdw, rweight))
    matrix, direction = saved._down(matrix), saved._down(direction)
    sigma, ratio = saved.scaled_sigma, _divided(rsaved.scaled_sigma, saved.scaled_sigma)
    rdweight = _divided(rd, sigma) - _divided(d, sigma) * d.dtype.type(ratio)
    slope = _reduce.dot(rd, matrix) + _reduce.dot(d, direction) - 2 * ratio * _reduce.dot(d, matrix)
    with one_pool:
        _add_outer(rdweight, -slope, saved)
    return saved._down(rdweight).reshape(weight.shape)
