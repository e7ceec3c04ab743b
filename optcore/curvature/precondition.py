"""The curvature that an adaptive rule sees: the Hessian between inverse roots of the rule's preconditioner."""

from collections.abc import Mapping

import numpy as np
from scipy.sparse.linalg import LinearOperator

from optcore.curvature.operators import product_error, symmetric_operator


class Preconditioned(LinearOperator):
    """P^-1/2 H P^-1/2: the curvature that an adaptive rule with preconditioner P sees.

    Its largest eigenvalue times the rate is what the rule's stability rests on (Cohen et al. 2022).

    Parameters
    ----------
    H : LinearOperator [n, n]
    p : array [n]
        The diagonal of P, positive; `optcore.curvature.preconditioner` reads it from a rule.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> oc.curvature.Preconditioned(np.diag([4.0, 9.0]), np.array([4.0, 1.0])) @ np.ones(2)
    array([1., 9.])
    """

    def __init__(self, H, p):
        self._operator = symmetric_operator(H)
        p = np.asarray(p, dtype=np.float64)
        if p.shape != self._operator.shape[:1]:
            raise ValueError(f"p: expected shape ({self._operator.shape[0]},), got {p.shape}")
        if not (np.isfinite(p) & (p > 0)).all():
            raise ValueError(f"p: expected positive numbers, got {p.min()} to {p.max()}")
        self._root = 1 / np.sqrt(p)
        self.product_error = product_error(H)
        self.product_dtype = np.dtype(getattr(H, "product_dtype", np.float64))
        super().__init__(np.dtype(np.float64), self._operator.shape)

    def _matvec(self, v):
        return self._root * np.asarray(self._operator.matvec(self._root * v.reshape(-1))).reshape(-1)

    def _adjoint(self):
        return self

    _transpose = _adjoint


def preconditioner(optimizer):
    """Return the diagonal of P of a rule's next step, ``theta <- theta - lr P^-1 m``, as its state has it.

    Adam, AdamW, NAdam: ``sqrt(v / (1 - beta2^t)) + eps``, of the largest v with ``amsgrad``; RMSprop:
    ``sqrt(s) + eps``, less the square of the mean with ``centered``; Adagrad: ``sqrt(sum) + eps``, of the mean with
    ``average``; SGD: 1.

    Parameters
    ----------
    optimizer : optcore.optim rule, a wrapper around one, or torch.optim rule
        After at least one step of the rule. Never changed.

    Returns
    -------
    array [n]
        The parameters of all groups, each flat: in their order in memory where they are views of one array (of a
        network's theta), else in the order of the groups.

    Raises
    ------
    TypeError, ValueError
        The rule has no such diagonal, or no step behind it.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.ones(2)
    >>> opt = oc.optim.Adam(theta, eps=0)
    >>> opt.step(np.array([3.0, -4.0]))
    >>> oc.curvature.preconditioner(opt).round(12)
    array([3., 4.])
    """
    optimizer = rooted(optimizer)
    name = type(optimizer).__name__
    try:
        state = optimizer.state_dict(portable=True)
    except TypeError:  # PyTorch's
        state = optimizer.state_dict()
    arrays, parts = [], []
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        arrays += _arrays(group["params"])
        parts += [diagonal_of(name, saved, state["state"].get(i, {})) for i in saved["params"]]
    parts = [np.broadcast_to(part, int(np.prod(a.shape))) for part, a in zip(parts, arrays, strict=True)]
    if all(isinstance(a, np.ndarray) for a in arrays) and len({id(a.base) for a in arrays}) == 1:
        parts = [parts[i] for i in np.argsort([a.__array_interface__["data"][0] for a in arrays])]
    return np.concatenate(parts)


_ROOTS = ("SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad")


def rooted(optimizer):
    """Return the rule inside of wrappers; a TypeError where it has no such diagonal."""
    while getattr(optimizer, "opt", None) is not None:
        optimizer = optimizer.opt
    name = type(optimizer).__name__
    if not isinstance(getattr(optimizer, "param_groups", None), list) or name not in _ROOTS:
        raise TypeError(f"optimizer: expected one of {', '.join(_ROOTS)}, got {name}")
    return optimizer


def _arrays(params):
    """The arrays of a group: one, a mapping's or a sequence's."""
    if hasattr(params, "shape"):
        return [params]
    return list(params.values() if isinstance(params, Mapping) else params)


def diagonal_of(name, options, entry):
    """Return the diagonal of P of one array, flat, from its group's options and its entry of a state dict."""
    if name == "SGD":
        return np.ones(1)
    step = float(entry.get("step", 0))
    if not step >= 1:
        raise ValueError(f"optimizer: expected a state after at least one step, got {name} before its first")

    def array(key):
        return np.asarray(entry[key], dtype=np.float64).reshape(-1)

    if name == "RMSprop":
        square = array("square_avg")
        if options["centered"]:
            square = np.maximum(square - array("grad_avg") ** 2, 0)
    elif name == "Adagrad":
        square = array("sum") / (step if options.get("average") else 1)
    else:
        largest = options.get("amsgrad") and "max_exp_avg_sq" in entry
        square = array("max_exp_avg_sq" if largest else "exp_avg_sq") / (1 - options["betas"][1] ** step)
    return np.sqrt(square) + options["eps"]
