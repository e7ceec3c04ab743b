"""What all pictures share: colours, frames, and how a figure becomes a file."""

import io

THIN, BOLD, OTHER, NEGATIVE, ZERO = "#a9bdd6", "#1f4e8c", "#d1662b", "#b3202c", "#8a8a8a"
INK = "#333333"


def figure(width, height=4.6, title=None):
    """Return a figure of so many inches; a ModuleNotFoundError says what is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a picture needs matplotlib: pip install matplotlib") from error
    made = Figure(figsize=(width, height), layout="constrained")
    if title:
        made.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    return made


def style(axes, x=None, y=None):
    """Give axes the look of all, and their labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(which="both", labelsize=9, colors=INK)
    axes.grid(True, which="major", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    if x:
        axes.set_xlabel(x, fontsize=10, color=INK)
    if y:
        axes.set_ylabel(y, fontsize=10, color=INK)


def legend(axes, **options):
    """A legend without a frame."""
    axes.legend(**{"fontsize": 9, "frameon": False, "labelcolor": INK} | options)


def save(made, path, dpi=160):
    """Write the figure; the ending of the path says the format."""
    made.savefig(path, dpi=dpi)


def svg(made):
    """Return the figure as SVG text, the same for the same figure."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "optcore"}):
        made.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
