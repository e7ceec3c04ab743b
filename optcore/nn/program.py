"""A network as data.

A `Program` says everything that there is to know about a network but the numbers: its operations in order,
the shapes between them, which slice of the flat vector theta each parameter is, which buffers exist. How an
operation is computed stands elsewhere, keyed by the operation's name (`ops.OPS`), and can change without the
program.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile

import numpy as np

from optcore._native.functional import DERIVATIVE_OF
from optcore.optim.groups import is_bias_or_norm

BY_COLUMNS = frozenset(("linear", *DERIVATIVE_OF))  # the operations that can have an example a column


@dataclass(frozen=True)
class Parameter:
    """A slice of theta: ``theta[start:stop]`` in this shape, and how it starts."""

    name: str
    shape: tuple
    start: int
    init: str
    fan_in: int = 1
    fan_out: int = 1

    @cached_property
    def size(self):
        """Number of elements."""
        return math.prod(self.shape)

    @cached_property
    def stop(self):
        """End of the slice."""
        return self.start + self.size

    def view(self, theta):
        """Return this parameter as a view into the flat vector theta."""
        return theta[self.start:self.stop].reshape(self.shape)


@dataclass(frozen=True)
class Buffer:
    """An array that is not a parameter: its dtype (None for the network's) and what it starts with.

    Where `fill` is None, that is a number drawn from the network's seed.
    """

    name: str
    shape: tuple
    fill: float | None
    dtype: str | None = None


@dataclass(frozen=True)
class Op:
    """One operation: a row of `ops.OPS`, with the shapes of one example and what it works on."""

    name: str
    label: str
    in_shape: tuple
    out_shape: tuple
    params: dict[str, Parameter] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    options: dict = field(default_factory=dict)

    @cached_property
    def size(self):
        """Number of parameters."""
        return sum(p.size for p in self.params.values())


@dataclass(frozen=True)
class Program:
    """A sequence of operations on one flat vector."""

    ops: tuple[Op, ...]
    any_shape: bool = False  # a leading flatten: any input with the right number of values for each example

    @cached_property
    def size(self):
        """Length of theta."""
        return sum(op.size for op in self.ops)

    @property
    def in_shape(self):
        """Shape of one example."""
        return self.ops[0].in_shape

    @property
    def out_shape(self):
        """Shape of one example's output."""
        return self.ops[-1].out_shape

    @cached_property
    def first(self):
        """Index of the first operation that has parameters: nothing before it needs a gradient."""
        return next((i for i, op in enumerate(self.ops) if op.params), len(self.ops))

    @cached_property
    def behind_first(self):
        """The operations after that one: those that can have an example a column, and those behind them."""
        behind = self.ops[self.first + 1:]
        able = tuple(takewhile(lambda op: op.name in BY_COLUMNS, behind))
        return Program(able), Program(behind[len(able):])

    @cached_property
    def by_columns(self):
        """Where products in several directions have an example a column: a slice of the operations, or an empty one."""
        return slice(self.first, self.first + self.shares_input * (1 + len(self.behind_first[0].ops)))

    @property
    def shares_input(self):
        """Whether products in several directions share work: where the first operation with parameters is linear."""
        return any(op.name == "linear" for op in self.ops[self.first:self.first + 1])

    def every_op(self):
        """Yield every operation, and after a residual block those within it."""
        for op in self.ops:
            yield op
            if "program" in op.options:
                yield from op.options["program"].every_op()

    def parameters(self):
        """Yield every `Parameter` in the order of theta."""
        return (p for op in self.ops for p in op.params.values())

    @cached_property
    def weights(self):
        """Where in theta the weights are, (start, stop) of each: what `optcore.optim.is_bias_or_norm` leaves."""
        layers = (op for op in self.every_op() if "program" not in op.options)
        return tuple((p.start, p.stop) for op in layers for p in op.params.values()
                     if not is_bias_or_norm(f"{op.name}.{p.name}", np.broadcast_to(0.0, p.shape)))

    def buffers(self):
        """Yield every `Buffer`."""
        return (b for op in self.ops for b in op.buffers.values())
