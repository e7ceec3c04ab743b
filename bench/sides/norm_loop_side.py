"""Plain C loops with a norm's traffic: once over the arrays, or reading first what a result depends on ("twice"), with
the sums in double that exact statistics ask for ("in double", and for norms of rows row by row "rows in double"); or
("past") once, and writing past the caches."""

import ctypes

import harness
import numpy as np

import optcore as oc

VERSION = "-O3, OpenMP"
library = harness.compile_loops()


def prepare(work, variant):
    x, dy, w, b = work.data()
    y, dx = np.empty_like(x), np.empty_like(x)
    if variant == "rows in double":
        return _rows_in_double(work, x, dy, w, b, y, dx)
    n, one, threads = ctypes.c_ssize_t(x.size), ctypes.c_float(1), oc.get_num_threads()

    scale, blend = (library.scale_past, library.blend_past) if variant == "past" else (library.scale, library.blend)

    def read(*arrays):
        if variant == "in double":
            library.sum_in_double(n, harness.pointer(arrays[0]), harness.pointer(arrays[-1]), threads)
        for a in arrays if variant == "twice" else ():
            library.read_all(n, harness.pointer(a), threads)

    def step():
        read(x)
        scale(n, harness.pointer(x), harness.pointer(y), one, one, threads)
        if work.backward:
            read(x, dy)
            blend(n, harness.pointer(x), harness.pointer(dy), harness.pointer(dx), one, one, threads)

    return harness.repeated(step), lambda: [y]


def _rows_in_double(work, x, dy, w, b, y, dx):
    rows, columns, threads = ctypes.c_ssize_t(x.size // w.size), ctypes.c_ssize_t(w.size), oc.get_num_threads()
    centred, sums = work.name == "layer_norm", np.zeros((threads, 2, w.size))
    held = x, dy, w, b, y, dx, sums
    x_at, dy_at, w_at, b_at, y_at, dx_at, sums_at = map(harness.pointer, held)

    def step(_held=held):
        library.rows_in_double(rows, columns, x_at, w_at, b_at, y_at, centred, threads)
        if work.backward:
            sums[:] = 0
            library.rows_backward_in_double(rows, columns, dy_at, x_at, w_at, dx_at, sums_at, centred, threads)

    return harness.repeated(step), lambda: [y]
