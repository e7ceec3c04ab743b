"""Curvature of an `Objective`: its matrices as operators, eigenpairs, spectra with error bars, the kind of a point."""

from optcore.curvature.critical import CriticalPoint, classify
from optcore.curvature.density import SpectralDensity, spectral_density
from optcore.curvature.escape import Escape, escape, escape_time
from optcore.curvature.estimates import Estimate, diagonal, frobenius_norm, trace
from optcore.curvature.flatness import Flatness, flatness, keskar_sharpness, sam_sharpness
from optcore.curvature.follow import Follow, follow
from optcore.curvature.operators import EmpiricalFisher, GaussNewton, Hessian
from optcore.curvature.pairs import Eigenpairs, Extremes, eigenpairs, extremes
from optcore.curvature.perturbed import perturbed_descent
from optcore.curvature.precondition import Preconditioned, preconditioner
from optcore.curvature.taylor import Step, Taylor, taylor

__all__ = ["CriticalPoint", "Eigenpairs", "EmpiricalFisher", "Escape", "Estimate", "Extremes", "Flatness", "Follow",
           "GaussNewton", "Hessian", "Preconditioned", "SpectralDensity", "Step", "Taylor", "classify", "diagonal",
           "eigenpairs", "escape", "escape_time", "extremes", "flatness", "follow", "frobenius_norm",
           "keskar_sharpness", "perturbed_descent", "preconditioner", "sam_sharpness", "spectral_density", "taylor",
           "trace"]
