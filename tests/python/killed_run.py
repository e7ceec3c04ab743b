"""A training run that remembers all that a run can, saved after every step; a child process that is killed.

``killed_run.py PATH [CALL N]`` continues the run saved at PATH, or begins it, prints each finished step, and at the end
a hash of everything that must be the same. With CALL, one of `CALLS`, it kills itself before the N-th call of that
name.
"""

import builtins
import hashlib
import json
import os
import signal
import sys

import numpy as np

import optcore as oc
from optcore.train import EarlyStopping, fit

CALLS = ("open", "fsync", "link", "replace")


def problem():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 6)).astype("float32")
    return X, (X[:, 0] * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 0.5)


class Tick:
    def on_step(self, run):
        print(run.step, flush=True)


def train(path=None, resume=None):
    """Train; return a hash of the end of the run."""
    X, y = problem()
    nn = oc.nn
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3), seed=1)
    plateau = oc.schedules.ReduceOnPlateau(0.02, factor=0.5, patience=1, threshold=0.05)
    opt = oc.optim.MultiSteps(oc.optim.AdamW(net.theta, lr=plateau), 2)
    stop = EarlyStopping(patience=4, min_delta=0.01)
    callbacks = [plateau.watch(), stop] + [Tick()] * (path is not None)
    history = fit(net, X, y, optimizer=opt, epochs=14, batch_size=10, validation=0.3, seed=5, progress=False,
                  callbacks=callbacks, checkpoint=path, resume=resume, checkpoint_steps=1)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows()]
    end = [rows, plateau.state_dict(), stop.best, stop.best_epoch, stop.bad_epochs]
    sha = hashlib.sha256(json.dumps(end).encode())
    state = opt.state_dict()
    for a in (net.theta, *net.buffers.values(), stop.weights["theta"], *arrays(state)):
        sha.update(a.tobytes())
    return sha.hexdigest()


def arrays(tree):
    """The arrays of a nested state."""
    if isinstance(tree, np.ndarray):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ():
        yield from arrays(value)


def kill_at(call, n):
    """Have the process die at the n-th call of a function that `save` uses."""
    module, name = (builtins, "open") if call == "open" else (os, call)
    real, calls = getattr(module, name), [0]

    def wrapped(*a, **k):
        calls[0] += call != "open" or (len(a) > 1 and a[1] == "xb")
        if calls[0] == n:
            if call == "open":      # and leave half of what was to be written
                real(*a, **k).write(b"\x10\0\0")
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*a, **k)

    setattr(module, name, wrapped)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        kill_at(sys.argv[2], int(sys.argv[3]))
    saved = os.path.exists(sys.argv[1])
    print("end", train(sys.argv[1], sys.argv[1] if saved else None), flush=True)
