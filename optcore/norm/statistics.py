"""Statistics that can be merged: the count, the mean and the sum of squared deviations of each channel."""

import numpy as np

from optcore._native import norm as _norm
from optcore._native.norm_arrays import float_array

__all__ = ["Moments", "moments"]


class Moments:
    """Count, mean and sum of squared deviations of each channel, of values that need not be in memory any more.

    Two of them are joined as blocks and threads are inside `batch_norm` (Chan, Golub and LeVeque 1979), with the mean
    carried beyond its own rounding: parts whose means differ by less than a unit in the last place lose nothing.

    Parameters
    ----------
    count : int, at least 0, below 2**63
        Number of values of each channel; with 0, the others are not looked at.
    mean : ndarray of float64, shape [C]
    m2 : ndarray of float64, shape [C]
        The sum of (x - mean)^2.
    mean_rest : ndarray of float64, shape [C], optional
        What rounding the mean to float64 lost; zeros where None.

    Attributes
    ----------
    count, mean, m2, mean_rest
        As given. They may be sent or saved: ``Moments(count, mean, m2, mean_rest)`` is the same again.

    Raises
    ------
    TypeError, ValueError
        A count that is no integer or negative; arrays that are not float64 of one shape [C]; a negative m2.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import moments
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> whole = moments(x[:4]).merge(moments(x[4:]))
    >>> whole.count, whole.mean, whole.var(unbiased=True)
    (6, array([5., 6.]), array([14., 14.]))
    """

    __slots__ = ("count", "m2", "mean", "mean_rest")

    def __init__(self, count, mean, m2, mean_rest=None):
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool):
            raise TypeError(f"count: expected an integer, got {type(count).__name__}")
        if not 0 <= count < 2**63:
            raise ValueError(f"count: expected 0 <= count < 2**63, got {count}")
        arrays = {"mean": mean, "m2": m2, "mean_rest": np.zeros_like(mean) if mean_rest is None else mean_rest}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                raise TypeError(f"{name}: expected an array of float64, got {getattr(array, 'dtype', type(array))}")
            float_array(array, name)
            if array.ndim != 1 or array.shape != np.shape(mean):
                raise ValueError(f"{name}: expected one value per channel, as mean has, got shape {array.shape}")
        if count and np.any(m2 < 0):
            raise ValueError(f"m2: expected sums of squares, at least 0, got {m2.min()}")
        self.count = int(count)
        for name, array in arrays.items():
            setattr(self, name, array)

    def __repr__(self):
        return f"Moments(count={self.count}, channels={self.mean.size})"

    def merge(self, other):
        """Return the moments of both parts together; neither changes.

        mean = mean_a + delta*n_b/n, m2 = m2_a + m2_b + delta^2*n_a*n_b/n, delta = mean_b - mean_a, n = n_a + n_b.

        Parameters
        ----------
        other : Moments
            Of as many channels. The result depends on the order of the merges, in the last bits only.

        Returns
        -------
        Moments

        Raises
        ------
        TypeError, ValueError
            `other` is no Moments, or of another number of channels.

        Examples
        --------
        >>> import numpy as np
        >>> from optcore.norm import moments
        >>> a, b = moments(np.array([[1.0], [3.0]])), moments(np.array([[8.0]]))
        >>> a.merge(b).mean, a.merge(b).m2
        (array([4.]), array([26.]))
        """
        if not isinstance(other, Moments):
            raise TypeError(f"other: expected Moments, got {type(other).__name__}")
        if other.mean.size != self.mean.size:
            raise ValueError(f"other: expected {self.mean.size} channels, got {other.mean.size}")
        if not self.count or not other.count:
            return self if self.count else other
        mean, mean_rest, m2 = _norm.merge(self.count, self.mean, self.mean_rest, self.m2,
                                          other.count, other.mean, other.mean_rest, other.m2)
        return Moments(self.count + other.count, mean, m2, mean_rest)

    def var(self, unbiased=False):
        """Return the variance of each channel, m2/n or the unbiased m2/(n - 1).

        Parameters
        ----------
        unbiased : bool

        Returns
        -------
        ndarray of float64, shape [C]

        Raises
        ------
        ValueError
            Fewer values than it takes: 1, or 2 for the unbiased one.

        Examples
        --------
        >>> import numpy as np
        >>> from optcore.norm import moments
        >>> both = moments(np.array([[1.0], [3.0]]))
        >>> both.var(), both.var(unbiased=True)
        (array([1.]), array([2.]))
        """
        if self.count < 1 + bool(unbiased):
            raise ValueError(f"count: expected at least {1 + bool(unbiased)} values per channel, got {self.count}")
        return self.m2 / (self.count - bool(unbiased))


def moments(x, channel_axis=1):
    """Count, mean and sum of squared deviations of each channel of x, exact as those of `batch_norm`.

    Parameters
    ----------
    x : ndarray of float32, float64 or bfloat16, at least 2 dimensions, C-contiguous
        (N, C) or (N, C, ...) with ``channel_axis=1``, (..., C) with ``channel_axis=-1``. May be empty.
    channel_axis : {1, -1}
        Where the channels are.

    Returns
    -------
    Moments

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.norm import moments
    >>> m = moments(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> m.mean, m.m2
    (array([ 2., 20.]), array([  2., 200.]))
    """
    count, mean, mean_rest, m2 = _norm.moments(x, channel_axis)
    return Moments(count, mean, m2, mean_rest)
