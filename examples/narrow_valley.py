"""Five rules in a narrow valley: a toy one, and one that raw features make.

In a narrow valley a step that is too large bounces between the walls, one that is too small never arrives: every
parameter needs its own rate. Features of different scale make such a valley: logistic regression on scikit-learn's
breast cancer data, whose features range from thousandths to thousands, with no standardisation. Every rule has the
best of many rates, chosen by the loss at the end.
"""

from dataclasses import dataclass

import numpy as np
from common import COLORS, contours, run

import optcore as oc
from optcore.plot.style import ZERO, legend, style

RULES = {"SGD": ("sgd", {}), "momentum": ("sgd", {"momentum": 0.9}), "Adagrad": ("adagrad", {}),
         "RMSprop": ("rmsprop", {}), "Adam": ("adam", {})}
RATES = 10.0 ** np.arange(-6, 1.1, 0.5)
TOY_RATES = 10.0 ** np.arange(-3, 0.1, 0.25)      # at more than 1 the first step leaves the picture


@dataclass
class Found:
    """Ways by rule: in the toy valley, on raw features, and SGD on standardised ones; rates; condition numbers."""

    toy: dict
    raw: dict
    standardised: dict
    condition: dict


def best(obj, start, name, steps, rates=RATES):
    """Return the rate, and the way of a rule at it, whose loss is lowest over the last tenth of the steps."""
    rule, options = RULES[name]
    ways = oc.landscape.descend(obj, [start], {str(lr): (rule, {**options, "lr": lr}) for lr in rates}, steps)
    whole = [way for way in ways if len(way.losses) == steps + 1]
    way = min(whole, key=lambda way: way.losses[-steps // 10:].mean())
    return float(way.name), way


def logistic(X, y):
    """Return the loss of logistic regression."""
    net = oc.nn.Sequential(oc.nn.Linear(X.shape[1], 1, init="zeros"), dtype="float64")
    return oc.nn.objective(net, "bce", X, y)


def condition(obj):
    """Return the condition number of the Hessian at the start."""
    values = np.linalg.eigvalsh(oc.curvature.Hessian(obj, obj.theta0) @ np.eye(obj.size))
    return float(values[-1] / values[0])


def measure(quick, seed):
    """Let the rules roll; nothing is drawn at random."""
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    y = y[:, None].astype(np.float64)
    steps = 200 if quick else 1000
    valley = oc.landscape.surfaces.get("valley")
    objectives = {"raw": logistic(X, y), "standardised": logistic(oc.data.standardize(X)[0], y)}
    raw, standardised = objectives.values()
    return Found({name: best(valley.objective, valley.starts[0], name, 60, TOY_RATES) for name in RULES},
                 {name: best(raw, raw.theta0, name, steps) for name in RULES},
                 {"SGD": best(standardised, standardised.theta0, "SGD", steps)},
                 {name: condition(obj) for name, obj in objectives.items()})


def table(found):
    """Return the rows to print."""
    rows = [("rule", "valley: rate", "loss", "raw features: rate", "loss", "standardised: loss")]
    for name in RULES:
        (toy_rate, toy), (rate, raw) = found.toy[name], found.raw[name]
        other = f"{found.standardised[name][1].losses[-1]:.3f}" if name in found.standardised else ""
        rows.append((name, f"{toy_rate:.2g}", f"{toy.losses[-1]:.1e}", f"{rate:.1e}", f"{raw.losses[-1]:.3f}", other))
    return rows


def conclude(found):
    """Return what follows."""
    losses = {name: way.losses[-1] for name, (_, way) in found.raw.items()}
    name = min(losses, key=losses.get)
    return (f"The raw features' valley has condition number {found.condition['raw']:.1g}: after "
            f"{len(found.raw['SGD'][1].losses) - 1} steps SGD at its best rate has loss {losses['SGD']:.3f}, {name} "
            f"{losses[name]:.3f}. Standardised features (condition number {found.condition['standardised']:.1g}) take "
            f"SGD to {found.standardised['SGD'][1].losses[-1]:.3f}.")


def draw(figure, found):
    """The ways in the toy valley, the losses on the real one."""
    left, right = figure.subplots(1, 2)
    valley = oc.landscape.surfaces.get("valley")
    contours(left, valley.objective, valley.x, valley.y)
    for name, color in zip(RULES, COLORS, strict=False):
        left.plot(*found.toy[name][1].thetas.T, ".-", color=color, markersize=3, linewidth=1.1, label=name)
        right.loglog(1 + np.arange(len(found.raw[name][1].losses)), found.raw[name][1].losses, color=color,
                     linewidth=1.2, label=name)
    losses = found.standardised["SGD"][1].losses
    right.loglog(1 + np.arange(len(losses)), losses, "--", color=ZERO, label="SGD, standardised")
    left.plot(0, 0, "*", color="black", markersize=10)
    style(left, "x", "y")
    left.set_title("(x² + 100 y²) / 2, 60 steps", fontsize=10)
    style(right, "step", "loss")
    right.set_title("breast cancer data, raw features", fontsize=10)
    right.set_ylim(bottom=5e-3)
    legend(right, loc="lower left", ncols=2)


def main(argv=None):
    """Measure, print, draw; return what was found."""
    return run(__file__, __doc__, measure, table, conclude, draw, (9.6, 4.0), argv)


if __name__ == "__main__":
    main()
