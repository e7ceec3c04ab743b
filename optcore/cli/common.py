"""What the commands share."""

import argparse
import contextlib
import json
import sys
import textwrap
from pathlib import Path

import numpy as np

from optcore import plot, process, runs

_EXIT = "exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted\n"
_MOST_PAIRS = 100  # from each end: the products grow with their square


def command(commands, name, run, text, example):
    """Add a command whose help ends with an example and the exit codes; return its parser."""
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.",
                                 epilog=f"{example}\n{_EXIT}",
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run)
    return parser


def add_json(parser):
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_run(parser):
    """Add RUN and ``--mode``."""
    parser.add_argument("folder", metavar="RUN", help="the folder that optcore train wrote")
    parser.add_argument("--mode", choices=("train", "eval"), default="train",
                        help="batch norm with the statistics of the training set, as trained, or with the "
                             "running ones (default: train)")


def integer(text):
    """A whole number, for argparse."""
    return _read(int, "a whole number", text)


def number(text):
    """A number, for argparse."""
    return _read(float, "a number", text)


def positive(text):
    """A whole number from 1 on, for argparse."""
    n = integer(text)
    if n < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {n}")
    return n


def eigenvalues(text):
    """How many eigenvalues from each end, for argparse."""
    n = positive(text)
    if n > _MOST_PAIRS:
        raise argparse.ArgumentTypeError(f"expected at most {_MOST_PAIRS}, got {n}")
    return n


def _read(kind, what, text):
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}") from None


def wrapped(text):
    """The text in lines of 100 columns."""
    return textwrap.fill(text, 100, subsequent_indent="    ")


def print_json(value):
    """Print one JSON object; what is not finite is null."""
    print(json.dumps(plain(value), indent=2))


def plain(x):
    """Numbers, strings, lists and dicts that JSON can hold."""
    x = x.tolist() if isinstance(x, np.ndarray | np.generic) else x
    if isinstance(x, dict):
        return {key: plain(v) for key, v in x.items()}
    if isinstance(x, list | tuple):
        return [plain(v) for v in x]
    return None if isinstance(x, float) and not np.isfinite(x) else x


def title(run):
    """What was trained, in a few words."""
    return f"{Path(run.settings.data).stem}: {run.shape}, {run.settings.optimizer}"


def draw(path, history, **options):
    """Draw the picture where matplotlib is installed; return the end of a sentence that says what was written."""
    try:
        plot.training(history, path, **options)
    except ModuleNotFoundError as error:
        return f" (no picture: {error})"
    return f", {path.name}"


@contextlib.contextmanager
def status():
    """Yield a function that says on a terminal, on standard error, what is being done; the line goes at the end."""
    shown = sys.stderr.isatty()

    def say(text):
        if shown:
            print(f"\r\x1b[2K{text} ...", end="", file=sys.stderr, flush=True)

    try:
        yield say
    finally:
        if shown:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def restored(folder):
    """The run of a folder as its last checkpoint left it."""
    run = runs.prepare(runs.read_settings(folder))
    run.restore(folder)
    return run


@contextlib.contextmanager
def in_double(run, mode):
    """Yield the run in float64 and its objective, one thread pool at work.

    Near the end of a training the small eigenvalues drown in float32's rounding.
    """
    double = run.in_double()
    with process.one_pool:
        yield double, double.objective(mode)
