"""Quantities of a whole matrix from products with random vectors, each with its standard error."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from optcore.curvature import arguments


@dataclass(frozen=True)
class Estimate:
    """An estimated quantity, a number or an array.

    Attributes
    ----------
    value, standard_error : float or array
        The standard error is 0 where nothing was left to chance, NaN where one sample is all there is.
    samples : int
        How many independent terms the value is a mean of.
    products : int
        Products with H that it took.
    """

    value: float | np.ndarray
    standard_error: float | np.ndarray
    samples: int = 1
    products: int = 0

    def interval(self, confidence=0.95):
        """Return (low, high), Student's interval with ``samples - 1`` degrees of freedom."""
        arguments.probability("confidence", confidence)
        t = stdtrit(self.samples - 1, 0.5 + 0.5 * confidence) if self.samples > 1 else 1.0
        return self.value - t * self.standard_error, self.value + t * self.standard_error
