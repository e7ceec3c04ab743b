# The drivers of convolutions, for others that have checked their arguments; and the geometry that pools share.
cimport numpy as cnp

from optcore._native.c cimport oc_window

cdef struct convolution:
    oc_window w             # of one image
    int dtype
    Py_ssize_t item         # bytes of an element
    Py_ssize_t out_channels
    Py_ssize_t depth        # elements of a window, which an output sums over
    Py_ssize_t outputs      # of a channel
    Py_ssize_t rows         # of outputs, whose windows are columns at one time

# Windows of x[..., height, width].
cdef oc_window window(Py_ssize_t channels, Py_ssize_t height, Py_ssize_t width, object kernel, object stride,
                      object padding) except *
cdef convolution convolution_of(oc_window w, Py_ssize_t out_channels, int dtype) noexcept nogil
# Doubles of memory that the functions below take for so many images; never fewer for more.
cdef Py_ssize_t convolution_room(const convolution *c, Py_ssize_t images) noexcept nogil
# y = convolution of x + bias, which may be NULL; with `add`, y += it.
cdef void convolve(const convolution *c, Py_ssize_t images, const char *x, const char *weight, const char *bias, bint add,
                   char *y, double *room) noexcept nogil
# From dy: dweight and dbias (NULL: not wanted; dbias only with dweight), and dx (NULL: not wanted); with `add`, dweight and
# dx are added to. dbias never is.
cdef void convolve_backward(const convolution *c, Py_ssize_t images, const char *dy, const char *x, const char *weight,
                            bint add, char *dweight, char *dbias, char *dx, double *room) noexcept nogil
