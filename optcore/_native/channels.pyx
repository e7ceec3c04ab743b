"""The OpenMP drivers of normalization: measure every channel, turn the measures into constants, write with them."""
from cython.parallel cimport prange
from libc.string cimport memcpy, memset
from optcore._native.c cimport OC_BF16, OC_F64, OC_MAX_INPUTS, OC_ROWS, OC_SEGMENTS, OC_WRAPPED, oc_all_safe, oc_norm_kernels
from optcore._native.factors cimport are_safe, take_powers
from optcore._native.shares cimport Shares, Taken, begin_of, deal, share_of, take, thread_of
from optcore._native.threads cimport num_threads

cdef enum:
    SEGMENT = 8192  # values of a block of segments: two passes over it stay in the first-level cache
    BLOCK = 65536   # values of a block of rows: in the second-level cache
    ROWS = 128      # rows of it, at least
    PANEL = 512     # columns of it, about: their sums stay in the first-level cache
    LINE = 64       # bytes
    GROUP = 8192    # values of the channels that a thread takes together
    ALL = -2        # whose nodes of a tree are joined, where it is not one thread's
    REST = -1
    SCALED = 256    # beside what optcore.h has for `how`: the inputs take powers of 2 first


# ------------------------------------------------------------------------------------------------------ the partition
# It depends on the shape alone, but for columns between panels, whose sums are their own. Channels first: a panel is a
# channel, `outer` segments of `inner` elements. Rows: a panel is some PANEL columns, from a cache line of the result on: no two
# threads write to the same one. Few channels are folded: `fold` rows are read as one row of fold*C columns, in whole cache
# lines where that can be, whose columns are joined at the end; the rows that are left over are the tail. A panel's blocks are joined in order within a chunk,
# then its chunks by a binary tree.
cdef inline Py_ssize_t _ceil(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t _fold(Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t number) noexcept nogil:
    """How many rows are read as one: no more than leave enough of them to pay for joining their columns."""
    cdef Py_ssize_t whole = LINE // number // min(LINE // number, channels & -channels)  # rows that fill whole lines
    cdef Py_ssize_t fold = min(PANEL // channels, outer // ROWS)
    return max(1, fold // whole * whole or fold)


cdef Plan plan(Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t inner, int dtype) noexcept nogil:
    cdef Plan p
    memset(&p, 0, sizeof(p))
    p.dtype, p.number = dtype, 8 if dtype == OC_F64 else 4
    p.item = 2 if dtype == OC_BF16 else p.number
    p.channels, p.count = channels, outer * inner
    p.fold, p.pieces, p.grain = 1, 1, 1
    if channels == 1:  # one contiguous channel, however it is written
        outer, inner = 1, outer * inner
    if inner == 1 and channels != 1:
        p.form = OC_ROWS
        p.fold = _fold(outer, channels, p.number) if channels else 1
        p.width, p.outer, p.tail = p.fold * channels, outer // p.fold, outer % p.fold
        p.panel = min(<Py_ssize_t>PANEL, p.width)
        p.panels = _ceil(p.width, PANEL)
        p.stride, p.run = p.width, max(<Py_ssize_t>ROWS, BLOCK // max(1, p.panel))
        if p.width % (LINE // p.item) == 0:
            p.grain = LINE // p.item
    else:
        p.form = OC_SEGMENTS
        p.outer, p.inner, p.stride = outer, inner, channels * inner
        p.width, p.panel, p.panels = channels, 1, channels
        p.pieces = max(1, _ceil(inner, SEGMENT))
        p.piece = min(<Py_ssize_t>SEGMENT, inner)
        p.run = max(1, SEGMENT // max(1, inner))
    p.blocks = _ceil(p.outer, p.run) * p.pieces if p.count and channels else 0
    p.per_chunk = max(1, _ceil(p.blocks, CHUNKS))
    p.chunks = _ceil(p.blocks, p.per_chunk)
    return p


cdef struct Block:
    Py_ssize_t outer, inner, offset


cdef inline Py_ssize_t _start(const Plan *p, Py_ssize_t panel) noexcept nogil:
    """The first column of a panel."""
    cdef Py_ssize_t at = panel * p.panel
    if p.form == OC_SEGMENTS:
        return panel
    return p.width if panel == p.panels else max(<Py_ssize_t>0, at - ((at + p.skew) & (p.grain - 1)))


cdef inline Py_ssize_t _columns(const Plan *p, Py_ssize_t panel) noexcept nogil:
    return 1 if p.form == OC_SEGMENTS else _start(p, panel + 1) - _start(p, panel)


cdef inline Block _block(const Plan *p, Py_ssize_t panel, Py_ssize_t b) noexcept nogil:
    cdef Block k
    cdef Py_ssize_t first = b // p.pieces * p.run
    cdef Py_ssize_t start = b % p.pieces * p.piece
    k.outer = min(p.run, p.outer - first)
    k.inner = _columns(p, panel) if p.form == OC_ROWS else min(p.piece, p.inner - start)
    k.offset = first * p.stride + (_start(p, panel) if p.form == OC_ROWS else panel * p.inner + start)
    return k


cdef inline double _values_before(const Plan *p, Py_ssize_t b) noexcept nogil:
    """How many values of a column the blocks before b hold."""
    cdef Py_ssize_t runs = min(b // p.pieces * p.run, p.outer)
    if p.form == OC_ROWS:
        return runs
    return runs * p.inner + (min(b % p.pieces * p.piece, p.inner) if runs < p.outer else 0)


# ------------------------------------------------------------------------------------------------------- the measures
cdef void _measure(const Job *job, const Measure *m, int form, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t stride,
                   Py_ssize_t offset, Py_ssize_t column, double *out) noexcept nogil:
    cdef const oc_norm_kernels *k = &job.k.norm[job.p.dtype]
    offset = offset * job.p.item
    if m.u == NULL:
        k.moments[form](outer, inner, stride, m.v + offset, out, job.how)
    elif m.gated:
        k.gated_sums[form](outer, inner, stride, m.u + offset, m.v + offset,
                           NULL if m.gate == NULL else m.gate + offset, job.coef + column * job.p.number, job.ld,
                           m.mean + column, out, NULL if m.kept == NULL else m.kept + offset, job.how)
    else:
        k.sums[form](outer, inner, stride, m.u + offset, m.v + offset, m.mean + column, out, job.how)


cdef void _join(const Job *job, const Measure *m, Py_ssize_t columns, double na, double *a, Py_ssize_t lda, double nb,
                const double *b, Py_ssize_t ldb) noexcept nogil:
    if m.u == NULL:
        job.k.merge_moments(columns, na, a, lda, nb, b, ldb)
        return
    job.k.add_sums(columns, a, b)
    job.k.add_sums(columns, a + lda, b + ldb)


cdef inline double *_partial(const Plan *p, const Measure *m, Py_ssize_t panel, Py_ssize_t chunk) noexcept nogil:
    return m.partial + (chunk * p.width + _start(p, panel)) * SLOTS


cdef void _measure_chunk(const Job *job, const Measure *m, Py_ssize_t panel, Py_ssize_t chunk) noexcept nogil:
    cdef const Plan *p = &job.p
    cdef double scratch[SLOTS * (PANEL + LINE)]
    cdef double *out = _partial(p, m, panel, chunk)
    cdef Py_ssize_t b, first = chunk * p.per_chunk
    cdef Py_ssize_t columns = _columns(p, panel)
    cdef Block k
    for b in range(first, min(first + p.per_chunk, p.blocks)):
        k = _block(p, panel, b)
        _measure(job, m, p.form, k.outer, k.inner, p.stride, k.offset, _start(p, panel), out if b == first else scratch)
        if b > first:
            _join(job, m, columns, _values_before(p, b) - _values_before(p, first), out, columns,
                  _values_before(p, b + 1) - _values_before(p, b), scratch, columns)


cdef void _join_chunks(const Job *job, const Measure *m, Py_ssize_t panel, Py_ssize_t t) noexcept nogil:
    """Join the chunks by one tree, whoever has measured them: the nodes within what thread t has measured from the
    beginning of its share on, with REST those within no thread's, or ALL."""
    cdef const Plan *p = &job.p
    cdef Py_ssize_t i, end, step = 1, columns
    cdef double begin, middle
    if p.chunks < 2:
        return
    columns = _columns(p, panel)
    while step < p.chunks:
        i = 0
        while i + step < p.chunks:
            end = min(i + 2 * step, p.chunks)
            if t == ALL or _joins(job, t, i * p.panels + panel, (end - 1) * p.panels + panel):
                begin = _values_before(p, i * p.per_chunk)
                middle = _values_before(p, (i + step) * p.per_chunk)
                _join(job, m, columns, middle - begin, _partial(p, m, panel, i), columns,
                      _values_before(p, min(end * p.per_chunk, p.blocks)) - middle,
                      _partial(p, m, panel, i + step), columns)
            i += 2 * step
        step *= 2


cdef inline bint _joins(const Job *job, Py_ssize_t t, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Whether a node over these tasks is thread t's to join, or one of the REST."""
    if t == REST:
        return last >= job.shares.of[share_of(job.shares, first)].own
    return begin_of(job.shares, <int>t) <= first and last < job.shares.of[t].own


cdef void _join_fold(const Job *job, const Measure *m, Py_ssize_t panel) noexcept nogil:
    """Join the columns that hold the same channel, then the tail; leave the panel's channels in the result."""
    cdef const Plan *p = &job.p
    cdef double scratch[SLOTS * (PANEL + LINE)]
    cdef double *a = _partial(p, m, panel, 0)
    cdef Py_ssize_t s, g, step = 1
    cdef Py_ssize_t columns = _columns(p, panel), start = _start(p, panel)
    cdef Py_ssize_t channels = columns // p.fold
    while step < p.fold and p.blocks:
        g = 0
        while g + step < p.fold:
            _join(job, m, channels, <double>p.outer * step, a + g * channels, columns,
                  <double>p.outer * min(step, p.fold - g - step), a + (g + step) * channels, columns)
            g += 2 * step
        step *= 2
    if p.tail:
        _measure(job, m, OC_ROWS, p.tail, channels, channels, p.outer * p.stride, 0, scratch)
        if p.blocks:
            _join(job, m, channels, <double>p.outer * p.fold, a, columns, p.tail, scratch, channels)
        else:
            a, columns = scratch, channels
    for s in range(SLOTS if m.u == NULL else 2):
        if p.blocks or p.tail:
            memcpy(m.result + s * p.channels + start, a + s * columns, channels * sizeof(double))


cdef Py_ssize_t wrapped(const Plan *p) noexcept nogil:
    return LINE // p.item * p.number


cdef inline void _narrow(float *to, const double *values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = <float>values[i]


cdef void publish(const Job *job, int row, int end, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Write rows [row, end) of these channels' constants as the element-wise kernels read them: in the dtype, for each
    fold, and the first of a row once more behind its last, for OC_WRAPPED."""
    cdef Py_ssize_t fold, width = job.p.width * job.p.number
    cdef const double *values
    cdef char *to
    while row < end:
        values = job.constants + row * job.p.channels + first
        for fold in range(job.p.fold):
            to = job.coef + (row * job.ld + fold * job.p.channels + first) * job.p.number
            if job.p.dtype == OC_F64:
                memcpy(to, values, count * sizeof(double))
            else:
                _narrow(<float *>to, values, count)
        if first == 0:
            to = job.coef + row * job.ld * job.p.number
            memcpy(to + width, to, min(wrapped(&job.p), width))
        row += 1


cdef bint all_safe(const Job *job, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Whether the dtype holds the factors of these channels."""
    return job.p.dtype == OC_F64 or (oc_all_safe(count, job.inv_std + first)
                                     and are_safe(job.constants + first, job.p.channels, job.rows, count))


cdef bint _finish(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Turn these channels' measures into constants; return whether the dtype holds them."""
    if job.n_measures and job.measures[0].u == NULL:
        job.k.standardise(end - first, job.p.count, job.eps, job.measures[0].result + first, job.p.channels,
                          job.mean + first, job.rest + first, job.m2 + first, job.var + first, job.inv_std + first)
    if job.finish == NULL:
        return True
    job.finish(job, first, end)
    return all_safe(job, first, end - first)


cdef inline int _rows(const Job *job, bint safe) noexcept nogil:
    """How many rows of constants are left to be published: the last two of eight are since `remake`."""
    return job.rows + OC_MAX_INPUTS if not safe else 6 if job.rows == 8 else job.rows


cdef int _publish(Job *job, Py_ssize_t first, Py_ssize_t end, bint safe) noexcept nogil:
    """Publish these channels' constants; return how they are to be applied."""
    cdef Py_ssize_t c
    for c in range(first, first if safe else end):
        take_powers(job.constants + c, job.p.channels, job.rows, job.inv_std[c])
    if job.finish != NULL:
        publish(job, 0, _rows(job, safe), first, end - first)
    return job.how if safe else job.how | SCALED


cdef void _apply(const Job *job, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t stride, Py_ssize_t offset, Py_ssize_t column,
                 int how) noexcept nogil:
    cdef const void *ins[4]
    cdef Py_ssize_t i
    for i in range(job.n_in):
        ins[i] = job.ins[i] + offset * job.p.item
    if how & SCALED:
        job.k.norm[job.p.dtype].scaled[job.p.form](
            job.apply, job.n_in, job.rows, outer, inner, stride, ins, job.coef + column * job.p.number, job.ld,
            job.out + offset * job.p.item)
        return
    job.apply(outer, inner, stride, ins, job.coef + column * job.p.number, job.ld, job.out + offset * job.p.item, how)


cdef void _apply_chunk(const Job *job, Py_ssize_t panel, Py_ssize_t chunk, int how) noexcept nogil:
    """Write the blocks of a chunk, the last one first: it is the likeliest to be in cache."""
    cdef const Plan *p = &job.p
    cdef Py_ssize_t b, first = chunk * p.per_chunk
    cdef Block k
    for b in range(min(first + p.per_chunk, p.blocks) - 1, first - 1, -1):
        k = _block(p, panel, b)
        _apply(job, k.outer, k.inner, p.stride, k.offset, _start(p, panel), how)


cdef void _apply_rows(const Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """The same for whole rows."""
    cdef const Plan *p = &job.p
    cdef Py_ssize_t begin
    while end > first:
        begin = max(first, end - p.run)
        _apply(job, end - begin, p.width, p.stride, begin * p.stride, 0, job.how | OC_WRAPPED)
        end = begin


# ------------------------------------------------------------------------------------------------------- the schedule
cdef void _run_group(Job *job, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Take panels from the measure to the result; upwards both times, as the hardware fetches ahead."""
    cdef Py_ssize_t panel, chunk
    cdef Py_ssize_t first = _start(&job.p, begin), last = _start(&job.p, end)
    cdef int m, how
    for panel in range(begin, end):
        for m in range(job.n_measures):
            for chunk in range(job.p.chunks):
                _measure_chunk(job, &job.measures[m], panel, chunk)
            _join_chunks(job, &job.measures[m], panel, ALL)
            _join_fold(job, &job.measures[m], panel)
    how = _publish(job, first, last, _finish(job, first, last))
    for panel in range(begin, end if job.apply != NULL else begin):
        for chunk in range(job.p.chunks):
            _apply_chunk(job, panel, job.p.chunks - 1 - chunk, how)


cdef void _run_part(Job *job, int t) noexcept nogil:
    """What thread t takes of the panels: as many at a time as its cache holds until their results are written."""
    cdef Taken piece = thread_of(t)
    cdef Py_ssize_t group = max(1, GROUP // max(1, job.p.count * job.p.panel))
    while take(job.shares, &piece):
        while piece.begin < piece.end:
            _run_group(job, piece.begin, min(piece.begin + group, piece.end))
            piece.begin += group


cdef void _measure_part(Job *job, int t) noexcept nogil:
    """What thread t measures of the tasks, chunk by chunk with every panel."""
    cdef Taken piece = thread_of(t)
    cdef Py_ssize_t task, panel
    cdef int m
    while take(job.shares, &piece):
        for task in range(piece.begin, piece.end):
            for m in range(job.n_measures):
                _measure_chunk(job, &job.measures[m], task % job.p.panels, task // job.p.panels)
    for m in range(job.n_measures if t < job.shares.count else 0):
        for panel in range(job.p.panels):
            _join_chunks(job, &job.measures[m], panel, t)


cdef inline Py_ssize_t _rows_of_task(const Plan *p) noexcept nogil:
    """How many rows a task writes: few, so that threads share those of a single block."""
    return max(<Py_ssize_t>1, min(p.run, SEGMENT // max(<Py_ssize_t>1, p.width)))


cdef void _apply_part(Job *job, int t) noexcept nogil:
    """What thread t writes: its part of the memory, backwards."""
    cdef Taken piece = thread_of(job.shares.count - 1 - t if t < job.shares.count else t)
    cdef Py_ssize_t task, run = _rows_of_task(&job.p), outer = job.p.outer
    while take(job.shares, &piece):
        if job.p.form == OC_ROWS:
            _apply_rows(job, max(<Py_ssize_t>0, outer - piece.end * run), outer - piece.begin * run)
        else:
            for task in range(job.shares.n - 1 - piece.begin, job.shares.n - 1 - piece.end, -1):
                _apply_chunk(job, task % job.p.panels, task // job.p.panels, job.how)


cdef void _all_parts(Job *job, void (*part)(Job *, int) noexcept nogil, Py_ssize_t tasks) noexcept nogil:
    cdef int t
    deal(job.shares, tasks, job.p.count * job.p.channels, job.threads)
    for t in prange(job.threads, schedule="static", chunksize=1, num_threads=job.threads):
        part(job, t)


cdef void _run_chunks(Job *job) noexcept nogil:
    """All threads measure, then all write; each walks its part of the memory back in the second pass."""
    cdef Py_ssize_t panel, tasks = job.p.chunks * job.p.panels
    cdef int m
    if job.n_measures:
        _all_parts(job, _measure_part, tasks)
    for panel in range(job.p.panels):
        for m in range(job.n_measures):
            _join_chunks(job, &job.measures[m], panel, REST)
            _join_fold(job, &job.measures[m], panel)
    job.how = _publish(job, 0, job.p.channels, _finish(job, 0, job.p.channels))
    if job.apply != NULL:
        _all_parts(job, _apply_part, _ceil(job.p.outer, _rows_of_task(&job.p)) if job.p.form == OC_ROWS else tasks)


cdef bint _by_panels(const Job *job) noexcept nogil:
    """Whether each thread has panels of its own, about as many as the others. A few panels of rows are faster by
    rows, as they lie in memory: two threads with half of every row each take up to twice as long, by where arrays lie.
    So are results that nothing has to be measured for."""
    cdef const Plan *p = &job.p
    if p.form == OC_SEGMENTS:
        return p.panels >= 4 * job.threads or (p.panels > 0 and p.panels % job.threads == 0)
    return p.panels >= 4 * job.threads and p.chunks == 1 and job.n_measures > 0


cdef void run(Job *job) noexcept nogil:
    """Measure, finish each channel, write."""
    cdef Shares shares
    job.shares = &shares
    job.threads = num_threads(job.p.count * job.p.channels)
    job.p.skew = <size_t>job.out // job.p.item % job.p.grain
    if _by_panels(job):
        _all_parts(job, _run_part, job.p.panels)
    else:
        _run_chunks(job)
    if job.p.tail and job.apply != NULL:
        _apply(job, job.p.tail, job.p.channels, job.p.channels, job.p.outer * job.p.stride, 0, job.how & SCALED)
