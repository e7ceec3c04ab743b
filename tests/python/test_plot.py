"""Pictures: they are written, hold what they should, and leave matplotlib's global state alone."""

import sys

import numpy as np
import pytest
from matplotlib import image

from optcore import plot
from optcore.history import History
from optcore.plot.training import draw_curves


def record(epochs=3, steps=5, extra=0):
    history = History(validation=True, accuracy=True)
    rng = np.random.default_rng(0)
    for e in range(epochs):
        for _ in range(steps):
            history.add_step(loss=float(rng.uniform(0.1, 1)), lr=0.1, grad_norm=float(rng.uniform(1, 2)), examples=4)
        history.add_epoch(steps, seconds=0.1, validation_loss=0.5 / (e + 1), validation_accuracy=0.9)
    for _ in range(extra):
        history.add_step(loss=0.1, lr=0.1, grad_norm=1.0, examples=4)
    return history


@pytest.mark.parametrize("options", [
    {}, {"eigenvalues": [-1.0, -1e-9, 2.0, 30.0], "size": 9866, "tau": 1e-6, "title": "t", "caption": "saddle"},
    {"eigenvalues": np.linspace(-1, 100, 500)}, {"eigenvalues": [0.0, 0.0]}, {"eigenvalues": [1e-300]},
    {"eigenvalues": [1.0, 2.0, 3.0], "size": 7},
], ids=["curves", "ends", "dense", "zeros", "tiny", "odd"])
@pytest.mark.parametrize("history", [record(), record(extra=2), record(epochs=0, extra=3), record(0)],
                         ids=["whole", "part", "first epoch", "empty"])
def test_every_run_can_be_drawn(tmp_path, history, options):
    plot.training(history, tmp_path / "a.png", **options)
    picture = image.imread(tmp_path / "a.png")[:, :, :3]
    assert picture.shape[1] >= 1000
    assert (picture < 0.9).any(axis=2).mean() > 0.005       # something is drawn


def test_curves_hold_the_numbers():
    from matplotlib.figure import Figure

    history = record(epochs=2, steps=4, extra=2)
    loss, norm = Figure().subplots(2, 1)
    draw_curves(loss, norm, history)
    each, mean, validation = (line.get_xydata() for line in loss.get_lines())
    assert np.array_equal(each[:, 1], history.steps["loss"])
    assert each[:, 0].tolist() == [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5]     # in epochs
    assert mean.tolist() == [[1, history.epochs["loss"][0]], [2, history.epochs["loss"][1]]]
    assert validation[:, 1].tolist() == [0.5, 0.25]
    assert np.array_equal(norm.get_lines()[0].get_ydata(), history.steps["grad_norm"])


def test_no_global_state(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plot.training(record(), tmp_path / "a.svg")
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize("values", [np.zeros(5), np.r_[np.linspace(-1, 1, 300), 9.0, 12.0], np.full(300, -3.0)],
                         ids=["zeros", "outliers", "one value"])
@pytest.mark.parametrize("probes", [1, 4])
def test_every_density_can_be_drawn(tmp_path, values, probes):
    from optcore.curvature import spectral_density

    plot.density(spectral_density(np.diag(values), probes, 20), tmp_path / "a.png", title="t")
    picture = image.imread(tmp_path / "a.png")[:, :, :3]
    assert (picture < 0.9).any(axis=2).mean() > 0.005
