"""What a run needs of its optimizer: gradients in its structure, its options as text, what it remembers."""

import contextlib
import re

from optcore import checks, optim, schedules


def chosen(optimizer, net):
    """The optimizer that the argument stands for, or a TypeError."""
    if optimizer is None:
        optimizer = "adamw"
    if isinstance(optimizer, str):
        rule = optim.get(checks.one_of("optimizer", optimizer, optim.names()))
        return rule(arrays_for(rule, net))
    if not isinstance(optimizer, optim.Optimizer | optim.Wrapper):
        raise TypeError(f"optimizer: expected a rule of optcore.optim, a wrapper around one, its name or None, "
                        f"got {type(optimizer).__name__}")
    if any(part is None for part in parts(optimizer)):
        raise TypeError("optimizer: expected a rule of optcore.optim or a wrapper around one, got an EMA over arrays, "
                        "which steps nothing")
    return optimizer


def arrays_for(rule, net):
    """Return what a rule by name updates: the flat vector of a network, or its arrays.

    Parameters
    ----------
    rule : type
        A class of ``optcore.optim``.
    net : optcore.nn.Sequential

    Returns
    -------
    ndarray or dict
        ``net.theta``; ``net.parameters`` for a layerwise rule, to which the flat vector would be one layer.

    Examples
    --------
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(3, 2))
    >>> arrays_for(oc.optim.Adam, net) is net.theta, list(arrays_for(oc.optim.LAMB, net))
    (True, ['0.weight', '0.bias'])
    """
    return net.parameters if rule.rule.layerwise else net.theta


def gradient_views(optimizer, theta, grad):
    """The gradient in the optimizer's structure: for each of its arrays that part of the flat gradient."""
    start, views = theta.__array_interface__["data"][0], []
    for group in optimizer.param_groups:
        for a in group["params"]:
            begin, rest = divmod(a.__array_interface__["data"][0] - start, theta.itemsize)
            if rest or a.dtype != theta.dtype or not 0 <= begin <= begin + a.size <= theta.size:
                raise ValueError("optimizer: expected a rule over net.theta or views of it, got other arrays")
            views.append(grad[begin:begin + a.size].reshape(a.shape))
    return views


def parts(optimizer):
    """A wrapper, what it stands around, and so on to the rule, which comes last."""
    yield optimizer
    while isinstance(optimizer, optim.Wrapper):
        optimizer = optimizer.opt
        yield optimizer


def options(optimizer, grads, grad):
    """Wrappers and rule, its options by name, a schedule by its repr, and which part of theta each group updates."""
    *wrappers, rule = parts(optimizer)
    options = {"optimizer": " of ".join([*(w.description() for w in wrappers), type(rule).__name__]),
               "clip_norm": rule.clip_norm, "clip_value": rule.clip_value,
               "nonfinite": "skip" if optimizer.nonfinite == "skip" else "raise"}
    start, views = grad.__array_interface__["data"][0], iter(grads)
    for i, group in enumerate(optimizer.param_groups):
        mine = [next(views) for _ in group["params"]]
        begins = [(g.__array_interface__["data"][0] - start) // g.itemsize for g in mine]
        spans = [f"{b}:{b + g.size}" for b, g in zip(begins, mine, strict=True)]
        options[f"group {i} parameters"] = " ".join(spans)
        options |= {f"group {i} {k}": _by_name(v) for k, v in group.items() if k != "params"}
    return options


def _by_name(value):
    """The value; for a schedule its repr, without the address that a function's has."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)) if callable(value) else value


def memories(optimizer, callbacks):
    """All that a run has to save beside the optimizer: schedules and callbacks with a state_dict, each once."""
    values = [v for group in optimizer.param_groups for k, v in group.items() if k != "params"]
    found = [m for v in values for m in schedules.memories(v)]
    found += [c for c in callbacks if hasattr(c, "state_dict") and hasattr(c, "load_state_dict")]
    return list({id(m): m for m in found}.values())


@contextlib.contextmanager
def evaluating(optimizer, theta):
    """Have the parameters hold what is evaluated, and then their own bits again."""
    kept = theta.copy()
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
        theta[...] = kept       # there and back is exact up to rounding only
