"""Vanishing gradients: ten hidden layers of sigmoids, and what brings their gradients back.

The gradient of a layer is a product of the derivatives of all layers behind it. A sigmoid's derivative is at most 1/4:
the product shrinks with depth and the first layers do not learn. ReLU and ELU with weights of the right scale, or batch
norm between the sigmoids, keep it. With weights half that scale the outputs vanish and the gradient with them; with
twice that scale it explodes. Every network has the best of several rates, chosen by the training loss.
"""

from dataclasses import dataclass

import numpy as np
from common import COLORS, Digits, mean_and_error, mlp, run

import optcore as oc
from optcore import nn
from optcore.plot.style import style

DEPTH, WIDTH, RATES = 10, 32, (0.01, 0.03, 0.1, 0.3, 1.0)
# Activation, batch norm or not, the weights at the start and a factor on them.
WAYS = {"sigmoid": (nn.Sigmoid, False, "xavier_uniform", 1),
        "sigmoid, batch norm": (nn.Sigmoid, True, "xavier_uniform", 1),
        "ReLU, half of Kaiming": (nn.ReLU, False, "kaiming_uniform", 0.5),
        "ReLU, twice Kaiming": (nn.ReLU, False, "kaiming_uniform", 2),
        "ReLU, Kaiming": (nn.ReLU, False, "kaiming_uniform", 1), "ELU, Xavier": (nn.ELU, False, "xavier_uniform", 1),
        "ReLU, batch norm": (nn.ReLU, True, "kaiming_uniform", 1)}


@dataclass
class Network:
    """A network: the gradient's norm of each layer's weights at the start [layers], and the end for each seed."""

    name: str
    rate: float
    gradient: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray

    @property
    def ratio(self):
        """The gradient of the first layer over that of the last."""
        return float(self.gradient[0] / self.gradient[-1])


def network(name, seed):
    """Return a network at its start."""
    activation, norm, init, factor = WAYS[name]
    net = mlp((64, *[WIDTH] * DEPTH, 10), activation, norm, init, seed=seed)
    for weights in matrices(net, net.theta):
        weights *= factor
    return net


def matrices(net, vector):
    """Return the weight matrices' parts of a vector like theta."""
    return [p.view(vector) for p in net.program.parameters() if len(p.shape) == 2]


def layer_gradients(net, data):
    """Return the root mean square of each weight matrix's gradient over the training part."""
    obj = oc.nn.objective(net, "cross_entropy", data.X, data.y)
    gradient = obj.loss_and_grad(net.theta)[1]
    return np.array([np.sqrt(np.mean(g.astype(np.float64) ** 2)) for g in matrices(net, gradient)])


def train(name, rate, data, epochs, seed):
    """Return training loss and test accuracy at the end."""
    net = network(name, seed)
    rule = oc.optim.SGD(net.theta, lr=rate, momentum=0.9, clip_norm=10.0)
    oc.train.fit(net, data.X, data.y, optimizer=rule, epochs=epochs, batch_size=64, seed=seed, progress=False)
    loss = oc.functional.cross_entropy(net.predict(data.X), data.y, gradient=False)[0]
    return loss, float(np.mean(net.predict(data.test_X).argmax(axis=1) == data.test_y))


def measure(quick, seed):
    """Return a `Network` for each way to build one."""
    seeds, epochs, rates = (range(seed, seed + 2), 10, RATES[1:4]) if quick else (range(seed, seed + 3), 40, RATES)
    parts, found = {s: Digits(seed=s) for s in seeds}, []
    for name in WAYS:
        runs = np.array([[train(name, rate, parts[s], epochs, s) for s in seeds] for rate in rates])
        best = runs[..., 0].mean(axis=1).argmin()
        gradient = np.exp(np.mean([np.log(layer_gradients(network(name, s), parts[s])) for s in seeds], axis=0))
        found.append(Network(name, rates[best], gradient, *runs[best].T))
    return found


def table(found):
    """Return the rows to print."""
    header = ("network", "last gradient", "first / last", "rate", "training loss", "test accuracy")
    return [header, *((n.name, f"{n.gradient[-1]:.0e}", f"{n.ratio:.1e}", f"{n.rate:g}", f"{n.loss.mean():.2g}",
                       "{:.1f} +- {:.1f} %".format(*mean_and_error(100 * n.accuracy))) for n in found)]


def conclude(found):
    """Return what follows."""
    by = {n.name: n for n in found}
    worst = min(found, key=lambda n: n.ratio)
    accuracy = {n.name: f"{100 * n.accuracy.mean():.0f} %" for n in found}
    big, right, small = (by[f"ReLU, {scale}Kaiming"].gradient[-1] for scale in ("twice ", "", "half of "))
    return (f"The first layer's gradient is {worst.ratio:.0e} of the last one's with {worst.name}, which ends at "
            f"{accuracy[worst.name]}; batch norm alone takes the sigmoids from {accuracy['sigmoid']} to "
            f"{accuracy['sigmoid, batch norm']}. Twice the weights make the ReLU network's gradient {big / right:,.0f} "
            f"times as large ({accuracy['ReLU, twice Kaiming']} against {accuracy['ReLU, Kaiming']}), half of them "
            f"{right / small:,.0f} times as small ({accuracy['ReLU, half of Kaiming']}).")


def draw(figure, found):
    """Gradients by layer on the left, accuracies on the right."""
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for i, (n, color) in enumerate(zip(found, COLORS, strict=True)):
        left.semilogy(np.arange(1, len(n.gradient) + 1), n.gradient, "o-", color=color, markersize=4, label=n.name)
        right.errorbar(100 * n.accuracy.mean(), i, xerr=100 * n.accuracy.std(ddof=1), fmt="o", color=color, capsize=3)
    style(left, "layer, from the input", "root mean square gradient of its weights, at the start")
    style(right, "test accuracy after training, %", "")
    right.set_yticks(range(len(found)), [n.name for n in found])
    for label, color in zip(right.get_yticklabels(), COLORS, strict=True):     # they name the lines on the left, too
        label.set_color(color)
    right.invert_yaxis()


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (9.6, 4.2), argv)


if __name__ == "__main__":
    main()
