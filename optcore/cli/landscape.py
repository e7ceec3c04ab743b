"""``optcore landscape``: the loss around the end of a run, or rules that roll down a toy surface."""

import math
from pathlib import Path

import numpy as np

from optcore import checkpoint, landscape, plot, runs
from optcore.cli.common import command, in_double, integer, number, positive, print_json, restored, status, title

_EXAMPLE = """\
example:
  optcore landscape out/digits --directions eigen
  optcore landscape out/digits --directions trajectory --out training.gif    (optcore train --trajectory)
  optcore landscape out/digits --3d --out bowl.png
  optcore landscape rosenbrock --out rosenbrock.gif
  optcore landscape out/digits --json | jq '.loss | flatten | min'
"""
_FILMS, _PICTURES = (".gif", ".html", ".mp4"), (".png", ".svg", ".pdf")
_RULES = {"sgd": ("sgd", {"lr": 0.015}), "momentum": ("sgd", {"lr": 0.004, "momentum": 0.9}),
          "rmsprop": ("rmsprop", {"lr": 0.05}), "adam": ("adam", {"lr": 0.15})}
_SMALLER = {"rosenbrock": 0.05, "styblinski_tang": 0.5}  # times the rates of the rules without a scale of their own


def add(commands):
    """Add the command to the parser."""
    p = command(commands, "landscape", _run, "look at the loss around the end of a run, or at a toy surface", _EXAMPLE)
    p.add_argument("what", metavar="RUN|SURFACE", help="the folder that optcore train wrote, or a toy surface: "
                   + ", ".join(landscape.surfaces.names()))
    p.add_argument("--directions", choices=("random", "eigen", "trajectory"),
                   help="of the plane of a run: random, filter by filter as long as the weights; the eigenvectors of "
                        "the largest and the smallest curvature; those that training took (default: random)")
    p.add_argument("--3d", dest="solid", action="store_true", help="a surface in three dimensions, not contours")
    p.add_argument("--span", type=number, default=1.0, metavar="X", help="how far to look each way, of the length that "
                   "the directions come with (default: 1)")
    p.add_argument("--size", type=positive, default=25, metavar="N", help="points along each side (default: 25)")
    p.add_argument("--steps", type=positive, default=150, metavar="N", help="of the rules on a surface (default: 150)")
    p.add_argument("--seed", type=integer, default=0, help="of random directions (default: 0)")
    p.add_argument("--mode", choices=("train", "eval"), default="train",
                   help="statistics of batch norm (default: train)")
    p.add_argument("--out", metavar="FILE", help="a picture (.png, .svg, .pdf), or a film (.gif, .html, .mp4) of "
                   "the rules on a surface, or of the way of training (default: landscape.png in RUN; SURFACE.gif, "
                   "with --3d SURFACE.png)")
    p.add_argument("--json", action="store_true", help="print one JSON object")


def _run(arguments):
    is_surface = arguments.what in landscape.surfaces.names() and not Path(arguments.what).is_dir()
    if not is_surface and not Path(arguments.what).is_dir():
        raise ValueError(f"{arguments.what}: expected the folder of a training run, or a surface: "
                         + ", ".join(landscape.surfaces.names()))
    ending = ".png" if arguments.solid else ".gif"
    path = Path(arguments.out or (f"{arguments.what}{ending}" if is_surface else
                                  Path(arguments.what) / runs.LANDSCAPE))
    _check(arguments, path, is_surface)
    return (_surface if is_surface else _around)(arguments, path)


def _check(arguments, path, is_surface):
    """Refuse what cannot be drawn before anything is computed."""
    if not (math.isfinite(arguments.span) and arguments.span > 0):
        raise ValueError(f"--span: expected a positive number, got {arguments.span}")
    if arguments.size < 3:
        raise ValueError(f"--size: expected at least 3, got {arguments.size}")
    if path.suffix not in _FILMS + _PICTURES:
        raise ValueError(f"--out: expected the ending {', '.join(_PICTURES + _FILMS)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out: expected an existing folder, got {path.parent}")
    if is_surface and arguments.directions is not None:
        raise ValueError("--directions: expected for a run only; a surface has two parameters, leave it out")
    if path.suffix in _FILMS and arguments.solid:
        raise ValueError(f"--3d: expected a picture ({', '.join(_PICTURES)}), got the film {path.name!r}")
    if path.suffix in _FILMS and not is_surface and arguments.directions != "trajectory":
        raise ValueError("--out: a film of a run shows the way of training; add --directions trajectory, or take a "
                         f"picture ({', '.join(_PICTURES)})")


def _draw(arguments, path, plane, paths, **options):
    """A film, a surface in three dimensions, or contours: what the options and the ending ask for."""
    if path.suffix in _FILMS:
        plot.animate(plane, paths, path, **options)
    elif arguments.solid:
        plot.surface(plane, path, paths=paths, **options)
    else:
        plot.contour(plane, path, paths=paths, **options)


def _around(arguments, path):
    folder = Path(arguments.what)
    run = restored(folder)
    with status() as say, in_double(run, arguments.mode) as (double, objective):
        theta = double.net.theta
        say("directions")
        first, second, labels, way = _directions(arguments, folder, objective, theta)
        at = np.linspace(-arguments.span, arguments.span, arguments.size)
        plane = landscape.plane(objective, theta, first, second, at, at,
                                progress=lambda done, rows: say(f"row {done} of {rows}"))
        say("drawing")
        paths = () if way is None else [("training", plane.project(way))]
        _draw(arguments, path, plane, paths, title=title(run), labels=labels)
    if arguments.json:
        print_json({"directions": arguments.directions or "random", "x": plane.x, "y": plane.y, "loss": plane.loss,
                    "picture": str(path)})
        return
    finite = plane.loss[np.isfinite(plane.loss)]
    print(f"loss on the plane: {finite.min():.4g} to {finite.max():.4g}, at the middle {objective.loss(theta):.4g}"
          f"{'' if finite.size == plane.loss.size else '; not finite in places'}\n{_called(path)}: {path}")


def _called(path):
    return "film" if path.suffix in _FILMS else "picture"


def _directions(arguments, folder, objective, theta):
    """Two directions, their names, and the way of training where it is known."""
    if arguments.directions in (None, "random"):
        rng = np.random.default_rng(arguments.seed)
        first, second = (landscape.random_direction(objective, theta, rng) for _ in range(2))
        return first, second, ("first random direction", "second random direction"), None
    if arguments.directions == "eigen":
        reach = 0.1 * max(1.0, float(np.linalg.norm(theta)))
        first, second = landscape.eigen_directions(objective, theta, arguments.seed)
        return reach * first, reach * second, ("along the largest curvature", "along the smallest curvature"), None
    path = folder / runs.TRAJECTORY
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; optcore train --trajectory keeps the way of training")
    way = checkpoint.load(path)["thetas"].astype(np.float64)
    first, second, share = landscape.trajectory_directions(way)
    away = way - way[-1]
    reach = 1.2 * max(np.abs(away @ first).max(), np.abs(away @ second).max())
    names = (f"first principal direction ({100 * share:.0f} % in the plane)", "second principal direction")
    return reach * first, reach * second, names, way


def _surface(arguments, path):
    surface = landscape.surfaces.get(arguments.what)
    scale = _SMALLER.get(surface.name, 1.0)
    rules = {name: (rule, options | ({"lr": scale * options["lr"]} if rule == "sgd" else {}))
             for name, (rule, options) in _RULES.items()}
    with status() as say:
        say("the surface")
        x, y = (np.linspace(*ends, max(arguments.size, 60)) for ends in (surface.x, surface.y))
        plane = landscape.plane(surface.objective, np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]), x, y)
        ways = landscape.descend(surface.objective, surface.starts, rules, arguments.steps)
        say("drawing")
        _draw(arguments, path, plane, [(way.name, way.thetas) for way in ways], minima=surface.minima,
              labels=("x", "y"), title=f"{surface.name.replace('_', ' ')}: {surface.formula}")
    if arguments.json:
        print_json({"surface": surface.name, "minima": surface.minima, "picture": str(path), "ways": [
            {"rule": way.name, "start": way.thetas[0], "end": way.thetas[-1], "loss": way.losses[-1]} for way in ways]})
        return
    for way in ways:
        start, end = (f"({p[0]:.3g}, {p[1]:.3g})" for p in (way.thetas[0], way.thetas[-1]))
        print(f"{way.name:10s} from {start:16s} to {end:18s} loss {way.losses[0]:10.4g} -> {way.losses[-1]:.4g}")
    print(f"{_called(path)}: {path}")
