"""The picture of a run: loss, gradient norm, and the spectrum at its end."""

import numpy as np

from optcore.plot.style import BOLD, INK, NEGATIVE, OTHER, THIN, ZERO, figure, legend, save, style


def training(history, path, *, eigenvalues=None, size=None, tau=0.0, title=None, caption=None):
    """Draw a run: the loss, the gradient's norm and, where given, the Hessian's spectrum at its end.

    Parameters
    ----------
    history : optcore.train.History
        Anything with its ``steps`` and ``epochs``.
    path : str or path
        File to write; its ending says the format (.png, .svg, .pdf).
    eigenvalues : array [m], optional
        All eigenvalues, or as many of the lower end as of the upper end.
    size : int, optional
        Number of parameters, where `eigenvalues` are not all.
    tau : float
        Eigenvalues within +-tau count as zero.
    title, caption : str, optional
        Above the whole picture; above the spectrum.

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed.

    Examples
    --------
    >>> import tempfile, os, optcore as oc
    >>> history = oc.train.History()
    >>> for i in range(20):
    ...     history.add_step(loss=1 / (i + 1), lr=0.1, grad_norm=2 / (i + 1), examples=8)
    >>> history.add_epoch(20, seconds=0.1)
    >>> path = os.path.join(tempfile.mkdtemp(), "run.png")
    >>> training(history, path, eigenvalues=[-0.5, 0.0, 3.0])
    >>> os.path.getsize(path) > 1000
    True
    """
    made = figure(9.6 if eigenvalues is not None else 6.4, title=title)
    if eigenvalues is None:
        loss, norm = made.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    else:
        grid = made.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(3, 2), wspace=0.06)
        loss = made.add_subplot(grid[0, 0])
        norm = made.add_subplot(grid[1, 0], sharex=loss)
        loss.tick_params(labelbottom=False)
        draw_spectrum(made.add_subplot(grid[:, 1]), eigenvalues, size, tau, caption)
    draw_curves(loss, norm, history)
    save(made, path)

def draw_curves(loss, norm, history):
    """Loss and gradient norm against epochs: each step thin, each epoch bold."""
    steps, epochs = history.steps, history.epochs
    ends = np.asarray(epochs["steps"], dtype=float)
    x = np.arange(1, len(steps["loss"]) + 1, dtype=float)
    if len(ends):
        x = np.interp(x, np.r_[0.0, ends], np.arange(len(ends) + 1.0)) + np.maximum(x - ends[-1], 0) / ends[0]
    bold = {"color": BOLD, "linewidth": 1.9, "marker": "o", "markersize": 3 if len(ends) <= 40 else 0}
    at = np.arange(1, len(ends) + 1)
    loss.plot(x, steps["loss"], color=THIN, linewidth=0.7, label="each step")
    loss.plot(at, epochs["loss"], label="epoch mean", **bold)
    if "validation_loss" in epochs:
        loss.plot(at, epochs["validation_loss"], label="validation", **bold | {"color": OTHER})
    norm.plot(x, steps["grad_norm"], color=THIN, linewidth=0.7)
    norm.plot(at, epochs["grad_norm"], **bold)
    for axes, name in ((loss, "loss"), (norm, "gradient norm")):
        style(axes)
        _log_if_positive(axes, steps["loss" if axes is loss else "grad_norm"])
        axes.set_ylabel(name, fontsize=10, color=INK)
    legend(loss, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1, handlelength=1.6,
           columnspacing=1.4)
    norm.set_xlabel("epoch" if len(ends) else "step", fontsize=10, color=INK)
    norm.set_xlim(0, max(x[-1] if len(x) else 1.0, 1.0) * 1.01)


def _log_if_positive(axes, values):
    values = np.asarray(values, dtype=float)
    if len(values) and (values[np.isfinite(values)] > 0).all():
        axes.set_yscale("log")


def draw_spectrum(axes, eigenvalues, size, tau, caption):
    """Eigenvalues in ascending order, the middle left out where it is not known."""
    values = np.sort(np.asarray(eigenvalues, dtype=float))
    size = max(size or 0, len(values))
    known = len(values) == size
    below = len(values) if known else len(values) // 2
    gap = 0 if known else max(2, len(values) // 5)
    x = np.arange(len(values)) + np.where(np.arange(len(values)) < below, 0, gap)
    colors = np.where(values < -tau, NEGATIVE, np.where(values > tau, BOLD, ZERO))
    style(axes)
    axes.axhline(0.0, color=INK, linewidth=0.8)
    if known and size > 60:
        axes.scatter(x, values, s=5, c=colors, linewidths=0)
    else:
        axes.vlines(x, 0.0, values, colors=colors, linewidth=2.0)
        axes.scatter(x, values, s=20, c=colors, linewidths=0, zorder=3)
    largest = np.abs(values).max(initial=0.0)
    if largest > 1e-100:        # below, matplotlib's symmetric logarithm overflows
        linear = 10.0 ** np.ceil(np.log10(max(tau, 1e-3 * largest)))
        axes.set_yscale("symlog", linthresh=linear, linscale=0.8)
    axes.set_ylabel("eigenvalue of the Hessian", fontsize=10, color=INK)
    axes.yaxis.set_label_position("right")
    axes.yaxis.tick_right()
    axes.spines["right"].set_visible(True)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("number, ascending" if known else
                    f"the {below} smallest and the {len(values) - below} largest of {size:,}",
                    fontsize=10, color=INK)
    axes.grid(False, axis="x")
    axes.set_xticks([])
    axes.margins(x=0.06, y=0.14)
    if gap:
        axes.text(below - 0.5 + gap / 2, 0.0, "···", ha="center", va="center_baseline", fontsize=14, color=INK,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    if len(values):
        for i, side in ((0, -1), (len(values) - 1, 1)):
            up = 1 if values[i] >= 0 else -1
            text = f"{values[i]:.3g}".replace("-", "\N{MINUS SIGN}")
            axes.annotate(text, (x[i], values[i]), (side * -2, 7 * up), textcoords="offset points", fontsize=9,
                          ha="left" if side < 0 else "right", va="bottom" if up > 0 else "top", color=INK)
    if caption:
        axes.set_title(caption, fontsize=10, loc="left", color=INK)
