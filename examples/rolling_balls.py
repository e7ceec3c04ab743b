"""Four rules roll down the same terrain, as a film.

    python examples/rolling_balls.py [film.gif] [surface]

The ending of the file says the format: .gif, .html, or .mp4 where ffmpeg is installed.
"""

import numpy as np

import optcore as oc

RULES = {"SGD": ("sgd", {"lr": 4e-4}), "momentum": ("sgd", {"lr": 1e-4, "momentum": 0.9}),
         "RMSprop": ("rmsprop", {"lr": 0.04}), "Adam": ("adam", {"lr": 0.04})}


def main(path="rolling_balls.gif", name="rosenbrock", steps=1000):
    """Let the rules roll from the surface's first start, print, draw; return the ways."""
    surface = oc.landscape.surfaces.get(name)
    ways = oc.landscape.descend(surface.objective, surface.starts[:1], RULES, steps)
    for way in ways:
        print(f"{way.name:10s}loss {way.losses[0]:.4g} -> {way.losses[-1]:.4g} in {len(way.losses) - 1} steps")
    x, y = (np.linspace(*side, 101) for side in (surface.x, surface.y))
    plane = oc.landscape.plane(surface.objective, np.zeros(2), *np.eye(2), x, y)
    oc.plot.animate(plane, [(way.name, way.thetas) for way in ways], path, title=surface.formula, labels=("x", "y"),
                    minima=surface.minima)
    return ways


if __name__ == "__main__":
    from common import arguments

    main(**arguments(__doc__, path="rolling_balls.gif", name="rosenbrock"))
