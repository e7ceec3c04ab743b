"""Activations and their gradients; the package's page says what holds for all."""

from optcore._native import functional as _native
from optcore.checks import one_of

_GELU = {"none": "gelu", "tanh": "gelu_tanh"}


def relu(x, out=None):
    """Rectified linear unit, y = max(x, 0).

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64. NaN gives NaN.
    out : ndarray, optional
        Takes the result; may be `x`.

    Returns
    -------
    ndarray
        y, of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _native.activation("relu", x, out=out)


def relu_backward(dy, y, out=None):
    """Gradient of `relu` from its output: dx = dy where y > 0, else 0.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to y.
    y : ndarray
        Output of `relu`, of the shape and dtype of `dy`.
    out : ndarray, optional
        Takes the result; may be `dy` or `y`.

    Returns
    -------
    ndarray
        dx.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.relu_backward(np.array([3.0, 3.0]), np.array([0.0, 2.0]))
    array([0., 3.])
    """
    return _native.activation_backward("relu", dy, y, out=out)


def elu(x, alpha=1.0, out=None):
    """Exponential linear unit: y = x for x > 0, else alpha*(exp(x) - 1).

    Clevert, Unterthiner and Hochreiter (2016). Near 0 the negative side is accurate too.

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64. NaN gives NaN.
    alpha : float, default 1.0
        Finite and at least 0: below, y would not tell from which side it came, and `elu_backward` needs to know.
    out : ndarray, optional
        Takes the result; may be `x`.

    Returns
    -------
    ndarray
        y, of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As the module's page says, and for another alpha.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.elu(np.array([-1e-10, 2.0]))
    array([-1.e-10,  2.e+00])
    """
    return _native.activation("elu", x, alpha, out)


def elu_backward(dy, y, alpha=1.0, out=None):
    """Gradient of `elu` from its output: dx = dy for y > 0, else dy*(y + alpha).

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to y.
    y : ndarray
        Output of `elu`, of the shape and dtype of `dy`.
    alpha : float, default 1.0
        As given to `elu`.
    out : ndarray, optional
        Takes the result; may be `dy` or `y`.

    Returns
    -------
    ndarray
        dx.

    Raises
    ------
    TypeError, ValueError
        As the module's page says, and for an alpha that is negative or not finite.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.elu_backward(np.array([4.0, 4.0]), np.array([-0.5, 2.0]))
    array([2., 4.])
    """
    return _native.activation_backward("elu", dy, y, alpha, out)


def sigmoid(x, out=None):
    """Logistic function, y = 1/(1 + exp(-x)).

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64. Far below 0 the result is exp(x), down to the subnormal numbers.
    out : ndarray, optional
        Takes the result; may be `x`.

    Returns
    -------
    ndarray
        y, of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.sigmoid(np.array([-np.inf, 0.0, np.inf]))
    array([0. , 0.5, 1. ])
    """
    return _native.activation("sigmoid", x, out=out)


def sigmoid_backward(dy, y, out=None):
    """Gradient of `sigmoid` from its output: dx = dy*y*(1 - y).

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to y.
    y : ndarray
        Output of `sigmoid`, of the shape and dtype of `dy`.
    out : ndarray, optional
        Takes the result; may be `dy` or `y`.

    Returns
    -------
    ndarray
        dx.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.sigmoid_backward(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    return _native.activation_backward("sigmoid", dy, y, out=out)


def tanh(x, out=None):
    """Hyperbolic tangent.

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64.
    out : ndarray, optional
        Takes the result; may be `x`.

    Returns
    -------
    ndarray
        y, of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.tanh(np.array([-np.inf, 0.0, 1e-300]))
    array([-1.e+000,  0.e+000,  1.e-300])
    """
    return _native.activation("tanh", x, out=out)


def tanh_backward(dy, y, out=None):
    """Gradient of `tanh` from its output: dx = dy*(1 - y)*(1 + y).

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to y.
    y : ndarray
        Output of `tanh`, of the shape and dtype of `dy`.
    out : ndarray, optional
        Takes the result; may be `dy` or `y`.

    Returns
    -------
    ndarray
        dx.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.tanh_backward(np.array([4.0]), np.array([0.5]))
    array([3.])
    """
    return _native.activation_backward("tanh", dy, y, out=out)


def _gelu(approximate):
    return _GELU[one_of("approximate", approximate, _GELU)]


def gelu(x, approximate="none", out=None):
    """Gaussian error linear unit: y = x*Phi(x), Phi the standard normal distribution function.

    Hendrycks and Gimpel (2016). Computed as max(x, 0) - a*Phi(-a) with a = abs(x), so that the values far below 0 are
    right to the last subnormal number, where x*(1 + erf(x/sqrt(2)))/2 cancels to 0; gelu(-inf) is 0 (PyTorch: NaN).

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64. NaN gives NaN.
    approximate : {"none", "tanh"}
        As in PyTorch: "tanh" is the other function 0.5*x*(1 + tanh(sqrt(2/pi)*(x + 0.044715*x^3))).
    out : ndarray, optional
        Takes the result; may be `x`.

    Returns
    -------
    ndarray
        y, of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As the module's page says, and for another `approximate`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.gelu(np.array([-20.0, 0.0, 40.0]))
    array([-5.50724824e-88,  0.00000000e+00,  4.00000000e+01])
    >>> oc.functional.gelu(np.array([1.0])).round(6), oc.functional.gelu(np.array([1.0]), "tanh").round(6)
    (array([0.841345]), array([0.841192]))
    """
    return _native.activation(_gelu(approximate), x, out=out)


def gelu_backward(dy, x, approximate="none", out=None):
    """Gradient of `gelu` from its input: dx = dy*(Phi(x) + x*phi(x)), phi the standard normal density.

    From the input, because a value of y below 0 comes from two x.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to y.
    x : ndarray
        Input of `gelu`, of the shape and dtype of `dy`.
    approximate : {"none", "tanh"}
        As given to `gelu`.
    out : ndarray, optional
        Takes the result; may be `dy` or `x`.

    Returns
    -------
    ndarray
        dx.

    Raises
    ------
    TypeError, ValueError
        As the module's page says, and for another `approximate`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.gelu_backward(np.array([4.0, 4.0]), np.array([0.0, 100.0]))
    array([2., 4.])
    """
    return _native.activation_backward(_gelu(approximate), dy, x, out=out)


def silu(x, out=None):
    """Sigmoid linear unit (swish): y = x/(1 + exp(-x)).

    Elfwing, Uchibe and Doya (2018). silu(-inf) is 0 (PyTorch: NaN).

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64. NaN gives NaN.
    out : ndarray, optional
        Takes the result; may be `x`.

    Returns
    -------
    ndarray
        y, of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.silu(np.array([-2.0, 0.0, 2.0])).round(6)
    array([-0.238406,  0.      ,  1.761594])
    """
    return _native.activation("silu", x, out=out)


def silu_backward(dy, x, out=None):
    """Gradient of `silu` from its input: dx = dy*s*(1 + x*(1 - s)), s = sigmoid(x).

    From the input, because a value of y below 0 comes from two x.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to y.
    x : ndarray
        Input of `silu`, of the shape and dtype of `dy`.
    out : ndarray, optional
        Takes the result; may be `dy` or `x`.

    Returns
    -------
    ndarray
        dx.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.silu_backward(np.array([4.0, 4.0]), np.array([0.0, 1000.0]))
    array([2., 4.])
    """
    return _native.activation_backward("silu", dy, x, out=out)
