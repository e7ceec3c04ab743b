"""The loss of a network over a data set, as a function of theta, with exact Hessian-vector products."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from optcore.nn import losses, passes
from optcore.nn.sequential import Sequential
from optcore.objective import Objective
from optcore.process import one_pool


@dataclass(frozen=True)
class _Point:
    """Everything known at one theta and batch: the records are what a Hessian-vector product starts from."""

    theta: np.ndarray
    batch: np.ndarray | None
    records: list
    loss: float
    grad: np.ndarray
    curvature: Any

    def is_at(self, theta, batch):
        if (batch is None) != (self.batch is None):
            return False
        return _same_bits(theta, self.theta) and (batch is None or np.array_equal(batch, self.batch))


def _same_bits(a, b):
    """Compare as integers: NaN equals itself, and zeros of either sign differ."""
    kind = f"u{a.itemsize}"
    return np.array_equal(a.view(kind), b.view(kind))


class NetworkObjective(Objective):
    """What `optcore.nn.objective` returns; see there."""

    def __init__(self, net, loss, X, y, mode="train", dtype=None):
        if not isinstance(net, Sequential):
            raise TypeError(f"net: expected an optcore.nn network, got {type(net).__name__}")
        if mode not in ("train", "eval"):
            raise ValueError(f'mode: expected "train" or "eval", got {mode!r}')
        dtype = net.dtype if dtype is None else np.dtype(dtype)
        if dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise TypeError(f"dtype: expected float32 or float64, got {dtype.str}")
        self._row = losses.find(loss)
        self._program, self.mode = net.program, mode
        self._buffers = {key: b.astype(dtype if b.dtype == net.dtype else b.dtype)
                         for key, b in net.buffers.items()}
        self._x = _converted("X", X, dtype)
        passes.check_input(self._program, self._x, dtype)
        classes = self._row.classification and np.asarray(y).dtype.kind in "iu"
        self._y = _converted("y", y, np.dtype("int64") if classes else dtype)
        losses.check(self._row, self._y, len(self._x), self._program.out_shape, dtype)
        self._point = None
        super().__init__(theta0=net.theta.astype(dtype), n_examples=len(self._x))

    def loss(self, theta, batch=None):
        """Return the mean loss over the batch; see `optcore.Objective.loss`."""
        theta, batch = self.check_theta(theta), self.check_batch(batch)
        point = self._point
        if point is not None and point.is_at(theta, batch):
            return point.loss
        x, y = self._examples(batch)
        with one_pool:
            z = passes.output(self._program, theta, self._buffers, x, training=self.mode == "train")
            return self._row.value(z, y, gradient=False)[0]

    def loss_and_grad(self, theta, batch=None):
        """Return the mean loss over the batch and its gradient; see `optcore.Objective.loss_and_grad`."""
        point = self._at(self.check_theta(theta), self.check_batch(batch))
        return point.loss, point.grad.copy()

    def hvp(self, theta, v, batch=None):
        """Return the Hessian times v, exact up to rounding; see `optcore.Objective.hvp`."""
        theta, v, batch = self.check_theta(theta), self.check_vector("v", v), self.check_batch(batch)
        point = self._at(theta, batch)
        out = np.empty_like(v)
        with one_pool:
            passes.product(self._program, point.records, v, point.curvature, out)
        return out

    def _examples(self, batch):
        return (self._x, self._y) if batch is None else (self._x[batch], self._y[batch])

    def _at(self, theta, batch):
        """The point, from the last call if it was there: repeated products cost the R-passes only."""
        point = self._point
        if point is None or not point.is_at(theta, batch):
            # Dropped first, so that its memory serves the next one; taken and set as a whole, so that two threads may
            # work on one objective.
            self._point = point = None
            self._point = point = self._evaluated(theta, batch)
        return point

    def _evaluated(self, theta, batch):
        x, y = self._examples(batch)
        grad = np.empty_like(theta)
        with one_pool:
            records = passes.forward(self._program, theta, self._buffers, x, training=self.mode == "train")
            z = records[-1].y
            loss, dz = self._row.value(z, y)
            passes.backward(self._program, records, dz, grad)
            return _Point(theta, batch, records, loss, grad, self._row.curvature(z, y))


def _converted(name, value, dtype):
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return np.ascontiguousarray(array, dtype)


def objective(net, loss, X, y, mode="train", *, dtype=None):
    """Return the loss of a network over a data set as a function of theta.

    The network and its running statistics are never changed: the objective starts from copies of them and
    evaluates at the theta that it is given.

    Parameters
    ----------
    net : Sequential
    loss : {"cross_entropy", "mse", "bce", "huber"} or loss
        A name, or an object with options such as ``CrossEntropy(label_smoothing=0.1)``.
    X : array [N, ...]
        Examples. Converted to `dtype` once where they have another; else not copied, so not to be changed
        afterwards.
    y : array
        For "cross_entropy" class indices [N] or probabilities [N, K]; for the others values of the shape of the
        outputs.
    mode : {"train", "eval"}
        Whether batch norm takes the statistics of the given examples, which then depend on theta, or the
        running ones. "train" is the function that training descends.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic, of theta and of all results; the network's where it is not given. Eigenvalues near
        a fitted minimum need float64.

    Returns
    -------
    Objective
        `loss`, `loss_and_grad`, and `hvp` by the R-operator: with R{.} the derivative along v, the passes
        R{forward} and R{backward} give R{gradient} = H v (Pearlmutter 1994), at the cost of one to two gradients.
        The activations of the last point are kept: products at one (theta, batch) cost these two passes only.

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit the network or each other.

    Notes
    -----
    At a kink of ReLU, ELU or Huber's error the derivative from one side is taken, as PyTorch does; almost everywhere
    the product is exact. All examples are evaluated in one pass, which holds all activations.

    Examples
    --------
    >>> import numpy as np
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(1, 1, bias=False), dtype="float64")
    >>> obj = oc.nn.objective(net, "mse", np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]]))
    >>> obj.loss(np.array([2.0]))  # ((2*1)^2 + (2*2)^2) / 2
    10.0
    >>> obj.hvp(np.array([2.0]), np.array([1.0]))  # mean of 2*x^2
    array([5.])
    """
    return NetworkObjective(net, loss, X, y, mode, dtype)
