"""What every rule shares: parameter groups, options, state. A rule itself is a row of data (``rules.py``)."""

import contextlib
import inspect
import math
from collections.abc import Mapping

import numpy as np

from optcore._native.update import Stepper
from optcore.optim.options import CHECKS, SCHEDULED
from optcore.optim.rule import Rule
from optcore.optim.state import checked

_COMMON = {"clip_norm": None, "clip_value": None, "nonfinite": "propagate", "state_dtype": None}


class Optimizer(Stepper):
    """Base class of the update rules.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of names to arrays, or sequence of group dicts
        float32 or float64, C-contiguous, writable, of any shape; updated in place. A group dict holds ``"params"`` and
        any option that differs from the defaults.
    lr : float or callable
        Learning rate, or a schedule: a callable from the number of steps taken so far (from 0) to a value. The same
        holds for ``weight_decay``.
    clip_norm : float, optional
        Scale all gradients together so that their global 2-norm is at most this (as
        ``torch.nn.utils.clip_grad_norm_``: by clip_norm / (norm + 1e-6)).
    clip_value : float, optional
        Clamp each gradient to [-clip_value, clip_value]; after ``clip_norm`` where both are given.
    nonfinite : {"propagate", "raise", "skip"}
        What to do with NaN and infinite gradients: nothing; FloatingPointError with nothing changed; leave the whole
        step out and count it in ``skipped_steps``. The check shares the pass of the gradient norm.
    state_dtype : None or str
        Name of the parameters' dtype, the only one that state has so far; None for the same.

    Attributes
    ----------
    param_groups : list of dict
        The options of each group; each value may be changed between steps.
    last_grad_norm : float or None
        Global 2-norm of the last step's gradients before clipping; None if the step did not need it.
    skipped_steps : int
        Steps left out by ``nonfinite="skip"``.

    Notes
    -----
    A finite gradient never freezes a parameter. A rule that squares it, and so would hold an infinite sigma for ever,
    takes it within +-2**63 in float32, +-2**480 in float64, for m as for sigma, and forgets it at the rate of its
    means; the sum of Adagrad stops short of infinity. Infinity and NaN are no large gradients: they propagate.
    ``docs/accuracy.md`` has each rule's answer, and the error of a step in ulp.

    Steps are counted in an int64. PyTorch's float32 counter stands still at 2**24; a larger ``"step"`` is rounded when
    PyTorch loads it.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(1, "float32")
    >>> opt = oc.optim.Adam(theta, lr=0.5)
    >>> opt.step(np.array([1e25], "float32"))    # its square is infinite, the step is not
    >>> theta, bool(np.isfinite(opt.state_dict()["state"][0]["exp_avg_sq"]).all())
    (array([-0.5], dtype=float32), True)
    """

    rule: Rule

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls._checks = {**CHECKS, **cls.rule.checks}
        kind = inspect.Parameter
        cls.__signature__ = inspect.Signature(
            [kind("params", kind.POSITIONAL_OR_KEYWORD)]
            + [kind(k, kind.POSITIONAL_OR_KEYWORD, default=v) for k, v in cls.rule.options.items()]
            + [kind(k, kind.KEYWORD_ONLY, default=v) for k, v in _COMMON.items()]
        )

    def __init__(self, *args, **kwargs):
        if not hasattr(self, "rule"):
            raise TypeError("Optimizer: expected one of its rules, such as oc.optim.AdamW, got the base class")
        given = type(self).__signature__.bind(*args, **kwargs)
        given.apply_defaults()
        options = given.arguments
        params = options.pop("params")
        self.clip_norm, self.clip_value, self.nonfinite, self._state_dtype = (options.pop(k) for k in _COMMON)
        self._check_clipping()
        self.defaults = dict(options)
        self._arrays, self._state, self._names = [], [], []
        self._setup(self.rule.kernel, tuple(self.rule.options))
        if isinstance(params, (list, tuple)) and params and isinstance(params[0], Mapping):
            for group in params:
                self.add_param_group(group)
        else:
            self.add_param_group({"params": params})
            self._single = not isinstance(params, (Mapping, list, tuple))

    @property
    def steps(self):
        """Steps taken so far: what a schedule is asked for next."""
        return self._steps

    def eval(self):
        """Let the parameters hold what is to be evaluated: nothing to do, but for schedule-free rules."""

    def train(self):
        """Let the parameters hold what is trained, after `eval`."""

    def __repr__(self):
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            shown = ", ".join(f"{k}={group[k]!r}" for k in self.rule.options)
            lines.append(f"  group {i}: {len(group['params'])} arrays, {shown}")
        return "\n".join([*lines, ")"])

    # ------------------------------------------------------------------------------------------------- groups

    def add_param_group(self, group):
        """Add a group of parameters.

        Parameters
        ----------
        group : dict
            ``"params"`` and any options that differ from the defaults.

        Raises
        ------
        TypeError, ValueError
            An unknown option, an option out of range, or an array that cannot be updated in place; nothing is added.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"group: expected a dict with the key 'params', got {group!r}")
        unknown = set(group) - {"params", *self.rule.options}
        if unknown:
            raise ValueError(f"group: expected options of {list(self.rule.options)}, got {sorted(map(str, unknown))}")
        first, index = len(self._arrays), len(self.param_groups)
        labels, arrays = _labelled(group["params"], first)
        names = [str(label) for label in labels]
        taken = set(self._names) & set(names)
        if taken or len(set(names)) < len(names):
            raise ValueError(f"params: expected names of their own, got {sorted(taken) or names} again")
        with self._changing():
            try:
                self._add(labels, arrays, index, {**self.defaults, **group, "params": arrays})
            except BaseException:
                self._truncate(first, index)
                del self._arrays[first:], self._state[first:], self._names[first:], self.param_groups[index:]
                self._bound(self._all_state())
                raise
            self._single = False

    @contextlib.contextmanager
    def _changing(self):
        """Hold off steps of other threads while parameters or state change."""
        self._exclusive()
        try:
            yield
        finally:
            self._release()

    def _add(self, labels, arrays, index, group):
        self._open_group()
        for label, array in zip(labels, arrays, strict=True):
            name = str(label)
            self._bind(array, name, label)
            self.rule.check_shape(name, array.shape)
            if self._state_dtype is not None and str(self._state_dtype) != array.dtype.name:
                raise ValueError(f"state_dtype: expected None or the parameters' dtype, {array.dtype}, "
                                 f"got {self._state_dtype!r}")
            self._arrays.append(array)
            self._state.append({})
            self._names.append(name)
        self.param_groups.append(group)
        self._bound(self._all_state())  # overlaps are found before memory is spent on state
        if arrays:
            self._read_group(index)

    def _members(self, index):
        """Indices of the parameters of a group."""
        start = sum(len(g["params"]) for g in self.param_groups[:index])
        return range(start, start + len(self.param_groups[index]["params"]))

    def _read_options(self, index):
        """Return the C options of a group, checked; allocate the state that they ask for."""
        numbers = self._numbers(self.param_groups[index], self._steps)
        fields = dict(self.rule.constants)
        for key, value in numbers.items():
            values = value if isinstance(value, tuple) else (value,)
            fields.update(zip(self._checks[key][1], values, strict=False))
        self._allocate(index, numbers)
        return fields

    def _numbers(self, group, steps):
        """The checked options of a group, a schedule by its value after so many steps."""
        numbers = {}
        for key in self.rule.options:
            value = group[key]
            if key in SCHEDULED and callable(value):
                value = value(steps)
            numbers[key] = self._checks[key][0](key, value)
        self.rule.check(numbers)
        return numbers

    def _allocate(self, index, numbers):
        added = False
        for slot in self.rule.slots:
            if slot.when is not None and not numbers[slot.when]:
                continue
            for i in self._members(index):
                if slot.key not in self._state[i] and slot.shape(self._arrays[i].shape) is not None:
                    self._put_state(i, slot, self._new_state(i, slot, numbers))
                    if slot.restarts:
                        self._set_step(i, 0)
                    added = True
        if added:
            self._bound(self._all_state())

    def _new_state(self, i, slot, numbers):
        array = _zeros_beside(self._arrays[i], slot)
        if slot.initial:
            array.fill(numbers[slot.initial])
        return array

    def _put_state(self, i, slot, array):
        bind = self._bind_factor if slot.factor else self._bind_state
        bind(i, slot.stream, array)
        self._state[i][slot.key] = array

    def _all_state(self):
        return [a for slots in self._state for a in slots.values()]

    # -------------------------------------------------------------------------------------------------- state

    def state_dict(self):
        """Return a copy of the state: arrays and numbers only, under PyTorch's names.

        Returns
        -------
        dict
            ``"state"``: parameter index -> {``"step"``: int, scalar name: float, slot name: array};
            ``"param_groups"``: the options, with a schedule's value of the next step in its place, and ``"params"``,
            indices; ``"step"``: steps taken.

        Notes
        -----
        ``torch.optim`` takes it once its arrays are tensors::

            state["state"] = {i: {key: torch.as_tensor(value) for key, value in entry.items()}
                              for i, entry in state["state"].items()}
        """
        groups, state = [], {}
        for index, group in enumerate(self.param_groups):
            saved = {k: self._current(group[k]) for k in self.rule.options}
            groups.append({**saved, "params": list(self._members(index))})
            for i in self._members(index):
                state[i] = {"step": self._get_step(i), **self._scalars(i, saved), **self._array_copies(i, saved)}
        return {"state": state, "param_groups": groups, "step": self._steps}

    def _current(self, value):
        return float(value(self._steps)) if callable(value) else value

    def _array_copies(self, i, options):
        """Copies of the state arrays; before the first step as it will find them, so that PyTorch's finds the same."""
        copies = {}
        for slot in self.rule.slots:
            if slot.key not in self._state[i] or (slot.restarts and not self._get_step(i)):
                continue
            copies[slot.key] = self._state[i][slot.key].copy()
            if slot.initial in SCHEDULED and not self._get_step(i):
                copies[slot.key].fill(options[slot.initial])
        return copies

    def _scalars(self, i, options):
        if self._get_step(i):
            return {s.key: self._get_carried(i, k) for k, s in enumerate(self.rule.scalars)}
        return {s.key: float(options.get(s.initial, s.initial)) for s in self.rule.scalars}

    def load_state_dict(self, state):
        """Take over a state, this class's or that of ``torch.optim`` of the same name. All or nothing.

        Parameters
        ----------
        state : dict
            As ``state_dict`` returns it. A schedule in ``param_groups`` stays; keys that the rule does not know are
            ignored, so that PyTorch's are welcome.

        Raises
        ------
        TypeError, ValueError
            The state is not one of this rule for these parameters; nothing has been changed.
        """
        new = checked(self, state)
        with self._changing():
            for index, (group, options) in enumerate(zip(self.param_groups, new.groups, strict=True)):
                group.update(options)
                for i in self._members(index):
                    self._load(i, new.numbers[index], new.entries[i])
            self._steps = new.steps
            self._bound(self._all_state())

    def _load(self, i, numbers, entry):
        step = entry.step
        for slot in self.rule.slots:
            if slot.key in entry.arrays:
                array = _zeros_beside(self._arrays[i], slot)
                np.copyto(array, entry.arrays[slot.key])
                self._put_state(i, slot, array)
            elif slot.key in self._state[i]:  # what the state does not have starts anew
                self._put_state(i, slot, self._new_state(i, slot, numbers))
                step = 0 if slot.restarts else step
        self._set_step(i, step)
        for k, value in enumerate(entry.scalars):
            self._set_carried(i, k, value)


def _zeros_beside(like, slot):
    """Zeros for a slot that lie to the cache lines as their parameter does: full-width stores then cross none."""
    shape = slot.shape(like.shape)
    room = np.zeros(math.prod(shape) * like.itemsize + 64, np.uint8)
    return np.ndarray(shape, like.dtype, room, (like.ctypes.data - room.ctypes.data) % 64)


def _labelled(params, first):
    """Labels and arrays of what a user gave as ``params``: the keys of a mapping, or names made up here."""
    if isinstance(params, Mapping):
        return list(params), list(params.values())
    if isinstance(params, (list, tuple)):
        return [f"params[{first + i}]" for i in range(len(params))], list(params)
    return ["params" if first == 0 else f"params[{first}]"], [params]
