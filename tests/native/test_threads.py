"""The thread authority: resolution, overrides, forks."""

import hashlib
import importlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import optcore as oc
from optcore import process
from optcore.process import one_pool


def python(code, **env):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True,
                          check=False)


def ended_within(child, seconds):
    """Return whether the child ends well in time; it is gone afterwards."""
    deadline = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    return ended == (child, 0)


@pytest.fixture(autouse=True)
def restored():
    before = oc.get_num_threads()
    yield
    oc.set_num_threads(before)


def test_settings():
    oc.set_num_threads(3)
    assert oc.get_num_threads() == 3
    with oc.threads(5):
        assert oc.get_num_threads() == 5
        with oc.threads(2):
            assert oc.get_num_threads() == 2
        assert oc.get_num_threads() == 5
    assert oc.get_num_threads() == 3


def test_an_override_belongs_to_its_python_thread():
    oc.set_num_threads(3)
    seen = []
    with oc.threads(5):
        t = threading.Thread(target=lambda: seen.append(oc.get_num_threads()))
        t.start()
        t.join()
    assert seen == [3]


def test_an_override_ends_with_an_exception():
    oc.set_num_threads(3)
    with pytest.raises(KeyError), oc.threads(2):
        raise KeyError
    assert oc.get_num_threads() == 3


@pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (-1, ValueError), (10**6, ValueError),
                                            (1.5, TypeError), ("2", TypeError), (None, TypeError)])
def test_bad_counts(bad, error):
    with pytest.raises(error, match="n: expected"):
        oc.set_num_threads(bad)
    with pytest.raises(error, match="n: expected"), oc.threads(bad):
        pass


@pytest.mark.parametrize("threads", [2, 5, 70])
def test_bits_when_threads_take_from_each_other(threads):
    """Of many tasks each; 70 threads are more than have shares, and on fewer cores late ones find less to do."""
    rng = np.random.default_rng(3)
    outputs = []
    rows, segments = rng.standard_normal((30_000, 96), "float32"), rng.standard_normal((40, 300, 15, 15), "float32")
    w, b = rng.standard_normal((2, 96), "float32")
    target = rng.integers(0, 96, len(rows))
    for count in (1, threads):
        with oc.threads(count):
            y, saved = oc.norm.batch_norm(rows, w, b, training=True)
            out = [y, *oc.norm.batch_norm_backward(rows, rows, w, saved)]
            y, saved = oc.norm.batch_norm(segments, training=True)
            out += [y, *oc.norm.batch_norm_backward(segments, segments, None, saved)[:1]]
            y, saved = oc.norm.layer_norm(rows, w, b)
            out += [y, *oc.norm.layer_norm_backward(rows, rows, w, saved)]
            y, saved = oc.norm.group_norm(segments, 30)
            out += [y, oc.norm.group_norm_backward(segments, segments, None, saved)[0]]
            loss, dz = oc.functional.cross_entropy(rows, target)
            outputs.append([loss, *(x.tobytes() for x in [*out, dz])])
    assert outputs[0] == outputs[1]


def test_environment():
    show = "import optcore as oc; print(oc.get_num_threads())"
    assert python(show, OPTCORE_NUM_THREADS="3").stdout == "3\n"
    assert python(show, OMP_NUM_THREADS="1").stdout == "1\n"
    assert "OPTCORE_NUM_THREADS: expected an integer from 1 to 4096, got 'many'" in python(
        show, OPTCORE_NUM_THREADS="many").stderr
    wrong = python(show, OPTCORE_ISA="v9").stderr
    assert "OPTCORE_ISA: expected one of baseline" in wrong
    assert "got 'v9'" in wrong


def test_a_forked_child_steps_with_the_right_bits():
    """libgomp's pool is started in the parent; the child has to end within five seconds all the same."""
    def step(opt, theta):
        for k in range(3):
            opt.step(np.full_like(theta, k + 1))
        return hashlib.sha256(theta.tobytes()).digest()

    with oc.threads(2):
        theta = np.linspace(-1, 1, 300_000)
        opt = oc.optim.AdamW(theta, lr=0.1, clip_norm=1.0)
        opt.step(np.ones_like(theta))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, step(opt, theta) + (b"serial" if oc.get_num_threads() == 1 else b""))
            os._exit(0)
        os.close(write)
        assert ended_within(child, 5), "the child hung"
        assert os.read(read, 100) == step(opt, theta) + b"serial"
        os.close(read)


def test_the_gil_is_released_in_a_step():
    """Another Python thread makes progress while one large step runs."""
    theta = np.zeros(20_000_000, "float32")
    grad = np.ones_like(theta)
    opt = oc.optim.Adam(theta)
    opt.step(grad)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    t = threading.Thread(target=tick)
    t.start()
    with oc.threads(1):
        begin = time.perf_counter()
        opt.step(grad)
        end = time.perf_counter()
    stop.set()
    t.join()
    assert sum(begin < x < end for x in ticks) >= 2


def test_one_pool_holds_blas_to_one_thread_and_puts_it_back():
    before = [b["threads"] for b in oc.show_config()["blas"]]
    with one_pool:
        with one_pool:
            assert {b["threads"] for b in oc.show_config()["blas"]} == {1}
        assert {b["threads"] for b in oc.show_config()["blas"]} == {1}
    assert [b["threads"] for b in oc.show_config()["blas"]] == before


def test_one_pool_holds_scipys_blas_too():
    """In a process that has not imported SciPy: its BLAS can be a library of its own, with threads of its own."""
    code = ("from optcore.process import one_pool\nwith one_pool:\n    import scipy.linalg.cython_blas, optcore as oc\n"
            "    print({b['threads'] for b in oc.show_config()['blas']})")
    assert python(code).stdout == "{1}\n"  # not the empty set: at least one copy, and all of them held


def test_a_fork_while_another_thread_looks_for_blas(monkeypatch):
    """Looking takes long, and a child finds a lock that another thread held at the fork taken for ever."""
    pool, found, looking, go_on = process._OnePool(), importlib.import_module, threading.Event(), threading.Event()

    def slow(name):
        if threading.current_thread() is not threading.main_thread():
            looking.set()
            go_on.wait(30)
        return found(name)

    def enter():
        with pool:
            pass

    monkeypatch.setattr(importlib, "import_module", slow)
    thread = threading.Thread(target=enter)
    thread.start()
    assert looking.wait(30)
    child = os.fork()
    if child == 0:
        enter()
        os._exit(0)
    go_on.set()
    thread.join()
    assert ended_within(child, 5), "the child hung"


def test_show_config():
    config = oc.show_config()
    assert config["version"] == oc.__version__
    assert config["isa"] in config["isa_available"]
    assert config["isa_available"][0] == "baseline"
    assert {"library", "version", "core_type", "threads"} == set(config["blas"][0])
