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
    """What `evaluate` returns, of arguments that have been checked; the outputs of one piece are held at a time."""
    loss, n = losses.find(loss), len(X) if rows is None else len(rows)
    value = counted = right = weighed = 0.0
    for i in range(0, n, _PIECE):
        piece = slice(i, i + _PIECE) if rows is None else rows[i:i + _PIECE]
        target, w = y[piece], None if weight is None else weight[i:i + _PIECE]
        out, size = net.predict(X[piece]), _size(target, w, loss.own_weights(target))
        if size > 0:        # else its mean is undefined
            counted += size
            value += (loss.value(out, target, gradient=False, **losses.given(w))[0] - value) * (size / counted)
        if loss.classification:
            hits = out.argmax(axis=1) == (target if target.ndim == 1 else target.argmax(axis=1))
            right += float((hits if w is None else hits * w).sum())
            weighed += _size(target, w)
    found = {"validation_loss": float(value)}
    return {**found, "validation_accuracy": right / weighed} if loss.classification else found


def _size(target, *weights):
    """What the examples count together."""
    given = [w for w in weights if w is not None]
    return float(np.prod(given, axis=0).sum()) if given else len(target)


def has_classes(loss):
    """Whether the loss is that of a classification."""
    return losses.find(loss).classification
