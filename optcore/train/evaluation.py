"""Loss and accuracy in evaluation mode."""

import numpy as np

from optcore import checks
from optcore.nn import Sequential, losses
from optcore.train import arguments

_PIECE = 4096       # examples that are gathered together


def evaluate(net, X, y, loss="cross_entropy", rows=None, sample_weight=None):
    """Return loss and accuracy in evaluation mode.

    Parameters
    ----------
    net : optcore.nn.Sequential
    X : ndarray or optcore.data.Rows
    y : ndarray
        As for `fit`.
    loss : str or loss
    rows : array_like of int, optional
        The examples that are meant; all by default.
    sample_weight : array_like, optional
        Their weights, finite and at least 0.

    Returns
    -------
    dict
        ``validation_loss``; for a classification also ``validation_accuracy``, the share of examples whose
        largest output is the (most probable) class.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; no example, or only ones without a weight.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(2, 2, bias=False), dtype="float64")
    >>> net.theta = np.eye(2).ravel()
    >>> evaluate(net, np.array([[9.0, 0.0], [0.0, 9.0]]), np.array([0, 0]))["validation_accuracy"]
    0.5
    """
    if not isinstance(net, Sequential):
        raise TypeError(f"net: expected an optcore.nn.Sequential, got {type(net).__name__}")
    row = losses.find(loss)
    arguments.check(net, row, "", X, y)
    rows = checks.indices("rows", rows, len(X))
    target = y if rows is None else y[rows]
    weight = losses.check_weights(sample_weight, target, row.own_weights(target))
    return measured(net, X, y, row, rows, weight)


def measured(net, X, y, loss, rows=None, weight=None):
    """What `evaluate` returns, of arguments that have been checked."""
    out = net.predict(X) if rows is None and isinstance(X, np.ndarray) else _outputs(net, X, rows)
    y = y if rows is None else y[rows]
    value, _ = losses.find(loss).value(out, y, gradient=False, **losses.given(weight))
    result = {"validation_loss": float(value)}
    if has_classes(loss):
        classes = y if y.ndim == 1 else y.argmax(axis=1)
        result["validation_accuracy"] = float(np.average(out.argmax(axis=1) == classes, weights=weight))
    return result


def _outputs(net, X, rows):
    n = len(X) if rows is None else len(rows)
    out = np.empty((n, *net.program.out_shape), net.theta.dtype)
    for i in range(0, n, _PIECE):
        piece = slice(i, i + _PIECE)
        out[piece] = net.predict(X[piece if rows is None else rows[piece]])
    return out


def has_classes(loss):
    """Whether the loss is that of a classification."""
    return losses.find(loss).classification
