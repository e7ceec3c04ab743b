"""A loss as a function of one flat vector theta: what every analysis of the library works on."""

from optcore.objective.layers import LayerState, Variant, filters_of
from optcore.objective.objective import Objective, check_objective

__all__ = ["LayerState", "Objective", "Variant", "check_objective", "filters_of"]
