"""What may watch a training run and end it: the protocol of `fit`'s callbacks, and early stopping.

A callback is any object with one or more of these methods; each is given the run:

``on_start(run)``
    Before the first step, of a resumed run too, whose state has been taken over by then.
``on_step(run)``
    After a step.
``on_epoch(run)``
    After an epoch and its validation. A function, or an object that is callable, is its own ``on_epoch``.
``on_end(run)``
    At the end, whatever ended the run. The checkpoint, if any, has been written: what changes here is not in it.

A true value returned by the first three ends the training there, after the other callbacks have been called. A method
that is not there costs nothing. What a callback with ``state_dict()`` and ``load_state_dict(state)`` remembers is part
of the checkpoint: arrays, numbers, strings and None in dicts and lists. Callbacks are called in the order given, at the
end in the opposite one. An error that one raises ends the run.

The run has

``net``, ``optimizer``, ``loss``
    What is trained, by which rule, on which loss.
``X``, ``y``, ``rows``
    The data as given to `fit`, and the indices of the training part: None for all.
``held_out``
    (X, y, rows) of the validation, or None.
``epoch``, ``step``
    Numbers of finished ones.
``history``
    The rows so far; in ``on_step`` and ``on_epoch`` the last one is the one just finished.
``error``
    In ``on_end`` the exception that ended the run, or None.
``interrupted``
    Whether Ctrl-C ended it.
``say(text)``
    Show a line beside the progress display; nothing without one.
``weights()``
    Copies of the parameters that are evaluated and of the buffers.
"""

import math
import numbers

import numpy as np

from optcore import checks

__all__ = ["EarlyStopping", "Hooks"]

_METHODS = ("on_start", "on_step", "on_epoch", "on_end")


class Hooks:
    """The methods of the callbacks of a run, collected once.

    Parameters
    ----------
    callbacks : list or tuple

    Attributes
    ----------
    on_start, on_step, on_epoch, on_end : list of callables
    """

    def __init__(self, callbacks):
        if not isinstance(callbacks, list | tuple):
            raise TypeError(f"callbacks: expected a list or tuple of callables, got {type(callbacks).__name__}")
        for name in _METHODS:
            setattr(self, name, [])
        for c in callbacks:
            mine = {name: getattr(c, name) for name in _METHODS if hasattr(c, name)}
            if callable(c):
                mine.setdefault("on_epoch", c)
            if not mine or isinstance(c, type) or not all(map(callable, mine.values())):
                got = f"the class {c.__name__}" if isinstance(c, type) else type(c).__name__
                raise TypeError(f"callbacks: expected callables or objects with a method of {', '.join(_METHODS)}; "
                                f"got {got}")
            for name, method in mine.items():
                getattr(self, name).append(method)


def call(methods, run):
    """Call every one, then say whether any wants the training to end."""
    answers = [method(run) for method in methods]
    return any(answers)


class EarlyStopping:
    """End a training that no longer gets better, with its best parameters: a callback of `fit`.

    Parameters
    ----------
    patience : int
        Epochs without an improvement after which the training ends.
    min_delta : float
        What is less than this is no improvement.
    monitor : str
        A column of ``history.epochs``.
    mode : {"min", "max"}, optional
        Whether smaller or larger is better; by default larger for a column whose name ends in "accuracy", else smaller.
    restore_best : bool
        At the end put the parameters and buffers of the best epoch into the network, those that were evaluated. Not
        where Ctrl-C or an error ended the run: then `restore` does it.

    Attributes
    ----------
    best : float
        The best value so far.
    best_epoch : int
        Its epoch, from 1; 0 before the first.
    bad_epochs : int
        Epochs since.

    Notes
    -----
    The checkpoint holds all of it, the best parameters included, beside the run's last parameters: a run that is
    resumed stops where the uninterrupted one does, with the same bits. A value that is not a number is no improvement.
    The optimizer's averages at the end are those of the last step.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> X = np.eye(4, dtype="float32")
    >>> net = oc.nn.Sequential(oc.nn.Linear(4, 4))
    >>> stop = EarlyStopping(patience=2, monitor="loss", min_delta=0.5)
    >>> history = oc.train.fit(net, X, np.arange(4), epochs=100, callbacks=[stop], progress=False)
    >>> len(history.epochs["loss"]), stop.best_epoch
    (3, 1)
    """

    def __init__(self, patience=10, min_delta=0.0, monitor="validation_loss", mode=None, restore_best=True):
        patience, min_delta = checks.integer("patience", patience), checks.number("min_delta", min_delta)
        if not isinstance(monitor, str):
            raise TypeError(f"monitor: expected the name of a column, got {type(monitor).__name__}")
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode: expected 'min', 'max' or None, got {mode!r}")
        self.patience, self.min_delta, self.monitor = int(patience), float(min_delta), monitor
        self.mode = mode or ("max" if monitor.endswith("accuracy") else "min")
        self.restore_best = checks.flag("restore_best", restore_best)
        self._forget()

    def _forget(self):
        self.best = -math.inf if self.mode == "max" else math.inf
        self.best_epoch = self.bad_epochs = 0
        self.weights = None

    def on_start(self, run):
        """Begin anew, or end at once where the resumed run had ended."""
        if self.monitor not in run.history.epochs:
            raise ValueError(f"monitor: expected one of {', '.join(run.history.epochs)}, got {self.monitor!r}"
                             + "; fit has no validation" * (run.held_out is None))
        if run.step == 0:
            self._forget()
        return self.bad_epochs >= self.patience

    def on_epoch(self, run):
        """Compare; keep the parameters of a best epoch."""
        value = run.history.epochs[self.monitor][-1]
        gain = value - self.best if self.mode == "max" else self.best - value
        if gain > self.min_delta:
            self.best, self.best_epoch, self.bad_epochs = value, run.epoch, 0
            self.weights = run.weights() if self.restore_best else None
        else:
            self.bad_epochs += 1
        return self.bad_epochs >= self.patience

    def on_end(self, run):
        """Put the best parameters into the network."""
        if self.weights is not None and run.error is None and not run.interrupted:
            self.restore(run.net)

    def restore(self, net):
        """Put the best parameters and buffers into a network.

        Parameters
        ----------
        net : optcore.nn.Sequential
            The one that was trained, or one of the same layers.
        """
        if self.weights is None:
            raise ValueError("restore: expected a run with an epoch behind it and restore_best=True, got none")
        net.theta = self.weights["theta"]
        for name, kept in self.weights["buffers"].items():
            net.buffers[name][...] = kept

    def state_dict(self):
        """Return what it remembers.

        Returns
        -------
        dict
            For `load_state_dict`.
        """
        return {"best": self.best, "best_epoch": self.best_epoch, "bad_epochs": self.bad_epochs,
                "weights": self.weights}

    def load_state_dict(self, state):
        """Take over what `state_dict` returned.

        Parameters
        ----------
        state : dict

        Raises
        ------
        ValueError
            Something else; nothing has been changed.
        """
        kinds = {"best": numbers.Real, "best_epoch": int, "bad_epochs": int, "weights": (dict, type(None))}
        if not isinstance(state, dict) or {k for k, v in kinds.items() if isinstance(state.get(k), v)} != set(state):
            raise ValueError(f"state: expected a dict with {', '.join(kinds)}, as state_dict returns it")
        weights = state["weights"]
        if weights is not None and not (isinstance(weights.get("theta"), np.ndarray)
                                        and isinstance(weights.get("buffers"), dict)):
            raise ValueError("state['weights']: expected theta and buffers")
        self.best, self.best_epoch, self.bad_epochs = float(state["best"]), state["best_epoch"], state["bad_epochs"]
        self.weights = weights
