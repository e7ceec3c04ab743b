"""The loss of a network over a data set, as a function of theta, with exact Hessian-vector products."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from optcore.batched import BatchedObjective
from optcore.checks import float_dtype, one_of
from optcore.nn import losses, passes, signals
from optcore.nn.penalty import penalty_of
from optcore.nn.sequential import Sequential
from optcore.nn.variants import variants
from optcore.objective import filters_of
from optcore.objective.vectors import reals
from optcore.process import is_apart, one_pool

_TOGETHER = 5  # directions in one product with X: more gain little, and each holds what its own analysis needs


class NetworkObjective(BatchedObjective):
    """What `optcore.nn.objective` returns; see there."""

    lower_bound = 0.0
    concurrent = True

    def __init__(self, net, loss, X, y, mode="train", dtype=None, sample_weight=None, l1=0.0, l2=0.0, **batches):
        if not isinstance(net, Sequential):
            raise TypeError(f"net: expected an optcore.nn network, got {type(net).__name__}")
        one_of("mode", mode, ("train", "eval"))
        dtype = net.dtype if dtype is None else float_dtype("dtype", dtype)
        self._row, self._layers = losses.find(loss), net.layers
        self._program, self.mode, self._penalty = net.program, mode, penalty_of(net.program, l1, l2)
        self._buffers = {key: b.astype(dtype if b.dtype == net.dtype else b.dtype)
                         for key, b in net.buffers.items()}
        # In batches X is converted batch by batch: it may be a file that is larger than memory.
        self._x = _unread("X", X) if batches.get("batch_size") is not None else _converted("X", X, dtype)
        classes = self._row.classification and np.asarray(y).dtype.kind in "iu"
        self._y = _converted("y", y, np.dtype("int64") if classes else dtype)
        first = _converted("X", self._x[:1], dtype)
        check_examples(self._program, self._row, first, self._y, dtype, n=len(self._x))
        own = self._row.own_weights(self._y)
        weight = self._sample_weight = losses.check_weights(sample_weight, self._x, own)
        if own is not None:
            weight = own if weight is None else own * weight
        self._beside = partial(NetworkObjective, loss=loss, X=self._x, y=self._y, mode=mode, dtype=dtype,
                               sample_weight=sample_weight, l1=l1, l2=l2, **batches)
        self.together = _TOGETHER if self._program.shares_input else 1
        super().__init__(net.theta.astype(dtype), len(self._x), weight=weight, **batches)

    def _check_kind(self, kind):
        mixes = self.mode == "train" and any(op.name == "batch_norm" for op in self._program.every_op())
        if kind == "fisher" and mixes:
            raise ValueError('mode: expected "eval" for the empirical Fisher matrix, got "train": under batch norm an '
                             "example has no gradient of its own")

    def check_vector(self, name, v):
        """Return a direction in the objective's dtype: v itself where it has it, as products only read it."""
        return np.require(reals(name, v, self.size, self.dtype), self.dtype, "CA")

    def filters(self):
        """Return (start, stop) in theta of each filter; see `optcore.Objective.filters`."""
        return filters_of((p.start, p.shape) for p in self._program.parameters())

    def layers(self, theta, batch=None):
        """Return how the gradient reaches each layer of weights; see `optcore.Objective.layers`."""
        theta, batch = self.check_theta(theta), self.check_batch(batch)
        grad = self.loss_and_grad(theta, batch)[1]
        pieces = self._at(theta, batch).pieces
        return signals.states(self._program, grad, (
            ((piece.state or self._evaluate(theta, piece.rows)[2]).records, piece.share) for piece in pieces))

    def variants(self, theta, seed=0):
        """Return networks with better weights, with batch norm, with ReLU; see `optcore.Objective.variants`."""
        return variants(self, self._layers, self._program, self.check_theta(theta), self._beside, seed)

    def _examples(self, rows):
        weight = {} if self._sample_weight is None else {"sample_weight": self._sample_weight[rows]}
        return _converted("X", self._x[rows], self.dtype), self._y[rows], weight

    def _value(self, theta, rows):
        x, y, weight = self._examples(rows)
        with one_pool:
            z = passes.output(self._program, theta, self._buffers, x, training=self.mode == "train")
            loss = self._row.value(z, y, gradient=False, **weight)[0]
            return loss if self._penalty is None else loss + self._penalty.value(theta)

    def _evaluate(self, theta, rows):
        x, y, weight = self._examples(rows)
        grad = np.empty_like(theta)
        with one_pool:
            records = passes.forward(self._program, theta, self._buffers, x, training=self.mode == "train")
            z = records[-1].y
            loss, dz = self._row.value(z, y, **weight)
            passes.backward(self._program, records, dz, grad)
            if self._penalty is not None:
                loss += self._penalty.add_gradient(theta, grad)
            return loss, grad, _State(records, dz, self._row.curvature(z, y, **weight), **weight)

    def _products(self, state, vs, kind):
        outs = np.empty((len(vs), self.size), self.dtype)
        middle = state.outer if kind == "fisher" else state.curvature
        with one_pool:
            passes.products(self._program, state.records, vs, middle, outs, whole=kind == "hvp", apart=is_apart())
            if self._penalty is not None and kind != "fisher":
                for v, out in zip(vs, outs, strict=True):
                    self._penalty.add_product(v, out)
        return outs

    def _bytes(self, state):
        records = [*state.records, *state.records[self._program.by_columns]]  # those `by_columns` may turn count twice
        return sum(record.x.nbytes + 2 * record.y.nbytes for record in records)


class _State(NamedTuple):
    """What a product at one theta over some examples starts from."""

    records: list
    dz: np.ndarray
    curvature: Any  # the loss's Hessian with respect to the outputs, times its argument
    sample_weight: Any = None

    def outer(self, rz):
        """sum_i dz_i dz_i' N times rz: dz_i, the adjoint of example i, holds a factor 1/N, or w_i / sum of w."""
        n = len(rz)
        slopes = (self.dz * rz).reshape(n, -1).sum(axis=1)
        if self.sample_weight is None:
            slopes *= n
        else:
            w = self.sample_weight
            slopes *= np.divide(w.sum(), w, out=np.zeros_like(w), where=w > 0).astype(slopes.dtype)
        return self.dz * slopes.reshape(n, *[1] * (rz.ndim - 1))


def check_examples(program, loss, x, y, dtype, part="", n=None):
    """Raise unless the examples x, the first of n, and their targets fit network and loss; the errors call them X and y
    of a `part`."""
    try:
        passes.check_input(program, x, dtype)
        losses.check(loss, y, len(x) if n is None else n, program.out_shape, dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}{str(error).replace('x:', 'X:', 1).replace('target:', 'y:', 1)}") from error


def _reals(name, value):
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def _unread(name, value):
    """The array; or what stands for one and is read a piece at a time, such as `optcore.data.Rows`."""
    known = isinstance(getattr(value, "dtype", None), np.dtype) and hasattr(value, "shape")
    return value if known and not isinstance(value, np.ndarray) else _reals(name, value)


def _converted(name, value, dtype):
    return np.ascontiguousarray(_reals(name, value), dtype)


def objective(net, loss, X, y, mode="train", *, dtype=None, sample_weight=None, batch_size=None,
              memory=2**30, l1=0.0, l2=0.0):
    """Return the loss of a network over a data set as a function of theta.

    The network and its running statistics are never changed: the objective starts from copies of them and
    evaluates at the theta that it is given.

    Parameters
    ----------
    net : Sequential
    loss : {"cross_entropy", "mse", "bce", "huber"} or loss
        A name, or an object with options such as ``CrossEntropy(label_smoothing=0.1)``.
    X : array [N, ...] or optcore.data.Rows
        Examples. Converted to `dtype` once where they have another; else not copied, so not to be changed
        afterwards.
    y : array
        For "cross_entropy" class indices [N] or probabilities [N, K]; for the others values of the shape of the
        outputs.
    mode : {"train", "eval"}
        Whether batch norm takes the statistics of the given examples, which then depend on theta, or the
        running ones. "train" is the function that training descends; of dropout it takes one mask, that of the next
        training pass, for every theta, the same for each batch by the places in it, and "eval" takes none.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic, of theta and of all results; the network's where it is not given. Eigenvalues near
        a fitted minimum need float64.
    sample_weight : array_like [N], optional
        Weights of the examples, finite and at least 0: the loss is the weighted mean, all that is derived from it too.
    batch_size : int, optional
        Examples in one pass; None for all of them, whose activations are then held at once. With a batch size X may be
        larger than memory (`numpy.memmap`, `Rows`): it is read and converted batch by batch. Each batch counts by its
        number of examples, or by their weights; batch norm in training mode takes the statistics of each.
    memory : int
        Bytes of activations that are kept from one product to the next where there is more than one batch: those of
        the first batches; the others are evaluated again.
    l1, l2 : float
        Of the penalty l1*sum |w| + l2/2*sum w^2 of the weights (not of biases and norms), a term of the loss; finite
        and at least 0. Its gradient takes 0 for the slope of |w| at 0; its Hessian, l2 for each weight, is part of
        `hvp` and `gauss_newton`. `fisher`, of the examples' own gradients, has none of it.

    Returns
    -------
    Objective
        `loss`, `loss_and_grad`, and `hvp` by the R-operator: with R{.} the derivative along v, the passes
        R{forward} and R{backward} give R{gradient} = H v (Pearlmutter 1994), at the cost of one to two gradients.
        The activations of the last point are kept: products at one (theta, batch) cost these two passes only.
        `gauss_newton` and `fisher` take R{forward} and a backward pass from what the loss makes of it: J' H_out J v,
        and J' (sum of dz_i dz_i') J v, which needs no gradient of a single example.

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit the network or each other.

    Notes
    -----
    At a kink of ReLU, ELU or Huber's error the derivative from one side is taken, as PyTorch does; almost everywhere
    the product is exact.

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
    return NetworkObjective(net, loss, X, y, mode, dtype, sample_weight, l1, l2, batch_size=batch_size,
                            memory=memory)
