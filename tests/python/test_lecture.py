"""The lecture's experiments: each makes its picture, and its small version shows what it claims."""

import importlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def quick(monkeypatch, tmp_path, capsys):
    """Run an experiment's small version; return what it found and what it printed."""
    def run(name):
        monkeypatch.syspath_prepend(str(EXAMPLES))
        module = importlib.import_module(name)
        found = module.main(["--quick", "--out", str(tmp_path)])
        assert image.imread(tmp_path / f"{name}.png").shape[1] > 800
        return found, capsys.readouterr().out

    yield run
    for name in [p.stem for p in EXAMPLES.glob("*.py")]:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", sorted(p.stem for p in EXAMPLES.glob("*.py") if p.stem != "common"))
def test_help_runs_nothing(name, monkeypatch, tmp_path, capsys):
    """It says what the script does and how it is called, and leaves no file behind."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert caught.value.code == 0
    assert f"python examples/{name}.py" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    sys.modules.pop("common")


def test_small_batches_end_better(quick):
    """After the same epochs, and a larger batch costs more an update, less an example."""
    found, _ = quick("batch_size")
    by = {t.size: t for t in found}
    assert by[4].validation.mean() > by[1437].validation.mean() + 0.1
    assert by[1].update < by[1437].update
    assert by[1].epoch > 2 * by[1437].epoch


def test_large_batches_end_sharp(quick):
    """At the same rate and loss, in every seed: lambda_max and trace more than twice those of small batches."""
    found, _ = quick("sharp_flat")
    small, _, full, _ = found.minima
    assert (full.largest > 2 * small.largest).all()
    assert (full.trace > 2 * small.trace).all()
    assert (full.loss <= 0.03).all()
    assert (small.loss <= 0.03).all()


def test_the_valley_wants_a_rate_for_each_parameter(quick):
    """On raw features Adam ends below SGD, and standardised features are better still."""
    found, _ = quick("narrow_valley")
    end = {name: way.losses[-1] for name, (_, way) in found.raw.items()}
    assert end["Adam"] < end["SGD"]
    assert found.standardised["SGD"][1].losses[-1] < 0.5 * end["SGD"]
    assert found.condition["raw"] > 1e6 * found.condition["standardised"]
    assert found.toy["Adagrad"][1].losses[-1] < 1e-3 * found.toy["SGD"][1].losses[-1]


def test_adagrad_bursts_and_decay_cures_it(quick):
    """A burst is a hundred times what counts as settled; with decay y stays there."""
    found, _ = quick("adagrad_burst")
    constant, decay, warm, both = found
    assert constant.burst > 1
    assert max(decay.burst, both.burst) < 0.02
    assert abs(constant.valley[-1, 1]) < 0.01        # it recovers by itself
    assert both.loss_burst < 0.2 * constant.loss_burst
    assert warm.first_rise < 0.1 * constant.first_rise


def test_the_squared_error_is_flat_where_the_network_is_wrong(quick):
    """Its gradient is less than a hundredth of cross-entropy's there, in every seed, and it ends below it on average.

    On average only: at the large rates that bring it off the plateau, rounding decides where one seed lands.
    """
    found, _ = quick("bad_start")
    assert (found.gradients["cross-entropy"] > 100 * found.gradients["squared error"]).all()
    assert found.accuracies["cross-entropy"][:, -1].mean() > found.accuracies["squared error"][:, -1].mean() + 0.1


def test_the_squared_errors_gradient(quick):
    """By central differences; their error is of the order h^2 = 1e-10."""
    quick("bad_start")
    loss = sys.modules["bad_start"].SoftmaxSquaredError()
    z, target, h = np.random.default_rng(0).standard_normal((5, 4)), np.array([0, 3, 1, 1, 2]), 1e-5
    gradient = loss.value(z, target)[1]
    for at in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[at] = h
        difference = (loss.value(z + step, target)[0] - loss.value(z - step, target)[0]) / (2 * h)
        assert gradient[at] == pytest.approx(difference, abs=1e-9)


def test_batch_norm_makes_the_gradient_predict(quick):
    """With Kaiming's weights, in every seed: the gradient changes less than half as much, and the loss spreads less.

    With smaller weights the network without batch norm stays where it starts.
    """
    (without, norm, plateau, moved), _ = quick("batch_norm_surface")
    assert (norm.change.mean(axis=1) < 0.5 * without.change.mean(axis=1)).all()
    assert np.median(norm.high / norm.low) < np.median(without.high / without.low)
    assert (plateau.loss[:, -1] > 0.9 * np.log(10)).all()      # of equal probabilities
    assert (moved.loss[:, -1] < 0.5 * np.log(10)).all()


def test_sigmoids_vanish_and_what_brings_the_gradient_back(quick):
    """Ten sigmoids lose at least a factor of 4 each (their slope is at most 1/4), weights of the right scale none."""
    found, _ = quick("vanishing_gradients")
    by = {n.name: n for n in found}
    assert by["sigmoid"].ratio < 0.25**9
    kept = ("ReLU, Kaiming", "ELU, Xavier", "ReLU, batch norm", "sigmoid, batch norm")
    assert all(by[name].ratio > 0.1 for name in kept)
    right = by["ReLU, Kaiming"].gradient
    assert (by["ReLU, twice Kaiming"].gradient > 2**9 * right).all()
    assert (by["ReLU, half of Kaiming"].gradient < 0.5**9 * right).all()
    assert by["sigmoid"].accuracy.max() < 0.2
    assert min(by[name].accuracy.min() for name in ("sigmoid, batch norm", "ReLU, batch norm")) > 0.9


def test_the_minimum_ratio_is_not_near_one(quick):
    """Every network has pixels that never change: their weights' curvature is zero, so the ratio cannot be 1."""
    found, out = quick("minimum_ratio")
    assert all(0.3 < w.positive[-1] < 0.95 for w in found)
    assert all(w.gradient[-1] < 0.2 * w.gradient[0] for w in found)
    assert "minimum ratio is" in out


@pytest.mark.parametrize(("argv", "message"), [(["--seed", "-1"], "--seed: expected a number from 0 on, got -1"),
                                               (["--out", __file__], "--out: expected a folder, got")])
def test_errors_of_the_command_line(argv, message, monkeypatch, capsys):
    """They name the option."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with pytest.raises(SystemExit) as caught:
        importlib.import_module("minimum_ratio").main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
