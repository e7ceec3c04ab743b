# Work that threads part among themselves while they do it. Each has a share, the same at every call, so that what it
# works on is in its own caches, and in the memory of its own processor. Whoever is done takes pieces of the shares of
# the others: a thread that has lost its core for a while, or has a slower one, does less, and none waits for it long.
#
# For work whose result depends neither on who does a piece nor on where the pieces begin.
cdef extern from * nogil:
    """
    static inline Py_ssize_t oc_next_of(const Py_ssize_t *next) { return __atomic_load_n(next, __ATOMIC_RELAXED); }
    static inline Py_ssize_t oc_take_piece(Py_ssize_t *next, Py_ssize_t n)
    {
        return __atomic_fetch_add(next, n, __ATOMIC_RELAXED);
    }
    """
    Py_ssize_t oc_next_of(const Py_ssize_t *next)
    Py_ssize_t oc_take_piece(Py_ssize_t *next, Py_ssize_t n)

cdef enum:
    MAX_SHARES = 64         # more threads than that have no share of their own
    PIECES_OF_SHARE = 64    # at most
    PIECE = 1 << 15         # elements that a thread takes at once, about, where there are not more: ten microseconds

ctypedef struct Counter:
    Py_ssize_t next         # where what nobody has taken begins
    Py_ssize_t own          # where what the owner has taken from the beginning on, without a gap, ends
    Py_ssize_t apart[6]     # threads write counters: each in a cache line of its own

ctypedef struct Shares:
    Py_ssize_t n, piece
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

cdef inline void deal(Shares *shares, Py_ssize_t n, Py_ssize_t least, int threads) noexcept nogil:
    """Part 0..n - 1 between threads, in pieces of at least so many. Each begins with the first one of its share."""
    cdef int s
    shares.n, shares.count = n, min(threads, <int>MAX_SHARES)
    shares.piece = max(least, n // shares.count // PIECES_OF_SHARE + 1)
    for s in range(shares.count):
        shares.of[s].next = begin_of(shares, s) + shares.piece
        shares.of[s].own = min(shares.of[s].next, begin_of(shares, s + 1))

cdef inline Taken thread_of(int thread) noexcept nogil:
    return Taken(thread, -1, 0, 0)

cdef inline bint take(Shares *shares, Taken *t) noexcept nogil:
    """Take the next piece; false when there is none left.

    The last one of a share is left to its owner, who may hold it in its caches. Where shares are of one piece no counter
    is looked at: its line would have to come from another thread.
    """
    cdef int s = t.thread
    cdef Py_ssize_t end
    if t.passed < 0:
        t.passed = 0 if s < shares.count else 1
        if s < shares.count:
            t.begin, end = begin_of(shares, s), begin_of(shares, s + 1)
            t.end = min(t.begin + shares.piece, end)
            if t.end == end:
                t.passed = shares.count
            return t.begin < end
    while t.passed < shares.count:
        s = (t.thread + t.passed) % shares.count
        end = begin_of(shares, s + 1)
        if oc_next_of(&shares.of[s].next) + (shares.piece if t.passed else 0) < end:
            t.begin = oc_take_piece(&shares.of[s].next, shares.piece)
            if t.begin < end:
                t.end = min(t.begin + shares.piece, end)
                if t.passed == 0 and t.begin == shares.of[s].own:
                    shares.of[s].own = t.end
                return True
        else:
            t.passed += 1
    return False

ctypedef void (*task_fn)(const void *job, Py_ssize_t task) noexcept nogil

cdef void each(task_fn f, const void *job, Py_ssize_t n, Py_ssize_t work) noexcept nogil     # work: elements of all n
