"""The matrices of an objective at a point as linear operators, and the checks that every operator passes."""

import itertools
import threading
from concurrent.futures import CancelledError

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from optcore._native import reduce
from optcore.objective import check_objective
from optcore.progress import show_count


def _groups(vs, size):
    vs = iter(vs)
    while group := list(itertools.islice(vs, size)):
        yield group


class _AtPoint(LinearOperator):
    """A matrix that an objective multiplies by at a point."""

    _method = ""

    def __init__(self, obj, theta, batch=None, *, progress=None):
        check_objective(obj)
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise TypeError(f"progress: expected a bool or a callable, got {type(progress).__name__}")
        self._objective = obj
        self._theta = obj.check_theta(theta)
        self._theta.flags.writeable = False
        self._batch = obj.check_batch(batch)
        self._report = show_count("products") if progress is True else progress or None
        self.products, self._counting = 0, threading.RLock()
        self.concurrent, self.together = obj.concurrent, obj.together
        self.product_error = obj.product_error
        self.product_dtype = obj.dtype
        super().__init__(np.dtype(np.float64), (obj.size, obj.size))

    def product(self, v):
        """Return the matrix times v, in the objective's dtype.

        Parameters
        ----------
        v : array [n]

        Returns
        -------
        array [n]
        """
        product = getattr(self._objective, self._method)(self._theta, np.asarray(v).reshape(-1), self._batch)
        self._count()
        return product

    def multiply(self, vs):
        """Return the matrix times each of several vectors, in the objective's dtype; see `Objective.multiply`.

        Parameters
        ----------
        vs : array [k, n] or sequence of k arrays [n]

        Returns
        -------
        list of k arrays [n]
        """
        products = self._objective.multiply(self._theta, vs, self._batch, kind=self._method)
        for _ in products:
            self._count()
        return products

    def _count(self):
        with self._counting:
            self.products += 1
            if self._report:
                self._report(self.products)

    def __getstate__(self):
        return {**self.__dict__, "_counting": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _counting=threading.RLock())

    def _matvec(self, v):
        return np.asarray(self.product(v), dtype=np.float64)

    def _matmat(self, vectors):
        vs = np.ascontiguousarray(vectors.T)
        products = [product for group in _groups(vs, self.together) for product in self.multiply(group)]
        return np.asarray(products, dtype=np.float64).reshape(vs.shape).T

    def _adjoint(self):
        return self

    _transpose = _adjoint


class Hessian(_AtPoint):
    """The Hessian of an objective at a point, as a symmetric `scipy.sparse.linalg.LinearOperator`.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        The point. Copied.
    batch : int array, optional
        The examples to take the loss over; None for all.
    progress : bool or callable, optional
        True: show the number of products done on standard error while they are made, whoever asks for them. A
        callable gets that number after each.

    Attributes
    ----------
    shape : (n, n)
    dtype : float64
        Products are returned in float64 whatever the objective's dtype, as SciPy's solvers want them.
    product_dtype : float32 or float64
        What they are computed in.
    concurrent : bool
        Whether they may be computed in several threads at once, as the objective says.
    together : int
        How many `multiply` is best asked for at once, as the objective says.
    products : int
        How many products have been computed so far.
    product_error : float
        Relative error to expect of one; see `Objective`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: (1 - t[0] * t[1]) ** 2, lambda t: -2 * (1 - t[0] * t[1]) * t[::-1],
    ...                    theta0=np.zeros(2))
    >>> H = oc.curvature.Hessian(obj, np.zeros(2))
    >>> np.round(H @ np.array([1.0, 1.0]), 6)
    array([-2., -2.])
    """

    _method = "hvp"


class GaussNewton(_AtPoint):
    """The generalised Gauss-Newton matrix J' H_out J of a model at a point; as `Hessian`, one product costs less.

    J is the Jacobian of the outputs, H_out the Hessian of the loss with respect to them: the part of the Hessian that
    stays when the outputs are linear in theta, never indefinite for cross-entropy and squared error (Schraudolph
    2002). For cross-entropy over classes it is the Fisher matrix of the model's own distribution.

    Parameters
    ----------
    obj : Objective
        One that knows the model's outputs: of `oc.nn` or `oc.torch`.
    theta, batch, progress
        As for `Hessian`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(1, 1, bias=False), dtype="float64")
    >>> obj = oc.nn.objective(net, "mse", np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]]))
    >>> oc.curvature.GaussNewton(obj, np.array([2.0])) @ np.ones(1)  # mean of 2*x^2
    array([5.])
    """

    _method = "gauss_newton"


class EmpiricalFisher(_AtPoint):
    """The empirical Fisher matrix 1/N sum_i g_i g_i' of a model at a point, g_i the gradient of example i.

    As `Hessian`. A product takes a derivative along v and one backward pass, no gradient of a single example. It
    measures noise, not curvature, and agrees with the Fisher matrix only where the model fits (Kunstner et al. 2019).

    Parameters
    ----------
    obj : Objective
        One that knows the model's outputs: of `oc.nn` or `oc.torch`.
    theta, batch, progress
        As for `Hessian`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(1, 1, bias=False), dtype="float64")
    >>> obj = oc.nn.objective(net, "mse", np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]]))
    >>> oc.curvature.EmpiricalFisher(obj, np.array([2.0])) @ np.ones(1)  # mean of (2*2*x^2)^2
    array([136.])
    """

    _method = "fisher"


def product_error(H):
    """Relative error to expect of a product with H."""
    return float(getattr(H, "product_error", np.finfo(np.float64).eps))


class Products:
    """What the solvers see of an operator: products that are counted and checked to be finite."""

    def __init__(self, H):
        operator = symmetric_operator(H)
        self._product = H.product if isinstance(H, _AtPoint) else operator.matvec
        self._several = H.multiply if isinstance(H, _AtPoint) else lambda vs: map(self._product, vs)
        self.n = operator.shape[0]
        self.count, self._counting, self._stopped = 0, threading.Lock(), False
        self.concurrent, self.together = getattr(H, "concurrent", False), getattr(H, "together", 1)
        self.error = product_error(H)
        self.dtype = np.dtype(getattr(H, "product_dtype", np.float64))

    def __call__(self, v):
        """Return H v, float32 where both are, else float64; FloatingPointError if it is not finite."""
        return self.multiply([v])[0]

    def multiply(self, vs):
        """Return H v of each of several vectors, as a call does of one."""
        if self._stopped:
            raise CancelledError
        with self._counting:
            first, self.count = self.count + 1, self.count + len(vs)
        dtype = np.result_type(vs[0], self.dtype)
        found = [self._product(vs[0])] if len(vs) == 1 else self._several(vs)
        products = [np.ascontiguousarray(product, dtype).reshape(-1) for product in found]
        for number, product in enumerate(products, first):
            if reduce.count_nonfinite(product):
                raise FloatingPointError(f"H: expected finite products, product {number} is not finite")
        return products

    def of(self, vs):
        """Yield each of these vectors with its product: made together as far as that is worth it."""
        for group in _groups(vs, self.together):
            yield from zip(group, self.multiply(group), strict=True)

    def stop(self):
        """Let no further product begin: an error in one thread ends the work of the others."""
        self._stopped = True

    def dense(self):
        """Return the matrix by n products with unit vectors, made symmetric, and the norm of what was not.

        Half the Frobenius norm of A - A' estimates the error of A in the Frobenius norm, where the errors of
        A_ij and A_ji are independent, and so bounds the error of each eigenvalue (Weyl).
        """
        matrix = np.empty((self.n, self.n))
        for row, (_, product) in zip(matrix, self.of(np.eye(self.n)), strict=True):
            row[:] = product
        noise = 0.5 * float(np.linalg.norm(matrix - matrix.T))
        return 0.5 * (matrix + matrix.T), noise


def symmetric_operator(H):
    """Return H as a linear operator after checking that it is square, real and, where that can be seen, symmetric."""
    if isinstance(H, np.ndarray):
        if H.ndim != 2 or H.shape[0] != H.shape[1]:
            raise ValueError(f"H: expected a square matrix, got shape {H.shape}")
        if H.dtype.kind not in "iuf":
            raise TypeError(f"H: expected a real operator, got {H.dtype}")
        # H.T == H up to rounding of whoever formed it; a loss of half the digits is still rounding.
        with np.errstate(invalid="ignore"):  # what is not finite shows in the products
            symmetric = not H.size or np.allclose(H, H.T, rtol=0, atol=1e-8 * np.abs(H).max(), equal_nan=True)
        if not symmetric:
            raise ValueError("H: expected a symmetric matrix, got one that differs from its transpose")
    try:
        operator = aslinearoperator(H)
    except TypeError:
        raise TypeError(f"H: expected a Hessian, a LinearOperator or a square array, got {type(H).__name__}") from None
    if operator.shape[0] != operator.shape[1] or operator.shape[0] == 0:
        raise ValueError(f"H: expected a square operator, got shape {operator.shape}")
    if operator.dtype is not None and np.dtype(operator.dtype).kind not in "iuf":
        raise TypeError(f"H: expected a real operator, got {operator.dtype}")
    return operator
