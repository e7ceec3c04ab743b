"""``optcore info``: what this build is."""

from optcore import process
from optcore.cli.common import add_json, command, print_json

_EXAMPLE = """\
example:
  optcore info
  OPTCORE_ISA=baseline optcore info --json
"""


def add(commands):
    """Add the command to the parser."""
    add_json(command(commands, "info", _run, "say what this build is and what it found on this machine", _EXAMPLE))


def _run(arguments):
    config = process.show_config()
    if arguments.json:
        print_json(config)
        return
    openmp = f"yes ({config['openmp']})" if config["openmp"] else "serial: built without OpenMP"
    rows = [("optcore", config["version"]), ("instructions", f"{config['isa']} (available: "
             f"{', '.join(config['isa_available'])}; OPTCORE_ISA chooses)"), ("OpenMP", openmp),
            ("threads", config["num_threads"]), ("NumPy", config["numpy"])]
    rows += [("BLAS", f"{b['library']} {b['version']}, core type {b['core_type']}, {b['threads']} threads outside")
             for b in config["blas"]]
    for name, value in rows:
        print(f"{name:14s}{value}")
