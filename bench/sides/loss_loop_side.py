"""The plain C loop with the traffic of a loss and its gradient: one array read, one written."""

import ctypes

import harness
import numpy as np

import optcore as oc

VERSION = "-O3, OpenMP"
library = harness.compile_loops()


def prepare(work, variant):
    z, _ = work.data()
    dz = np.empty_like(z)
    n, one, threads = ctypes.c_ssize_t(z.size), ctypes.c_float(1), oc.get_num_threads()

    def step():
        library.scale(n, harness.pointer(z), harness.pointer(dz), one, one, threads)
        return (dz,)

    return harness.repeated(step), step
