"""What people see of a diagnosis: evidence with intervals, what was not measured, the text."""

import math
from dataclasses import dataclass, field
from typing import Any

from optcore.curvature import CriticalPoint
from optcore.diagnosis.quantities import Quantity
from optcore.diagnosis.remedies import Remedy, remedy_for
from optcore.diagnosis.verify import verify

_MEANING = {
    "diverged": "The run has diverged.",
    "dead_units": "Most units of a layer answer to no example: their weights get no gradient.",
    "exploding_gradients": "The gradient grows from layer to layer on its way back.",
    "vanishing_gradients": "The gradient shrinks from layer to layer on its way back: the first layers do not learn.",
    "plateau": "Training sits on a plateau: the gradient is small over a large distance, with no critical point near.",
    "saddle": "Training sits at a saddle point.",
    "maximum": "Training sits at a maximum.",
    "minimum": "Training has arrived at a minimum.",
    "lr_too_large": "The rate is too large: the steps bounce across a valley, or leave it.",
    "edge_of_stability": "The rate is at the edge of stability: the loss need not fall at every step.",
    "noise_floor": "The noise of the mini-batches takes back what the steps gain.",
    "lr_too_small": "The rate is too small: the loss falls, but hardly.",
    "progressing": "Training is not at a critical point: the loss can still fall.",
    "undetermined": "The measurements do not decide.",
}


@dataclass(frozen=True)
class Diagnosis:
    """The answer of `optcore.diagnose`. ``str(d)`` is the report.

    Attributes
    ----------
    verdict : str
        The cause that binds.
    confidence : float
        From 0 to 1: the share of right verdicts among generated cases that were decided by as much; see
        ``docs/diagnosis.md``.
    causes : tuple of Cause
        All that hold, the verdict first.
    evidence : dict of str to Quantity
        Quantity -> value, low, high, note.
    remedy : str
        What to do, with numbers.
    missing : tuple of str
        What was not measured and could change the verdict.
    point : CriticalPoint
        What `optcore.curvature.classify` found.
    """

    verdict: str
    confidence: float
    causes: tuple
    evidence: dict
    remedy: str
    missing: tuple
    point: CriticalPoint = field(repr=False, compare=False)
    _change: Remedy = field(repr=False, compare=False)
    _source: Any = field(default=None, repr=False, compare=False)

    @property
    def distance(self):
        """How far the verdict is from another one, 0 to 1: what its confidence was calibrated by."""
        return self.causes[0].margin

    @property
    def undetermined(self):
        """Same as `missing`: the measurements that would decide, or could change the verdict."""
        return self.missing

    def verify(self, steps=200, seed=None):
        """Run the remedy and the unchanged setting side by side from the same state, on copies.

        The remedy: the rate that it names, a step along negative curvature first, a clipped gradient, Adam, or a new
        start at ``obj.theta0``, as the verdict asks. Mini-batches come in three orders, the same on both sides. With
        "minimum", "progressing" and "edge_of_stability" nothing is changed: the claim is that more steps gain nothing,
        or that they gain.

        Parameters
        ----------
        steps : int
        seed : int, optional
            Of the mini-batches; that of the diagnosis by default.

        Returns
        -------
        Verification
            Both curves, and whether the remedy's is lower.

        Raises
        ------
        TypeError, ValueError
            The diagnosis was made without an optimizer; `steps` or `seed` is none.

        Examples
        --------
        >>> import numpy as np, optcore as oc
        >>> obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, lambda t, v: 2 * v, theta0=np.ones(2))
        >>> theta = np.ones(2)
        >>> d = oc.diagnose(obj, theta, oc.optim.SGD(theta, lr=1.1))
        >>> d.verdict, d.verify(steps=50).verdict
        ('lr_too_large', 'confirmed')
        """
        return verify(self._source, self.verdict, self._change, steps, seed)

    def to_dict(self):
        """Return everything as what JSON knows.

        Returns
        -------
        dict
            Of numbers, strings, lists and dicts; what is not finite is None.
        """
        return {
            "verdict": self.verdict, "confidence": self.confidence, "meaning": self._meaning(),
            "causes": [{"name": c.name, "confidence": c.confidence, "margin": c.margin, "reason": c.reason}
                       for c in self.causes],
            "evidence": {name: {"value": _json(q.value), "low": _json(q.low), "high": _json(q.high), "note": q.note}
                         for name, q in self.evidence.items()},
            "remedy": self.remedy, "missing": list(self.missing)}

    def __str__(self):
        shown = "" if self.verdict == "undetermined" else f" (confidence {self.confidence:.2g})"
        lines = [f"{self.verdict}{shown}: {self._meaning()}"]
        lines += [f"  why      {self.causes[0].reason}"]
        lines += [f"  also     {cause.name}: {cause.reason}" for cause in self.causes[1:]]
        lines += [f"  remedy   {self.remedy}", "  evidence"]
        width = max(map(len, self.evidence), default=0)
        lines += [f"    {name:{width}}  {_value(quantity):24}  {quantity.note}".rstrip()
                  for name, quantity in self.evidence.items()]
        if self.missing:
            lines += ["  not measured", *(f"    {item}" for item in self.missing)]
        return "\n".join(lines)

    def _meaning(self):
        flat = self.evidence.get("zero share")
        if self.verdict == "minimum" and (flat is None or flat.value > 0):
            return "Training has arrived at a minimum of second order; flat directions may go further down."
        return _MEANING[self.verdict]


def _json(value):
    return value if math.isfinite(value) else None


def _value(q):
    text = f"{q.value:.4g}"
    if q.low != q.high and not (math.isinf(q.low) and math.isinf(q.high)):
        text += f" [{q.low:.3g}, {q.high:.3g}]"
    return text


def explain(m, causes, source=None, trials=None):
    """Return the Diagnosis of measurements, the causes decided on, and the changes of layers that were tried."""
    change = remedy_for(m, causes[0], trials)
    return Diagnosis(causes[0].name, causes[0].confidence, causes, _evidence(m), change.text,
                     tuple(_missing(m, causes[0])), m.point, change, source)


def _exactly(value, note=""):
    value = float(value)
    return Quantity(value, value, value, note)


def _evidence(m):
    point = m.point
    mode = f"{point.mode} statistics" if point.mode else ""
    if m.sample < m.n_examples:
        mode = ", ".join(filter(None, [mode, f"over a sample of {m.sample} of {m.n_examples} examples"]))
    mode = ", ".join(filter(None, [mode, "with the penalty of weight decay" if m.decayed else ""]))
    evidence = {"loss": _exactly(point.loss, mode), "gradient norm": _exactly(point.gradient_norm)}
    if m.spread is not None:
        evidence |= {"loss of all": m.spread[0], "gradient norm of all": m.spread[1]}
    if m.start:
        name = "loss at obj.theta0" if m.start == "obj.theta0" else "loss at the start"
        evidence[name] = _exactly(m.loss_start, "" if m.start == "obj.theta0" else m.start)
    if m.losses:
        recent = m.losses[-5:]
        evidence["recent fall of the loss"] = _exactly(
            recent[0] - recent[-1], f"over the last {len(recent)} entries of the history")
    if m.finite:
        evidence |= {**_spectrum(m), **_searches(m), **_layers(m), **_steps(m), **_counterfactual(m), **_secant(m)}
    return evidence


def _spectrum(m):
    point = m.point
    smallest, largest = float(point.eigenvalues[0]), float(point.eigenvalues[-1])
    how = ("of all eigenvalues" if point.confidence == 1 else f"interval with probability {point.confidence:g}")
    how += "" if m.exact_products else ", by differences of the gradient"
    found = {
        "smallest eigenvalue": Quantity(smallest, min(point.bounds[0], smallest), smallest,
                                        f"residual {point.residuals[0]:.1g}, {how}"),
        "largest eigenvalue": Quantity(largest, largest, max(point.bounds[1], largest),
                                       f"residual {point.residuals[-1]:.1g}, {how}"),
        "minimum ratio": Quantity(point.minimum_ratio, *point.minimum_ratio_interval,
                                  "positive / all eigenvalues")}
    if not math.isnan(m.keskar):
        found["Keskar sharpness"] = _exactly(m.keskar, "percent, in a box of 1e-3 (|theta_i| + 1); at least this")
    if not math.isnan(point.zero_share):
        found["zero share"] = _exactly(point.zero_share, f"eigenvalues within {point.tau:.2g} / all")
    return found


def _searches(m):
    point = m.point
    found = {
        "promise of the gradient": _exactly(point.decrease, f"decrease by a Newton-like step; near = {point.near:.1e}"),
        "gain down the gradient": _exactly(m.gain_gradient, f"realised at distance {m.length_gradient:.3g}"),
        "left to gain": _exactly(m.left, "the most that any search or run found, or the height above a known bound")}
    if m.searched:
        found["gain along flat directions"] = _exactly(
            m.gain_flat, f"the best along {m.searched}, up to distance {point.radius:.3g}")
    if point.direction is not None:
        found["gain along -curvature"] = _exactly(m.gain_curvature, f"realised at distance {m.length_curvature:.3g}")
    return found


def _layers(m):
    found = {}
    if m.layers and len(m.layers) > 1 and m.layers[-1].signal_gradient and m.layers[-1].weight_gradient:
        found["signal gradient, first / last"] = _exactly(m.signal_ratio, f"over {len(m.layers)} layers of weights")
        found["weight gradient, first / last"] = _exactly(m.weight_ratio)
    dead = [s for s in m.layers or () if not math.isnan(s.dead)]
    if dead:
        worst = max(dead, key=lambda s: s.dead)
        found["dead units"] = _exactly(worst.dead, f"largest share, in layer {worst.name}")
    return found


def _steps(m):
    if m.rule is None:
        return {}
    found = {"learning rate": _exactly(m.rule.lr, m.rule.name)}
    if m.lowered:
        found["largest learning rate"] = _exactly(m.rate_before, "of the history")
    if m.retry is not None:
        gain, error = m.retry.gain, 2 * m.retry.error
        found["gain at a rate put back"] = Quantity(gain, gain - error, gain + error,
                                                    f"{m.retry.steps} steps at lr {m.retry.lr:.3g}")
    if m.sharpness is not None:
        found["sharpness"] = _exactly(m.sharpness, f"lr * largest eigenvalue / {m.rule.threshold:.3g}: "
                                                   "above 1 the rule is unstable on a quadratic")
    found["first order of a step"] = _exactly(m.first_order, "S: rate times squared gradient")
    found["curvature takes back"] = _exactly(m.second_order, "O: half the squared step's curvature")
    if m.noise is not None:
        found["noise takes back"] = m.noise._replace(note=f"N: {m.noise.note}")
    return found


def _counterfactual(m):
    r = m.runs
    if r is None:
        return {}
    found = {"gain at the rate": _exactly(r.stay.gain, f"{r.steps} steps of a copy, without noise"),
             "gain at a tenth": _exactly(r.low.gain, f"{r.steps} steps at lr {0.1 * m.rule.lr:.3g}"),
             "gain at ten times": _exactly(r.high.gain, f"{r.steps} steps at lr {10 * m.rule.lr:.3g}")}
    if r.long is not None:
        found["gain of a longer run"] = _exactly(r.long.gain, f"{r.long_steps} steps at the rate")
    if r.later is not None:
        found["gain of dropping later"] = _exactly(m.point.loss - r.later.end,
                                                   f"a tenth of the rate after {r.long_steps} steps")
    if r.large is not None:
        found["gain with little noise"] = _exactly(r.large.gain, f"{r.steps} steps on batches sixteen times as large")
    if r.noisy is not None:
        mean, error = m.noisy_gain
        found["gain on mini-batches"] = Quantity(mean, mean - 2 * error, mean + 2 * error,
                                                 f"{int(r.noisy[0].at[-1])} steps, {len(r.noisy)} runs, second half")
    return found


def _secant(m):
    """Across a valley the curvature at theta is not what the steps meet: what the last ones met."""
    last = None if m.runs is None else m.runs.long
    if last is None or last.secant is None:
        return {}
    found = {"cosine of successive steps": _exactly(last.secant.cosine, "of the longer run, at its end"),
             "loss between two steps": _exactly(last.secant.middle, "lower by this at the middle of the last step than "
                                                                    "at its ends in the mean")}
    if m.rule.threshold is not None:
        found["secant sharpness"] = _exactly(m.rule.lr * last.secant.curvature / m.rule.threshold,
                                             "lr * curvature along the last step / limit")
    return found


def _missing_flat(m):
    if math.isnan(m.flat_share):
        yield "how many directions are flat, and higher orders along them"
        return
    others = m.flat_unsearched
    yield (f"higher orders along the other flat directions, about {others}, and along curved paths" if others
           else "higher orders along curved paths through the flat directions: straight lines were searched")
    if m.flat_share > 0.5 and m.layers is None:
        yield "whether units are dead: most directions are flat, as where no example activates a unit"


def _missing(m, cause):
    point = m.point
    if cause.name == "undetermined" and point.kind == "undetermined":
        yield "a closer bound on the smallest eigenvalue: classify with more max_products"
    if point.kind == "degenerate":
        yield "derivatives above the second: the loss on small circles around theta"
    if cause.name == "minimum" and m.flat_share != 0:
        yield from _missing_flat(m)
    if m.rule is None:
        yield from _missing_rule(m, cause)
    elif m.rule.threshold is None:
        yield f"the rate against the curvature: the stability limit of {m.rule.name} is not known"
    if m.rule is not None:
        yield from m.rule.notes
    yield from _missing_run(m)
    if m.layers is None and m.finite and cause.name not in ("minimum", "maximum", "saddle"):
        yield "the gradient layer by layer, and dead units: this objective knows no layers"


def _missing_run(m):
    """What was said of the training and does not fit the objective."""
    if m.batch_size is not None and m.n_examples == 1 < m.batch_size:
        yield f"the noise of mini-batches of {m.batch_size}: the objective has one example (n_examples)"
    known = [x for x in m.losses if math.isfinite(x)]
    if known and m.point.loss - max(known) > max(10 * (max(known) - min(known)), abs(known[-1])):
        yield (f"whether the history is that of this training: its losses go from {known[0]:.3g} to {known[-1]:.3g}, "
               f"here it is {m.point.loss:.3g}")


def _missing_rule(m, cause):
    if cause.name in ("progressing", "undetermined", "plateau", "diverged"):
        yield "the rate against the curvature, and what more steps would gain: no optimizer was given"
    if m.batch_size is not None and m.batch_size < m.n_examples:
        yield f"the noise of mini-batches of {m.batch_size} against the gradient: no optimizer was given"
