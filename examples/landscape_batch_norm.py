"""Does batch norm smooth the loss surface? The plane around a trained network, with and without it.

    python examples/landscape_batch_norm.py [picture.png]

Two networks on digits, alike but for batch norm, trained alike; around each the loss along two random filter-normalised
directions (Li et al. 2018), with the same levels. Beside it, at the start of training, how much the gradient changes
over one step along it, |g(theta - lr g) - g(theta)| / |g(theta)| (after Santurkar et al. 2018). The two need not agree:
at the same rate the step is longer where the gradient is larger.
"""

from itertools import pairwise

import numpy as np

import optcore as oc
from optcore import nn

WIDTHS, LR, EPOCHS = (64, 32, 32, 32, 10), 0.1, 10


def network(norm):
    """A network of three hidden layers."""
    layers = []
    for a, b in pairwise(WIDTHS[:-1]):
        layers += [nn.Linear(a, b), *([nn.BatchNorm(b)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*WIDTHS[-2:]), dtype="float64", seed=0)


def gradient_change(obj, theta):
    """|g(theta - lr g) - g(theta)| / |g(theta)|."""
    g = obj.loss_and_grad(theta)[1]
    return float(np.linalg.norm(obj.loss_and_grad(theta - LR * g)[1] - g) / np.linalg.norm(g))


def look(norm, X, y, size):
    """Train; return the plane around the end and the change of the gradient at the start."""
    net = network(norm)
    change = gradient_change(nn.objective(net, "cross_entropy", X, y), net.theta)
    oc.train.fit(net, X, y, "cross_entropy", oc.optim.SGD(net.theta, lr=LR), EPOCHS, 32, progress=False)
    obj, rng = nn.objective(net, "cross_entropy", X, y), np.random.default_rng(0)
    first, second = (oc.landscape.random_direction(obj, net.theta, rng) for _ in range(2))
    at = np.linspace(-1, 1, size)
    return oc.landscape.plane(obj, net.theta, first, second, at, at), change


def draw(path, planes):
    """Both planes with the same levels."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    low, high = (f([f(p.loss) for p in planes.values()]) for f in (np.min, np.max))
    levels = np.geomspace(low, high, 19)
    figure = Figure(figsize=(9.2, 4.2), layout="constrained")
    for axes, (name, plane) in zip(figure.subplots(1, 2, sharey=True), planes.items(), strict=True):
        filled = axes.contourf(plane.x, plane.y, plane.loss, levels=levels, norm=LogNorm(low, high), cmap="viridis")
        axes.contour(plane.x, plane.y, plane.loss, levels=levels, colors="white", linewidths=0.4)
        axes.plot(0, 0, "o", color="#b3202c", markeredgecolor="white", label="end of training")
        axes.set(title=name, xlabel="random direction 1", aspect="equal")
    figure.axes[0].set_ylabel("random direction 2")
    figure.axes[0].legend(loc="lower left", fontsize=8)
    figure.colorbar(filled, ax=figure.axes, format="%.2g", ticks=levels[::3], label="loss")
    figure.savefig(path, dpi=110)


def main(path=None, size=25):
    """Train both, print, draw; return name -> (plane, change of the gradient)."""
    X, y = (oc.data.load("digits").X / 16.0, oc.data.load("digits").y)
    found = {name: look(norm, X, y, size) for name, norm in (("without batch norm", False), ("with batch norm", True))}
    for name, (plane, change) in found.items():
        print(f"{name:20s}loss {plane.loss[size // 2, size // 2]:.3g} at the end of training, up to "
              f"{plane.loss.max():.3g} on the plane, below 1 on {100 * (plane.loss < 1).mean():.0f} % of it; "
              f"the gradient changes by {100 * change:.0f} % over the first step")
    if path:
        draw(path, {name: plane for name, (plane, _) in found.items()})
    return found


if __name__ == "__main__":
    from common import arguments

    main(**arguments(__doc__, path=None))
