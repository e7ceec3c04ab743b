"""The passes over a program: forward, backward, and products with the Hessian.

A pass is a function of (program, theta, buffers, x) and holds no state, so that an analysis can look
anywhere without moving the network. Whoever calls one holds the pool (`process.one_pool`).
"""

import math
from dataclasses import replace

import numpy as np

from optcore._native.dense import turned
from optcore.checks import array
from optcore.nn.columns import COLUMN_OPS, along_each, by_columns, gradient_of_each
from optcore.nn.ops import OPS, Record


def check_input(program, x, dtype):
    """Raise unless x is an array [N, *in_shape] of this dtype, C-contiguous."""
    array("x", x)
    if x.dtype != dtype:
        raise TypeError(f"x: expected dtype {dtype}, that of the network, got {x.dtype}")
    fits = x.shape[1:] == program.in_shape
    if program.any_shape:
        fits = x.ndim >= 2 and math.prod(x.shape[1:]) == math.prod(program.in_shape)
    if x.ndim < 1 or not fits:
        shape = ", ".join(["N", *map(str, program.in_shape)])
        raise ValueError(f"x: expected shape [{shape}], got {list(x.shape)}")
    if not x.flags.c_contiguous:
        raise ValueError(f"x: expected a C-contiguous array, got strides {x.strides} for shape {x.shape}")


def _views(op, vector):
    """The parameters of an operation: slices of a flat vector or, within a residual block, of a mapping by name."""
    if isinstance(vector, dict):
        return {key: vector[p.name] for key, p in op.params.items()}
    return {key: p.view(vector) for key, p in op.params.items()}


def forward(program, theta, buffers, x, *, training=False, update_running=False):
    """Run the operations and keep what the other passes need.

    Parameters
    ----------
    program : Program
    theta : ndarray [n] or dict of name to ndarray
        The parameters.
    buffers : mapping of name to ndarray
        Written only with `update_running`.
    x : ndarray [N, ...]
        In the dtype of theta.
    training : bool
        Normalise with the statistics of x instead of the running ones, and drop out.
    update_running : bool
        Move the running statistics and dropout's counters; only with `training`.

    Returns
    -------
    list of Record
        One for each operation; the last one's ``y`` is the output.
    """
    records = []
    for op in program.ops:
        record = Record(_views(op, theta), {key: buffers[b.name] for key, b in op.buffers.items()}, x)
        x = record.y = OPS[op.name].forward(op, record, training, update_running)
        records.append(record)
    return records


def output(program, theta, buffers, x, *, training=False):
    """Run the operations and keep nothing but the output."""
    for op in program.ops:
        record = Record(_views(op, theta), {key: buffers[b.name] for key, b in op.buffers.items()}, x)
        x = OPS[op.name].forward(op, record, training, False)
    return x


def backward(program, records, dy, grad, need_dx=False, rows=OPS):
    """Write the gradient into `grad`, flat or by name, and each output's adjoint into the records.

    Returns the adjoint of the input where it is asked for.
    """
    first = 0 if need_dx else program.first
    for i in range(len(records) - 1, first - 1, -1):
        op, record = program.ops[i], records[i]
        record.dy = dy
        dy = rows[op.name].backward(op, record, _views(op, grad), need_dx or i > first)
    return dy


def products(program, records, vs, middle, outs, whole=True, apart=False):
    """Write the Hessian times each v into its out: the derivative of both passes along v (Pearlmutter 1994).

    A first operation that is linear takes all directions at once: its products all have x for an operand, which BLAS
    then reads and packs once. What is behind it works by columns as far as it can (`optcore.nn.columns`).

    Parameters
    ----------
    program : Program
    records : list of Record
        As `forward` and `backward` left them; not changed, but that they keep their `columns`.
    vs : sequence of ndarray [n]
    middle : callable
        From the derivative of the output to that of its adjoint; may write into it.
    outs : sequence of ndarray [n]
    whole : bool
        False: J' M J v instead, with J the Jacobian of the outputs and M what `middle` multiplies by.
    apart : bool
        Other threads make such products too: those for all directions at once are not cut for threads.
    """
    first = program.first
    if len(vs) == 1 or not program.shares_input:
        for v, out in zip(vs, outs, strict=True):
            _down_and_up(program, records, v, None, middle, out, whole, need_dx=False)
        return
    op, (columns, rest) = program.ops[first], program.behind_first
    split = program.by_columns.stop
    record, *behind = by_columns(records[program.by_columns])
    with np.errstate(all="ignore"):  # as our own products: whoever asks for them looks whether they are finite
        pieces = along_each(record, [_views(op, v) for v in vs], apart)
        for v, piece, out in zip(vs, pieces, outs, strict=True):
            def rest_and_middle(rz, v=v, out=out):
                return turned(_down_and_up(rest, records[split:], v, turned(rz), middle, out, whole, need_dx=True))
            rdy = _down_and_up(columns, behind, v, piece, rest_and_middle, out, whole, True, COLUMN_OPS)
            if rdy is not piece:  # an activation leaves it there
                piece[...] = rdy
        gradient_of_each(records[first].x, pieces, [_views(op, out) for out in outs], apart)


def _down_and_up(program, records, v, rx, middle, out, whole, need_dx, rows=OPS):
    rz, passed = along(program, records, v, rx, rows)
    if rz is None:  # no parameters at all
        return None
    if whole:
        return backward_along(program, records, passed, middle(rz), out, need_dx, rows)
    return backward(program, [replace(record) for record in records], middle(rz), out, need_dx, rows)


def along(program, records, v, rx=None, rows=OPS):
    """Move theta along v and the input along rx (None: not at all).

    Returns the derivative of the output (None where nothing moves), and of each operation what its own was made of.
    """
    passed = []
    for op, record in zip(program.ops, records, strict=True):
        rparams, ry, rsaved = _views(op, v), None, None
        if op.params or rx is not None:
            ry, rsaved = rows[op.name].r_forward(op, record, rparams, rx)
        passed.append((rparams, rx, rsaved))
        rx = ry
    return rx, passed


def backward_along(program, records, passed, rdy, out, need_dx=False, rows=OPS):
    """Write the derivative of the gradient into `out`; return that of the input's adjoint where it is asked for."""
    first = 0 if need_dx else program.first
    for i in range(len(records) - 1, first - 1, -1):
        op = program.ops[i]
        rdy = rows[op.name].r_backward(op, records[i], *passed[i], rdy, _views(op, out), need_dx or i > first)
    return rdy
