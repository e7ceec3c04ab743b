"""Update rules that keep an average of theta. Kernels: ``src_c/update_averaged.tmpl.h``."""

from optcore.optim.optimizer import Optimizer
from optcore.optim.options import within
from optcore.optim.rule import Rule, Scalar, Slot


class ASGD(Optimizer):
    r"""Averaged stochastic gradient descent.

    .. math:: \theta \leftarrow (1 - \lambda\eta_t)\theta - \eta_t g, \quad a \leftarrow a + \mu_t (\theta - a)

    with eta_1 = lr and mu_1 = 1; step t leaves eta = lr / (1 + lambd * lr * t)^alpha and mu = 1 / max(1, t - t0) for
    the next. The average a is ``ax`` in the state: theta itself up to step t0 + 2, the mean of all theta from there on.
    As in PyTorch, a changed ``lr`` acts one step late.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        The first eta.
    lambd : float
        lambda, the decay, also of eta.
    alpha : float
        The power with which eta falls.
    t0 : float
        Where averaging starts.
    weight_decay : float or callable
        Coupled (L2): added to the gradient.
    maximize : bool
        Ascend.

    References
    ----------
    Polyak and Juditsky, 1992; ``torch.optim.ASGD``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.array([1.0])
    >>> opt = oc.optim.ASGD(theta, lr=0.5, lambd=0.0, t0=1)
    >>> for gradient in (1.0, 0.5, 0.5, 0.5):
    ...     opt.step(np.array([gradient]))
    >>> theta, opt.state_dict()["state"][0]["ax"]     # theta was 0.5, 0.25, 0, -0.25
    (array([-0.25]), array([-0.125]))
    """

    rule = Rule(
        kernel="asgd",
        options={"lr": 1e-2, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0.0, "maximize": False},
        slots=(Slot("ax", 2),),
        scalars=(Scalar("eta", "lr"), Scalar("mu", 1.0)),
        checks={"alpha": (within(0), ("alpha",))},
    )


class _ScheduleFree:
    """What theta holds: y, where gradients are taken, or the average x. Mixed into the schedule-free rules."""

    training = True
    """Whether theta holds y; before the first step x and y are the same."""

    def train(self):
        """Let theta hold y, the point where gradients are taken. Nothing happens if it does."""
        if not self.training:
            self._move("schedule_free_train", self._Z)
            self.training = True

    def eval(self):
        """Let theta hold x, the average, for evaluation. Nothing happens if it does.

        x is recomputed from y and z, and y from x and z: there and back is exact up to rounding.
        """
        if self.training:
            self._move("schedule_free_eval", self._Z)
            self.training = False

    _Z = 2  # the stream

    def step(self, grads):
        """Update as :meth:`Optimizer.step` does.

        Parameters
        ----------
        grads : array, sequence or mapping
            At y.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As there.
        RuntimeError
            In eval mode, where theta is not y.
        """
        self._expect_training()
        super().step(grads)

    def _given(self, grads):
        self._expect_training()
        return super()._given(grads)

    def _expect_training(self):
        if not self.training:
            raise RuntimeError("step: expected train mode, but theta holds the average: call train() first")

    def state_dict(self, *, portable=False):
        """Return a copy of the state.

        Parameters
        ----------
        portable : bool

        Returns
        -------
        dict
            As of :meth:`Optimizer.state_dict`; each group also has ``"train_mode"``.
        """
        state = super().state_dict(portable=portable)
        for group in state["param_groups"]:
            group["train_mode"] = self.training
        return state

    def load_state_dict(self, state):
        """Take over a state, as :meth:`Optimizer.load_state_dict`.

        Parameters
        ----------
        state : dict
            Taken when theta was what it is now, in train or eval mode.
        """
        super().load_state_dict(state)
        self.training = all(bool(group.get("train_mode", True)) for group in state["param_groups"])


def _share_of_x(name, value):
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number in (0, 1), got {value!r}")


_SCALARS = (Scalar("weight_sum", 0.0), Scalar("lr_max", -1.0))


class ScheduleFreeSGD(_ScheduleFree, Optimizer):
    r"""Schedule-free SGD: no schedule of eta, but an average that no end of training is needed for.

    .. math:: y = \beta x + (1 - \beta) z, \quad z \leftarrow z - \eta_t (g(y) + \lambda y), \quad
              x \leftarrow (1 - c) x + c z, \quad
              c = \frac{t^r \eta_{max}^p}{\sum_{i \le t} i^r \eta_{max,i}^p}

    theta holds y while training, and x after :meth:`eval`; :meth:`train` goes back. Every parameter counts its own
    steps; the authors' code counts those of the group.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    momentum : float
        beta, in (0, 1).
    weight_decay : float or callable
        lambda, at y.
    warmup_steps : int
        eta_t grows linearly over so many steps.
    r : float
        Power of the step number in the weights of the average.
    weight_lr_power : float
        p, the power of the largest eta so far.
    maximize : bool
        Ascend.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, 2024, in the form of the authors' code.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.array([1.0])
    >>> opt = oc.optim.ScheduleFreeSGD(theta, lr=0.5, momentum=0.5)
    >>> opt.step(np.array([1.0]))            # z = x = y = 0.5
    >>> opt.step(np.array([0.5]))            # z = 0.25, x = (0.5 + 0.25) / 2, y halfway between
    >>> theta
    array([0.3125])
    >>> opt.eval()
    >>> theta
    array([0.375])
    """

    rule = Rule(
        kernel="schedule_free",
        options={"lr": 1.0, "momentum": 0.9, "weight_decay": 0.0, "warmup_steps": 0, "r": 0.0, "weight_lr_power": 2.0,
                 "maximize": False},
        slots=(Slot("z", 2),),
        scalars=_SCALARS,
        checks={"momentum": (within(0, 1), ("beta1",))},
        check=lambda group: _share_of_x("momentum", group["momentum"]),
    )


class ScheduleFreeAdamW(_ScheduleFree, Optimizer):
    r"""Schedule-free AdamW: the step of z is Adam's, without momentum.

    .. math:: y = \beta_1 x + (1 - \beta_1) z, \quad
              z \leftarrow z - \eta_t \left(\frac{g(y)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} + \lambda y\right), \quad
              x \leftarrow (1 - c) x + c z

    with v as in :class:`Adam` and c as in :class:`ScheduleFreeSGD`, which says what theta holds.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    betas : (float, float)
        beta_1 in (0, 1) and beta_2 in [0, 1).
    eps : float
        Added to the root.
    weight_decay : float or callable
        lambda, at y.
    warmup_steps : int
        eta_t grows linearly over so many steps.
    r : float
        Power of the step number in the weights of the average.
    weight_lr_power : float
        Power of the largest eta so far.
    maximize : bool
        Ascend.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, 2024, in the form of the authors' code.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.ScheduleFreeAdamW(theta, lr=0.1)
    >>> opt.step(np.array([5.0, -2.0]))
    >>> opt.eval()
    >>> theta.round(6)
    array([-0.1,  0.1])
    """

    rule = Rule(
        kernel="schedule_free",
        options={"lr": 2.5e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "warmup_steps": 0, "r": 0.0,
                 "weight_lr_power": 2.0, "maximize": False},
        slots=(Slot("z", 2), Slot("exp_avg_sq", 3)),
        scalars=_SCALARS,
        constants={"adaptive": 1},
        check=lambda group: _share_of_x("betas[0]", group["betas"][0]),
    )
