"""Timing of several sides in turn, and the plain C loops that stand for the machine's limit."""

import ctypes
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import repeat
from pathlib import Path

HERE = Path(__file__).parent


def require_clean_environment():
    """Refuse to measure a machine that is held back: both sides of a ratio would be, but not by the same factor."""
    if "OPENBLAS_CORETYPE" in os.environ:
        sys.exit("bench: OPENBLAS_CORETYPE is set, which changes what BLAS reaches; run `make bench`, which unsets it")


def repeated(call):
    """A function that calls ``call`` so many times: the loop of a side that is called from Python."""
    def run(count):
        for _ in repeat(None, count):
            call()

    return run


def burst(run, seconds):
    """Seconds per step of ``run``, which takes so many: a few to warm up (caches, thread pools), then until time is up.

    A step that takes the whole time by itself is timed alone, after one to warm up.
    """
    run(1)
    once = _timed(run, 1)
    if once >= seconds:
        return once
    once = _timed(run, max(1, min(200, int(seconds / 5 / once))))
    return _timed(run, max(1, min(200_000, int(seconds / once))))


def _timed(run, count):
    begin = time.perf_counter()
    run(count)
    return (time.perf_counter() - begin) / count


def race(sides, rounds=9, seconds=0.05):
    """Time ``sides`` (name -> callable) in turn, A B C A B C ...; return name -> list of seconds per call."""
    return take_turns({name: partial(burst, repeated(call)) for name, call in sides.items()}, rounds, seconds)


def take_turns(bursts, rounds, seconds):
    """Let ``bursts`` (name -> function of the seconds that it has) run in turn; return name -> list of results."""
    times = {name: [] for name in bursts}
    for _ in range(rounds):
        for name, timed_burst in bursts.items():
            times[name].append(timed_burst(seconds))
    return times


def ratio(times, other, ours="optcore"):
    """How many times faster ``ours`` is: median of the ratios round by round."""
    return statistics.median(b / a for a, b in zip(times[ours], times[other], strict=True))


def median(times, name):
    return statistics.median(times[name])


def compile_loops():
    """The plain loops of loops.c, compiled for this machine with its compiler's best flags, as a ctypes library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    folder = Path(tempfile.mkdtemp(prefix="optcore-bench-"))
    library = folder / "loops.so"
    arch = ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
    levels = ["x86-64-v4", "x86-64-v3", "x86-64"] if platform.machine() == "x86_64" else [None]
    for level in levels:
        if level and level != "x86-64" and not _cpu_has(level):
            continue
        flags = [f"-march={level}", *arch] if level else []
        command = [compiler, "-O3", "-std=c99", "-fopenmp", "-fno-math-errno", "-fno-trapping-math",
                   "-fassociative-math", "-fno-signed-zeros", "-ffp-contract=fast", *flags, "-shared", "-fPIC",
                   str(HERE / "loops.c"), "-o", str(library), "-lm"]
        if subprocess.run(command, check=False).returncode == 0:
            return ctypes.CDLL(str(library))
    sys.exit("bench: no C compiler for the plain loops")


def _cpu_has(level):
    from optcore._native import core

    return level.removeprefix("x86-64-") in core.available_levels()


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def header():
    """Print what was measured on what."""
    import optcore as oc

    config = oc.show_config()
    print(f"optcore {config['version']}, level {config['isa']}, {config['num_threads']} threads; "
          f"Python {platform.python_version()}, NumPy {config['numpy']}")
    for blas in config["blas"]:
        print(f"BLAS: {blas['library']} {blas['version']}, core type {blas['core_type']}")
    print(f"CPU: {_cpu()}; sides in turn, medians of the ratios round by round")


def _cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def verdict(value, target):
    return f"{value:6.2f}x (target {target}x{'' if value >= target else ', MISSED'})"
