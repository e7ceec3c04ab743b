"""The plain C loop: the limit. One flat array of as many parameters, no call from Python in between.

``variant`` says where in a cache line its arrays begin: "aligned", or "as NumPy's" like the parameters of the others;
"apart" is as many arrays as there are tensors, of one size, where those of the others begin. optcore's side runs it
over optcore's own arrays.
"""

import ctypes
import math

import harness
import numpy as np
from work import BFLOAT16, BFLOAT16_STATES, FLOAT32, INT8_STATES, NUMPY_OFFSET, Work, array_at

import optcore as oc

VERSION = "-O3, OpenMP"
# Below, one thread is faster than two: waking the other takes longer than its share of the work.
WORTH_TWO = 16384
NAMES = {"Adam": "adamw", "AdamW": "adamw", "SGD": "momentum", "Adagrad": "adagrad", "RMSprop": "rmsprop",
         "Lion": "lion"}
KEPT = {FLOAT32: "", BFLOAT16_STATES: "_half_states", BFLOAT16: "_half", INT8_STATES: "_bytes"}
BLOCK = 256  # parameters, which have a scale together where states are bytes

library = harness.compile_loops()


class Options(ctypes.Structure):
    """struct options of loops.c."""

    _fields_ = [("t", ctypes.c_double), ("threads", ctypes.c_int),
                *((name, ctypes.c_float) for name in ("lr", "weight_decay", "beta1", "beta2", "eps", "clip_norm"))]


class Arrays(ctypes.Structure):
    """struct arrays of loops.c."""

    _fields_ = [("tensors", ctypes.c_ssize_t), ("sizes", ctypes.POINTER(ctypes.c_ssize_t)),
                *((name, ctypes.POINTER(ctypes.c_void_p)) for name in "pgmv"),
                *((f"block_{name}", ctypes.c_ssize_t) for name in "pgmv")]


def prepare(work, variant):
    offset = 0 if variant == "aligned" else NUMPY_OFFSET
    shapes = work.shapes if variant == "apart" else ((work.size,),)
    params, grads = Work(work.rule, shapes, storage=work.storage).data(offset)
    bytes_of = [math.prod(shape) * _block_of_state(work) // BLOCK for shape in shapes]
    states = [[array_at((count,), np.uint8, offset) for count in bytes_of] for _ in range(2)]
    return over(work, params, grads, *states), lambda: params[:1]


def _block_of_state(work):
    """Bytes of a BLOCK of a state: with its scale, where elements are bytes."""
    return BLOCK * work.storage.state_size + (4 if work.storage == INT8_STATES else 0)


def over(work, *held, name=None):
    """The loop over lists of arrays: parameters, gradients, and two states, of which a rule may use one.

    With the ``name`` "move" another one in its place, that moves the bytes and does no more.
    """
    count = len(held[0])
    pointers = [(ctypes.c_void_p * count)(*(a.ctypes.data for a in each)) for each in held]
    blocks = [BLOCK * work.storage.size] * 2 + [BLOCK * work.storage.state_size if name else _block_of_state(work)] * 2
    arrays = Arrays(count, (ctypes.c_ssize_t * count)(*(a.size for a in held[0])), *pointers, *blocks)
    options = Options(t=0, threads=oc.get_num_threads() if work.size > WORTH_TWO else 1, clip_norm=work.clip_norm or 0,
                      **_translated(work.options))
    loop = getattr(library, (name or NAMES[work.rule]) + KEPT[work.storage])

    def run(count, _held=held):
        loop(ctypes.c_ssize_t(count), ctypes.byref(arrays), ctypes.byref(options))

    return run


def _translated(options):
    beta1, beta2 = options.get("betas", (options.get("momentum", 0), options.get("alpha", 0)))
    return {"lr": options["lr"], "weight_decay": options.get("weight_decay", 0), "beta1": beta1, "beta2": beta2,
            "eps": options.get("eps", 0)}
