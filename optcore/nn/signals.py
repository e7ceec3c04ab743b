"""How a gradient reaches the layers of a network, and which units never answer."""

import math
from dataclasses import replace

import numpy as np

from optcore._native.functional import DERIVATIVE_OF
from optcore.nn.ops import OPS
from optcore.objective import LayerState


def blocks(program):
    """Group the operations: (operation of weights, the last one before the activation, the activation or None)."""
    found = []
    for i, op in enumerate(program.ops):
        if any(len(p.shape) > 1 for p in op.params.values()):
            found.append([i, i, None])
        elif found and op.name in DERIVATIVE_OF:
            found[-1][2] = i if found[-1][2] is None else found[-1][2]
        elif found and op.params and found[-1][2] is None:
            found[-1][1] = i
    return [tuple(block) for block in found]


def states(program, grad, pieces):
    """Return a `LayerState` for each layer of weights.

    Parameters
    ----------
    program : Program
    grad : array [n]
        The gradient over all pieces.
    pieces : iterable of (list of Record, float)
        The records after a backward pass over some of the examples, and the share of these.
    """
    layers = blocks(program)
    squares, alive = np.zeros(len(layers)), [False] * len(layers)
    for records, share in pieces:
        for k, (_, last, active) in enumerate(layers):
            squares[k] += (share * float(np.linalg.norm(records[last].dy.astype(np.float64)))) ** 2
            if active is not None:
                alive[k] = alive[k] | _answering(program.ops[active], records[active])
    return [LayerState(program.ops[first].label, _norm(program.ops[first], grad), math.sqrt(squares[k]),
                       math.nan if active is None else 1 - float(np.mean(alive[k])))
            for k, (first, _, active) in enumerate(layers)]


def _norm(op, grad):
    weights = [p.view(grad) for p in op.params.values() if len(p.shape) > 1]
    return math.sqrt(sum(float(np.linalg.norm(w.astype(np.float64))) ** 2 for w in weights))


def _answering(op, record):
    """Which units (channels) have an activation derivative that is not zero, on some example (at some place)."""
    slope = OPS[op.name].backward(op, replace(record, dy=np.ones_like(record.y)), {}, True)
    return (slope != 0).any(axis=tuple(i for i in range(slope.ndim) if i != 1))
