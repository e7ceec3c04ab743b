"""The record of a training run: one row a step, one row an epoch."""

import json
import math

import numpy as np

from optcore._native import reduce

__all__ = ["History"]


class History:
    """What happened in a training run.

    Parameters
    ----------
    validation, accuracy : bool
        Whether the epochs have a validation, and whether it has an accuracy.

    Attributes
    ----------
    steps : dict of str to list
        ``loss`` (of the batch, before the step), ``lr`` (of the first parameter group), ``grad_norm`` (2-norm
        over all parameters, before clipping), ``examples`` (in the batch).
    epochs : dict of str to list
        ``loss`` (mean over the epoch's examples, each at the parameters it met), ``lr`` (of the last step),
        ``grad_norm`` (root mean square over the steps), ``steps`` (taken so far), ``seconds``; with
        validation ``validation_loss`` and, for classes, ``validation_accuracy``.
    interrupted : bool
        The run was ended by Ctrl-C.

    Examples
    --------
    >>> history = History()
    >>> history.add_step(loss=0.5, lr=0.1, grad_norm=2.0, examples=3)
    >>> history.add_step(loss=0.1, lr=0.1, grad_norm=0.0, examples=1)
    >>> history.add_epoch(2, seconds=0.5)
    >>> history.epochs["loss"]
    [0.4]
    >>> history
    History(1 epoch, 2 steps, loss 0.4)
    """

    def __init__(self, validation=False, accuracy=False):
        self.steps = {"loss": [], "lr": [], "grad_norm": [], "examples": []}
        self.epochs = {"loss": [], "lr": [], "grad_norm": [], "steps": [], "seconds": []}
        if validation:
            self.epochs["validation_loss"] = []
            if accuracy:
                self.epochs["validation_accuracy"] = []
        self.interrupted = False

    def add_step(self, **row):
        """Append a row to `steps`.

        Parameters
        ----------
        **row
            A number for each column.
        """
        for name, values in self.steps.items():
            values.append(row[name])

    def add_epoch(self, n, **row):
        """Append a row to `epochs`.

        Parameters
        ----------
        n : int
            The epoch's steps, the last of `steps`: from them come loss, rate, gradient norm and number.
        **row
            The other columns.
        """
        loss, norm, examples = (self.steps[k][-n:] for k in ("loss", "grad_norm", "examples"))
        row |= {
            "loss": sum(v * k for v, k in zip(loss, examples, strict=True)) / sum(examples),
            "lr": self.steps["lr"][-1],
            "grad_norm": reduce.norm(np.array(norm)) / math.sqrt(n),
            "steps": len(self.steps["loss"]),
        }
        for name, values in self.epochs.items():
            values.append(row[name])

    def rows(self):
        """Yield every row in the order in which it was written.

        Yields
        ------
        dict
            ``kind``, which is "step" or "epoch", and the columns.
        """
        begin, steps = 0, len(self.steps["loss"])
        for e in range(len(self.epochs["loss"])):
            end = self.epochs["steps"][e]
            yield from (self.step_row(i, e + 1) for i in range(begin, end))
            yield self.epoch_row(e)
            begin = end
        yield from (self.step_row(i, len(self.epochs["loss"]) + 1) for i in range(begin, steps))

    def step_row(self, i, epoch):
        """Return a step.

        Parameters
        ----------
        i : int
            Its index, -1 for the last.
        epoch : int
            The epoch that it belongs to, from 1.

        Returns
        -------
        dict
            As `rows` yields it.
        """
        number = i % len(self.steps["loss"]) + 1
        return {"kind": "step", "step": number, "epoch": epoch, **{k: v[i] for k, v in self.steps.items()}}

    def epoch_row(self, i):
        """Return an epoch.

        Parameters
        ----------
        i : int
            Its index, -1 for the last.

        Returns
        -------
        dict
            As `rows` yields it.
        """
        number = i % len(self.epochs["loss"]) + 1
        return {"kind": "epoch", "epoch": number, **{k: v[i] for k, v in self.epochs.items()}}

    def table(self, kind="epochs"):
        """Return the epochs, or the steps, as a structured array.

        Parameters
        ----------
        kind : {"epochs", "steps"}

        Returns
        -------
        ndarray [rows]
            A field for each column; the first is ``epoch`` or ``step``, from 1. ``pandas.DataFrame`` takes it as it is.

        Examples
        --------
        >>> history = History()
        >>> history.add_step(loss=0.5, lr=0.1, grad_norm=2.0, examples=3)
        >>> history.table("steps")["loss"], history.table("steps").dtype.names
        (array([0.5]), ('step', 'loss', 'lr', 'grad_norm', 'examples'))
        """
        if kind not in ("epochs", "steps"):
            raise ValueError(f"kind: expected 'epochs' or 'steps', got {kind!r}")
        columns = _arrays(getattr(self, kind))
        columns = {kind[:-1]: np.arange(1, len(columns["loss"]) + 1), **columns}
        table = np.empty(len(columns["loss"]), [(name, a.dtype) for name, a in columns.items()])
        for name, a in columns.items():
            table[name] = a
        return table

    def write(self, path):
        """Write `rows` as JSON lines; a number that is not finite becomes null.

        Parameters
        ----------
        path : str or path
        """
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(map(json_line, self.rows()))

    def state_dict(self):
        """Return the record as arrays and numbers.

        Returns
        -------
        dict
            For `from_state_dict`.
        """
        return {"interrupted": self.interrupted, "steps": _arrays(self.steps), "epochs": _arrays(self.epochs)}

    @classmethod
    def from_state_dict(cls, state):
        """Return the record that `state_dict` described; a run that goes on is no longer interrupted.

        Parameters
        ----------
        state : dict

        Returns
        -------
        History
        """
        history = cls()
        history.steps = {k: v.tolist() for k, v in state["steps"].items()}
        history.epochs = {k: v.tolist() for k, v in state["epochs"].items()}
        return history

    def __repr__(self):
        epochs, steps = len(self.epochs["loss"]), len(self.steps["loss"])
        parts = [f"{epochs} epoch{'s' * (epochs != 1)}", f"{steps} step{'s' * (steps != 1)}"]
        parts += [f"{name.replace('_', ' ')} {self.epochs[name][-1]:.4g}"
                  for name in ("loss", "validation_loss", "validation_accuracy") if self.epochs.get(name)]
        return f"History({', '.join(parts)}{', interrupted' * self.interrupted})"


def json_line(row):
    """Return a row as a line of JSON; a number that is not finite becomes null."""
    row = {k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in row.items()}
    return json.dumps(row, allow_nan=False) + "\n"


def _arrays(table):
    return {k: np.array(v, np.int64 if k in ("steps", "examples") else np.float64) for k, v in table.items()}
