"""Parameter groups from names and shapes: weight decay for weights, none for biases and norms."""

import re
from collections.abc import Mapping

from optcore.checks import array, number
from optcore.optim.arrays import named


def is_bias_or_norm(name, array):
    """Whether weight decay commonly leaves a parameter out: the default of `decay_groups`.

    Parameters
    ----------
    name : str
        Such as "3.weight", "encoder.ln_1.weight", "attention/LayerNorm_0/scale".
    array : ndarray

    Returns
    -------
    bool
        True for an array of at most one dimension; for a name that ends in "bias"; and for one with a word that ends
        in "norm", "norms" or "normalization", or is "bn", "ln", "gn" or "rms" (words end at anything that is not a
        letter).

    Examples
    --------
    >>> import numpy as np
    >>> w = np.zeros((2, 3))
    >>> is_bias_or_norm("0.weight", w), is_bias_or_norm("0.bias", w), is_bias_or_norm("block.ln_1.weight", w)
    (False, True, True)
    >>> is_bias_or_norm("normal.weight", w), is_bias_or_norm("1.weight", np.zeros(3))
    (False, True)
    """
    words = re.split(r"[^a-z]+", name.lower())
    norm = any(w in ("bn", "ln", "gn", "rms") or w.endswith(("norm", "norms", "normalization", "normalisation"))
               for w in words)
    return array.ndim <= 1 or norm or name.lower().endswith("bias")


def decay_groups(params, weight_decay, exclude=is_bias_or_norm):
    """Split parameters into a group with weight decay and one without.

    Parameters
    ----------
    params : mapping of names to arrays, sequence of arrays, or array
        ``net.parameters`` is one such mapping. Arrays of a sequence are named "params[0]", "params[1]", ...
    weight_decay : float or callable
        Of the parameters that are not excluded.
    exclude : callable
        ``exclude(name, array) -> bool``: whether a parameter gets weight decay 0.

    Returns
    -------
    list of dict
        At most two groups for any rule, each with ``"params"``, a mapping of names to arrays in the order given, and
        ``"weight_decay"``; a group without parameters is left out. Gradients are then given as a mapping of the same
        names, or as a sequence in the order of the groups.

    Raises
    ------
    TypeError
        A parameter that is not an array, an ``exclude`` that cannot be called, a ``weight_decay`` that is no number.
    ValueError
        A negative ``weight_decay``.

    Examples
    --------
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(4, 3), oc.nn.BatchNorm(3), oc.nn.ReLU(), oc.nn.Linear(3, 2))
    >>> groups = oc.optim.decay_groups(net.parameters, weight_decay=0.1)
    >>> [(sorted(g["params"]), g["weight_decay"]) for g in groups]
    [(['0.weight', '3.weight'], 0.1), (['0.bias', '1.bias', '1.weight', '3.bias'], 0.0)]
    >>> opt = oc.optim.AdamW(groups, lr=1e-3)
    """
    if not callable(exclude):
        raise TypeError(f"exclude: expected a callable of name and array, got {type(exclude).__name__}")
    if not callable(weight_decay):
        number("weight_decay", weight_decay)
    names, arrays = named(params)
    if not isinstance(params, Mapping) and any(isinstance(a, Mapping) for a in arrays):
        raise TypeError("params: expected arrays, got group dicts")
    decayed, plain = {}, {}
    for name, a in zip(names, arrays, strict=True):
        array(name, a)
        (plain if exclude(name, a) else decayed)[name] = a
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]
