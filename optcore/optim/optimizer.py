"""What every rule shares: parameter groups, options, state. A rule itself is a row of data (``rules.py``)."""

import inspect
from collections.abc import Mapping

from optcore.optim import storage
from optcore.optim.holder import Holder
from optcore.optim.options import CHECKS, SCHEDULED, in_groups
from optcore.optim.state import EXTRAS, SCALE, checked, checked_seed

_STORAGE = {"state_dtype": None, "master_weights": False, "compensated": False, "stochastic_rounding": False,
            "ema_decay": None, "uint16_as": None}
_COMMON = {"clip_norm": None, "clip_value": None, "nonfinite": "propagate", **_STORAGE, "seed": 0}


class Optimizer(Holder):
    """Base class of the update rules.

    Parameters
    ----------
    params : array, sequence of arrays, mapping of names to arrays, or sequence of group dicts
        float32, float64, float16 or bfloat16 (``ml_dtypes``), C-contiguous, writable, of any shape; updated in place. A
        group dict holds ``"params"`` and any option that differs from the defaults.
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
    state_dtype : {None, "float32", "float64", "bfloat16", "float16", "int8"}
        How the state is kept; None for the parameter's dtype (with ``master_weights`` the master's). A step computes in
        float32, in float64 where the parameter or its state is float64. "int8" keeps 8-bit codes with a scale for each
        256 of them, rounded at random (``seed``); for SGD, Adagrad, RMSprop, Adam, AdamW and Lion. What is kept in
        float16 is 65504 where a finite value is larger. ``docs/storage.md`` says what each costs and promises.
    master_weights : bool
        Keep a float32 master of each bfloat16 or float16 parameter: the rule moves it, the parameter is its copy.
    compensated : bool
        Keep what rounding a parameter lost beside it, in its dtype, and go on from the sum of both: twice the digits.
        Not for float64.
    stochastic_rounding : bool
        Round bfloat16 parameters up or down at random, right on average, by numbers that ``seed``, step, the place of
        the array among the parameters and the element's place in it decide. Not for float16.
    ema_decay : float in [0, 1), optional
        Keep a moving average of each parameter, average <- ema_decay*average + (1 - ema_decay)*theta, as
        ``state_dict()["state"][i]["ema"]``; it begins at the parameter and is moved in the pass that moves it.
    uint16_as : {None, "bfloat16", "float16"}
        What uint16 arrays among parameters, gradients and copies hold. ``ml_dtypes.bfloat16`` needs no word.
    seed : int
        Of the random rounding.

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
    A finite gradient leaves no infinity in the state. A rule that squares it, and so would hold an infinite sigma for
    ever, takes it within +-2**63 in float32, +-2**480 in float64, for m as for sigma, and forgets it at the rate of its
    means. The sum of Adagrad, which forgets nothing, stops short of infinity: the steps that follow are as small as it
    makes them. Infinity and NaN are no large gradients: they propagate. ``docs/accuracy.md`` has each rule's
    answer, and the error of a step in ulp.

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
        try:
            given = type(self).__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        given.apply_defaults()
        options = given.arguments
        params = options.pop("params")
        self.clip_norm, self.clip_value = options.pop("clip_norm"), options.pop("clip_value")
        self.nonfinite, self._seed = options.pop("nonfinite"), checked_seed("seed", options.pop("seed"))
        self._storage = storage.Storage(**{k: options.pop(k) for k in _STORAGE})
        self._check_clipping()
        if self._storage.state_dtype == "int8" and not any(s.codes for s in self.rule.slots):
            raise ValueError(f"state_dtype: expected another one than 'int8' for {type(self).__name__}, whose state "
                             "has no 8-bit form")
        self.defaults = dict(options)
        self._arrays, self._state, self._names, self._plans, self._copies = [], [], [], [], []
        self._setup(self.rule.kernel, tuple(self.rule.options))
        if isinstance(params, (list, tuple)) and params and isinstance(params[0], Mapping):
            for group in params:
                self.add_param_group(group)
        else:
            self.add_param_group({"params": params})
            self._single = not isinstance(params, (Mapping, list, tuple))

    def __setattr__(self, name, value):
        if name in self.rule.options:
            raise in_groups(name)
        if name in _STORAGE or name == "seed":
            raise AttributeError(f"{name}: expected it when the optimizer is made, for it cannot be changed")
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol):
        raise TypeError(f"{type(self).__name__}: an optimizer moves the very arrays that it was given, so it cannot be "
                        "copied or pickled; make another one over copies of them, and "
                        "new.load_state_dict(old.state_dict())")

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
                del self._plans[first:], self._copies[first:]
                self._bound(self._all_state())
                raise
            self._single = False

    def _add(self, labels, arrays, index, group):
        self._open_group()
        for label, array in zip(labels, arrays, strict=True):
            self._add_parameter(label, str(label), array)
        self.param_groups.append(group)
        self._bound(self._all_state())  # overlaps are found before memory is spent on state
        if arrays:
            self._read_group(index)

    def _read_options(self, index):
        """Return the C options of a group, checked; allocate the state that they ask for."""
        numbers = self._numbers(index, self.param_groups[index], self._steps)
        fields = dict(self.rule.constants)
        for key, value in numbers.items():
            values = value if isinstance(value, tuple) else (value,)
            fields.update(zip(self._checks[key][1], values, strict=False))
        self._allocate(index, numbers)
        return fields

    def _numbers(self, index, group, steps):
        """The checked options of a group, a schedule by its value after so many steps."""
        numbers = {}
        for key in self.rule.options:
            value = _option(group, index, key)
            if key in SCHEDULED and callable(value):
                value = _scheduled(key, value, steps)
            numbers[key] = self._checks[key][0](key, value)
        self.rule.check(numbers)
        return numbers

    # -------------------------------------------------------------------------------------------------- state

    def state_dict(self, *, portable=False):
        """Return a copy of the state: arrays and numbers only, under PyTorch's names.

        Parameters
        ----------
        portable : bool
            For other libraries, which do not know how the arrays are kept here: each as float32, or float64 where it is
            kept so, widened exactly; the rule's own alone, without what stands beside a parameter (``"master"``,
            ``"compensation"``, ``"ema"``), which would be out of date when it came back.

        Returns
        -------
        dict
            ``"state"``: parameter index -> {``"step"``: int, scalar name: float, slot name: array};
            ``"param_groups"``: the options, with a schedule's value of the next step in its place, and ``"params"``,
            indices; ``"step"``: steps taken; ``"seed"``. Arrays that hold bfloat16 are uint16, codes are uint8 with
            their scales under ``"<name>_scale"``.

        Notes
        -----
        ``torch.optim`` takes a portable one once its arrays are tensors::

            state = opt.state_dict(portable=True)
            state["state"] = {i: {key: torch.as_tensor(value) for key, value in entry.items()}
                              for i, entry in state["state"].items()}

        and `load_state_dict` takes PyTorch's as it is.
        """
        groups, state = [], {}
        for index, group in enumerate(self.param_groups):
            saved = {k: self._current(k, _option(group, index, k)) for k in self.rule.options}
            groups.append({**saved, "params": list(self._members(index))})
            for i in self._members(index):
                arrays = self._array_copies(i, saved)
                arrays = self._widened(i, arrays) if portable else {**self._extra_copies(i), **arrays}
                state[i] = {"step": self._get_step(i), **self._scalars(i, saved), **arrays}
        return {"state": state, "param_groups": groups, "step": self._steps, "seed": self._seed}

    def _current(self, key, value):
        return float(_scheduled(key, value, self._steps)) if callable(value) else value

    def _array_copies(self, i, options):
        """Copies of the state arrays; before the first step as it will find them, so that PyTorch's finds the same."""
        copies = {}
        for slot in self.rule.slots:
            if slot.key not in self._state[i] or (slot.restarts and not self._get_step(i)):
                continue
            kept = {key: self._state[i][key].copy() for key in (slot.key, slot.key + SCALE) if key in self._state[i]}
            if slot.initial in SCHEDULED and not self._get_step(i):
                storage.put(options[slot.initial], kept[slot.key], self._kind(i, slot), kept.get(slot.key + SCALE))
            copies.update(kept)
        return copies

    def _extra_copies(self, i):
        return {key: self._state[i][key].copy() for key in EXTRAS if key in self._state[i]}

    def _widened(self, i, arrays):
        return {slot.key: self._kept(i, slot, arrays).wide() for slot in self.rule.slots if slot.key in arrays}

    def _scalars(self, i, options):
        if self._get_step(i):
            return {s.key: self._get_carried(i, k) for k, s in enumerate(self.rule.scalars)}
        return {s.key: float(options.get(s.initial, s.initial)) for s in self.rule.scalars}

    def load_state_dict(self, state):
        """Take over a state, this class's or that of ``torch.optim`` of the same name. All or nothing.

        Parameters
        ----------
        state : dict
            As ``state_dict`` returns it, of an optimizer that keeps its arrays in this way or another: widened exactly,
            narrowed to the nearest, bit for bit where they are kept alike. Arrays may be tensors of PyTorch. A schedule
            in ``param_groups`` stays; keys that the rule does not know are ignored, so that PyTorch's are welcome.

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
            self._steps, self._seed = new.steps, new.seed
            self._bound(self._all_state())

    def _load(self, i, numbers, entry):
        step = entry.step
        for slot in self.rule.slots:
            if slot.key in entry.arrays:
                if slot.key not in self._state[i]:
                    self._begin([(i, slot)], numbers)
                self._kept(i, slot, self._state[i]).take(entry.arrays[slot.key])
            elif slot.key in self._state[i]:  # what the state does not have starts anew
                self._fill(i, slot, numbers)
                step = 0 if slot.restarts else step
        begun = self._new_extras(self._arrays[i], self._plans[i])
        for key in begun:  # in place: they stay bound
            kept = self._kept_beside(i, key)
            kept.take(entry.arrays.get(key, kept._replace(array=begun[key])))
        self._set_step(i, step)
        for k, value in enumerate(entry.scalars):
            self._set_carried(i, k, value)


def _option(group, index, key):
    if key not in group:
        raise ValueError(f"param_groups[{index}]: expected the option {key!r}, got {list(group)}")
    return group[key]


def _scheduled(key, schedule, steps):
    """The value of a schedule; an error of its own names the option and the step."""
    try:
        return schedule(steps)
    except Exception as error:
        raise RuntimeError(f"{key}: expected a value of the schedule after {steps} steps, got "
                           f"{type(error).__name__}: {error}") from error


def _labelled(params, first):
    """Labels and arrays of what a user gave as ``params``: the keys of a mapping, or names made up here."""
    if isinstance(params, Mapping):
        return list(params), list(params.values())
    if isinstance(params, (list, tuple)):
        return [f"params[{first + i}]" for i in range(len(params))], list(params)
    return ["params" if first == 0 else f"params[{first}]"], [params]
