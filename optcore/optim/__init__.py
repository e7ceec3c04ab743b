"""Update rules: from SGD to Adam, in place on NumPy arrays."""

from optcore.optim.adaptive import Adadelta, Adamax, AdEMAMix, NAdam, RAdam
from optcore.optim.averaged import ASGD, ScheduleFreeAdamW, ScheduleFreeSGD
from optcore.optim.bounded import Lion, Rprop, Sophia
from optcore.optim.clipping import clip_grad_norm_, clip_grad_value_
from optcore.optim.ema import EMA
from optcore.optim.groups import decay_groups, is_bias_or_norm
from optcore.optim.layerwise import LAMB, LARS, Adafactor, Muon
from optcore.optim.optimizer import Optimizer
from optcore.optim.rules import SGD, Adagrad, Adam, AdamW, RMSprop
from optcore.optim.sam import SAM
from optcore.optim.wrappers import Lookahead, MultiSteps, Wrapper

_RULES = {rule.__name__.lower(): rule for rule in (
    SGD, Adagrad, RMSprop, Adam, AdamW,
    Adadelta, Adamax, NAdam, RAdam, AdEMAMix,
    Rprop, Lion, Sophia,
    ASGD, ScheduleFreeSGD, ScheduleFreeAdamW,
    LAMB, LARS, Adafactor, Muon,
)}

__all__ = ["ASGD", "EMA", "LAMB", "LARS", "SAM", "SGD", "AdEMAMix", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW",
           "Adamax", "Lion", "Lookahead", "MultiSteps", "Muon", "NAdam", "Optimizer", "RAdam", "RMSprop", "Rprop",
           "ScheduleFreeAdamW", "ScheduleFreeSGD", "Sophia", "Wrapper", "clip_grad_norm_", "clip_grad_value_",
           "decay_groups", "get", "is_bias_or_norm", "names"]


def names():
    """Return the names of the rules.

    Returns
    -------
    list of str
        Lower-case, sorted.

    Examples
    --------
    >>> import optcore as oc
    >>> "adamw" in oc.optim.names()
    True
    """
    return sorted(_RULES)


def get(name):
    """Return the class of a rule by its lower-case name.

    Parameters
    ----------
    name : str

    Returns
    -------
    type
        A subclass of `Optimizer`.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.optim.get("sgd")
    <class 'optcore.optim.rules.SGD'>
    """
    if not isinstance(name, str) or name not in _RULES:
        raise ValueError(f"name: expected one of {names()}, got {name!r}")
    return _RULES[name]
