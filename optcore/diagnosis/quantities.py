"""What a diagnosis rests on, as data."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from optcore.curvature import CriticalPoint
from optcore.diagnosis import runs as _runs
from optcore.diagnosis.rule import Rule

_TINY = 1e-6  # of the rule's limit: a rate that float32 hardly steps with


class Quantity(NamedTuple):
    """A measured value with its interval, and how it was measured.

    Attributes
    ----------
    value, low, high : float
    note : str
    """

    value: float
    low: float
    high: float
    note: str


@dataclass(frozen=True)
class Runs:
    """The counterfactual runs from theta.

    Attributes
    ----------
    steps, long_steps : int
    stay, low, high : Run
        Without noise: at the rate, a tenth, ten times.
    long, later : Run or None
        `long_steps` at the rate, and what a tenth of it does then; None where nothing hints at an oscillation.
    noisy : tuple of Run or None
        On mini-batches, at the rate; None where training takes all examples.
    large : Run or None
        With little noise: on mini-batches sixteen times as large. Only where the analysis has but a sample, which runs
        over it would fit better than the rest; elsewhere `stay` has no noise.
    """

    steps: int
    long_steps: int
    stay: _runs.Run
    low: _runs.Run
    high: _runs.Run
    long: _runs.Run | None
    later: _runs.Run | None
    noisy: tuple | None
    large: _runs.Run | None


class Retry(NamedTuple):
    """What so many steps gain at a rate put back: the mean of some runs, and its standard error."""

    lr: float
    steps: int
    gain: float
    error: float


@dataclass(frozen=True)
class Measurements:
    """All that `optcore.diagnosis.verdicts.decide` looks at.

    Attributes
    ----------
    point : CriticalPoint
    loss_start : float
        The history's first loss, else that at ``obj.theta0``; NaN where theta is that point.
    start : str
        Which of them.
    start_curvature : float or None
        The largest eigenvalue at ``obj.theta0`` (of P^-1/2 H P^-1/2 for an adaptive rule at its first step), where the
        run has left it upwards.
    height : float
        How far the loss is above the lowest known one, over the same of the start; NaN where it is not above the start.
    radius : float
        R = 0.1 times the length of theta.
    curvature : float
        The largest absolute eigenvalue, of P^-1/2 H P^-1/2 for a rule with a preconditioner.
    layers : tuple of LayerState or None
    gain_curvature, length_curvature : float
        The best decrease along +-v, v the direction of negative curvature, and its distance; 0 where there is
        none.
    gain_gradient, length_gradient : float
        The best decrease along -P^-1 g, and its distance.
    gain_flat, length_flat : float
        The best decrease along the flat directions that were searched, beyond rounding, and its distance.
    searched : int
        How many were.
    slope_curvature : float
        \\|g'v\\|.
    newton_ratio : float
        What a step to the critical point of the quadratic model leaves of the gradient; NaN where negative curvature
        gains too little to ask.
    rule : Rule or None
    first_order, second_order : float
        S and O: what a step gains to first order, and what curvature takes back; NaN without a rule.
    noise : Quantity or None
        N: what the noise of mini-batches takes back.
    sharpness : float or None
        lr times the largest eigenvalue (of P^-1/2 H P^-1/2) over the threshold of the rule; None where not known.
    runs : Runs or None
    batch_size : int or None
    n_examples : int
    sample : int
        How many of them the analysis took.
    lower_bound : float
        Of the loss, where its form gives one.
    losses : tuple of float
        The history's, oldest first.
    spread : (Quantity, Quantity) or None
        Loss and gradient norm over all examples, as far as the sample tells; None where it has all.
    exact_products : bool
    eps : float
        Rounding unit of the objective's dtype.
    decayed : bool
        Whether the rule's weight decay was added to the loss.
    rate_before : float
        The largest rate of the history; NaN where it has none.
    retry : Retry or None
        Where the rate moves nothing any more: the rate to put it back to.
    keskar : float
        Keskar's sharpness in percent, where the gradient is nearly zero; else NaN.
    """

    point: CriticalPoint
    loss_start: float
    start: str
    start_curvature: float | None
    height: float
    radius: float
    curvature: float
    layers: tuple | None
    gain_curvature: float
    length_curvature: float
    gain_gradient: float
    length_gradient: float
    gain_flat: float
    length_flat: float
    searched: int
    slope_curvature: float
    newton_ratio: float
    rule: Rule | None
    first_order: float
    second_order: float
    noise: Quantity | None
    sharpness: float | None
    runs: Runs | None
    batch_size: int | None
    n_examples: int
    sample: int
    lower_bound: float
    losses: tuple
    exact_products: bool
    spread: tuple | None
    eps: float
    decayed: bool
    rate_before: float
    retry: Retry | None
    keskar: float

    @property
    def finite(self):
        """Whether loss, gradient and products were finite."""
        return self.point.eigenvalues.size > 0

    @property
    def flat_share(self):
        """The share of flat directions; NaN where it was not resolved."""
        if self.searched and self.point.zero_share == 0:  # Lanczos: the vectors found are some, if few
            return self.searched / self.point.size
        return self.point.zero_share

    @property
    def flat_unsearched(self):
        """About how many flat directions were not searched; NaN where their share was not resolved."""
        others = self.flat_share * self.point.size - self.searched
        return others if math.isnan(others) else max(0, round(others))

    @property
    def lowered(self):
        """Whether a schedule has lowered the rate to less than a tenth."""
        return self.rule is not None and self.rule.lr < 0.1 * self.rate_before

    @property
    def ended(self):
        """Whether no step moves the loss, even at ten times the rate."""
        if self.rule is None or not self.rule.lr > 0:
            return self.rule is not None
        tiny = self.lowered or (self.sharpness is not None and self.sharpness <= _TINY)
        return tiny and self.runs.high.finite and abs(self.runs.high.gain) <= self.rounding

    @property
    def rounding(self):
        """What rounding hides of a difference of losses."""
        return 16 * self.eps * abs(self.point.loss)

    @property
    def signal_ratio(self):
        """The gradient of the pre-activations, first layer over last."""
        return self.layers[0].signal_gradient / self.layers[-1].signal_gradient

    @property
    def weight_ratio(self):
        """The gradient of the weights, first layer over last."""
        return self.layers[0].weight_gradient / self.layers[-1].weight_gradient

    @property
    def left(self):
        """The largest decrease that any search or run found, at least the height above a known lower bound."""
        gains = [self.gain_gradient, self.gain_curvature, self.gain_flat]
        if math.isfinite(self.lower_bound):
            gains.append(self.point.loss - self.lower_bound)
        if self.runs is not None:
            r = self.runs
            others = [r.long, r.later, *(r.noisy or ())]
            gains += [run.gain for run in (r.stay, r.low, r.high)]
            gains += [self.point.loss - run.end for run in others if run is not None]
        return max(gains)

    @property
    def free_gain(self):
        """What the rule gains without noise, or with little."""
        return (self.runs.large or self.runs.stay).gain

    @property
    def noisy_gain(self):
        """Mean gain of the runs on mini-batches, and its standard error."""
        gains = np.array([run.gain for run in self.runs.noisy])
        return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(gains.size))

    @property
    def late_fall(self):
        """By how much the runs on mini-batches still fall in their second half: mean and standard error."""
        falls = np.array([np.diff([part.mean() for part in np.array_split(run.losses[:0:-1], 2)])[0]
                          for run in self.runs.noisy])
        return float(falls.mean()), float(falls.std(ddof=1) / math.sqrt(falls.size))

    def reach(self, order):
        """What the "slope" or the "bend" of the loss can change within the radius."""
        if order == "slope":
            return self.point.gradient_norm * self.radius
        return 0.5 * float(np.abs(self.point.eigenvalues[[0, -1]]).max()) * self.radius**2
