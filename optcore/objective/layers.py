"""What an objective says of a model that has layers."""

import math
from typing import Any, NamedTuple


class LayerState(NamedTuple):
    """What `Objective.layers` says of one layer of weights, with the norms and the activation behind it.

    Attributes
    ----------
    name : str
    weight_gradient : float
        2-norm of the gradient of the loss with respect to the layer's weights.
    signal_gradient : float
        2-norm, over all examples, of the gradient with respect to the pre-activations.
    dead : float
        Share of the units whose activation has a zero derivative on every example; NaN without an activation.
    """

    name: str
    weight_gradient: float
    signal_gradient: float
    dead: float


class Variant(NamedTuple):
    """A network with one thing changed that may help its gradients; see `Objective.variants`.

    Attributes
    ----------
    name : str
        What was changed.
    objective : Objective
    theta : array [m]
        Where it starts.
    layer : str or None
        The name of the only layer that was changed, if there is but one.
    """

    name: str
    objective: Any
    theta: Any
    layer: str | None = None


def filters_of(parameters):
    """Return (start, stop) of the filters of parameters given as (start, shape): the rows of what is no vector."""
    return [(start + i * (math.prod(shape) // shape[0]), start + (i + 1) * (math.prod(shape) // shape[0]))
            for start, shape in parameters if len(shape) > 1 for i in range(shape[0])]
