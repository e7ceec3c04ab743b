"""The burst of Adagrad after a long flat stretch, and how decay and warm-up cure it.

With sigma the root of the mean of all squared gradients (the lecture's form) small gradients make sigma small, until
eta / sigma is too large for the steep direction: the parameter bursts sideways, which makes sigma large again, and it
recovers by itself. In the narrow valley y is steep; on digits RMSprop, which forgets faster, bursts as well. At the
start sigma has seen a gradient or two, and the first steps go too far. Four schedules: constant, with decay, with
warm-up, with both.
"""

from dataclasses import dataclass

import numpy as np
from common import COLORS, Digits, contours, mlp, run

import optcore as oc
from optcore import schedules
from optcore.plot.style import legend, style

START, VALLEY_STEPS = (-60.0, 1.0), 1500
STEPS, WARM = 1000, 50
LOW = 0.01       # what counts as settled, of |y| and of the loss


def schedules_of(rate):
    """Return the four schedules by name."""
    decay = schedules.inverse_time_decay(rate, rate=0.1, power=0.5)
    return {"constant": rate, "decay": decay, "warm-up": schedules.warmup(rate, WARM),
            "warm-up and decay": schedules.warmup(decay, WARM)}


@dataclass
class Ways:
    """A schedule's way through the valley [steps+1, 2], and the losses on digits [seeds, steps]."""

    name: str
    valley: np.ndarray
    losses: np.ndarray

    @property
    def burst(self):
        """The largest abs(y) after y had settled."""
        return after_settled(np.abs(self.valley[:, 1]))

    @property
    def first_rise(self):
        """How far the loss rises above its start in the first steps, the mean over seeds."""
        return float(np.mean(self.losses[:, :WARM].max(axis=1) - self.losses[:, 0]))

    @property
    def loss_burst(self):
        """The largest loss after it had settled, the mean over seeds."""
        return float(np.mean([after_settled(losses) for losses in self.losses]))


def after_settled(values):
    """Return the largest of the values after the first one below LOW."""
    return float(values[np.argmax(values < LOW):].max())


def train(rate, seed, steps):
    """Return the losses of full-batch RMSprop on digits."""
    data, net = Digits(600, seed=seed), mlp((64, 32, 32, 10), oc.nn.ReLU, seed=seed)
    rule = oc.optim.RMSprop(net.theta, lr=rate, alpha=0.9, eps=1e-12, warm_start=True)
    history = oc.train.fit(net, data.X, data.y, optimizer=rule, epochs=steps, batch_size=None, progress=False)
    return history.steps["loss"]


def measure(quick, seed):
    """Return `Ways` for each schedule."""
    seeds = range(seed, seed + (1 if quick else 3))
    rules = {name: ("adagrad", {"lr": lr, "eps": 0.0, "average": True}) for name, lr in schedules_of(0.3).items()}
    valley = oc.landscape.descend(oc.landscape.surfaces.get("valley").objective, [START], rules, VALLEY_STEPS)
    return [Ways(way.name, way.thetas, np.array([train(lr, s, STEPS) for s in seeds]))
            for way, lr in zip(valley, schedules_of(0.03).values(), strict=True)]


def table(found):
    """Return the rows to print."""
    header = ("schedule", "valley: burst of y", "x at the end", "digits: first rise", "late burst", "loss at the end")
    return [header, *((w.name, f"{w.burst:.2g}", f"{w.valley[-1, 0]:.2g}", f"{w.first_rise:.2g}", f"{w.loss_burst:.2g}",
                       f"{np.median(w.losses[:, -50:]):.1g}") for w in found)]


def conclude(found):
    """Return what follows."""
    constant, decay, warm, both = found
    return (f"At a constant rate y had settled below {LOW} and burst to {constant.burst:.2g}, the loss on digits to "
            f"{constant.loss_burst:.2g}; decay leaves {decay.burst:.2g} and {decay.loss_burst:.2g}. Warm-up takes the "
            f"first rise of the loss from {constant.first_rise:.2g} to {warm.first_rise:.2g}, the late burst to "
            f"{warm.loss_burst:.2g}; both together leave {both.first_rise:.2g} and {both.loss_burst:.2g}.")


def draw(figure, found):
    """The way through the valley, and the losses on digits."""
    left, right = figure.subplots(1, 2)
    surface = oc.landscape.surfaces.get("valley")
    contours(left, surface.objective, (-64, 6), (-4.6, 4.6))
    for w, color in zip(found, COLORS, strict=False):
        left.plot(*w.valley.T, color=color, linewidth=1.3, label=w.name, zorder=3 if w.name == "constant" else 4)
        right.semilogy(w.losses[0], color=color, linewidth=1.1, label=w.name)
    left.plot(0, 0, "*", color="black", markersize=10, zorder=5)
    style(left, "x", "y")
    style(right, "step", "loss on digits, RMSprop")
    left.set_title("(x² + 100 y²) / 2, Adagrad", fontsize=10)
    legend(right)


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (9.6, 4.0), argv)


if __name__ == "__main__":
    main()
