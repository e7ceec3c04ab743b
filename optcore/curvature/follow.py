"""Sharpness along a training run: a callback that measures the largest eigenvalue every so many steps."""

import numpy as np

from optcore import checks
from optcore.curvature.operators import Hessian
from optcore.curvature.pairs import eigenpairs
from optcore.curvature.precondition import Preconditioned, preconditioner, rooted
from optcore.objective import check_objective


class Follow:
    """What `follow` returns, a callback of `optcore.train.fit`.

    Attributes
    ----------
    steps : list of int
        When it measured.
    values, residuals : list of float
        lambda_max then, and its residual.
    lr : list of float
        The rate of the first parameter group then, NaN where it is not known. Gradient descent is stable on a quadratic
        while ``lr * value < 2``.
    products : list of int
        What each measurement took.
    vector : array [n] or None
        The last eigenvector, which the next measurement starts from.
    """

    def __init__(self, obj, every, batch, tol, preconditioned, seed, memory):
        check_objective(obj)
        checks.integer("every", every)
        checks.number("tol", tol, open_low=True)
        checks.integer("seed", seed, low=0)
        checks.flag("preconditioned", preconditioned)
        self._obj, self._every, self._batch = obj, int(every), obj.check_batch(batch)
        self._options = {"tol": tol, "seed": seed, "memory": memory}
        self._preconditioned = preconditioned
        self.steps, self.values, self.residuals, self.lr, self.products = [], [], [], [], []
        self.vector = None

    def on_start(self, run):
        """Refuse another network, or a rule without a preconditioner, now rather than after so many steps."""
        self._obj.check_theta(run.net.theta)
        if self._preconditioned:
            rooted(run.optimizer)

    def on_step(self, run):
        """Measure after every so many steps; not before the rule's first one, where it has no preconditioner yet."""
        if run.step % self._every == 0 and (run.optimizer.steps or not self._preconditioned):
            self.measure(run.net.theta, run.step, run.history.steps["lr"][-1], run.optimizer)

    def measure(self, theta, step, lr=float("nan"), optimizer=None):
        """Measure at theta and append a row. For a training loop of your own.

        Parameters
        ----------
        theta : array [n]
        step : int
        lr : float, optional
        optimizer : optcore.optim rule, optional
            Whose preconditioner it is, where that was asked for.

        Returns
        -------
        float
            lambda_max; NaN where it did not converge.
        """
        H = Hessian(self._obj, theta, self._batch)
        if self._preconditioned:
            H = Preconditioned(H, preconditioner(optimizer))
        pair = eigenpairs(H, 1, v0=self.vector, **self._options)
        if pair.values.size == 0:  # not converged at all: nothing to go on from
            self.vector, value, residual = None, float("nan"), float("nan")
        else:
            self.vector, value, residual = pair.vectors[:, 0], float(pair.values[0]), float(pair.residuals[0])
        row = (int(step), value, residual, float(lr), pair.products)
        for column, entry in zip(self._columns(), row, strict=True):
            column.append(entry)
        return value

    def _columns(self):
        return self.steps, self.values, self.residuals, self.lr, self.products

    def state_dict(self):
        """Return what a checkpoint keeps.

        Returns
        -------
        dict
            For `load_state_dict`.
        """
        names = ("steps", "values", "residuals", "lr", "products")
        rows = {name: np.array(column, dtype=np.float64) for name, column in zip(names, self._columns(), strict=True)}
        return {"vector": self.vector, **rows}

    def load_state_dict(self, state):
        """Take over what `state_dict` returned.

        Parameters
        ----------
        state : dict

        Raises
        ------
        ValueError
            Of an objective of another size.
        """
        vector = state["vector"]
        if vector is not None and np.shape(vector) != (self._obj.size,):
            raise ValueError(f"state: expected a vector of shape ({self._obj.size},), got {np.shape(vector)}")
        self.vector = None if vector is None else np.array(vector, dtype=np.float64)
        for name, kind in (("steps", int), ("values", float), ("residuals", float), ("lr", float), ("products", int)):
            setattr(self, name, [kind(value) for value in state[name]])


def follow(obj, every=100, batch=None, *, tol=1e-3, preconditioned=False, seed=0, memory=2**32):
    """Return a callback of `optcore.train.fit` that measures the sharpness lambda_max every so many steps.

    Each measurement is one of `eigenpairs`, started from the last eigenvector: some 20 products while that moves
    little, half of which are the look for another, larger one; a product costs one to two gradients of `obj`.

    Parameters
    ----------
    obj : Objective
        The loss whose Hessian is meant: of the training data, or of a sample that is large enough.
    every : int
        Steps.
    batch : int array, optional
        Examples of `obj` to take it over.
    tol : float
        Relative residual.
    preconditioned : bool
        Of ``P^-1/2 H P^-1/2`` with the optimizer's P (`preconditioner`), the sharpness that an adaptive rule sees.
    seed : int
    memory : float
        Bytes for vectors of n numbers.

    Returns
    -------
    Follow
        With ``steps``, ``values``, ``residuals``, ``lr`` and ``products``, lists that grow; part of the run's
        checkpoint. ``measure(theta, step)`` serves other training loops.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((100, 3)), rng.standard_normal((100, 1))
    >>> net = oc.nn.Sequential(oc.nn.Linear(3, 8), oc.nn.Tanh(), oc.nn.Linear(8, 1), dtype="float64")
    >>> sharpness = oc.curvature.follow(oc.nn.objective(net, "mse", X, y), every=5)
    >>> history = oc.train.fit(net, X, y, "mse", oc.optim.SGD(net.theta, lr=0.05), epochs=20, batch_size=None,
    ...                        callbacks=[sharpness], progress=False)
    >>> sharpness.steps
    [5, 10, 15, 20]
    """
    return Follow(obj, every, batch, tol, preconditioned, seed, memory)
