# The factors among the constants of an element-wise kernel of src_c/optcore.h, and the powers of 2 that they leave to the
# inputs where float32 does not hold them.
#
# Input 0 is multiplied by row 1 of the constants after row 0 was subtracted, input 1 by row 4 after row 5, input 2 by row 6
# after row 7; input 3 shares the factor of input 0, after row 9.
from optcore._native.c cimport OC_MAX_INPUTS, oc_all_safe, oc_power_of


cdef inline bint are_safe(const double *constants, Py_ssize_t ld, int rows, Py_ssize_t n) noexcept nogil:
    """Whether n channels' constants, so many rows `ld` apart, can stay as they are, as far as their 1/deviation lets."""
    return (oc_all_safe(n, constants + ld) and (rows < 6 or oc_all_safe(n, constants + 4 * ld))
            and (rows < 10 or oc_all_safe(n, constants + 6 * ld)))


cdef inline void take_powers(double *constants, Py_ssize_t ld, int rows, double inv_std) noexcept nogil:
    """Take the powers of 2 out of the factors, into OC_MAX_INPUTS rows behind the constants."""
    cdef int k, factor, centre, factors = 1 if rows < 6 else 2 if rows < 10 else 3
    cdef double *powers = constants + rows * ld
    cdef double power
    for k in range(factors):
        factor, centre = (2 * k + 2, 2 * k + 3) if k else (1, 0)
        power = powers[k * ld] = oc_power_of(constants[factor * ld], 1 if k else inv_std)
        constants[factor * ld] /= power
        constants[centre * ld] = <float>constants[centre * ld] * power  # as float32 holds it without the power
    for k in range(factors, OC_MAX_INPUTS):
        powers[k * ld] = 1
    if factors == 3:
        powers[3 * ld] = powers[0]
        constants[9 * ld] = <float>constants[9 * ld] * powers[0]
    if rows == 8:  # the output that is made again from x
        constants[6 * ld] /= powers[0]
