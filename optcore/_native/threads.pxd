# Below this many elements a second thread costs more than it saves: waking one takes a few microseconds, in which one
# core updates some ten thousand elements.
cdef enum:
    GRAIN = 16384

# libgomp makes a team on the heap for every parallel region, for one of a single thread too: a quarter of a microsecond,
# and an allocation, for work that is serial anyhow. Where the linker can (setup.py), the regions of a module that cimports
# this file begin here instead. Inside a host's region libgomp has to number the threads itself.
cdef extern from *:
    """
    #ifdef OC_WRAPS_REGIONS
    #include <omp.h>
    void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
    __attribute__((visibility("hidden")))
    void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags)
    {
        if (threads == 1 && omp_get_level() == 0)
            body(data);
        else
            __real_GOMP_parallel(body, data, threads, flags);
    }
    #endif
    """

# How many threads a piece of work gets: at most the setting, 1 for small work and in a forked child.
# `work` counts elements, or what else costs about as much as one element of an update rule.
cdef int num_threads(Py_ssize_t work) noexcept nogil
