"""What to do, with numbers: the words, and the change that `Diagnosis.verify` runs."""

import math
from dataclasses import dataclass, replace

from optcore.objective import Variant


@dataclass(frozen=True)
class Remedy:
    """What to do.

    Attributes
    ----------
    text : str
    factor : float or None
        Of the rate, where that is to be changed.
    batch : int or None
        Examples in a step, where that is to be changed.
    escape : bool
        A step along negative curvature goes first.
    restart : bool
        The run goes back to ``obj.theta0``.
    clip : float or None
        The gradient norm to clip at.
    adaptive : float or None
        The rate of Adam, where the rule is to be changed to it.
    lr : float or None
        The rate, where a factor of it will not do: it is zero.
    variant : Variant or None
        The network to start from in place of this one.
    """

    text: str
    factor: float | None = None
    batch: int | None = None
    escape: bool = False
    restart: bool = False
    clip: float | None = None
    adaptive: float | None = None
    lr: float | None = None
    variant: Variant | None = None


def remedy_for(m, cause, trials=None):
    """Return the Remedy of the cause that binds, with the changes of layers that were tried for it."""
    change = _REMEDIES[cause.name](m)
    if trials is None:
        return change
    return replace(change, text=f"{change.text}; {trials}", variant=trials.best, factor=trials.factor or change.factor)


def _limit(m):
    """The largest stable rate of the quadratic model here; None where it is not known."""
    if m.sharpness is None or not m.sharpness > 0:
        return None
    return m.rule.lr / m.sharpness


def _diverged(m):
    text = "go back to a state that was finite"
    if m.rule is None or m.start_curvature is None:
        return Remedy(f"{text}; a lower rate, warm-up, or a clipped gradient norm")
    limit = (m.rule.threshold or 2.0) / m.start_curvature
    target = 0.3 * min(limit, m.rule.lr)
    return Remedy(f"{text}, at obj.theta0 the largest curvature is {m.start_curvature:.4g}, so {m.rule.name} is stable "
                  f"up to lr {limit:.3g} there, not {m.rule.lr:.3g}: start again at {target:.3g}, with a warm-up, or "
                  "clip the gradient norm", factor=target / m.rule.lr, restart=True)


def _dead_units(m):
    return Remedy("initialise the biases of that layer at zero and its weights by kaiming_uniform, lower the rate that "
                  "drove them there, take an activation without a dead side (ELU, GELU), or normalise before it")


def _exploding(m):
    per_layer = m.signal_ratio ** (1 / (len(m.layers) - 1))
    clip = m.point.gradient_norm / m.signal_ratio
    return Remedy(f"scale the initial weights down by {per_layer:.3g} a layer (xavier or kaiming initialisation), put "
                  f"a normalization between the layers, or clip the gradient norm, now {m.point.gradient_norm:.3g}, at "
                  f"{clip:.3g}", clip=clip)


def _vanishing(m):
    per_layer = m.weight_ratio ** (1 / (len(m.layers) - 1))
    return Remedy(f"each layer passes on {per_layer:.2g} of the gradient: scale the initial weights up by "
                  f"{1 / per_layer:.3g} a layer (xavier or kaiming initialisation), take ReLU in place of a saturating "
                  "activation, or put a normalization between the layers", adaptive=_adam(m))


def _adam(m):
    """A rate for Adam that moves theta by R, a tenth of its length, in thirty steps; None beside a rule like it."""
    if m.rule is not None and m.rule.adaptive:
        return None
    return float(f"{m.radius / math.sqrt(m.point.size) / 30:.1g}")


def _plateau(m):
    return Remedy(f"no rate that is stable leaves it soon (gradient {m.point.gradient_norm:.2g}): another start "
                  "(smaller weights), a loss steep where it is wrong (cross-entropy in place of squared error), "
                  "normalization" + (f", or an adaptive rule (Adam at lr {_adam(m):.1g})" if _adam(m) else ""),
                  adaptive=_adam(m))


def _saddle(m):
    return Remedy(f"optcore.curvature.escape: a step of length {m.length_curvature:.3g} along negative curvature "
                  f"lowers the loss by {m.gain_curvature:.4g}, measured" + _plain_steps(m), escape=True)


def _plain_steps(m):
    """How long plain steps would need: the distance r to the saddle along v grows by 1 + lr |lambda| a step."""
    if m.rule is None or not m.rule.lr or m.rule.name != "SGD":
        return ""
    curvature = -float(m.point.eigenvalues[0])
    offset = m.slope_curvature / curvature
    if offset == 0:
        return "; plain steps would stay for ever (the gradient has no part along it)"
    steps = math.log(max(m.length_curvature / offset, 1)) / math.log1p(m.rule.effective_lr * curvature)
    return f"; plain steps at lr {m.rule.lr:.3g} would take about {math.ceil(steps)}"


def _minimum(m):
    sharp = "" if math.isnan(m.keskar) else f", Keskar sharpness {m.keskar:.2g} %"
    needs = f"other capacity, data or regularisation (largest curvature {m.point.eigenvalues[-1]:.3g}{sharp})"
    if m.flat_share == 0:
        return Remedy(f"the optimizer is done: a lower loss needs {needs}")
    return Remedy(f"to second order no step is left: a lower loss needs a way along the flat directions, or {needs}")


def _too_large(m):
    limit, lr = _limit(m), m.rule.lr
    target = min(0.1 * lr, limit) if limit is not None else 0.1 * lr
    gain = m.runs.low.gain
    text = f"lower lr from {lr:.3g} to {target:.3g}, or decay it"
    if gain > 0:
        text += (f": {m.runs.steps} steps at {0.1 * lr:.3g} gain {gain:.4g}, at {lr:.3g} {m.runs.stay.gain:.2g}, "
                 "measured")
    if limit is not None and limit < lr:
        text += (f"; largest curvature {m.curvature:.4g}, limit of {m.rule.name} {m.rule.threshold:.3g}/lr: stable up "
                 f"to {limit:.3g}")
    return Remedy(text, factor=target / lr)


def _edge(m):
    drop = m.runs.low.gain
    text = "nothing to do while the loss falls over many steps"
    if drop > 0:
        text += f"; a decay to {0.1 * m.rule.lr:.3g} would gain {drop:.3g} within {m.runs.steps} steps now"
    return Remedy(text)


def _noise(m):
    free, (mean, _) = m.free_gain, m.noisy_gain
    larger = min(m.n_examples, 4 * m.batch_size)
    excess = max(free - mean, 0.0)
    text = (f"noise holds the loss {excess:.3g} above what this rate reaches without it, in proportion to "
            f"lr and to 1/batch: about {m.point.loss - mean - 0.9 * excess:.4g} at lr {0.1 * m.rule.lr:.3g}, "
            f"{m.point.loss - mean - (1 - m.batch_size / larger) * excess:.4g} at batches of {larger}")
    return Remedy(text, factor=0.1)


def _ended(m):
    """The rate has been lowered until nothing moves: put it back."""
    r = m.retry
    if r is None or not r.gain > 2 * r.error + m.rounding:
        return Remedy(f"the rate is {m.rule.lr:.3g}: no step moves the loss. Put back to " + _rates(m) + " it gains "
                      "nothing beyond noise: larger batches, or the optimizer is done")
    return Remedy(f"the rate is what stopped it: train on with lr {r.lr:.3g}, and lower it to zero again later; "
                  f"{r.steps} steps there gain {r.gain:.3g}, at {m.rule.lr:.3g} nothing, measured", lr=r.lr)


def _rates(m):
    return "any of the rates that were tried" if m.retry is None else f"{m.retry.lr:.3g}"


def _too_small(m):
    if m.ended:
        return _ended(m)
    limit = _limit(m)
    best = 0.3 * limit if limit is not None else 10 * m.rule.lr
    stable = "there is no curvature" if limit is None else f"the quadratic model is stable up to {limit:.3g}"
    return Remedy(f"raise lr from {m.rule.lr:.3g} to about {best:.3g} ({stable}); ten times the rate gained "
                  f"{m.runs.high.gain:.3g} in {m.runs.steps} steps, this one {m.runs.stay.gain:.3g}, measured",
                  factor=best / m.rule.lr)


def _progressing(m):
    text = f"train on: one step of length {m.length_gradient:.3g} down the gradient gains {m.gain_gradient:.3g}"
    if m.runs is not None:
        text += f"; {m.runs.steps} steps of the rule gain {m.runs.stay.gain:.3g}"
    if m.lowered:
        text += f"; the schedule has lowered lr from {m.rate_before:.3g} to {m.rule.lr:.3g}: more epochs, or a restart"
    limit = _limit(m)
    if limit is not None and m.rule.lr > limit:
        text += f"; the rate {m.rule.lr:.3g} is above the stable {limit:.3g} of the quadratic model: lower it"
    return Remedy(text)


def _undetermined(m):
    if m.length_flat and m.point.curvature == "minimum" and m.point.kind == "minimum":
        return Remedy(f"a step of length {m.length_flat:.3g} along a flat direction (optcore.curvature.classify: "
                      f"`flat`) lowers the loss by {m.gain_flat:.4g}, measured; then train on")
    return Remedy("measure what is missing before changing the training")


_REMEDIES = {"diverged": _diverged, "dead_units": _dead_units, "exploding_gradients": _exploding,
             "vanishing_gradients": _vanishing, "plateau": _plateau, "saddle": _saddle, "maximum": _saddle,
             "minimum": _minimum, "lr_too_large": _too_large, "edge_of_stability": _edge, "noise_floor": _noise,
             "lr_too_small": _too_small, "progressing": _progressing, "undetermined": _undetermined}
