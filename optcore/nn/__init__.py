"""Networks: layers in a row over one flat parameter vector, and the objective that an analysis works on.

A network is described as data (`program`) that the operations' table (`ops`) executes.
"""

from optcore.nn import init
from optcore.nn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Flatten,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Tanh,
)
from optcore.nn.losses import BCE, MSE, CrossEntropy, Huber
from optcore.nn.network_objective import objective
from optcore.nn.sequential import Sequential

__all__ = ["BCE", "ELU", "GELU", "MSE", "BatchNorm", "CrossEntropy", "Flatten", "GroupNorm", "Huber", "InstanceNorm",
           "LayerNorm", "Linear", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid", "Tanh", "init", "objective"]
