"""The memory of large temporaries is used again, inside `one_pool` only, and nothing else changes."""

import os
import signal
import threading

import numpy as np
import pytest

from optcore._native import pages
from optcore.process import one_pool

LARGE = 1 << 18  # float32 numbers: well above what is kept at all
MOST = 1 << 28
multiarray = getattr(np, "_core", np.core if np.__version__ < "2" else None).multiarray


@pytest.fixture(autouse=True)
def nothing_else_is_kept():
    """Four blocks of a quarter of all that may be kept drive out what other tests left."""
    with one_pool:
        arrays = [np.empty(MOST // 4, "uint8") for _ in range(4)]
        del arrays


def address(a):
    return a.__array_interface__["data"][0]


def test_a_dead_arrays_memory_is_used_again_and_begins_a_cache_line():
    with one_pool:
        a = np.empty(LARGE, "float32")
        first = address(a)
        del a
        kept = pages.kept_bytes()
        b = np.empty(LARGE - 1000, "float32")  # a little smaller: it fits
        assert address(b) == first
        assert first % 64 == 0
        assert pages.kept_bytes() == kept - 4 * LARGE
        c = np.empty(LARGE, "float32")
        assert address(c) != first


def test_much_smaller_and_small_arrays_do_not_take_it():
    with one_pool:
        a = np.empty(4 * LARGE, "float32")
        first = address(a)
        del a
        assert first not in {address(np.empty(n, "float32")) for n in (LARGE, 1000, 1, 0)}


def test_what_is_kept_is_bounded():
    with one_pool:
        arrays = [np.empty(MOST // 4, "uint8") for _ in range(6)]
        arrays += [np.empty(MOST // 1024, "uint8") for _ in range(100)]
        del arrays
        assert MOST // 4 < pages.kept_bytes() <= MOST
        kept = pages.kept_bytes()
        np.empty(MOST + 1, "uint8")  # larger than all that may be kept
        assert pages.kept_bytes() == kept


def test_zeros_are_zero_and_a_resized_array_keeps_its_values():
    with one_pool:
        np.full(LARGE, 7.0, "float32")  # leaves sevens behind
        assert not np.zeros(LARGE, "float32").any()
        for begin, end in ((10, LARGE), (LARGE, 10), (LARGE, 2 * LARGE)):
            a = np.arange(begin, dtype="float32")
            a.resize(end, refcheck=False)
            shared = min(begin, end)
            assert np.array_equal(a[:shared], np.arange(shared))
            assert not a[shared:].any()


def test_only_inside_and_only_this_thread():
    outside = multiarray.get_handler_name()
    seen = {}

    def other():
        seen["other"] = multiarray.get_handler_name()

    def job():
        with one_pool:
            with one_pool:
                seen["nested"] = multiarray.get_handler_name()
            seen["inside"] = multiarray.get_handler_name()
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            seen["array"] = np.ones(LARGE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job()
    kept = seen.pop("array")
    assert seen == {"nested": "optcore_kept", "inside": "optcore_kept", "other": outside}
    assert multiarray.get_handler_name() == outside
    assert multiarray.get_handler_name(kept) == "optcore_kept"
    assert kept.all()  # it outlives the block, and dies by the memory that it came from


def churn(seed, rounds=200):
    rng = np.random.default_rng(seed)
    with one_pool:
        held = []
        for _ in range(rounds):
            held.append(np.full(rng.integers(1, LARGE), seed, "float32"))
            if len(held) > 4:
                assert (held.pop(rng.integers(5)) == seed).all()


def test_threads_never_share_a_block():
    failed = []

    def job(seed):
        try:
            churn(seed)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=job, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_child_forked_while_another_thread_allocates_goes_on():
    stop = threading.Event()

    def job():
        while not stop.is_set():
            churn(1, rounds=5)

    thread = threading.Thread(target=job)
    thread.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                status = 1
                signal.alarm(5)  # ends a child that hangs
                try:
                    churn(2, rounds=5)
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
