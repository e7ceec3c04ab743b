"""Standardisation: every column to mean 0 and standard deviation 1."""

import math

import numpy as np

from optcore.checks import flag
from optcore.norm import Moments, moments

_ROWS, _NUMBERS = 4096, 2**19       # at most, in double at a time; fixed, so that there is one summation order


class Standardizer:
    """Shift and scale columns to mean 0 and standard deviation 1 (z-score), with the statistics of the training part.

    Parameters
    ----------
    per_column : bool
        Statistics for each column; False: one mean and one deviation for all numbers, as fits pixels.

    Attributes
    ----------
    mean, std : ndarray, float64 [...] or None
        Of a row's shape, or of shape () for all numbers: the means and the deviations sqrt(sum (x - mean)^2 / N). None
        before `fit`.

    Notes
    -----
    `fit` reads the data once, a few thousand rows at a time, whose `Moments` are merged in double (Chan, Golub and
    LeVeque 1979): exactly 0 for a constant column, no cancellation where the mean is large against the deviation, no
    copy of the whole. A deviation of 0 divides by 1: a constant column becomes 0.

    Examples
    --------
    >>> import numpy as np
    >>> scaler = Standardizer().fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> scaler.transform(np.array([[5.0, 7.0]])).tolist()
    [[3.0, 0.0]]
    >>> scaler.inverse(np.array([[3.0, 0.0]])).tolist()
    [[5.0, 7.0]]
    """

    def __init__(self, per_column=True):
        self.per_column = flag("per_column", per_column)
        self.mean = self.std = None

    def fit(self, X, rows=None):
        """Take the statistics of X, or of some of its rows.

        Parameters
        ----------
        X : array [N, ...]
            Numbers; may be memory-mapped.
        rows : ndarray of int, optional
            The training part; all by default.

        Returns
        -------
        Standardizer
            Itself.

        Raises
        ------
        TypeError, ValueError
            X is not real numbers, has no row, or holds NaN or infinity, which the message says where.
        """
        X = real_array("X", X)
        n = len(X) if rows is None else len(rows)
        if n == 0:
            raise ValueError(f"X: expected at least one row, got shape {X.shape}")
        columns = max(1, math.prod(X.shape[1:])) if self.per_column else 1
        whole = Moments(0, np.zeros(columns), np.zeros(columns))
        with np.errstate(over="ignore", invalid="ignore"):      # reported below, with the column
            for i in range(0, n, step := _piece(X)):
                piece = X[i:i + step] if rows is None else X[rows[i:i + step]]
                whole = whole.merge(moments(np.ascontiguousarray(piece, np.float64).reshape(-1, columns)))
            shape = X.shape[1:] if self.per_column else ()
            mean, variance = whole.mean.reshape(shape), whole.var().reshape(shape)
            bad = ~np.isfinite(mean + variance)
        if bad.any():
            where = f" in column {np.argwhere(bad)[0].tolist()}" if self.per_column else ""
            raise ValueError(f"X: expected finite values, got NaN, infinity or overflow{where}")
        self.mean, self.std = mean, np.sqrt(variance)
        return self

    def transform(self, X, dtype=None):
        """Return the standardised rows.

        Parameters
        ----------
        X : array [N, ...]
        dtype : dtype, optional
            Of the result; by default X's if that is float32 or float64, else float64.

        Returns
        -------
        ndarray [N, ...]
            New; computed in double, a few thousand rows at a time.
        """
        divisor = np.where(self._fitted(X).std > 0.0, self.std, 1.0)
        return _piecewise(X, dtype, lambda x: (x - self.mean) / divisor)

    def inverse(self, Z, dtype=None):
        """Return the rows that `transform` made Z of, up to rounding.

        Parameters
        ----------
        Z : array [N, ...]
        dtype : dtype, optional
            Of the result; by default Z's if that is float32 or float64, else float64.

        Returns
        -------
        ndarray [N, ...]
            New; computed in double, a few thousand rows at a time.
        """
        divisor = np.where(self._fitted(Z).std > 0.0, self.std, 1.0)
        return _piecewise(Z, dtype, lambda z: z * divisor + self.mean)

    def _fitted(self, X):
        if self.mean is None:
            raise ValueError("Standardizer: expected one that was fitted, got one without statistics")
        X = real_array("X", X)
        if self.per_column and X.shape[1:] != self.mean.shape:
            raise ValueError(f"X: expected rows of shape {self.mean.shape}, got {X.shape[1:]}")
        return self

    def state_dict(self):
        """Return mean and deviation.

        Returns
        -------
        dict
            What `load_state_dict` and ``oc.checkpoint.save`` take.
        """
        return {"per_column": self.per_column, "mean": self.mean, "std": self.std}

    def load_state_dict(self, state):
        """Take over what `state_dict` returned.

        Parameters
        ----------
        state : dict

        Raises
        ------
        TypeError, ValueError
            Something else; nothing has been changed.
        """
        if not isinstance(state, dict) or set(state) != {"per_column", "mean", "std"}:
            raise ValueError("state: expected per_column, mean and std, as state_dict returns them")
        flag("state['per_column']", state["per_column"])
        if state["mean"] is not None or state["std"] is not None:
            for name in ("mean", "std"):
                like_row(name, state[name], np.shape(state["mean"]))
        self.per_column, self.mean, self.std = state["per_column"], state["mean"], state["std"]


def standardize(X, mean=None, std=None):
    """Shift and scale every column to mean 0 and standard deviation 1: `Standardizer` in one call.

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
        As given, or those of the columns.

    Raises
    ------
    TypeError, ValueError
        X is not real numbers or, when fitted, holds NaN or infinity; mean or std has not the shape of a row.

    Examples
    --------
    >>> import numpy as np
    >>> Z, mean, std = standardize(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> Z.tolist(), mean.tolist(), std.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [2.0, 7.0], [1.0, 0.0])
    """
    X = real_array("X", X)
    if (mean is None) != (std is None):
        raise ValueError(f"{'mean' if mean is None else 'std'}: expected as the other is given, got None")
    scaler = Standardizer()
    if mean is None:
        scaler.fit(X)
    else:
        scaler.mean, scaler.std = (like_row(name, a, X.shape[1:]) for name, a in (("mean", mean), ("std", std)))
    return scaler.transform(X), scaler.mean, scaler.std


def _piecewise(X, dtype, function):
    X = np.asarray(X)
    Z = np.empty(X.shape, dtype or (X.dtype if X.dtype in (np.float32, np.float64) else np.float64))
    for i in range(0, len(X), step := _piece(X)):
        Z[i:i + step] = function(X[i:i + step].astype(np.float64))
    return Z


def _piece(X):
    """How many rows are taken at a time."""
    return max(1, min(_ROWS, _NUMBERS // max(1, math.prod(X.shape[1:]))))


def like_row(name, a, shape):
    """Return a as float64 after checking that it is finite, of this shape, and no deviation is negative."""
    a = np.asarray(real_array(name, a), dtype=np.float64)
    if a.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {a.shape}")
    if not np.isfinite(a).all() or (name == "std" and (a < 0).any()):
        raise ValueError(f"{name}: expected finite values{' >= 0' if name == 'std' else ''}, got {a}")
    return a


def real_array(name, a):
    """Return a as an array after checking that it holds real numbers."""
    a = np.asarray(a)
    if a.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {a.dtype}")
    if name == "X" and a.ndim < 1:
        raise ValueError("X: expected at least 1 dimension, got a scalar")
    return a
