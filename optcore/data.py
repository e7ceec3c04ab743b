"""Data: mini-batches, standardisation, a held-out part, and the files that the command line reads."""

import csv
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optcore.checks import integer, number

__all__ = ["Dataset", "batches", "load", "split", "standardize"]

_ROWS = 4096        # rows in double at a time; fixed, so that the statistics have one summation order


def batches(n, batch_size=None, shuffle=True, rng=None, drop_last=False, *, smallest=1):
    """Return an iterator over the index arrays of one epoch.

    Parameters
    ----------
    n : int
        Number of examples, at least 1.
    batch_size : int, optional
        Examples in a batch; None or anything from n on is the full batch, 1 a single example.
    shuffle : bool
        Draw a new order at this call. The order inside a full batch means nothing, so a full batch is not
        shuffled.
    rng : numpy.random.Generator, optional
        Where the order comes from; needed to shuffle. It is advanced by this call, not while iterating.
    drop_last : bool
        Leave out a last batch that is shorter than the others.
    smallest : int
        A last batch of fewer examples joins the one before it, as batch norm, which has no statistics of a single
        example, needs.

    Returns
    -------
    iterator of ndarray, int64 [batch]
        Every index from 0 to n-1 exactly once (``drop_last`` aside).

    Raises
    ------
    TypeError, ValueError
        At the call, not at the first batch.

    Examples
    --------
    >>> import numpy as np
    >>> [b.tolist() for b in batches(5, 2, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    >>> [b.tolist() for b in batches(5, 2, shuffle=False, smallest=2)]
    [[0, 1], [2, 3, 4]]
    >>> rng = np.random.default_rng(0)
    >>> sorted(np.concatenate(list(batches(5, 2, rng=rng))).tolist())
    [0, 1, 2, 3, 4]
    """
    n, smallest = integer("n", n), integer("smallest", smallest)
    size = n if batch_size is None else min(integer("batch_size", batch_size), n)
    if shuffle and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: expected a numpy.random.Generator to shuffle with, got {type(rng).__name__}")
    order = rng.permutation(n) if shuffle and size < n else np.arange(n)
    order = order.astype(np.int64, copy=False)
    stop = n - n % size if drop_last else n
    edges = [*range(0, stop, size), stop]
    if len(edges) > 2 and edges[-1] - edges[-2] < smallest:
        del edges[-2]
    return (order[i:j] for i, j in itertools.pairwise(edges))


def standardize(X, mean=None, std=None):
    """Shift and scale every column to mean 0 and standard deviation 1 (z-score).

    Fit on the training part, then use what came back for every other part:
    ``Z, mean, std = standardize(X)`` and ``Zv, _, _ = standardize(Xv, mean, std)``.

    Parameters
    ----------
    X : array [N, ...]
        Numbers; statistics are taken over the first axis.
    mean, std : array [...], optional
        Both or neither. A deviation of 0 divides by 1: a constant column becomes 0.

    Returns
    -------
    Z : ndarray [N, ...]
        A new array of X's dtype if that is float32 or float64, else float64.
    mean, std : ndarray, float64 [...]
        As given, or the column means and the deviations sqrt(sum (x - mean)^2 / N).

    Raises
    ------
    TypeError, ValueError
        X is not real numbers or, when fitted, holds NaN or infinity; mean or std has not the shape of a row.

    Notes
    -----
    Two passes in double, shifted by the first row, with the correction of Chan, Golub and LeVeque (1983):
    exactly 0 for a constant column, no cancellation where the mean is large against the deviation.

    Examples
    --------
    >>> import numpy as np
    >>> Z, mean, std = standardize(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> Z.tolist(), mean.tolist(), std.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [2.0, 7.0], [1.0, 0.0])
    """
    X = _real_array("X", X)
    if (mean is None) != (std is None):
        raise ValueError(f"{'mean' if mean is None else 'std'}: expected as the other is given, got None")
    if mean is None:
        mean, std = _column_statistics(X)
    else:
        mean, std = (_like_row(name, a, X) for name, a in (("mean", mean), ("std", std)))
    divisor = np.where(std > 0.0, std, 1.0)
    Z = np.empty(X.shape, X.dtype if X.dtype in (np.float32, np.float64) else np.float64)
    for i in range(0, len(X), _ROWS):
        Z[i:i + _ROWS] = (X[i:i + _ROWS].astype(np.float64) - mean) / divisor
    return Z, mean, std


def _column_statistics(X):
    """Mean and biased standard deviation over the first axis, float64."""
    n = len(X)
    if n == 0:
        raise ValueError(f"X: expected at least one row, got shape {X.shape}")
    pivot = X[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):      # reported below, with the column
        mean = pivot + sum((X[i:i + _ROWS] - pivot).sum(axis=0) for i in range(0, n, _ROWS)) / n
        first = second = 0.0
        for i in range(0, n, _ROWS):
            d = X[i:i + _ROWS] - mean
            first, second = first + d.sum(axis=0), second + (d * d).sum(axis=0)
        mean, variance = mean + first / n, (second - first * first / n) / n
    bad = ~np.isfinite(mean + variance)
    if bad.any():
        where = np.argwhere(bad)[0].tolist()
        raise ValueError(f"X: expected finite values, got NaN, infinity or overflow in column {where}")
    return mean, np.sqrt(np.maximum(variance, 0.0))


def _like_row(name, a, X):
    a = np.asarray(_real_array(name, a), dtype=np.float64)
    if a.shape != X.shape[1:]:
        raise ValueError(f"{name}: expected shape {X.shape[1:]}, got {a.shape}")
    if not np.isfinite(a).all() or (name == "std" and (a < 0).any()):
        raise ValueError(f"{name}: expected finite values{' >= 0' if name == 'std' else ''}, got {a}")
    return a


def split(n, fraction, rng, labels=None):
    """Choose a held-out part at random.

    Parameters
    ----------
    n : int
        Number of examples, at least 2.
    fraction : float
        Share that is held out, in (0, 1); round(n * fraction) examples, at least 1 and at most n - 1.
    rng : numpy.random.Generator
        Where the choice comes from.
    labels : array [n], optional
        With labels every class is held out in the same proportion (largest remainder).

    Returns
    -------
    kept, held_out : ndarray, int64
        Ascending indices; together 0 to n-1.

    Examples
    --------
    >>> import numpy as np
    >>> kept, held_out = split(10, 0.2, np.random.default_rng(0), labels=[0, 1] * 5)
    >>> len(kept), sorted((held_out % 2).tolist())
    (8, [0, 1])
    """
    n = integer("n", n)
    if n < 2 or not 0.0 < number("fraction", fraction, -math.inf) < 1.0:
        raise ValueError(f"fraction: expected a share in (0, 1) of 2 or more examples, got {fraction} of {n}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: expected a numpy.random.Generator, got {type(rng).__name__}")
    labels = np.zeros(n, dtype=np.int64) if labels is None else np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels: expected shape ({n},), got {labels.shape}")
    total = min(max(round(n * fraction), 1), n - 1)
    _, code, count = np.unique(labels, return_inverse=True, return_counts=True)
    share = count * (total / n)
    take = np.floor(share).astype(np.int64)
    take[np.argsort(take - share, kind="stable")[:total - take.sum()]] += 1
    order = rng.permutation(n)
    order = order[np.argsort(code[order], kind="stable")]           # by class, in random order inside a class
    begin = np.concatenate([[0], np.cumsum(count)[:-1]])
    held = np.concatenate([order[b:b + t] for b, t in zip(begin, take, strict=True)])
    mask = np.zeros(n, dtype=bool)
    mask[held] = True
    return np.flatnonzero(~mask).astype(np.int64), np.flatnonzero(mask).astype(np.int64)


@dataclass(frozen=True)
class Dataset:
    """Examples and targets as they were read.

    Attributes
    ----------
    name : str
        ``"digits"`` or the file's path.
    X : ndarray, float64 [N, D]
        Features, one example a row.
    y : ndarray
        int64 [N] class indices, or float64 [N, 1] values to predict.
    classes : tuple or None
        The classes' names, in the order of their indices; None for values.
    features : tuple of str or None
        The columns' names, where the file has them.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    classes: tuple | None
    features: tuple | None = None


def load(source, task=None):
    """Read a data set.

    Parameters
    ----------
    source : str or path
        ``"digits"`` (scikit-learn's 1,797 images of 8 x 8); a ``.csv`` file (comma, semicolon or tab; a
        header is recognised; the last column is the target); a ``.npz`` file with ``X`` [N, ...], ``y`` [N].
    task : {"classification", "regression"}, optional
        What the target is. By default names and whole numbers are classes, other numbers are values.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError, ValueError, ModuleNotFoundError
        No such file; unreadable, with the file, line and column; scikit-learn is needed and not there.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits.X.shape, digits.y.shape, digits.classes[:3]
    ((1797, 64), (1797,), ('0', '1', '2'))
    """
    if task not in (None, "classification", "regression"):
        raise ValueError(f"task: expected 'classification' or 'regression', got {task!r}")
    if str(source) == "digits":
        X, target, features = _digits()
    else:
        path = Path(source)
        readers = {".csv": _read_csv, ".tsv": _read_csv, ".npz": _read_npz}
        if path.suffix.lower() not in readers:
            raise ValueError(f"{source}: expected 'digits' or a .csv, .tsv or .npz file")
        if not path.is_file():
            raise FileNotFoundError(f"{source}: no such file")
        X, target, features = readers[path.suffix.lower()](path)
    if len(X) < 2:
        raise ValueError(f"{source}: expected at least 2 examples, got {len(X)}")
    y, classes = _target(str(source), target, task)
    return Dataset(str(source), X, y, classes, features)


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the digits come with scikit-learn: pip install scikit-learn") from error
    digits = load_digits()
    return digits.data.astype(np.float64), digits.target, tuple(digits.feature_names)


def _read_npz(path):
    try:
        # Opened here: np.load leaves a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            X, y = file["X"], file["y"]
    except KeyError as error:
        raise ValueError(f"{path}: expected arrays X and y, got {error.args[0]}") from error
    except Exception as error:      # zipfile, zlib and NumPy each have their own for a damaged file
        raise ValueError(f"{path}: not a readable .npz file without pickles ({error})") from error
    if X.dtype.kind not in "fiub" or X.ndim < 2:
        raise ValueError(f"{path}: X: expected numbers of shape [N, D], got {X.dtype} of shape {X.shape}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != X.shape[:1]:
        raise ValueError(f"{path}: y: expected shape {X.shape[:1]}, got {y.shape}")
    X = X.reshape(len(X), -1).astype(np.float64)
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        raise ValueError(f"{path}: X[{row}, {column}]: expected a finite number, got {X[row, column]}")
    return X, y, None


def _read_csv(path):
    """Features as float64, the last column as a list of str, the header or None."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        header, X, target = None, [], []
        try:
            head = file.readline()
            delimiter = max("\t;,", key=head.count)
            rows = csv.reader(itertools.chain([head], file), delimiter=delimiter)
            for row in rows:
                if not row:
                    continue
                if len(row) < 2 and not X and not header:
                    raise ValueError(f"{path}:{rows.line_num}: expected at least 2 columns, features and then the "
                                     f"target, separated by a comma, semicolon or tab; got one column")
                if header is None and not X and not any(_is_number(cell) for cell in row):
                    header = tuple(cell.strip() for cell in row)
                    continue
                width = len(header) if header else len(X[0]) + 1 if X else len(row)
                if len(row) != width:
                    raise ValueError(f"{path}:{rows.line_num}: expected {width} columns, got {len(row)}")
                X.append(_numbers(path, rows.line_num, row[:-1], header))
                target.append(row[-1].strip())
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a readable CSV file ({error})") from error
    if not X:
        raise ValueError(f"{path}: expected rows of numbers with the target last, got none")
    return np.array(X), target, header[:-1] if header else None


def _numbers(path, line, cells, header):
    try:
        values = np.array([float(cell) for cell in cells])
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    column = next(i for i, cell in enumerate(cells) if not (_is_number(cell) and math.isfinite(float(cell))))
    name = f"{column + 1} ({header[column]})" if header else column + 1
    raise ValueError(f"{path}:{line}: column {name}: expected a finite number, got {cells[column]!r}")


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _target(name, target, task):
    """Class indices and names, or a column of values."""
    target = np.asarray(target)
    values = target
    if target.dtype.kind == "U" and all(map(_is_number, target.tolist())):
        values = target.astype(np.float64)
    numeric = values.dtype.kind in "fiub"
    if numeric and not np.isfinite(values).all():
        raise ValueError(f"{name}: target of example {int(np.argmin(np.isfinite(values)))} is not finite")
    whole = numeric and bool((values == np.floor(values)).all())
    if task == "regression" or (task is None and numeric and not whole):
        if not numeric:
            raise ValueError(f"{name}: a regression needs numbers as targets, got {target[0]!r}")
        return values.astype(np.float64)[:, None], None
    if whole:
        values = values.astype(np.int64)
    elif target.dtype.kind not in "fiubU":
        raise ValueError(f"{name}: expected numbers or names as targets, got dtype {target.dtype}")
    classes, y = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name}: expected at least 2 classes, got only {classes[0]}")
    return y.astype(np.int64), tuple(map(str, classes.tolist()))


def _real_array(name, a):
    a = np.asarray(a)
    if a.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {a.dtype}")
    if name == "X" and a.ndim < 1:
        raise ValueError("X: expected at least 1 dimension, got a scalar")
    return a
