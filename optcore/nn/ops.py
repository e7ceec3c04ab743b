"""The operations: one row of functions each, in `OPS`.

With f the operation, p its parameters, and R{.} the derivative along a direction (Pearlmutter 1994):

- ``forward(op, record, training, update)``: y = f(p, x)
- ``backward(op, record, grads, need_dx)``: from dy, writes p's gradients into `grads` and returns dx
- ``r_forward(op, record, rparams, rx)``: (R{y}, what r_backward wants to know)
- ``r_backward(op, record, rparams, rx, rsaved, rdy, rgrads, need_dx)``: from R{dy}, writes R{p's gradients}
  and returns R{dx}

``rx`` is None where x does not depend on theta; ``need_dx`` is false there, and dx is then not computed.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from optcore import norm
from optcore._native.blas import matmul
from optcore._native.convolution import convolve_images, convolve_images_backward
from optcore._native.dense import column_sums
from optcore._native.dropout import dropout
from optcore._native.functional import DERIVATIVE_OF, activation, activation_backward, activation_second
from optcore._native.pooling import (
    average_pool,
    average_pool_backward,
    max_pool,
    max_pool_backward,
    max_pool_r,
)


@dataclass(slots=True)
class Record:
    """What an operation leaves behind at one point (theta, x). `dy` is the adjoint of y; `columns` the same with an
    example a column, once `columns.by_columns` has made it."""

    params: dict
    buffers: dict
    x: np.ndarray
    y: Any = None
    saved: Any = None
    dy: Any = None
    columns: Any = None


class Row(NamedTuple):
    """The four passes of one operation."""

    forward: Any
    backward: Any
    r_forward: Any
    r_backward: Any


# ------------------------------------------------------------------------------ linear: y = x weight^T + bias

def _rows(x, columns):
    return np.empty((x.shape[0], columns), x.dtype)


def _affine(x, weight, bias, y, plus=None):
    if bias is not None:
        y[...] = bias
    matmul(x, weight, y, transpose_b=True, accumulate=bias is not None, plus=plus)


def _linear(op, r, training, update):
    weight = r.params["weight"]
    y = _rows(r.x, weight.shape[0])
    _affine(r.x, weight, r.params.get("bias"), y)
    return y


def _linear_backward(op, r, grads, need_dx):
    if "bias" in grads:  # before a product takes dy out of the caches
        column_sums(r.dy, grads["bias"])
    matmul(r.dy, r.x, grads["weight"], transpose_a=True)
    if not need_dx:
        return None
    dx = np.empty_like(r.x)
    matmul(r.dy, r.params["weight"], dx)
    return dx


def _linear_r(op, r, rparams, rx):
    ry = np.empty_like(r.y)
    _affine(r.x, rparams["weight"], rparams.get("bias"), ry, None if rx is None else (rx, r.params["weight"]))
    return ry, None


def _linear_r_backward(op, r, rparams, rx, rsaved, rdy, rgrads, need_dx):
    if "bias" in rgrads:
        column_sums(rdy, rgrads["bias"])
    matmul(rdy, r.x, rgrads["weight"], transpose_a=True, plus=None if rx is None else (r.dy, rx))
    if not need_dx:
        return None
    rdx = np.empty_like(r.x)
    matmul(rdy, r.params["weight"], rdx, plus=(r.dy, rparams["weight"]))
    return rdx


# --------------------------------------------------------------- convolution: as linear, of windows; stride, padding

def _conv2d(op, r, training, update):
    y = np.empty((len(r.x), *op.out_shape), r.x.dtype)
    convolve_images(r.x, r.params["weight"], r.params.get("bias"), y, **op.options)
    return y


def _conv2d_backward(op, r, grads, need_dx):
    dx = np.empty_like(r.x) if need_dx else None
    convolve_images_backward(r.dy, r.x, r.params["weight"], grads["weight"], grads.get("bias"), dx, **op.options)
    return dx


def _conv2d_r(op, r, rparams, rx):
    ry = np.empty_like(r.y)
    convolve_images(r.x, rparams["weight"], rparams.get("bias"), ry, **op.options)
    if rx is not None:
        convolve_images(rx, r.params["weight"], None, ry, **op.options, add=True)
    return ry, None


def _conv2d_r_backward(op, r, rparams, rx, rsaved, rdy, rgrads, need_dx):
    rdx = np.empty_like(r.x) if need_dx else None
    convolve_images_backward(rdy, r.x, r.params["weight"], rgrads["weight"], rgrads.get("bias"), rdx, **op.options)
    if rx is not None:
        convolve_images_backward(r.dy, rx, rparams["weight"], rgrads["weight"], None, rdx, **op.options, add=True)
    return rdx


# ------------------------------------------------------------------------- pools, linear in x where argmax is fixed

def _max_pool2d(op, r, training, update):
    y, r.saved = max_pool(r.x, **op.options)
    return y


def _scatter(op, r, dy):
    return max_pool_backward(dy, r.saved, r.x.shape[2:], **op.options)


_MAX_POOL2D = Row(_max_pool2d,
                  lambda op, r, grads, need_dx: _scatter(op, r, r.dy),
                  lambda op, r, rparams, rx: (max_pool_r(rx, r.saved, **op.options), None),
                  lambda op, r, rparams, rx, rsaved, rdy, rgrads, need_dx: _scatter(op, r, rdy))


def _spread(op, r, dy):
    return average_pool_backward(dy, r.x.shape[2:], **op.options)


_AVG_POOL2D = Row(lambda op, r, training, update: average_pool(r.x, **op.options),
                  lambda op, r, grads, need_dx: _spread(op, r, r.dy),
                  lambda op, r, rparams, rx: (average_pool(rx, **op.options), None),
                  lambda op, r, rparams, rx, rsaved, rdy, rgrads, need_dx: _spread(op, r, rdy))


# ---------------------------------------------- dropout: x times a mask, which seed and number of the pass say again

def _dropout(op, r, training, update):
    if not training:
        return r.x
    seed, passes = r.buffers["seed"], r.buffers["num_passes"]
    if not 0 <= passes < 2**63 - 1:     # the next one would have the number of an earlier one
        raise ValueError(f"num_passes: expected 0 <= num_passes < 2**63 - 1, got {passes}")
    r.saved = (op.options["p"], int(seed), int(passes))
    if update:
        passes += 1
    return dropout(r.x, *r.saved)


def _masked(r, x):
    return x if r.saved is None else dropout(x, *r.saved)


_DROPOUT = Row(_dropout,
               lambda op, r, grads, need_dx: _masked(r, r.dy),
               lambda op, r, rparams, rx: (_masked(r, rx), None),
               lambda op, r, rparams, rx, rsaved, rdy, rgrads, need_dx: _masked(r, rdy))


# ---------------------------------------------------------------------------------------- batch normalization

def _running(op, r):
    """What the derivatives want to know in evaluation mode; in training mode `saved` says it."""
    if r.saved is not None:
        return {}
    running = {key: r.buffers[key] for key in ("running_mean", "running_var")}
    return {**running, "eps": op.options["eps"]}


def _batch_norm(op, r, training, update):
    options = op.options if update else {"eps": op.options["eps"]}
    buffers = r.buffers if update else {} if training else _running(op, r)
    y, r.saved = norm.batch_norm(r.x, **r.params, training=training, **(options | buffers))
    return y


def _batch_norm_backward(op, r, grads, need_dx):
    dx, grads["weight"][...], grads["bias"][...] = norm.batch_norm_backward(
        r.dy, r.x, r.params["weight"], r.saved, **_running(op, r))
    return dx


def _batch_norm_r(op, r, rparams, rx):
    rx = np.zeros_like(r.x) if rx is None else rx
    return norm.batch_norm_jvp(r.x, r.params["weight"], r.saved, rx, rparams["weight"], rparams["bias"],
                               **_running(op, r))


def _batch_norm_r_backward(op, r, rparams, rx, rsaved, rdy, rgrads, need_dx):
    rx = np.zeros_like(r.x) if rx is None else rx
    rdx, rgrads["weight"][...], rgrads["bias"][...] = norm.batch_norm_backward_jvp(
        r.dy, r.x, r.params["weight"], r.saved, rdy, rx, rparams["weight"], rsaved, **_running(op, r))
    return rdx


# -------------------------------------------------------------- layer, RMS, group and instance normalization

def _own_statistics(name):
    """The row of a norm that takes its statistics from each example alone: the same in training and evaluation."""
    forward, backward = getattr(norm, name), getattr(norm, f"{name}_backward")
    jvp, backward_jvp = getattr(norm, f"{name}_jvp"), getattr(norm, f"{name}_backward_jvp")
    keys = ("weight",) if name == "rms_norm" else ("weight", "bias")

    def run(op, r, training, update):
        y, r.saved = forward(r.x, **r.params, **op.options)
        return y

    def put(grads, found):
        for key, gradient in zip(("weight", "bias"), found, strict=True):
            if key in grads:
                grads[key][...] = gradient

    def run_backward(op, r, grads, need_dx):
        dx, *found = backward(r.dy, r.x, r.params.get("weight"), r.saved)
        put(grads, found)
        return dx

    def run_r(op, r, rparams, rx):
        rx = np.zeros_like(r.x) if rx is None else rx
        return jvp(r.x, r.params.get("weight"), r.saved, rx, *map(rparams.get, keys))

    def run_r_backward(op, r, rparams, rx, rsaved, rdy, rgrads, need_dx):
        rx = np.zeros_like(r.x) if rx is None else rx
        rdx, *found = backward_jvp(r.dy, r.x, r.params.get("weight"), r.saved, rdy, rx, rparams.get("weight"), rsaved)
        put(rgrads, found)
        return rdx

    return Row(run, run_backward, run_r, run_r_backward)


# ------------------------------------------ activations, whose derivatives are from the output y or the input x

def _activation(name):
    of = attrgetter(DERIVATIVE_OF[name])

    def r_backward(op, r, rparams, rx, rsaved, rdy, rgrads, need_dx):
        return activation_second(name, r.dy, rdy, of(r), rx, **op.options, out=rdy)

    return Row(lambda op, r, training, update: activation(name, r.x, **op.options),
               lambda op, r, grads, need_dx: activation_backward(name, r.dy, of(r), **op.options),
               lambda op, r, rparams, rx: (activation_backward(name, rx, of(r), **op.options), None),
               r_backward)


# ---------------------------------------------------------------------------------------------------- flatten

_FLATTEN = Row(lambda op, r, training, update: r.x.reshape(r.x.shape[0], op.out_shape[0]),
               lambda op, r, grads, need_dx: r.dy.reshape(r.x.shape),
               lambda op, r, rparams, rx: (rx.reshape(r.y.shape), None),
               lambda op, r, rparams, rx, rsaved, rdy, rgrads, need_dx: rdy.reshape(r.x.shape))


OPS = {
    "linear": Row(_linear, _linear_backward, _linear_r, _linear_r_backward),
    "conv2d": Row(_conv2d, _conv2d_backward, _conv2d_r, _conv2d_r_backward),
    "max_pool2d": _MAX_POOL2D,
    "avg_pool2d": _AVG_POOL2D,
    "dropout": _DROPOUT,
    "batch_norm": Row(_batch_norm, _batch_norm_backward, _batch_norm_r, _batch_norm_r_backward),
    "layer_norm": _own_statistics("layer_norm"),
    "rms_norm": _own_statistics("rms_norm"),
    "group_norm": _own_statistics("group_norm"),
    "instance_norm": _own_statistics("instance_norm"),
    **{name: _activation(name) for name in DERIVATIVE_OF},
    "flatten": _FLATTEN,
}
