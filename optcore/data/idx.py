"""IDX, the format of MNIST: big-endian arrays behind a small header, plain or compressed by gzip."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(path):
    """Whether a name says IDX: ``train-images-idx3-ubyte``, ``x.idx1-ubyte``, ``x.idx``, each with or without .gz."""
    name = Path(path).name.lower().removesuffix(".gz")
    return name.endswith(".idx") or any(f"{mark}idx{n}-" in name for mark in ".-" for n in range(1, 10))


def read_idx(path):
    """Read an IDX file.

    Parameters
    ----------
    path : str or path
        Compressed where it ends in ``.gz``.

    Returns
    -------
    ndarray
        Of the file's dtype, native byte order.

    Raises
    ------
    ValueError
        Not an IDX file, or not a whole one; the message names it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.idx1-ubyte"
    >>> path.write_bytes(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 5, 0, 4]))    # unsigned bytes, one axis, of length 3
    11
    >>> read_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    opened = gzip.open if str(path).lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            raw = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _DTYPES:
        raise ValueError(f"{path}: not an IDX file: expected 0, 0 and a type of {', '.join(map(hex, _DTYPES))} as its "
                         f"first bytes, got {raw[:3].hex(' ')}")
    dtype, start = np.dtype(_DTYPES[raw[2]]), 4 + 4 * raw[3]
    shape = tuple(int.from_bytes(raw[i:i + 4], "big") for i in range(4, min(start, len(raw)), 4))
    size = start + dtype.itemsize * math.prod(shape)
    if raw[3] == 0 or len(raw) != size:
        raise ValueError(f"{path}: expected {size:,} bytes for shape {list(shape)}, got {len(raw):,}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def labels_beside(path):
    """The name of the labels of MNIST's images: ``train-labels-idx1-ubyte.gz`` for ``train-images-idx3-ubyte.gz``."""
    path = Path(path)
    name = path.name.replace("images", "labels")
    for n in "3", "2", "4":
        name = name.replace(f"idx{n}-", "idx1-")
    return path.with_name(name)
