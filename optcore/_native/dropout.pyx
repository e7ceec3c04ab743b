"""Dropout: the mask comes from a counter, so it is made again for each pass and never stored."""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint64_t

from optcore._native.arrays cimport IN, checked, dtype_of
from optcore._native.c cimport OC_BLOCK, OC_F32
from optcore._native.core cimport kernels
from optcore._native.threads cimport num_threads

cnp.import_array()


cdef dropout_call dropout_at(int dtype, Py_ssize_t n, double p, int64_t seed, int64_t step) noexcept nogil:
    cdef dropout_call c
    c.dtype, c.n = dtype, n
    # A 64-bit Weyl sequence from the seed on, which the kernel mixes (splitmix64; Steele, Lea and Flood 2014).
    c.key = <uint64_t>seed + <uint64_t>step * <uint64_t>0x9e3779b97f4a7c15
    c.drop = <int32_t>(p * 16777216.0 + 0.5)
    c.scale = 1 / (1 - p) if p < 1 else 0
    return c


cdef void run_dropout(const dropout_call *c, const char *x, char *y) noexcept nogil:
    cdef Py_ssize_t blocks = (c.n + OC_BLOCK - 1) // OC_BLOCK, b, at, item = 4 if c.dtype == OC_F32 else 8
    for b in prange(blocks, schedule="static", num_threads=num_threads(c.n)):
        at = b * OC_BLOCK
        kernels().dropout[c.dtype](at, min(<Py_ssize_t>OC_BLOCK, c.n - at), c.key, c.drop, c.scale, x + at * item,
                                   y + at * item)


def dropout(x, double p, int64_t seed, int64_t step):
    """Return x/(1 - p) where a random number of (seed, step, index) keeps it, else 0.

    Linear in x: the adjoint and its derivatives take the same function.

    Parameters
    ----------
    x : ndarray, float32 or float64
    p : float
        Share that is dropped, from 0 to 1; a multiple of 2**-24 is taken.
    seed, step : int
        Of 64 bits.

    Returns
    -------
    ndarray
    """
    cdef cnp.ndarray a = checked(x, "x", IN)
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a number from 0 to 1, got {p}")
    cdef cnp.ndarray y = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0)
    cdef dropout_call c = dropout_at(dtype_of(a), cnp.PyArray_SIZE(a), p, seed, step)
    with nogil:
        run_dropout(&c, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(y))
    return y
