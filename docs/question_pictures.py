"""Draw the pictures of docs/questions and the landscapes: `make pictures`."""

import tempfile
from pathlib import Path

import numpy as np

import optcore as oc
from optcore.plot import style

FOLDER = Path(__file__).resolve().parent / "pictures"
COLOURS = (style.BOLD, style.OTHER, "#3a8a4d", style.NEGATIVE, style.ZERO)


def digits():
    """The digits, standardised."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X.astype("float32")
    return oc.data.Standardizer().fit(X).transform(X), y


def critical_points(path):
    """(1 - ab)^2, the escape from its saddle, and gradient descent from there."""
    surface = oc.landscape.surfaces.get("two_parameters")
    away = oc.curvature.escape(surface.objective, np.zeros(2)).theta
    short = 0.15 * away / np.linalg.norm(away)
    way = oc.landscape.descend(surface.objective, [short], {"descent": ("sgd", {"lr": 0.05})}, steps=100)[0]
    x, y = (np.linspace(*side, 121) for side in (surface.x, surface.y))
    plane = oc.landscape.plane(surface.objective, np.zeros(2), *np.eye(2), x, y)
    oc.plot.contour(plane, path, title="(1 - ab)²: a saddle at the origin, minima along ab = 1", labels=("a", "b"),
                    paths=[("the eigenvector of -2, then descent", np.vstack([np.zeros(2), way.thetas]))])


def losses(X, y, batch_size, momentum, epochs=20):
    """The loss over all examples at the start and after each epoch."""
    net = oc.nn.Sequential(oc.nn.Linear(64, 32), oc.nn.ReLU(), oc.nn.Linear(32, 10), seed=0)
    obj = oc.nn.objective(net, "cross_entropy", X, y)
    found = [obj.loss(net.theta)]
    oc.train.fit(net, X, y, optimizer=oc.optim.SGD(net.theta, lr=0.05, momentum=momentum), epochs=epochs,
                 batch_size=batch_size, seed=0, progress=False,
                 callbacks=[lambda run: found.append(obj.loss(net.theta))])
    return found


def batch_and_momentum(path):
    """The loss on digits by epochs: batch sizes, and momentum."""
    made = style.figure(9, 3.6, "Digits, SGD at rate 0.05: loss over all examples")
    left, right = made.subplots(1, 2, sharey=True)
    X, y = digits()
    for size, colour in zip((None, 512, 64, 8), COLOURS, strict=False):
        left.semilogy(losses(X, y, size, 0.0), color=colour, label=f"batches of {size}" if size else "full batch")
    for momentum, colour in zip((0.0, 0.5, 0.9), COLOURS, strict=False):
        right.semilogy(losses(X, y, None, momentum), color=colour, label=f"full batch, momentum {momentum}")
    style.style(left, "epoch", "loss")
    style.style(right, "epoch")
    for axes in (left, right):
        style.legend(axes)
    style.save(made, path)


def classification(path):
    """Cross-entropy and squared error over two outputs, the third held at 0, with the way of gradient descent."""
    made = style.figure(9, 4.2, "Three classes, the right one is the first, z3 = 0: from the same bad start (-10, 10)")
    side = np.linspace(-12, 12, 161)
    z = np.stack([*np.meshgrid(side, side), np.zeros((161, 161))], axis=-1)
    names = ("cross-entropy", "squared error")
    for axes, name in zip(made.subplots(1, 2, sharey=True), names, strict=True):
        made.colorbar(axes.contourf(side, side, class_loss(z, name)[0], levels=24, cmap="viridis"), ax=axes)
        way = [np.array([-10.0, 10.0, 0.0])]
        theta = way[0].copy()
        opt = oc.optim.SGD(theta, lr=0.1)
        for _ in range(1000):
            opt.step(class_loss(theta, name)[1] * [1, 1, 0])
            way.append(theta.copy())
        axes.plot(*np.transpose(way)[:2], color=style.OTHER, linewidth=2.5, label="1,000 steps of rate 0.1")
        axes.plot(*way[0][:2], "o", color=style.OTHER)
        axes.plot(*way[-1][:2], "s", color="white", markeredgecolor=style.OTHER)
        axes.set_title(name, fontsize=10)
        style.style(axes, "z1", "z2" if name == names[0] else None)
        style.legend(axes, loc="lower left", frameon=True)
    style.save(made, path)


def class_loss(z, name):
    """Loss and gradient of outputs z [..., 3] whose class is the first."""
    flat = np.ascontiguousarray(z.reshape(-1, 3))
    p = oc.functional.softmax(flat)
    error = p - [1, 0, 0]
    if name == "cross-entropy":
        value, slope = -oc.functional.log_softmax(flat)[:, 0], error
    else:
        value, slope = (error**2).sum(1), 2 * p * (error - (p * error).sum(1, keepdims=True))
    return value.reshape(z.shape[:-1]), slope.reshape(z.shape)


def vanishing_gradients(path):
    """The gradient with respect to the pre-activations of each of ten layers, at the start of training."""
    X, y = digits()
    networks = {"sigmoid, Xavier": (oc.nn.Sigmoid(), "xavier_normal"),
                "sigmoid, Xavier, batch norm": (oc.nn.Sigmoid(), "xavier_normal", oc.nn.BatchNorm(64)),
                "tanh, Xavier": (oc.nn.Tanh(), "xavier_normal"),
                "ReLU, variance 1/(3 n)": (oc.nn.ReLU(), "fan_in_uniform"),
                "ReLU, Kaiming: 2/n": (oc.nn.ReLU(), "kaiming_normal")}
    made = style.figure(7.5, 4, "Ten hidden layers on digits, at the start: the gradient that reaches each")
    axes = made.subplots()
    for (name, (activation, init, *norm)), colour in zip(networks.items(), COLOURS, strict=True):
        hidden = [layer for _ in range(10) for layer in (oc.nn.Linear(64, 64, init=init), *norm, activation)]
        net = oc.nn.Sequential(*hidden, oc.nn.Linear(64, 10, init=init), seed=0)
        layers = oc.nn.objective(net, "cross_entropy", X, y).layers(net.theta)
        axes.semilogy(range(1, 12), [layer.signal_gradient for layer in layers], "o-", color=colour, label=name)
    style.style(axes, "layer", "2-norm of the gradient of z")
    style.legend(axes)
    style.save(made, path)


def valley(path):
    """The ways of the rules of docs/questions/adaptive-rates.md; of the one that bounces, the first steps."""
    surface = oc.landscape.surfaces.get("valley")
    rules = {"sgd, too large": ("sgd", {"lr": 0.0201}), "sgd": ("sgd", {"lr": 0.015}),
             "rmsprop": ("rmsprop", {"lr": 0.05}), "adam": ("adam", {"lr": 0.15})}
    ways = oc.landscape.descend(surface.objective, surface.starts[:1], rules, steps=150)
    x, y = (np.linspace(*side, 121) for side in (surface.x, surface.y))
    plane = oc.landscape.plane(surface.objective, np.zeros(2), *np.eye(2), x, y)
    oc.plot.contour(plane, path, title="(x² + 100 y²)/2: 150 steps of each rule, 8 of the first", labels=("x", "y"),
                    paths=[(way.name, way.thetas[:9] if "large" in way.name else way.thetas) for way in ways])


def trained_digits(path):
    """The way of ten epochs in its principal plane, by the commands of docs/landscape.md."""
    from optcore.cli import main

    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "digits")
        main(["train", "digits", "--epochs", "10", "--trajectory", "--quiet", "--out", run])
        main(["landscape", run, "--directions", "trajectory", "--out", str(path)])


PICTURES = {
    "questions/critical_points.png": critical_points,
    "questions/batch_and_momentum.png": batch_and_momentum,
    "questions/classification.png": classification,
    "questions/vanishing_gradients.png": vanishing_gradients,
    "landscape_valley.png": valley,
    "landscape_digits.png": trained_digits,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        draw(FOLDER / name)
