"""The files that hold data sets."""

from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path

import numpy as np

from optcore import checks
from optcore.data.idx import is_idx, labels_beside, read_idx
from optcore.data.table import is_number, read_csv


@dataclass(frozen=True)
class Dataset:
    """Examples and targets as they were read.

    Attributes
    ----------
    name : str
        ``"digits"`` or the file's path.
    X : ndarray [N, D]
        Features, one example a row: float64, or as in the file for IDX and NPY, NPY memory-mapped.
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


def load(source, task=None, *, target=None, header=None):
    """Read a data set.

    Parameters
    ----------
    source : str or path
        ``"digits"`` (scikit-learn's 1,797 images of 8 x 8); a ``.csv`` or ``.tsv`` file (comma, semicolon or tab); a
        ``.npz`` file with ``X`` [N, ...]; an IDX file as MNIST's, plain or ``.gz``; an ``.npy`` file [N, ...], which is
        memory-mapped and may be larger than memory.
    task : {"classification", "regression"}, optional
        What the target is. By default names and whole numbers are classes, other numbers are values.
    target : str, int or path, optional
        Of a table the name or the index of the target's column (default: the last); of an ``.npz`` the array's name
        (default: "y"); for IDX the file of the labels (default: the one that MNIST puts beside the images); for an
        ``.npy`` the ``.npy`` file of the targets.
    header : bool, optional
        Whether the first line of a table holds names; recognised by default.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError, ValueError, ModuleNotFoundError
        No such file; unreadable or a missing value, with the file, line and column; scikit-learn is needed and not
        there.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits.X.shape, digits.y.shape, digits.classes[:3]
    ((1797, 64), (1797,), ('0', '1', '2'))
    """
    checks.one_of("task", task, (None, "classification", "regression"))
    if target is not None and (not isinstance(target, str | Integral | PathLike) or isinstance(target, bool)):
        raise TypeError(f"target: expected a name, an index or a path, got {target!r}")
    if header is not None:
        checks.flag("header", header)
    source = checks.path("source", source)
    if source == "digits":
        X, y, features = _digits()
    else:
        X, y, features = _read(Path(source), target, header)
    if len(X) < 2:
        raise ValueError(f"{source}: expected at least 2 examples, got {len(X)}")
    y, classes = _target(str(source), y, task)
    return Dataset(str(source), X, y, classes, features)


def _read(path, target, header):
    """Examples, targets and the names of the features of a file."""
    kind = "idx" if is_idx(path) else path.suffix.lower()
    if kind not in ("idx", ".csv", ".tsv", ".npz", ".npy"):
        raise ValueError(f"{path}: expected 'digits' or a .csv, .tsv, .npz, .npy or IDX file (such as "
                         f"train-images-idx3-ubyte.gz)")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if kind in (".csv", ".tsv"):
        return read_csv(path, -1 if target is None else target, header)
    if kind == ".npz":
        return _read_npz(path, "y" if target is None else target)
    if kind == ".npy" and target is None:
        raise ValueError(f"{path}: target: expected the .npy file of the targets, got none")
    beside = Path(checks.path("target", target)) if target is not None else labels_beside(path)
    if beside == path:
        raise ValueError(f"{path}: target: expected the file of the labels, got none")
    if not beside.is_file():
        raise FileNotFoundError(f"{path}: target: expected the file of the labels, no such file: {beside}")
    if kind == "idx":
        X, y = read_idx(path), read_idx(beside)
    else:
        X, y = _open_npy(path, "r"), _open_npy(beside, None)
    return *_checked(path, X, y), None


def _open_npy(path, mode):
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable .npy file without pickles ({error})") from error


def _checked(path, X, y):
    """Examples as rows and targets, after checking that they go together."""
    if X.dtype.kind not in "fiub" or X.ndim < 2 or X[:1].size == 0:
        raise ValueError(f"{path}: X: expected numbers of shape [N, D], N and D at least 1, got {X.dtype} of shape "
                         f"{X.shape}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != X.shape[:1]:
        raise ValueError(f"{path}: y: expected shape {X.shape[:1]}, got {y.shape}")
    return X.reshape(len(X), -1), y


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the digits come with scikit-learn: pip install scikit-learn") from error
    digits = load_digits()
    return digits.data.astype(np.float64), digits.target, tuple(digits.feature_names)


def _read_npz(path, target):
    try:
        # Opened here: np.load leaves a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            X, y = file["X"], file[target]
    except KeyError as error:
        raise ValueError(f"{path}: expected arrays X and {target}, got {', '.join(file.files) or 'none'}") from error
    except Exception as error:      # zipfile, zlib and NumPy each have their own for a damaged file
        raise ValueError(f"{path}: not a readable .npz file without pickles ({error})") from error
    X, y = _checked(path, X, y)
    X = X.astype(np.float64)
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        raise ValueError(f"{path}: X[{row}, {column}]: expected a finite number, got {X[row, column]}")
    return X, y, None


def _target(name, target, task):
    """Class indices and names, or a column of values."""
    target = np.asarray(target)
    values = target
    if target.dtype.kind == "U" and all(map(is_number, target.tolist())):
        values = target.astype(np.float64)
    numeric = values.dtype.kind in "fiub"
    if numeric and not np.isfinite(values).all():
        raise ValueError(f"{name}: target of example {int(np.argmin(np.isfinite(values)))} is not finite")
    whole = numeric and bool((values == np.floor(values)).all())
    if task == "regression" or (task is None and numeric and not whole):
        if not numeric:
            raise ValueError(f"{name}: a regression needs numbers as targets, got {str(target[0])!r}")
        return values.astype(np.float64)[:, None], None
    if whole and bool((np.abs(values) < 2.0**63).all()):
        values = values.astype(np.int64)    # named 7, not 7.0
    elif target.dtype.kind not in "fiubU":
        raise ValueError(f"{name}: expected numbers or names as targets, got dtype {target.dtype}")
    classes, y = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name}: expected at least 2 classes, got only {classes[0]}")
    return y.astype(np.int64), tuple(map(str, classes.tolist()))
