"""Objectives over examples that are evaluated batch by batch, and that keep what products start from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from optcore.checks import integer, one_of
from optcore.objective import KINDS, Objective

__all__ = ["BatchedObjective"]

_MEMORY = 2**30  # bytes of activations that are kept where there is more than one batch


@dataclass(frozen=True)
class _Piece:
    """The examples `rows`, their share of all, and the state that products start from (None: not kept)."""

    rows: Any
    share: float
    state: Any


@dataclass(frozen=True)
class _Point:
    """Everything known at one theta and batch."""

    theta: np.ndarray
    batch: np.ndarray | None
    loss: float
    grad: np.ndarray
    pieces: list

    def is_at(self, theta, batch):
        if (batch is None) != (self.batch is None):
            return False
        return _same_bits(theta, self.theta) and (batch is None or np.array_equal(batch, self.batch))


def _same_bits(a, b):
    """Compare as integers: NaN equals itself, and zeros of either sign differ."""
    kind = f"u{a.itemsize}"
    return a is b or np.array_equal(a.view(kind), b.view(kind))


class BatchedObjective(Objective):
    """A mean over examples, evaluated in batches that count by their number of examples.

    The states of the last point (theta, batch) are kept: repeated products cost no new forward pass. With more than
    one batch, those of the first batches are, up to `memory` bytes; the others are evaluated again.

    A subclass gives ``_value(theta, rows)``, the mean loss over the examples `rows` (a slice or an index array);
    ``_evaluate(theta, rows)``, (loss, grad, state); ``_products(state, vs, kind)``, the products with each of a list of
    vectors, with kind "hvp", "gauss_newton" or "fisher"; ``_bytes(state)``; and ``_check_kind(kind)`` where it does not
    have them all. Where it overrides one of those three methods, `multiply` calls it for each vector; such a method is
    not to call `multiply`.

    Parameters
    ----------
    theta0 : array [n]
    n_examples : int
    batch_size : int, optional
        Examples in one evaluation; None for all of them at once.
    memory : int
        Bytes.
    weight : ndarray [n_examples], optional
        What each example counts; then ``_value`` and ``_evaluate`` are weighted means.
    """

    def __init__(self, theta0, n_examples, batch_size=None, memory=_MEMORY, weight=None):
        self.batch_size = None if batch_size is None else integer("batch_size", batch_size)
        self.memory, self.weight = integer("memory", memory), weight
        self._point = None
        super().__init__(theta0=theta0, n_examples=n_examples)

    def loss(self, theta, batch=None):
        """Return the mean loss over the batch; see `optcore.Objective.loss`."""
        theta, batch = self.check_theta(theta), self.check_batch(batch)
        point = self._point
        if point is not None and point.is_at(theta, batch):
            return point.loss
        return sum(share * self._value(theta, rows) for rows, share in self._parts(batch))

    def loss_and_grad(self, theta, batch=None):
        """Return the mean loss over the batch and its gradient; see `optcore.Objective.loss_and_grad`."""
        point = self._at(self.check_theta(theta), self.check_batch(batch))
        return point.loss, point.grad.copy()

    def hvp(self, theta, v, batch=None):
        """Return the Hessian times v, exact up to rounding; see `optcore.Objective.hvp`."""
        return self._mean("hvp", theta, [self.check_vector("v", v)], batch)[0]

    def gauss_newton(self, theta, v, batch=None):
        """Return the Gauss-Newton matrix times v; see `optcore.Objective.gauss_newton`."""
        return self._mean("gauss_newton", theta, [self.check_vector("v", v)], batch)[0]

    def fisher(self, theta, v, batch=None):
        """Return the empirical Fisher matrix times v; see `optcore.Objective.fisher`."""
        return self._mean("fisher", theta, [self.check_vector("v", v)], batch)[0]

    def multiply(self, theta, vs, batch=None, kind="hvp"):
        """Return a matrix times each of several vectors; see `optcore.Objective.multiply`."""
        if getattr(type(self), one_of("kind", kind, KINDS)) is not getattr(BatchedObjective, kind):
            return super().multiply(theta, vs, batch, kind)  # a subclass has a product of its own
        return self._mean(kind, theta, self.check_vectors("vs", vs), batch)

    def _mean(self, kind, theta, vs, batch):
        """The products with vectors that have been checked, over all examples."""
        self._check_kind(kind)
        theta, batch = self._own(theta), self.check_batch(batch)
        totals = [_Mean(self.dtype) for _ in vs]
        for piece in self._at(theta, batch).pieces:
            state = piece.state if piece.state is not None else self._evaluate(theta, piece.rows)[2]
            for total, product in zip(totals, self._products(state, vs, kind), strict=True):
                total.add(product, piece.share)
        return [total.value() for total in totals]

    def _check_kind(self, kind):
        """Raise where there are no such products."""

    def _parts(self, batch):
        """(examples, their share of all) of one evaluation after the other."""
        n = self.n_examples if batch is None else batch.size
        size = self.batch_size or n
        if self.weight is not None:
            total = (self.weight if batch is None else self.weight[batch]).sum()
            if total == 0:
                raise ValueError(f"batch: expected an example with a positive weight, got weight 0 for all {n}: "
                                 "their mean is undefined")
        for start in range(0, n, size):
            part = slice(start, min(start + size, n))
            rows = part if batch is None else batch[part]
            share = (part.stop - part.start) / n if self.weight is None else self.weight[rows].sum() / total
            if share:
                yield rows, share

    def _own(self, theta):
        """A copy of theta that has been checked, to be read only: the last point's, where it is there again."""
        point = self._point
        alike = (point is not None and isinstance(theta, np.ndarray) and theta.dtype == self.dtype
                 and theta.shape == point.theta.shape)
        return point.theta if alike and _same_bits(theta, point.theta) else self.check_theta(theta)

    def _at(self, theta, batch):
        """The point, from the last call if it was there."""
        point = self._point
        if point is None or not point.is_at(theta, batch):
            # Dropped first, so that its memory serves the next one; taken and set as a whole, so that two threads may
            # work on one objective.
            self._point = point = None
            self._point = point = self._evaluated(theta, batch)
        return point

    def _evaluated(self, theta, batch):
        pieces, loss, grad, used = [], 0.0, _Mean(theta.dtype), 0
        for rows, share in self._parts(batch):
            value, gradient, state = self._evaluate(theta, rows)
            loss += share * value
            grad.add(gradient, share)
            used += self._bytes(state)
            pieces.append(_Piece(rows, share, state if used <= self.memory or share == 1 else None))
        return _Point(theta, batch, loss, grad.value(), pieces)


class _Mean:
    """A weighted mean of arrays, added up in double; one array of weight 1 stays as it is."""

    def __init__(self, dtype):
        self.dtype, self.total = dtype, None

    def add(self, array, share):
        if share == 1:
            self.total = array
        elif self.total is None:
            self.total = share * array.astype(np.float64)
        else:
            self.total += share * array.astype(np.float64)

    def value(self):
        return self.total.astype(self.dtype, copy=False)
