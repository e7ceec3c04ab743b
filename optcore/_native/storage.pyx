"""How arrays are kept in memory: float32 and float64, bfloat16 and float16, 8-bit codes with a scale for each block."""
cimport numpy as cnp
from libc.stdint cimport uint64_t
from libc.string cimport memset

from optcore._native cimport arrays
from optcore._native.c cimport (
    OC_AS_BF16, OC_AS_F16, OC_AS_F32, OC_AS_F64, OC_AS_SIGNED_CODES, OC_AS_UNSIGNED_CODES, OC_F32, OC_F64,
    OC_ROUND_NEAREST, OC_ROUND_PAIR, OC_ROUND_RANDOM, OC_STAGE, OC_STATE_BLOCK, oc_array, oc_dtype, oc_rounding,
    oc_storage,
)
from optcore._native.core cimport kernels

cnp.import_array()

BLOCK = OC_STATE_BLOCK
STORAGES = {
    "float32": OC_AS_F32, "float64": OC_AS_F64, "bfloat16": OC_AS_BF16, "float16": OC_AS_F16,
    "signed": OC_AS_SIGNED_CODES, "unsigned": OC_AS_UNSIGNED_CODES,
}
ROUNDINGS = {"nearest": OC_ROUND_NEAREST, "random": OC_ROUND_RANDOM, "pair": OC_ROUND_PAIR}


cdef cnp.ndarray stored(object a, str name, int intent, str uint16_as, oc_array *to):
    cdef cnp.ndarray x
    cdef int typenum
    if not cnp.PyArray_Check(a):
        raise TypeError(f"{name}: expected a NumPy array, got {type(a).__name__}")
    x = <cnp.ndarray>a
    typenum = cnp.PyArray_TYPE(x)
    if typenum == cnp.NPY_FLOAT32:
        to.storage = OC_AS_F32
    elif typenum == cnp.NPY_FLOAT64:
        to.storage = OC_AS_F64
    elif typenum == cnp.NPY_FLOAT16:
        to.storage = OC_AS_F16
    elif arrays.is_bf16(x):
        to.storage = OC_AS_BF16
    elif typenum == cnp.NPY_UINT16 and uint16_as is not None:
        to.storage = <oc_storage>STORAGES[uint16_as]
    else:
        hint = ' (or uint16, with uint16_as="bfloat16")' if typenum == cnp.NPY_UINT16 else ""
        raise TypeError(f"{name}: expected dtype float32, float64, bfloat16 or float16{hint}, got {x.dtype}")
    arrays.laid_out(x, name, intent)
    to.data = cnp.PyArray_DATA(x)
    return x


def check_parameter(a, str name, str uint16_as):
    """Raise unless ``a`` is an array that a rule can update in place."""
    cdef oc_array s
    stored(a, name, arrays.OUT, uint16_as, &s)


cdef oc_array described(cnp.ndarray a, str kind, cnp.ndarray extra, str rounding):
    cdef oc_array s
    memset(&s, 0, sizeof(s))
    s.data = cnp.PyArray_DATA(a)
    s.extra = cnp.PyArray_DATA(extra) if extra is not None else NULL
    s.storage = <oc_storage>STORAGES[kind]
    s.rounding = <oc_rounding>ROUNDINGS[rounding]
    return s


def load(cnp.ndarray a, str kind, cnp.ndarray extra, cnp.ndarray to, str rounding="nearest"):
    """Fill ``to`` (float32 or float64) with the values of ``a``; contiguous arrays of one size, trusted."""
    cdef oc_array s = described(a, kind, extra, rounding)
    cdef oc_dtype dtype = <oc_dtype>arrays.dtype_of(to)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(to), item = cnp.PyArray_ITEMSIZE(to), at = 0, step = OC_STAGE // item
    while at < n:
        kernels().load[<int>dtype](at, min(step, n - at), &s, cnp.PyArray_BYTES(to) + at * item)
        at += step


def store(cnp.ndarray values, cnp.ndarray to, str kind, cnp.ndarray extra, uint64_t key=0, str rounding="nearest"):
    """Write float32 or float64 ``values`` into ``to``; contiguous arrays of one size, trusted."""
    cdef oc_array s = described(to, kind, extra, rounding)
    cdef oc_dtype dtype = <oc_dtype>arrays.dtype_of(values)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(values), item = cnp.PyArray_ITEMSIZE(values), at = 0, step = OC_STAGE // item
    while at < n:
        kernels().store[<int>dtype](at, min(step, n - at), &s, key, 2, cnp.PyArray_BYTES(values) + at * item)
        at += step
