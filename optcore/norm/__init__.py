"""Normalization layers as functions: forward, backward, and the R-operator (derivative along a direction) of both."""

from optcore.norm.batch import Saved, batch_norm, batch_norm_backward, batch_norm_backward_jvp, batch_norm_jvp
from optcore.norm.groups import (
    group_norm,
    group_norm_backward,
    group_norm_backward_jvp,
    group_norm_jvp,
    instance_norm,
    instance_norm_backward,
    instance_norm_backward_jvp,
    instance_norm_jvp,
)
from optcore.norm.rows import (
    layer_norm,
    layer_norm_backward,
    layer_norm_backward_jvp,
    layer_norm_jvp,
    rms_norm,
    rms_norm_backward,
    rms_norm_backward_jvp,
    rms_norm_jvp,
)
from optcore.norm.statistics import Statistics

__all__ = ["Saved", "Statistics", "batch_norm", "batch_norm_backward", "batch_norm_backward_jvp", "batch_norm_jvp",
           "group_norm", "group_norm_backward", "group_norm_backward_jvp", "group_norm_jvp", "instance_norm",
           "instance_norm_backward", "instance_norm_backward_jvp", "instance_norm_jvp", "layer_norm",
           "layer_norm_backward", "layer_norm_backward_jvp", "layer_norm_jvp", "rms_norm", "rms_norm_backward",
           "rms_norm_backward_jvp", "rms_norm_jvp"]
