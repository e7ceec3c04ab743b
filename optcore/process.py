"""The process: threads, the one pool that they share with BLAS, and what this build is."""

import contextlib
import contextvars
import importlib
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from importlib import metadata
from pathlib import Path

import numpy as np
import threadpoolctl

from optcore._native import core as _core
from optcore._native import pages as _pages
from optcore._native import threads as _threads

__version__ = metadata.version("optcore")


def get_num_threads():
    """Return the number of threads that large work gets.

    Returns
    -------
    int
        The setting in force in this Python thread; 1 in a build without OpenMP and in a forked child.

    Examples
    --------
    >>> import optcore as oc
    >>> with oc.threads(1):
    ...     oc.get_num_threads()
    1
    """
    return _threads.get()


def set_num_threads(n):
    """Set the number of threads of the process.

    Results do not depend on it: the same bits for every n.

    Parameters
    ----------
    n : int
        At least 1. Small work runs on one thread whatever n is.

    Raises
    ------
    TypeError, ValueError
        If n is not an integer, or not from 1 to 4096.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.set_num_threads(oc.get_num_threads())
    """
    _threads.set_process(n)


@contextlib.contextmanager
def threads(n):
    """Set the number of threads of the calling Python thread for a ``with`` block.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import optcore as oc
    >>> with oc.threads(2):
    ...     pass
    """
    before = _threads.set_override(n)
    try:
        yield
    finally:
        _threads.restore_override(before)


class _MemoryBefore(threading.local):
    """Where a thread's arrays took their memory before each block that it has open."""

    def __init__(self):
        self.before = []


class _OnePool:
    """Holds BLAS to one thread while any block is open, and puts the host's setting back after the last.

    Inside, the thread's large arrays take memory that dead ones left (`_native.pages`).
    """

    def __init__(self):
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):  # a child must not find it taken by a thread that it does not have
            os.register_at_fork(before=self._lock.acquire, after_in_parent=self._lock.release,
                                after_in_child=self._lock.release)
        self._thread = _MemoryBefore()
        self._open = 0
        self._limit = None
        self._blas = None

    def __enter__(self):
        if self._blas is None:
            # Both copies of BLAS must be in the process before it is searched: NumPy's is, SciPy's may not be. Outside
            # the lock, as it takes long.
            importlib.import_module("scipy.linalg.cython_blas")
            self._blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
        with self._lock:
            if self._open == 0:
                self._limit = self._blas.limit(limits=1)
                self._limit.__enter__()
            self._open += 1
        self._thread.before.append(_pages.keep())

    def __exit__(self, *exc):
        _pages.restore(self._thread.before.pop())
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._limit.__exit__(None, None, None)


one_pool = _OnePool()
"""Context manager: the library's threads are the only pool, BLAS runs single-threaded inside them; and large arrays of
this thread take the memory of dead ones, of which up to 256 MiB are kept.

Two pools that spin on the same cores cost a factor of 30; see docs/architecture.md. Entering costs some ten
microseconds, so whole jobs (a fit, an analysis) are wrapped; entering again inside is free."""


_apart = contextvars.ContextVar("apart", default=False)


def is_apart():
    """Return whether this is work of `at_once` that may have its like beside it, whatever the number of threads is."""
    return _apart.get()


def _beside_others(work, item):
    before = _apart.set(True)
    try:
        return work(item)
    finally:
        _apart.reset(before)


def at_once(work, items, stop, most):
    """Return ``work(item)`` of each item, several at a time: each on a Python thread with its share of the threads.

    Parameters
    ----------
    work : callable
        One that may run in several threads. Gets the context of the caller (`numpy.errstate`).
    items : iterable
        Asked for an item when a thread is free for it.
    stop : callable
        Called without arguments once one has failed, or on Ctrl-C: makes the others end soon. The first error is raised
        when they have.
    most : int
        How many may be at work at a time, if there are as many threads; 1 for one after the other, each on all threads.
    """
    if most == 1:
        return [work(item) for item in items]
    most = min(most, get_num_threads())
    if most == 1:
        return [_beside_others(work, item) for item in items]
    share, numbered, one_asks = get_num_threads() // most, enumerate(items), threading.Lock()
    found, errors = {}, []

    def run():
        try:
            with threads(share), one_pool:
                while True:
                    with one_asks:
                        number, item = next(numbered, (None, None))
                    if number is None:
                        return
                    found[number] = _beside_others(work, item)
        except BaseException as error:
            errors.append(error)
            stop()  # at once: the caller may wake late
            raise

    with ThreadPoolExecutor(most) as pool:
        running = [pool.submit(contextvars.copy_context().run, run) for _ in range(most)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
            if errors:
                raise errors[0]
            return [found[number] for number in sorted(found)]
        except BaseException:
            stop()
            raise


def get_include():
    """Return the folder that holds ``optcore.h``.

    Returns
    -------
    str

    Examples
    --------
    >>> import os, optcore as oc
    >>> os.path.exists(os.path.join(oc.get_include(), "optcore.h"))
    True
    """
    return str(Path(__file__).parent / "include")


def get_library_dir():
    """Return the folder that holds the static library ``liboptcore.a``.

    Returns
    -------
    str

    Examples
    --------
    >>> import os, optcore as oc
    >>> os.listdir(oc.get_library_dir())
    ['liboptcore.a']
    """
    return str(Path(__file__).parent / "lib")


def show_config():
    """Return what this build is and what it found on this machine.

    Returns
    -------
    dict
        ``version``; ``isa`` (level in use) and ``isa_available``; ``openmp`` (the compiler's ``_OPENMP`` date, or
        None for a serial build); ``num_threads``; ``blas`` (a list of dicts: ``library``, ``version``,
        ``core_type``, ``threads``); ``numpy``.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.show_config()["isa"] in oc.show_config()["isa_available"]
    True
    """
    blas = [
        {"library": b["internal_api"], "version": b["version"], "core_type": b.get("architecture"),
         "threads": b["num_threads"]}
        for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"
    ]
    return {
        "version": __version__,
        "isa": _core.level(),
        "isa_available": _core.available_levels(),
        "openmp": _threads.openmp_version() or None,
        "num_threads": get_num_threads(),
        "blas": blas,
        "numpy": np.__version__,
    }
