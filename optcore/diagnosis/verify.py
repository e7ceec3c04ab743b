"""The proof of a remedy: it and the unchanged setting, side by side on copies from the same state."""

import math
from dataclasses import dataclass, replace

import numpy as np

from optcore import checks, optim
from optcore.curvature import escape
from optcore.diagnosis import runs
from optcore.diagnosis.rule import read
from optcore.process import one_pool

_LOOKS = 60  # losses along a curve
_REPEATS = 3  # runs on mini-batches, each with its own order, the same on both sides


@dataclass(frozen=True)
class Verification:
    """What `Diagnosis.verify` measured. ``str(v)`` is a short report; `optcore.plot.verification` draws it.

    Attributes
    ----------
    verdict : str
        "confirmed": the second half of the remedy's curve is lower in the mean, by more than two standard errors and
        rounding, and its end is not higher (for "minimum": more steps gain nothing; for "progressing" and
        "edge_of_stability": they gain). "refuted": that half is higher.
        "open": neither, or the remedy needs another network than this one.
    text : str
        What was compared, with numbers.
    at : array [k]
        Steps behind each loss.
    unchanged : array [r, k]
        Losses of the setting as it is, one row for each order of the mini-batches (one row without).
    remedy : array [r, k] or None
        Losses with the remedy; infinite from where a run left all bounds. None where nothing is to be changed.
    """

    verdict: str
    text: str
    at: np.ndarray
    unchanged: np.ndarray
    remedy: np.ndarray | None

    def __str__(self):
        return f"{self.verdict}: {self.text}"

    def to_dict(self):
        """Return everything as what JSON knows.

        Returns
        -------
        dict
            Of strings and lists; what is not finite is None.
        """
        def plain(curves):
            return [[x if math.isfinite(x) else None for x in row] for row in curves.tolist()]

        return {"verdict": self.verdict, "text": self.text, "at": self.at.tolist(), "unchanged": plain(self.unchanged),
                "remedy": None if self.remedy is None else plain(self.remedy)}


@dataclass(frozen=True)
class Source:
    """What a diagnosis was made of, kept so that its remedy can be run: theta and the optimizer's state are copies."""

    obj: object
    theta: np.ndarray
    rule: object
    batch_size: int | None
    rows: np.ndarray | None
    seed: int

    def rule_for(self, variant):
        """The rule at the start of another network."""
        same = variant.theta.size == self.theta.size
        return self.rule.fresh() if same else self.rule.over(variant.theta.size)


def verify(source, name, change, steps, seed):
    """Return the Verification of a remedy; see `Diagnosis.verify`."""
    steps, seed = checks.integer("steps", steps), source.seed if seed is None else checks.integer("seed", seed, low=0)
    if source.rule is None:
        raise ValueError("optimizer: expected one in the call of diagnose, got None: there is no setting to go on with")
    at = np.unique(np.linspace(0, steps, min(steps, _LOOKS) + 1).astype(int))
    with one_pool, np.errstate(all="ignore"):
        unchanged = _curves(source, source.theta, source.rule, 1.0, source.batch_size, at, seed)
        changed = _changed(source, change, at, seed)
    gained = source.obj.loss(source.obj.theta0, source.rows) - unchanged[0, 0]
    slack = 16 * float(np.finfo(source.obj.dtype).eps) * abs(unchanged[0, 0])
    if name == "minimum" and math.isfinite(gained):
        slack = max(slack, 1e-6 * gained)
    return _judged(name, at, unchanged, changed, slack if math.isfinite(slack) else 0.0)


def _changed(source, change, at, seed):
    """The curves with the remedy; None where it changes nothing that a copy could run."""
    theta, rule, batch = source.theta, source.rule, change.batch or source.batch_size
    if change.variant is not None:
        other = change.variant
        return _curves(replace(source, obj=other.objective), other.theta, source.rule_for(other), change.factor or 1.0,
                       batch, at, seed)
    if change.lr is not None:
        rule = rule.at(change.lr)
    if change.restart:
        theta, rule = source.obj.theta0.copy(), rule.fresh()
    if change.escape:
        theta = escape(source.obj, theta, source.rows, dense_limit=300, max_products=180).theta
    if change.clip is not None:
        rule = rule.clipped(change.clip)
    if change.adaptive is not None:
        rule = read(optim.Adam(theta.copy(), lr=change.adaptive), theta.size)
    elif change.factor is None and change.lr is None and not (
            change.escape or change.restart or change.batch or change.clip):
        return None
    return _curves(source, theta, rule, change.factor or 1.0, batch, at, seed)


def _curves(source, theta, rule, factor, batch_size, at, seed):
    obj, found = source.obj, []
    noisy = batch_size is not None and batch_size < obj.n_examples
    for i in range(_REPEATS if noisy else 1):
        copy = theta.copy()
        losses = runs.path(obj, copy, rule, rule.copy(copy, factor), at, batch_size if noisy else None,
                           np.random.default_rng([seed, 3, i]), source.rows)
        found.append(np.r_[losses, np.full(len(at) - len(losses), math.inf)])
    return np.where(np.isfinite(found), found, math.inf)


def _judged(name, at, unchanged, changed, slack):
    start, on = float(unchanged[0, 0]), _means(unchanged)
    said = f"{at[-1]} steps: unchanged from {start:.6g} to {unchanged[:, -1].mean():.6g}"
    if changed is None:
        if name not in ("minimum", "progressing", "edge_of_stability"):
            return Verification("open", f"{said}; the remedy needs another network, or a decision that no copy can "
                                        "make", at, unchanged, None)
        gains = _sign(start - unchanged[:, -1], slack)
        good = gains <= 0 if name == "minimum" else gains > 0
        return Verification("confirmed" if good else "refuted" if gains else "open", said, at, unchanged, None)
    side = _sign(on - _means(changed), slack)
    higher = np.minimum(changed[:, -1], 1e100).mean() > np.minimum(unchanged[:, -1], 1e100).mean() + slack
    return Verification("refuted" if side < 0 else "confirmed" if side > 0 and not higher else "open",
                        f"{said}, with the remedy to {changed[:, -1].mean():.6g}", at, unchanged, changed)


def _means(curves):
    """The mean loss of each run over its second half, where a new start has had its time.

    At most a huge number: runs that left all bounds compare, too.
    """
    return np.minimum(curves[:, curves.shape[1] // 2:], 1e100).mean(axis=1)


def _sign(values, slack):
    """1 or -1 where the mean is clear of zero by two standard errors and a slack, else 0."""
    mean = float(values.mean())
    error = 2 * float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else 0.0
    return 0 if not abs(mean) > max(slack, error) else 1 if mean > 0 else -1
