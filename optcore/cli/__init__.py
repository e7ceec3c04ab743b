"""The command ``optcore``: train a network on a data set, ask why training stopped, look at the spectrum, measure."""

import argparse
import os
import sys
import warnings

from optcore import process
from optcore.cli import bench, diagnose, info, landscape, spectrum, train

__all__ = ["main"]

_USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, FloatingPointError)


def main(argv=None):
    """Run the command; return the exit code: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C."""
    arguments = _parser().parse_args(argv)

    def show(message, *_):
        print(f"optcore {arguments.command}: warning: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show
            code = arguments.run(arguments) or 0
            sys.stdout.flush()
            return code
    except BrokenPipeError:     # whoever read the output has left, as head does; nothing is left to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _USER_ERRORS as error:
        print(f"optcore {arguments.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"optcore {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="optcore", description="Gradient-based training on CPUs, and an answer "
                                     "to why it stopped.", epilog="optcore COMMAND --help says more, with an example.")
    parser.add_argument("--version", action="version", version=f"optcore {process.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (train, diagnose, spectrum, landscape, bench, info):
        command.add(commands)
    return parser
