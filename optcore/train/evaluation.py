"""Loss and accuracy in evaluation mode."""

import numpy as np

from optcore.nn import losses


def evaluate(net, X, y, loss="cross_entropy"):
    """Return loss and accuracy in evaluation mode.

    Parameters
    ----------
    net : optcore.nn.Sequential
    X, y : ndarray
        As for `fit`.
    loss : str or loss

    Returns
    -------
    dict
        ``validation_loss``; for a classification also ``validation_accuracy``, the share of examples whose
        largest output is the (most probable) class.
    """
    out = net.predict(X)
    result = {"validation_loss": float(losses.find(loss).value(out, y)[0])}
    if has_classes(loss):
        classes = y if y.ndim == 1 else y.argmax(axis=1)
        result["validation_accuracy"] = float(np.mean(out.argmax(axis=1) == classes))
    return result


def has_classes(loss):
    """Whether the loss is that of a classification."""
    return losses.find(loss).classification
