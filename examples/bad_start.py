"""Classification from a bad start: the squared error's surface is flat there, cross-entropy's is steep.

Both losses are smallest where the softmax of the outputs is the target. Where the network is confident and wrong,
softmax is saturated: the gradient of its squared error is almost zero, that of cross-entropy is p - y, as large as it
can be. On digits the bad start is a network that was trained on wrong labels, its last layer made ten times as large.
Each loss has the best of many rates.
"""

from dataclasses import dataclass

import numpy as np
from common import Digits, mean_and_error, mlp, run

import optcore as oc
from optcore import functional
from optcore.nn.losses import Loss
from optcore.plot.style import BOLD, OTHER, legend, style

RATES = 10.0 ** np.arange(-2, 1.6, 0.5)
AT = np.linspace(-10, 10, 61)


@dataclass(frozen=True)
class SoftmaxSquaredError(Loss):
    """Sum of (p_k - y_k)^2 over the classes, p = softmax(z), the mean over the examples: a loss of one's own."""

    classification = True

    def value(self, y, target, gradient=True, sample_weight=None):
        """Return (loss, dz), dz_j = 2 p_j (d_j - sum_k p_k d_k) / N with d = p - y."""
        p = functional.softmax(y)
        d = p - np.eye(y.shape[1], dtype=y.dtype)[target]
        loss = float(np.mean(np.sum(d.astype(np.float64) ** 2, axis=1)))
        return loss, 2 * p * (d - np.sum(p * d, axis=1, keepdims=True)) / len(y) if gradient else None

    def check(self, target, n, shape, dtype):
        """Raise unless the target is a class for each example."""
        oc.nn.CrossEntropy().check(target, n, shape, dtype)


LOSSES = {"cross-entropy": oc.nn.CrossEntropy(), "squared error": SoftmaxSquaredError()}


@dataclass
class Found:
    """By loss: the rate, the gradient's norm at the bad start for each seed, test accuracies [seeds, epochs]; and the
    surface over two of three outputs."""

    rates: dict
    gradients: dict
    accuracies: dict
    surfaces: dict


def surface(loss):
    """Return the loss over the first two outputs, the third one at 0; the first class is the right one."""
    z = np.stack([*np.meshgrid(AT, AT), np.zeros((len(AT), len(AT)))], axis=-1)
    right = np.zeros(1, np.int64)
    return np.array([[loss.value(one[None], right, gradient=False)[0] for one in row] for row in z])


def bad_start(data, seed):
    """Return a network that is confident and wrong."""
    net = mlp((64, 32, 10), oc.nn.ReLU, seed=seed)
    wrong = (data.y + 1) % 10
    oc.train.fit(net, data.X, wrong, optimizer=oc.optim.Adam(net.theta, lr=0.01), epochs=30, batch_size=64, seed=seed,
                 progress=False)
    for name, values in net.parameters.items():
        if name.startswith("2."):
            values *= 10
    return net


def gradient_norm(net, loss, data):
    """Return the norm of the gradient over the training part."""
    gradient = np.empty_like(net.theta)
    net.loss_and_grad(data.X, data.y, loss, gradient)
    return float(np.linalg.norm(gradient))


class Accuracy:
    """A callback that keeps the test accuracy after every epoch."""

    def __init__(self, data):
        self.data, self.values = data, []

    def on_epoch(self, run):
        """Predict."""
        self.values.append(float(np.mean(run.net.predict(self.data.test_X).argmax(axis=1) == self.data.test_y)))


def train(loss, rate, data, start, epochs, seed):
    """Return the test accuracy after each epoch."""
    net, watch = mlp((64, 32, 10), oc.nn.ReLU, seed=seed), Accuracy(data)
    net.theta[...] = start
    oc.train.fit(net, data.X, data.y, loss=loss, optimizer=oc.optim.SGD(net.theta, lr=rate), epochs=epochs,
                 batch_size=64, seed=seed, callbacks=[watch], progress=False)
    return watch.values


def measure(quick, seed):
    """Train from the bad start with both losses."""
    seeds, epochs, rates = (range(seed, seed + 2), 10, RATES[1::2]) if quick else (range(seed, seed + 3), 40, RATES)
    found = Found({}, {}, {}, {name: surface(loss) for name, loss in LOSSES.items()})
    starts = {s: (data := Digits(seed=s), bad_start(data, s)) for s in seeds}
    for name, loss in LOSSES.items():
        runs = np.array([[train(loss, rate, data, net.theta, epochs, s) for s, (data, net) in starts.items()]
                         for rate in rates])
        best = runs[..., -1].mean(axis=1).argmax()
        found.rates[name], found.accuracies[name] = float(rates[best]), runs[best]
        found.gradients[name] = np.array([gradient_norm(net, loss, data) for data, net in starts.values()])
    return found


def table(found):
    """Return the rows to print."""
    rows = [("loss", "gradient at the bad start", "rate", "accuracy after the first epoch", "after the last")]
    for name, accuracies in found.accuracies.items():
        rows.append((name, f"{found.gradients[name].mean():.2g}", f"{found.rates[name]:.2g}",
                     *("{:.1f} +- {:.1f} %".format(*mean_and_error(100 * accuracies[:, i])) for i in (0, -1))))
    return rows


def conclude(found):
    """Return what follows."""
    (steep, flat), ends = found.gradients.values(), [100 * a[:, -1].mean() for a in found.accuracies.values()]
    return (f"At the bad start the gradient of cross-entropy is {np.mean(steep / flat):.0f} times that of the squared "
            f"error. After {len(found.accuracies['squared error'][0])} epochs at its best rate cross-entropy is at "
            f"{ends[0]:.0f} %, the squared error at {ends[1]:.0f} %.")


def draw(figure, found):
    """Both surfaces, and the accuracies."""
    axes = figure.subplots(1, 3)
    for one, (name, values) in zip(axes, found.surfaces.items(), strict=False):
        drawn = one.contourf(AT, AT, values, levels=24, cmap="viridis")
        figure.colorbar(drawn, ax=one, shrink=0.9)
        style(one, "output of the right class", "output of a wrong one" if one is axes[0] else "")
        one.set_title(name, fontsize=10)
    for (name, values), color in zip(found.accuracies.items(), (BOLD, OTHER), strict=True):
        axes[2].plot(1 + np.arange(values.shape[1]), 100 * values.mean(axis=0), color=color, label=name)
    style(axes[2], "epoch", "test accuracy on digits, %")
    axes[2].set_title("from a bad start", fontsize=10)
    legend(axes[2])


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (11.4, 3.6), argv)


if __name__ == "__main__":
    main()
