from optcore._native.c cimport oc_kernels, oc_layer, oc_rule, oc_dtype, oc_options, oc_coefficients
from libc.stdint cimport int64_t

# The only module that links the C core. The others reach it through these.
cdef const oc_kernels *kernels() noexcept nogil
cdef double tree_sum(Py_ssize_t n, double *x) noexcept nogil
cdef void prepare(oc_rule rule, oc_dtype dtype, const oc_options *options, int64_t step, double grad_scale,
                  oc_coefficients *c) noexcept nogil
cdef void gradients_within(double largest, oc_coefficients *c) noexcept nogil
cdef double layer_factor(oc_rule rule, const oc_options *options, const oc_layer *layer) noexcept nogil
