"""The one authority for the number of threads.

In order: a surrounding ``threads(n)`` of this Python thread, ``set_num_threads``, ``OPTCORE_NUM_THREADS``, and what
OpenMP, the CPU affinity and the container's quota allow.
"""
import math
import operator
import os

cdef extern from * nogil:
    """
    #include <pthread.h>
    #ifdef _OPENMP
    #include <omp.h>
    #define OC_OPENMP _OPENMP
    #else
    #define OC_OPENMP 0
    #define omp_get_max_threads() 1
    #define omp_get_num_procs() 1
    #endif

    static int oc_setting = 1;          /* of the process */
    static __thread int oc_override;    /* of this thread's innermost threads(n); 0 for none */
    /* libgomp's pool does not survive a fork: a parallel region in the child would wait for threads that are not
       there. Whoever started a pool before the fork (this library or another one), the child stays serial. */
    static volatile int oc_forked = 0;
    static void oc_in_child(void) { oc_forked = 1; }
    static int oc_watch_forks(void) { return pthread_atfork(NULL, NULL, oc_in_child); }
    """
    int OC_OPENMP
    int omp_get_max_threads()
    int omp_get_num_procs()
    int oc_setting
    int oc_override
    int oc_forked
    int oc_watch_forks()

cdef int num_threads(Py_ssize_t work) noexcept nogil:
    cdef int n = oc_override if oc_override else oc_setting
    if oc_forked or work <= GRAIN:
        return 1
    return n


def _checked(n):
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"n: expected an integer, got {type(n).__name__}") from None
    if not 1 <= n <= 4096:
        raise ValueError(f"n: expected 1 <= n <= 4096, got {n}")
    return n


def get():
    """The number of threads that large work gets, here and now."""
    if oc_forked or not OC_OPENMP:
        return 1
    return oc_override if oc_override else oc_setting


def set_process(n):
    """Set the number of threads of the process."""
    global oc_setting
    oc_setting = _checked(n)


def set_override(n):
    """Set this Python thread's override; return the one before, 0 for none."""
    global oc_override
    before = oc_override
    oc_override = _checked(n)
    return before


def restore_override(before):
    """Put back what ``set_override`` returned."""
    global oc_override
    oc_override = before


def openmp_version():
    """The ``_OPENMP`` date of the compiler that built this, as an integer; 0 for a serial build."""
    return OC_OPENMP


def _container_limit():
    """CPUs that the control group's quota pays for, or infinity."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as f, open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as p:
                quota, period = f.read(), p.read()
        except OSError:
            return math.inf
    try:
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else math.inf
    except ValueError:  # "max": no quota
        return math.inf


def _default():
    asked = os.environ.get("OPTCORE_NUM_THREADS")
    if asked:
        try:
            return _checked(int(asked))
        except ValueError:
            raise ImportError(f"OPTCORE_NUM_THREADS: expected an integer from 1 to 4096, got {asked!r}") from None
    return int(max(1, min(omp_get_max_threads(), omp_get_num_procs(), _container_limit())))


if oc_watch_forks() != 0:
    raise ImportError("optcore: pthread_atfork failed")
oc_setting = _default()
