"""The quantities that a diagnosis rests on, the cheap ones first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from optcore.curvature import CriticalPoint, Hessian, Preconditioned, classify, extremes
from optcore.curvature.escape import line_search
from optcore.diagnosis import runs as _runs
from optcore.diagnosis.rule import Rule, read
from optcore.diagnosis.verify import Source
from optcore.objective import Objective
from optcore.process import one_pool

_MOST_FLAT = 6  # flat directions searched: each costs 16 losses
_DENSE = 300  # up to so many parameters all eigenvalues are computed
_PRODUCTS = 180
_STEPS, _LONG = 50, 300  # of a counterfactual run; of one that shows whether an oscillation stays
_SAMPLES = 16  # mini-batch gradients, each with a product, for the noise
_REPEATS = 12  # runs on mini-batches
_WORK = 3e8  # parameters times examples of one gradient: beyond, the analysis takes a sample of the examples


class Quantity(NamedTuple):
    """A measured value with its interval, and how it was measured."""

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
    """

    steps: int
    long_steps: int
    stay: _runs.Run
    low: _runs.Run
    high: _runs.Run
    long: _runs.Run | None
    later: _runs.Run | None
    noisy: tuple | None


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
    exact_products : bool
    eps : float
        Rounding unit of the objective's dtype.
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
    eps: float

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
    def noisy_gain(self):
        """Mean gain of the runs on mini-batches, and its standard error."""
        gains = np.array([run.gain for run in self.runs.noisy])
        return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(gains.size))

    def reach(self, order):
        """What the "slope" or the "bend" of the loss can change within the radius."""
        if order == "slope":
            return self.point.gradient_norm * self.radius
        return 0.5 * float(np.abs(self.point.eigenvalues[[0, -1]]).max()) * self.radius**2


def measure(obj, theta, optimizer, batch_size, history, options):
    """Return the Measurements at theta, and the Source that they were made of."""
    if not isinstance(obj, Objective):
        raise TypeError(f"obj: expected an Objective, got {type(obj).__name__}")
    theta = obj.check_theta(theta)
    losses = _read_history(history)
    rule = read(optimizer, obj.size, getattr(obj, "place_of", None))
    _check_batch_size(batch_size)
    seed = options.get("seed", 0)
    rows = _sample(obj, seed)
    with one_pool, np.errstate(all="ignore"):
        point = classify(obj, theta, rows, **{"dense_limit": _DENSE, "max_products": _PRODUCTS, **options})
        at = _Place(obj, theta, rows, point, rule, batch_size, seed)
        return at.measured(losses), Source(obj, theta, rule, batch_size, rows, seed)


def _sample(obj, seed):
    """The examples of the analysis: None for all, or as many at random as a gradient may cost."""
    most = max(64, int(_WORK / obj.size))
    if obj.n_examples <= most:
        return None
    return np.sort(np.random.default_rng([seed, 5]).choice(obj.n_examples, most, replace=False))


class _Place:
    """The measurements at one theta, over one set of examples."""

    def __init__(self, obj, theta, rows, point, rule, batch_size, seed):
        self.obj, self.theta, self.rows, self.point, self.rule, self.seed = obj, theta, rows, point, rule, seed
        self.batch = batch_size if batch_size is not None and batch_size < obj.n_examples else None
        self.batch_size = batch_size
        self.radius = 0.1 * obj.length(theta)

    def measured(self, losses):
        """All of them; of a point that is not finite only what can be said there."""
        obj, point = self.obj, self.point
        start = _start(obj, self.theta, losses, self.rows)
        facts = {"point": point, "loss_start": start[0], "start": start[1], "radius": self.radius, "rule": self.rule,
                 "batch_size": self.batch_size, "n_examples": obj.n_examples, "losses": losses,
                 "sample": obj.n_examples if self.rows is None else self.rows.size,
                 "lower_bound": obj.lower_bound, "exact_products": obj.difference_reach(self.theta) == 0,
                 "eps": float(np.finfo(obj.dtype).eps)}
        far = not point.eigenvalues.size or point.loss > start[0]
        facts["start_curvature"] = self._start_curvature() if far and self.rule is not None else None
        if not point.eigenvalues.size:
            return Measurements(**facts, **_NOTHING)
        g = obj.loss_and_grad(self.theta, self.rows)[1].astype(np.float64)
        layers = obj.layers(self.theta, self.rows)
        noisy = self._noisy_gradients(g)
        scale = None if self.rule is None else self.rule.preconditioner(
            g**2 if noisy is None else g**2 + (noisy**2).mean(axis=0))
        step = g if scale is None else g / scale
        facts |= self._searched(step, g)
        facts["height"] = self._height(facts, start[0], losses)
        sharpness, curvature = self._sharpness(scale)
        first, second, noise = self._orders(step, g, noisy, scale)
        return Measurements(**facts, curvature=curvature, layers=None if layers is None else tuple(layers),
                            first_order=first, second_order=second, noise=noise, sharpness=sharpness,
                            runs=self._counterfactual(scale, sharpness))

    def _searched(self, step, g):
        """The best decreases along straight lines."""
        obj, theta, point, rows = self.obj, self.theta, self.point, self.rows
        slope, curvature, flat = 0.0, (0.0, 0.0), (0.0, 0.0, 0)
        gradient = max(_gain_down(obj, theta, rows, point.loss, step, g), _gain_far(obj, theta, rows, point.loss, step))
        if point.direction is not None:
            slope = abs(float(g @ point.direction))
            curvature = _gain_along(obj, theta, rows, point)
        elif point.flat is not None and point.radius > 0:
            flat = _gain_flat(obj, theta, rows, point)
        return {"gain_gradient": gradient[0], "length_gradient": gradient[1], "gain_curvature": curvature[0],
                "length_curvature": curvature[1], "gain_flat": flat[0], "length_flat": flat[1], "searched": flat[2],
                "slope_curvature": slope}

    def _height(self, facts, loss_start, losses):
        """(L - lowest) / (L_start - lowest), where L is above the start."""
        loss = self.point.loss
        if not loss > loss_start:
            return math.nan
        if math.isfinite(self.obj.lower_bound):
            return (loss - self.obj.lower_bound) / (loss_start - self.obj.lower_bound)
        lowest = min([loss - facts["gain_gradient"], loss - facts["gain_curvature"],
                      *(x for x in losses if math.isfinite(x))])
        start, g = self.obj.loss_and_grad(self.obj.theta0, self.rows)
        if math.isfinite(start) and np.isfinite(g).all():
            g = g.astype(np.float64)
            lowest = min(lowest, start - _gain_down(self.obj, self.obj.theta0.copy(), self.rows, start, g, g)[0])
        return (loss - lowest) / (loss_start - lowest) if loss_start > lowest else math.inf

    def _start_curvature(self):
        """The largest eigenvalue at the objective's start, as the rule sees it; None where it says nothing."""
        obj, theta = self.obj, self.obj.theta0.copy()
        g = obj.loss_and_grad(theta, self.rows)[1].astype(np.float64)
        if not np.isfinite(g).all():
            return None
        H = Hessian(obj, theta, self.rows)
        if self.rule.adaptive:
            H = Preconditioned(H, np.maximum(np.abs(g), 1e-3 * np.abs(g).max() + 1e-30))
        try:
            top = extremes(H, max_products=40, tol=0.05, seed=self.seed).largest[0]
        except FloatingPointError:
            return None
        return top if top > 0 else None

    def _noisy_gradients(self, g):
        """Differences of mini-batch gradients from the gradient [16, n]; None where there is no noise."""
        if self.batch is None:
            return None
        rng, found = np.random.default_rng([self.seed, 1]), []
        while len(found) < _SAMPLES:
            for batch in _runs.batches(self.obj.n_examples, self.batch, rng):
                found.append(self.obj.loss_and_grad(self.theta, batch)[1] - g)
                if len(found) == _SAMPLES:
                    break
        return np.array(found, np.float64)

    def _sharpness(self, scale):
        """(lr lambda_max / threshold, the largest absolute eigenvalue) of the preconditioned Hessian."""
        ends = self.point.eigenvalues[[0, -1]]
        if scale is not None:
            H = Preconditioned(Hessian(self.obj, self.theta, self.rows), scale)
            found = extremes(H, max_products=40, tol=0.05, seed=self.seed)
            ends = np.array([found.smallest[1], found.largest[0]])
        if self.rule is None or self.rule.threshold is None:
            return None, float(np.abs(ends).max())
        return self.rule.lr * max(float(ends[1]), 0.0) / self.rule.threshold, float(np.abs(ends).max())

    def _orders(self, step, g, noisy, scale):
        """S, O and N of a step of the rule."""
        if self.rule is None:
            return math.nan, math.nan, None
        eta, product = self.rule.effective_lr, self._product
        first = eta * float(step @ g)
        second = 0.5 * eta**2 * float(step @ product(step))
        if noisy is None:
            return first, second, None
        moves = noisy if scale is None else noisy / scale
        costs = 0.5 * eta**2 * np.array([float(d @ product(d)) for d in moves])
        mean, error = float(costs.mean()), float(costs.std(ddof=1) / math.sqrt(costs.size))
        return first, second, Quantity(mean, mean - 2 * error, mean + 2 * error,
                                       f"mean of {costs.size} mini-batches, two standard errors")

    def _product(self, v):
        return self.obj.hvp(self.theta, v, self.rows).astype(np.float64)

    def _counterfactual(self, scale, sharpness):
        """The runs; the long ones only where a lower rate gains more, or the rate is near its limit."""
        if self.rule is None or not self.rule.lr > 0:
            return None
        obj, theta, rule, rows = self.obj, self.theta, self.rule, self.rows
        stay, low, high = (_runs.full(obj, theta, rule, _STEPS, factor=f, rows=rows, scale=scale) for f in (1, 0.1, 10))
        long = later = None
        if low.gain > max(stay.gain, 0.0) or not stay.finite or (sharpness or 0.0) > 0.8:
            long = _runs.full(obj, theta, rule, _LONG, rows=rows)
            if long.finite:
                later = _runs.full(obj, long.theta, rule, _STEPS, factor=0.1, rows=rows, optimizer=long.optimizer)
        noisy = None
        if self.batch is not None:
            noisy = tuple(_runs.noisy(obj, theta, rule, _STEPS, self.batch, np.random.default_rng([self.seed, 2, i]),
                                      rows=rows) for i in range(_REPEATS))
        return Runs(_STEPS, _LONG, stay, low, high, long, later, noisy)


_NOTHING = {"height": math.nan, "curvature": math.nan, "layers": None, "gain_curvature": 0.0, "length_curvature": 0.0,
            "gain_gradient": 0.0, "length_gradient": 0.0, "gain_flat": 0.0, "length_flat": 0.0, "searched": 0,
            "slope_curvature": 0.0, "first_order": math.nan, "second_order": math.nan, "noise": None,
            "sharpness": None, "runs": None}


def _start(obj, theta, losses, rows):
    """Where training started: a network's objective may have been made at its end, so a history goes first."""
    if losses and math.isfinite(losses[0]):
        return losses[0], "first entry of the history"
    if np.array_equal(theta, obj.theta0):
        return math.nan, ""
    return obj.loss(obj.theta0, rows), "obj.theta0"


def _gain_flat(obj, theta, rows, point):
    """The best decrease along +-v for a few flat directions v, at distances from the radius down.

    No farther: a lower loss behind a barrier says nothing about this point.
    """
    directions = point.flat.T[:_MOST_FLAT]
    best, length = 16 * float(np.finfo(obj.dtype).eps) * abs(point.loss), 0.0
    for v in (sign * v for v in directions for sign in (1, -1)):
        for distance in point.radius * 4.0 ** -np.arange(8):
            gain = point.loss - obj.loss((theta + distance * v).astype(obj.dtype), rows)
            if gain > best:
                best, length = gain, float(distance)
    return (best if length else 0.0), length, len(directions)


def _gain_along(obj, theta, rows, point):
    fall = 0.5 * abs(float(point.eigenvalues[0]))
    found, length, _ = line_search(obj, theta, rows, point.loss, point.direction, lambda t: fall * t**2)
    return (point.loss - found[1], length) if found else (0.0, 0.0)


def _gain_down(obj, theta, rows, loss, step, g):
    norm = float(np.linalg.norm(step))
    if norm == 0 or not math.isfinite(norm):
        return 0.0, 0.0
    slope = float(step @ g) / norm
    found, length, _ = line_search(obj, theta, rows, loss, -step / norm, lambda t: slope * t, signs=(1,))
    return (loss - found[1], length) if found else (0.0, 0.0)


def _gain_far(obj, theta, rows, loss, step):
    """The best decrease far along -step, by losses alone: what lies behind a plateau."""
    norm, best = float(np.linalg.norm(step)), (0.0, 0.0)
    if norm == 0 or not math.isfinite(norm):
        return best
    for distance in 0.1 * obj.length(theta) * np.r_[1:17, 2.0 ** np.arange(5, 11)]:
        gain = loss - obj.loss((theta - distance / norm * step).astype(obj.dtype), rows)
        if gain > best[0]:
            best = gain, float(distance)
    return best


def _check_batch_size(batch_size):
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
        raise TypeError(f"batch_size: expected an int, got {type(batch_size).__name__}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")


def _read_history(history):
    """The losses of a History (of its epochs, else of its steps), a mapping with "loss", or a sequence."""
    if history is None:
        return ()
    epochs, steps = getattr(history, "epochs", None), getattr(history, "steps", None)
    if isinstance(epochs, Mapping) and isinstance(steps, Mapping):
        history = epochs if len(epochs.get("loss", ())) else steps
    losses = history.get("loss", ()) if isinstance(history, Mapping) else history
    if isinstance(losses, str) or not isinstance(losses, (Sequence, np.ndarray)):
        raise TypeError("history: expected a History, a mapping with 'loss' or a sequence of losses, "
                        f"got {type(history).__name__}")
    return tuple(float(value) for value in losses)
