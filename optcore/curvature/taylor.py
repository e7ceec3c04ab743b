"""The second-order model of a loss around a point: what it predicts, how wrong it is, and the steps that it takes."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, minres

from optcore import checks
from optcore._native import reduce
from optcore.curvature.operators import Hessian, Products
from optcore.objective import check_objective
from optcore.process import one_pool


@dataclass(frozen=True)
class Step:
    """A step of the second-order model.

    Attributes
    ----------
    delta : array [n]
    length : float
    predicted, realised : float
        The decrease that the model promises, and the one that the loss really makes.
    residual : float
        ``|H delta + g| / |g|``; 0 where g is.
    converged : bool
        The solver met its tolerance; always for a Cauchy step.
    products : int
    message : str
    """

    delta: np.ndarray
    length: float
    predicted: float
    realised: float
    residual: float
    converged: bool
    products: int
    message: str


class Taylor:
    """What `taylor` returns; see there.

    Attributes
    ----------
    theta : array [n]
    loss : float
    gradient : array [n], float64
    hessian : Hessian
    """

    def __init__(self, obj, theta, batch=None, progress=None):
        check_objective(obj)
        self._obj, self._batch = obj, obj.check_batch(batch)
        self.theta = obj.check_theta(theta)
        self.theta.flags.writeable = False
        self.loss, gradient = obj.loss_and_grad(self.theta, self._batch)
        self.gradient = gradient.astype(np.float64)
        self.hessian = Hessian(obj, self.theta, self._batch, progress=progress)

    def predict(self, delta):
        """Return ``L + g'delta + 1/2 delta'H delta``, one product.

        Parameters
        ----------
        delta : array [n] or [m, n]
            Steps from theta, as rows where there are several.

        Returns
        -------
        float or array [m]
        """
        return _each(self._predicted, self._checked(delta))

    def error(self, delta):
        """Return the loss at theta + delta less what the model predicts there.

        Along a direction it grows as the third power of the length, where the loss is smooth. The sum theta + delta is
        rounded to the objective's dtype; the model is asked about the step that this makes.

        Parameters
        ----------
        delta : array [n] or [m, n]

        Returns
        -------
        float or array [m]
        """
        return _each(lambda d: self._realised(d) - self._predicted(self._moved(d) - self.theta.astype(np.float64)),
                     self._checked(delta))

    def cauchy(self, radius=None):
        """Return the step to the model's minimum along the negative gradient, ``-(g'g / g'Hg) g``.

        Parameters
        ----------
        radius : float, optional
            The longest step. Needed where the curvature along g is not positive, and the model has no minimum.

        Returns
        -------
        Step

        Raises
        ------
        ValueError
            The curvature along the gradient is not positive, and there is no radius.
        """
        if radius is not None:
            checks.number("radius", radius, open_low=True)
        norm = reduce.norm(self.gradient)
        if norm == 0:
            return self._step(np.zeros_like(self.gradient), np.zeros_like(self.gradient), True, 0,
                              "the gradient is zero")
        unit = self.gradient / norm
        product = Products(self.hessian)(unit)
        curvature = float(unit @ product)
        if curvature <= 0 and radius is None:
            raise ValueError(f"radius: expected a length where the curvature along the gradient is not positive "
                             f"({curvature:.3g}), got None")
        length = norm / curvature if curvature > 0 else np.inf
        short = radius is not None and length > radius
        length = radius if short else length
        return self._step(-length * unit, -length * product, True, 1,
                          f"{'cut at the radius' if short else 'the minimum along the gradient'}; curvature there "
                          f"{curvature:.4g}")

    def newton(self, tol=1e-6, max_products=200):
        """Return the step to the model's stationary point, ``H delta = -g``, by SciPy's `minres`.

        MINRES (Paige and Saunders 1975) takes indefinite and singular matrices: it minimises ``|H delta + g|`` over
        growing Krylov spaces. Where H is indefinite the stationary point is a saddle, and the message says so if the
        step itself meets negative curvature. Where H is singular and g has a part in its null space there is no
        stationary point: the step then goes to where ``|H delta + g|`` is least, and the message says that, too.

        Parameters
        ----------
        tol : float
            Of minres: the residual relative to ``|H| |delta| + |g|``.
        max_products : int

        Returns
        -------
        Step
        """
        checks.number("tol", tol, open_low=True)
        checks.integer("max_products", max_products)
        product = Products(self.hessian)
        with one_pool:
            delta, image, converged = self._minres(product, tol, max_products)
        residual, curvature = self._residual(image), float(delta @ image)
        if not converged:
            message = f"not converged in {max_products} iterations: the best step of their Krylov space"
        elif residual <= np.sqrt(tol):
            message = f"stationary point of the model after {product.count} products"
        else:
            message = (f"no stationary point within the tolerance: |H delta + g| is least here, {residual:.2g} |g|, "
                       f"after {product.count} products")
        if curvature < 0:
            message += f"; negative curvature along the step ({curvature / float(delta @ delta):.3g}): not a minimum"
        return self._step(delta, image, converged, product.count, message)

    def _minres(self, product, tol, max_products):
        """The solution, H times it, and whether it converged.

        Where there is no solution the Krylov space is exhausted one iteration after the least residual was found, and
        MINRES leaves along the null space, as far as rounding lets it: the iterate before that one is taken.
        """
        norm = reduce.norm(self.gradient)
        if norm == 0:
            return np.zeros(product.n), product(np.zeros(product.n)), True
        operator = LinearOperator((product.n,) * 2, lambda v: product(v.reshape(-1)), dtype=np.float64)
        iterates = deque([np.zeros(product.n)], maxlen=2)
        _, information = minres(operator, -self.gradient / norm, rtol=tol, maxiter=max_products,
                                callback=iterates.append)
        delta = norm * iterates[-1]
        image = product(delta)
        if self._residual(image) > np.sqrt(tol):
            before = norm * iterates[0]
            other = product(before)
            if self._residual(other) <= (1 + 1e-8) * self._residual(image):
                delta, image = before, other
        return delta, image, information == 0

    def _residual(self, image):
        norm = reduce.norm(self.gradient)
        return reduce.norm(image + self.gradient) / norm if norm else 0.0

    def _step(self, delta, image, converged, products, message):
        predicted = -float(self.gradient @ delta) - 0.5 * float(delta @ image)
        return Step(delta, reduce.norm(delta), predicted, self.loss - self._realised(delta), self._residual(image),
                    converged, products, message)

    def _moved(self, delta):
        return (self.theta + delta).astype(self._obj.dtype)

    def _realised(self, delta):
        with np.errstate(all="ignore"):  # far away the loss may overflow: then it is no lower
            return self._obj.loss(self._moved(delta), self._batch)

    def _predicted(self, delta):
        product = np.asarray(self.hessian @ delta)
        return self.loss + float(self.gradient @ delta) + 0.5 * float(delta @ product)

    def _checked(self, delta):
        array = np.asarray(delta)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"delta: expected real numbers, got {array.dtype}")
        n = self.gradient.size
        if array.ndim not in (1, 2) or array.shape[-1] != n:
            raise ValueError(f"delta: expected shape ({n},) or (m, {n}), got {array.shape}")
        return array.astype(np.float64)


def _each(f, delta):
    return np.array([f(row) for row in delta]) if delta.ndim == 2 else f(delta)


def taylor(obj, theta, batch=None, *, progress=None):
    """Return the second-order model of a loss around theta.

    ``L(theta + delta) ~ L + g'delta + 1/2 delta'H delta``

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Copied.
    batch : int array, optional
        The examples to take the loss over; None for all.
    progress : bool or callable, optional
        As for `Hessian`: the number of products done.

    Returns
    -------
    Taylor
        `predict(delta)` is the model's loss, `error(delta)` how much higher the true loss is, `cauchy` and `newton` the
        model's steps, each with the decrease that it promises and the one that it makes.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above, or the objective has no gradient.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(np.sum(t**2 + t**3)), lambda t: 2 * t + 3 * t**2,
    ...                    lambda t, v: (2 + 6 * t) * v, theta0=np.zeros(2))
    >>> model = oc.curvature.taylor(obj, np.array([1.0, 0.0]))
    >>> model.predict(np.array([0.5, 0.0]))  # 2 + 5 (1/2) + 8/2 (1/2)^2
    5.5
    >>> model.error(np.array([0.5, 0.0]))  # (1/2)^3
    0.125
    >>> model.newton().delta
    array([-0.625,  0.   ])
    """
    return Taylor(obj, theta, batch, progress)
