"""Mini-batches and a held-out part: index arrays, drawn from a stream that is the same with every NumPy."""

import itertools
import math

import numpy as np

from optcore.checks import array, flag, integer, number


def batches(n, batch_size=None, shuffle=True, rng=None, drop_last=False, *, smallest=1, rows=None):
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
    rows : ndarray, int64 [n], optional
        What is batched in place of 0 to n-1: the indices of a part.

    Returns
    -------
    iterator of ndarray, int64 [batch]
        Every index from 0 to n-1 exactly once (``drop_last`` aside).

    Raises
    ------
    TypeError, ValueError
        At the call, not at the first batch.

    Notes
    -----
    The order is that of n raw numbers of the generator's bit generator, ``argsort(rng.bit_generator.random_raw(n))``:
    PCG64 for ``numpy.random.default_rng``. The same seed gives the same order with every version of NumPy.

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
    if flag("shuffle", shuffle):
        _generator(rng)
    if rows is not None and (array("rows", rows).dtype != np.int64 or rows.shape != (n,)):
        raise ValueError(f"rows: expected int64 of shape ({n},), got {rows.dtype} of shape {rows.shape}")
    order = shuffled(n, rng) if shuffle and size < n else np.arange(n, dtype=np.int64)
    order = order if rows is None else rows[order]
    stop = n - n % size if flag("drop_last", drop_last) else n
    edges = [*range(0, stop, size), stop]
    if len(edges) > 2 and edges[-1] - edges[-2] < smallest:
        del edges[-2]
    return (order[i:j] for i, j in itertools.pairwise(edges))


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
    _generator(rng)
    labels = np.zeros(n, dtype=np.int64) if labels is None else np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels: expected shape ({n},), got {labels.shape}")
    total = min(max(round(n * fraction), 1), n - 1)
    _, code, count = np.unique(labels, return_inverse=True, return_counts=True)
    share = count * (total / n)
    take = np.floor(share).astype(np.int64)
    take[np.argsort(take - share, kind="stable")[:total - take.sum()]] += 1
    order = shuffled(n, rng)
    order = order[np.argsort(code[order], kind="stable")]           # by class, in random order inside a class
    begin = np.concatenate([[0], np.cumsum(count)[:-1]])
    held = np.concatenate([order[b:b + t] for b, t in zip(begin, take, strict=True)])
    mask = np.zeros(n, dtype=bool)
    mask[held] = True
    return np.flatnonzero(~mask).astype(np.int64), np.flatnonzero(mask).astype(np.int64)


def shuffled(n, rng):
    """Return 0 to n-1 in a random order: the ranks of n raw numbers of the bit generator.

    Parameters
    ----------
    n : int
    rng : numpy.random.Generator
        It is advanced by n numbers.

    Returns
    -------
    ndarray, int64 [n]

    Notes
    -----
    NumPy keeps a bit generator's raw numbers the same from version to version, not what ``Generator.permutation`` makes
    of them. Two that are alike, by chance n^2/2^65 with 64-bit numbers such as PCG64's, keep their order.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(shuffled(4, np.random.default_rng(0)).tolist())
    [0, 1, 2, 3]
    """
    raw = _generator(rng).bit_generator.random_raw(integer("n", n, 0))
    order = np.argsort(raw)             # six times as fast as a stable sort, which is needed only for ties
    ranked = raw[order]
    if (ranked[1:] == ranked[:-1]).any():
        order = np.argsort(raw, kind="stable")
    return order.astype(np.int64, copy=False)


def _generator(rng):
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: expected a numpy.random.Generator, got {type(rng).__name__}")
    return rng
