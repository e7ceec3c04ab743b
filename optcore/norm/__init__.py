"""Normalization: batch norm, with the R-operator of its forward and backward pass."""

from optcore.norm.batch import Saved, batch_norm, batch_norm_backward, batch_norm_backward_jvp, batch_norm_jvp

__all__ = ["Saved", "batch_norm", "batch_norm_backward", "batch_norm_backward_jvp", "batch_norm_jvp"]
