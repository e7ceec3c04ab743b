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
    """The name of the checkpoint before the one at `path`: "run.previous.safetensors" for "run.safetensors"."""
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
    """Raise a ValueError unless parameters and buffers of a saved state are those of this network."""
    def kinds(theta, buffers):
        return {k: f"{getattr(a, 'dtype', type(a).__name__)} {list(np.shape(a))}"
                for k, a in {"theta": theta, **buffers}.items()}

    there, here = kinds(state["theta"], state["buffers"]), kinds(net.theta, net.buffers)
    if there != here:
        raise ValueError(f"{path}: expected the arrays of this network, {here}, got {there}")


def fingerprint(X, y, *more):
    """A checksum of the data, a piece of it at a time: of all of X and y, of which rows are meant, and of weights."""
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
