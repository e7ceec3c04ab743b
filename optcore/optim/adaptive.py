"""Update rules whose sigma is made of past gradients: kin of RMSprop and Adam. Kernels: ``src_c/update.tmpl.h``."""

from optcore.optim.optimizer import Optimizer
from optcore.optim.options import numbers, within
from optcore.optim.rule import Rule, Scalar, Slot


def _rho_is_a_weight(group):
    if group["rho"] > 1:
        raise ValueError(f"rho: expected a number in [0, 1], got {group['rho']}")


class Adadelta(Optimizer):
    r"""Adadelta: steps in the units of theta, sized by the recent steps.

    .. math:: s \leftarrow \rho s + (1 - \rho) g^2, \quad
              \delta = \frac{\sqrt{d + \epsilon}}{\sqrt{s + \epsilon}} g, \quad
              d \leftarrow \rho d + (1 - \rho) \delta^2, \quad \theta \leftarrow \theta - \eta\delta

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    rho : float
        Weight of the past, in [0, 1].
    eps : float
        Added under the roots.
    weight_decay : float or callable
        Coupled (L2): added to the gradient.
    maximize : bool
        Ascend.

    References
    ----------
    Zeiler, 2012; ``torch.optim.Adadelta``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.Adadelta(theta, rho=0.75, eps=1.0)
    >>> opt.step(np.array([0.0, 4.0]))       # s = 4, delta = 4 / sqrt(5)
    >>> theta.round(6)
    array([ 0.      , -1.788854])
    """

    rule = Rule(
        kernel="adadelta",
        options={"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0, "maximize": False},
        slots=(Slot("square_avg", 2), Slot("acc_delta", 3)),
        check=_rho_is_a_weight,
    )


class Adamax(Optimizer):
    r"""Adamax: Adam with the infinity norm.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad u \leftarrow \max(\beta_2 u, |g| + \epsilon), \quad
              \theta \leftarrow \theta - \frac{\eta}{1 - \beta_1^t} \frac{m}{u}

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    betas : (float, float)
        beta_1 and beta_2, each in [0, 1).
    eps : float
        Added to abs(g).
    weight_decay : float or callable
        Coupled (L2): added to the gradient.
    maximize : bool
        Ascend.

    References
    ----------
    Kingma and Ba, 2015, section 7.1; ``torch.optim.Adamax``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.Adamax(theta, lr=0.1)
    >>> opt.step(np.array([5.0, -2.0]))
    >>> theta.round(6)
    array([-0.1,  0.1])
    """

    rule = Rule(
        kernel="adamax",
        options={"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "maximize": False},
        slots=(Slot("exp_avg", 2), Slot("exp_inf", 3)),
    )


_MOMENTS = (Slot("exp_avg", 2), Slot("exp_avg_sq", 3))


class NAdam(Optimizer):
    r"""NAdam: Adam with Nesterov's momentum.

    .. math:: \mu_t = \beta_1 (1 - \tfrac{1}{2} 0.96^{t\psi}), \quad
              \hat m = \frac{\mu_{t+1} m}{1 - \prod_{i \le t+1} \mu_i}
              + \frac{(1 - \mu_t) g}{1 - \prod_{i \le t} \mu_i}, \quad
              \theta \leftarrow \theta - \eta \frac{\hat m}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    with m and v as in :class:`Adam`. The product of the mu is carried in double, as ``mu_product``.

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
    momentum_decay : float
        psi.
    decoupled_weight_decay : bool
        Decay as :class:`AdamW` does.
    maximize : bool
        Ascend.

    References
    ----------
    Dozat, 2016; ``torch.optim.NAdam``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.NAdam(theta, lr=0.1, betas=(0.0, 0.999))
    >>> opt.step(np.array([5.0, -2.0]))
    >>> theta.round(6)
    array([-0.1,  0.1])
    """

    rule = Rule(
        kernel="nadam",
        options={"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "momentum_decay": 4e-3,
                 "decoupled_weight_decay": False, "maximize": False},
        slots=_MOMENTS,
        scalars=(Scalar("mu_product", 1.0),),
    )


class RAdam(Optimizer):
    r"""RAdam: Adam that waits until its second moment can be trusted.

    .. math:: \rho_\infty = \frac{2}{1 - \beta_2} - 1, \quad
              \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t}, \quad
              \theta \leftarrow \theta - \eta \frac{m}{1 - \beta_1^t} \cdot
              \sqrt{\frac{(\rho_t - 4)(\rho_t - 2)\rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2)\rho_t}}
              \frac{\sqrt{1 - \beta_2^t}}{\sqrt{v} + \epsilon}

    with m and v as in :class:`Adam`; while rho_t <= 5 the last two factors are 1.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    betas : (float, float)
        beta_1 and beta_2, each in [0, 1).
    eps : float
        Added to the root, before its bias correction.
    weight_decay : float or callable
        Coupled (L2): added to the gradient.
    decoupled_weight_decay : bool
        Decay as :class:`AdamW` does.
    maximize : bool
        Ascend.

    References
    ----------
    Liu, Jiang, He, Chen, Liu, Gao and Han, 2020; ``torch.optim.RAdam``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.RAdam(theta, lr=0.1)
    >>> opt.step(np.array([5.0, -2.0]))      # still momentum alone
    >>> theta
    array([-0.5,  0.2])
    """

    rule = Rule(
        kernel="radam",
        options={"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "decoupled_weight_decay": False,
                 "maximize": False},
        slots=_MOMENTS,
    )


class AdEMAMix(Optimizer):
    r"""AdEMAMix: AdamW with a second, slow mean of the gradients.

    .. math:: m_1 \leftarrow \beta_1 m_1 + (1 - \beta_1) g, \quad m_2 \leftarrow \beta_3(t) m_2 + (1 - \beta_3(t)) g,
              \quad \theta \leftarrow \theta - \eta\lambda\theta
              - \eta \frac{m_1 / (1 - \beta_1^t) + \alpha(t) m_2}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    with v as in :class:`Adam`. alpha(t) grows linearly from 0 to alpha over ``alpha_warmup`` steps; beta_3(t) grows
    from beta_1 to beta_3 over ``beta3_warmup`` steps, so that the half-life of its mean grows linearly.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    betas : (float, float, float)
        beta_1, beta_2 and beta_3, each in [0, 1).
    alpha : float
        Weight of the slow mean.
    beta3_warmup, alpha_warmup : int, optional
        Steps of the warm-ups; None for none.
    eps : float
        Added to the root.
    weight_decay : float or callable
        lambda.
    maximize : bool
        Ascend.

    References
    ----------
    Pagliardini, Ablin and Grangier, 2024, in the form of the authors' code.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(2)
    >>> opt = oc.optim.AdEMAMix(theta, lr=0.1, betas=(0.9, 0.999, 0.5), alpha=2.0)
    >>> opt.step(np.array([5.0, -2.0]))      # m1 is corrected to g, m2 = g / 2
    >>> theta.round(6)
    array([-0.2,  0.2])
    """

    rule = Rule(
        kernel="ademamix",
        options={"lr": 1e-3, "betas": (0.9, 0.999, 0.9999), "alpha": 2.0, "beta3_warmup": None, "alpha_warmup": None,
                 "eps": 1e-8, "weight_decay": 0.0, "maximize": False},
        slots=(Slot("exp_avg_fast", 2), Slot("exp_avg_slow", 3), Slot("exp_avg_sq", 4)),
        checks={"betas": (numbers(3, 0, 1), ("beta1", "beta2", "beta3")), "alpha": (within(0), ("alpha",))},
    )
