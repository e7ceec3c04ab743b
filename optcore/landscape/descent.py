"""Several rules from several starts on the same terrain."""

from dataclasses import dataclass

import numpy as np

from optcore import checks, optim


@dataclass(frozen=True)
class Descent:
    """The way of one rule from one start.

    Attributes
    ----------
    name : str
        Of the rule.
    thetas : array [steps + 1, n]
        Fewer where it left all bounds.
    losses : array [steps + 1]
        The loss at each.
    """

    name: str
    thetas: np.ndarray
    losses: np.ndarray


def descend(obj, starts, rules, steps=100):
    """Let each rule roll down from each start.

    Parameters
    ----------
    obj : Objective
    starts : array [s, n]
    rules : mapping of str to (str, dict) or callable
        By the name to show: a rule's name (`optcore.optim.names`) and its options, or a function from the array that it
        moves to an optimizer.
    steps : int
        At most; a way ends where loss or gradient is not finite.

    Returns
    -------
    list of Descent
        Of the first start with each rule, then of the second, ...

    Raises
    ------
    TypeError, ValueError
        Starts that do not fit, steps that are no number from 1 on, or a rule's own error.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> valley = oc.landscape.surfaces.get("valley")
    >>> ways = descend(valley.objective, valley.starts[:1], {"too large": ("sgd", {"lr": 0.0201}),
    ...                                                      "small": ("sgd", {"lr": 0.001})}, steps=200)
    >>> [bool(way.losses[-1] < way.losses[0]) for way in ways]
    [False, True]
    """
    starts = np.atleast_2d(np.asarray(starts, dtype=obj.dtype))
    if starts.ndim != 2 or starts.shape[1] != obj.size:
        raise ValueError(f"starts: expected shape (s, {obj.size}), got {starts.shape}")
    checks.integer("steps", steps)
    return [_roll(obj, start, name, rule, steps) for start in starts for name, rule in rules.items()]


def _roll(obj, start, name, rule, steps):
    theta = start.copy()
    opt = rule(theta) if callable(rule) else optim.get(rule[0])(theta, **rule[1])
    thetas, losses = [], []
    for step in range(steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            loss, grad = obj.loss_and_grad(theta)
        if not (np.isfinite(loss) and np.isfinite(grad).all()):
            break
        thetas.append(theta.copy())
        losses.append(loss)
        if step < steps:
            opt.step(grad)
    return Descent(name, np.array(thetas).reshape(-1, start.size), np.array(losses))
