"""Landscapes: surfaces against differences and closed forms, directions by definition, slices, films, the command."""

import json
import os

import numpy as np
import pytest

import optcore as oc
from optcore import landscape, plot
from optcore.cli import main

SURFACES = landscape.surfaces.names()


@pytest.mark.parametrize("name", SURFACES)
def test_surfaces_against_differences(name):
    f = landscape.surfaces.get(name).objective
    rng = np.random.default_rng(0)
    for t in rng.uniform(-2, 2, (5, 2)):
        h = 1e-5
        steps = h * np.eye(2)
        slope = [(f.loss(t + e) - f.loss(t - e)) / (2 * h) for e in steps]
        rows = [(f.loss_and_grad(t + e)[1] - f.loss_and_grad(t - e)[1]) / (2 * h) for e in steps]
        # h^2 times third derivatives of at most some thousands, and rounding of 1e-16 * 1e3 / h.
        np.testing.assert_allclose(f.loss_and_grad(t)[1], slope, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose([f.hvp(t, e) for e in np.eye(2)], rows, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", SURFACES)
def test_minima(name):
    """Stationary, with no negative curvature, and nowhere on a grid is it lower."""
    s = landscape.surfaces.get(name)
    x, y = np.meshgrid(np.linspace(*s.x, 60), np.linspace(*s.y, 60))
    lowest = min(s.objective.loss(np.array(p)) for p in zip(x.ravel(), y.ravel(), strict=True))
    for m in s.minima:
        loss, slope = s.objective.loss_and_grad(m)
        assert abs(slope).max() < 1e-12 * 100
        assert np.linalg.eigvalsh([s.objective.hvp(m, e) for e in np.eye(2)])[0] > -1e-12
        assert loss <= lowest


HESSIANS = {  # written out by hand
    "valley": lambda x, y: [[1, 0], [0, 100]],
    "saddle": lambda x, y: [[2, 0], [0, 3 * y**2 - 2]],
    "double_well": lambda x, y: [[12 * x**2 - 4, 0], [0, 2]],
    "rosenbrock": lambda x, y: [[1200 * x**2 - 400 * y + 2, -400 * x], [-400 * x, 200]],
    "styblinski_tang": lambda x, y: [[6 * x**2 - 16, 0], [0, 6 * y**2 - 16]],
    "two_parameters": lambda x, y: [[2 * y**2, 4 * x * y - 2], [4 * x * y - 2, 2 * x**2]],
}


@pytest.mark.parametrize("name", SURFACES)
def test_products_against_hessians_by_hand(name):
    f = landscape.surfaces.get(name).objective
    for t in np.random.default_rng(1).uniform(-2, 2, (20, 2)):
        products = [f.hvp(t, e) for e in np.eye(2)]
        np.testing.assert_allclose(products, HESSIANS[name](*t), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("values", [np.zeros((5, 5)), np.full((5, 5), np.nan), -np.eye(5),
                                    np.where(np.eye(5) > 0, np.inf, np.arange(1, 26).reshape(5, 5) ** 4.0)],
                         ids=["flat", "nan", "negative", "infinite"])
def test_every_plane_can_be_drawn(tmp_path, values):
    at = np.linspace(-1, 1, 5)
    plane = landscape.Plane(at, at, values, np.zeros(2), *np.eye(2))
    ways = [("way", np.array([[-1.0, 3.0], [0.5, 0.5]]))]  # it comes from beside the plane
    for name, draw in (("a.png", plot.contour), ("b.png", plot.surface)):
        draw(plane, tmp_path / name, paths=ways, minima=[[0.0, 0.0]])
        assert (tmp_path / name).stat().st_size > 1000


def test_known_answers():
    def hessian(name, at):
        f = landscape.surfaces.get(name).objective
        return np.linalg.eigvalsh([f.hvp(np.array(at, dtype=float), e) for e in np.eye(2)])

    np.testing.assert_allclose(hessian("two_parameters", (0, 0)), [-2, 2])
    np.testing.assert_allclose(hessian("two_parameters", (2, 0.5)), [0, 8.5], atol=1e-14)
    np.testing.assert_allclose(hessian("double_well", (0, 0)), [-4, 2])
    np.testing.assert_allclose(hessian("rosenbrock", (1, 1)), 501 + np.sqrt(250601) * np.array([-1, 1]), rtol=1e-12)
    # Styblinski and Tang's minimum, as published: (-2.903534, ...), -39.16617 for each dimension.
    s = landscape.surfaces.get("styblinski_tang")
    np.testing.assert_allclose(s.minima[0], -2.903534, atol=5e-7)
    assert s.objective.loss(s.minima[0]) == pytest.approx(2 * -39.166165, abs=1e-5)


def network(dtype="float64"):
    layers = oc.nn.Linear(3, 5), oc.nn.BatchNorm(5), oc.nn.ReLU(), oc.nn.Linear(5, 2)
    net = oc.nn.Sequential(*layers, dtype=dtype, seed=0)
    rng = np.random.default_rng(0)
    return net, oc.nn.objective(net, "cross_entropy", rng.standard_normal((40, 3)).astype(dtype), np.arange(40) % 2)


def test_random_directions_are_filter_normalised():
    net, obj = network()
    d = landscape.random_direction(obj, net.theta, seed=1)
    starts = {name: p.ctypes.data for name, p in net.parameters.items()}
    base = min(starts.values())
    for name, p in net.parameters.items():
        at = (starts[name] - base) // 8
        piece = d[at:at + p.size].reshape(p.shape)
        if p.ndim == 1:
            assert not piece.any()
        else:
            np.testing.assert_allclose(np.linalg.norm(piece, axis=1), np.linalg.norm(p, axis=1), rtol=1e-12)


def test_networks_that_compute_the_same_show_the_same_plane():
    """Weights ten times as large before a batch norm: the surface along filter-normalised directions is the same."""
    net, obj = network()
    theta, scaled = net.theta.copy(), net.theta.copy()
    scaled[:15] *= 10   # the first layer's weights
    at = np.linspace(-1, 1, 5)
    lines = [landscape.line(obj, t, landscape.random_direction(obj, t, seed=3), at).loss for t in (theta, scaled)]
    # eps = 1e-5 of the batch norm beside variances of order one: 1e-5, and its change by the scale
    np.testing.assert_allclose(*lines, rtol=1e-4)


def test_torch_module_has_the_same_filters():
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()
    X, y = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(5, dtype=torch.int64)
    obj = oc.torch.objective(module, torch.nn.functional.cross_entropy, X, y)
    assert obj.filters() == [(0, 3), (3, 6), (6, 9), (9, 12), (16, 20), (20, 24)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slices_change_nothing_and_are_the_loss(dtype):
    net, obj = network(dtype)
    before, buffers = net.theta.tobytes(), {k: b.tobytes() for k, b in net.buffers.items()}
    first, second = (landscape.random_direction(obj, net.theta, s) for s in (1, 2))
    plane = landscape.plane(obj, net.theta, first, second, [-0.5, 0.0, 0.5], [0.0, 1.0])
    line = landscape.line(obj, net.theta, first, [0.5])
    assert plane.loss[0, 1] == obj.loss(net.theta)
    assert plane.loss[0, 2] == line.loss[0]
    assert plane.loss[1, 0] == obj.loss((net.theta - 0.5 * first + second).astype(dtype))
    assert net.theta.tobytes() == before
    assert {k: b.tobytes() for k, b in net.buffers.items()} == buffers


def test_what_is_not_finite_is_kept():
    obj = oc.Objective(lambda t: np.inf if t[0] > 1 else float(t[0]), lambda t: np.ones(1), theta0=np.zeros(1))
    assert landscape.line(obj, np.zeros(1), np.ones(1), [0.0, 2.0]).loss.tolist() == [0.0, np.inf]


def test_trajectory_directions_are_the_plane_of_a_planar_way():
    rng = np.random.default_rng(0)
    a, b = np.linalg.qr(rng.standard_normal((7, 2)))[0].T
    t = np.linspace(2, 0, 12)[:, None]
    way = rng.standard_normal(7) + t * a + np.sin(t) * b
    first, second, share = landscape.trajectory_directions(way)
    assert share == pytest.approx(1)
    for d in (first, second):
        assert np.linalg.norm(d - (d @ a) * a - (d @ b) * b) < 1e-12
    with pytest.raises(ValueError, match="on one line"):
        landscape.trajectory_directions(t * a)


def test_descent_is_the_rule_by_hand():
    valley = landscape.surfaces.get("valley")
    way, = landscape.descend(valley.objective, [[1.0, 1.0]], {"gd": ("sgd", {"lr": 0.01})}, steps=3)
    np.testing.assert_allclose(way.thetas, [[0.99**k, 0.0**k] for k in range(4)], rtol=1e-14)
    fast, = landscape.descend(valley.objective, [[1.0, 1.0]], {"gd": ("sgd", {"lr": 1e200})}, steps=9)
    assert len(fast.thetas) < 10
    assert np.isfinite(fast.losses).all()
    for steps, error in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"^steps: expected .*, got {steps}"):
            landscape.descend(valley.objective, [[1.0, 1.0]], {"gd": ("sgd", {})}, steps=steps)
    assert len(landscape.descend(valley.objective, [[1.0, 1.0]], {"gd": ("sgd", {})}, np.int64(2))[0].losses) == 3


@pytest.mark.parametrize("ending", ["gif", "html"])
def test_films(tmp_path, ending):
    valley = landscape.surfaces.get("valley")
    x, y = np.linspace(*valley.x, 9), np.linspace(*valley.y, 9)
    plane = landscape.plane(valley.objective, np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0]), x, y)
    ways = landscape.descend(valley.objective, valley.starts, {"a": ("sgd", {"lr": 0.01}), "b": ("adam", {})}, steps=8)
    path = tmp_path / f"film.{ending}"
    plot.animate(plane, [(w.name, w.thetas) for w in ways], path, frames=4)
    if ending == "gif":
        from PIL import Image

        with Image.open(path) as film:
            assert film.n_frames == 4
    else:
        text = path.read_text()
        assert text.count("data:image/png;base64") == 4
    with pytest.raises(ValueError, match="film's ending"):
        plot.animate(plane, [], tmp_path / "film.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landscape")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    np.savez(folder / "d.npz", X=X, y=(X[:, 0] > 0).astype(int))
    out = str(folder / "run")
    assert main(["train", str(folder / "d.npz"), "--out", out, "--hidden", "5", "--epochs", "4", "--trajectory",
                 "--quiet"]) == 0
    return out


@pytest.mark.parametrize("directions", ["random", "eigen", "trajectory"])
def test_the_command(run, tmp_path, capsys, directions):
    capsys.readouterr()
    picture = str(tmp_path / "l.png")
    assert main(["landscape", run, "--directions", directions, "--size", "5", "--out", picture, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert np.shape(found["loss"]) == (5, 5)
    assert main(["diagnose", run, "--json"]) == 0
    assert found["loss"][2][2] == json.loads(capsys.readouterr().out)["loss"]
    assert os.path.getsize(picture) > 1000


def test_the_command_on_a_surface(tmp_path, capsys):
    path = str(tmp_path / "s.png")
    assert main(["landscape", "double_well", "--out", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["ways"]) == 12
    assert all(min(np.hypot(*np.subtract(w["end"], m)) for m in found["minima"]) < 0.05 for w in found["ways"])
    assert os.path.getsize(path) > 1000


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere"], "nowhere: expected the folder of a training run, or a surface: double_well"),
    (["valley", "--out", "a.bmp"], "--out: expected the ending .png"),
    (["valley", "--out", "none/a.png"], "--out: expected an existing folder, got none"),
    (["valley", "--directions", "eigen"], "--directions: expected for a run only"),
    (["valley", "--size", "2"], "--size: expected at least 3, got 2"),
    (["valley", "--3d", "--out", "a.gif"], "--3d: expected a picture"),
    (["RUN", "--out", "a.gif"], "add --directions trajectory"),
    (["valley", "--span", "-1"], "--span: expected a positive number"),
    (["RUN", "--directions", "trajectory"], "optcore train --trajectory keeps the way"),
])
def test_errors(run, tmp_path, capsys, arguments, message):
    os.rename(f"{run}/trajectory.safetensors", f"{run}/t") if "RUN" in arguments else None
    assert main(["landscape", *(run if a == "RUN" else a for a in arguments)]) == 1
    os.rename(f"{run}/t", f"{run}/trajectory.safetensors") if "RUN" in arguments else None
    assert message in capsys.readouterr().err


def test_a_film_of_a_run_and_surfaces_in_three_dimensions(run, tmp_path):
    from PIL import Image

    film, solid = tmp_path / "way.gif", tmp_path / "solid.png"
    assert main(["landscape", run, "--directions", "trajectory", "--size", "5", "--out", str(film)]) == 0
    with Image.open(film) as frames:
        assert frames.n_frames == 5  # the start and four epochs
    for what in ([run, "--directions", "trajectory"], [run], ["saddle"]):
        assert main(["landscape", *what, "--3d", "--size", "5", "--steps", "9", "--out", str(solid)]) == 0
        assert solid.stat().st_size > 1000
        solid.unlink()


def test_the_way_that_a_run_keeps(run):
    way = oc.checkpoint.load(f"{run}/trajectory.safetensors")["thetas"]
    assert way.shape[0] == 5
    assert way[-1].tobytes() == oc.checkpoint.load(f"{run}/checkpoint.safetensors")["theta"].tobytes()


def test_a_page_with_a_film_asks_no_network(tmp_path):
    obj = landscape.surfaces.get("valley").objective
    at = np.linspace(-1, 1, 9)
    plane = landscape.plane(obj, np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]), at, at)
    plot.animate(plane, [("way", np.array([[1.0, 1.0], [0.0, 0.0]]))], tmp_path / "a.html", title="<b>")
    page = (tmp_path / "a.html").read_text()
    assert "<title>&lt;b&gt;</title>" in page
    assert "data:image/png;base64" in page
    assert "://" not in page


def test_the_last_step():
    assert landscape.step_direction([[0.0, 0.0], [2.0, 1.0], [3.0, 3.0]]).tolist() == [1.0, 2.0]
    for bad in ([[1.0, 2.0]], np.ones((3, 2))):
        with pytest.raises(ValueError, match="thetas: expected"):
            landscape.step_direction(bad)


def test_examples(tmp_path):
    import runpy
    from pathlib import Path

    examples = Path(__file__).resolve().parents[2] / "examples"
    ways = runpy.run_path(str(examples / "rolling_balls.py"))["main"](tmp_path / "a.gif", "rosenbrock", 20)
    assert [way.name for way in ways] == ["SGD", "momentum", "RMSprop", "Adam"]
    found = runpy.run_path(str(examples / "landscape_batch_norm.py"))["main"](tmp_path / "b.png", 5)
    assert (tmp_path / "b.png").stat().st_size > 1000
    assert all(np.isfinite(plane.loss).all() for plane, _ in found.values())


def test_no_label_of_a_surface_is_cut_off(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(plot.landscape, "save", lambda figure, _path: made.append(figure))
    valley = landscape.surfaces.get("valley")
    plane = landscape.plane(valley.objective, np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    plot.surface(plane, tmp_path / "valley.png", title="valley")
    figure = made[0]
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        box = axis.label.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, axis.label.get_text()
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, axis.label.get_text()
