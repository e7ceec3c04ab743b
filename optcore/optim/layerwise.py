"""Update rules that look at a whole tensor, a layer, before they move an element of it. Kernels:
``src_c/update_layerwise.tmpl.h``; what happens between them: ``_native/layerwise.pyx``."""

from optcore.optim.optimizer import Optimizer
from optcore.optim.options import within
from optcore.optim.rule import Rule, Slot
from optcore.process import one_pool


class LAMB(Optimizer):
    r"""LAMB: Adam, with steps of each layer in proportion to its size.

    .. math:: u = \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} + \lambda\theta, \quad
              \theta \leftarrow \theta - \eta \frac{\|\theta\|}{\|u\|} u

    with m and v as in :class:`Adam` and the 2-norms of a whole array. Where one of the norms is 0, their ratio counts
    as 1. Each array is a layer: give a network's arrays, not one flat vector. Biases and norms are commonly left out of
    the decay (:func:`decay_groups`).

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
        lambda: a part of u, so that it counts in the norm.
    bias_correction : bool
        False leaves out both divisions by 1 - beta^t, as the authors' code does.
    maximize : bool
        Ascend.

    Notes
    -----
    phi of the paper is the identity, as in the authors' code. Norms are sums in double. The rule holds one work array
    of the parameters' size beside its state.

    References
    ----------
    You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer and Hsieh, 2020, *Large Batch Optimization for Deep
    Learning*, algorithm 2.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.array([3.0, 4.0])
    >>> opt = oc.optim.LAMB(theta, lr=0.1, eps=0.0, weight_decay=0.0)
    >>> opt.step(np.array([7.0, -2.0]))      # u = (1, -1), norm of theta 5
    >>> theta.round(6)
    array([2.646447, 4.353553])
    """

    rule = Rule(
        kernel="lamb",
        options={"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01, "bias_correction": True,
                 "maximize": False},
        slots=(Slot("exp_avg", 2), Slot("exp_avg_sq", 3)),
        layerwise=True,
    )


def _nesterov_needs_momentum(group):
    if group["nesterov"] and not group["momentum"]:
        raise ValueError("nesterov: expected momentum > 0 with it, got momentum 0")


class LARS(Optimizer):
    r"""LARS: momentum, with steps of each layer in proportion to its size.

    .. math:: b \leftarrow \mu b + \eta \frac{\tau \|\theta\|}{\|g\| + \lambda\|\theta\| + \epsilon}
              (g + \lambda\theta), \quad \theta \leftarrow \theta - b

    with the 2-norms of a whole array; with Nesterov, theta moves by mu b plus what b was given. The momentum sums
    steps, learning rates included, as in the paper: a schedule acts on what is added from then on. Each array is a
    layer: give a network's arrays, not one flat vector.

    Where the norm of theta or of g is 0, the fraction counts as 1, as in the authors' code: a bias that starts at 0
    takes a step of plain momentum first, with the full eta, and a layer whose gradient is 0 decays by eta lambda. With
    an eta of the size that LARS wants (1 to 30), biases and norms are better left to another rule.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta, the global learning rate.
    momentum : float
        mu.
    weight_decay : float or callable
        lambda.
    trust_coefficient : float
        tau, how much of its size a layer moves.
    eps : float
        Added to the denominator; the paper has none, later implementations 1e-8.
    nesterov : bool
        Look ahead by one more step of the momentum; needs momentum > 0.
    maximize : bool
        Ascend.

    Notes
    -----
    Norms are sums in double. The rule holds one work array of the parameters' size beside its state.

    References
    ----------
    You, Gitman and Ginsburg, 2017, *Large Batch Training of Convolutional Networks*, algorithm 1, with its trust
    coefficient, momentum and weight decay.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.array([3.0, 4.0])
    >>> opt = oc.optim.LARS(theta, lr=1.0, weight_decay=0.0, trust_coefficient=0.5)
    >>> opt.step(np.array([0.0, 10.0]))      # half of 5 in the direction of g
    >>> theta
    array([3. , 1.5])
    """

    rule = Rule(
        kernel="lars",
        options={"lr": 1.0, "momentum": 0.9, "weight_decay": 5e-4, "trust_coefficient": 1e-3, "eps": 0.0,
                 "nesterov": False, "maximize": False},
        slots=(Slot("momentum_buffer", 2, when="momentum"),),
        check=_nesterov_needs_momentum,
        layerwise=True,
    )


def _eps_pair(name, value):
    """The eps of sigma, -1 for that of the dtype, and the least size of theta."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}: expected (number or None, number), got {value!r}")
    if len(value) != 2:
        raise ValueError(f"{name}: expected 2 numbers, got {len(value)}")
    first = -1.0 if value[0] is None else within(0)(f"{name}[0]", value[0])
    return first, within(0)(f"{name}[1]", value[1])


def _vector(shape):
    return shape if len(shape) < 2 else None


def _rows(shape):
    return (*shape[:-1], 1) if len(shape) > 1 else None


def _columns(shape):
    return (*shape[:-2], 1, shape[-1]) if len(shape) > 1 else None


class Adafactor(Optimizer):
    r"""Adafactor: a second moment of rows and columns, steps in proportion to the size of theta.

    .. math:: R \leftarrow (1 - t^\kappa) R + t^\kappa \, \mathrm{mean}_j(g_{ij}^2), \quad
              C \leftarrow (1 - t^\kappa) C + t^\kappa \, \mathrm{mean}_i(g_{ij}^2), \quad
              v_{ij} = \frac{R_i C_j}{\max(\mathrm{mean}(R), \epsilon_1)}

    .. math:: u = \frac{g}{\max(\sqrt{v}, \epsilon_1)}, \quad
              \theta \leftarrow \theta - \eta\lambda\theta - \min(\eta, t^{-1/2})
              \frac{\max(\epsilon_2, \mathrm{RMS}(\theta))}{\max(1, \mathrm{RMS}(u) / d)} u

    where RMS is the root of the mean square over the whole array. An array of more than two dimensions is a stack of
    matrices (its last two); one of fewer than two has v <- (1 - t^kappa) v + t^kappa g^2. A matrix of n rows and m
    columns needs n + m numbers of state.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``, ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta: the largest relative step size, and the rate of the decay.
    beta2_decay : float
        kappa, at most 0.
    eps : (float or None, float)
        eps_1, None for the machine epsilon of the parameter's dtype, and eps_2, the least size of theta.
    d : float
        Largest RMS of u, at least 1.
    weight_decay : float or callable
        lambda.
    maximize : bool
        Ascend.

    Notes
    -----
    As in ``torch.optim``, eps_1 bounds sigma; the paper adds it to g^2. Means and norms are sums in double. The rule
    holds one work array of the parameters' size beside its state.

    References
    ----------
    Shazeer and Stern, 2018, *Adafactor: Adaptive Learning Rates with Sublinear Memory Cost*; ``torch.optim.Adafactor``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.full((2, 3), 2.0)
    >>> opt = oc.optim.Adafactor(theta, lr=0.5)
    >>> opt.step(np.array([[1.0, -2.0, 3.0], [2.0, -4.0, 6.0]]))   # of rank 1: v = g^2
    >>> theta.round(6)
    array([[1., 3., 1.],
           [1., 3., 1.]])
    """

    rule = Rule(
        kernel="adafactor",
        options={"lr": 1e-2, "beta2_decay": -0.8, "eps": (None, 1e-3), "d": 1.0, "weight_decay": 0.0,
                 "maximize": False},
        slots=(Slot("variance", 2, shape=_vector), Slot("row_var", 0, shape=_rows, factor=True),
               Slot("col_var", 1, shape=_columns, factor=True)),
        checks={"eps": (_eps_pair, ("eps", "rms_theta"))},
        layerwise=True,
    )


_LONGEST = 2**31 - 1


def _is_matrix(name, shape):
    if len(shape) != 2:
        raise ValueError(f"{name}: expected a matrix, which is what Muon orthogonalises, got shape {shape}")
    if max(shape) > _LONGEST:
        raise ValueError(f"{name}: expected sides of at most {_LONGEST}, the limit of BLAS, got shape {shape}")


class Muon(Optimizer):
    r"""Muon: momentum, orthogonalised.

    .. math:: B \leftarrow \mu B + (1 - \mu) G, \quad X_0 = \frac{\mu B + (1 - \mu) G}{\max(\|\cdot\|_F, \epsilon)},
              \quad X_{k+1} = a X_k + (b A + c A^2) X_k \text{ with } A = X_k X_k^T

    .. math:: \theta \leftarrow \theta - \eta\lambda\theta - \eta s X_K

    without Nesterov, X_0 is B over its norm. The iteration pulls all singular values towards 1, so that X_K is near
    U V^T of the singular value decomposition of X_0: by default, those above 0.003 end between 0.68 and 1.21. s is
    sqrt(max(1, rows/columns)) or, "match_rms_adamw", 0.2 sqrt(max(rows, columns)). For the matrices of hidden layers
    only: give biases, norms, embeddings and the last layer to another rule.

    Parameters
    ----------
    params : array, sequence, mapping or sequence of group dicts
        Arrays of two dimensions. See :class:`Optimizer`, which also describes ``clip_norm``, ``clip_value``,
        ``nonfinite`` and ``state_dtype``.
    lr : float or callable
        eta.
    weight_decay : float or callable
        lambda.
    momentum : float
        mu.
    nesterov : bool
        Mix the gradient into the momentum once more.
    ns_coefficients : (float, float, float)
        a, b and c.
    eps : float
        The least norm to divide by.
    ns_steps : int
        K, below 100.
    adjust_lr_fn : {None, "original", "match_rms_adamw"}
        The s above; None is "original".
    maximize : bool
        Ascend; ``torch.optim.Muon`` has no such option.

    Raises
    ------
    ValueError
        A parameter that is no matrix.

    Notes
    -----
    ``torch.optim.Muon`` iterates in bfloat16, with some 3 digits, whatever the parameter's dtype; here X has the dtype
    of the parameter. The products go through BLAS, so the last bits depend on the CPU type and the BLAS build. The rule
    holds one work array of the parameters' size beside its state, and up to three times the largest matrix and all
    matrices of at most 32,768 elements, which are worked on side by side.

    References
    ----------
    Jordan et al., 2024, *Muon: An optimizer for hidden layers in neural networks*; Liu et al., 2025, *Muon is Scalable
    for LLM Training* ("match_rms_adamw"); ``torch.optim.Muon``.

    Examples
    --------
    One step of the iteration with a = 2, b = -1, c = 0 takes a singular value s to 2s - s^3:

    >>> import numpy as np, optcore as oc
    >>> theta = np.zeros((2, 2))
    >>> opt = oc.optim.Muon(theta, lr=1.0, ns_coefficients=(2.0, -1.0, 0.0), ns_steps=1)
    >>> opt.step(np.array([[0.0, 4.0], [3.0, 0.0]]))     # over its norm: 0.8 and 0.6
    >>> theta.round(6)
    array([[ 0.   , -1.088],
           [-0.984,  0.   ]])
    """

    rule = Rule(
        kernel="muon",
        options={"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True,
                 "ns_coefficients": (3.4445, -4.775, 2.0315), "eps": 1e-7, "ns_steps": 5, "adjust_lr_fn": None,
                 "maximize": False},
        slots=(Slot("momentum_buffer", 2),),
        check_shape=_is_matrix,
        layerwise=True,
    )

    def step(self, grads):  # noqa: D102 - the docstring of every rule's step
        with one_pool:
            super().step(grads)

    step.__doc__ = Optimizer.step.__doc__
