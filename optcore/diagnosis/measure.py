"""The measurements of a diagnosis, the cheap ones first."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse.linalg import minres

from optcore import checks
from optcore.curvature import CriticalPoint, Hessian, Preconditioned, classify, extremes, keskar_sharpness
from optcore.curvature.escape import line_search
from optcore.diagnosis import runs as _runs
from optcore.diagnosis.decay import Decayed
from optcore.diagnosis.quantities import Measurements, Quantity, Retry, Runs
from optcore.diagnosis.rule import read
from optcore.diagnosis.verify import Source
from optcore.objective import check_objective
from optcore.process import one_pool

_MOST_FLAT = 6  # flat directions searched: each costs 16 losses
_DENSE = 300  # up to so many parameters all eigenvalues are computed
_PRODUCTS = 180
_STEPS, _LONG = 50, 300  # of a counterfactual run; of one that shows whether an oscillation stays
_NOISY = 100  # of one on mini-batches: it has to come from where the noise was to where it is in the mean
_SAMPLES = 16  # mini-batch gradients, each with a product, for the noise
_REPEATS = 12  # runs on mini-batches
_AGAIN = 4  # such runs for each rate that is put back
_CLOSE = 1e-4  # `near` from which on sharpness is measured: a minimum is possible
_PARTS = 8  # of a sample
_WORK = 3e8  # parameters times examples of one gradient: beyond, the analysis takes a sample of the examples


def measure(obj, theta, optimizer, batch_size, history, options):
    """Return the Measurements at theta, and the Source that they were made of."""
    check_objective(obj)
    theta = obj.check_theta(theta)
    _check_options(options)
    batch_size = None if batch_size is None else checks.integer("batch_size", batch_size)
    losses, before = _read_history(history), _rate_before(history)
    rule = read(optimizer, obj.size, getattr(obj, "place_of", None), theta)
    if rule is not None:
        before = max((x for x in (before, rule.initial_lr) if math.isfinite(x)), default=math.nan)
    if rule is not None and rule.decay is not None:
        obj, rule = Decayed(obj, rule.decay), rule.without_decay()
    seed = options.get("seed", 0)
    rows = _sample(obj, seed)
    with one_pool:
        point = classify(obj, theta, rows, **{"dense_limit": _DENSE, "max_products": _PRODUCTS, **options})
        if rule is not None and not rule.finite:
            point = _lost(point, "the state of the optimizer is not finite: its next step makes theta so")
        at = _Place(obj, theta, rows, point, rule, batch_size, seed)
        return at.measured(losses, before), Source(obj, theta, rule, batch_size, rows, seed)


def _lost(point, why):
    """The point as where nothing is finite: no step leads on from it."""
    empty = np.zeros(0)
    return CriticalPoint("undetermined", "undetermined", point.loss, point.gradient_norm, why, point.size, empty, empty,
                         mode=point.mode)


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

    def measured(self, losses, before):
        """All of them; of a point that is not finite only what can be said there."""
        obj, point = self.obj, self.point
        start = _start(obj, self.theta, losses, self.rows)
        facts = {"point": point, "loss_start": start[0], "start": start[1], "radius": self.radius, "rule": self.rule,
                 "batch_size": self.batch_size, "n_examples": obj.n_examples, "losses": losses,
                 "sample": obj.n_examples if self.rows is None else self.rows.size,
                 "lower_bound": obj.lower_bound, "exact_products": obj.difference_reach(self.theta) == 0,
                 "eps": float(np.finfo(obj.dtype).eps), "decayed": isinstance(obj, Decayed), "rate_before": before}
        far = not point.eigenvalues.size or point.loss > start[0]
        facts["start_curvature"] = self._start_curvature() if far and self.rule is not None else None
        if not point.eigenvalues.size:
            return Measurements(**facts, **_NOTHING)
        g = obj.loss_and_grad(self.theta, self.rows)[1].astype(np.float64)
        layers = obj.layers(self.theta, self.rows)
        facts["spread"] = None if self.rows is None else self._spread()
        noisy = self._noisy_gradients(g)
        scale = None if self.rule is None else self.rule.preconditioner(
            g**2 if noisy is None else g**2 + (noisy**2).mean(axis=0))
        step = g if scale is None else g / scale
        facts |= self._searched(step, g)
        facts["height"] = self._height(facts, start[0], losses)
        sharpness, curvature = self._sharpness(scale)
        first, second, noise = self._orders(step, g, noisy, scale)
        close = point.near <= _CLOSE and point.direction is None
        made = Measurements(**facts, curvature=curvature, layers=None if layers is None else tuple(layers),
                            first_order=first, second_order=second, noise=noise, sharpness=sharpness, retry=None,
                            runs=self._counterfactual(scale, sharpness),
                            keskar=keskar_sharpness(obj, self.theta, self.rows, seed=self.seed) if close else math.nan)
        return replace(made, retry=self._retry(before, curvature)) if made.ended else made

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
        return {"newton_ratio": self._newton_ratio(g, curvature[0]), "gain_gradient": gradient[0],
                "length_gradient": gradient[1], "gain_curvature": curvature[0],
                "length_curvature": curvature[1], "gain_flat": flat[0], "length_flat": flat[1], "searched": flat[2],
                "slope_curvature": slope}

    def _newton_ratio(self, g, gain):
        """What a step to the quadratic model's critical point leaves of the gradient; NaN where none is at hand."""
        if not 0 < self.point.decrease <= 0.1 * gain:
            return math.nan
        step, _ = minres(Hessian(self.obj, self.theta, self.rows), -g, rtol=1e-2, maxiter=60)
        there = self.obj.loss_and_grad((self.theta + step).astype(self.obj.dtype), self.rows)[1].astype(np.float64)
        return float(np.linalg.norm(there) / np.linalg.norm(g))

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

    def _spread(self):
        """Loss and gradient norm over all examples, from parts of the sample.

        |mean gradient|^2 is too large by tr(Sigma)/parts, which the parts tell (McCandlish et al. 2018, appendix A);
        the intervals are two standard errors, by leaving out one part after the other.
        """
        parts = np.array_split(np.random.default_rng([self.seed, 6]).permutation(self.rows), _PARTS)
        found = [self.obj.loss_and_grad(self.theta, part) for part in parts]
        losses, g = np.array([f[0] for f in found]), np.array([f[1] for f in found], np.float64)
        gram = g @ g.T

        def square(kept):
            n = len(kept)
            part = gram[np.ix_(kept, kept)]
            return (part.sum() - np.trace(part)) / (n * (n - 1))  # means of g_i'g_j, i != j: without the bias

        everything = np.arange(_PARTS)
        value = square(everything)
        left = np.array([square(np.delete(everything, i)) for i in everything])
        error = math.sqrt((_PARTS - 1) / _PARTS * float(np.sum((left - left.mean()) ** 2)))
        low, middle, high = (math.sqrt(max(x, 0.0)) for x in (value - 2 * error, value, value + 2 * error))
        mean, slack = float(losses.mean()), 2 * float(losses.std(ddof=1)) / math.sqrt(_PARTS)
        how = f"of all examples, from {_PARTS} parts of the sample, two standard errors"
        return Quantity(mean, mean - slack, mean + slack, how), Quantity(middle, low, high, f"{how}, bias taken out")

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
        second = 0.5 * (eta * eta) * float(step @ product(step))  # a power would raise where this overflows
        if noisy is None:
            return first, second, None
        moves = noisy if scale is None else noisy / scale
        costs = 0.5 * (eta * eta) * np.array([float(d @ product(d)) for d in moves])
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
        noisy = large = None
        if self.batch is not None:
            if rows is not None:
                large = _runs.noisy(obj, theta, rule, _STEPS, min(16 * self.batch, obj.n_examples),
                                    np.random.default_rng([self.seed, 4]), rows=rows)
            noisy = tuple(_runs.noisy(obj, theta, rule, _NOISY, self.batch, np.random.default_rng([self.seed, 2, i]),
                                      rows=rows) for i in range(_REPEATS))
        return Runs(_STEPS, _LONG, stay, low, high, long, later, noisy, large)


    def _retry(self, before, curvature):
        """The best of three rates for a rule whose rate moves nothing: the largest it had, a tenth, a hundredth.

        Where that is not known: of what is stable by the curvature here.
        """
        rule, found = self.rule, []
        if not before > rule.lr:
            before = 0.3 * (rule.threshold or 2.0) / curvature if curvature > 0 else math.nan
        for lr in before * np.array([1.0, 0.1, 0.01]) if math.isfinite(before) else ():
            there = rule.at(float(lr))
            if self.batch is None:
                runs = [_runs.full(self.obj, self.theta, there, _STEPS, rows=self.rows)]
            else:
                runs = [_runs.noisy(self.obj, self.theta, there, _NOISY, self.batch,
                                    np.random.default_rng([self.seed, 7, i]), rows=self.rows) for i in range(_AGAIN)]
            gains = np.array([run.gain for run in runs])
            error = float(gains.std(ddof=1)) / math.sqrt(gains.size) if gains.size > 1 else 0.0
            if np.isfinite(gains).all():
                found.append(Retry(float(lr), len(runs[0].losses) - 1 if self.batch is None else _NOISY,
                                   float(gains.mean()), error))
        return max(found, key=lambda retry: retry.gain - 2 * retry.error, default=None)


_NOTHING = {"height": math.nan, "curvature": math.nan, "layers": None, "gain_curvature": 0.0, "length_curvature": 0.0,
            "gain_gradient": 0.0, "length_gradient": 0.0, "gain_flat": 0.0, "length_flat": 0.0, "searched": 0,
            "slope_curvature": 0.0, "newton_ratio": math.nan, "first_order": math.nan,
            "second_order": math.nan, "noise": None,
            "sharpness": None, "runs": None, "spread": None, "retry": None, "keskar": math.nan}


def _start(obj, theta, losses, rows):
    """Where training started: a network's objective may have been made at its end, so a history goes first."""
    if losses and math.isfinite(losses[0]):
        penalty = obj.penalty(theta) if isinstance(obj, Decayed) else 0.0  # the history has none
        return losses[0] + penalty, "first entry of the history"
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


def _check_options(options):
    known = [name for name in inspect.signature(classify).parameters if name not in ("obj", "theta", "batch")]
    for name in options:
        if name not in known:
            raise TypeError(f"{name}: diagnose has no such option; expected one of {', '.join(known)}")


def _rate_before(history):
    """The largest rate of a history that has rates; else NaN."""
    steps = getattr(history, "steps", history)
    rates = _column("lr", steps["lr"]) if isinstance(steps, Mapping) and "lr" in steps else ()
    return max((x for x in rates if math.isfinite(x)), default=math.nan)


def _read_history(history):
    """The losses of a History (of its epochs, else of its steps), a mapping with "loss", or a sequence."""
    if history is None:
        return ()
    epochs, steps = getattr(history, "epochs", None), getattr(history, "steps", None)
    if isinstance(epochs, Mapping) and isinstance(steps, Mapping):
        return _column("loss", (epochs if len(epochs.get("loss", ())) else steps).get("loss", ()))
    if isinstance(history, Mapping) and "loss" not in history:
        raise ValueError(f"history: expected a mapping with 'loss', got one with {', '.join(map(repr, history))}")
    return _column("loss", history["loss"] if isinstance(history, Mapping) else history)


def _column(name, values):
    """One column of a history as floats."""
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        raise TypeError(f"history: expected a History, a mapping with 'loss' or a sequence of losses, its {name} is "
                        f"{type(values).__name__}")
    array = np.array(values, object)
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError):
        numbers = np.full((1, 1), math.nan)
    if numbers.ndim != 1 or any(isinstance(x, (str, bytes)) for x in array):
        raise TypeError(f"history: expected one number for each entry of {name}, got {values!r:.60}")
    return tuple(numbers.tolist())
