"""Weight normalization: the length of a weight's slices as a parameter of its own (Salimans and Kingma 2016).

    w = g * v/|v| for every slice of v along one dimension
"""

import numpy as np

from optcore._native import weight as _weight
from optcore.checks import integer
from optcore.norm.saved import check_belongs

__all__ = ["WeightNormSaved", "weight_norm", "weight_norm_backward", "weight_norm_backward_jvp", "weight_norm_jvp"]

# Squared norms that are safe to work with: neither they nor 1/|v|, in the dtype of v, overflow or lose digits.
_SAFE = {np.dtype(np.float32): (2.0**-200, 2.0**200), np.dtype(np.float64): (2.0**-900, 2.0**900)}


class WeightNormSaved:
    """What `weight_norm` keeps for its derivatives: opaque but for one array.

    Attributes
    ----------
    norm : ndarray of float64, shape [C]
        |v| of each slice; of `weight_norm_jvp`, its derivative.
    """

    __slots__ = ("dim", "dtype", "exponent", "scaled_norm", "shape")

    def __init__(self, v, dim, scaled_norm, exponent):
        self.shape = v.shape
        self.dtype = v.dtype
        self.dim = dim
        self.scaled_norm = scaled_norm  # of v * 2^-exponent
        self.exponent = exponent        # [C], or None: v as it is

    @property
    def norm(self):
        """|v| of each slice."""
        return self.scaled_norm if self.exponent is None else np.ldexp(self.scaled_norm, self.exponent)

    def _down(self, a):
        """Return a * 2^-exponent, exact unless it leaves the range."""
        if self.exponent is None:
            return a
        each = [1] * a.ndim
        if self.dim is not None:
            each[self.dim] = -1
        with np.errstate(over="ignore"):  # the gradient of a tiny slice is infinite, as in IEEE arithmetic
            return np.ldexp(a, -self.exponent.reshape(each))


def _exponents(v, dim):
    """Return the exponent of the largest element of each slice; 0 where it is zero or not finite."""
    axes = None if dim is None else tuple(i for i in range(v.ndim) if i != dim % v.ndim)
    largest = np.atleast_1d(np.max(np.abs(v), axis=axes, initial=0))
    return np.where(np.isfinite(largest), np.frexp(largest)[1], 0).astype(np.int32)


def _check(saved, v, name="saved"):
    if not isinstance(saved, WeightNormSaved):
        raise TypeError(f"{name}: expected a WeightNormSaved as the forward pass returns it, "
                        f"got {type(saved).__name__}")
    check_belongs(saved, v, name, "v")


def _check_slices(v, g, dim):
    if dim is not None:
        integer("dim", dim, -np.ndim(v))
    if g is None:
        raise TypeError("g: expected an array with the norm of each slice, got None")


def weight_norm(v, g, dim=0):
    """w = g * v/|v|: the direction of each slice from v, its 2-norm from g.

    Parameters
    ----------
    v : ndarray of float32 or float64, C-contiguous
        [C, ...] with ``dim=0``, the rows of a linear or the filters of a convolution layer.
    g : ndarray of float32 or float64, shape [C]
        One number for each slice (PyTorch holds it with the dimensions of v, all but one of them 1).
    dim : int or None
        The dimension along which the slices are counted; None takes all of v as one slice, g having one element.

    Returns
    -------
    w : ndarray like v
        NaN in a slice that is zero.
    saved : WeightNormSaved
        What `weight_norm_backward` needs.

    Raises
    ------
    TypeError
        An argument that is no array, or of another dtype or byte order; a dim that is no integer.
    ValueError
        A wrong shape, a layout that is not C-contiguous, a dim that v does not have.

    Notes
    -----
    Norms are summed in double, from v scaled by powers of 2 where squares would overflow or underflow: every finite v
    has its right direction.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import weight_norm
    >>> w, saved = weight_norm(np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([10.0, 1.0]))
    >>> w
    array([[6., 8.],
           [0., 1.]])
    >>> saved.norm
    array([5., 2.])
    """
    _check_slices(v, g, dim)
    w, squares = _weight.forward(v, g, dim)
    low, high = _SAFE[v.dtype]
    if np.all((low <= squares) & (squares < high)):
        return w, WeightNormSaved(v, dim, np.sqrt(squares), None)
    exponent = _exponents(v, dim)
    w, squares = _weight.forward(WeightNormSaved(v, dim, None, exponent)._down(v), g, dim)
    return w, WeightNormSaved(v, dim, np.sqrt(squares), exponent)


def weight_norm_backward(dw, v, g, saved):
    """Gradients of a loss with respect to v and g, from its gradient with respect to w.

    dg = sum(dw * v/|v|), dv = g/|v| * (dw - dg * v/|v|), slice by slice.

    Parameters
    ----------
    dw, v : ndarray of float32 or float64, C-contiguous
        The gradient with respect to w, and the v of the forward pass; the same shape and dtype.
    g : ndarray, shape [C]
        As in the forward pass.
    saved : WeightNormSaved
        What `weight_norm` returned.

    Returns
    -------
    dv : ndarray like v
    dg : ndarray like g

    Raises
    ------
    TypeError, ValueError
        As `weight_norm`; `saved` of a v of another shape or dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import weight_norm, weight_norm_backward
    >>> v, g = np.array([[3.0, 4.0]]), np.array([10.0])
    >>> w, saved = weight_norm(v, g)
    >>> dv, dg = weight_norm_backward(np.array([[1.0, 0.0]]), v, g, saved)
    >>> dv, dg
    (array([[ 1.28, -0.96]]), array([0.6]))
    """
    _check(saved, v)
    _check_slices(v, g, saved.dim)
    dv, dg = _weight.backward(dw, _down(v, saved), g, saved.scaled_norm, saved.dim)
    return saved._down(dv), dg


def _down(a, saved):
    """Scale an array as the forward pass scaled v; what is no array is refused by its name later."""
    return saved._down(a) if isinstance(a, np.ndarray) else a


def weight_norm_jvp(v, g, saved, rv, rg):
    """Derivative of the forward pass along the direction (rv, rg).

    rw = rg * v/|v| + g/|v| * (rv - v/|v| * sum(rv * v/|v|)), slice by slice.

    Parameters
    ----------
    v, g, saved
        As for `weight_norm_backward`.
    rv : ndarray like v
        The direction of v.
    rg : ndarray, shape [C], or None
        The direction of g; None stands for zeros.

    Returns
    -------
    rw : ndarray like v
    rsaved : WeightNormSaved
        The derivative of |v|, for `weight_norm_backward_jvp`.

    Raises
    ------
    TypeError, ValueError
        As `weight_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import weight_norm, weight_norm_jvp
    >>> v, g = np.array([[3.0, 4.0]]), np.array([10.0])
    >>> _, saved = weight_norm(v, g)
    >>> rw, rsaved = weight_norm_jvp(v, g, saved, v, None)     # w does not change with the length of v
    >>> np.allclose(rw, 0), rsaved.norm
    (True, array([5.]))
    """
    _check(saved, v)
    _check_slices(v, g, saved.dim)
    rw, rnorm = _weight.jvp(_down(v, saved), g, saved.scaled_norm, saved.dim, _down(rv, saved), rg)
    return rw, WeightNormSaved(v, saved.dim, rnorm, saved.exponent)


def weight_norm_backward_jvp(dw, v, g, saved, rdw, rv, rg, rsaved):
    """Derivative of the backward pass along the direction (rdw, rv, rg).

    With x = v/|v|, s = 1/|v| and r the derivative along the direction:

        rdv = r(g*s) * (dw - dg*x) + g*s * (rdw - rdg*x - dg*rx),    rdg = sum(rdw*x) + sum(dw*rx)

    Parameters
    ----------
    dw, v, g, saved
        As for `weight_norm_backward`.
    rdw, rv : ndarray like v
        The directions of dw and v.
    rg : ndarray, shape [C], or None
        The direction of g; None stands for zeros.
    rsaved : WeightNormSaved
        What `weight_norm_jvp` returned for the same rv.

    Returns
    -------
    rdv : ndarray like v
    rdg : ndarray like g

    Raises
    ------
    TypeError, ValueError
        As `weight_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import weight_norm, weight_norm_backward_jvp, weight_norm_jvp
    >>> v, g, dw = np.array([[3.0, 4.0]]), np.array([10.0]), np.array([[1.0, 0.0]])
    >>> _, saved = weight_norm(v, g)
    >>> _, rsaved = weight_norm_jvp(v, g, saved, 0 * v, None)
    >>> rdv, rdg = weight_norm_backward_jvp(dw, v, g, saved, dw, 0 * v, None, rsaved)
    >>> rdv, rdg                                               # the backward pass is linear in dw
    (array([[ 1.28, -0.96]]), array([0.6]))
    """
    _check(saved, v)
    _check(rsaved, v, "rsaved")
    _check_slices(v, g, saved.dim)
    rdv, rdg = _weight.backward_jvp(dw, _down(v, saved), g, saved.scaled_norm, saved.dim, rdw, _down(rv, saved), rg,
                                    rsaved.scaled_norm)
    return saved._down(rdv), rdg
