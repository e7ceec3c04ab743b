"""The exponential moving average of the weights."""

import contextlib
import math

import numpy as np

from optcore.checks import flag, integer, number
from optcore.optim.arrays import BLOCK, Parameters, blocks, checked_copies, copies, exchange
from optcore.optim.optimizer import Optimizer
from optcore.optim.wrappers import Wrapper


class EMA(Wrapper):
    r"""Exponential moving average of the weights.

    .. math:: \bar\theta_t = \bar\theta_{t-1} + w_t (\theta_t - \bar\theta_{t-1}), \quad
              w_1 = 1, \quad w_t = 1 - d \quad\text{or, with debias,}\quad w_t = \frac{1 - d}{1 - d^t}

    Parameters
    ----------
    params_or_opt : Optimizer, wrapper, array, sequence or mapping of arrays
        Over a rule: ``step`` steps it and, if it moved, updates the average. Over arrays: call ``update`` after each
        change. Of any dtype that a parameter of a rule can have, C-contiguous, writable.
    decay : float
        d, in [0, 1).
    debias : bool
        Give every theta_i a weight in proportion to d**(t - i): the early average follows fast, and the first
        weights have no more part in it than their age allows. Without it theta_1 keeps the weight d**(t - 1), as in
        ``torch.optim.swa_utils.AveragedModel`` with ``get_ema_multi_avg_fn(decay)``.
    uint16_as : {None, "bfloat16", "float16"}
        Over arrays: what uint16 ones among them hold.

    Attributes
    ----------
    updates : int
        t.

    Notes
    -----
    The average is a second copy of the parameters, in their dtype, of half-precision ones in float32 (of their masters
    where there are any). In float32 it rests where w * (theta - average) is
    below half a unit in the last place: with d = 0.9999 that is a relative difference of 3e-4 to 6e-4.

    References
    ----------
    Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017. The bias correction is Kingma and Ba's, 2015.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(1)
    >>> ema = oc.optim.EMA(oc.optim.SGD(theta, lr=1.0), decay=0.5)
    >>> for _ in range(3):
    ...     ema.step(np.array([-1.0]))
    >>> theta, ema.average["params"]
    (array([3.]), array([2.25]))
    >>> with ema.applied():                  # evaluate, save, ...
    ...     print(theta)
    [2.25]
    >>> theta
    array([3.])
    """

    def __init__(self, params_or_opt, decay=0.999, debias=False, *, uint16_as=None):
        self.decay, self.debias, self.updates = _decay(decay), flag("debias", debias), 0
        self._average, self._kept, self._applied = [], {}, False
        if isinstance(params_or_opt, (Optimizer, Wrapper)):
            super().__init__(params_or_opt)
            if uint16_as is not None:
                raise ValueError("uint16_as: expected None over a rule, which has been told")
        else:
            self.opt, self._known = None, Parameters.bare(params_or_opt, uint16_as)
            self._grow(self._known)
        self._parameters()

    def _options(self):
        return f"decay={self.decay}, debias={self.debias}"

    def __repr__(self):
        of = f"{len(self._known)} arrays" if self.opt is None else repr(self.opt)
        return f"{self.description()} of {of}"

    def _parameters(self):
        return self._known if self.opt is None else super()._parameters()

    def _grow(self, parameters):
        self._average += [parameters.copy(i) for i in range(len(self._average), len(parameters))]

    def eval(self):
        """Let the parameters hold what the rule evaluates. RuntimeError within `applied`, as from `train`."""
        self._refuse_applied("eval")
        super().eval()

    def train(self):
        """Let the parameters hold what the rule trains, after `eval`."""
        self._refuse_applied("train")
        super().train()

    def add_param_group(self, group):
        """Add a group of parameters to the rule; see ``Optimizer.add_param_group``.

        Parameters
        ----------
        group : dict

        Raises
        ------
        RuntimeError
            Within `applied`.
        """
        self._refuse_applied("add_param_group")
        super().add_param_group(group)

    @property
    def average(self):
        """Mapping of name to the average of that parameter: read-only views."""
        views = {}
        for name, a in zip(self._parameters().names, self._average, strict=True):
            views[name] = a.view()
            views[name].flags.writeable = False
        return views

    def step(self, grads):
        """Step the rule and, if it moved, update the average. All or nothing.

        Parameters
        ----------
        grads : array, sequence or mapping
            As the rule takes them.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As the rule's; nothing has been changed.
        RuntimeError
            Within `applied`.
        """
        self._refuse_applied("step")
        if self.opt is None:
            raise TypeError("step: expected an EMA over a rule; over arrays call update() after each change")
        _decay(self.decay)
        self._parameters()
        before = self.opt.steps
        self.opt.step(grads)
        if self.opt.steps != before:
            self.update()

    def update(self):
        """Take the parameters as they are into the average.

        Raises
        ------
        RuntimeError
            Within `applied`.
        """
        self._refuse_applied("update")
        weight, parameters = self._weight(_decay(self.decay), self.updates + 1), self._parameters()
        with np.errstate(all="ignore"):
            for i, average in enumerate(self._average):
                theta = parameters.numbers(i)
                if weight == 1:
                    average[...] = theta
                    continue
                change = np.empty(min(BLOCK, theta.size), theta.dtype)
                for x, mean in blocks(theta, average):
                    d = np.subtract(x, mean, out=change[:x.size])
                    np.multiply(d, weight, out=d)
                    np.add(mean, d, out=mean)
        self.updates += 1

    def _weight(self, decay, t):
        if t == 1 or decay == 0:
            return 1.0
        # expm1: 1 - d**t would lose half of its digits where d is close to 1
        return (1 - decay) / -math.expm1(t * math.log(decay)) if self.debias else 1 - decay

    @contextlib.contextmanager
    def applied(self):
        """Exchange the parameters and their average within a ``with`` block; both come back bit for bit.

        The exchange is in place, without a copy, and what the block writes into the parameters goes into the average.
        Half-precision parameters hold the average rounded to nearest, and what is written to them there is lost.

        Raises
        ------
        RuntimeError
            Within another such block; and from `step`, `update`, `state_dict` and `load_state_dict` in this one.
        """
        self._refuse_applied("applied")
        parameters = self._parameters()
        parameters.check_writable()
        self._apply(parameters)
        try:
            yield
        finally:
            self._take_back(parameters)

    def _apply(self, parameters):
        for i, average in enumerate(self._average):
            if parameters.is_half(i):
                self._kept[i] = parameters.bits[i].copy()
                parameters.settle(i, average)
            else:
                exchange(parameters.arrays[i], average)
        self._applied = True

    def _take_back(self, parameters):
        for i, average in enumerate(self._average):
            if parameters.is_half(i):
                parameters.bits[i][...] = self._kept.pop(i)
            else:
                exchange(parameters.arrays[i], average)
        self._applied = False

    def _refuse_applied(self, name):
        if self._applied:
            raise RuntimeError(f"{name}: expected the parameters themselves, but they are exchanged with their "
                               f"average: within `with ema.applied()`")

    def state_dict(self):
        """Return a copy of the state: arrays and numbers only.

        Returns
        -------
        dict
            ``"updates"``, ``"average"``: parameter index -> array; over a rule also ``"optimizer"``, its state.
        """
        self._refuse_applied("state_dict")
        return self._own_state() if self.opt is None else super().state_dict()

    def load_state_dict(self, state):
        """Take over a state that `state_dict` returned. All or nothing.

        Parameters
        ----------
        state : dict

        Raises
        ------
        TypeError, ValueError
            The state is not one of these parameters; nothing has been changed.
        """
        self._refuse_applied("load_state_dict")
        if self.opt is None:
            self._take(self._checked_state(state, ("updates", "average")))
        else:
            super().load_state_dict(state)

    def _own_state(self):
        return {"updates": self.updates, "average": copies(self._average)}

    def _own_checked(self, state, parameters):
        return (integer("state['updates']", state["updates"], 0),
                checked_copies("average", state["average"], self._average))

    def _take(self, own):
        self.updates, self._average = own


def _decay(x):
    return number("decay", x, high=1.0, open_high=True)
