"""What the loss looks like around a point: slices along chosen directions, toy surfaces, rules rolling down them."""

from optcore.landscape import surfaces
from optcore.landscape.descent import Descent, descend
from optcore.landscape.directions import eigen_directions, random_direction, step_direction, trajectory_directions
from optcore.landscape.slices import Line, Plane, line, plane

__all__ = ["Descent", "Line", "Plane", "descend", "eigen_directions", "line", "plane", "random_direction",
           "step_direction", "surfaces", "trajectory_directions"]
