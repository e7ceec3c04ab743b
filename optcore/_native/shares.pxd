# Work that threads part among themselves while they do it. Each has a share, the same at every call, so that what it
# works on is in its own caches, and in the memory of its own processor. Whoever is done takes pieces of what the others
# have left: a thread that has a slower core, or has lost it for a while, does less.
#
# For work whose result depends neither on who does a piece nor on where the pieces begin.
cdef extern from * nogil:
    """
    /* Takes from [*next, end) a quarter of what is left but for `kept`, at least so many; 0 when there is nothing. */
    static inline Py_ssize_t oc_take_piece(Py_ssize_t *next, Py_ssize_t end, Py_ssize_t kept, Py_ssize_t least,
                                           Py_ssize_t *begin)
    {
        Py_ssize_t n;
        *begin = __atomic_load_n(next, __ATOMIC_RELAXED);
        do {
            const Py_ssize_t left = end - kept - *begin;
            if (left <= 0)
                return 0;
            n = left / 4 > least ? left / 4 : left < least ? left : least;
        } while (!__atomic_compare_exchange_n(next, begin, *begin + n, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
        return n;
    }
    """
    Py_ssize_t oc_take_piece(Py_ssize_t *next, Py_ssize_t end, Py_ssize_t kept, Py_ssize_t least, Py_ssize_t *begin)

cdef enum:
    MAX_SHARES = 64     # more threads than that have no share of their own
    PIECE = 8192        # elements that are worth taking: two or three microseconds
    WHOLE = 4           # a share of no more such pieces is its owner's alone

ctypedef struct Counter:
    Py_ssize_t next     # where what nobody has taken begins
    Py_ssize_t own      # where what is the owner's from the beginning on, without a gap, ends: for the owner alone to look
                        # at, once it has found no more to take, and for whoever comes after all are done
    Py_ssize_t apart[6] # threads write counters: each in a cache line of its own

ctypedef struct Shares:
    Py_ssize_t n, least
    int count
    Counter of[MAX_SHARES]

ctypedef struct Taken:
    int thread
    int passed              # shares that it has found done, its own first; -1: it has not begun
    Py_ssize_t begin, end   # the piece

cdef inline Py_ssize_t begin_of(const Shares *shares, int s) noexcept nogil:
    return shares.n // shares.count * s + min(<Py_ssize_t>s, shares.n % shares.count)

cdef inline int share_of(const Shares *shares, Py_ssize_t i) noexcept nogil:
    """Whose share i is in."""
    cdef Py_ssize_t each = shares.n // shares.count, longer = shares.n % shares.count * (each + 1)
    return <int>(i // (each + 1) if i < longer else shares.n % shares.count + (i - longer) // each)

cdef inline Py_ssize_t first_of(const Shares *shares, int s) noexcept nogil:
    """Where the first piece of a share ends, which its owner begins with: half of it, or all of a small one."""
    cdef Py_ssize_t begin = begin_of(shares, s), end = begin_of(shares, s + 1)
    return end if end - begin <= WHOLE * shares.least else begin + (end - begin) // 2

cdef inline void deal(Shares *shares, Py_ssize_t n, Py_ssize_t work, int threads) noexcept nogil:
    """Part tasks 0..n - 1, of so many elements together, between threads."""
    cdef int s
    shares.n, shares.count = n, min(threads, <int>MAX_SHARES)
    shares.least = max(<Py_ssize_t>1, PIECE * n // max(<Py_ssize_t>1, work))
    for s in range(shares.count):
        shares.of[s].next = shares.of[s].own = first_of(shares, s)

cdef inline Taken thread_of(int thread) noexcept nogil:
    return Taken(thread, -1, 0, 0)

cdef inline bint take(Shares *shares, Taken *t) noexcept nogil:
    """Take the next piece; false when there is none left.

    The end of a share is left to its owner, who may hold it in its caches. Where shares are whole no counter is looked
    at: its line would have to come from another thread.
    """
    cdef int s = t.thread
    cdef Py_ssize_t n, end
    if t.passed < 0:
        t.passed = 0 if s < shares.count else 1
        if s < shares.count:
            t.begin, t.end = begin_of(shares, s), first_of(shares, s)
            if t.end == begin_of(shares, s + 1):
                t.passed = shares.count
            return t.begin < t.end
    while t.passed < shares.count:
        s = (t.thread + t.passed) % shares.count
        end = begin_of(shares, s + 1)
        n = oc_take_piece(&shares.of[s].next, end, shares.least if t.passed else 0, shares.least, &t.begin)
        if n:
            t.end = t.begin + n
            if t.passed == 0 and t.begin == shares.of[s].own:
                shares.of[s].own = t.end
            return True
        t.passed += 1
    return False

ctypedef void (*task_fn)(const void *job, Py_ssize_t task) noexcept nogil

cdef void each(task_fn f, const void *job, Py_ssize_t n, Py_ssize_t work) noexcept nogil     # work: elements of all n
