"""Weights of classes, against imbalance."""

import numbers

import numpy as np

from optcore.checks import indices, integer


def class_weights(weight, y, classes):
    """Return one weight for each class.

    Parameters
    ----------
    weight : "balanced", dict or sequence
        "balanced": n/(K*count), with n targets of K classes that occur, as scikit-learn defines it; a class that does
        not occur gets 1. A dict from class index to weight, 1 for those it leaves out; or one weight for each class.
    y : ndarray of int [n]
        Class indices of the training part.
    classes : int
        How many there are.

    Returns
    -------
    ndarray, float64 [classes]

    Raises
    ------
    TypeError, ValueError
        Neither of these; a weight that is negative or not finite; a class that is not there.

    Examples
    --------
    >>> import numpy as np
    >>> class_weights("balanced", np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.667, 2.0]
    >>> class_weights({1: 5}, np.array([0, 1]), 2).tolist()
    [1.0, 5.0]
    """
    classes = integer("classes", classes)
    if isinstance(weight, str):
        if weight != "balanced":
            raise ValueError(f"class_weight: expected 'balanced', a dict or a sequence, got {weight!r}")
        y = indices("y", y, classes)
        count = np.bincount(y, minlength=classes)
        return np.where(count > 0, len(y) / (np.count_nonzero(count) * np.maximum(count, 1)), 1.0)
    if isinstance(weight, dict):
        for k in weight:
            if isinstance(k, bool) or not isinstance(k, numbers.Integral) or not 0 <= k < classes:
                raise ValueError(f"class_weight: expected class indices from 0 to {classes - 1} as keys, got {k!r}")
        weight = [weight.get(k, 1.0) for k in range(classes)]
    try:
        w = np.asarray(weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"class_weight: expected numbers, got {weight!r}") from error
    if w.shape != (classes,):
        raise ValueError(f"class_weight: expected {classes} weights, one for each class, got shape {w.shape}")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise ValueError(f"class_weight: expected finite numbers >= 0, not all 0, got {w}")
    return w
