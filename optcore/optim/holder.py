"""The arrays of an optimizer: its parameters, what stands beside each, and the state of its rule."""

import contextlib
from collections.abc import Mapping

from optcore._native.storage import check_parameter
from optcore._native.update import Stepper
from optcore.optim import storage
from optcore.optim.rule import Rule
from optcore.optim.state import SCALE
from optcore.optim.storage import Kept


class Holder(Stepper):
    """Base class of :class:`Optimizer`: allocates, binds and finds arrays.

    ``_arrays``, ``_names``, ``_plans``, ``_state``, ``_copies`` have an entry for each parameter: what the user gave,
    its name, how it is kept, the arrays beside it by their key in ``state_dict``, and the array that `copy_to` gave.
    """

    rule: Rule

    @contextlib.contextmanager
    def _changing(self):
        """Hold off steps of other threads while parameters or state change."""
        self._exclusive()
        try:
            yield
        finally:
            self._release()

    def _add_parameter(self, label, name, array):
        check_parameter(array, name, self._storage.uint16_as)
        plan = self._storage.plan(name, array, self.rule.layerwise)
        extras = self._new_extras(array, plan)
        i = self._bind(array, name, label, plan.arithmetic, self._storage.uint16_as, extras.get("master"))
        self.rule.check_shape(name, array.shape)
        self._arrays.append(array)
        self._state.append(extras)
        self._names.append(name)
        self._plans.append(plan)
        self._copies.append(None)
        if plan.rounding != "nearest":
            self._bind_rounding(i, plan.parameter, plan.rounding, extras.get("compensation"))
        if plan.master:
            self._bind_master(i, extras["master"])
        if "ema" in extras:
            self._bind_average(i, extras["ema"], self._storage.ema_decay)

    def _new_extras(self, array, plan):
        """What stands beside a parameter, whatever the rule: as it begins."""
        extras = {}
        if plan.master:
            extras["master"] = storage.values(array, plan.parameter, None, plan.arithmetic)
        if plan.rounding == "pair":
            extras["compensation"] = storage.zeros([(array, array.shape, plan.parameter)])[0]
        if self._storage.ema_decay is not None:
            extras["ema"] = storage.values(array, plan.parameter, None, plan.arithmetic)
        return extras

    def copy_to(self, arrays):
        """Have each step write the new parameters to other arrays too, in the pass that computes them.

        Parameters
        ----------
        arrays : the structure of ``params``, or None
            An array of the parameter's shape and of any dtype that a parameter can have, such as bfloat16 for the
            forward pass; None for a parameter without one. None instead of the structure ends it for all.

        Raises
        ------
        TypeError, ValueError
            An array that cannot be written to, of another shape, or that overlaps another one; nothing has been
            changed. With ``master_weights``, whose parameters are such copies already.

        Notes
        -----
        Steps write the copies, and ``eval`` and ``train`` of the schedule-free rules. What else changes a parameter,
        such as a wrapper or the program itself, does not. No state holds the arrays: give them again after a restart.

        Examples
        --------
        >>> import numpy as np, optcore as oc
        >>> theta, half = np.zeros(2, "float32"), np.zeros(2, "float16")
        >>> opt = oc.optim.SGD(theta, lr=1.0)
        >>> opt.copy_to(half)
        >>> opt.step(np.array([1.0, -2.0], "float32"))
        >>> half
        array([-1.,  2.], dtype=float16)
        """
        new = [None] * len(self._arrays) if arrays is None else self._listed(arrays)
        if any(plan.master and a is not None for plan, a in zip(self._plans, new, strict=True)):
            raise ValueError("arrays: expected None for parameters with master_weights, which are copies already")
        old = self._copies
        with self._changing():
            try:
                self._bind_copies(new)
            except BaseException:
                self._bind_copies(old)
                raise

    def _listed(self, arrays):
        if isinstance(arrays, Mapping):
            if set(map(str, arrays)) != set(self._names):
                raise ValueError(f"arrays: expected the names {self._names}, got {list(arrays)}")
            return [{str(k): v for k, v in arrays.items()}[name] for name in self._names]
        listed = list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]
        if len(listed) != len(self._arrays):
            raise ValueError(f"arrays: expected {len(self._arrays)}, one per parameter, got {len(listed)}")
        return listed

    def _bind_copies(self, new):
        for i, a in enumerate(new):
            if not self._plans[i].master:
                self._bind_copy(i, a, f"the copy of {self._names[i]}")
        self._copies = new
        self._bound(self._all_state())

    def _members(self, index):
        """Indices of the parameters of a group."""
        start = sum(len(g["params"]) for g in self.param_groups[:index])
        return range(start, start + len(self.param_groups[index]["params"]))

    def _allocate(self, index, numbers):
        """Make what the rule's options ask for and a group does not have."""
        missing = [(i, slot) for slot in self.rule.slots if slot.when is None or numbers[slot.when]
                   for i in self._members(index)
                   if slot.key not in self._state[i] and slot.shape(self._arrays[i].shape) is not None]
        self._begin(missing, numbers)
        for i, slot in missing:
            if slot.restarts:
                self._set_step(i, 0)
        if missing:
            self._bound(self._all_state())

    def _begin(self, places, numbers):
        """Put the arrays of slots (i, slot) as they begin: their own, and where they hold codes their scales."""
        wanted = [(self._theta(i), slot.shape(self._arrays[i].shape), self._kind(i, slot)) for i, slot in places]
        for (i, slot), (_, shape, kind), array in zip(places, wanted, storage.zeros(wanted), strict=True):
            new = {slot.key: array}
            if kind in storage.CODES:
                new[slot.key + SCALE] = storage.scales(shape)
            self._put_state(i, slot, new)
            if slot.initial:
                self._fill(i, slot, numbers)

    def _fill(self, i, slot, numbers):
        """Make the arrays of a slot what they are before the first step."""
        kept = self._kept(i, slot, self._state[i])
        kept.array.fill(0)
        if kept.scale is not None:
            kept.scale.fill(0)
        if slot.initial:
            storage.put(numbers[slot.initial], kept.array, kept.kind, kept.scale)

    def _kind(self, i, slot):
        """How the state array of a slot is kept."""
        plan = self._plans[i]
        if plan.state == "int8":
            return slot.codes or plan.arithmetic
        return plan.state

    def _kept(self, i, slot, arrays):
        """The array of a slot among ``arrays``, as it is kept."""
        return Kept(self._kind(i, slot), arrays[slot.key], arrays.get(slot.key + SCALE))

    def _kept_beside(self, i, key):
        """What stands beside a parameter under a key, as it is kept."""
        plan = self._plans[i]
        return Kept(plan.parameter if key == "compensation" else plan.arithmetic, self._state[i][key])

    def _theta(self, i):
        """What the rule moves."""
        return self._state[i].get("master", self._arrays[i])

    def _put_state(self, i, slot, new):
        array = new[slot.key]
        if slot.factor:
            self._bind_factor(i, slot.stream, array)
        else:
            self._bind_state(i, slot.stream, array, self._kind(i, slot), new.get(slot.key + SCALE))
        self._state[i].update(new)

    def _all_state(self):
        return [a for slots in self._state for a in slots.values()] + [a for a in self._copies if a is not None]
