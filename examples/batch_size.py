"""Small and large batches: what an update costs, what an epoch costs, and where training ends.

A larger batch takes hardly longer per update until the machine is busy, and so a small batch takes longer per epoch.
With the same number of epochs small batches end better. Every batch size has the best of several rates, chosen by
the training loss; the spread is over seeds, each with its own parts of the digits, start and order.
"""

from dataclasses import dataclass

import numpy as np
from common import Digits, mean_and_error, mlp, run

import optcore as oc
from optcore.plot.style import BOLD, OTHER, legend, style

SIZES, RATES = (1, 4, 16, 64, 256, 1437), (0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass
class Trained:
    """A batch size at its best rate: seconds of an update and of an epoch; a number for each seed of the others."""

    size: int
    rate: float
    update: float
    epoch: float
    train: np.ndarray
    validation: np.ndarray


def train(data, size, rate, epochs, seed):
    """Return loss and accuracy on the training part, accuracy on the other, and the seconds of an epoch."""
    net = mlp((64, 128, 10), oc.nn.ReLU, seed=seed)
    history = oc.train.fit(net, data.X, data.y, optimizer=oc.optim.SGD(net.theta, lr=rate), epochs=epochs,
                           batch_size=size, seed=seed, progress=False)
    loss = oc.functional.cross_entropy(net.predict(data.X), data.y, gradient=False)[0]
    accuracies = [float(np.mean(net.predict(X).argmax(axis=1) == y))
                  for X, y in ((data.X, data.y), (data.test_X, data.test_y))]
    return loss, *accuracies, float(np.median(history.epochs["seconds"]))


def measure(quick, seed):
    """Return a `Trained` for each batch size."""
    seeds, epochs = (range(seed, seed + 2), 8) if quick else (range(seed, seed + 5), 20)
    parts, found = {s: Digits(seed=s) for s in seeds}, []
    for size in SIZES:
        runs = np.array([[train(parts[s], size, rate, epochs, s) for s in seeds] for rate in RATES])
        best = runs[:, :, 0].mean(axis=1).argmin()
        epoch = float(np.median(runs[..., 3]))
        updates = -(-len(parts[seed].y) // size)
        found.append(Trained(size, RATES[best], epoch / updates, epoch, runs[best, :, 1], runs[best, :, 2]))
    return found


def table(found):
    """Return the rows to print."""
    rows = [("batch", "rate", "update", "epoch", "training accuracy", "validation accuracy")]
    for t in found:
        accuracies = ["{:.1f} +- {:.1f} %".format(*mean_and_error(100 * a)) for a in (t.train, t.validation)]
        rows.append((str(t.size), f"{t.rate:g}", f"{1e6 * t.update:.0f} us", f"{1e3 * t.epoch:.2f} ms", *accuracies))
    return rows


def conclude(found):
    """Return what follows."""
    one, full = found[0], found[-1]
    best = max(found, key=lambda t: t.validation.mean())
    gain, error = mean_and_error(best.validation - full.validation)
    some = found[2]
    return (f"{some.size} examples cost {some.update / one.update:.1f} times the update of one, all {full.size} "
            f"{full.update / one.update:.0f} times; an epoch one by one takes {one.epoch / full.epoch:.0f} times as "
            f"long as the full batch. After the same epochs, {best.epoch / best.update:.0f} times as many updates, "
            f"batches of {best.size} end {100 * gain:.1f} +- {100 * error:.1f} points of validation accuracy above it.")


def draw(figure, found):
    """Time on the left, accuracy on the right."""
    left, right = figure.subplots(1, 2)
    sizes = [t.size for t in found]
    left.loglog(sizes, [1e3 * t.epoch for t in found], "o-", color=OTHER, label="an epoch")
    left.loglog(sizes, [1e3 * t.update for t in found], "o-", color=BOLD, label="an update")
    for name, color, marker in (("train", OTHER, "s"), ("validation", BOLD, "o")):
        numbers = np.array([100 * getattr(t, name) for t in found])
        right.errorbar(sizes, numbers.mean(axis=1), numbers.std(axis=1, ddof=1), color=color, marker=marker, capsize=3,
                       label=f"{'training' if name == 'train' else name} accuracy")
    right.set_xscale("log")
    style(left, "examples in a batch", "milliseconds")
    style(right, "examples in a batch", "accuracy after the same epochs, %")
    legend(left)
    legend(right, loc="lower left", title="mean and deviation over seeds", title_fontsize=9)


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (9.4, 3.9), argv)


if __name__ == "__main__":
    main()
