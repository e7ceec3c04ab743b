# What a layerwise update rule does between its two element-wise passes (optcore.h lists the stages).
cimport numpy as cnp

from optcore._native.c cimport oc_coefficients, oc_dtype, oc_layer, oc_options, oc_rule

ctypedef struct Layer:
    oc_layer size        # n, rows and columns of one matrix of the tensor; the norms of this step
    Py_ssize_t matrices # the last two dimensions are a matrix; 1 for a vector
    Py_ssize_t first    # its first block among those of all layers
    Py_ssize_t itemsize
    oc_dtype dtype
    char *theta
    char *u
    char *work          # what it needs beside u between the passes
    char *factor[2]     # row and column factor of the second moment, or NULL
    const oc_options *options
    oc_coefficients *c  # of this step; NULL skips the layer


cdef class Layers:
    cdef oc_rule rule
    cdef oc_rule last_stage
    cdef Layer *layers
    cdef Py_ssize_t n_layers, capacity, elements
    cdef list memory        # of each layer's u
    cdef Py_ssize_t *owner  # of each block
    cdef double *partial    # sums of squares of the blocks of theta, then of u
    cdef Py_ssize_t n_blocks
    cdef char *work         # of all layers

    cdef size_t _room(self, const Layer *l) noexcept nogil
    # Begins a layer for a parameter; returns its u, which lies to the cache lines as the parameter does.
    cdef void *add(self, cnp.ndarray parameter) except NULL
    cdef int truncate(self, Py_ssize_t count) except -1
    # Allocates what `transform` needs: to be called when layers were added or taken away.
    cdef int plan(self) except -1
    # From the u that the first pass left to the one that the last pass takes; multiplies each layer's eta.
    cdef void transform(self) noexcept nogil
    cdef void _look_at_each(self) noexcept nogil
    cdef void _look_at(self, Py_ssize_t i) noexcept nogil
    cdef void _take_norms(self) noexcept nogil
    cdef void _square_block(self, Py_ssize_t b) noexcept nogil
