"""What a report shows beside the diagnosis: the loss along directions and on a plane, layers, the spectrum."""

from dataclasses import dataclass

import numpy as np

from optcore import landscape
from optcore.curvature import Hessian, eigenpairs, spectral_density
from optcore.diagnosis import Diagnosis
from optcore.diagnosis.rule import read
from optcore.landscape import Plane

_LINE, _PLANE = 41, 17  # points along a direction; along each side of the plane
_DENSITY_BELOW = 200_000  # parameters up to which the spectral density is measured


@dataclass(frozen=True)
class Slope:
    """The loss along a unit direction: where it was looked at, what it was, what second order predicts."""

    name: str
    at: np.ndarray
    loss: np.ndarray
    model: np.ndarray


@dataclass(frozen=True)
class Study:
    """What `study` measured.

    Attributes
    ----------
    diagnosis : Diagnosis
    smallest, largest : Eigenpairs
    lines : tuple of Slope
    plane : Plane
    layers : tuple of LayerState or None
    density : SpectralDensity or None
    """

    diagnosis: Diagnosis
    smallest: object
    largest: object
    lines: tuple
    plane: Plane
    layers: tuple | None
    density: object


def study(obj, theta, diagnosis, *, optimizer=None, k=3, seed=0):
    """Measure what a report shows; theta, the objective and the optimizer keep their bits.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
    diagnosis : Diagnosis
        Of this objective at theta.
    optimizer : optcore.optim rule, optional
        The direction of its next step is one of those along which the loss is drawn.
    k : int
        Eigenvalues from each end.
    seed : int
        Of the Lanczos starts.

    Returns
    -------
    Study

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: (1 - t[0] * t[1]) ** 2, lambda t: -2 * (1 - t[0] * t[1]) * t[::-1],
    ...                    theta0=np.ones(2))
    >>> theta = np.array([0.1, 0.0])
    >>> s = study(obj, theta, oc.diagnose(obj, theta), k=1)
    >>> [line.name for line in s.lines]
    ['largest curvature', 'smallest curvature', 'down the gradient']
    """
    H = Hessian(obj, theta)
    k = max(1, min(k, theta.size // 2))
    smallest, largest = (eigenpairs(H, k=k, which=which, seed=seed) for which in ("SA", "LA"))
    loss, g = obj.loss_and_grad(theta)
    directions = {"largest curvature": largest.vectors[:, np.argmax(largest.values)],
                  "smallest curvature": smallest.vectors[:, np.argmin(smallest.values)],
                  **_step(optimizer, theta, g)}
    lines = tuple(_line(obj, theta, loss, g, H, name, d, diagnosis) for name, d in directions.items())
    density = spectral_density(H, probes=4, steps=60, seed=seed) if 1 < theta.size <= _DENSITY_BELOW else None
    first, second = [*directions.values()][:2]
    x, y = (np.linspace(line.at[0], line.at[-1], _PLANE) for line in lines[:2])
    plane = landscape.plane(obj, theta, first, second, x, y)
    return Study(diagnosis, smallest, largest, lines, plane,
                 obj.layers(theta) if hasattr(obj, "layers") else None, density)


def _step(optimizer, theta, g):
    """The direction of the rule's next step; that of the gradient where there is none."""
    if optimizer is not None:
        moved = theta.copy()
        rule = read(optimizer, theta.size)
        rule.copy(moved).step(rule.split(g.astype(theta.dtype)))
        step = moved - theta
        if np.isfinite(step).all() and np.linalg.norm(step) > 0:
            return {"next step of the rule": step / np.linalg.norm(step)}
    norm = np.linalg.norm(g)
    return {"down the gradient": -g / norm} if np.isfinite(norm) and norm > 0 else {}


def _line(obj, theta, loss, g, H, name, direction, diagnosis):
    curvature, slope = float(direction @ H.matvec(direction)), float(direction @ g)
    at = np.linspace(-1, 1, _LINE) * _reach(theta, loss, slope, curvature, diagnosis)
    return Slope(name, at, landscape.line(obj, theta, direction, at).loss, loss + at * slope + at**2 / 2 * curvature)


def _reach(theta, loss, slope, curvature, diagnosis):
    """The distance at which the quadratic model has moved by as much as there is to gain, twice: R at most."""
    scale = diagnosis.evidence["left to gain"].value if "left to gain" in diagnosis.evidence else abs(loss)
    most = max(1.0, float(np.linalg.norm(theta)))
    scale = 2 * scale if np.isfinite(scale) and scale > 0 else 1.0
    roots = np.roots([abs(curvature) / 2, abs(slope), -scale])
    real = [r.real for r in roots if abs(r.imag) < 1e-12 * abs(r) and r.real > 0]
    return min([*real, most])
