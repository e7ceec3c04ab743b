"""Pictures of landscapes: contours, a surface in three dimensions, rules that roll down."""

import html
import re
from pathlib import Path

import numpy as np

from optcore.plot.style import INK, NEGATIVE, figure, legend, save, style

_COLORS = ("#d1662b", "#1f4e8c", "#3b8f5a", "#8a4fa3", "#b3202c", "#5f6b7a")
_SIGNS = {"minus": "\u2212", "plus": "+", "fast-backward": "|\u25c0", "step-backward": "\u25c1", "play": "\u25b6",
          "pause": "\u2016", "step-forward": "\u25b7", "fast-forward": "\u25b6|"}
_TERRAIN = ("#ffffff", "#4d4d4d")  # grey: the ways on it are coloured
_DOT, _SQUARE, _STAR = ({"marker": m, "markersize": size} for m, size in (("o", 6), ("s", 5), ("*", 13)))


def contour(plane, path, *, title=None, labels=("first direction", "second direction"), paths=(), minima=()):
    """Draw a plane as contours, with the ways of rules over it.

    Parameters
    ----------
    plane : optcore.landscape.Plane
    path : str or path
        File to write; its ending says the format.
    title : str, optional
    labels : (str, str)
        Of the axes.
    paths : sequence of (str, array [m, 2])
        A name and the coordinates of its points; points of one name share a colour.
    minima : array [k, 2]
        Coordinates that are marked with stars.

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed.

    Examples
    --------
    >>> import os, tempfile, numpy as np, optcore as oc
    >>> valley = oc.landscape.surfaces.get("valley")
    >>> p = oc.landscape.plane(valley.objective, np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0]))
    >>> path = os.path.join(tempfile.mkdtemp(), "valley.png")
    >>> contour(p, path, minima=valley.minima)
    >>> os.path.getsize(path) > 1000
    True
    """
    made = figure(6.6, 4.8, title)
    axes = made.subplots()
    style(axes, *labels)
    draw_contours(made, axes, plane, grey=len(paths) > 0)
    _stars(axes, minima)
    _ways(axes, paths)
    if not len(paths) and not len(minima):
        axes.plot(0.0, 0.0, color=NEGATIVE, linestyle="none", markeredgecolor="white", label="theta", **_DOT)
    _key(axes)
    save(made, path)


def surface(plane, path, *, title=None, labels=("first direction", "second direction"), paths=(), minima=()):
    """Draw a plane in three dimensions; the loss by its logarithm where it spans several powers of ten.

    Parameters
    ----------
    plane : optcore.landscape.Plane
    path : str or path
    title : str, optional
    labels : (str, str)
    paths : sequence of (str, array [m, 2])
        As in `contour`, on the surface: at the heights of the points of the plane beside them.
    minima : array [k, 2]

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed.

    Examples
    --------
    >>> import os, tempfile, numpy as np, optcore as oc
    >>> saddle = oc.landscape.surfaces.get("saddle")
    >>> p = oc.landscape.plane(saddle.objective, np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0]))
    >>> path = os.path.join(tempfile.mkdtemp(), "saddle.png")
    >>> surface(p, path)
    >>> os.path.getsize(path) > 1000
    True
    """
    made = figure(6.4, 5.0, title)
    axes = made.add_subplot(projection="3d", computed_zorder=False)  # else the surface hides what lies on it
    scale, height = _scale(plane.loss), plane.loss
    if "norm" in scale:
        height = np.log10(np.maximum(plane.loss, scale["levels"][0]))
    x, y = np.meshgrid(plane.x, plane.y)
    axes.plot_surface(x, y, np.where(np.isfinite(height), height, np.nan), linewidth=0, antialiased=True, rcount=80,
                      ccount=80, cmap=_terrain() if len(paths) else "viridis")
    _on_surface(axes, plane, height, paths, minima)
    axes.locator_params(nbins=5)
    axes.set_xlabel(labels[0], fontsize=9, color=INK, labelpad=7)
    axes.set_ylabel(labels[1], fontsize=9, color=INK, labelpad=7)
    axes.set_zlabel("log10 of the loss" if "norm" in scale else "loss", fontsize=9, color=INK, labelpad=7)
    axes.tick_params(labelsize=8, colors=INK)
    axes.view_init(elev=35, azim=-60)
    axes.set_box_aspect(None, zoom=0.82)  # else the label of the height is cut off
    _key(axes)
    save(made, path)


def _on_surface(axes, plane, height, paths, minima):
    """The ways, stars at the minima, or a dot at theta; what lies beside the plane is left out."""
    def at(points):
        points = np.atleast_2d(points)
        inside = ((points >= (plane.x[0], plane.y[0])) & (points <= (plane.x[-1], plane.y[-1]))).all(axis=1)
        points = points[inside]
        i, j = (np.abs(side[:, None] - points[:, k]).argmin(axis=0) for k, side in enumerate((plane.x, plane.y)))
        return *points.T, height[j, i]

    for name, color, points in _coloured(paths):
        axes.plot(*at(points), color=color, linewidth=1.6, label=name, zorder=5)
        axes.plot(*at(points[-1]), color=color, linestyle="none", zorder=6, markeredgecolor="white", **_SQUARE)
    for i, point in enumerate(minima):
        axes.plot(*at(point), color="white", linestyle="none", markeredgecolor=INK, zorder=6,
                  label=None if i else "minimum", **_STAR)
    if not len(paths) and not len(minima):
        axes.plot(*at((0.0, 0.0)), color=NEGATIVE, linestyle="none", markeredgecolor="white", zorder=6, label="theta",
                  **_DOT)


def animate(plane, paths, path, *, title=None, labels=("first direction", "second direction"), minima=(), frames=60,
            per_second=15):
    """Draw rules rolling down a plane as a film.

    Parameters
    ----------
    plane : optcore.landscape.Plane
    paths : sequence of (str, array [m, 2])
        A name and the coordinates of its points, one for each step.
    path : str or path
        File to write: ``.gif`` (needs Pillow), ``.html`` (a page that needs no network), or ``.mp4`` (needs ffmpeg).
    title : str, optional
    labels : (str, str)
    minima : array [k, 2]
    frames : int
        At most.
    per_second : int

    Raises
    ------
    ValueError
        Another ending, or ffmpeg is missing.
    ModuleNotFoundError
        matplotlib is not installed.

    Examples
    --------
    >>> import os, tempfile, numpy as np, optcore as oc
    >>> valley = oc.landscape.surfaces.get("valley")
    >>> p = oc.landscape.plane(valley.objective, np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0]))
    >>> ways = oc.landscape.descend(valley.objective, valley.starts[:1], {"sgd": ("sgd", {"lr": 0.015})}, steps=5)
    >>> path = os.path.join(tempfile.mkdtemp(), "valley.gif")
    >>> animate(p, [(way.name, way.thetas) for way in ways], path, frames=3)
    >>> os.path.getsize(path) > 1000
    True
    """
    ending = Path(path).suffix
    if ending not in (".gif", ".html", ".mp4"):
        raise ValueError(f"path: expected a film's ending, .gif, .html or .mp4, got {ending!r}")
    made = figure(6.6, 4.8, title)
    from matplotlib import animation

    if ending == ".mp4" and not animation.writers.is_available("ffmpeg"):
        raise ValueError("path: .mp4 needs the program ffmpeg; .gif and .html do not")
    axes = made.subplots()
    style(axes, *labels)
    draw_contours(made, axes, plane, grey=True)
    _stars(axes, minima)
    rows = [(points, *axes.plot([], [], color=color, linewidth=1.4, label=name),
             *axes.plot([], [], color=color, linestyle="none", markeredgecolor="white", marker="o", markersize=9))
            for name, color, points in _coloured(paths)]
    for points, trail, _ in rows:
        axes.plot(*points[0], color=trail.get_color(), linestyle="none", markeredgecolor="white", **_DOT)
    axes.plot([], [], color=INK, linestyle="none", label="start", **_DOT)
    _key(axes)
    axes.set_xlim(plane.x[0], plane.x[-1])
    axes.set_ylim(plane.y[0], plane.y[-1])
    longest = max(len(points) for points, *_ in rows)
    at = np.unique(np.linspace(0, longest - 1, min(frames, longest)).round().astype(int))

    def show(frame):
        for points, trail, ball in rows:
            end = min(at[frame], len(points) - 1)
            trail.set_data(points[:end + 1, 0], points[:end + 1, 1])
            ball.set_data(points[end:end + 1, 0], points[end:end + 1, 1])
        return [line for row in rows for line in row[1:]]

    # Without a canvas of its own a figure cannot draw one frame after another.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(made)
    made.draw_without_rendering()
    film = animation.FuncAnimation(made, show, frames=len(at), interval=1000 / per_second, blit=False)
    if ending == ".html":
        Path(path).write_text(_page(_player(film, per_second), title or "descent"), encoding="utf-8")
    else:
        writer = animation.PillowWriter if ending == ".gif" else animation.FFMpegWriter
        film.save(path, writer=writer(fps=per_second), dpi=90)


def _player(film, per_second):
    import matplotlib

    with matplotlib.rc_context({"savefig.dpi": 80, "animation.embed_limit": 100}):
        return film.to_jshtml(fps=per_second)


def _page(player, title):
    """A page around matplotlib's player, whose buttons are an icon font from the network: signs take its place."""
    player = re.sub(r'<link rel="stylesheet"[^>]*>', "", player)
    signs = " ".join(f'.fa-{name}::before {{content: "{sign}"}}' for name, sign in _SIGNS.items())
    return (f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
            f"<style>body {{font-family: sans-serif}} .fa {{font-style: normal}} {signs}</style></head>\n"
            f"<body>\n{player}\n</body>\n</html>\n")


def draw_contours(made, axes, plane, grey=False):
    """Draw a plane's contours into axes, and the bar of their colours; grey where coloured ways lie on them."""
    scale = _scale(plane.loss)
    if not scale:
        return
    loss = np.maximum(plane.loss, scale["levels"][0])
    filled = axes.contourf(plane.x, plane.y, loss, cmap=_terrain() if grey else "viridis", **scale)
    axes.contour(plane.x, plane.y, loss, levels=scale["levels"], colors="white", linewidths=0.4, alpha=0.6)
    axes.grid(False)
    bar = made.colorbar(filled, ax=axes, format=_number, ticks=scale["levels"][::3])
    bar.set_label("loss", fontsize=10, color=INK)
    axes.set_xlim(plane.x[0], plane.x[-1])
    axes.set_ylim(plane.y[0], plane.y[-1])


def _number(x, _):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.2g}"


def _terrain():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("terrain", _TERRAIN)


def _scale(loss):
    """Levels of the contours: evenly spaced, or by their logarithm where the loss spans several powers of ten."""
    from matplotlib.colors import LogNorm

    finite = loss[np.isfinite(loss)]
    if not finite.size or np.ptp(finite) == 0:
        return {}
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high > 20 * low:
        low = low or 1e-4 * high    # a loss of 0 has no logarithm
        return {"levels": np.geomspace(low, high, 19), "norm": LogNorm(low, high)}
    return {"levels": np.linspace(low, high, 19)}


def _coloured(paths):
    """(label or None, colour, points) of each path; a name is labelled once."""
    colors = {}
    for name, points in paths:
        label = name if name not in colors else None
        color = colors.setdefault(name, _COLORS[len(colors) % len(_COLORS)])
        yield label, color, np.asarray(points)


def _stars(axes, minima):
    for i, point in enumerate(minima):
        axes.plot(point[0], point[1], color="white", linestyle="none", markeredgecolor=INK,
                  label=None if i else "minimum", **_STAR)


def _ways(axes, paths):
    """Lines with their starts and ends, which the legend names once."""
    for name, color, points in _coloured(paths):
        axes.plot(points[:, 0], points[:, 1], color=color, linewidth=1.5, label=name)
        for point, mark in ((points[0], _DOT), (points[-1], _SQUARE)):
            axes.plot(*point, color=color, linestyle="none", markeredgecolor="white", zorder=4, **mark)
    for which, mark in (("start", _DOT), ("end", _SQUARE)) if len(paths) else ():
        axes.plot([], [], color=INK, linestyle="none", label=which, **mark)


def _key(axes):
    if axes.get_legend_handles_labels()[1]:
        legend(axes, ncols=7, columnspacing=1.0, handlelength=1.2, handletextpad=0.5,
               loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
