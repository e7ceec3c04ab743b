"""The plain C loop: the limit. One flat array of as many parameters, no call from Python in between.

``variant`` says where in a cache line its arrays begin: "aligned", or "as NumPy's" like the parameters of the others.
"""

import ctypes

import harness
import numpy as np
from work import NUMPY_OFFSET, Work, array_at

import optcore as oc

VERSION = "-O3, OpenMP"
# Below, one thread is faster than two: waking the other takes longer than its share of the work.
WORTH_TWO = 16384
NAMES = {"Adam": "adamw", "AdamW": "adamw", "SGD": "momentum", "Adagrad": "adagrad", "RMSprop": "rmsprop",
         "Lion": "lion"}

library = harness.compile_loops()


class Options(ctypes.Structure):
    """struct options of loops.c."""

    _fields_ = [("t", ctypes.c_double), ("threads", ctypes.c_int),
                *((name, ctypes.c_float) for name in ("lr", "weight_decay", "beta1", "beta2", "eps", "clip_norm"))]


def prepare(work, variant):
    offset = {"aligned": 0, "as NumPy's": NUMPY_OFFSET}[variant]
    size = work.size
    (p,), (g,) = Work(work.rule, ((size,),)).data(offset)
    m, v = (array_at((size,), np.float32, offset) for _ in range(2))
    options = Options(t=0, threads=oc.get_num_threads() if size > WORTH_TWO else 1, clip_norm=work.clip_norm or 0,
                      **_translated(work.options))
    loop = getattr(library, NAMES[work.rule])
    given = (ctypes.c_ssize_t(size), *map(harness.pointer, (p, g, m, v)), ctypes.byref(options))
    held = (p, g, m, v)

    def run(count, _held=held):
        loop(ctypes.c_ssize_t(count), *given)

    return run, lambda: [p]


def _translated(options):
    beta1, beta2 = options.get("betas", (options.get("momentum", 0), options.get("alpha", 0)))
    return {"lr": options["lr"], "weight_decay": options.get("weight_decay", 0), "beta1": beta1, "beta2": beta2,
            "eps": options.get("eps", 0)}
