"""The picture of a spectral density."""

import numpy as np

from optcore.plot.style import BOLD, INK, OTHER, THIN, figure, legend, save, style


def density(spectrum, path, *, title=None):
    """Draw a spectral density on a logarithmic scale, with its error and the eigenvalues that stand alone.

    Parameters
    ----------
    spectrum : optcore.curvature.SpectralDensity
        Anything with its ``grid``, ``density``, ``standard_error``, ``outliers``, ``size`` and ``shares``.
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
    >>> spectrum = oc.curvature.spectral_density(np.diag(np.r_[np.linspace(-1, 1, 200), 9.0]), probes=3, steps=20)
    >>> path = os.path.join(tempfile.mkdtemp(), "density.png")
    >>> density(spectrum, path)
    >>> os.path.getsize(path) > 1000
    True
    """
    save(density_figure(spectrum, title), path)


def density_figure(spectrum, title=None):
    """Return the figure of `density`."""
    made = figure(7.6, title=title)
    axes = made.subplots()
    style(axes, f"eigenvalue, {spectrum.size:,} in all", "density")
    x, y, error = spectrum.grid, spectrum.density, np.nan_to_num(spectrum.standard_error)
    least = y.max() * 1e-2 / max(spectrum.size, 100)    # a hundredth of what one eigenvalue adds at its place
    axes.fill_between(x, np.maximum(y - 2 * error, least), np.maximum(y + 2 * error, least), color=THIN, alpha=0.6,
                      linewidth=0, label="\u00b1 2 standard errors")
    axes.plot(x, np.where(y > least, y, np.nan), color=BOLD, linewidth=1.6, label="density")
    axes.set_yscale("log")
    axes.set_ylim(least, y.max() * 100)
    if spectrum.outliers.size:
        axes.plot(spectrum.outliers, np.full(spectrum.outliers.size, y.max() * 4), linestyle="none", marker="v",
                  color=OTHER, markersize=6, label="eigenvalues that stand alone")
    axes.axvline(0.0, color=INK, linewidth=0.8)
    legend(axes, loc="upper right", ncols=3)
    axes.set_title(_signs(spectrum.shares), fontsize=9, loc="left", color=INK)
    return made


def _signs(shares):
    def words(name):
        low, high = (f"{100 * end:.3g}" for end in getattr(shares, f"{name}_interval"))
        return f"{name} {low} %" if low == high else f"{name} {low} to {high} %"

    return ",  ".join(map(words, ("negative", "zero", "positive"))) + f"  (zero: within {shares.tau:.2g})"
