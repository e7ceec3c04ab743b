"""The argument checks that the normalizations share, over those of arrays.pyx."""
cimport numpy as cnp
from libc.math cimport INFINITY
from optcore._native.arrays cimport (
    IN, OUT, checked, disjoint, dtype_of, is_bf16, laid_out, same_dtype, same_shape, type_of_numbers,
)
from optcore._native.c cimport OC_F32, OC_F64

import numbers

import numpy as np

cnp.import_array()

cdef enum:
    # Bytes from which a new array lies to the cache lines as x does, so that the kernels can read and write full lines
    # of both.
    ALIGNED = 65536
    # ... and half of so many bytes further: a load that agrees with a store before it in the address's last bits waits for it.
    ALIAS = 4096


cdef cnp.ndarray checked_values(object a, str name, int intent):
    cdef int typenum
    if cnp.PyArray_Check(a):
        typenum = cnp.PyArray_TYPE(<cnp.ndarray>a)
        if typenum != cnp.NPY_FLOAT32 and typenum != cnp.NPY_FLOAT64 and not is_bf16(<cnp.ndarray>a):
            view = f" (where it holds bfloat16: {name}.view(ml_dtypes.bfloat16))" if typenum == cnp.NPY_UINT16 else ""
            raise TypeError(f"{name}: expected dtype float32, float64 or bfloat16, got {a.dtype}{view}")
    return laid_out(a, name, intent)


cpdef cnp.ndarray float_array(object a, str name, bint written=False):
    return checked(a, name, OUT if written else IN)


cdef cnp.ndarray like(object a, str name, cnp.ndarray x, int intent):
    cdef cnp.ndarray b = checked_values(a, name, intent)
    same_dtype(b, name, x, "x")
    same_shape(b, name, x, "x")
    return b


cdef cnp.ndarray input_like(object a, str name, cnp.ndarray x):
    return like(a, name, x, IN)


cdef cnp.ndarray output_like(object out, cnp.ndarray x):
    if out is not None:
        return like(out, "out", x, OUT)
    if cnp.PyArray_NBYTES(x) < ALIGNED:
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    cdef cnp.npy_intp size = cnp.PyArray_NBYTES(x) + ALIAS
    cdef cnp.ndarray room = cnp.PyArray_EMPTY(1, &size, cnp.NPY_UINT8, 0)
    cdef Py_ssize_t offset = <Py_ssize_t>cnp.PyArray_DATA(x) - <Py_ssize_t>cnp.PyArray_DATA(room)
    cdef char *data = <char *>cnp.PyArray_DATA(room) + ((offset + ALIAS // 2) & (ALIAS - 1))
    cdef cnp.ndarray y = cnp.PyArray_New(cnp.ndarray, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), NULL,
                                         data, 0, cnp.NPY_ARRAY_CARRAY, None)
    cnp.set_array_base(y, room)
    return y


cdef cnp.ndarray parameter(object a, str name, tuple shape, str per):
    if a is None:
        return None
    cdef cnp.ndarray v = checked(a, name, IN)
    if tuple((<object>v).shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, one value per {per}, got {tuple((<object>v).shape)}")
    return v


cdef double *statistic(object a, str name, Py_ssize_t n) except NULL:
    cdef cnp.ndarray v = checked(a, name, IN)
    if cnp.PyArray_TYPE(v) != cnp.NPY_FLOAT64 or cnp.PyArray_SIZE(v) != n:
        raise ValueError(f"{name}: expected {n} values of float64, those of this x, got {v.dtype} of shape "
                         f"{tuple((<object>v).shape)}")
    return <double *>cnp.PyArray_DATA(v)


cdef int apart(cnp.ndarray out, list read) except -1:
    for name, a in read:
        if a is not None:
            disjoint(out, "out", <cnp.ndarray>a, <str>name)
    return 0


cdef double real_number(object value, str name) except? -1:
    if type(value) is not float and (not isinstance(value, numbers.Real) or isinstance(value, bool)):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    return value


cdef double at_least_zero(object value, str name) except? -1:
    cdef double number = real_number(value, name)
    if not 0 <= number < INFINITY:
        raise ValueError(f"{name}: expected a finite number, at least 0, got {value}")
    return number


cdef Py_ssize_t integer(object value, str name) except? -1:
    if type(value) is not int and (not isinstance(value, numbers.Integral) or isinstance(value, bool)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    try:
        return value
    except OverflowError:
        raise ValueError(f"{name}: expected an integer of 64 bits, got {value}") from None


ctypedef fused real:
    float
    double

ctypedef fused other:
    float
    double


cdef void _copy(real *to, const other *values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = <real>values[i]


cdef void copied(void *to, int dtype, cnp.ndarray a, double otherwise, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i
    if a is None:
        for i in range(n):
            if dtype != OC_F64:
                (<float *>to)[i] = <float>otherwise
            else:
                (<double *>to)[i] = otherwise
    elif dtype != OC_F64:
        if dtype_of(a) == OC_F32:
            _copy[float, float](<float *>to, <const float *>cnp.PyArray_DATA(a), n)
        else:
            _copy[float, double](<float *>to, <const double *>cnp.PyArray_DATA(a), n)
    elif dtype_of(a) == OC_F32:
        _copy[double, float](<double *>to, <const float *>cnp.PyArray_DATA(a), n)
    else:
        _copy[double, double](<double *>to, <const double *>cnp.PyArray_DATA(a), n)


cdef cnp.ndarray stored(const double *values, cnp.ndarray like, object shape, cnp.ndarray x):
    cdef cnp.ndarray a = np.empty(shape, cnp.PyArray_DescrFromType(type_of_numbers(x if like is None else like)))
    if dtype_of(a) == OC_F32:
        _copy[float, double](<float *>cnp.PyArray_DATA(a), values, cnp.PyArray_SIZE(a))
    else:
        _copy[double, double](<double *>cnp.PyArray_DATA(a), values, cnp.PyArray_SIZE(a))
    return a


cdef double *doubles(cnp.ndarray a) noexcept:
    return <double *>cnp.PyArray_DATA(a)
