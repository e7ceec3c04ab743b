"""Pictures, with matplotlib's object interface: no global state, no window, safe in any thread."""

from optcore.plot.density import density
from optcore.plot.landscape import animate, contour, surface
from optcore.plot.training import training
from optcore.plot.verification import verification

__all__ = ["animate", "contour", "density", "surface", "training", "verification"]
