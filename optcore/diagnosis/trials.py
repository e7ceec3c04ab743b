"""Remedies for layers, tried on copies: what each makes of the number that the verdict rests on."""

import math
from typing import NamedTuple

from optcore.diagnosis import runs
from optcore.objective import Variant
from optcore.optim.arrays import joined_norm

_BETTER = 3.0  # a change that brings the number nearer by less than this factor is not worth a proof
_STEPS = 50  # from the start of a change, to see what the rate makes of it
_SLOWER = 0.1  # of the rate, to start a change with


class Trial(NamedTuple):
    """A change of the network, and what it makes of the number; it is `better` if that helps."""

    variant: Variant
    value: float
    better: bool


class Trials(NamedTuple):
    """What the number is, what it is now, the changes, the best first, and the factor of the rate to start it with."""

    what: str
    now: float
    trials: tuple
    factor: float | None = None

    def __str__(self):
        rows = ", ".join(f"{t.variant.name} {t.value:.3g}" for t in self.trials)
        slower = "" if self.factor is None else f"; at {self.factor:g} of the rate, which gains more from that start"
        return f"{self.what}, now {self.now:.3g}, tried on copies: {rows}{slower}"

    @property
    def best(self):
        """The Variant that helps most; None if none helps."""
        return self.trials[0].variant if self.trials and self.trials[0].better else None


def tried(source, cause):
    """Return the Trials of a verdict on layers; None for other verdicts, and where the network is not known.

    Parameters
    ----------
    source : Source
    cause : str
    """
    if cause not in _NUMBERS:
        return None
    what, number, badness = _NUMBERS[cause]
    states = source.obj.layers(source.theta, source.rows)
    if not states:
        return None
    now, layer = number(states), None
    if cause == "dead_units":
        layer = max((s for s in states if not math.isnan(s.dead)), key=lambda s: s.dead).name
    found = []
    for variant in source.obj.variants(source.theta, source.seed):
        if variant.layer in (None, layer):
            value = number(variant.objective.layers(variant.theta, source.rows))
            if math.isfinite(value):
                found.append(Trial(variant, value, badness(value) < badness(now) / _BETTER))
    if not found:
        return None
    trials = Trials(what, now, tuple(sorted(found, key=lambda trial: badness(trial.value))))
    return trials._replace(factor=_slower(source, trials.best))


def _slower(source, variant):
    """`_SLOWER`, where the rate itself would undo the change: 50 steps from its start gain less. None elsewhere."""
    if variant is None or source.rule is None or not source.rule.lr > 0:
        return None
    rule = source.rule_for(variant)
    stay, low = (runs.full(variant.objective, variant.theta, rule, _STEPS, factor=factor, rows=source.rows)
                 for factor in (1.0, _SLOWER))
    return _SLOWER if low.gain > stay.gain else None


def _weight_ratio(states):
    return states[0].weight_gradient / states[-1].weight_gradient if states[-1].weight_gradient else math.nan


def _signal_ratio(states):
    return states[0].signal_gradient / states[-1].signal_gradient if states[-1].signal_gradient else math.nan


def _dead(states):
    return max((s.dead for s in states if not math.isnan(s.dead)), default=math.nan)


def _gradient(states):
    return joined_norm(s.weight_gradient for s in states)


def _from_one(ratio):
    return abs(math.log(ratio)) if ratio > 0 else math.inf


_NUMBERS = {  # verdict -> (what the number is, the number, how bad it is)
    "vanishing_gradients": ("gradient of the weights, first layer over last", _weight_ratio, _from_one),
    "exploding_gradients": ("gradient of the pre-activations, first layer over last", _signal_ratio, _from_one),
    "dead_units": ("largest share of dead units in a layer", _dead, float),
    "plateau": ("gradient of all weights", _gradient, lambda size: 1 / size if size > 0 else math.inf),
}
