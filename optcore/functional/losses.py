"""Softmax, losses and their gradients; the package's page says what holds for all."""

from optcore._native import functional as _native
from optcore.functional.targets import row_weights, smoothing, soft_targets, weighted_binary


def softmax(z, out=None):
    """Softmax of each row: p_j = exp(z_j) / sum_k exp(z_k).

    Computed as exp(z_j - m) / (1 + r) with the row's maximum m and r the sum over the other classes, in double. A row
    that holds NaN or +inf, or -inf only, gives NaN.

    Parameters
    ----------
    z : ndarray [N, K]
        Logits, float32 or float64.
    out : ndarray [N, K], optional
        Takes the result; may be `z`.

    Returns
    -------
    ndarray [N, K]
        Probabilities; each row sums to 1.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.softmax(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """
    return _native.softmax(z, out)


def log_softmax(z, out=None):
    """Logarithm of the softmax of each row: z_j - log sum_k exp(z_k).

    Computed as (z_j - m) - log1p(r) (see `softmax`), so that a class that is far ahead keeps its tiny -r, where
    other libraries return 0.

    Parameters
    ----------
    z : ndarray [N, K]
        Logits, float32 or float64.
    out : ndarray [N, K], optional
        Takes the result; may be `z`.

    Returns
    -------
    ndarray [N, K]
        Logarithms of the probabilities.

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.log_softmax(np.array([[20.0, 0.0]], np.float32))
    array([[-2.0611537e-09, -2.0000000e+01]], dtype=float32)
    """
    return _native.log_softmax(z, out)


def cross_entropy(z, target, *, label_smoothing=0.0, weight=None, sample_weight=None, gradient=True,
                  out=None):
    """Softmax cross-entropy, the mean over the rows, and its gradient.

    With classes t: loss = -mean_i log p_(i,t_i), dz = (p - onehot(t)) / N. With rows of probabilities q:
    loss = -mean_i sum_j q_ij log p_ij, dz = (p*sum_j q_ij - q) / N; 0 log 0 counts as 0 (PyTorch: NaN).

    The loss is (m - z_t) + log1p(r), and the gradient of the right class minus the sum of the others: where it is so
    far ahead that p_t rounds to 1, both are still right, where PyTorch and JAX give 0. Rows are summed in double, of
    float32 logits four exponentials at a time.

    Label smoothing e puts (1-e)*q + e/K in the place of q, with q = onehot(t) for classes (Szegedy et al. 2016). Class
    weights w then multiply it, w_j*q_ij; for classes t the sum over the rows is divided by sum_i w_(t_i) instead of N,
    for probabilities by N. All as in PyTorch.

    Parameters
    ----------
    z : ndarray [N, K]
        Logits, float32 or float64, K >= 1.
    target : ndarray
        int64 [N], the right class of each row; or [N, K] of the dtype of `z`, the probability of each class (not
        checked, and any weights serve).
    label_smoothing : float, default 0.0
        e, from 0 to 1.
    weight : array_like [K], optional
        Weights of the classes, finite and at least 0.
    sample_weight : array_like [N], optional
        w, of the examples, finite and at least 0: the loss is sum_i w_i*loss_i / sum_i w_i, with
        classes that have weights w_i*w_(t_i) in the place of w_i.
    gradient : bool, default True
        False leaves the gradient away.
    out : ndarray [N, K], optional
        Takes dz; may be `z`.

    Returns
    -------
    loss : float
        NaN for N = 0, and where all rows have weight 0, as in PyTorch.
    dz : ndarray [N, K] or None

    Raises
    ------
    TypeError, ValueError
        As the module's page says, and for a class outside 0 .. K-1.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> z = np.array([[20.0, 0.0]], np.float32)
    >>> loss, dz = oc.functional.cross_entropy(z, np.array([0]))
    >>> f"{loss:.4g}", dz
    ('2.061e-09', array([[-2.0611537e-09,  2.0611537e-09]], dtype=float32))
    >>> oc.functional.cross_entropy(z, np.array([0]), label_smoothing=0.1)[0]
    1.0000000...
    """
    rows = row_weights(sample_weight, z)
    if weight is None and smoothing(label_smoothing) == 0:
        return _native.cross_entropy(z, target, gradient, out, None, rows)
    q, total = soft_targets(z, target, label_smoothing, weight, rows)
    return _native.cross_entropy(z, q, gradient, out, total, rows)


def mse(y, target, *, sample_weight=None, scale=1.0, gradient=True, out=None):
    """Squared error, the mean over all elements, and its gradient.

    loss = mean (y - target)^2, dy = 2*(y - target)/size, as in PyTorch's MSELoss. Summed in double.

    Parameters
    ----------
    y : ndarray, any shape
        float32 or float64.
    target : ndarray
        Of the shape and dtype of `y`.
    sample_weight : array_like [N], optional
        w, of the examples, finite and at least 0: the loss is sum_i w_i*loss_i / sum_i w_i.
    scale : float, default 1.0
        Multiplies loss and gradient, as 1/2 for half of the squared error.
    gradient : bool, default True
        False leaves the gradient away.
    out : ndarray, optional
        Takes dy; may be `y` or `target`.

    Returns
    -------
    loss : float
        NaN for an empty array, as in PyTorch.
    dy : ndarray or None

    Raises
    ------
    TypeError, ValueError
        As the module's page says.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.mse(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    (2.5, array([1., 2.]))
    """
    return _native.mse(y, target, gradient, out, row_weights(sample_weight, y), scale)


def huber(y, target, delta=1.0, *, sample_weight=None, gradient=True, out=None):
    """Huber's error, the mean over all elements, and its gradient.

    With d = y - target: d^2/2 where abs(d) <= delta, else delta*(abs(d) - delta/2); dy = clip(d, -delta, delta)/size
    (Huber 1964), as in PyTorch's HuberLoss. Summed in double.

    Parameters
    ----------
    y : ndarray, any shape
        float32 or float64.
    target : ndarray
        Of the shape and dtype of `y`.
    delta : float, default 1.0
        Where the parabola ends; finite and positive.
    sample_weight : array_like [N], optional
        w, of the examples, finite and at least 0: the loss is sum_i w_i*loss_i / sum_i w_i.
    gradient : bool, default True
        False leaves the gradient away.
    out : ndarray, optional
        Takes dy; may be `y` or `target`.

    Returns
    -------
    loss : float
        NaN for an empty array, as in PyTorch.
    dy : ndarray or None

    Raises
    ------
    TypeError, ValueError
        As the module's page says, and for another delta.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.functional.huber(np.array([0.5, 3.0]), np.array([0.0, 0.0]))
    (1.3125, array([0.25, 0.5 ]))
    """
    return _native.huber(y, target, delta, gradient, out, row_weights(sample_weight, y))


def bce_with_logits(z, target, *, weight=None, pos_weight=None, sample_weight=None, scale=1.0, gradient=True,
                    out=None):
    """Binary cross-entropy of the logistic function of z, the mean over all elements, and its gradient.

    With s the logistic function, t the target, p the `pos_weight` and w the `weight` of an element:
    loss = -mean w*(p*t*log s(z) + (1-t)*log s(-z)), dz = w*((1-t)*s(z) - p*t*s(-z))/size, as in PyTorch's
    BCEWithLogitsLoss. Both keep their relative precision however far ahead or behind z is; 0 log 0 counts as 0. Summed
    in double.

    Parameters
    ----------
    z : ndarray, any shape
        Logits, float32 or float64.
    target : ndarray
        Of the shape and dtype of `z`, from 0 to 1 (not checked).
    weight, pos_weight : array_like, optional
        Finite and at least 0, of a shape that broadcasts to that of `z`.
    sample_weight : array_like [N], optional
        w, of the examples, finite and at least 0, beside those: the loss is sum_i w_i*loss_i / sum_i w_i.
    scale : float, default 1.0
        Multiplies loss and gradient.
    gradient : bool, default True
        False leaves the gradient away.
    out : ndarray, optional
        Takes dz; may be `z` or `target`.

    Returns
    -------
    loss : float
        NaN for an empty array, as in PyTorch.
    dz : ndarray or None

    Raises
    ------
    TypeError, ValueError
        As the module's page says, and for weights that do not fit.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> loss, dz = oc.functional.bce_with_logits(np.array([0.0, 800.0]), np.array([1.0, 0.0]))
    >>> round(loss, 4), dz
    (400.3466, array([-0.25,  0.5 ]))
    """
    if weight is not None or pos_weight is not None:
        target, weight = weighted_binary(z, target, weight, pos_weight)
    return _native.bce_with_logits(z, target, weight, gradient, out, row_weights(sample_weight, z), scale)
