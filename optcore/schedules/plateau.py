"""The schedule that listens: a value that falls when a metric has stopped improving."""

import math
import numbers
from dataclasses import dataclass, field

from optcore.checks import integer, number, one_of
from optcore.schedules.value import checked_step

_STATE = {"value": numbers.Real, "best": numbers.Real, "num_bad_epochs": numbers.Integral,
          "cooldown_counter": numbers.Integral, "last_epoch": numbers.Integral}


@dataclass(eq=False)
class ReduceOnPlateau:
    """Multiply by factor when a metric has not improved for more than patience updates.

    A callable like every schedule, but not a pure one: the value does not depend on the step, it depends on
    the metrics that `update` was told, and two of them are never equal.

    Parameters
    ----------
    lr : float
        First value.
    mode : {"min", "max"}
        Whether a better metric is lower or higher.
    factor : float
        In [0, 1).
    patience : int
        Updates without improvement to let pass; the next one reduces.
    threshold : float
        By how much a metric has to beat the best one to count; see `threshold_mode`.
    threshold_mode : {"rel", "abs"}
        Better is below best * (1 - threshold), or below best - threshold; with ``mode="max"`` above, with +.
    cooldown : int
        Updates after a reduction during which bad ones are not counted.
    min_lr : float
        The value never falls below it.
    eps : float
        A reduction by no more than this is left out.

    Attributes
    ----------
    value : float
        What a call returns.
    best : float
        Best metric so far; infinite before the first.
    num_bad_epochs, cooldown_counter, last_epoch : int
        Updates since the last improvement or reduction; updates of the cooldown that are left; all updates.

    Notes
    -----
    The options and the arithmetic of PyTorch's ``ReduceLROnPlateau``. A NaN is never an improvement.

    Examples
    --------
    As ``lr`` of a rule, and as a callback of ``oc.train.fit`` through `watch`:

    >>> import numpy as np, optcore as oc
    >>> plateau = oc.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> opt = oc.optim.SGD(np.zeros(3), lr=oc.schedules.warmup(plateau, steps=10))
    >>> for loss in [1.0, 0.8, 0.8, 0.8]:
    ...     plateau.update(loss)
    >>> plateau(1000)
    0.05
    """

    lr: float
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8
    value: float = field(init=False, repr=False)
    best: float = field(init=False, repr=False)
    num_bad_epochs: int = field(init=False, repr=False, default=0)
    cooldown_counter: int = field(init=False, repr=False, default=0)
    last_epoch: int = field(init=False, repr=False, default=0)

    def __post_init__(self):
        self.lr = self.value = number("lr", self.lr)
        self.mode = one_of("mode", self.mode, ("min", "max"))
        self.threshold_mode = one_of("threshold_mode", self.threshold_mode, ("rel", "abs"))
        self.factor = number("factor", self.factor, 0.0, 1.0, open_high=True)
        self.patience = integer("patience", self.patience, 0)
        self.cooldown = integer("cooldown", self.cooldown, 0)
        # best * (1 - threshold) with threshold 1: no loss could ever be better
        below = 1.0 if (self.mode, self.threshold_mode) == ("min", "rel") else math.inf
        self.threshold = number("threshold", self.threshold, 0.0, below, open_high=True)
        self.min_lr, self.eps = number("min_lr", self.min_lr), number("eps", self.eps)
        self.best = math.inf if self.mode == "min" else -math.inf

    def __call__(self, step):
        """Return the value, the same at every step until the next `update`."""
        checked_step(step)
        return self.value

    def update(self, metric):
        """Take notice of a metric, once an epoch or whenever it was evaluated.

        Parameters
        ----------
        metric : float
        """
        if isinstance(metric, str | bytes):
            raise TypeError(f"metric: expected a number, got {metric!r}")
        metric = float(metric)
        self.last_epoch += 1
        if self._is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            reduced = max(self.value * self.factor, self.min_lr)
            if self.value - reduced > self.eps:
                self.value = reduced
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _is_better(self, metric):
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            bound = self.best * (1.0 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return metric > bound if self.mode == "max" else metric < bound

    def watch(self, name="validation_loss"):
        """Return a callback of ``oc.train.fit`` that updates from a column of the history's epochs.

        Parameters
        ----------
        name : str
            A key of ``history.epochs``.

        Returns
        -------
        callable
            Also with ``state_dict`` and ``load_state_dict``, so that a checkpoint of the run holds the memory.

        Examples
        --------
        >>> import numpy as np, optcore as oc
        >>> X = np.eye(4, dtype="float32")
        >>> net = oc.nn.Sequential(oc.nn.Linear(4, 4))
        >>> plateau = ReduceOnPlateau(1e-3, factor=0.5, patience=0, threshold=0.5)
        >>> opt = oc.optim.SGD(net.theta, lr=plateau)
        >>> history = oc.train.fit(net, X, np.arange(4), optimizer=opt, epochs=3, progress=False,
        ...                        callbacks=[plateau.watch("loss")])
        >>> history.epochs["lr"], plateau.value
        ([0.001, 0.001, 0.0005], 0.00025)
        """
        return _Watch(self, name)

    def state_dict(self):
        """Return what changes: the attributes under their names, numbers only.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state):
        """Take over what `state_dict` returned. All or nothing.

        Parameters
        ----------
        state : dict

        Raises
        ------
        TypeError, ValueError
            Not such a dict; nothing has been changed.
        """
        if not isinstance(state, dict) or set(state) != set(_STATE):
            got = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"state: expected a dict with the keys {sorted(_STATE)}, got {got}")
        for name, kind in _STATE.items():
            if isinstance(state[name], bool) or not isinstance(state[name], kind):
                raise TypeError(f"state[{name!r}]: expected a number, got {state[name]!r}")
        value, best = number("state['value']", state["value"]), float(state["best"])
        if math.isnan(best):
            raise ValueError("state['best']: expected a number, got nan")
        counts = {name: integer(f"state[{name!r}]", state[name], 0) for name in list(_STATE)[2:]}
        self.value, self.best = value, best
        for name, n in counts.items():
            setattr(self, name, n)


@dataclass(frozen=True)
class _Watch:
    """Tells a plateau a column of the history; what it remembers is the plateau's memory."""

    plateau: ReduceOnPlateau
    name: str

    def __call__(self, run):
        if self.name not in run.history.epochs:
            raise ValueError(f"name: expected one of {list(run.history.epochs)}, got {self.name!r}")
        self.plateau.update(run.history.epochs[self.name][-1])

    def state_dict(self):
        return self.plateau.state_dict()

    def load_state_dict(self, state):
        self.plateau.load_state_dict(state)
