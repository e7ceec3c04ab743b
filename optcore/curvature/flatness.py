"""How sharp a point is, by the measures that papers use."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, minimize

from optcore import checks
from optcore.curvature.estimates import Estimate, trace
from optcore.curvature.operators import Hessian
from optcore.curvature.pairs import eigenpairs
from optcore.objective import check_objective
from optcore.process import one_pool


@dataclass(frozen=True)
class Flatness:
    """Measures of sharpness at a point. None is free of the unit of theta (Dinh et al. 2017): compare like with like.

    Attributes
    ----------
    largest, residual : float
        The largest eigenvalue of the Hessian; an eigenvalue lies within the residual of it.
    direction : array [n]
        Its unit vector.
    trace : Estimate
    keskar : float
        See `keskar_sharpness`, in percent.
    sam : float
        See `sam_sharpness`.
    loss : float
    products : int
        Products with the Hessian.
    """

    largest: float
    residual: float
    direction: np.ndarray
    trace: Estimate
    keskar: float
    sam: float
    loss: float
    products: int

    def __str__(self):
        error = f" +- {self.trace.standard_error:.2g}" if self.trace.standard_error else ""
        return (f"lambda_max {self.largest:.4g}, trace {self.trace.value:.4g}{error}, Keskar sharpness "
                f"{self.keskar:.3g} %, SAM sharpness {self.sam:.3g} (loss {self.loss:.4g})")


def flatness(obj, theta, batch=None, *, products=90, epsilon=1e-3, rho=0.05, tol=1e-3, seed=0, memory=2**32,
             progress=None):
    """Return how sharp theta is: lambda_max, trace, Keskar's and SAM's sharpness.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Never changed.
    batch : int array, optional
    products : int
        For the trace; lambda_max takes some 20 to 60 more.
    epsilon, rho : float
        Of `keskar_sharpness`, `sam_sharpness`.
    tol : float
        Of `eigenpairs`, relative.
    seed : int
    memory : float
        Bytes for vectors of n numbers.
    progress : bool or callable, optional
        As for `Hessian`: the number of products done.

    Returns
    -------
    Flatness

    Raises
    ------
    FloatingPointError
        If a product is not finite.
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(t[0]**2 + 2 * t[1]**2), lambda t: np.array([2.0, 4.0]) * t,
    ...                    lambda t, v: np.array([2.0, 4.0]) * v, theta0=np.zeros(2))
    >>> print(oc.curvature.flatness(obj, np.zeros(2)))
    lambda_max 4, trace 6, Keskar sharpness 0.0003 %, SAM sharpness 0.005 (loss 0)
    """
    check_objective(obj)
    for name, value in (("epsilon", epsilon), ("rho", rho)):
        checks.number(name, value, open_low=True)
    theta = obj.check_theta(theta)
    with one_pool:
        H = Hessian(obj, theta, batch, progress=progress)
        pair = eigenpairs(H, 1, tol=tol, seed=seed, memory=memory)
        v = pair.vectors[:, 0]
        total = trace(H, products, seed, memory=memory)
        keskar = keskar_sharpness(obj, theta, batch, epsilon=epsilon, direction=v, seed=seed)
        sam = sam_sharpness(obj, theta, batch, rho=rho, seed=seed)
        loss = obj.loss(theta, batch)
    return Flatness(float(pair.values[0]), float(pair.residuals[0]), v, total, keskar, sam, loss, H.products)


def keskar_sharpness(obj, theta, batch=None, *, epsilon=1e-3, steps=10, direction=None, seed=0):
    """Return Keskar's sharpness in percent: the largest relative rise of the loss in a small box.

    ``100 (max L(theta + z) - L(theta)) / (1 + L(theta))`` over ``|z_i| <= epsilon (|theta_i| + 1)`` (Keskar et al.
    2017, metric 2.1 in the whole space). The maximum is sought by L-BFGS-B as there, from a random point of the box and
    from the ends of `direction` in it: a lower bound of the true one.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Never changed.
    batch : int array, optional
    epsilon : float
    steps : int
        Iterations of L-BFGS-B from each start, which holds some 25 n numbers.
    direction : array [n], optional
        Where to look, as the eigenvector of lambda_max.
    seed : int

    Returns
    -------
    float
        Infinite where the loss is not finite in the box; NaN where ``1 + L(theta)`` is not positive: the measure is one
        of losses that are at least 0.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, theta0=np.zeros(2))
    >>> round(keskar_sharpness(obj, np.zeros(2), epsilon=0.1), 9)   # 100 (0.1^2 + 0.1^2)
    2.0
    """
    check_objective(obj)
    checks.number("epsilon", epsilon, open_low=True)
    checks.integer("steps", steps)
    checks.integer("seed", seed, low=0)
    theta, batch = obj.check_theta(theta), obj.check_batch(batch)
    width = epsilon * (np.abs(theta).astype(np.float64) + 1)
    highest = loss = obj.loss(theta, batch)

    def descent(z):
        nonlocal highest
        value, gradient = obj.loss_and_grad((theta + width * z).astype(obj.dtype), batch)
        if not np.isfinite(value):
            raise _NotFinite
        highest = max(highest, value)
        return -value, -width * gradient

    starts = [np.random.default_rng(seed).uniform(-1, 1, theta.size)]
    if direction is not None:
        v = obj.check_vector("direction", direction) / width
        starts += [sign * v / np.abs(v).max() for sign in (1, -1) if v.any()]
    box = Bounds(np.full(theta.size, -1.0), np.full(theta.size, 1.0))
    try:
        with one_pool, np.errstate(all="ignore"):
            for start in starts:
                minimize(descent, start, method="L-BFGS-B", jac=True, bounds=box,
                         options={"maxiter": steps, "ftol": 0, "gtol": 0})
    except _NotFinite:
        return float("inf")
    return 100 * (highest - loss) / (1 + loss) if loss > -1 else float("nan")


class _NotFinite(Exception):
    """The loss is not finite."""


def sam_sharpness(obj, theta, batch=None, *, rho=0.05, steps=10, seed=0):
    """Return SAM's sharpness, the largest rise of the loss within a distance rho (Foret et al. 2021).

    ``max L(theta + e) - L(theta)`` over ``|e| <= rho``, by steps ``e <- rho g(theta + e) / |g|``; the first is the one
    that the SAM rule takes. Where the gradient is zero it goes in a random direction: then the next steps are those of
    the power method, towards ``lambda_max rho^2 / 2``. A lower bound of the true maximum.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Never changed.
    batch : int array, optional
    rho : float
    steps : int
        Gradients; 1 is the rise that the SAM rule sees.
    seed : int

    Returns
    -------
    float
        Infinite where the loss is not finite at one of these points.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, theta0=np.ones(1))
    >>> round(sam_sharpness(obj, np.ones(1), rho=0.5), 12)  # 1.5^2 - 1
    1.25
    """
    check_objective(obj)
    checks.number("rho", rho, open_low=True)
    checks.integer("steps", steps)
    checks.integer("seed", seed, low=0)
    theta, batch = obj.check_theta(theta), obj.check_batch(batch)
    with one_pool, np.errstate(all="ignore"):
        loss, gradient = obj.loss_and_grad(theta, batch)
        highest = loss
        for _ in range(steps):
            if not gradient.any():
                gradient = np.random.default_rng(seed).standard_normal(theta.size)
            unit = gradient / np.linalg.norm(gradient.astype(np.float64))
            value, gradient = obj.loss_and_grad((theta + rho * unit).astype(obj.dtype), batch)
            if not np.isfinite(value):
                return float("inf")
            highest = max(highest, value)
    return highest - loss
