"""Directions to look along: random ones that suit the network, eigenvectors, those that training took."""

import numpy as np

from optcore.curvature import Hessian, eigenpairs


def random_direction(obj, theta, seed=0):
    """Return a Gaussian direction, filter-normalised where the objective knows its filters.

    Each filter of the direction (the weights into one unit or channel) gets the length of that filter of theta, and
    what is no weight, such as biases and the parameters of norms, is left alone: else directions through networks that
    compute the same, one with weights ten times as large before a norm, would show different surfaces (Li, Xu, Taylor,
    Studer and Goldstein 2018). Without filters the whole direction gets the length of theta, or length 1 where theta is
    0.

    Parameters
    ----------
    obj : Objective
        ``obj.filters()`` says which parts of theta are filters; None where it does not know.
    theta : array [n]
    seed : int or numpy.random.Generator

    Returns
    -------
    array [n]
        float64.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, theta0=np.zeros(2))
    >>> d = random_direction(obj, np.array([3.0, 4.0]))
    >>> round(float(np.linalg.norm(d)), 12)
    5.0
    """
    theta = obj.check_theta(theta).astype(np.float64)
    d = np.random.default_rng(seed).standard_normal(theta.size)
    filters = obj.filters()
    if filters is None:
        return d * ((np.linalg.norm(theta) or 1.0) / np.linalg.norm(d))
    scaled = np.zeros_like(d)
    for start, stop in filters:
        scaled[start:stop] = d[start:stop] * (np.linalg.norm(theta[start:stop]) / np.linalg.norm(d[start:stop]))
    return scaled


def eigen_directions(obj, theta, seed=0):
    """Return the unit eigenvectors of the Hessian for its largest and its smallest eigenvalue.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        n at least 2.
    seed : int
        Of the Lanczos start.

    Returns
    -------
    (array [n], array [n])

    Raises
    ------
    ValueError
        theta has one element.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> steep, down = eigen_directions(oc.landscape.surfaces.get("two_parameters").objective, np.zeros(2))
    >>> [abs(float(v @ [1, 1])) > 1.4 for v in (down, steep)]     # -2 along (1, 1), 2 along (1, -1)
    [True, False]
    """
    if np.size(theta) < 2:
        raise ValueError(f"theta: expected at least two parameters for a plane, got {np.size(theta)}")
    H = Hessian(obj, theta)
    return tuple(eigenpairs(H, k=1, which=which, seed=seed).vectors[:, 0] for which in ("LA", "SA"))


def trajectory_directions(thetas):
    """Return the two principal directions of a trajectory, seen from its end, and the share of it that they hold.

    Parameters
    ----------
    thetas : array [m, n]
        m at least 3; the last one is the centre.

    Returns
    -------
    (array [n], array [n], float)
        Unit directions; the share of the squared distances from the end that lies in their plane.

    Raises
    ------
    ValueError
        Fewer than three points, or all on one line.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.linspace(1, 0, 9)
    >>> first, second, share = trajectory_directions(np.stack([t, 0.1 * t**2, 0 * t], axis=1))
    >>> round(share, 6), abs(float(first[0])) > 0.99
    (1.0, True)
    """
    thetas = np.asarray(thetas, dtype=np.float64)
    if thetas.ndim != 2 or len(thetas) < 3:
        raise ValueError(f"thetas: expected at least three points [m, n], got shape {thetas.shape}")
    away = thetas[:-1] - thetas[-1]
    _, lengths, rows = np.linalg.svd(away, full_matrices=False)
    if len(lengths) < 2 or not lengths[1] > 1e-12 * lengths[0]:
        raise ValueError("thetas: expected points that span a plane, got points on one line")
    return rows[0], rows[1], float((lengths[:2] ** 2).sum() / (lengths**2).sum())


def step_direction(thetas):
    """Return the last step of a trajectory: at 0 its end, at -1 the point before.

    Parameters
    ----------
    thetas : array [m, n]
        m at least 2.

    Returns
    -------
    array [n]

    Raises
    ------
    ValueError
        Fewer than two points, or a step of length 0.

    Examples
    --------
    >>> import numpy as np
    >>> step_direction(np.array([[0.0, 0.0], [2.0, 1.0], [3.0, 3.0]])).tolist()
    [1.0, 2.0]
    """
    thetas = np.asarray(thetas, dtype=np.float64)
    if thetas.ndim != 2 or len(thetas) < 2:
        raise ValueError(f"thetas: expected at least two points [m, n], got shape {thetas.shape}")
    step = thetas[-1] - thetas[-2]
    if not step.any():
        raise ValueError("thetas: expected a last step that moves, got the same point twice")
    return step
