"""The instruction-set level: chosen once, at import, from the CPU or from ``OPTCORE_ISA``."""
import os

from optcore._native.c cimport (
    OC_ABI_VERSION, OC_N_LEVELS, oc_abi_version, oc_gradients_within, oc_kernels_at, oc_kernels_best,
    oc_layer_factor, oc_level, oc_level_name, oc_prepare, oc_tree_sum,
)

cdef const oc_kernels *_kernels = NULL


cdef const oc_kernels *kernels() noexcept nogil:
    return _kernels


cdef double tree_sum(Py_ssize_t n, double *x) noexcept nogil:
    return oc_tree_sum(n, x)


cdef void prepare(oc_rule rule, oc_dtype dtype, const oc_options *options, int64_t step, double grad_scale,
                  oc_coefficients *c) noexcept nogil:
    oc_prepare(rule, dtype, options, step, grad_scale, c)


cdef void gradients_within(double largest, oc_coefficients *c) noexcept nogil:
    oc_gradients_within(largest, c)


cdef double layer_factor(oc_rule rule, const oc_options *options, const oc_layer *layer) noexcept nogil:
    return oc_layer_factor(rule, options, layer)


def available_levels():
    """Names of the levels that this build has and this CPU can run, oldest first."""
    return [oc_level_name(<oc_level>i).decode() for i in range(OC_N_LEVELS) if oc_kernels_at(<oc_level>i) != NULL]


def level():
    """Name of the level in use."""
    return oc_level_name(_kernels.level).decode()


cdef _choose():
    global _kernels
    if oc_abi_version() != OC_ABI_VERSION:
        raise ImportError(f"optcore: header has ABI {OC_ABI_VERSION}, library has {oc_abi_version()}; rebuild")
    _kernels = oc_kernels_best()
    asked = os.environ.get("OPTCORE_ISA")
    if not asked:
        return
    for i in range(OC_N_LEVELS):
        if oc_level_name(<oc_level>i).decode() == asked and oc_kernels_at(<oc_level>i) != NULL:
            _kernels = oc_kernels_at(<oc_level>i)
            return
    raise ImportError(f"OPTCORE_ISA: expected one of {', '.join(available_levels())}, got {asked!r}")


_choose()
