"""The arguments of `fit`, checked before anything is changed."""

import dataclasses
import math
import numbers
import os

import numpy as np

from optcore import checks, data
from optcore.nn import losses
from optcore.nn.network_objective import check_examples

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


def counted(loss, y, rows, held_out):
    """Return the rows to train on without those of classes of weight 0; raise where the held-out ones have no other."""
    row = losses.find(loss)
    if held_out is not None:
        _, target, held = held_out
        _none_of_weight("validation y", row.own_weights(target if held is None else target[held]))
    weight = row.own_weights(y if rows is None else y[rows])
    if weight is None or weight.all():
        return rows
    _none_of_weight("y", weight)
    return np.flatnonzero(weight) if rows is None else rows[weight > 0]


def _none_of_weight(name, weight):
    if weight is not None and not weight.any():
        raise ValueError(f"{name}: expected an example of a class with a positive weight, got weight 0 for all of them")


def _parts(net, X, y, loss, validation, seed, weight):
    row = losses.find(loss)
    check(net, row, "", X, y)
    _check_finite("", X, y)
    if validation is None:
        return None, None, None
    if isinstance(validation, numbers.Real) and not isinstance(validation, bool):
        if len(X) < 2 or not 0 < validation < 1:
            raise ValueError(f"validation: expected a share in (0, 1) of 2 or more examples, got {validation} of "
                             f"{len(X)}")
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
    check(net, row, "validation ", X, y)
    _check_finite("validation ", X, y)
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


def check(net, row, part, X, y):
    """Raise unless examples and targets fit network and loss; `part` stands before their names."""
    sample, n = (X[:1], len(X)) if isinstance(X, data.Rows) else (X, None)
    check_examples(net.program, row, sample, y, net.theta.dtype, part, n)


def _check_finite(part, X, y):
    for name, a in (("X", X), ("y", y)):
        step = max(1, _PIECE // max(1, math.prod(a.shape[1:])))
        for i in range(0, len(a), step):
            x = a[i:i + step]
            finite = np.isfinite(x)
            if not finite.all():
                where = i + int(np.argwhere(~finite)[0, 0])
                raise ValueError(f"{part}{name}: expected finite values, got {x[~finite].flat[0]} in example {where}")


def check_place(path):
    """Raise unless a file can stand there."""
    place = checks.path("checkpoint", path)
    if os.path.isdir(place):
        raise IsADirectoryError(f"checkpoint: expected a file, got the folder {place}")
    if not os.path.isdir(os.path.dirname(os.path.realpath(place))):
        raise FileNotFoundError(f"checkpoint: no such folder: {os.path.dirname(place)}")
