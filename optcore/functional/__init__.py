"""Activations and losses, each with its gradient.

All take C-contiguous float32 or float64 arrays and return arrays of the same dtype. The exponentials are polynomials
of the library's own: at most 2 ulp (float32) or 4 ulp (float64) from the true value over the whole range, and the same
bits on any number of threads and at every instruction-set level.

Wherever a function takes ``out``, it may be one of the inputs named there (the function then works in place), or an
array that shares no memory with them.

Common errors: ``TypeError`` for something that is not an array, or for another dtype or byte order; ``ValueError`` for
a wrong shape, an array that is not C-contiguous, a read-only ``out``, or one that partly overlaps an input. Nothing has
been changed then.
"""

from optcore.functional.activations import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    tanh,
    tanh_backward,
)
from optcore.functional.losses import bce_with_logits, cross_entropy, huber, log_softmax, mse, softmax

__all__ = ["bce_with_logits", "cross_entropy", "elu", "elu_backward", "gelu", "gelu_backward", "huber", "log_softmax",
           "mse", "relu", "relu_backward", "sigmoid", "sigmoid_backward", "silu", "silu_backward", "softmax", "tanh",
           "tanh_backward"]
