"""Small and large batches: how sharp the minimum is that each reaches.

A sharp minimum moves more between training and test loss. Networks of the same start are trained to the same loss,
with small batches and with the full one, for sharpness and gap depend on the loss. How sharp: the largest eigenvalue of
the Hessian, its trace, and the rise of the loss within 0.05 (SAM). Measures of sharpness depend on the parametrisation
(Dinh et al. 2017): all rows are the same network.
"""

from dataclasses import dataclass

import numpy as np
from common import COLORS, Digits, mean_and_error, mlp, run

import optcore as oc
from optcore.plot.style import BOLD, INK, OTHER, ZERO, legend, style

RUNS = ((8, 0.1), (64, 0.1), (None, 0.1), (None, 0.3))       # batch and rate
AT = np.linspace(-0.5, 1.5, 81)


@dataclass
class Minimum:
    """What a batch and a rate reach: a number for each seed."""

    name: str
    steps: np.ndarray
    loss: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    largest: np.ndarray
    trace: np.ndarray
    sam: np.ndarray


@dataclass
class Found:
    """The minima, and the losses on the line from the first seed's of small batches (0) to that of the full one (1)."""

    minima: list
    train_line: np.ndarray
    test_line: np.ndarray


class Until:
    """A callback that ends the training once the loss of the whole training part is low."""

    def __init__(self, obj, target, every):
        self.obj, self.target, self.every = obj, target, every

    def on_step(self, run):
        """Look every so many steps."""
        return run.step % self.every == 0 and self.obj.loss(run.net.theta) <= self.target


def descend(data, objectives, size, rate, target, seed):
    """Return where the training ends, and the numbers that are measured there."""
    train, test = objectives
    net = network(seed)
    history = oc.train.fit(net, data.X, data.y, optimizer=oc.optim.SGD(net.theta, lr=rate), epochs=5000,
                           batch_size=size, seed=seed, callbacks=[Until(train, target, 10)], progress=False)
    theta = net.theta.copy()
    flat = oc.curvature.flatness(train, theta, products=60, tol=1e-2)
    accuracy = float(np.mean(net.predict(data.test_X).argmax(axis=1) == data.test_y))
    return theta, (len(history.steps["loss"]), flat.loss, test.loss(theta), accuracy, flat.largest, flat.trace.value,
                   flat.sam)


def network(seed):
    """Return the network at its start."""
    return mlp((64, 32, 32, 32, 10), oc.nn.ReLU, dtype="float64", seed=seed)


def measure(quick, seed):
    """Train each way from each seed's start."""
    examples, target, seeds = (300, 0.03, 2) if quick else (600, 0.01, 5)
    rows, lines = {way: [] for way in RUNS}, None
    for s in range(seed, seed + seeds):
        data, net, ends = Digits(examples, "float64", s), network(s), {}
        objectives = (oc.nn.objective(net, "cross_entropy", data.X, data.y),
                      oc.nn.objective(net, "cross_entropy", data.test_X, data.test_y))
        for way in RUNS:
            ends[way], row = descend(data, objectives, *way, target, s)
            rows[way].append(row)
        if lines is None:
            small, full = ends[RUNS[0]], ends[RUNS[2]]
            lines = [oc.landscape.line(obj, small, full - small, AT).loss for obj in objectives]
    minima = [Minimum(f"{size or 'all'}, rate {rate:g}", *np.array(rows[size, rate]).T) for size, rate in RUNS]
    return Found(minima, *lines)


def table(found):
    """Return the rows to print."""
    spread = "{:.3g} +- {:.2g}".format
    header = ("batch", "steps", "loss", "test loss", "test accuracy", "lambda_max", "trace", "SAM's rise")
    return [header, *((m.name, f"{m.steps.mean():,.0f}", f"{m.loss.mean():.4f}",
                       spread(*mean_and_error(m.test_loss)), f"{100 * m.test_accuracy.mean():.1f} %",
                       spread(*mean_and_error(m.largest)), spread(*mean_and_error(m.trace)), f"{m.sam.mean():.4f}")
                      for m in found.minima)]


def conclude(found):
    """Return what follows."""
    small, _, full, faster = found.minima
    gaps = [m.test_loss - m.loss for m in (small, full, faster)]
    less, error = mean_and_error(gaps[1] - gaps[0])
    return (f"At the same rate and loss the minimum of the full batch is {np.mean(full.largest / small.largest):.1f} "
            f"times as sharp by lambda_max, {np.mean(full.trace / small.trace):.1f} times by the trace, and its test "
            f"loss lies {less:.3f} +- {error:.3f} further above its training loss. The rate matters as well: at three "
            f"times of it the full batch's lambda_max is {faster.largest.mean():.1f}, its gap {gaps[2].mean():.3f} "
            f"(small batches: {gaps[0].mean():.3f}).")


def draw(figure, found):
    """The line between two minima, and sharpness against the gap."""
    left, right = figure.subplots(1, 2)
    left.semilogy(AT, found.train_line, color=BOLD, label="training loss")
    left.semilogy(AT, found.test_line, color=OTHER, label="test loss")
    for at, name in ((0, found.minima[0].name), (1, found.minima[2].name)):
        left.axvline(at, color=ZERO, linewidth=0.9, linestyle="--")
        left.annotate(f"batch {name}", (at, 1), (3, -3), xycoords=("data", "axes fraction"), va="top",
                      textcoords="offset points", fontsize=8.5, color=INK)
    for m, color, marker in zip(found.minima, COLORS, "osD^", strict=False):
        right.plot(m.largest, m.test_loss - m.loss, marker, color=color, label=f"batch {m.name}")
    style(left, "from the minimum of small batches to that of the full batch", "loss")
    style(right, "lambda_max of the training loss", "test loss - training loss")
    legend(left, loc="upper left", bbox_to_anchor=(0, 0.9))
    legend(right, loc="upper left")


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (9.4, 3.9), argv)


if __name__ == "__main__":
    main()
