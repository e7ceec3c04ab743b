"""The update rules that the others vary: each a row of data over a kernel of ``src_c/update.tmpl.h``.

All, and those of ``adaptive``, ``bounded`` and ``averaged``, are one formula, theta <- theta - eta_t / sigma_t * m_t.
``g`` is the gradient, after clipping and with its sign changed by ``maximize``.
"""

from optcore.optim.optimizer import Optimizer
from optcore.optim.rule import Rule, Slot


def _nesterov_needs_momentum(group):
    if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
        raise ValueError("nesterov: expected a positive momentum and no dampening, "
                         f"got momentum={group['momentum']}, dampening={group['dampening']}")


class SGD(Optimizer):
    r"""Stochastic gradient descent with momentum.

    .. math:: g \leftarrow g + \lambda\theta, \quad b \leftarrow \mu b + (1 - \tau) g, \quad
              \theta \leftarrow \theta - \eta m

    with m = g without momentum, m = b with it, m = g + mu*b with ``nesterov``; the first b is g itself.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta. The lecture's form m_t = mu*m_{t-1} - eta*g is the same while eta is constant.
    momentum, dampening : float
        mu and tau.
    weight_decay : float or callable
        lambda, of the coupled (L2) form.
    nesterov : bool
        Nesterov's look ahead; needs momentum and no dampening.
    maximize : bool
        Ascend.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, 2013, in the form of ``torch.optim.SGD``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.array([1.0, -2.0])
    >>> opt = oc.optim.SGD(theta, lr=0.1)
    >>> opt.step(2 * theta)          # the gradient of |theta|^2
    >>> theta
    array([ 0.8, -1.6])
    """

    rule = Rule(
        kernel="sgd",
        options={"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False,
                 "maximize": False},
        slots=(Slot("momentum_buffer", 2, when="momentum", restarts=True, codes="signed"),),
        check=_nesterov_needs_momentum,
    )


class Adagrad(Optimizer):
    r"""Adagrad: each parameter's rate falls with the gradients that it has seen.

    .. math:: s \leftarrow s + g^2, \quad
              \theta \leftarrow \theta - \frac{\eta}{1 + (t-1)\gamma} \frac{g}{\sqrt{s} + \epsilon}

    With ``average`` the lecture's form: sigma_t = sqrt(s / t), the root of the mean square, so that with ``eps=0`` the
    first step is exactly -lr*sign(g) (0 where s is 0).

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    lr_decay : float
        gamma.
    weight_decay : float or callable
        Coupled (L2).
    initial_accumulator_value : float
        The first s.
    eps : float
        Added to the root.
    maximize : bool
        Ascend.
    average : bool
        Divide s by the number of steps.

    References
    ----------
    Duchi, Hazan and Singer, 2011; ``torch.optim.Adagrad``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(3)
    >>> opt = oc.optim.Adagrad(theta, lr=0.5, eps=0, average=True)
    >>> opt.step(np.array([3.0, -0.001, 0.0]))
    >>> theta
    array([-0.5,  0.5,  0. ])
    """

    rule = Rule(
        kernel="adagrad",
        options={"lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10,
                 "maximize": False, "average": False},
        slots=(Slot("sum", 2, initial="initial_accumulator_value", codes="unsigned"),),
    )


class RMSprop(Optimizer):
    r"""RMSprop: the rate of each parameter follows the recent size of its gradient.

    .. math:: s \leftarrow \alpha s + (1 - \alpha) g^2, \quad \sigma = \sqrt{s} + \epsilon, \quad
              b \leftarrow \mu b + g / \sigma, \quad \theta \leftarrow \theta - \eta b

    ``centered`` subtracts the square of the moving mean of g from s under the root. With ``warm_start`` the lecture's
    form: sigma_0 = abs(g_0), so that the first step is -lr*sign(g) (with ``eps=0``; 0 where sigma is 0).

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    alpha : float
        Weight of the past.
    eps : float
        Added to the root.
    weight_decay : float or callable
        Coupled (L2).
    momentum : float
        mu.
    centered : bool
        Divide by the deviation, not by the root mean square.
    maximize : bool
        Ascend.
    warm_start : bool
        Start s from the first gradient, not from 0.

    References
    ----------
    Tieleman and Hinton, 2012; Graves, 2013 (centered); ``torch.optim.RMSprop``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.RMSprop(theta, lr=0.1, eps=0, warm_start=True)
    >>> opt.step(np.array([5.0, -2.0]))
    >>> theta
    array([-0.1,  0.1])
    """

    rule = Rule(
        kernel="rmsprop",
        options={"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False,
                 "maximize": False, "warm_start": False},
        slots=(Slot("square_avg", 2, codes="unsigned"), Slot("momentum_buffer", 3, when="momentum", codes="signed"),
               Slot("grad_avg", 4, when="centered")),
    )


_MOMENTS = (Slot("exp_avg", 2, codes="signed"), Slot("exp_avg_sq", 3, codes="unsigned"),
            Slot("max_exp_avg_sq", 4, when="amsgrad"))


class Adam(Optimizer):
    r"""Adam: RMSprop and momentum, with bias corrections.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
              \theta \leftarrow \theta - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    betas : (float, float)
        beta_1 and beta_2, each in [0, 1).
    eps : float
        Added to the root.
    weight_decay : float or callable
        Coupled (L2): added to the gradient.
    amsgrad : bool
        Take the largest v so far.
    maximize : bool
        Ascend.
    decoupled_weight_decay : bool
        Decay as :class:`AdamW` does.

    References
    ----------
    Kingma and Ba, 2015; Reddi, Kale and Kumar, 2018 (amsgrad); ``torch.optim.Adam``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.Adam(theta, lr=0.1)
    >>> opt.step(np.array([5.0, -2.0]))
    >>> theta.round(6)
    array([-0.1,  0.1])
    """

    rule = Rule(
        kernel="adam",
        options={"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False,
                 "maximize": False, "decoupled_weight_decay": False},
        slots=_MOMENTS,
    )


class AdamW(Optimizer):
    r"""Adam with decoupled weight decay.

    .. math:: \theta \leftarrow \theta - \eta\lambda\theta
              - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    with m and v as in :class:`Adam`.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    betas : (float, float)
        beta_1 and beta_2, each in [0, 1).
    eps : float
        Added to the root.
    weight_decay : float or callable
        lambda.
    amsgrad : bool
        Take the largest v so far.
    maximize : bool
        Ascend.

    References
    ----------
    Loshchilov and Hutter, 2019; ``torch.optim.AdamW``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> weights = {"w": np.ones((2, 2), "float32"), "b": np.zeros(2, "float32")}
    >>> opt = oc.optim.AdamW(weights, lr=lambda step: 1e-3 / (1 + step), clip_norm=1.0)
    >>> opt.step({"w": np.full((2, 2), 3.0, "float32"), "b": None})
    >>> opt.last_grad_norm
    6.0
    """

    rule = Rule(
        kernel="adam",
        options={"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2, "amsgrad": False,
                 "maximize": False},
        slots=_MOMENTS,
        constants={"decoupled": 1},
    )
