"""The cheap way off a saddle: gradient steps and, where the gradient is small, a random push (Jin et al. 2017)."""

from math import ceil, sqrt

import numpy as np

from optcore import checks
from optcore.curvature.escape import Escape, escape_time
from optcore.objective import check_objective
from optcore.process import one_pool


def perturbed_descent(obj, theta, lr, batch=None, *, curvature=None, radius=None, gradient_tol=None, max_steps=2000,
                      seed=0):
    """Descend with a random push where the gradient is small: off a saddle with gradients alone.

    Algorithm 1 of Jin, Ge, Netrapalli, Kakade, Jordan (2017). At a gradient below `gradient_tol` theta is moved to a
    uniform point of the ball of `radius`. If after as many steps as the escape takes the loss is not lower, theta is
    what the algorithm calls a second-order stationary point: no curvature below -`curvature`, with high probability.
    Else it goes on. A step costs one gradient; `escape` costs some hundred products and then one line search.

    The paper's constants ask for the Lipschitz constants of gradient and Hessian. Here the steps before the verdict are
    `escape_time` from radius / sqrt(n), what a push has along a direction, to 10 radius, and the loss must fall by
    1/2 curvature radius^2.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Never changed.
    lr : float
        Below 2 / lambda_max; the paper's is a small constant over it.
    batch : int array, optional
    curvature : float, optional
        The weakest negative curvature to escape from, as a positive number; 0.01 / lr by default.
    radius : float, optional
        1e-3 of the largest of theta_scale, |theta|, |theta0| by default.
    gradient_tol : float, optional
        curvature * radius by default: the gradient that this curvature makes at this distance.
    max_steps : int
    seed : int

    Returns
    -------
    Escape
        `steps` are gradient steps, `lengths` those of the pushes. The loss is never higher than at the start.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: (1 - t[0] * t[1]) ** 2, lambda t: -2 * (1 - t[0] * t[1]) * t[::-1],
    ...                    theta0=np.ones(2))
    >>> result = oc.curvature.perturbed_descent(obj, np.zeros(2), lr=0.1)
    >>> result.loss < 1e-3, len(result.lengths)  # a push at the saddle, and one at the minimum that ends it
    (True, 2)
    """
    check_objective(obj)
    checks.number("lr", lr, open_low=True)
    checks.integer("max_steps", max_steps)
    checks.integer("seed", seed, low=0)
    theta = obj.check_theta(theta)
    curvature = 0.01 / lr if curvature is None else curvature
    radius = 1e-3 * obj.length(theta) if radius is None else radius
    gradient_tol = curvature * radius if gradient_tol is None else gradient_tol
    for name, value in (("curvature", curvature), ("radius", radius), ("gradient_tol", gradient_tol)):
        checks.number(name, value, open_low=True)
    patience = ceil(escape_time(-curvature, lr, 10 * radius, radius / sqrt(obj.size)))
    with one_pool, np.errstate(over="ignore", invalid="ignore"):
        return _descend(obj, theta, lr, batch, radius, gradient_tol, patience, 0.5 * curvature * radius**2, max_steps,
                        np.random.default_rng(seed))


def _descend(obj, theta, lr, batch, radius, gradient_tol, patience, least, max_steps, rng):
    loss, gradient = obj.loss_and_grad(theta, batch)
    start, before, pushes, due = (theta, loss), None, [], 0
    for step in range(max_steps + 1):
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            message = f"the loss or gradient is not finite after {step} steps: a smaller lr may help"
            break
        if before and step == due:
            if loss > before[1] - least:
                theta, loss = before
                message = (f"the loss did not fall within {patience} steps of a push: no curvature strong enough to "
                           "escape along was met")
                break
            before = None
        if step == max_steps:
            message = f"the loss went from {start[1]:.6g} to {loss:.6g} in {step} steps, all that were allowed"
            break
        if before is None and np.linalg.norm(gradient.astype(np.float64)) <= gradient_tol:
            before, due = (theta, loss), step + patience
            theta = (theta + _in_ball(rng, theta.size, radius)).astype(obj.dtype)
            pushes.append(float(radius))
            gradient = obj.loss_and_grad(theta, batch)[1]
        theta = (theta - lr * gradient).astype(obj.dtype)
        loss, gradient = obj.loss_and_grad(theta, batch)
    for earlier in (before or start, start):
        if not loss <= earlier[1]:
            theta, loss = earlier
    return Escape(theta, loss, start[1] - loss if loss < start[1] else 0.0, step, tuple(pushes), message)


def _in_ball(rng, n, radius):
    """A uniform point of the ball."""
    point = rng.standard_normal(n)
    return point * (radius * rng.uniform() ** (1 / n) / np.linalg.norm(point))
