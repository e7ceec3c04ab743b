"""Loss and accuracy in evaluation mode."""

import numpy as np

from optcore.nn import losses

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
    rows : ndarray, int64, optional
        The examples that are meant; all by default.
    sample_weight : array_like, optional
        Their weights.

    Returns
    -------
    dict
        ``validation_loss``; for a classification also ``validation_accuracy``, the share of examples whose
        largest output is the (most probable) class.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(2, 2, bias=False), dtype="float64")
    >>> net.theta = np.eye(2).ravel()
    >>> evaluate(net, np.array([[9.0, 0.0], [0.0, 9.0]]), np.array([0, 0]))["validation_accuracy"]
    0.5
    """
    out = net.predict(X) if rows is None and isinstance(X, np.ndarray) else _outputs(net, X, rows)
    y = y if rows is None else y[rows]
    weight = losses.check_weights(sample_weight, y)
    result = {"validation_loss": float(losses.find(loss).value(out, y, **losses.given(weight))[0])}
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
