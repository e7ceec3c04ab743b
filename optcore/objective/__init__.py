"""A loss as a function of one flat vector theta: what every analysis of the library works on."""

from optcore.objective.layers import LayerState, Variant, filters_of
from optcore.objective.objective import KINDS, Objective, check_objective

__all__ = ["KINDS", "LayerState", "Objective", "Variant", "check_objective", "filters_of"]
