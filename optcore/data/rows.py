"""Examples that stay where they are, for instance on the disk: read, scaled and converted a batch at a time."""

import numpy as np

from optcore.checks import array, float_dtype, indices
from optcore.data.scaling import Standardizer


class Rows:
    """Rows of an array of any numeric dtype, each in the network's dtype and standardised when it is asked for.

    What `optcore.train.fit` takes in place of an array of examples where those are larger than memory: a batch reads
    its rows, nothing copies the whole.

    Parameters
    ----------
    X : ndarray [N, ...]
        For instance ``np.load(path, mmap_mode="r")``.
    scaler : Standardizer, optional
        Fitted on the training part.
    dtype : {"float32", "float64"}
        The network's.
    rows : array_like of int [n], optional
        The rows that are meant, in this order; all by default.

    Attributes
    ----------
    shape : tuple of int
        Of the examples, (n, ...).
    dtype : numpy.dtype

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.data import Standardizer
    >>> X = np.arange(12, dtype="uint8").reshape(6, 2)
    >>> train = Rows(X, Standardizer().fit(X, rows=np.arange(4)), rows=np.arange(4))
    >>> train.shape, train[np.array([3, 0])][:, 0].round(2)
    ((4, 2), array([ 1.34, -1.34], dtype=float32))
    """

    def __init__(self, X, scaler=None, dtype="float32", rows=None):
        if array("X", X).dtype.kind not in "fiub" or X.ndim < 1:
            raise TypeError(f"X: expected an array of real numbers, got {X.dtype} of shape {X.shape}")
        self.dtype = float_dtype("dtype", dtype)
        if scaler is not None and not isinstance(scaler, Standardizer):
            raise TypeError(f"scaler: expected a Standardizer, got {type(scaler).__name__}")
        if scaler is not None and scaler.mean is None:
            raise ValueError("scaler: expected one that was fitted, got one without statistics")
        self.X, self.scaler, self.rows = X, scaler, indices("rows", rows, len(X))
        self.shape = (len(X) if rows is None else len(rows), *X.shape[1:])
        self.ndim = X.ndim

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        """Return a slice, or the rows of an index array, as a new array in `dtype`."""
        x = self.X[index if self.rows is None else self.rows[index]]
        if self.scaler is not None:
            return self.scaler.transform(x, self.dtype)
        return np.array(x, self.dtype, order="C", subok=False)

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)
