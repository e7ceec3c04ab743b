"""Callbacks that write a run down while it goes on: JSON lines, TensorBoard."""

import contextlib
import importlib
import sys

from optcore import checks
from optcore.history import json_line

__all__ = ["JSONLines", "TensorBoard"]

_WRITERS = ("tensorboardX", "torch.utils.tensorboard")


class JSONLines:
    """Append a line to a file after each step and each epoch: a callback of `fit`.

    The lines are those of `History.write`; each is handed to the operating system at once, so that the file can be
    followed and a run that is killed leaves its lines. At the start the file is written anew: empty, or the lines of
    the run that is resumed, without those that came after its checkpoint.

    Parameters
    ----------
    path : str or path

    Examples
    --------
    >>> import os, tempfile, numpy as np, optcore as oc
    >>> path = os.path.join(tempfile.mkdtemp(), "run.jsonl")
    >>> net = oc.nn.Sequential(oc.nn.Linear(4, 4))
    >>> history = oc.train.fit(net, np.eye(4, dtype="float32"), np.arange(4), epochs=2, progress=False,
    ...                        callbacks=[oc.train.JSONLines(path)])
    >>> with open(path) as lines:
    ...     [line[10:15] for line in lines]
    ['step"', 'epoch', 'step"', 'epoch']
    """

    def __init__(self, path):
        self.path, self.file = checks.path("path", path), None

    def on_start(self, run):
        """Write what is behind, and stay open."""
        run.history.write(self.path)
        self.file = open(self.path, "a", encoding="utf-8")      # noqa: SIM115

    def on_step(self, run):
        """Append the step."""
        self._append(run.history.step_row(-1, run.epoch + 1))

    def on_epoch(self, run):
        """Append the epoch."""
        self._append(run.history.epoch_row(-1))

    def _append(self, row):
        self.file.write(json_line(row))
        self.file.flush()

    def on_end(self, run):
        """Close the file."""
        if self.file is not None:
            self.file.close()
        self.file = None


class TensorBoard:
    """Write a run for TensorBoard: a callback of `fit`.

    Loss, learning rate and gradient norm of every step under "step/", the columns of every epoch under "epoch/". Needs
    tensorboardX or PyTorch with tensorboard (``pip install "optcore[tensorboard]"``); the one that is imported already
    is taken, else the first that is there.

    Parameters
    ----------
    folder : str or path
        One for each run. A run that is resumed goes on in it; what came after its checkpoint is hidden.

    Raises
    ------
    ModuleNotFoundError
        Neither is installed.

    Examples
    --------
    >>> import os, tempfile, numpy as np, optcore as oc
    >>> folder = tempfile.mkdtemp()
    >>> net = oc.nn.Sequential(oc.nn.Linear(4, 4))
    >>> history = oc.train.fit(net, np.eye(4, dtype="float32"), np.arange(4), epochs=2, progress=False,
    ...                        callbacks=[oc.train.TensorBoard(folder)])
    >>> [name.startswith("events.out.tfevents") for name in os.listdir(folder)]
    [True]
    """

    def __init__(self, folder):
        self.folder, self.writer = checks.path("folder", folder), None
        self._open = _summary_writer()

    def on_start(self, run):
        """Open the folder."""
        # The suffix orders files of the same second, which tensorboardX would write under one name.
        self.writer = self._open(self.folder, purge_step=run.step + 1 if run.step else None,
                                 filename_suffix=f".{run.step:09d}")

    def on_step(self, run):
        """Write the step."""
        self._write("step", run.history.step_row(-1, run.epoch + 1), run.step)

    def on_epoch(self, run):
        """Write the epoch, at its last step."""
        self._write("epoch", run.history.epoch_row(-1), run.step)
        self.writer.flush()

    def _write(self, kind, row, step):
        for name, value in row.items():
            if name not in ("kind", "step", "epoch", "steps"):
                self.writer.add_scalar(f"{kind}/{name}", value, step)

    def on_end(self, run):
        """Close the writer."""
        if self.writer is not None:
            self.writer.close()
        self.writer = None


def _summary_writer():
    for name in sorted(_WRITERS, key=lambda name: name not in sys.modules):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name).SummaryWriter
    raise ModuleNotFoundError('TensorBoard needs tensorboardX, or torch with tensorboard: pip install '
                              '"optcore[tensorboard]"')
