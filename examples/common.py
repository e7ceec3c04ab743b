"""What the experiments of the lecture share: command line, digits, table and picture."""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

import optcore as oc
from optcore import nn
from optcore.plot.style import BOLD, NEGATIVE, OTHER, THIN, figure, save

COLORS = (BOLD, OTHER, "#3b8f5a", "#8a4fa3", NEGATIVE, "#5f6b7a", "#b8860b")


class Digits:
    """scikit-learn's digits, pixels from 0 to 1, parted at random; every class in the same proportion.

    Parameters
    ----------
    train : int
        Examples of the training part; the others are the test part.
    dtype : str
    seed : int

    Attributes
    ----------
    X, y, test_X, test_y : ndarray
    """

    def __init__(self, train=1437, dtype="float32", seed=0):
        data = oc.data.load("digits")
        X, y = (data.X / 16).astype(dtype), data.y
        rank = np.empty(len(y))       # of an example among those of its class, as a share: the first ones train
        order = np.random.default_rng(seed).permutation(len(y))
        for k in range(len(data.classes)):
            mine = order[y[order] == k]
            rank[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
        order = np.argsort(rank, kind="stable")
        self.X, self.test_X = np.split(X[order], [train])
        self.y, self.test_y = np.split(y[order], [train])


def mlp(widths, activation, norm=False, init="fan_in_uniform", dtype="float32", seed=0):
    """Return a network of linear layers with an activation, and batch norm if asked for, after all but the last."""
    layers = []
    for a, b in pairwise(widths[:-1]):
        layers += [nn.Linear(a, b, init=init), *([nn.BatchNorm(b)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:], init=init), dtype=dtype, seed=seed)


def contours(axes, obj, x, y):
    """Draw the level lines of a function of two parameters, evenly spaced in its logarithm."""
    x, y = np.linspace(*x, 141), np.linspace(*y, 141)
    loss = oc.landscape.plane(obj, np.zeros(2), *np.eye(2), x, y).loss
    axes.contour(x, y, np.log10(loss + 1e-3), levels=16, colors=THIN, linewidths=0.7)


def mean_and_error(values):
    """Return the mean over seeds and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def run(file, doc, measure, table, conclude, draw, size, argv=None):
    """Run an experiment as a command: measure, print a table and what follows from it, draw.

    Parameters
    ----------
    file, doc : str
        The script's ``__file__``, whose stem names the picture, and ``__doc__``.
    measure : callable
        (quick, seed) -> what was found, any object.
    table : callable
        found -> rows of cells, the first one the header.
    conclude : callable
        found -> a sentence, made of the numbers.
    draw : callable
        (figure, found).
    size : (float, float)
        Inches of the picture.
    argv : list of str, optional
        Instead of the command line.

    Returns
    -------
    object
        What was found.
    """
    path = Path(file)
    title, _, rest = doc.partition("\n\n")
    parser = argparse.ArgumentParser(description=title, epilog=f"{rest}\nexample:\n  python examples/{path.name} "
                                     "--out out/lecture --seed 1",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/lecture"), metavar="FOLDER",
                        help="where the picture goes (default: out/lecture)")
    parser.add_argument("--seed", type=int, default=0, help="of the data's parts, the networks and the orders")
    parser.add_argument("--quick", action="store_true", help="a small version, of seconds: to see that it works")
    options = parser.parse_args(argv)
    if options.seed < 0:
        parser.error(f"--seed: expected a number from 0 on, got {options.seed}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: expected a folder, got {options.out} ({error.strerror})")
    found = measure(options.quick, options.seed)
    print(title)
    _print(table(found))
    print(conclude(found))
    made = figure(*size)
    draw(made, found)
    picture = options.out / f"{path.stem}.png"
    save(made, picture, dpi=100)
    print(f"picture: {picture}")
    sys.stdout.flush()
    return found


def arguments(doc, **defaults):
    """Return the arguments of a script's command line by name: each may be left out; ``--help`` says what it does.

    Parameters
    ----------
    doc : str
        The script's ``__doc__``.
    **defaults
        Name and default of each argument, in order.
    """
    title, _, rest = doc.partition("\n\n")
    parser = argparse.ArgumentParser(description=title, epilog=rest,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(name, nargs="?", default=default,
                            help="none by default" if default is None else f"default: {default}")
    return vars(parser.parse_args())


def _print(rows):
    """Columns as wide as their widest cell, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        print("  " + first.ljust(widths[0]) + "".join(f"  {c:>{w}}" for c, w in zip(cells, widths[1:], strict=True)))
