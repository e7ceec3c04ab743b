"""Plain C loops: the bytes of a loss and its gradient, one array read and one written; and ("arithmetic") the loss and
its gradient, the sums in float."""

import ctypes

import harness
import numpy as np

import optcore as oc

VERSION = "-O3, OpenMP"
library = harness.compile_loops()


def prepare(work, variant):
    z, target = work.data()
    dz, loss = np.empty_like(z), np.zeros(len(z), np.float32)
    n, one, threads = ctypes.c_ssize_t(z.size), ctypes.c_float(1), oc.get_num_threads()
    rows, classes, share = ctypes.c_ssize_t(len(z)), ctypes.c_ssize_t(z.shape[1]), ctypes.c_float(1 / len(z))

    def step():
        if variant == "arithmetic":
            library.cross_entropy(rows, classes, harness.pointer(z), harness.pointer(target), harness.pointer(dz),
                                  share, harness.pointer(loss), threads)
        else:
            library.scale(n, harness.pointer(z), harness.pointer(dz), one, one, threads)

    def result():
        step()
        return loss.mean(), dz

    return harness.repeated(step), result
