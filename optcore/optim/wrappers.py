"""What stands around a rule: accumulated gradients and slow weights.

A wrapper is stepped like a rule and passes on everything else: groups, options, state. Wrappers can stand around
wrappers. ``ema.py`` and ``sam.py`` have two more.
"""

import inspect
import math
from collections.abc import Mapping

import numpy as np

from optcore.checks import integer, number
from optcore.optim.arrays import Parameters, blocks, checked_copies, copies, has_nonfinite, norm_of, wide
from optcore.optim.optimizer import Optimizer
from optcore.optim.options import CHECKS, in_groups


class Wrapper:
    """Base class: a rule, or another wrapper, in ``opt``, and its attributes.

    A wrapper computes in float32, in float64 for float64 parameters, and keeps its own arrays so. Of a half-precision
    parameter it takes the master where the rule keeps one, else the value; what it writes is rounded to nearest.
    """

    def __init__(self, opt):
        if not isinstance(opt, (Optimizer, Wrapper)):
            raise TypeError(f"opt: expected a rule of optcore.optim or a wrapper, got {type(opt).__name__}")
        self.opt, self._known = opt, None

    def __setattr__(self, name, value):
        if name in CHECKS and name not in inspect.signature(type(self)).parameters:
            raise in_groups(name)
        super().__setattr__(name, value)

    @property
    def _inner(self):
        if self.opt is None:
            raise TypeError(f"{type(self).__name__}: expected one over a rule, but this one is over arrays")
        return self.opt

    @property
    def _rule(self):
        """The rule inside, under however many wrappers."""
        return self._inner if isinstance(self._inner, Optimizer) else self._inner._rule

    @property
    def param_groups(self):
        """The groups of the rule: each value may be changed between steps."""
        return self._inner.param_groups

    @property
    def steps(self):
        """Steps that the rule has taken."""
        return self._inner.steps

    @property
    def last_grad_norm(self):
        """Global 2-norm of the last step's gradients, or None."""
        return self._inner.last_grad_norm

    @property
    def skipped_steps(self):
        """Steps left out by ``nonfinite="skip"``."""
        return self._inner.skipped_steps

    @skipped_steps.setter
    def skipped_steps(self, n):
        self._inner.skipped_steps = n

    @property
    def nonfinite(self):
        """What a step does with a gradient that is not finite: "propagate", "raise" or "skip"."""
        return self._inner.nonfinite

    @nonfinite.setter
    def nonfinite(self, value):
        self._inner.nonfinite = value

    @property
    def clip_norm(self):
        """What the rule scales its gradients down to, or None."""
        return self._inner.clip_norm

    @clip_norm.setter
    def clip_norm(self, value):
        self._inner.clip_norm = value

    @property
    def clip_value(self):
        """What the rule clamps its gradients to, or None."""
        return self._inner.clip_value

    @clip_value.setter
    def clip_value(self, value):
        self._inner.clip_value = value

    @property
    def _takes_arrays(self):
        """Whether `step` takes gradients, not a function that computes them."""
        return getattr(self.opt, "_takes_arrays", True)

    def add_param_group(self, group):
        """Add a group of parameters to the rule; see ``Optimizer.add_param_group``.

        Parameters
        ----------
        group : dict
        """
        self._inner.add_param_group(group)
        self._parameters()

    def eval(self):
        """Let the parameters hold what the rule evaluates; see ``ScheduleFreeSGD.eval``."""
        self._inner.eval()

    def train(self):
        """Let the parameters hold what the rule trains, after `eval`."""
        self._inner.train()

    def description(self):
        """Return the wrapper and its options, in short.

        Returns
        -------
        str
        """
        return f"{type(self).__name__} ({self._options()})"

    def __repr__(self):
        return f"{self.description()} of {self.opt!r}"

    def state_dict(self):
        """Return a copy of the state: arrays and numbers only.

        Returns
        -------
        dict
            ``"optimizer"``: the state of the rule; beside it the wrapper's own.
        """
        return {"optimizer": self.opt.state_dict(), **self._own_state()}

    def load_state_dict(self, state):
        """Take over a state that `state_dict` returned. All or nothing.

        Parameters
        ----------
        state : dict

        Raises
        ------
        TypeError, ValueError
            The state is not one of this wrapper and rule for these parameters; nothing has been changed.
        """
        own = self._checked_state(state, ("optimizer", *self._own_state()))
        self.opt.load_state_dict(state["optimizer"])
        self._take(own)

    def _checked_state(self, state, keys):
        if not isinstance(state, Mapping) or not set(keys) <= set(state):
            got = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise TypeError(f"state: expected a dict with the keys {sorted(keys)}, got {got}")
        return self._own_checked(state, self._parameters())

    def _parameters(self):
        """The parameters as they are now, for a group may have been added; the wrapper's own state has grown."""
        rule = self._rule
        if self._known is None or len(rule._arrays) != len(self._known):
            self._known = Parameters(list(rule._names), list(rule._arrays), [p.parameter for p in rule._plans],
                                     [state.get("master") for state in rule._state])
            self._grow(self._known)
        return self._known

    def _gradients(self, grads):
        """The gradients as a list, one for each parameter, float32 or float64, after every check of the rule's step."""
        rule = self._rule
        return [None if g is None else wide(g, rule._storage.kind(g)) for g in rule._given(grads)]

    def _expect_arrays(self):
        if not getattr(self.opt, "_takes_arrays", True):
            raise TypeError(f"opt: expected what is stepped with gradients, but SAM is stepped with a function; "
                            f"put it around, got {type(self.opt).__name__}")

    def _check_finite(self, parameters, grads, norm):
        """Return whether the norm allows the step, by ``nonfinite``; FloatingPointError where that says so."""
        if math.isfinite(norm) or self.nonfinite == "propagate":
            return True
        if self.nonfinite == "raise":
            bad = (n for n, g in zip(parameters.names, grads, strict=True) if g is not None and has_nonfinite(g))
            raise FloatingPointError(f"gradient of {next(bad, 'params')}: expected finite values, got {norm}; "
                                     f"nothing was changed")
        self.skipped_steps += 1
        return False


class MultiSteps(Wrapper):
    """Accumulate gradients: every so many calls of ``step``, one step of the rule with their mean.

    Parameters
    ----------
    opt : Optimizer or wrapper
        The rule; its schedules and ``steps`` count its own steps, its ``clip_norm`` applies to the mean.
    every : int
        Gradients of one step; may be changed at any time.

    Attributes
    ----------
    count : int
        Gradients that wait for the next step.
    last_grad_norm : float or None
        2-norm of what the last call gave: of the mean when it was a step, else of its gradient; None where it was
        not needed.

    Notes
    -----
    The mean is the sum over `every`: a None gradient counts as zero, as it does where losses are scaled by 1/every
    and PyTorch adds up ``.grad``; a parameter with nothing but None is skipped. Beside the gradients there are two
    arrays of the parameters' size: the sum, and the next sum or the mean that the rule reads, so that an error in the
    step leaves the sum as it was. A gradient that makes the sum overflow is treated as one that is not finite. Unless
    ``nonfinite`` is "propagate", each gradient is checked when it comes.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0), every=2)
    >>> opt.step(np.array([1.0, 0.0]))
    >>> theta
    array([0., 0.])
    >>> opt.step(np.array([3.0, 1.0]))
    >>> theta
    array([-2. , -0.5])
    """

    def __init__(self, opt, every):
        super().__init__(opt)
        self._expect_arrays()
        self.every = integer("every", every)
        self.count = 0
        self._sum, self._waits, self._mean, self._norm = [], [], [], None
        self._parameters()

    @property
    def last_grad_norm(self):
        """2-norm of the mean or gradient of the last call, or None."""
        return self._norm

    def _options(self):
        return f"every={self.every}"

    def _grow(self, parameters):
        new = len(parameters) - len(self._sum)
        self._sum, self._mean = self._sum + [None] * new, self._mean + [None] * new   # allocated by gradients
        self._waits = self._waits + [False] * new

    def step(self, grads):
        """Add the gradients; with the last of `every`, step the rule. All or nothing.

        Parameters
        ----------
        grads : array, sequence or mapping
            As the rule takes them.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As the rule's; neither the parameters nor the sum have been changed.
        """
        every, parameters = integer("every", self.every), self._parameters()
        given = self._gradients(grads)
        norm = None
        if self.nonfinite != "propagate":
            norm = norm_of(given)
            if not self._check_finite(parameters, given, norm):
                self._norm = norm
                return
        if self.count + 1 >= every:
            skipped = self.skipped_steps
            self.opt.step(self._combined(given, self.count + 1) if self.count else given)
            self._norm = self.opt.last_grad_norm
            if self.skipped_steps == skipped:
                self.reset()
            return
        total = self._combined(given, 1)
        if self.nonfinite == "propagate" or self._check_finite(parameters, total, norm_of(total)):
            self._sum, self._mean = self._mean, self._sum
            self._waits = [t is not None for t in total]
            self.count += 1
        self._norm = norm

    def reset(self):
        """Drop the gradients that wait for the next step."""
        self.count, self._waits = 0, [False] * len(self._waits)

    def _combined(self, given, divisor):
        """The sum of what waits and these gradients over the divisor, in arrays of its own; None where neither is."""
        result = []
        with np.errstate(all="ignore"):
            for i, g in enumerate(given):
                terms = [x for x in (self._sum[i] if self._waits[i] else None, g) if x is not None]
                if terms and self._mean[i] is None:
                    self._mean[i] = self._known.zeros(i)
                result.append(self._mean[i] if terms else None)
                for mean, *part in blocks(self._mean[i], *terms) if terms else ():
                    arithmetic = {"out": mean, "dtype": mean.dtype, "casting": "same_kind"}
                    total = np.add(*part, **arithmetic) if part[1:] else part[0]
                    np.divide(total, divisor, **arithmetic)
        return result

    def _own_state(self):
        waiting = [s if w else None for s, w in zip(self._sum, self._waits, strict=True)]
        return {"count": self.count, "sum": copies(waiting)}

    def _own_checked(self, state, parameters):
        count = integer("state['count']", state["count"], 0)
        like = [parameters.zeros(i) for i in range(len(parameters))]
        waiting = checked_copies("sum", state["sum"], like, all_of_them=False)
        if count == 0 and state["sum"]:
            raise ValueError("state['sum']: expected no array where state['count'] is 0")
        return count, waiting

    def _take(self, own):
        self.count, self._sum = own
        self._waits, self._norm = [s is not None for s in self._sum], None


class Lookahead(Wrapper):
    r"""Lookahead: k steps of a rule forward, one step back towards slow weights.

    After every k steps of the rule:

    .. math:: \phi \leftarrow \phi + \alpha (\theta - \phi), \quad \theta \leftarrow \phi

    Parameters
    ----------
    opt : Optimizer or wrapper
        The rule, which moves the fast weights theta, the parameters; its state goes on unchanged.
    k : int
        Steps between two synchronisations.
    alpha : float
        In (0, 1].

    Attributes
    ----------
    count : int
        Steps since the last synchronisation.

    Notes
    -----
    The slow weights phi are a second copy of the parameters. Steps that the rule left out, or that only
    accumulated, do not count.

    References
    ----------
    Zhang, Lucas, Hinton and Ba, 2019, algorithm 1.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(1)
    >>> opt = oc.optim.Lookahead(oc.optim.SGD(theta, lr=1.0), k=2, alpha=0.5)
    >>> for _ in range(3):
    ...     opt.step(np.array([1.0]))
    ...     print(theta[0])
    -1.0
    -1.0
    -2.0
    """

    def __init__(self, opt, k=5, alpha=0.5):
        super().__init__(opt)
        self._refuse_hidden()
        self.k, self.alpha = integer("k", k), number("alpha", alpha, high=1.0, open_low=True)
        self.count, self._slow = 0, []
        self._parameters()

    def _options(self):
        return f"k={self.k}, alpha={self.alpha}"

    def _refuse_hidden(self):
        """What a rule keeps of its parameters beside them would not follow when they move."""
        rule = self._rule
        if hasattr(rule, "training") or any("compensation" in state for state in rule._state):
            raise ValueError("opt: expected a rule whose parameters are all that it moves, but a compensated or "
                             "schedule-free one keeps a part of them apart, which Lookahead would not move, got "
                             f"{type(rule).__name__}")

    def _grow(self, parameters):
        self._slow += [parameters.copy(i) for i in range(len(self._slow), len(parameters))]

    def step(self, grads):
        """Step the rule; after every k steps move the slow weights, and the parameters to them. All or nothing.

        Parameters
        ----------
        grads : array, sequence or mapping
            As the rule takes them.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As the rule's; nothing has been changed.
        """
        k, alpha = integer("k", self.k), number("alpha", self.alpha, high=1.0, open_low=True)
        parameters, before = self._parameters(), self.opt.steps
        parameters.check_writable()
        self.opt.step(grads)
        if self.opt.steps == before:
            return
        self.count += 1
        if self.count >= k:
            with np.errstate(all="ignore"):
                for i, slow in enumerate(self._slow):
                    theta = parameters.numbers(i)
                    for fast, phi in blocks(theta, slow):
                        np.subtract(fast, phi, out=fast)
                        np.multiply(fast, alpha, out=fast)
                        np.add(phi, fast, out=phi)
                        fast[...] = phi
                    parameters.settle(i, theta)
            self.count = 0

    def _own_state(self):
        return {"count": self.count, "slow": copies(self._slow)}

    def _own_checked(self, state, parameters):
        return integer("state['count']", state["count"], 0), checked_copies("slow", state["slow"], self._slow)

    def _take(self, own):
        self.count, self._slow = own
