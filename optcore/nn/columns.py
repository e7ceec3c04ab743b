"""Products in several directions, where they begin with one linear layer: made together, with an example a column.

What the product of all their weights with x gives is then in one piece for each of them: the operations behind it work
on that piece as it lies, and leave there what the last product reads. BLAS is faster so, too: a, b with x turned, and
as it is in the gradient.
"""

from dataclasses import replace
from functools import lru_cache
from operator import attrgetter

import numpy as np

from optcore._native.blas import matmul
from optcore._native.dense import turned
from optcore._native.functional import DERIVATIVE_OF, activation_second
from optcore._native.reduce import components
from optcore.nn.ops import OPS, Row

_ONE_CALL = 4e8  # multiplications of one BLAS call beside others; more are cut, for machines of many cores


def by_columns(records):
    """The records with an example a column, made at the first call; the first one's x ends with a row of ones where
    there is a bias."""
    if any(record.columns is None for record in records):  # another thread may do the same, which is in vain but right
        x = turned(records[0].x)
        if "bias" in records[0].params:
            x = np.concatenate([x, np.ones((1, x.shape[1]), x.dtype)])
        for record in records:
            y = turned(record.y)
            record.columns, x = replace(record, x=x, y=y, dy=turned(record.dy)), y
    return [record.columns for record in records]


def _product(a, b, out, apart):
    """`matmul`; or one call of NumPy's BLAS, where other threads have such products of their own and none waits."""
    if apart and out.size * len(b) <= _ONE_CALL:
        np.matmul(a, b, out=out)
    else:
        matmul(a, b, out)


def along_each(r, rparams, apart):
    """R{y} for each direction, [directions, outputs, N], where x does not move."""
    moved = np.empty((len(rparams), *r.y.shape), r.x.dtype)
    weights = np.empty((*moved.shape[:2], len(r.x)), r.x.dtype)
    for to, each in zip(weights, rparams, strict=True):
        inputs = each["weight"].shape[1]
        to[:, :inputs] = each["weight"]
        if "bias" in each:
            to[:, inputs] = each["bias"]
    _product(weights.reshape(-1, len(r.x)), r.x, moved.reshape(-1, moved.shape[2]), apart)
    return moved


def gradient_of_each(x, rdys, rgrads, apart):
    """Write R{gradients} for each direction: x [N, inputs] as it is, R{dy} [directions, outputs, N]."""
    weights = np.empty((*rdys.shape[:2], x.shape[1]), x.dtype)
    _product(rdys.reshape(-1, len(x)), x, weights.reshape(-1, x.shape[1]), apart)
    for rdy, weight, each in zip(rdys, weights, rgrads, strict=True):
        each["weight"][...] = weight
        _sums(rdy, each)


def _sums(dy, grads):
    if "bias" in grads:
        grads["bias"][...] = components(dy, _ones(dy.shape[1], dy.dtype))


@lru_cache(maxsize=4)
def _ones(n, dtype):
    return np.ones(n, dtype)


# ------------------------------------------------------------------------------ linear: y = weight x + bias

def _backward(op, r, grads, need_dx):
    _sums(r.dy, grads)
    matmul(r.dy, r.x, grads["weight"], transpose_b=True)
    dx = np.empty_like(r.x)
    matmul(r.params["weight"], r.dy, dx, transpose_a=True)
    return dx


def _r_forward(op, r, rparams, rx):
    ry = np.empty_like(r.y)
    if "bias" in rparams:
        ry[...] = rparams["bias"][:, None]
    matmul(rparams["weight"], r.x, ry, accumulate="bias" in rparams, plus=(r.params["weight"], rx))
    return ry, None


def _r_backward(op, r, rparams, rx, rsaved, rdy, rgrads, need_dx):
    _sums(rdy, rgrads)
    matmul(rdy, r.x, rgrads["weight"], transpose_b=True, plus=(r.dy, rx))
    rdx = np.empty_like(r.x)
    matmul(r.params["weight"], rdy, rdx, transpose_a=True, plus=(rparams["weight"], r.dy))
    return rdx


# ------------------------------------- activations: as ever, but R{dx} takes the place of rx, which is needed no more

def _activation(name):
    of = attrgetter(DERIVATIVE_OF[name])

    def r_backward(op, r, rparams, rx, rsaved, rdy, rgrads, need_dx):
        return activation_second(name, r.dy, rdy, of(r), rx, **op.options, out=rx)

    return OPS[name]._replace(forward=None, r_backward=r_backward)


COLUMN_OPS = {  # of `BY_COLUMNS`; none has a forward pass: the records are turned
    "linear": Row(None, _backward, _r_forward, _r_backward),
    **{name: _activation(name) for name in DERIVATIVE_OF},
}
