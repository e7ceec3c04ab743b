"""A run as a checkpoint holds it: what is read back, and what must be the same when it goes on."""

import os
import warnings
import zlib

import numpy as np

from optcore import checkpoint
from optcore.history import History

_PIECE = 2**22      # bytes


class Checkpoints:
    """The file that a run is saved to, and the one before it.

    Parameters
    ----------
    path : str or path
    resumed : str, optional
        The file from which the run goes on.
    """

    def __init__(self, path, resumed=None):
        self.path, self.previous = os.fspath(path), previous(path)
        self.is_whole = _same(resumed, self.path)       # what may be damaged takes no one's place
        self.is_ours = self.is_whole or _same(resumed, self.previous)
        checkpoint.remove_leftovers(path)

    def save(self, state):
        """Write the state; the file that it replaces becomes the one before it."""
        if not self.is_ours and os.path.exists(self.previous):
            os.remove(self.previous)
        checkpoint.save(self.path, state, previous=self.previous if self.is_whole else None)
        self.is_ours = self.is_whole = True


def previous(path):
    """Return the name of the checkpoint before the one at a path.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    str

    Examples
    --------
    >>> previous("run.safetensors")
    'run.previous.safetensors'
    """
    root, ending = os.path.splitext(os.fspath(path))
    return f"{root}.previous{ending}"


def _same(a, b):
    return a is not None and os.path.exists(b) and os.path.samefile(a, b)


def load_state(path):
    """Read the checkpoint of a training run; where it is damaged or gone, the one before it, with a warning.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict

    Raises
    ------
    CheckpointError
        A ValueError that names the file: neither is a whole, unchanged checkpoint.
    ValueError
        A checkpoint of something else.
    OSError
        There is no such file, or it cannot be read.

    Examples
    --------
    >>> import os, tempfile, numpy as np, optcore as oc
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> net = oc.nn.Sequential(oc.nn.Linear(4, 4))
    >>> history = oc.train.fit(net, np.eye(4, dtype="float32"), np.arange(4), epochs=3, checkpoint=path, progress=False)
    >>> state = load_state(path)
    >>> state["epoch"], bool((state["theta"] == net.theta).all())
    (3, True)
    """
    return find_state(path)[0]


def find_state(path):
    """As `load_state`; return the state and the file from which it came."""
    path, before = os.fspath(path), previous(path)
    try:
        return _state(path), path
    except (checkpoint.CheckpointError, OSError) as error:
        if not os.path.isfile(before):
            raise
        try:
            state = _state(before)
        except ValueError as second:
            raise checkpoint.CheckpointError(f"{error}; nor is the one before it: {second}") from error
        warnings.warn(f"{error}; taking the one before it, {before}, of step {state['step']}", stacklevel=3)
        return state, before


def _state(path):
    state = checkpoint.load(path)
    kinds = {"settings": dict, "theta": np.ndarray, "buffers": dict, "optimizer": dict, "epoch": int, "batch": int,
             "step": int, "rng": dict, "seconds": float, "history": dict,
             "memories": list}
    keys = state if isinstance(state, dict) else {}
    wrong = [k for k, kind in kinds.items() if not isinstance(keys.get(k), kind)]
    wrong += [k for k in ("epoch", "batch", "step") if k not in wrong and keys[k] < 0]
    if "history" not in wrong and not _is_history(keys["history"], keys.get("epoch"), keys.get("step")):
        wrong.append("history")
    if wrong:
        raise ValueError(f"{path} is not the checkpoint of a training run: without a valid {', '.join(wrong)}")
    return state


def _is_history(state, epochs, steps):
    """Whether these are the tables that `History.state_dict` returns for so many epochs and steps."""
    if not isinstance(state.get("interrupted"), bool):
        return False
    for name, rows in (("epochs", epochs), ("steps", steps)):
        table = state.get(name)
        if not isinstance(table, dict) or not set(getattr(History(), name)) <= set(table):
            return False
        if any(not isinstance(a, np.ndarray) or a.shape != (rows,) for a in table.values()):
            return False
    return True


def check_fit(state, net, path):
    """Raise unless parameters and buffers of a saved state have the names, dtypes and shapes of a network's.

    Parameters
    ----------
    state : dict
        As `load_state` returns it.
    net : optcore.nn.Sequential
    path : str
        Of the checkpoint, for the error.

    Raises
    ------
    ValueError
        They have not; the message lists both.

    Examples
    --------
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(2, 1))
    >>> check_fit({"theta": net.theta, "buffers": {}}, net, "run.safetensors")
    >>> check_fit({"theta": net.theta[1:], "buffers": {}}, net, "a")
    Traceback (most recent call last):
        ...
    ValueError: a: expected the arrays of this network, {'theta': 'float32 [3]'}, got {'theta': 'float32 [2]'}
    """
    def kinds(theta, buffers):
        return {k: f"{getattr(a, 'dtype', type(a).__name__)} {list(np.shape(a))}"
                for k, a in {"theta": theta, **buffers}.items()}

    there, here = kinds(state["theta"], state["buffers"]), kinds(net.theta, net.buffers)
    if there != here:
        raise ValueError(f"{path}: expected the arrays of this network, {here}, got {there}")


def fingerprint(X, y, *more):
    """Return a checksum of the data, taken a piece at a time: CRC-32 of the bytes.

    Parameters
    ----------
    X, y : ndarray [N, ...]
        May be memory-mapped; X may be `optcore.data.Rows`.
    *more : ndarray or None
        What else makes up the data: which rows are meant, weights.

    Returns
    -------
    int

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.zeros((3, 2)), np.arange(3)
    >>> fingerprint(X, y) == fingerprint(X.copy(), y), fingerprint(X, y) == fingerprint(X + 1, y)
    (True, False)
    """
    crc = 0
    for a in (X, y, *(a for a in more if a is not None)):
        step = max(1, _PIECE // max(1, a[:1].nbytes))
        for i in range(0, len(a), step):
            crc = zlib.crc32(memoryview(np.ascontiguousarray(a[i:i + step]).reshape(-1).view(np.uint8)), crc)
    return crc


def layers(program):
    """Each operation as text: what it computes and on which shapes, not how its parameters began."""
    return {f"layer {op.label}": f"{op.name} {list(op.in_shape)} -> {list(op.out_shape)}"
            + "".join(f", {k} {v!r}" for k, v in sorted(op.options.items()) if k != "program")
            for op in program.every_op()}
