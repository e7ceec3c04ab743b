"""``optcore spectrum``: eigenvalues with residuals, certified ends, the density of all of them."""

from pathlib import Path

import numpy as np

from optcore import curvature, plot, runs
from optcore.cli.common import (
    add_json,
    add_run,
    command,
    eigenvalues,
    in_double,
    integer,
    positive,
    print_json,
    restored,
    status,
    title,
    wrapped,
)

_EXAMPLE = """\
example:
  optcore spectrum out/digits
  optcore spectrum out/digits -k 10 --probes 20 --json | jq .largest
"""


def add(commands):
    """Add the command to the parser."""
    p = command(commands, "spectrum", _run, "look at the spectrum of the Hessian where a run ended", _EXAMPLE)
    add_run(p)
    p.add_argument("-k", type=eigenvalues, metavar="N", default=5,
                   help="eigenvalues from each end, at most 100 (default: 5)")
    p.add_argument("--probes", type=positive, default=10, help="random starts for the density (default: 10)")
    p.add_argument("--steps", type=positive, default=80, help="Lanczos steps from each (default: 80)")
    p.add_argument("--seed", type=integer, default=0, help="of all random starts (default: 0)")
    add_json(p)


def _run(arguments):
    folder = Path(arguments.folder)
    run = restored(folder)
    with status() as say, in_double(run, arguments.mode) as (double, objective):
        part = "the eigenvalues at both ends"
        H = curvature.Hessian(objective, double.net.theta, progress=lambda done: say(f"{part}, {done:,} products"))
        k = max(1, min(arguments.k, H.shape[0] // 2))
        smallest, largest = (curvature.eigenpairs(H, k=k, which=which, seed=arguments.seed) for which in ("SA", "LA"))
        part = "bounds of all eigenvalues"
        ends = curvature.extremes(H, seed=arguments.seed)
        part = "the density"
        density = curvature.spectral_density(H, probes=arguments.probes, steps=arguments.steps, seed=arguments.seed)
    picture = _drawn(folder / runs.SPECTRUM, density, title(run))
    if arguments.json:
        print_json(_as_json(smallest, largest, ends, density, folder / runs.SPECTRUM))
    else:
        print(_text(run, smallest, largest, ends, density))
        print(picture)


def _drawn(path, density, name):
    try:
        plot.density(density, path, title=name)
    except ModuleNotFoundError as error:
        return f"no picture: {error}"
    return f"picture: {path}"


def _text(run, smallest, largest, ends, density):
    shares = density.shares
    lines = [f"{title(run)}, {density.size:,} eigenvalues", ""]
    for name, pairs, order in (("largest", largest, -1), ("smallest", smallest, 1)):
        rank = np.argsort(pairs.values)[::order]
        lines += [f"{name}, with residuals", *(f"  {v:<14.6g}{r:.1e}" for v, r in
                                               zip(pairs.values[rank], pairs.residuals[rank], strict=True))]
    lines += ["all eigenvalues lie, " + ("computed," if ends.confidence == 1 else
                                         f"with probability {ends.confidence:g},")
              + f" between {ends.smallest[0]:.6g} and {ends.largest[1]:.6g}"]
    for name in ("positive", "zero", "negative"):
        low, high = getattr(shares, f"{name}_interval")
        share = getattr(shares, name)
        lines.append(f"{name:10s}" + ("" if np.isnan(share) else f"{100 * share:.2f} %, ")
                     + f"{100 * low:.2f} to {100 * high:.2f} %")
    lines.append(wrapped(f"zero is within {shares.tau:.2g}; the density took {density.products:,} products"))
    return "\n".join(lines)


def _as_json(smallest, largest, ends, density, path):
    shares = density.shares
    return {"size": density.size, **{name: {"values": e.values, "residuals": e.residuals}
                                     for name, e in (("smallest", smallest), ("largest", largest))},
            "bounds": [ends.smallest[0], ends.largest[1]], "confidence": ends.confidence,
            **{name: {"share": getattr(shares, name), "interval": getattr(shares, f"{name}_interval")}
               for name in ("positive", "zero", "negative")},
            "tau": shares.tau, "outliers": density.outliers, "products": density.products,
            "grid": density.grid, "density": density.density, "standard_error": density.standard_error,
            "picture": str(path) if path.exists() else None}
