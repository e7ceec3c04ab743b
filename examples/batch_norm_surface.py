"""Batch norm and the loss surface: what the loss and the gradient do along the gradient, at every step of training.

After Santurkar et al. (2018): from points along a run, go along the negative gradient by several lengths; how far does
the loss spread, and how well does the gradient at the start predict the one at the end? Networks with and without batch
norm are trained with the same rate from the same seeds, with Kaiming's weights and with smaller ones; the lengths are
multiples of the rate that they share. The prediction is the relative change |g(theta - t g) - g| / |g|: 0 is perfect. A
network that does not move is easy to predict: look at the loss as well.
"""

from dataclasses import dataclass

import numpy as np
from common import COLORS, Digits, mean_and_error, mlp, run

import optcore as oc
from optcore.plot.style import legend, style

RATE, BATCH, LENGTHS = 0.1, 64, (0.5, 1.0, 2.0, 4.0)     # lengths in rates
NAMES = {"Kaiming, without": (False, "kaiming_uniform"), "Kaiming, batch norm": (True, "kaiming_uniform"),
         "smaller, without": (False, "fan_in_uniform"), "smaller, batch norm": (True, "fan_in_uniform")}


@dataclass
class Way:
    """Training with or without batch norm; a row of numbers for each seed.

    loss : [seeds, points], low, high : the range of the loss along the gradient; change : of the gradient; accuracy :
    [seeds], on the test part.
    """

    name: str
    steps: np.ndarray
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    change: np.ndarray
    accuracy: np.ndarray


class Look:
    """A callback that measures along the gradient every so many steps."""

    def __init__(self, obj, every):
        self.obj, self.every, self.rows = obj, every, []

    def on_step(self, run):
        """Go along the gradient and come back with numbers; the training does not see it."""
        if run.step % self.every:
            return
        theta = run.net.theta.copy()
        loss, g = self.obj.loss_and_grad(theta)
        ends = [self.obj.loss_and_grad(theta - RATE * length * g) for length in LENGTHS]
        losses = [end[0] for end in ends]
        changes = [np.linalg.norm(end[1] - g) / np.linalg.norm(g) for end in ends]
        self.rows.append((run.step, loss, min(losses), max(losses), np.mean(changes)))


def train(norm, init, data, epochs, every, seed):
    """Return the rows of one run and its test accuracy."""
    net = mlp((64, *[32] * 5, 10), oc.nn.ReLU, norm, init, "float64", seed)
    look = Look(oc.nn.objective(net, "cross_entropy", data.X, data.y), every)
    oc.train.fit(net, data.X, data.y, optimizer=oc.optim.SGD(net.theta, lr=RATE), epochs=epochs, batch_size=BATCH,
                 seed=seed, callbacks=[look], progress=False)
    return look.rows, float(np.mean(net.predict(data.test_X).argmax(axis=1) == data.test_y))


def measure(quick, seed):
    """Train all four."""
    seeds, epochs, every = (range(seed, seed + 2), 4, 10) if quick else (range(seed, seed + 5), 12, 10)
    found = []
    for name, (norm, init) in NAMES.items():
        runs = [train(norm, init, Digits(dtype="float64", seed=s), epochs, every, s) for s in seeds]
        rows, accuracies = zip(*runs, strict=True)
        steps, *numbers = np.array(rows).transpose(2, 0, 1)
        found.append(Way(name, steps[0], *numbers, np.array(accuracies)))
    return found


def table(found):
    """Return the rows to print."""
    header = ("network", "loss at the end", "spread of the loss", "change of the gradient", "test accuracy")
    return [header, *((w.name, f"{w.loss[:, -1].mean():.2g}", f"{np.median(w.high / w.low):.2g}x",
                       "{:.2f} +- {:.2f}".format(*mean_and_error(w.change.mean(axis=1))),
                       "{:.1f} +- {:.1f} %".format(*mean_and_error(100 * w.accuracy))) for w in found)]


def conclude(found):
    """Return what follows."""
    parts = []
    for name, (without, norm) in {"Kaiming's": found[:2], "smaller": found[2:]}.items():
        mean, error = mean_and_error(norm.change.mean(axis=1) / without.change.mean(axis=1))
        parts.append(f"With {name} weights the gradient changes {mean:.2f} +- {error:.2f} times as much with batch "
                     f"norm as without: it predicts {'better' if mean < 1 else 'worse'}; the losses end at "
                     f"{norm.loss[:, -1].mean():.2g} and {without.loss[:, -1].mean():.2g}.")
    return " ".join(parts)


def draw(figure, found):
    """The range of the loss, and the change of the gradient, along training."""
    left, right = figure.subplots(1, 2)
    for w, color in zip(found, COLORS, strict=False):
        left.fill_between(w.steps, w.low.mean(axis=0), w.high.mean(axis=0), color=color, alpha=0.3, label=w.name)
        left.plot(w.steps, w.loss.mean(axis=0), color=color, linewidth=1.2)
        right.plot(w.steps, w.change.mean(axis=0), color=color, label=w.name)
    left.set_yscale("log")
    right.set_yscale("log")
    style(left, "step", "training loss; range along the gradient")
    style(right, "step", "relative change of the gradient")
    legend(left)


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (9.4, 3.9), argv)


if __name__ == "__main__":
    main()
