"""Normalization: batch norm and its kin, layer, RMS, group and instance norm, with backward passes and R-operators.

docs/normalization.md has a table of which library computes what.
"""

from optcore.norm.batch import Saved, batch_norm, batch_norm_backward, batch_norm_backward_jvp, batch_norm_jvp
from optcore.norm.fold import fold_batch_norm
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
from optcore.norm.renorm import (
    RenormSaved,
    batch_renorm,
    batch_renorm_backward,
    batch_renorm_backward_jvp,
    batch_renorm_jvp,
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
from optcore.norm.saved import Statistics
from optcore.norm.spectral import (
    SpectralNormSaved,
    spectral_norm,
    spectral_norm_backward,
    spectral_norm_backward_jvp,
    spectral_norm_jvp,
)
from optcore.norm.statistics import Moments, moments
from optcore.norm.weight import (
    WeightNormSaved,
    weight_norm,
    weight_norm_backward,
    weight_norm_backward_jvp,
    weight_norm_jvp,
)

__all__ = ["Moments", "RenormSaved", "Saved", "SpectralNormSaved", "Statistics", "WeightNormSaved", "batch_norm",
           "batch_norm_backward", "batch_norm_backward_jvp", "batch_norm_jvp", "batch_renorm",
           "batch_renorm_backward", "batch_renorm_backward_jvp", "batch_renorm_jvp", "fold_batch_norm", "group_norm",
           "group_norm_backward", "group_norm_backward_jvp", "group_norm_jvp", "instance_norm",
           "instance_norm_backward", "instance_norm_backward_jvp", "instance_norm_jvp", "layer_norm",
           "layer_norm_backward", "layer_norm_backward_jvp", "layer_norm_jvp", "moments", "rms_norm",
           "rms_norm_backward", "rms_norm_backward_jvp", "rms_norm_jvp", "spectral_norm", "spectral_norm_backward",
           "spectral_norm_backward_jvp", "spectral_norm_jvp", "weight_norm", "weight_norm_backward",
           "weight_norm_backward_jvp", "weight_norm_jvp"]
