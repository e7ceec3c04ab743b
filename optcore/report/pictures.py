"""The pictures of a report, each a function from what was measured to a figure."""

import numpy as np

from optcore.plot.density import density_figure
from optcore.plot.landscape import draw_contours
from optcore.plot.style import BOLD, INK, NEGATIVE, OTHER, THIN, ZERO, figure, legend, style
from optcore.plot.training import draw_curves, draw_spectrum

_WIDE, _HIGH = 6.4, 4.0


def training(history):
    """Loss and gradient norm of each step and epoch, the learning rate below."""
    made = figure(_WIDE, 5.2)
    loss, norm, rate = made.subplots(3, 1, sharex=True, height_ratios=(4, 3, 2))
    draw_curves(loss, norm, history)
    norm.set_xlabel("")
    steps = np.asarray(history.steps["lr"], dtype=float)
    ends = np.asarray(history.epochs["steps"], dtype=float)
    x = np.interp(np.arange(1, len(steps) + 1), np.r_[0.0, ends], np.arange(len(ends) + 1.0)) if len(ends) else (
        np.arange(1, len(steps) + 1))
    rate.plot(x, steps, color=OTHER, linewidth=1.6)
    style(rate, "epoch" if len(ends) else "step", "learning rate")
    return made


def shares(diagnosis):
    """S, O and N: what a step gains to first order, what curvature and noise take back; None where not measured."""
    names = {"first order of a step": ("gained to first order (S)", BOLD),
             "curvature takes back": ("taken back by curvature (O)", OTHER),
             "noise takes back": ("taken back by noise (N)", ZERO)}
    found = [(label, color, diagnosis.evidence[key]) for key, (label, color) in names.items()
             if key in diagnosis.evidence]
    if not any(q.value for _, _, q in found):
        return None
    made = figure(_WIDE, 2.2)
    axes = made.subplots()
    style(axes, "change of the loss by one step")
    for i, (_, color, q) in enumerate(found):
        axes.barh(-i, q.value, color=color, height=0.6)
        if q.low != q.high:
            axes.errorbar(q.value, -i, xerr=[[q.value - q.low], [q.high - q.value]], color=INK, capsize=3)
    axes.set_yticks([-i for i in range(len(found))], [label for label, _, _ in found])
    axes.grid(False, axis="y")
    axes.axvline(0.0, color=INK, linewidth=0.8)
    return made


def eigenvalues(study, size, tau):
    """The ends of the spectrum."""
    made = figure(_WIDE, _HIGH)
    values = np.concatenate([np.sort(study.smallest.values), np.sort(study.largest.values)])
    draw_spectrum(made.subplots(), values[-size:], size, tau, None)
    return made


def density(study):
    """The density of the whole spectrum; None where it was not measured."""
    return density_figure(study.density) if study.density is not None else None


def layers(study):
    """The gradient's size in each layer, and its dead units; None where no layers are known."""
    if not study.layers or len(study.layers) < 2:
        return None
    made = figure(_WIDE, 3.0)
    axes = made.subplots()
    style(axes, "layer, from the input on", "norm of the gradient")
    x = np.arange(len(study.layers))
    for name, label, color, side in (("signal_gradient", "of its output", THIN, -0.2),
                                     ("weight_gradient", "of its weights", BOLD, 0.2)):
        axes.bar(x + side, [getattr(s, name) for s in study.layers], 0.4, color=color, label=label)
    axes.set_yscale("log")
    dead = [f"\n{100 * s.dead:.0f} % dead" if s.dead > 0 else "" for s in study.layers]
    axes.set_xticks(x, [f"{s.name}{d}" for s, d in zip(study.layers, dead, strict=True)])
    axes.grid(False, axis="x")
    legend(axes, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1)
    return made


def lines(study):
    """The loss along each direction, beside what the second order predicts."""
    made = figure(3.3 * len(study.lines), 3.2)
    for axes, line in zip(made.subplots(1, len(study.lines), squeeze=False)[0], study.lines, strict=True):
        style(axes, "distance", "loss" if line is study.lines[0] else None)
        axes.plot(line.at, line.model, color=OTHER, linewidth=1.3, linestyle="--", label="second order")
        axes.plot(line.at, line.loss, color=BOLD, linewidth=1.9, label="loss")
        middle = len(line.at) // 2
        axes.plot(0.0, line.loss[middle], marker="o", color=INK, markersize=5)
        finite = line.loss[np.isfinite(line.loss)]
        if finite.size:
            room = 0.1 * np.ptp(finite) or 1.0
            axes.set_ylim(finite.min() - room, finite.max() + room)
        axes.set_title(line.name, fontsize=10, loc="left", color=INK)
        if line is study.lines[0]:
            legend(axes, loc="upper center")
    return made


def plane(study):
    """The loss on the plane of the largest and the smallest curvature; None where it is flat."""
    p = study.plane
    finite = p.loss[np.isfinite(p.loss)]
    if not finite.size or np.ptp(finite) == 0:
        return None
    made = figure(_WIDE, _HIGH)
    axes = made.subplots()
    style(axes, *(f"along the {line.name}" for line in study.lines[:2]))
    draw_contours(made, axes, p)
    axes.plot(0.0, 0.0, marker="o", color=NEGATIVE, markeredgecolor="white", markersize=9, linestyle="none",
              label="where training stopped")
    legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1)
    return made
