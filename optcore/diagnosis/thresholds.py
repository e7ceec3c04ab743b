"""The numbers that decide, and how far a quantity is from one.

A margin is in [-1, 1]: the smallest of a test's distances from its thresholds, on a logarithmic scale on which a factor
of three is 1. A test holds where its margin is not negative.
"""

import math
from dataclasses import dataclass, fields

from optcore import checks


@dataclass(frozen=True)
class Thresholds:
    """The numbers that decide.

    Attributes
    ----------
    dead : float
        Share of a layer's units with a zero derivative everywhere.
    exploding, exploding_unstable : float
        Gradient of the pre-activations, first layer over last; the second where the rate is above the stable one.
    vanishing : float
        Gradient of the weights, first layer over last.
    depth : int
        Layers of weights from which on a gradient can vanish or explode.
    diverged, diverged_dead : float
        Height above the lowest known loss, now over at the start; the second where the run killed a layer on its way.
    regained : float
        A loss far above its start has not diverged if the run stays bounded, and a lower rate or steps without noise
        gain back this share of the rise.
    plateau : float
        Gain of the run, and first and second order at the distance R, over the loss that is left.
    plateau_rate : float
        Effective rate times the largest curvature on a plateau.
    saddle : float
        At a saddle a Newton-like step promises at most this share of the gain along negative curvature.
    newton : float
        A step to where the quadratic model has its saddle leaves at most this share of the gradient.
    unexplained : float
        Near a saddle the gain along negative curvature is at most this multiple of what curvature promises there.
    minimum_near : float
        At a minimum `CriticalPoint.near` is at most this, and
    minimum_share : float
        a Newton-like step promises at most this share of what training has gained since the start.
    excess : float
        Beside a minimum no step gains more than the Newton-like step promises: one that gains more than this
        multiple of it refutes the minimum.
    runaway : float
        A copy diverges that rises by this multiple of what is left to gain.
    drop : float
        What dropping the rate gains at once, over the loss that is left: below it, nothing is lost to oscillation.
    oscillation : float
        Share of that gain that a longer run at the rate leaves in the oscillation of a valley.
    held_up : float
        Dead or saturated layers are not what binds while an oscillation holds the loss up by this share of what is
        left: they are what the rate has left behind, and a lower one gains more than another network would.
    later : float
        Share of that gain by which dropping later is better than dropping now.
    edge, beyond_edge : float
        Rate times curvature over the rule's limit at the edge of stability, at least and at most: farther beyond it the
        quadratic model does not describe the steps.
    edge_gain : float
        At the edge 50 steps gain at most this share of what is left: a run that gains more is on its way.
    noise : float
        What noise takes back, over what is left of a step's first order.
    noisy_gain, noisy_fall : float
        Gain of mini-batch steps over that of steps without noise at a noise floor, and what of the latter they still
        gain from the third to the last quarter of their way.
    small_rate, small_cosine, small_ratio, small_gain : float
        A rate is too small where rate times curvature over the limit is at most the first, the gradient keeps its
        direction by at least the second, ten times the rate gains at least the third as much, and the gain is at
        most the fourth of what is left.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, lambda t, v: 2 * v, theta0=np.ones(2))
    >>> rule = oc.optim.SGD(np.ones(2), lr=1e-3)        # rate times curvature is 1e-3 of the limit
    >>> strict = oc.diagnosis.Thresholds(small_rate=5e-4)
    >>> [oc.diagnose(obj, np.ones(2), rule, thresholds=t).verdict for t in (None, strict)]
    ['lr_too_small', 'progressing']
    """

    dead: float = 0.7
    exploding: float = 70.0
    exploding_unstable: float = 10.0
    vanishing: float = 1e-3
    depth: int = 3
    diverged: float = 50.0
    diverged_dead: float = 8.0
    regained: float = 0.98
    plateau: float = 1e-2
    plateau_rate: float = 1e-3
    saddle: float = 0.02
    newton: float = 0.2
    unexplained: float = 10.0
    minimum_near: float = 1e-4
    minimum_share: float = 1e-6
    excess: float = 1.5
    runaway: float = 10.0
    drop: float = 1e-3
    oscillation: float = 0.5
    held_up: float = 0.5
    later: float = 0.2
    edge: float = 0.93
    beyond_edge: float = 2.0
    edge_gain: float = 0.5
    noise: float = 0.05
    noisy_gain: float = 0.8
    noisy_fall: float = 0.05
    small_rate: float = 3e-3
    small_cosine: float = 0.99
    small_ratio: float = 5.0
    small_gain: float = 0.2

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "depth":
                checks.integer(f.name, value, low=2)
            else:
                checks.number(f.name, value, open_low=True)


def above(value, threshold):
    """The margin of value >= threshold, both positive."""
    if not value > 0:
        return -1.0
    return min(1.0, max(-1.0, math.log(value / threshold) / math.log(3))) if math.isfinite(value) else 1.0


def below(value, threshold):
    """The margin of value <= threshold; negative values are below."""
    return -1.0 if math.isnan(value) else -above(value, threshold)


def holds(fact):
    """The margin of a fact that is true or false."""
    return 1.0 if fact else -1.0
