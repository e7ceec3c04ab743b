"""Normalization layers as functions: forward, backward, and the R-operator (derivative along a direction) of both."""

from optcore.norm.batch import Saved, batch_norm, batch_norm_backward, batch_norm_backward_jvp, batch_norm_jvp

__all__ = ["Saved", "batch_norm", "batch_norm_backward", "batch_norm_backward_jvp", "batch_norm_jvp"]
