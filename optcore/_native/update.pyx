"""The step of an optimizer: bind, check, prepare, then one parallel region over every parameter.

A step has four stages, and only the last one writes: the gradients are bound to their parameters and checked; the
options are read from the parameter groups; if asked for, one pass takes the norm of all gradients; one fused pass
updates parameters and state. That pass is two for a layerwise rule, with its look at whole tensors between them. What
lies between reading the options and saying how it went (`_open`, `_advance`, `_close`) needs no Python.
"""
from collections.abc import Mapping

cimport numpy as cnp
from cpython.dict cimport PyDict_Next, PyDict_Size
from cpython.object cimport PyObject
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memset

from optcore._native.c cimport (
    OC_ADADELTA, OC_ADAFACTOR, OC_ADAGRAD, OC_ADAM, OC_ADAMAX, OC_ADEMAMIX, OC_ASGD, OC_LAMB, OC_LARS, OC_LARS_APPLY,
    OC_LAYER_APPLY, OC_LION, OC_MUON, OC_NADAM, OC_RADAM, OC_RMSPROP, OC_RPROP, OC_SCHEDULE_FREE,
    OC_SCHEDULE_FREE_EVAL, OC_SCHEDULE_FREE_TRAIN, OC_SGD, OC_SOPHIA, OC_SOPHIA_HESSIAN, oc_coefficients, oc_options,
    oc_rule,
)
from optcore._native.core cimport gradients_within, prepare
from optcore._native.layerwise cimport Layers
from optcore._native.tensors cimport MANY, STAGED, History, Tensor, Tensors, nothing, same_history
from optcore._native.threads cimport GRAIN, num_threads

from optcore.checks import number, one_of

cnp.import_array()

RULES = {
    "sgd": OC_SGD, "adagrad": OC_ADAGRAD, "rmsprop": OC_RMSPROP, "adam": OC_ADAM, "adadelta": OC_ADADELTA,
    "adamax": OC_ADAMAX, "nadam": OC_NADAM, "radam": OC_RADAM, "ademamix": OC_ADEMAMIX, "rprop": OC_RPROP,
    "lion": OC_LION, "sophia": OC_SOPHIA, "asgd": OC_ASGD, "schedule_free": OC_SCHEDULE_FREE,
    "lamb": OC_LAMB, "lars": OC_LARS, "adafactor": OC_ADAFACTOR, "muon": OC_MUON,
}
LAST_STAGES = {  # of the layerwise rules
    "lamb": OC_LAYER_APPLY, "lars": OC_LARS_APPLY, "adafactor": OC_LAYER_APPLY, "muon": OC_LAYER_APPLY,
}
PASSES = {  # between steps
    "sophia_hessian": OC_SOPHIA_HESSIAN, "schedule_free_eval": OC_SCHEDULE_FREE_EVAL,
    "schedule_free_train": OC_SCHEDULE_FREE_TRAIN,
}

cdef enum:
    FAR = 3 << 18    # elements that caches do not hold, however many tensors they are
    BRIEF = 1 << 20  # elements whose step takes some milliseconds at most, where each thread has a core; the interpreter
                     # lets a thread keep the GIL for 5

cdef extern from "Python.h":
    PyObject **PySequence_Fast_ITEMS(PyObject *a)

cdef extern from * nogil:
    """
    static int oc_take(int *busy) { return !__atomic_exchange_n(busy, 1, __ATOMIC_ACQUIRE); }
    static void oc_give(int *busy) { __atomic_store_n(busy, 0, __ATOMIC_RELEASE); }
    """
    int oc_take(int *busy)
    void oc_give(int *busy)

cdef oc_options zero
memset(&zero, 0, sizeof(oc_options))
cdef dict ALL_ZERO = zero  # name -> 0 of every option that C has


cdef class Group:
    """The options of one parameter group as C reads them, and the objects that they were read from."""
    cdef oc_options options
    cdef list seen      # keys and values in turn, as they lay in the dict
    cdef bint fixed     # every option is an immutable number: the same objects mean the same options

    def __cinit__(self):
        self.options = ALL_ZERO

    cdef bint unchanged(self, dict values):
        """Whether the dict holds the objects that were read, in their order: no look-up, and no hash."""
        cdef Py_ssize_t at = 0, i = 0
        cdef PyObject *key = NULL
        cdef PyObject *value = NULL
        if self.seen is None or not self.fixed or 2 * PyDict_Size(values) != len(self.seen):
            return False
        while PyDict_Next(values, &at, &key, &value):
            if key != <PyObject *>self.seen[i] or value != <PyObject *>self.seen[i + 1]:
                return False
            i += 2
        return True

    cdef read(self, dict fields):
        self.options = {**ALL_ZERO, **fields}  # Cython turns a dict with every field into the struct


cdef class Stepper(Tensors):
    """Parameters bound to the kernel of their rule; the base class of every optimizer.

    A subclass fills ``param_groups`` (a list of dicts), calls ``_bind`` for each parameter, ``_bind_state`` for
    each state array and ``_bound`` when done, and provides ``_read_options(index) -> dict`` of C option values.
    """
    def __cinit__(self):
        self.param_groups = []
        self._nonfinite = "propagate"

    def __dealloc__(self):
        free(self.options)

    # ----------------------------------------------------------------------------------------------- options

    def _setup(self, str kernel, tuple keys):
        """Choose the kernel and the option keys that a step reads from each group."""
        self.rule = RULES[kernel]
        self.keys = keys
        if kernel in LAST_STAGES:
            self.layers = Layers()
            self.layers.rule, self.layers.last_stage = self.rule, LAST_STAGES[kernel]

    def _open_group(self):
        """Begin a group: the next parameters belong to it."""
        cdef Group group = Group()
        cdef void *grown = realloc(self.options, (len(self.groups) + 1) * sizeof(oc_options *))
        if grown == NULL:
            raise MemoryError
        self.options = <const oc_options **>grown
        self.options[len(self.groups)] = &group.options
        self.groups.append(group)

    @property
    def nonfinite(self):
        """What a step does with a gradient that is not finite: "propagate", "raise" or "skip"."""
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, value):
        self._nonfinite = one_of("nonfinite", value, ("propagate", "raise", "skip"))

    # --------------------------------------------------------------------------------------------------- step

    def step(self, grads):
        """Update the parameters in place from their gradients. All or nothing: an error has changed nothing.

        Parameters
        ----------
        grads : array, sequence or mapping
            The structure of ``params`` (a sequence of one serves for one array), groups flattened in order; each
            gradient an array of its parameter's shape, of any dtype that a parameter can have, that shares no memory
            with a parameter, or None to skip that parameter.

        Raises
        ------
        TypeError, ValueError
            A gradient or an option is not what it has to be; the message names it.
        FloatingPointError
            With ``nonfinite="raise"``: a gradient holds NaN or infinity; the message names its parameter.
        """
        cdef bint borrowed
        self._enter()
        try:
            borrowed = self._is_borrowed(grads)
            if borrowed:
                self._open()
            else:
                held = self._begin(grads, "grads", "gradient", True)
            if borrowed or self.elements <= GRAIN:
                self._advance()  # over before the GIL were given up and taken again
            else:
                with nogil:
                    self._advance()
            self._close()
        finally:
            self._leave()

    def _feed(self, str name, given, str argument, str what):
        """Run the pass ``name`` over arrays given like gradients; errors name the ``argument`` and ``what`` one is."""
        cdef oc_rule rule = PASSES[name]
        self._enter()
        try:
            held = self._begin(given, argument, what, False)
            self.strict = self._nonfinite != "propagate"
            with nogil:
                if not self.strict or self._is_finite():
                    self._prepare(rule, 1, 0, INFINITY)
                    self._run(rule)
            if self.strict and self.bad >= 0:
                self._refuse(what)
        finally:
            self._leave()

    def _move(self, str name, int stream):
        """Run the pass ``name`` with a state array in the gradients' place, over what has taken a step."""
        cdef Py_ssize_t i
        cdef oc_rule rule = PASSES[name]
        self._enter()
        try:
            self._refresh(0)
            self._part()
            for i in range(self.n_tensors):
                self._check_parameter(i)
            for i in range(self.n_tensors):
                self._set_gradient(i, self.stages[i].x[stream] if self.histories[i].step else nothing)
            with nogil:
                self._prepare(rule, 1, 0, INFINITY)
                self._follow(False, True)
                self._run(rule)
                self._follow(False, False)
            for i in range(self.n_tensors):
                self._set_gradient(i, nothing)
        finally:
            self._leave()

    def _given(self, grads):
        """Return the gradients as a tuple, one for each parameter, after every check of `step`."""
        self._enter()
        try:
            held = self._bind_gradients(grads, "grads", "gradient")
        finally:
            self._leave()
        return held if isinstance(held, tuple) else (held,)

    cdef int _enter(self) except -1:
        if not oc_take(&self.busy):
            raise RuntimeError("this optimizer is at work, in another thread or below this call: one step or change at a "
                               "time")
        return 0

    cdef void _leave(self) noexcept:
        oc_give(&self.busy)

    def _exclusive(self):
        """Take the optimizer for a change of its parameters or state; ``_release`` gives it back."""
        self._enter()

    def _release(self):
        self._leave()

    cdef object _begin(self, grads, str argument, str what, bint is_step):
        """Bind the gradients, read what a step, or else a pass, is to do; return an object that keeps them alive.

        In this order, so that a refused gradient leaves options unread. One that has been switched on may take an array
        for its state: then the step has been planned anew, and binds once more.
        """
        self.planned = False
        held = self._bind_gradients(grads, argument, what)
        if is_step:
            self._open()
        else:
            self._refresh(0)
        if self.planned:
            self._bind_gradients(held, argument, what)
        return held

    cdef object _bind_gradients(self, grads, str argument, str what):
        """Bind every gradient; return an object that keeps them alive."""
        cdef Py_ssize_t i
        cdef tuple given
        cdef PyObject *one = <PyObject *>grads
        cdef PyObject **items
        if self._single and not isinstance(grads, (list, tuple)):
            if not self._is_bound(1, &one):
                self._bind_gradient(0, grads, what)
            return grads
        if isinstance(grads, (list, tuple)):
            given = tuple(grads)
        elif isinstance(grads, Mapping):
            given = self._by_label(grads, argument)
        else:
            raise TypeError(f"{argument}: expected a sequence or mapping like params, got {type(grads).__name__}")
        if len(given) != self.n_tensors:
            raise ValueError(f"{argument}: expected {self.n_tensors} {what}s, one per parameter, got {len(given)}")
        items = PySequence_Fast_ITEMS(<PyObject *>given)
        if not self._is_bound(self.n_tensors, items):
            for i in range(self.n_tensors):
                if not self._is_range_bound(i, i + 1, items):
                    self._bind_gradient(i, given[i], what)
        return given

    cdef bint _is_borrowed(self, grads):
        """Whether the gradients of many tensors are bound from the last step and stay alive without being held.

        Nothing but this step runs while it keeps the GIL, so that the list holds them: counting references would write
        into every header, which the other threads then read.
        """
        return (self.n_tensors >= MANY and self.elements <= BRIEF and self.layers is None
                and num_threads(self.elements) > 1 and isinstance(grads, list) and len(<list>grads) == self.n_tensors
                and self._is_settled() and self._is_bound(self.n_tensors, PySequence_Fast_ITEMS(<PyObject *>grads)))

    cdef bint _is_settled(self):
        """Whether `_open` has nothing to read, which would run Python."""
        cdef Py_ssize_t i
        for value in (self.clip_norm, self.clip_value):
            if value is not None and type(value) is not float:
                return False
        for i in range(len(self.groups)):
            if i >= len(self.param_groups) or not (<Group>self.groups[i]).unchanged(<dict?>self.param_groups[i]):
                return False
        return True

    cdef tuple _by_label(self, grads, str argument):
        if len(grads) != self.n_tensors or any([label not in grads for label in self.labels]):
            raise ValueError(f"{argument}: expected the names {self.labels}, got {list(grads)}")
        return tuple([grads[label] for label in self.labels])

    cdef int _open(self) except -1:
        """Read what a step is to do. Nothing has changed yet."""
        cdef double clip_value = self._positive("clip_value", self.clip_value)
        self.limit = self._positive("clip_norm", self.clip_norm)
        self.strict = self._nonfinite != "propagate"
        self._refresh(clip_value)
        return 0

    cdef bint _advance(self) noexcept nogil:
        """Take the step, unless `strict` and a gradient is not finite: then `bad` says which, and nothing changes."""
        cdef double scale = 1
        if self.limit > 0 or self.strict:
            if not self._is_finite() and self.strict:
                return False
            if self.limit > 0 and not self.limit / (self.norm + 1e-6) >= 1:
                scale = self.limit / (self.norm + 1e-6)  # as torch.nn.utils.clip_grad_norm_
        self._prepare(self.rule, scale, 1, self.norm if self.limit > 0 or self.strict else INFINITY)
        if self.layers is None:
            self._follow(True, True)
            self._run(self.rule)
        else:
            self._run_layers()
        self._follow(False, False)
        self._steps += 1
        return True

    cdef int _close(self) except -1:
        """Say how `_advance` went: FloatingPointError, one more skipped, or nothing."""
        cdef bint measured = self.limit > 0 or self.strict
        if self.strict and self.bad >= 0:
            self._refuse("gradient")
        self.last_grad_norm = self.norm if measured else None
        return 0

    cdef bint _is_finite(self) noexcept nogil:
        """Take the norm of the bound gradients; set `bad` to the first that is not finite, else to -1."""
        self.bad = -1
        self.norm = self._norm()
        if not isfinite(self.norm):
            self.bad = self._first_nonfinite()  # -1: the norm alone is beyond double
        return self.bad < 0

    cdef int _refuse(self, str what) except -1:
        if self._nonfinite == "raise":
            raise FloatingPointError(f"{what} of {self.names[self.bad]}: expected finite values, got {self.norm}; "
                                     f"nothing was changed")
        self.skipped_steps += 1
        return 0

    def _check_clipping(self):
        """Raise unless ``clip_norm`` and ``clip_value`` are positive numbers or None."""
        self._positive("clip_norm", self.clip_norm)
        self._positive("clip_value", self.clip_value)

    cdef double _positive(self, str name, object value) except? -1:
        if value is None:
            return 0
        if isinstance(value, float) and <double>value > 0:
            return value  # infinity is one that limits nothing
        return number(name, value, open_low=True)

    cdef int _refresh(self, double clip_value) except -1:
        """Read the options of the groups that have changed since the last step."""
        cdef Group group
        cdef Py_ssize_t i
        if len(self.param_groups) != len(self.groups):
            raise ValueError(f"param_groups: expected {len(self.groups)} groups (add_param_group adds one), "
                             f"got {len(self.param_groups)}")
        self._check_bound()
        for i in range(len(self.groups)):
            group = <Group>self.groups[i]
            if not group.unchanged(<dict?>self.param_groups[i]):
                self._read_group(i)
            group.options.clip_value = clip_value

    cdef int _check_bound(self) except -1:
        """A group's parameters are bound: another array in its list would be left out in silence."""
        cdef Py_ssize_t i, k, n, place = 0
        cdef list arrays
        cdef PyObject **bound = PySequence_Fast_ITEMS(<PyObject *>self.params)
        for i in range(len(self.param_groups)):
            arrays = <list?>(<dict?>self.param_groups[i])["params"]
            n = min(<Py_ssize_t>len(arrays), self.n_tensors - place)
            if n < len(arrays) or memcmp(PySequence_Fast_ITEMS(<PyObject *>arrays), bound + place, n * sizeof(PyObject *)):
                k = 0
                while k < n and arrays[k] is self.params[place + k]:
                    k += 1
                raise ValueError(f"param_groups[{i}]['params']: expected the arrays that the optimizer was given "
                                 f"(write into them, or make a new optimizer), got another one in place of "
                                 f"{self.names[place + k] if place + k < self.n_tensors else 'none'}")
            place += n
        if place != self.n_tensors:
            raise ValueError(f"param_groups: expected {self.n_tensors} arrays, those that the optimizer was given, got {place}")
        return 0

    def _read_group(self, Py_ssize_t index):
        """Read the options of one group, checked, whether or not they have changed."""
        cdef Group group = <Group>self.groups[index]
        values = self.param_groups[index]
        group.read(self._read_options(index))
        group.seen = [part for item in values.items() for part in item]
        group.fixed = all([type(values[key]) in (float, int, bool, tuple, type(None)) for key in self.keys])

    cdef void _prepare(self, oc_rule rule, double scale, int steps, double largest) noexcept nogil:
        """The coefficients of every parameter, for a pass that takes so many `steps`, which nothing can keep from being taken
        any more; no gradient is beyond `largest`."""
        cdef Py_ssize_t i
        cdef History *history
        cdef oc_coefficients *c
        if not self.joined:
            self._join()
        if self.staged:
            self._renew_keys()
        for i in range(self.n_shared):
            history, c = &self.shared[i], &self.coefficients[i]
            if i and same_history(history, history - 1):
                c[0] = self.coefficients[i - 1]
                continue
            c.carried = history.carried
            prepare(rule, history.dtype, self.options[history.group], history.step + 1, scale, c)
            gradients_within(largest, c)
            c.far = self.elements >= FAR
        if steps:
            for i in range(self.n_shared):
                self.shared[i].step += steps
                self.shared[i].carried = self.coefficients[i].carried

    cdef void _renew_keys(self) noexcept nogil:
        """What rounding at random takes from this step, for tensors whose arrays are staged."""
        cdef Py_ssize_t i
        for i in range(self.n_tensors):
            if self.tensors[i].way == STAGED and self.use[i] >= 0:
                self.stages[i].key = (self._seed * 0x9e3779b97f4a7c15u
                                      + <uint64_t>self.shared[self.use[i]].step * 0xd1342543de82ef95u + <uint64_t>i)

    cdef void _run_layers(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef Tensor *t
        self._run(self.rule)
        for i in range(self.n_tensors):
            t = &self.tensors[i]
            self.layers.layers[i].options = self.options[self.histories[i].group]
            self.layers.layers[i].c = &self.coefficients[self.use[i]] if t.x[1] != NULL else NULL
        self.layers.transform()
        self._follow(True, True)
        self._run(self.layers.last_stage)
