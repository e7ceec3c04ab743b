"""Normalization: batch norm and its kin, each with its backward pass and the R-operator of both.

docs/normalization.md has a table of which library computes what.
"""

from optcore.norm.batch import Saved, batch_norm, batch_norm_backward, batch_norm_backward_jvp, batch_norm_jvp
from optcore.norm.fold import fold_batch_norm
from optcore.norm.renorm import (
    RenormSaved,
    batch_renorm,
    batch_renorm_backward,
    batch_renorm_backward_jvp,
    batch_renorm_jvp,
)
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

__all__ = ["Moments", "RenormSaved", "Saved", "SpectralNormSaved", "WeightNormSaved", "batch_norm",
           "batch_norm_backward", "batch_norm_backward_jvp", "batch_norm_jvp", "batch_renorm", "batch_renorm_backward",
           "batch_renorm_backward_jvp", "batch_renorm_jvp", "fold_batch_norm", "moments", "spectral_norm",
           "spectral_norm_backward", "spectral_norm_backward_jvp", "spectral_norm_jvp", "weight_norm",
           "weight_norm_backward", "weight_norm_backward_jvp", "weight_norm_jvp"]
