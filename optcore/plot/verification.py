"""The proof of a remedy as a picture."""

import numpy as np

from optcore.plot.style import BOLD, INK, OTHER, figure, legend, save, style

_SIDES = (("unchanged", OTHER, "unchanged"), ("remedy", BOLD, "with the remedy"))


def verification(v, path, *, title=None):
    """Draw both curves of a remedy's proof.

    Parameters
    ----------
    v : optcore.diagnosis.Verification
        Anything with its ``at``, ``unchanged``, ``remedy``, ``verdict`` and ``text``.
    path : str or path
        File to write; its ending says the format (.png, .svg, .pdf).
    title : str, optional

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed.

    Examples
    --------
    >>> import tempfile, os, numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: float(t @ t), lambda t: 2 * t, lambda t, v: 2 * v, theta0=np.ones(2))
    >>> d = oc.diagnose(obj, np.ones(2), oc.optim.SGD(np.ones(2), lr=1.1))
    >>> path = os.path.join(tempfile.mkdtemp(), "proof.png")
    >>> verification(d.verify(steps=30), path)
    >>> os.path.getsize(path) > 1000
    True
    """
    made = figure(7.2, title=title)
    axes = made.subplots()
    style(axes, "steps from the same state", "loss, all examples")
    seen = [_draw(axes, v.at, losses, color, label if i == 0 else None) for name, color, label in _SIDES
            for i, losses in enumerate(() if getattr(v, name) is None else getattr(v, name))]
    if np.nanmin(np.concatenate(seen), initial=1.0) > 0:
        axes.set_yscale("log")
    legend(axes)
    axes.set_title(f"{v.verdict}: {v.text}", loc="left", fontsize=9, color=INK, wrap=True)
    save(made, path)


def _draw(axes, at, losses, color, label):
    """One curve, with a cross where it leaves all bounds; returns what was drawn."""
    shown = np.where(np.abs(losses) < 1e100, losses, np.nan)
    axes.plot(at, shown, color=color, linewidth=1.6, alpha=0.8, label=label)
    left = np.flatnonzero(np.isnan(shown))
    if left.size and left[0]:
        axes.plot(at[left[0] - 1], shown[left[0] - 1], "x", color=color, markersize=9, markeredgewidth=2,
                  label=label and "leaves all bounds")
    return shown
