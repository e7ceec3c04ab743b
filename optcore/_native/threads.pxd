# Below this many elements a second thread costs more than it saves: waking one takes a few microseconds, in which one
# core updates some ten thousand elements.
cdef enum:
    GRAIN = 16384

# How many threads a piece of work gets: at most the setting, 1 for small work and in a forked child.
# `work` counts elements, or what else costs about as much as one element of an update rule.
cdef int num_threads(Py_ssize_t work) noexcept nogil
