"""The loss on a line and on a plane through theta."""

from dataclasses import dataclass

import numpy as np

from optcore.process import one_pool


@dataclass(frozen=True)
class Line:
    """The loss along a direction.

    Attributes
    ----------
    at : array [m]
    loss : array [m]
        ``loss[i]`` at ``theta + at[i] * direction``.
    """

    at: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class Plane:
    """The loss on a plane.

    Attributes
    ----------
    x, y : array [k], array [m]
    loss : array [m, k]
        ``loss[i, j]`` at ``theta + x[j] * first + y[i] * second``.
    theta, first, second : array [n]
    """

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    theta: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def project(self, thetas):
        """Return where points lie in the plane: the coordinates of those in it that are nearest to them.

        Parameters
        ----------
        thetas : array [m, n]

        Returns
        -------
        array [m, 2]
        """
        basis = np.stack([self.first, self.second], axis=1)
        return np.linalg.lstsq(basis, (np.asarray(thetas, dtype=np.float64) - self.theta).T, rcond=None)[0].T


def line(obj, theta, direction, at=None, *, batch=None):
    """Return the loss along a direction.

    Parameters
    ----------
    obj : Objective
    theta, direction : array [n]
    at : array [m], optional
        Multiples of the direction; 41 from -1 to 1.
    batch : index array, optional
        Examples that the loss is taken over.

    Returns
    -------
    Line
        A loss that is not finite is kept as it is.

    Raises
    ------
    TypeError, ValueError
        A direction that does not fit theta, or is not finite.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, theta0=np.zeros(2))
    >>> line(obj, np.zeros(2), np.array([1.0, 1.0]), [0.0, 1.0, 2.0]).loss.tolist()
    [0.0, 2.0, 8.0]
    """
    theta, direction = obj.check_theta(theta), _direction(theta, direction, "direction")
    at = np.linspace(-1.0, 1.0, 41) if at is None else np.asarray(at, dtype=np.float64)
    return Line(at, _losses(obj, theta, at[:, None] * direction, batch))


def plane(obj, theta, first, second, x=None, y=None, *, batch=None, progress=None):
    """Return the loss on the plane of two directions.

    Parameters
    ----------
    obj : Objective
    theta, first, second : array [n]
    x, y : array, optional
        Multiples of the first and the second direction; 25 from -1 to 1.
    batch : index array, optional
        Examples that the loss is taken over.
    progress : callable, optional
        Called with (rows done, rows) after each row.

    Returns
    -------
    Plane

    Raises
    ------
    TypeError, ValueError
        Directions that do not fit theta or are not finite.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> rosenbrock = oc.landscape.surfaces.get("rosenbrock")
    >>> p = plane(rosenbrock.objective, np.ones(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    >>> p.loss.shape, float(p.loss.min()), p.project([[0.0, 3.0]]).round(12).tolist()
    ((25, 25), 0.0, [[-1.0, 2.0]])
    """
    theta = obj.check_theta(theta)
    first, second = _direction(theta, first, "first"), _direction(theta, second, "second")
    x, y = (np.linspace(-1.0, 1.0, 25) if a is None else np.asarray(a, dtype=np.float64) for a in (x, y))
    loss = np.empty((len(y), len(x)))
    for i, b in enumerate(y):
        loss[i] = _losses(obj, theta, x[:, None] * first + b * second, batch)
        if progress is not None:
            progress(i + 1, len(y))
    return Plane(x, y, loss, theta.astype(np.float64), first, second)


def _losses(obj, theta, moves, batch):
    with one_pool, np.errstate(over="ignore", invalid="ignore"):
        return np.array([obj.loss((theta + move).astype(theta.dtype), batch) for move in moves])


def _direction(theta, direction, name):
    direction = np.asarray(direction)
    if direction.shape != theta.shape or direction.dtype.kind != "f":
        raise ValueError(f"{name}: expected floats of shape {theta.shape}, got {direction.dtype} {direction.shape}")
    if not np.isfinite(direction).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return direction.astype(np.float64)
