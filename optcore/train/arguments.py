"""The arguments of `fit`, checked before anything is changed."""

import dataclasses
import math
import numbers
import os

import numpy as np

from optcore import data
from optcore.nn import losses, passes

_PIECE = 2**20      # numbers that are looked at together


def examples(net, X, y, loss, validation, seed, sample_weight=None):
    """Check the data; return the rows to train on, the held-out (X, y, rows), and the weights of both.

    None stands for all rows, for no part, and where no weights were given. Rows of weight 0 are none to train on.
    """
    weight = losses.check_weights(sample_weight, y) if isinstance(y, np.ndarray) else None
    rows, held_out, held_weight = _parts(net, X, y, loss, validation, seed, weight)
    if weight is not None and not weight.all():
        rows = np.flatnonzero(weight) if rows is None else rows[weight[rows] > 0]
    return rows, held_out, weight, held_weight


def _parts(net, X, y, loss, validation, seed, weight):
    row = losses.find(loss)
    _check(net, row, "", X, y)
    if validation is None:
        return None, None, None
    if isinstance(validation, numbers.Real) and not isinstance(validation, bool):
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
        labels = y if y.ndim == 1 and y.dtype.kind == "i" else None
        kept, held = data.split(len(X), validation, rng, labels)
        if weight is not None and not (weight[kept].any() and weight[held].any()):
            raise ValueError("sample_weight: expected a positive one among the held-out and the other examples, got "
                             "zeros only")
        return kept, (X, y, held), weight if weight is None else weight[held]
    if not isinstance(validation, list | tuple) or len(validation) not in (2, 3):
        raise TypeError("validation: expected (X, y), (X, y, sample_weight), a share or None, got "
                        f"{type(validation).__name__}")
    X, y, *given = validation
    _check(net, row, "validation ", X, y)
    return None, (X, y, None), losses.check_weights(given[0] if given else None, y)


def weighted(loss, class_weight, y, classes):
    """The loss with weights of the classes; `y` is the training part's."""
    row = losses.find(loss)
    if not isinstance(row, losses.CrossEntropy) or y.ndim != 1:
        raise ValueError(f"class_weight: expected the cross-entropy of class indices, got {row} of targets with "
                         f"{y.ndim} dimensions")
    if row.weight is not None:
        raise ValueError(f"class_weight: expected a loss without weights, got {row}")
    return dataclasses.replace(row, weight=data.class_weights(class_weight, y, classes))


def _check(net, row, part, X, y):
    try:
        sample = X[:1] if isinstance(X, data.Rows) else X
        passes.check_input(net.program, sample, net.theta.dtype)
        losses.check(row, y, len(X), net.program.out_shape, net.theta.dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}{str(error).replace('x:', 'X:', 1).replace('target:', 'y:', 1)}") from error
    step = max(1, _PIECE // max(1, math.prod(X.shape[1:])))
    for i in range(0, len(X), step):
        x = X[i:i + step]
        finite = np.isfinite(x)
        if not finite.all():
            where = i + int(np.argwhere(~finite)[0, 0])
            raise ValueError(f"{part}X: expected finite values, got {x[~finite].flat[0]} in example {where}")


def check_place(path):
    """Raise unless a file can stand there."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"checkpoint: expected a file, got the folder {os.fspath(path)}")
    if not os.path.isdir(os.path.dirname(os.path.realpath(os.fspath(path)))):
        raise FileNotFoundError(f"checkpoint: no such folder: {os.path.dirname(os.fspath(path))}")
