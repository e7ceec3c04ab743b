"""Pure decisions: from measurements to the causes that hold, the one that binds first.

Each test gives a margin (`thresholds`). A cause holds where its margin is not negative. The verdict is the first in the
order of the tests; how far it is from another one is the smaller of its own margin and of what the tests before it
missed by. `calibration.confidence` says how often a verdict at such a distance was right.
"""

import math
from dataclasses import dataclass

from optcore.diagnosis.calibration import confidence
from optcore.diagnosis.thresholds import above, below, holds


@dataclass(frozen=True)
class Cause:
    """A reason why the loss does not fall.

    Attributes
    ----------
    name : str
        A verdict.
    confidence : float
        From 0 to 1: the share of right ones among generated cases decided by as much (`docs/diagnosis.md`).
    reason : str
    margin : float
        By how much its test holds and those before it do not, 0 to 1.
    """

    name: str
    confidence: float
    reason: str
    margin: float = 0.0


def decide(m, thresholds):
    """Return the causes that hold at measurements m, at least one, the verdict first."""
    found, clear = [], 1.0
    for test in TESTS:
        outcome = test(m, thresholds)
        if outcome is None or any(outcome[0] == cause.name for cause in found):
            continue
        name, margin, reason = outcome
        if margin >= 0:
            distance = min(margin, clear) if not found else min(margin, 0.5)
            found.append(Cause(name, confidence(name, distance), reason, distance))
            if name in _FINAL:
                break
        elif not found:
            clear = min(clear, -margin)
    return tuple(found) or (_undetermined(m, thresholds),)


def _not_finite(m, t):
    return None if m.finite else ("diverged", 1.0, m.point.certificate)


def _dead_units(m, t):
    worst = max((s for s in m.layers or () if not math.isnan(s.dead)), key=lambda s: s.dead, default=None)
    if worst is None or worst.dead < 0.3:
        return None
    margin = (worst.dead - t.dead) / (1 - t.dead) if worst.dead >= t.dead else (worst.dead - t.dead) / 0.3
    return ("dead_units", max(-1.0, min(margin, -_held_up(m, t))),
            f"{100 * worst.dead:.0f} % of the units of layer {worst.name} have a zero derivative on every example")


def _exploding(m, t):
    if not m.layers or len(m.layers) < t.depth or not m.layers[-1].signal_gradient:
        return None
    ratio = m.signal_ratio
    unstable = m.sharpness is not None and m.sharpness > 1
    margin = above(ratio, t.exploding_unstable if unstable else t.exploding)
    return ("exploding_gradients", margin, f"the gradient grows {ratio:.3g} times from layer {m.layers[-1].name} to "
                                           f"layer {m.layers[0].name}")


def _far_above(m, t):
    if not math.isfinite(m.height):
        return None
    dead = max((s.dead for s in m.layers or () if not math.isnan(s.dead)), default=0.0) >= t.dead
    margin = above(m.height, t.diverged_dead if dead else t.diverged)
    if m.runs is not None and not dead and (m.runs.long or m.runs.stay).finite:
        risen = m.point.loss - m.loss_start
        if m.runs.low.gain >= t.regained * risen:  # bounded, and a lower rate gains it back: nothing is lost
            margin = min(margin, -_oscillation(m, t))
        noise = _noise_floor(m, t)
        if noise is not None and m.free_gain >= t.regained * risen:
            margin = min(margin, -noise[1])
    return ("diverged", margin,
            f"the loss is {m.height:.3g} times as far above the lowest known one as at the start ({m.start})")


def _vanishing(m, t):
    if not m.layers or len(m.layers) < t.depth or not m.layers[-1].weight_gradient:
        return None
    ratio = m.weight_ratio
    margin = min(below(ratio, t.vanishing), above(m.point.near, t.minimum_near), -_held_up(m, t))
    return ("vanishing_gradients", margin, f"the gradient of the weights of layer {m.layers[0].name} is {ratio:.2g} of "
                                           f"that of layer {m.layers[-1].name}")


def _critical(m):
    return m.point.kind != "not critical"


def _higher_order(m, t):
    if m.point.kind == "degenerate":
        return "undetermined", 1.0, "gradient and curvature are both zero here: higher orders decide"
    return None


def _plateau(m, t):
    if _critical(m) or not m.left > 0 or _even_slope(m):
        return None
    slope, bend = m.reach("slope") / m.left, m.reach("bend") / m.left
    margins = [below(slope, t.plateau), below(bend, t.plateau), above(m.point.near, t.minimum_near)]
    words = f"over the distance {m.radius:.3g} gradient and curvature change the loss by {max(slope, bend):.1g}"
    if m.runs is not None:
        gain = m.runs.stay.gain / m.left
        margins += [below(gain, t.plateau), below(m.rule.effective_lr * m.curvature, t.plateau_rate)]
        words += f", {m.runs.steps} steps by {max(gain, 0):.1g}"
    return "plateau", min(margins), f"{words} of the {m.left:.3g} that is left to gain"


def _even_slope(m):
    """Whether what is left is what the slope here gives as far as one looks: an unbounded loss is no plateau."""
    return m.gain_gradient >= 0.5 * m.left and m.gain_gradient <= 2 * m.point.gradient_norm * m.length_gradient


def _nearly(m, t):
    """Whether the gradient promises next to nothing, beside the radius and beside what was gained."""
    gained = m.loss_start - m.point.loss
    return (math.isfinite(gained) and gained > 0 and m.point.near <= t.minimum_near
            and m.point.decrease <= t.minimum_share * gained)


def _saddle(m, t):
    point = m.point
    if point.direction is None or m.gain_curvature <= 0:
        return None
    # A gain far beyond the curvature's own promise comes from elsewhere, as from a well behind a plateau.
    promise = 0.5 * abs(float(point.eigenvalues[0])) * m.length_curvature**2
    margin = min(below(point.decrease, t.saddle * m.gain_curvature), below(m.gain_curvature, t.unexplained * promise))
    margin = min(margin, below(m.newton_ratio, t.newton))
    if _critical(m):
        margin = 1.0
    elif _nearly(m, t):
        margin = max(margin, min(0.3, below(t.excess * point.decrease, m.gain_curvature)))
    up = "no curvature is positive" if point.curvature == "maximum" else "it curves up along others"
    return ("maximum" if point.curvature == "maximum" else "saddle", margin,
            f"the gradient is small and the loss curves down along a direction (lambda = "
            f"{point.eigenvalues[0]:.4g}); {up}")


def _minimum(m, t):
    point = m.point
    if (point.direction is not None and m.gain_curvature > 0) or flat_descent(m, t):
        return None
    scale = max(abs(float(point.eigenvalues[0])), abs(float(point.eigenvalues[-1])))
    # Beside the minimum the smallest eigenvalue is off by as much as theta is, relative to the radius.
    certified = point.curvature == "minimum" or (
        point.eigenvalues[-1] > point.tau and point.bounds[0] >= -max(point.tau, point.distance * scale))
    if not certified:
        return None
    curved = "no direction curves down" + ("" if point.confidence == 1 else f" (probability {point.confidence:g})")
    margin = 1.0
    if m.flat_share != 0:
        curved += f", {_flat_words(m)}"
        margin = 0.6 if m.searched and m.flat_unsearched == 0 else 0.3
    if point.kind == "minimum":
        return "minimum", margin, f"the gradient is zero to tolerance; {curved}"
    gained = m.loss_start - point.loss
    if not (math.isfinite(gained) and gained > 0):
        return None
    share = point.decrease / gained
    margin = min(margin, below(share, t.minimum_share), below(point.near, t.minimum_near))
    return "minimum", margin, (f"what the gradient promises is {share:.1g} of what was gained since the start "
                               f"({m.start}); {curved}")


def flat_descent(m, t):
    """Whether a flat direction leads further down than the gradient promises."""
    return m.gain_flat > t.excess * m.point.decrease


def _flat_words(m):
    """How much is flat, and what was searched of it."""
    if math.isnan(m.flat_share):
        share = "how many directions are flat was not resolved"
    else:
        share = f"{m.flat_share:.2g} of all directions are flat"
    if not m.searched:
        return share
    found = f"falls by at most {m.gain_flat:.2g}" if m.gain_flat > 0 else "does not fall"
    return f"{share}; along {m.searched} such direction(s) the loss {found} up to distance {m.point.radius:.3g}"


def _leaves(m, t):
    """A rate that is too large even for a minimum: the copy leaves all bounds from there."""
    if m.runs is None or (m.runs.long or m.runs.stay).finite:
        return None
    return _too_large(m, t)


def _too_large(m, t):
    if m.runs is None:
        return None
    runs, loss = m.runs, m.point.loss
    drop = runs.low.gain
    last = runs.long or runs.stay
    rise = last.end - loss
    if _critical(m) and last.finite:
        return None
    if not last.finite or rise > t.runaway * m.left:
        margin = above(rise, t.runaway * m.left) if last.finite else 1.0
        return ("lr_too_large", margin, f"a copy that goes on at lr {m.rule.lr:.3g} "
                                        + ("leaves all bounds" if not last.finite else f"rises by {rise:.3g}")
                                        + f"; at a tenth of it the loss falls by {drop:.3g}")
    if runs.later is None or drop <= 0:
        return None
    kept = (runs.long.end - runs.later.end) / drop
    return ("lr_too_large", _oscillation(m, t),
            f"a tenth of the rate gains {drop:.3g} within {runs.steps} steps; {runs.long_steps} more steps at lr "
            f"{m.rule.lr:.3g} leave {100 * kept:.0f} % of that in the oscillation across a valley{_bounces(runs.long)}")


def _bounces(run):
    if run.secant is None:
        return ""
    return f" (successive steps have a cosine of {run.secant.cosine:.2g})"


def _oscillation(m, t):
    """The margin of a rate that is too large though the run stays bounded: across a valley."""
    runs = m.runs
    drop = runs.low.gain
    if runs.later is None or drop <= 0:
        return -1.0
    kept = (runs.long.end - runs.later.end) / drop
    better = (runs.low.end - runs.later.end) / drop
    return min(above(kept, t.oscillation), below(better, t.later), above(drop, t.drop * m.left))


def _held_up(m, t):
    """The margin of an oscillation that holds up most of what is left, whatever it has done to the layers."""
    if m.runs is None:
        return -1.0
    return min(_oscillation(m, t), above(m.runs.low.gain, t.held_up * m.left))


def _edge(m, t):
    if m.runs is None or m.sharpness is None or _critical(m):
        return None
    bounded = m.runs.stay.finite and (m.runs.long is None or m.runs.long.finite)
    # The limit is a factor of two away at most: a distance of 7 % is as much as a factor of three elsewhere.
    margin = min(holds(bounded), max(-1.0, min(1.0, (m.sharpness - t.edge) / (1 - t.edge))),
                 below(m.sharpness, t.beyond_edge), below(m.runs.stay.gain, t.edge_gain * m.left))
    return ("edge_of_stability", margin,
            f"lr times the largest curvature is {m.sharpness:.3g} of the rule's limit, and the loss stays bounded")


def _noise_floor(m, t):
    if m.runs is None or m.runs.noisy is None or not m.free_gain > 0:
        return None
    free, (mean, error) = m.free_gain, m.noisy_gain
    kept = m.first_order - m.second_order
    share = m.noise.value / kept if kept > 0 else math.inf
    apart = (t.noisy_gain * free - mean) / (2 * error) if error > 0 else math.inf
    ratio = mean / free
    fall, slack = m.late_fall
    falling = mean > 2 * error and fall - 3 * slack > t.noisy_fall * free  # slowed down by noise, but no floor
    margin = -1.0 if falling else min(above(share, t.noise), max(-1.0, min(1.0, (t.noisy_gain - ratio) / 0.5)),
                 above(free, t.drop * m.left), max(-1.0, min(1.0, apart - 1)))
    return ("noise_floor", margin,
            f"steps without noise gain {free:.3g}, mini-batches of {m.batch_size} {max(mean, 0):.2g} (+-{error:.1g}): "
            f"noise takes back {share:.2g} of what a step gains")


def _ended(m, t):
    """The rate has been lowered until no step moves the loss, though the gradient still promises a decrease."""
    if not m.ended or _critical(m) or not m.gain_gradient > m.rounding:
        return None
    lowered = f" (a schedule has lowered it from {m.rate_before:.3g})" if m.lowered else ""
    words = f"the rate is {m.rule.lr:.3g}{lowered}: steps gain nothing"
    r = m.retry
    sure, gained = 0.0 if r is None else r.gain - 2 * r.error, m.loss_start - m.point.loss
    if sure > m.rounding:
        return ("lr_too_small", max(0.0, above(sure, t.drop * m.left)),
                f"{words}, {r.steps} of them at {r.lr:.3g} gain {r.gain:.3g} of the {m.left:.3g} that is left"
                + (f", {r.gain / gained:.1g} of what was gained since the start" if gained > 0 else ""))
    return "lr_too_small", 0.0, f"{words}; one step down the gradient would gain {m.gain_gradient:.3g}"


def _too_small(m, t):
    if m.runs is None or _critical(m) or m.sharpness is None:
        return None
    stay, high = m.runs.stay, m.runs.high
    if not stay.gain > 0:
        return None
    margin = min(below(m.sharpness, t.small_rate), holds(stay.cosine >= t.small_cosine),
                 above(high.gain / stay.gain, t.small_ratio), below(stay.gain, t.small_gain * m.left))
    return ("lr_too_small", margin,
            f"{m.runs.steps} steps gain {stay.gain:.3g} of the {m.left:.3g} that is left, ten times the rate "
            f"{high.gain / stay.gain:.3g} times as much; lr is {m.sharpness:.1g} of the limit"
            + (f", lowered from {m.rate_before:.3g} by a schedule" if m.lowered else ""))


def _progressing(m, t):
    if _critical(m):
        return None
    if m.runs is None:
        if m.gain_gradient <= 0 or m.rule is not None:
            return None
        return ("progressing", 0.2, "the gradient is not small: a step down the gradient still lowers the loss by "
                                    f"{m.gain_gradient:.3g}")
    gain = m.runs.stay.gain if m.runs.noisy is None else m.noisy_gain[0] - 2 * m.noisy_gain[1]
    if not gain > m.rounding:
        return None
    return "progressing", above(gain, m.rounding), f"{m.runs.steps} more steps of the rule lower the loss by {gain:.3g}"


def _undetermined(m, t):
    if not _critical(m):
        why = "the gradient is not small, but no step along it lowers the loss: a kink, noise, or rounding"
    elif m.point.direction is not None:
        why = "negative curvature was found, but no step along it lowers the loss: higher orders or a kink"
    elif flat_descent(m, t):
        why = (f"gradient and curvature show no way down, but along a flat direction the loss is {m.gain_flat:.3g} "
               f"lower at distance {m.length_flat:.3g}: higher orders decide")
    else:
        why = "the gradient is zero to tolerance, but the sign of the smallest curvature was not settled"
    return Cause("undetermined", 0.0, why)


TESTS = (_not_finite, _far_above, _dead_units, _exploding, _vanishing, _higher_order, _saddle, _plateau, _leaves,
         _minimum, _too_large, _edge, _noise_floor, _ended, _too_small, _progressing)
_FINAL = ("diverged", "undetermined")
