"""The edge of stability: full-batch gradient descent sharpens the loss until lambda_max is 2 / lr, and stays there.

    python examples/edge_of_stability.py [picture.png]

On a quadratic with the largest eigenvalue lambda_max gradient descent is stable while lr * lambda_max < 2. On a network
it moves towards sharper places until that limit is reached, then hovers about it while the loss goes on falling, though
not at every step (Cohen et al. 2021). `oc.curvature.follow` measures lambda_max along each run.
"""

import numpy as np

import optcore as oc
from optcore import nn

RATES = (0.2, 0.1, 0.05)
TIME = 400  # of each run, lr * steps


def data(n=120, seed=0):
    """Random targets: to fit them the network must go where the loss is sharp; smooth ones are fitted before that."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 20)), rng.standard_normal((n, 1))


def train(lr, X, y):
    """Descend; return the history and the callback that measured."""
    net = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1), dtype="float64",
                        seed=1)
    sharpness = oc.curvature.follow(nn.objective(net, "mse", X, y), every=round(1 / lr))
    rule = oc.optim.SGD(net.theta, lr=lr)
    history = oc.train.fit(net, X, y, "mse", rule, epochs=round(TIME / lr), batch_size=None, callbacks=[sharpness],
                           progress=False)
    return history, sharpness


def last(sharpness):
    """lambda_max over the last fifth of the run: it swings about its level."""
    return float(np.median(sharpness.values[-len(sharpness.values) // 5:]))


def draw(path, runs):
    """The sharpness and the loss of each run, over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for color, (lr, history, sharpness) in zip(("#1f4e8c", "#d1662b", "#3d8c40"), runs, strict=True):
        above.plot(np.array(sharpness.steps) * lr, sharpness.values, color=color, linewidth=1.2, label=f"lr {lr:g}")
        above.axhline(2 / lr, color=color, linewidth=0.9, linestyle="--")
        above.annotate(f"2 / {lr:g}", (TIME, 2 / lr), (0, 3), textcoords="offset points", ha="right", color=color)
        loss = history.steps["loss"]
        below.plot(np.arange(len(loss)) * lr, loss, color=color, linewidth=0.9)
    above.set_ylabel("largest eigenvalue of the Hessian")
    above.legend(frameon=False, loc="upper right", ncols=3)
    above.set_ylim(0, 2.4 / min(RATES))
    below.set(ylabel="loss", xlabel="lr * steps", yscale="log", xlim=(0, TIME))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e8e8e8")
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def main(path=None):
    """Train at each rate, print, draw; return lambda_max as a share of 2 / lr for each rate."""
    X, y = data()
    runs = []
    for lr in RATES:
        history, sharpness = train(lr, X, y)
        level = last(sharpness)
        print(f"lr {lr:<5g} lambda_max {level:6.2f} = {100 * level * lr / 2:.1f} % of 2 / lr = {2 / lr:g};  "
              f"loss {history.steps['loss'][-1]:.2e} after {len(history.steps['loss']):,} steps, "
              f"{np.mean(sharpness.products):.0f} products a measurement", flush=True)
        runs.append((lr, history, sharpness))
    if path:
        draw(path, runs)
    return {lr: last(sharpness) * lr / 2 for lr, _, sharpness in runs}


if __name__ == "__main__":
    from common import arguments

    main(**arguments(__doc__, path=None))
