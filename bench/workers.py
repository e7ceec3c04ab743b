"""A process for each library that a bench races, so that one thread pool is at work at a time.

The parent says "a burst now" over a pipe and waits. Each worker counts how much of the CPU it uses while others are
timed: a pool that spins on would show.
"""

import ctypes
import gc
import importlib
import os
import subprocess
import sys
import time
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import harness
import numpy as np

# OpenMP's pools spin for some 7 ms after their last work, OpenBLAS's several times as long; the next burst begins when
# they are asleep: when a side has used next to nothing of a CPU for so many seconds.
SETTLE = 0.01
# glibc gives large arrays back to the kernel as soon as they are freed, so that a peer with temporaries pays for fresh
# pages at every step. That is how it comes; with these settings pages are kept.
PAGES_KEPT = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
THREADS = ("OPTCORE_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")  # the last one is XLA's


class SideError(Exception):
    """A side that cannot do the work."""


class Worker:
    """A process that has imported ``sides.<module>``; ``tunables`` are settings of its allocator."""

    def __init__(self, module, threads, tunables=None):
        self.pipe, theirs = Pipe()
        environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "GLIBC_TUNABLES")}
        environment |= {name: str(threads) for name in THREADS}
        if tunables:
            environment["GLIBC_TUNABLES"] = tunables
        self.process = subprocess.Popen([sys.executable, __file__, module, str(theirs.fileno())],
                                        env=environment, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL)
        theirs.close()

    def ask(self, command, *args):
        self.pipe.send((command, args))
        kind, answer = self.pipe.recv()
        if kind == "error":
            raise SideError(answer)
        return answer

    def burst(self, name, seconds):
        each = self.ask("burst", name, seconds)
        self.settle()
        self.ask("rest")
        return each

    def settle(self, windows=100):
        used = self.ask("used")
        for _ in range(windows):
            time.sleep(SETTLE)
            before, used = used, self.ask("used")
            if used - before < SETTLE / 20:
                return
        raise SideError(f"it still uses a CPU {windows * SETTLE:g} s after its work")

    def close(self):
        self.pipe.close()
        self.process.wait()


class Sides:
    """The sides of one race, by name, each a job for a worker; closed, they give their memory back."""

    def __init__(self, workers):
        self.workers, self.bursts, self.results = workers, {}, {}

    def add(self, name, worker, work, variant=None):
        """Let the worker of that name get ready; keep some parameters after its first steps to compare."""
        self.results[name] = self.workers[worker].ask("prepare", name, work, variant)
        self.bursts[name] = partial(self.workers[worker].burst, name)

    def race(self, rounds, seconds, names=None):
        """Let the sides, or those of ``names``, run in turn."""
        bursts = {name: b for name, b in self.bursts.items() if names is None or name in names}
        return harness.take_turns(bursts, rounds, seconds)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self.workers.values():
            worker.ask("release")


LIBC = ctypes.CDLL(None)
FIRST_STEPS = 3
SAMPLE = 64  # elements of each tensor


class Server:
    """The worker's end: the sides that it has made ready."""

    def __init__(self, module):
        self.module = importlib.import_module(f"sides.{module}_side")
        self.runs = {}
        self.resting = None  # times of the clock and the CPU since when others are timed
        self.idle = self.busy = 0.0  # seconds that others were timed, and of CPU used meanwhile

    def version(self):
        return self.module.VERSION

    def prepare(self, name, work, variant):
        run, params = self.module.prepare(work, variant)
        self.runs[name] = run
        if params is None:  # it has another side's arrays
            return None
        run(FIRST_STEPS)
        flat = np.concatenate([np.asarray(p).reshape(-1)[:SAMPLE] for p in params()])
        return flat.astype(np.float32)

    def burst(self, name, seconds):
        self._wake()
        return harness.burst(self.runs[name], seconds)

    def used(self):
        return time.process_time()

    def rest(self):
        self.resting = time.perf_counter(), time.process_time()

    def release(self):
        self._wake()
        self.runs.clear()
        if hasattr(self.module, "forget"):
            self.module.forget()
        gc.collect()
        if hasattr(LIBC, "malloc_trim"):
            LIBC.malloc_trim(0)

    def waiting_share(self):
        """The share of one CPU that this process used while others were timed."""
        return self.busy / max(self.idle, 1e-9)

    def _wake(self):
        if self.resting:
            self.idle += time.perf_counter() - self.resting[0]
            self.busy += time.process_time() - self.resting[1]
            self.resting = None


def serve(module, pipe):
    server = Server(module)
    while True:
        try:
            command, args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("ok", getattr(server, command)(*args)))
        except Exception as error:
            pipe.send(("error", f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    serve(sys.argv[1], Connection(int(sys.argv[2])))
