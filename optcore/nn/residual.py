"""Residual blocks: an operation that is a program of its own, and the passes over it."""

from dataclasses import dataclass

from optcore.nn import passes
from optcore.nn.layers import Layer, chain, first_shape
from optcore.nn.ops import OPS, Row
from optcore.nn.program import Op, Program


@dataclass(frozen=True, init=False)
class Residual(Layer):
    """``y = x + f(x)``, f the layers one after the other (He et al. 2016).

    Parameters
    ----------
    *layers : Layer
        Whose last output has the shape of the first one's input.

    Notes
    -----
    Parameters and buffers have the names of the layers within the block: ``"1.0.weight"`` of its first layer where the
    block is the network's second.

    Examples
    --------
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Residual(oc.nn.Linear(3, 4), oc.nn.Tanh(), oc.nn.Linear(4, 3)))
    >>> list(net.parameters)
    ['0.0.weight', '0.0.bias', '0.2.weight', '0.2.bias']
    """

    layers: tuple

    def __init__(self, *layers):
        if not layers:
            raise ValueError("layers: expected at least one layer, got none")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers: expected layers of optcore.nn, such as ReLU(), got {layer!r}")
        object.__setattr__(self, "layers", layers)

    def text(self):
        """Return the block as one would type it."""
        return f"Residual({', '.join(layer.text() for layer in self.layers)})"

    @property
    def takes_images(self):
        """Whether the shape of an example must be told."""
        return self.layers[0].takes_images

    @property
    def input_shape(self):
        """Shape of one example where nothing else says it."""
        return first_shape(self.layers)

    def fits(self, shape):
        """Return whether the layer takes examples of this shape; how its layers fit together `plan` checks."""
        return self.layers[0].fits(shape)

    def expected(self):
        """Return what shapes the layer takes, for an error."""
        return self.layers[0].expected()

    def plan(self, label, shape, start):
        """Return the operation."""
        ops = chain(self.layers, shape, start, f"{label}.")
        if ops[-1].out_shape != shape:
            raise ValueError(f"layers: layer {label}, Residual, expected its layers to give the shape that they take, "
                             f"{shape}, got {ops[-1].out_shape}")
        inner = Program(tuple(ops))
        return Op("residual", label, shape, shape, {p.name: p for p in inner.parameters()},
                  {b.name: b for b in inner.buffers()}, {"program": inner})


def _forward(op, r, training, update):
    program = op.options["program"]
    r.saved = passes.forward(program, r.params, r.buffers, r.x, training=training, update_running=update)
    return r.x + r.saved[-1].y


def _backward(op, r, grads, need_dx):
    dx = passes.backward(op.options["program"], r.saved, r.dy, grads, need_dx)
    return r.dy + dx if need_dx else None


def _r_forward(op, r, rparams, rx):
    ry, passed = passes.along(op.options["program"], r.saved, rparams, rx)
    return ry if rx is None else rx + ry, passed


def _r_backward(op, r, rparams, rx, passed, rdy, rgrads, need_dx):
    # A copy: an operation may write into what it is given.
    rdx = passes.backward_along(op.options["program"], r.saved, passed, rdy.copy(), rgrads, need_dx)
    return rdy + rdx if need_dx else None


OPS["residual"] = Row(_forward, _backward, _r_forward, _r_backward)
