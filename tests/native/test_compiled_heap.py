"""The compiled step takes nothing from the heap, runs no Python between layers, and leaves the GIL to others."""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from optcore.nn import LayerNorm, Linear, Sequential
from optcore.nn.compiled import loss_form
from optcore.process import one_pool

HERE = Path(__file__).parent
TIMES = 10      # calls that count_allocations.py counts


def compiled(source, folder, *flags):
    library = folder / "library.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", *flags, "-o", library, HERE / source], check=True)
    return library


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """A library that counts allocations where it is preloaded."""
    return compiled("allocations.c", tmp_path_factory.mktemp("counter"))


def counts(counter, malloc):
    run = subprocess.run([sys.executable, HERE / "count_allocations.py"], check=True, capture_output=True, text=True,
                         env={**os.environ, "LD_PRELOAD": str(counter), "PYTHONMALLOC": malloc,
                              "OMP_WAIT_POLICY": "passive",
                              # OpenBLAS's AVX-512 kernels for small a b pack into memory of the heap: theirs, not ours
                              "OPENBLAS_CORETYPE": "Haswell"})
    return [[int(n) for n in line.split()] for line in run.stdout.splitlines()]


def test_no_allocation_in_a_step(counter):
    """With every layer there is, on one thread and on two; Python's small objects do not count."""
    assert counts(counter, "pymalloc") == [[0, 0, 0]] * 4


def test_no_python_between_layers(counter):
    """With Python's objects counted: a call makes a number for the loss and no more, with 22 layers or with 64."""
    shallow, deep, *two_threads = counts(counter, "malloc")
    assert two_threads == [shallow, deep] == [shallow, shallow]
    assert all(n <= 3 * TIMES for n in shallow), shallow


def test_within_a_region_of_the_host(tmp_path):
    """A serial region is a call outside every region only: within one, libgomp numbers the threads."""
    library = ctypes.CDLL(compiled("host_region.c", tmp_path, "-fopenmp"))
    x, found = np.random.default_rng(0).standard_normal((40, 30), dtype="float32"), {}
    net = Sequential(LayerNorm(30), Linear(30, 3))

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def call(i):
        found[i] = net.predict(x)

    library.in_parallel(call, 2)
    assert [a.tobytes() for a in found.values()] == [net.predict(x).tobytes()] * 2


def test_the_gil_is_free_during_a_pass():
    """A step of tens of milliseconds: another thread counts meanwhile, which it cannot while the GIL is held."""
    net = Sequential(Linear(512, 2048), Linear(2048, 512))
    x, grad, done, counted = np.ones((512, 512), "float32"), np.empty_like(net.theta), threading.Event(), [0]

    def count():
        while not done.is_set():
            counted[0] += 1

    with one_pool:
        network = net.compiled.take(512, True)
        other = threading.Thread(target=count)
        other.start()
        try:
            before = counted[0]
            network.loss_and_grad(x, x, loss_form("mse"), grad)
            during = counted[0] - before
        finally:
            done.set()
            other.join()
    assert during > 1000
