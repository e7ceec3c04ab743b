"""The minimum ratio along a training run: positive eigenvalues of the Hessian over all eigenvalues.

At a minimum every eigenvalue is positive and the ratio is 1. Measured on networks, where the gradient has become small,
it rarely is: most places where training stops are saddles. The network is small enough for all eigenvalues, so the
ratio is exact: eigenvalues within the rounding of the largest one count as zero, neither positive nor negative.
"""

from dataclasses import dataclass

import numpy as np
from common import COLORS, Digits, mlp, run

import optcore as oc
from optcore import nn
from optcore.plot.style import BOLD, NEGATIVE, ZERO, legend, style

ACTIVATIONS = {"tanh": nn.Tanh, "ReLU": nn.ReLU}


@dataclass
class Way:
    """Points along one run: steps, gradient norms, losses, and the shares of positive and negative eigenvalues."""

    name: str
    steps: np.ndarray
    gradient: np.ndarray
    loss: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


def shares(obj, theta):
    """Return the share of positive and of negative eigenvalues."""
    values = np.linalg.eigvalsh(oc.curvature.Hessian(obj, theta) @ np.eye(obj.size))
    zero = obj.size * np.finfo(np.float64).eps * np.abs(values).max()
    return float(np.mean(values > zero)), float(np.mean(values < -zero))


class Watch:
    """A callback that looks at steps evenly spaced in their logarithm."""

    def __init__(self, obj, at):
        self.obj, self.at, self.rows = obj, set(at), []

    def on_step(self, run):
        """Measure where it is time."""
        if run.step in self.at:
            loss, gradient = self.obj.loss_and_grad(run.net.theta)
            self.rows.append((run.step, np.linalg.norm(gradient), loss, *shares(self.obj, run.net.theta)))


def follow(name, data, steps, points, seed):
    """Train by full-batch gradient descent with momentum and measure on the way."""
    net = mlp((64, 8, 10), ACTIVATIONS[name], dtype="float64", seed=seed)
    watch = Watch(nn.objective(net, "cross_entropy", data.X, data.y),
                  np.unique(np.geomspace(1, steps, points).round().astype(int)).tolist())
    rule = oc.optim.SGD(net.theta, lr=0.1, momentum=0.9)
    oc.train.fit(net, data.X, data.y, optimizer=rule, epochs=steps, batch_size=None, callbacks=[watch], progress=False)
    return Way(name, *np.array(watch.rows).T)


def measure(quick, seed):
    """Follow networks of both activations."""
    seeds, steps, points = (1, 300, 4) if quick else (3, 20000, 9)
    return [follow(name, Digits(300, "float64", s), steps, points, s)
            for name in ACTIVATIONS for s in range(seed, seed + seeds)]


def table(found):
    """Return the rows to print."""
    rows = [("network", "steps", "loss", "gradient norm", "positive", "zero", "negative")]
    for name in ACTIVATIONS:
        ways = [w for w in found if w.name == name]
        for i, step in enumerate(ways[0].steps):
            loss, gradient, positive, negative = (np.mean([getattr(w, key)[i] for w in ways])
                                                  for key in ("loss", "gradient", "positive", "negative"))
            rows.append((name, f"{step:,.0f}", f"{loss:.2g}", f"{gradient:.1e}", f"{100 * positive:.1f} %",
                         f"{100 * (1 - positive - negative):.1f} %", f"{100 * negative:.1f} %"))
    return rows


def conclude(found):
    """Return what follows."""
    ends = [w.positive[-1] for w in found]
    indefinite = sum(w.negative[-1] > 0 for w in found)
    return (f"Where the gradient has fallen to {max(w.gradient[-1] for w in found):.0e} or less the minimum ratio is "
            f"{min(ends):.2f} to {max(ends):.2f} over {len(found)} runs, the highest on the way "
            f"{max(w.positive.max() for w in found):.2f}. {indefinite} of the {len(found)} ends have negative "
            "eigenvalues.")


def draw(figure, found):
    """The ratio against the loss, and the shares along the first run."""
    left, right = figure.subplots(1, 2)
    for name, color in zip(ACTIVATIONS, COLORS, strict=False):
        for i, w in enumerate(w for w in found if w.name == name):
            left.semilogx(w.gradient, w.positive, "o-", color=color, markersize=4, linewidth=1,
                          label=None if i else name)
    left.invert_xaxis()
    left.set_ylim(0, 1)
    first = found[0]
    middle = 1 - first.positive - first.negative
    right.stackplot(first.steps, 100 * first.positive, 100 * middle, 100 * first.negative,
                    colors=(BOLD, ZERO, NEGATIVE), labels=("positive", "zero", "negative"), alpha=0.85)
    right.set_xscale("log")
    right.set(xlim=first.steps[[0, -1]], ylim=(0, 100))
    style(left, "gradient norm, falling along the run", "minimum ratio")
    style(right, "step", f"eigenvalues, % ({first.name}, first seed)")
    legend(left)
    legend(right, loc="upper right", frameon=True)


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (9.4, 3.9), argv)


if __name__ == "__main__":
    main()
