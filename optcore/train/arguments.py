"""The arguments of `fit`, checked before anything is changed."""

import numbers
import os

import numpy as np

from optcore import data
from optcore.nn import losses, passes


def examples(net, X, y, loss, validation, seed):
    """Check the data; return X, y and the held-out part or None."""
    row = losses.find(loss)
    _check(net, row, "", X, y)
    if validation is None:
        return X, y, None
    if isinstance(validation, numbers.Real) and not isinstance(validation, bool):
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
        labels = y if y.ndim == 1 and y.dtype.kind == "i" else None
        kept, held = data.split(len(X), validation, rng, labels)
        return X[kept], y[kept], (X[held], y[held])
    if not isinstance(validation, list | tuple) or len(validation) != 2:
        raise TypeError(f"validation: expected (X, y), a share or None, got {type(validation).__name__}")
    _check(net, row, "validation ", *validation)
    return X, y, tuple(validation)


def _check(net, row, part, X, y):
    try:
        passes.check_input(net.program, X, net.theta.dtype)
        losses.check(row, y, len(X), net.program.out_shape, net.theta.dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}{str(error).replace('x:', 'X:', 1).replace('target:', 'y:', 1)}") from error
    if not np.isfinite(X).all():
        raise ValueError(f"{part}X: expected finite values, got {X[~np.isfinite(X)].flat[0]}")


def check_place(path):
    """Raise unless a file can stand there."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"checkpoint: expected a file, got the folder {os.fspath(path)}")
    if not os.path.isdir(os.path.dirname(os.path.realpath(os.fspath(path)))):
        raise FileNotFoundError(f"checkpoint: no such folder: {os.path.dirname(os.fspath(path))}")


def callbacks(given):
    """The functions to call after a step, and those after an epoch."""
    if not isinstance(given, list | tuple):
        raise TypeError(f"callbacks: expected a list or tuple of callables, got {type(given).__name__}")
    for c in given:
        if not callable(c) and not hasattr(c, "on_step"):
            raise TypeError(f"callbacks: expected callables or objects with on_step, got {type(c).__name__}")
    return [c.on_step for c in given if hasattr(c, "on_step")], [c for c in given if callable(c)]


def positive(name, n):
    """Return n as an int after checking that it is one of at least 1."""
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"{name}: expected at least 1, got {n}")
    return int(n)
