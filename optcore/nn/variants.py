"""Networks beside a network: what helps a gradient on its way through the layers, as copies to try."""

from itertools import pairwise

import numpy as np

from optcore.nn import init, layers, norms
from optcore.nn.sequential import Sequential
from optcore.nn.signals import blocks
from optcore.objective import Variant

_SATURATING = ("sigmoid", "tanh")


def variants(obj, net_layers, program, theta, beside, seed=0):
    """Return the `Variant` of each change that can be made: weights drawn anew, batch norm, another activation.

    Parameters
    ----------
    obj : Objective
        Of the network itself.
    net_layers : tuple of Layer
    program : Program
        Of these layers.
    theta : array [n]
        Not changed.
    beside : callable
        Another network -> its objective over the same data.
    seed : int
        Of the weights that are drawn.
    """
    weights = blocks(program)
    last = max((first for first, *_ in weights), default=0)  # an activation behind it belongs to the loss
    saturating = any(op.name in _SATURATING for op in program.ops[:last])
    scheme = "xavier_uniform" if saturating else "kaiming_uniform"
    labels = [program.ops[first].label for first, *_ in weights]
    found = [Variant(f"weights drawn by {scheme}, biases 0", obj, _redrawn(program, theta, scheme, seed, labels))]
    found += [Variant(f"weights of layer {label} drawn by {scheme}, its bias 0", obj,
                      _redrawn(program, theta, scheme, seed, [label]), label) for label in labels]
    normed = any("norm" in op.name for op in program.every_op())
    if obj.mode == "train" and not normed and any(active is not None for *_, active in weights):
        found.append(_rebuilt("batch norm before each activation", program, theta, beside,
                              _normalized(net_layers, program)))
    if saturating:
        found.append(_rebuilt("ReLU in place of each saturating activation", program, theta, beside, [
            (layers.ReLU() if i < last and isinstance(x, layers.Sigmoid | layers.Tanh) else x, i)
            for i, x in enumerate(net_layers)]))
    return tuple(found)


def _redrawn(program, theta, scheme, seed, labels):
    """theta with these layers of weights, and the norms behind them, at a new start."""
    theta, rng = theta.copy(), np.random.default_rng(seed)
    starts = [*(first for first, *_ in blocks(program)), len(program.ops)]
    for first, after in pairwise(starts):
        for op in program.ops[first:after] if program.ops[first].label in labels else ():
            for p in op.params.values():
                start = scheme if len(p.shape) > 1 else "zeros" if op is program.ops[first] else p.init
                p.view(theta)[...] = init.draw(start, rng, p.shape, p.fan_in, p.fan_out)
    return theta


def _normalized(net_layers, program):
    """(layer, its old place or None), with a batch norm before each activation behind a layer of weights."""
    before = {active for *_, active in blocks(program) if active is not None}
    for i, layer in enumerate(net_layers):
        if i in before:
            yield norms.BatchNorm(program.ops[i].in_shape[0]), None
        yield layer, i


def _rebuilt(name, program, theta, beside, placed):
    """The network of (layer, old place), with the old weights where there is an old place."""
    placed = list(placed)
    net = Sequential(*(layer for layer, _ in placed), dtype=theta.dtype, input_shape=program.in_shape)
    for (_, old), op in zip(placed, net.program.ops, strict=True):
        if old is not None:
            for key, p in op.params.items():
                p.view(net.theta)[...] = program.ops[old].params[key].view(theta)
    return Variant(name, beside(net), net.theta.copy())
