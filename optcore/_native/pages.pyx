"""The memory of large temporaries, kept for the next one.

The C library gives a large array back to the system when it dies, and the next one gets fresh pages: to map and to zero
them takes longer than most kernels that then fill them. Between `keep` and `restore` NumPy's arrays (NEP 49) come from
here, large ones on cache lines; what dies is kept for the next, MOST bytes of it, the oldest given up first.
"""
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset
from posix.stdlib cimport posix_memalign

cnp.import_array()

cdef extern from * nogil:
    """
    #include <pthread.h>

    static pthread_mutex_t oc_kept = PTHREAD_MUTEX_INITIALIZER;
    static void oc_lock(void) { pthread_mutex_lock(&oc_kept); }
    static void oc_unlock(void) { pthread_mutex_unlock(&oc_kept); }
    /* A child must not find the lock taken by a thread that it does not have. */
    static int oc_hold_over_forks(void) { return pthread_atfork(oc_lock, oc_unlock, oc_unlock); }
    static PyDataMem_Handler oc_handler = {"optcore_kept", 1, {0, 0, 0, 0, 0}};
    """
    void oc_lock()
    void oc_unlock()
    int oc_hold_over_forks()
    cnp.PyDataMem_Handler oc_handler

cdef struct header:     # just before the data
    size_t capacity
    void *block         # what the C library gave

cdef enum:
    LINE = 64
    LARGE = 1 << 17     # where the C library begins to map pages
    MOST = 1 << 28
    SLOTS = 64

cdef header *_kept[SLOTS]   # the oldest first
cdef int _count = 0
cdef size_t _bytes = 0


cdef header *_remove(int i) noexcept nogil:
    global _count, _bytes
    cdef header *found = _kept[i]
    _count -= 1
    _bytes -= found.capacity
    memmove(_kept + i, _kept + i + 1, (_count - i) * sizeof(header *))
    return found


cdef header *_kept_for(size_t size) noexcept nogil:
    """The smallest that holds it and wastes at most a quarter, or NULL."""
    cdef int i, best = -1
    for i in range(_count):
        if size <= _kept[i].capacity <= size + size // 4 and (best < 0 or _kept[i].capacity < _kept[best].capacity):
            best = i
    return NULL if best < 0 else _remove(best)


cdef header *_fresh(size_t size, size_t before) noexcept nogil:
    """A block of the C library whose data begin that far into it."""
    cdef void *block = NULL
    if size + before < size:
        return NULL
    if before < LINE:
        block = malloc(size + before)
    elif posix_memalign(&block, LINE, size + before):
        return NULL
    if block == NULL:
        return NULL
    cdef header *made = <header *>(<char *>block + before) - 1
    made.capacity, made.block = size, block
    return made


cdef void *_new(void *ctx, size_t size) noexcept nogil:
    cdef header *found = NULL
    if size < LARGE:
        found = _fresh(size, sizeof(header))
    else:
        oc_lock()
        found = _kept_for(size)
        oc_unlock()
        if found == NULL:
            found = _fresh(size, LINE)
    return NULL if found == NULL else found + 1


cdef void _free(void *ctx, void *data, size_t size) noexcept nogil:
    global _count, _bytes
    if data == NULL:
        return
    cdef header *given = <header *>data - 1
    if not LARGE <= given.capacity <= MOST:
        free(given.block)
        return
    oc_lock()
    while _count == SLOTS or _bytes + given.capacity > MOST:
        free(_remove(0).block)
    _kept[_count] = given
    _count += 1
    _bytes += given.capacity
    oc_unlock()


cdef void *_zeroed(void *ctx, size_t count, size_t size) noexcept nogil:
    cdef void *data
    if size and count > (<size_t>-1) // size:
        return NULL
    data = _new(ctx, count * size)
    if data != NULL:
        memset(data, 0, count * size)
    return data


cdef void *_resized(void *ctx, void *data, size_t size) noexcept nogil:
    cdef void *new = _new(ctx, size)
    if new != NULL and data != NULL:
        memcpy(new, data, min(size, (<header *>data - 1).capacity))
        _free(ctx, data, 0)
    return new


oc_handler.allocator.malloc = _new
oc_handler.allocator.calloc = _zeroed
oc_handler.allocator.realloc = _resized
oc_handler.allocator.free = _free
oc_hold_over_forks()
cdef object _handler = PyCapsule_New(&oc_handler, "mem_handler", NULL)


def keep():
    """Let NumPy arrays that this Python thread makes from now on take their memory from here; return what did before."""
    return cnp.PyDataMem_SetHandler(_handler)


def restore(before):
    """End what `keep` began."""
    cnp.PyDataMem_SetHandler(before)


def kept_bytes():
    """Bytes that are kept and not in use."""
    return _bytes
