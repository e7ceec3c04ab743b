"""Update rules that bound each element's step by eta: the sign of m, or m/sigma clipped. Kernels:
``src_c/update_bounded.tmpl.h``."""

from optcore.optim.optimizer import Optimizer
from optcore.optim.rule import Rule, Slot


class Rprop(Optimizer):
    r"""Rprop: the sign of the gradient, with a step size for each element.

    .. math:: s \leftarrow \mathrm{clip}(s \cdot (\eta^+ \text{ if } g g' > 0, \; \eta^- \text{ if } g g' < 0, \;
              1 \text{ else}), s_{min}, s_{max}), \quad \theta \leftarrow \theta - s \, \mathrm{sign}(g)

    with g' the previous gradient; where the sign turned (g g' < 0), g counts as 0. The signs themselves are compared,
    so that gradients below 1e-23 in float32, whose product vanishes, count too; ``torch.optim.Rprop`` multiplies them.
    For full batches: the sign of a noisy gradient says little.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        The first s; not read after the first step.
    etas : (float, float)
        eta^- in (0, 1) and eta^+ above 1.
    step_sizes : (float, float)
        s_min and s_max.
    maximize : bool
        Ascend.

    References
    ----------
    Riedmiller and Braun, 1993; ``torch.optim.Rprop``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(3)
    >>> opt = oc.optim.Rprop(theta, lr=0.1)
    >>> opt.step(np.array([5.0, -2.0, 0.0]))
    >>> opt.step(np.array([5.0, 2.0, 0.0]))
    >>> theta
    array([-0.22,  0.1 ,  0.  ])
    """

    rule = Rule(
        kernel="rprop",
        options={"lr": 1e-2, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0), "maximize": False},
        slots=(Slot("prev", 2), Slot("step_size", 3, initial="lr")),
    )


class Lion(Optimizer):
    r"""Lion: the sign of a momentum.

    .. math:: \theta \leftarrow \theta - \eta (\mathrm{sign}(\beta_1 m + (1 - \beta_1) g) + \lambda\theta), \quad
              m \leftarrow \beta_2 m + (1 - \beta_2) g

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    betas : (float, float)
        beta_1 and beta_2, each in [0, 1).
    weight_decay : float or callable
        lambda.
    maximize : bool
        Ascend.

    References
    ----------
    Chen et al., 2023, *Symbolic Discovery of Optimization Algorithms*, in the form of the authors' code.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros(3)
    >>> opt = oc.optim.Lion(theta, lr=0.1)
    >>> opt.step(np.array([5.0, -2.0, 0.0]))
    >>> theta
    array([-0.1,  0.1,  0. ])
    """

    rule = Rule(
        kernel="lion",
        options={"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0, "maximize": False},
        slots=(Slot("exp_avg", 2, codes="signed"),),
    )


class Sophia(Optimizer):
    r"""Sophia: momentum over the diagonal of the Hessian, clipped.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
              \theta \leftarrow \theta - \eta\lambda\theta
              - \eta \, \mathrm{clip}\left(\frac{m}{\max(\rho h, 0) + \epsilon}, -1, 1\right)

    h is the moving mean of the estimates given to :meth:`update_hessian`; until there is one, and where h is not
    positive, the step is that of the sign. The authors feed an estimate every tenth step: for Sophia-H
    u * (Hessian-vector product of u) with random signs u; for Sophia-G the batch size times the squared gradient of the
    mean loss at labels drawn from the model (their code squares inside and multiplies rho by the batch size).

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta, the largest step.
    betas : (float, float)
        beta_1, of the gradients, and beta_2, of the estimates; each in [0, 1).
    rho : float
        Scales h: the smaller, the more steps are clipped.
    weight_decay : float or callable
        lambda.
    eps : float
        Added to sigma.
    maximize : bool
        Ascend; the estimates are then those of the negated objective.

    References
    ----------
    Liu, Li, Hall, Liang and Ma, 2023, algorithm 3, with the authors' defaults.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.array([1.0, 1.0])
    >>> opt = oc.optim.Sophia(theta, lr=0.5, betas=(0.0, 0.0), rho=1.0, weight_decay=0.0)
    >>> opt.update_hessian(np.array([4.0, 0.5]))
    >>> opt.step(np.array([2.0, 2.0]))       # 2/4, and 2/0.5 clipped
    >>> theta
    array([0.75, 0.5 ])
    """

    rule = Rule(
        kernel="sophia",
        options={"lr": 1e-4, "betas": (0.965, 0.99), "rho": 0.04, "weight_decay": 0.1, "eps": 1e-15,
                 "maximize": False},
        slots=(Slot("exp_avg", 2), Slot("hessian", 3)),
    )

    def update_hessian(self, estimates):
        r"""Mix an estimate of the Hessian's diagonal into h: h <- beta_2 h + (1 - beta_2) estimate.

        Parameters
        ----------
        estimates : array, sequence or mapping
            The structure of ``params``, as the gradients of a step; None leaves a parameter's h as it is.

        Raises
        ------
        TypeError, ValueError
            An estimate is not what it has to be; the message names it. Nothing has been changed.
        FloatingPointError
            With ``nonfinite="raise"``: an estimate holds NaN or infinity. With ``nonfinite="skip"`` none of the
            estimates is taken, and ``skipped_steps`` counts it.
        """
        self._feed("sophia_hessian", estimates, "estimates", "estimate")
