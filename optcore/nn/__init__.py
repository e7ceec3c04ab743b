"""Networks: layers in a row over one flat parameter vector, and the objective that an analysis works on.

A network is described as data (`program`) that the operations' table (`ops`) executes.
"""

from optcore.nn import init
from optcore.nn.layers import (
    ELU,
    BatchNorm,
    Flatten,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    ReLU,
    RMSNorm,
    Sigmoid,
    Tanh,
)
from optcore.nn.network_objective import objective
from optcore.nn.sequential import Sequential

__all__ = ["ELU", "BatchNorm", "Flatten", "GroupNorm", "InstanceNorm", "LayerNorm", "Linear", "RMSNorm", "ReLU",
           "Sequential", "Sigmoid", "Tanh", "init", "objective"]
