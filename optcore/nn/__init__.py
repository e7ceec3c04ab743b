"""Networks: layers in a row over one flat parameter vector, and the objective that an analysis works on.

A network is described as data (`program`) that the operations' table (`ops`) executes.
"""

from optcore.nn import init
from optcore.nn.images import AvgPool2d, Conv2d, MaxPool2d
from optcore.nn.layers import ELU, GELU, Dropout, Flatten, Linear, ReLU, Sigmoid, SiLU, Tanh
from optcore.nn.losses import BCE, MSE, CrossEntropy, Huber
from optcore.nn.lsuv import lsuv_
from optcore.nn.network_objective import objective
from optcore.nn.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from optcore.nn.residual import Residual
from optcore.nn.sequential import Sequential

__all__ = ["BCE", "ELU", "GELU", "MSE", "AvgPool2d", "BatchNorm", "Conv2d", "CrossEntropy", "Dropout", "Flatten",
           "GroupNorm", "Huber", "InstanceNorm", "LayerNorm", "Linear", "MaxPool2d", "RMSNorm", "ReLU", "Residual",
           "Sequential", "SiLU", "Sigmoid", "Tanh", "init", "lsuv_", "objective"]
