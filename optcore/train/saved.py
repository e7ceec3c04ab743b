"""A run as a checkpoint holds it: what is read back, and what must be the same when it goes on."""

import os
import zlib

import numpy as np

from optcore import checkpoint
from optcore.history import History

_PIECE = 2**22      # bytes


def load_state(path):
    """Read the checkpoint of a training run; a ValueError says where it is something else."""
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
        raise ValueError(f"{os.fspath(path)} is not the checkpoint of a training run: without a valid "
                         f"{', '.join(wrong)}")
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


def fingerprint(X, y, rows=None):
    """A checksum of the data, a piece of it at a time: of all of X and y, and of which rows are meant."""
    crc = 0
    for a in (X, y) if rows is None else (X, y, rows):
        step = max(1, _PIECE // max(1, a[:1].nbytes))
        for i in range(0, len(a), step):
            crc = zlib.crc32(memoryview(np.ascontiguousarray(a[i:i + step]).reshape(-1).view(np.uint8)), crc)
    return crc


def layers(program):
    """Each operation as text: what it computes and on which shapes, not how its parameters began."""
    return {f"layer {op.label}": f"{op.name} {list(op.in_shape)} -> {list(op.out_shape)}"
            + "".join(f", {k} {v!r}" for k, v in sorted(op.options.items()) if k != "program")
            for op in program.every_op()}
