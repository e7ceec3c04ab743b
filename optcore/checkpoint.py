"""Checkpoints: nested values and arrays in one safetensors file, written atomically, checked when read.

The file is an ordinary safetensors file: any reader of that format sees the arrays by name. What is not an
array (numbers, names, structure) stands in its metadata as JSON, together with a SHA-256 of the whole
content. The format is an 8-byte length, a JSON header and the raw bytes, so it is read and written here:
arrays are streamed without a copy, every byte is checked, and nothing needs to be installed.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import struct
import uuid

import numpy as np

from optcore import checks

__all__ = ["CheckpointError", "load", "remove_leftovers", "save"]

_FORMAT = "optcore checkpoint 1"
_NO_SUM = "0" * 64          # stands where the checksum goes while the checksum is computed
_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
           "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?", "C64": "c8"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class CheckpointError(ValueError):
    """A file that is not a whole, unchanged checkpoint."""


def save(path, tree, *, previous=None):
    """Write a tree of values and arrays to one file, all or nothing.

    The old file under this name, if any, stays until the new one is complete and on the disk: a temporary
    file in the same folder, fsync, rename, fsync of the folder. A process killed while it writes may leave a
    hidden ``.<name>.<random>.tmp`` behind, never a broken file under the name.

    Parameters
    ----------
    path : str or path
        By convention ending in ``.safetensors``.
    tree : nested dicts, lists and tuples
        Leaves: arrays and NumPy scalars of a dtype that safetensors has, in any memory layout, native byte
        order; int of any size, float, str, bool, None. Keys: str, int, float, bool or None. An optimizer's
        ``state_dict()`` and ``rng.bit_generator.state`` are such trees.
    previous : str or path, optional
        A name in the same folder under which the file that is replaced is kept; one under that name is replaced in
        turn. At any moment what was last saved is there whole, under one name or the other.

    Raises
    ------
    TypeError
        For a leaf or key of another kind, naming its place; nothing has been written.
    OSError
        If the file cannot be written; the old one is as it was.

    Examples
    --------
    >>> import tempfile, os, numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> save(path, {"theta": np.arange(3.0), "epoch": 7})
    >>> load(path)
    {'theta': array([0., 1., 2.]), 'epoch': 7}
    """
    path = os.path.realpath(checks.path("path", path))  # a symbolic link stays a link
    arrays = {}
    tree = json.dumps(_encode(tree, "", arrays), allow_nan=False, separators=(",", ":"))
    # Descending item sizes keep every array aligned in the file.
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = _header(tree, arrays)
    digest = hashlib.sha256(header)
    for a in arrays.values():
        digest.update(_bytes(a))
    header = header.replace(_NO_SUM.encode(), digest.hexdigest().encode(), 1)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for a in arrays.values():
                file.write(_bytes(a))
            file.flush()
            os.fsync(file.fileno())
        if previous is not None:
            _keep(path, os.path.join(folder, os.path.basename(checks.path("previous", previous))), temporary + "~")
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        _remove(temporary + "~")
        raise
    _sync_folder(folder)


def _keep(path, previous, link):
    """Have the file at `path` under the name `previous` too; where there are no links, under that name only."""
    if not os.path.exists(path):
        return
    try:
        os.link(path, link)
    except OSError:
        os.replace(path, previous)
        return
    os.replace(link, previous)
    # A rename does nothing where both are the same file, as after a kill between the two renames.
    _remove(link)


def _remove(path):
    with contextlib.suppress(OSError):
        os.remove(path)


def remove_leftovers(path):
    """Remove what processes that were killed while they wrote this file left: hidden, incomplete, of no use.

    Parameters
    ----------
    path : str or path
        As given to `save`. Nobody must be writing it meanwhile.

    Examples
    --------
    >>> import os, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / f".run.safetensors.{'0' * 32}.tmp").touch()
    >>> remove_leftovers(folder / "run.safetensors")
    >>> os.listdir(folder)
    []
    """
    folder, name = os.path.split(os.path.realpath(checks.path("path", path)))
    left = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{32}}\.tmp~?")
    for file in os.listdir(folder):
        if left.fullmatch(file):
            _remove(os.path.join(folder, file))


def load(path):
    """Read what `save` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    tree
        The same structure, values and bits; arrays are new, C-contiguous and writable.

    Raises
    ------
    CheckpointError
        A ValueError that names the file: truncated, changed, or not a checkpoint of this library.
    FileNotFoundError
        No such file.

    Examples
    --------
    >>> import os, tempfile, numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> save(path, {"theta": np.arange(3.0), "epoch": 7})
    >>> load(path)["theta"]
    array([0., 1., 2.])
    """
    path = checks.path("path", path)
    with open(path, "rb") as file:
        try:
            return _read(file)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            detail = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{path}: not a whole, unchanged checkpoint: {detail}") from error


def _read(file):
    """Check every byte of an open file, then build the tree."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= size - 8:
        raise ValueError(f"{size} bytes are truncated or of another format")
    raw = file.read(length)
    header = json.loads(raw, object_pairs_hook=_unique)
    meta = header.pop("__metadata__", {})
    if meta.get("format") != _FORMAT:
        raise ValueError(f"expected the format {_FORMAT!r}, got {meta.get('format')!r}")
    digest = hashlib.sha256(raw.replace(meta["sha256"].encode(), _NO_SUM.encode(), 1))
    arrays = {}
    for name, (dtype, shape) in _spans(header, size - 8 - length).items():
        a = np.empty(shape, dtype)
        if file.readinto(_bytes(a)) != a.nbytes:
            raise ValueError(f"truncated inside {name!r}")
        digest.update(_bytes(a))
        arrays[name] = a.astype(dtype.newbyteorder("="), copy=False)
    if digest.hexdigest() != meta["sha256"]:
        raise ValueError("the checksum does not match: damaged or changed")
    return _decode(json.loads(meta["tree"]), arrays)


def _header(tree, arrays):
    """The JSON header as bytes, with a blank checksum, padded to a multiple of 8."""
    entries = {"__metadata__": {"format": _FORMAT, "sha256": _NO_SUM, "tree": tree}}
    offset = 0
    for name, a in arrays.items():
        entries[name] = {"dtype": _NAMES[a.dtype], "shape": list(a.shape),
                         "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def _spans(header, size):
    """Name -> (little-endian dtype, shape) in the order of the data, which they must fill without a gap."""
    spans, offset = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = np.dtype("<" + _DTYPES[entry["dtype"]]), tuple(entry["shape"])
        end = offset + dtype.itemsize * math.prod(shape)
        if entry["data_offsets"] != [offset, end] or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"{name!r} does not fill its place")
        spans[name], offset = (dtype, shape), end
    if offset != size:
        raise ValueError(f"expected {offset} bytes of data, got {size}{': truncated' * (size < offset)}")
    return spans


def _unique(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _bytes(a):
    """The memory of a contiguous array; reshape and view see 0-d and empty arrays alike."""
    return memoryview(a.reshape(-1).view(np.uint8))


def _sync_folder(folder):
    """Make the rename itself durable, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# JSON has no arrays, tuples, non-finite floats or keys other than strings: each becomes an object with one
# key that starts with "$", and a dict that has such a key of its own is written as a list of pairs.

def _encode(x, place, arrays):
    """Return x as JSON values; arrays go to `arrays` under their place in the tree."""
    if x is None or type(x) in (bool, int, str):
        return x
    if type(x) is float:
        return x if math.isfinite(x) else {"$float": struct.pack(">d", x).hex()}
    if isinstance(x, np.ndarray | np.generic):
        return {"$array" if isinstance(x, np.ndarray) else "$scalar": _store(x, place, arrays)}
    if isinstance(x, dict):
        if all(type(k) is str and not k.startswith("$") for k in x):
            return {k: _encode(v, f"{place}/{k}", arrays) for k, v in x.items()}
        return {"$dict": [[_encode_key(k, place), _encode(v, f"{place}/{k}", arrays)] for k, v in x.items()]}
    if isinstance(x, list | tuple):
        items = [_encode(v, f"{place}/{i}", arrays) for i, v in enumerate(x)]
        return items if isinstance(x, list) else {"$tuple": items}
    raise TypeError(f"tree{place}: expected an array, number, str, bool, None, dict, list or tuple, "
                    f"got {type(x).__name__}")


def _encode_key(key, place):
    if key is None or type(key) in (bool, int, str, float):
        return _encode(key, place, {})
    raise TypeError(f"tree{place}: expected str, int, float, bool or None as keys, got {type(key).__name__}")


def _store(x, place, arrays):
    if isinstance(x, np.ma.MaskedArray) or x.dtype not in _NAMES:
        kind = "masked" if isinstance(x, np.ma.MaskedArray) else x.dtype.str
        raise TypeError(f"tree{place}: expected a plain array of native byte order and a dtype of "
                        f"{', '.join(map(str, _NAMES))}; got {kind}")
    name = place.lstrip("/") or "array"
    while name in arrays or name == "__metadata__":
        name += "'"
    arrays[name] = np.asarray(x, dtype=x.dtype.newbyteorder("<"), order="C")
    return name


def _decode(x, arrays):
    if isinstance(x, list):
        return [_decode(v, arrays) for v in x]
    if not isinstance(x, dict):
        return x
    if len(x) == 1:
        (kind, value), = x.items()
        if kind == "$array":
            return arrays[value]
        if kind == "$scalar":
            return arrays[value][()]
        if kind == "$float":
            return struct.unpack(">d", bytes.fromhex(value))[0]
        if kind == "$tuple":
            return tuple(_decode(value, arrays))
        if kind == "$dict":
            return {_decode(k, arrays): _decode(v, arrays) for k, v in value}
    return {k: _decode(v, arrays) for k, v in x.items()}
