"""An optimizer, read: what its step is made of, and copies of it that move copies of theta."""

import math
from dataclasses import dataclass, replace

import numpy as np

from optcore import checks, optim
from optcore.curvature.precondition import diagonal_of

_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RMSprop", "Adagrad")
_COUPLED = ("SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam")
_FROZEN = 1e30  # the preconditioner of a parameter that the optimizer does not move


@dataclass(frozen=True)
class Rule:
    """What was read of an optimizer; see `read`.

    Attributes
    ----------
    name : str
    lr : float
        The largest rate of the groups, of a schedule the value at the next step; of Rprop the mean size of its steps.
    momentum : float
        The weight b of the past in the step.
    effective_lr : float
        What a lasting gradient is multiplied by: lr / (1 - b), or lr where the rule averages.
    threshold : float or None
        lr times the largest curvature (of P^-1/2 H P^-1/2) above which the rule is unstable on a quadratic (Cohen et
        al. 2021, 2022); None where it is not known.
    scale : array [n] or None
        The diagonal of P; None for the identity.
    adaptive : bool
        P depends on the gradients: with an empty state `scale` says nothing yet.
    empty : bool
        No step has been taken.
    finite : bool
        Every array of the state is; else the next step makes theta what it is.
    notes : tuple of str
        What a copy does not repeat.
    initial_lr : float
        The rate before PyTorch's schedules, which keep it in the groups; else NaN.
    """

    name: str
    lr: float
    momentum: float
    effective_lr: float
    threshold: float | None
    scale: np.ndarray | None
    adaptive: bool
    empty: bool
    finite: bool
    notes: tuple
    initial_lr: float
    _groups: tuple
    _state: dict
    _class: type
    _flags: dict
    _size: int
    _share: float  # of a new gradient in the momentum

    def copy(self, theta, factor=1.0):
        """Return a copy of the optimizer that moves the array theta in place, its rates multiplied by a factor."""
        groups = [{**options, "lr": factor * options["lr"],
                   "params": [theta[start:start + math.prod(shape)].reshape(shape) for start, shape in places]}
                  for options, places in self._groups]
        copy = self._class(groups, **self._flags)
        state = {**self._state, "param_groups": [{**saved, "lr": group["lr"]} for saved, group in
                                                 zip(self._state["param_groups"], groups, strict=True)]}
        copy.load_state_dict(state)
        return copy

    @property
    def decay(self):
        """Weight decay that enters the gradient, for each parameter [n]; None where there is none."""
        if not any(self._coupled(options) for options, _ in self._groups):
            return None
        decay = np.zeros(self._size)
        for options, places in self._groups:
            for start, shape in places:
                decay[start:start + math.prod(shape)] = self._coupled(options)
        return decay

    def _coupled(self, options):
        decoupled = self._class.__name__ not in _COUPLED or options.get("decoupled_weight_decay", False)
        return 0.0 if decoupled else float(options.get("weight_decay", 0.0))

    def without_decay(self):
        """The rule for an objective that has the decay in its gradient."""
        groups = tuple(({**options, "weight_decay": 0.0}, places) for options, places in self._groups)
        saved = [{**group, "weight_decay": 0.0} for group in self._state["param_groups"]]
        return replace(self, _groups=groups, _state={**self._state, "param_groups": saved})

    def fresh(self):
        """The rule before its first step."""
        return replace(self, empty=True, finite=True, _state={**self._state, "state": {}, "step": 0})

    def at(self, lr):
        """The rule with its rate put to lr: the largest of its groups, the others in proportion, all if it is zero."""
        share = lr / self.lr if self.lr else None
        rates = [lr if share is None else share * options["lr"] for options, _ in self._groups]
        groups = tuple(({**options, "lr": rate}, places)
                       for rate, (options, places) in zip(rates, self._groups, strict=True))
        saved = [{**group, "lr": rate} for rate, group in zip(rates, self._state["param_groups"], strict=True)]
        eta = lr if self.momentum >= 1 else lr * self._share / (1 - self.momentum)
        return replace(self, lr=lr, effective_lr=eta, _groups=groups, _state={**self._state, "param_groups": saved})

    def over(self, size):
        """The rule before its first step, over a vector of another size, with the options of its first group."""
        return read(self._class(np.zeros(size), **self._groups[0][0], **self._flags), size)

    def clipped(self, norm):
        """The rule with its gradient clipped at a norm."""
        return replace(self, _flags={**self._flags, "clip_norm": norm})

    def split(self, grad):
        """The flat gradient in the structure that a copy is stepped with."""
        return [grad[start:start + math.prod(shape)].reshape(shape) for _, places in self._groups
                for start, shape in places]

    def preconditioner(self, square):
        """Return the diagonal of P [n], or None where it is the identity or not known.

        Parameters
        ----------
        square : array [n]
            The mean square of the gradient at fixed theta: what an empty state would hold after many steps there.
        """
        if self.adaptive and self.empty:
            eps = float(self._groups[0][0].get("eps", 0.0))
            return np.maximum(np.sqrt(square) + eps, 1e-30)
        return self.scale


def read(optimizer, size, slices=None, theta=None):
    """Return the Rule of an optimizer.

    Parameters
    ----------
    optimizer : optcore.optim rule or wrapper, torch.optim.Optimizer, or None
    size : int
        n: the optimizer's arrays are theta, or lie in it.
    slices : callable, optional
        Array -> where it begins in theta, or None; for what does not lie in order.
    theta : array [n], optional
        What the optimizer's arrays should hold; where they do not, a note says so.

    Returns
    -------
    Rule or None

    Raises
    ------
    TypeError, ValueError
        It is no optimizer, or one over something else than theta.
    """
    if optimizer is None:
        return None
    notes = []
    while isinstance(optimizer, optim.Wrapper) and optimizer.opt is not None:
        notes.append(f"what {type(optimizer).__name__} does around {type(optimizer.opt).__name__}: the runs step the "
                     "rule itself")
        optimizer = optimizer.opt
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not groups or not callable(getattr(optimizer, "state_dict", None)):
        raise TypeError("optimizer: expected an optcore.optim rule or a torch.optim.Optimizer, got "
                        f"{type(optimizer).__name__}")
    cls = _class_of(optimizer, notes)
    state = optimizer.state_dict(portable=True) if isinstance(optimizer, optim.Optimizer) else optimizer.state_dict()
    saved = [_numbers(g) for g in state["param_groups"]]
    for group in saved:
        checks.number("lr of the optimizer", group.get("lr"))
    places = _places(groups, size, slices)
    if theta is not None and not _holds(groups, places, theta):
        notes.append("whether the optimizer's state is that of this theta: its own parameters have other values")
    known = tuple(({k: g[k] for k in cls.rule.options if k in g}, tuple(found))
                  for g, found in zip(saved, places, strict=True))
    state = {**state, "param_groups": [{**g, "params": list(p["params"])}
                                       for g, p in zip(saved, state["param_groups"], strict=True)]}
    flags = {k: getattr(optimizer, k, None) for k in ("clip_norm", "clip_value")}
    return _described(type(optimizer).__name__, cls, known, state, flags, size, notes)


def _class_of(optimizer, notes):
    """The optcore rule that a copy is made of: the same, PyTorch's of the same name, or one with the same state."""
    if isinstance(optimizer, optim.Optimizer):
        return type(optimizer)
    name = type(optimizer).__name__
    if name.lower() in optim.names():
        return optim.get(name.lower())
    states = [set(s) for s in optimizer.state_dict()["state"].values()] or [set()]
    nearest = ("adamw" if {"exp_avg", "exp_avg_sq"} <= states[0] else "rmsprop" if "square_avg" in states[0] else "sgd")
    notes.append(f"the steps of {name}, a rule not known here: its copies are {nearest} with its rate and state")
    return optim.get(nearest)


def _numbers(group):
    """The options of a group as plain numbers: PyTorch's rate may be a tensor."""
    plain = {}
    for key, value in group.items():
        if key != "params":
            plain[key] = float(value) if hasattr(value, "item") and not isinstance(value, (bool, str)) else value
    return plain


def _places(groups, size, slices):
    """Where each array of each group lies in theta: (start, shape)."""
    arrays = [a for group in groups for a in group["params"]]
    numpy = all(isinstance(a, np.ndarray) for a in arrays)
    starts = [slices(a) for a in arrays] if slices and not numpy else _starts(arrays, size)
    sizes = [math.prod(a.shape) for a in arrays]
    if starts is None:
        if sum(sizes) != size:
            raise ValueError(f"optimizer: expected a rule over the {size} parameters of theta, got one over "
                             f"{sum(sizes)}")
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
    if any(s is None for s in starts):
        raise ValueError("optimizer: expected a rule over the parameters of the objective, got another array")
    places = iter([(int(s), tuple(a.shape)) for s, a in zip(starts, arrays, strict=True)])
    return [[next(places) for _ in group["params"]] for group in groups]


def _holds(groups, places, theta):
    """Whether the optimizer's arrays have the values of theta, as far as both are of one dtype."""
    for group, found in zip(groups, places, strict=True):
        for a, (start, shape) in zip(group["params"], found, strict=True):
            held = np.asarray(a.detach() if hasattr(a, "detach") else a)
            part = theta[start:start + math.prod(shape)].reshape(shape)
            if held.dtype == part.dtype and not np.array_equal(held, part, equal_nan=True):
                return False
    return True


def _finite(entries):
    """Whether the arrays of a state, of NumPy or PyTorch, are finite."""
    values = [v for entry in entries for v in entry.values() if getattr(v, "ndim", 0)]
    tensors = [v.isfinite() for v in values if hasattr(v, "isfinite")]
    arrays = [np.isfinite(v) for v in values if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    return all(bool(found.all()) for found in tensors + arrays)


def _starts(arrays, size):
    """The places of NumPy views of one vector of the size of theta; None where they are not that."""
    bases = {id(_base(a)): _base(a) for a in arrays}
    if len(bases) != 1 or not all(isinstance(a, np.ndarray) for a in arrays):
        return None
    base = next(iter(bases.values()))
    if base.size != size or any(a.dtype != base.dtype for a in arrays):
        return None
    origin = base.__array_interface__["data"][0]
    return [(a.__array_interface__["data"][0] - origin) // a.itemsize for a in arrays]


def _base(array):
    base = getattr(array, "base", None)
    return array if not isinstance(base, np.ndarray) or base.dtype != array.dtype else _base(base)


def _described(name, cls, groups, state, flags, size, notes):
    """The Rule: momentum, threshold and preconditioner by the name of the class."""
    options, kind = groups[0][0], cls.__name__
    lr = max(float(o["lr"]) for o, _ in groups)
    entries = [state["state"].get(i, {}) for i in range(sum(len(p) for _, p in groups))]
    averages = "betas" in options
    b = float(options["betas"][0] if averages else options.get("momentum", 0.0))
    damp = float(options.get("dampening", 0.0)) if b else 0.0
    share = (1 - b) if averages else (1 - damp)  # of a new gradient in the momentum
    scale, adaptive = _scale(kind, groups, entries, size, lr)
    threshold = _threshold(kind, b, share, options)
    if any(o.get("maximize") for o, _ in groups):
        threshold = None
    empty = not any(float(e.get("step", 0)) for e in entries)
    if kind == "Rprop" and not empty:   # which moves each parameter by a step of its own: lr was the first one's size
        lr = max(float(np.mean(np.asarray(e["step_size"]))) for e in entries if "step_size" in e)
    return Rule(name, lr, b, lr * share / (1 - b) if b < 1 else lr, threshold, scale, adaptive, empty,
                _finite(entries), tuple(notes),
                max((float(g["initial_lr"]) for g in state["param_groups"] if "initial_lr" in g), default=math.nan),
                groups, state, cls, flags, size, share)


def _threshold(kind, b, share, options):
    if kind not in ("SGD", *_ADAPTIVE):
        return None
    threshold = (2 + 2 * b) / share
    return threshold / (1 + 2 * b) if options.get("nesterov") else threshold


def _scale(kind, groups, entries, size, lr):
    """The diagonal of P over theta, rates of groups that differ included; whether it depends on gradients."""
    adaptive = kind in _ADAPTIVE
    scale, entries, plain = np.full(size, _FROZEN), iter(entries), True
    for options, places in groups:
        rate = abs(float(options.get("lr", lr)))
        for start, shape in places:
            entry, stop = next(entries), start + math.prod(shape)
            step = float(entry.get("step", 0))
            root = diagonal_of(kind, options, entry) if adaptive and step >= 1 else None
            if root is not None and options.get("lr_decay"):
                root = root * (1 + (step - 1) * float(options["lr_decay"]))
            slower = 1.0 if rate == lr else lr / rate if rate else _FROZEN
            scale[start:stop] = slower * (1.0 if root is None else np.maximum(root, 1e-30))
            plain = plain and root is None and rate == lr
    return (None if plain and (scale < _FROZEN).all() else scale), adaptive
