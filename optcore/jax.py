"""JAX functions as objectives: what the analyses of the library see of them."""

import numpy as np

from optcore.batched import BatchedObjective
from optcore.objective import Objective

__all__ = ["objective"]


def objective(loss_fn, params, X=None, y=None, *, batch_size=None):
    """Return a JAX loss as a function of its flat parameter vector.

    theta is `params` as `jax.flatten_util.ravel_pytree` lays it out. All calls are compiled once for each shape of
    the data; products are `jax.jvp` of `jax.grad`, exact up to rounding. JAX works on the memory of theta and of the
    vector, without a copy, and a product is a view of what it computed, read-only as JAX's arrays are.

    Parameters
    ----------
    loss_fn : callable
        ``loss_fn(params, X, y) -> scalar``, the mean over the examples; ``loss_fn(params)`` without data. Pure, and
        traceable by `jax.jit`.
    params : pytree of arrays
        float32, or float64 where JAX has 64-bit numbers enabled.
    X, y : array [N, ...], optional
        Both or neither. NumPy arrays may be memory maps. Not copied where they begin at 64 bytes, as JAX wants it, else
        once for each theta.
    batch_size : int, optional
        Examples in one call; None for all of them.

    Returns
    -------
    Objective

    Raises
    ------
    ModuleNotFoundError
        JAX is not installed.
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.jax.objective(lambda p: (1 - p["a"] * p["b"]) ** 2, {"a": 0.0, "b": 0.0})
    >>> obj.hvp(np.zeros(2, "float32"), np.array([1, 1]))
    array([-2., -2.], dtype=float32)
    """
    return JaxObjective(loss_fn, params, X, y, batch_size)


class JaxObjective(BatchedObjective):
    """What `objective` returns; see there."""

    def __init__(self, loss_fn, params, X, y, batch_size):
        import jax
        from jax.flatten_util import ravel_pytree

        if not callable(loss_fn):
            raise TypeError(f"loss_fn: expected a callable, got {type(loss_fn).__name__}")
        if (X is None) != (y is None):
            raise TypeError("X, y: expected both or neither")
        if X is not None and len(X) != len(y):
            raise ValueError(f"y: expected {len(X)} targets, one per example, got {len(y)}")
        theta0, unravel = ravel_pytree(params)

        def flat_loss(theta, *data):
            return loss_fn(unravel(theta), *data)

        def product(theta, v, *data):
            return jax.jvp(lambda t: jax.grad(flat_loss)(t, *data), (theta,), (v,))[1]

        self._loss_of, self._product_of = jax.jit(flat_loss), jax.jit(product)
        self._pair_of = jax.jit(jax.value_and_grad(flat_loss))
        self._taken = jax.device_put
        self._data = () if X is None else (X, y)
        super().__init__(np.asarray(theta0), len(X) if self._data else 1, batch_size)

    def _check_kind(self, kind):
        if kind != "hvp":  # a loss alone does not say what the outputs are
            Objective.gauss_newton(self, None, None)

    def _rows(self, rows):
        return tuple(self._taken(part[rows]) for part in self._data)

    def _value(self, theta, rows):
        return float(self._loss_of(theta, *self._rows(rows)))

    def _evaluate(self, theta, rows):
        theta, data = self._taken(theta), self._rows(rows)
        loss, grad = self._pair_of(theta, *data)
        return float(loss), np.asarray(grad), (theta, data)

    def _products(self, state, vs, kind):
        theta, data = state
        return [np.asarray(self._product_of(theta, self._taken(v), *data)) for v in vs]

    def _bytes(self, state):
        return sum(part.nbytes for part in state[1])
