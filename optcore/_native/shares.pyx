"""Tasks that do not depend on each other, in pieces that threads take from each other; shares.pxd says how."""
from cython.parallel cimport prange
from optcore._native.threads cimport num_threads


cdef void each(task_fn f, const void *job, Py_ssize_t n, Py_ssize_t work) noexcept nogil:
    """Do tasks 0..n - 1, each about an nth of so many elements."""
    cdef Shares shares
    cdef int t, threads = num_threads(work)
    if threads == 1:
        _range(f, job, 0, n)
        return
    deal(&shares, n, work, threads)
    for t in prange(threads, schedule="static", chunksize=1, num_threads=threads):
        _pieces(f, job, &shares, t)


cdef void _pieces(task_fn f, const void *job, Shares *shares, int thread) noexcept nogil:
    cdef Taken piece = thread_of(thread)
    while take(shares, &piece):
        _range(f, job, piece.begin, piece.end)


cdef inline void _range(task_fn f, const void *job, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t task
    for task in range(begin, end):
        f(job, task)
