/* loss.tmpl.h: softmax and cross-entropy over rows [rows, classes]; squared, Huber's and logistic error over elements.
 * Parameters: T the element type, FN(name) the symbol of a kernel for this T and level; elementary.tmpl.h before, with its
 * parameters.
 *
 * The work is done on tiles of up to OC_LANES rows, one short loop over the whole tile after the other (maximum,
 * exponentials, sums, scaling), so that what one row has to wait for is hidden behind the others.
 *
 * Everything runs over OC_LANES lanes. With many classes the lanes are neighbouring classes of one row: a tile is as many
 * strips as it has rows, each folded once. With few, the lanes are rows: the tile is transposed to one strip, and needs
 * no folding. A body below serves both: it sees strips of n >= OC_LANES elements, element i of a strip in lane
 * i % OC_LANES but for the last ones (see OC_OVER_STRIP). */

#define OC_FEW_CLASSES 40
#define OC_TILE 2048 /* elements: a tile, its result and what is asked for of the next stay in the first-level cache */
#define OC_STEP (4 * OC_LANES)
#define OC_ONE ((T)0x1p64) /* a 1 as e has it; to divide by it is a product */

typedef struct {
    ptrdiff_t row;     /* first row */
    int rows;
    int transposed;    /* one strip, whose lanes are the rows */
    int strips;
    ptrdiff_t n;       /* elements of a strip */
    T *e;              /* takes the strips' 2^64 e^(z_j - m), normal where e^(z_j - m) is not 0; NULL where they are not wanted */
    T top[OC_LANES * OC_LANES] OC_ON_LINE; /* for each strip its lanes' row's maximum m; NaN is passed over and reappears
                                              in rest */
    double rest[OC_LANES];   /* of each row: r = sum of e^(z_j - m) without one of the largest terms, which is 1 */
    double weight[OC_LANES]; /* of each row: loss += weight * log1p(r) is still to be done */
} FN(tile);

/* The arguments of a kernel beside its row arrays. */
typedef struct {
    const int64_t *target;
    double scale;
    double *loss;
} FN(loss_args);

/* a, b and out are the strips, one after the other; b and out may be NULL. */
typedef void FN(loss_body)(FN(tile) *s, const T *a, const T *b, T *out, const FN(loss_args) *args);

OC_INLINE ptrdiff_t FN(index_of)(const FN(tile) *s, int row, ptrdiff_t class) {
    return s->transposed ? class * OC_LANES + row : row * s->n + class;
}

OC_INLINE double FN(top_of)(const FN(tile) *s, int row) {
    return (double)s->top[s->transposed ? row : row * OC_LANES];
}

/* The lanes of a strip from the rows' values: these, or one of them in all of `lane`. */
OC_INLINE const T *FN(spread)(const FN(tile) *s, int strip, const T *of_rows, T *lane) {
    const T value = of_rows[strip];
    if (s->transposed)
        return of_rows;
    OC_ROLLED
    for (int l = 0; l < OC_LANES; l++)
        lane[l] = value;
    return lane;
}

/* The rows' sums from the lanes of all strips. */
OC_INLINE void FN(collect)(const FN(tile) *s, double *restrict lane, double *restrict of_rows) {
    const int lanes = s->transposed ? OC_LANES : s->strips;
    for (int l = 0; l < lanes; l++)
        of_rows[l] = s->transposed ? lane[l] : oc_fold_lanes(lane + l * OC_LANES);
}

/* The body for element i in lane l, in full groups of lanes. Where the last one would not be full, it is the group that
 * ends with the strip instead; its first `skip` lanes stand for elements that are done, which the body has to leave. */
#define OC_OVER_STRIP(n, ...)                                                                                         \
    do {                                                                                                              \
        ptrdiff_t i0 = 0;                                                                                             \
        for (; i0 + OC_LANES <= (n); i0 += OC_LANES) {                                                                \
            enum { skip = 0 };                                                                                        \
            OC_IN_PLACE OC_ROLLED                                                                                     \
            for (int l = 0; l < OC_LANES; l++) {                                                                      \
                const ptrdiff_t i = i0 + l;                                                                           \
                __VA_ARGS__;                                                                                          \
            }                                                                                                         \
        }                                                                                                             \
        if (i0 < (n)) {                                                                                               \
            const int skip = (int)(i0 + OC_LANES - (n));                                                              \
            OC_IN_PLACE OC_ROLLED                                                                                     \
            for (int l = 0; l < OC_LANES; l++) {                                                                      \
                const ptrdiff_t i = (n) - OC_LANES + l;                                                               \
                __VA_ARGS__;                                                                                          \
            }                                                                                                         \
        }                                                                                                             \
    } while (0)

/* Four elements to a lane at once, so that the lanes' maxima are not waited for. */
OC_INLINE void FN(top_step)(const T *x, T *top) {
    OC_ROLLED
    for (int l = 0; l < OC_LANES; l++) {
        const T a = x[l] > x[l + OC_LANES] ? x[l] : x[l + OC_LANES];
        const T b = x[l + 2 * OC_LANES] > x[l + 3 * OC_LANES] ? x[l + 2 * OC_LANES] : x[l + 3 * OC_LANES];
        const T c = a > b ? a : b;
        top[l] = c > top[l] ? c : top[l];
    }
}

/* The maximum of the lanes in all of them. */
OC_INLINE void FN(fold_top)(T *top) {
    for (int l = 0; l < 8; l++)
        top[l] = top[l + 8] > top[l] ? top[l + 8] : top[l];
    for (int l = 0; l < 4; l++)
        top[l] = top[l + 4] > top[l] ? top[l + 4] : top[l];
    const T a = top[0] > top[2] ? top[0] : top[2], b = top[1] > top[3] ? top[1] : top[3], all = a > b ? a : b;
    OC_ROLLED
    for (int l = 0; l < OC_LANES; l++)
        top[l] = all;
}

static void FN(find_top)(FN(tile) *s, const T *z) {
    for (int strip = 0; strip < s->strips; strip++) {
        const T *x = z + strip * s->n, *last = x + s->n - OC_LANES;
        T top[OC_LANES] OC_ON_LINE;
        memcpy(top, last, sizeof top); /* goes back over what is done too, where the groups do not come out even */
        for (; x + OC_STEP <= last; x += OC_STEP)
            FN(top_step)(x, top);
        for (; x < last; x += OC_LANES) {
            OC_ROLLED
            for (int l = 0; l < OC_LANES; l++) {
                const T value = x[l], before = top[l];
                top[l] = value > before ? value : before;
            }
        }
        memcpy(s->top + strip * OC_LANES, top, sizeof top);
    }
    if (!s->transposed)
        for (int strip = 0; strip < s->strips; strip++)
            FN(fold_top)(s->top + strip * OC_LANES);
}

/* Asks for a vector's lines. */
OC_INLINE void FN(prefetch)(const T *next) {
    for (int l = 0; l < OC_LANES; l += OC_LINE / (int)sizeof(T))
        OC_PREFETCH(next + l);
}

OC_INLINE void FN(prefetch_out)(const T *next) {
    for (int l = 0; l < OC_LANES; l += OC_LINE / (int)sizeof(T))
        OC_PREFETCH_OUT(next + l);
}

/* Exponentials are made and added in chunks. With AVX-512's registers a chunk of floats can be so short that what one loop
 * hands to the next stays in them; elsewhere, and with doubles, which take twice as many, that goes through the first-level
 * cache, and longer loops cost less. */
#if defined(__AVX512F__) && BITS == 32
#define OC_CHUNK OC_STEP
#define OC_CHUNK_FN OC_INLINE
#else
#define OC_CHUNK (16 * OC_LANES)
#define OC_CHUNK_FN OC_APART static
#endif

/* 2^64 e^(x - top) of n elements, a multiple of OC_LANES; e may be x. Two loops: one alone is a chain of results so long
 * that no processor looks far enough ahead to have several under way. Each asks for the lines that the next tile reads or
 * writes as it goes: those of a tile all at once would wait for each other. */
OC_CHUNK_FN void FN(exp_step)(ptrdiff_t n, const T *x, const T *top, T lowest, T *e, const T *next,
                              const T *next_out) {
    T r[OC_CHUNK] OC_ON_LINE, power[OC_CHUNK] OC_ON_LINE;
    for (ptrdiff_t at = 0; at < n; at += OC_LANES) {
        FN(prefetch)(next + at);
        OC_IN_PLACE OC_ROLLED
        for (int l = 0; l < OC_LANES; l++)
            r[at + l] = FN(reduce_neg)(x[at + l] - top[l], lowest, power + at + l);
    }
    for (ptrdiff_t at = 0; at < n; at += OC_LANES) {
        FN(prefetch_out)(next_out + at);
        OC_IN_PLACE OC_ROLLED
        for (int l = 0; l < OC_LANES; l++)
            e[at + l] = FN(exp_reduced)(r[at + l], power[at + l]);
    }
}

/* e - [e = 1]; *ones += [e = 1]. By the bits: gcc would blend each of them. */
OC_INLINE T FN(below_1)(T e, UINT *ones) {
    const UINT is_1 = -(UINT)(e == OC_ONE);
    *ones -= is_1;
    return FN(of_bits)(FN(bits)(e) & ~is_1);
}

/* Their sums: rest += e - [e = 1], ones += [e = 1]. Where there are four to a lane, they are added in T first, a rounding
 * or two beside those of the exponentials: to convert each to double would take longer than all the rest. */
OC_CHUNK_FN void FN(sum_step)(ptrdiff_t n, const T *restrict e, double *restrict rest, UINT *restrict ones) {
    ptrdiff_t at = 0;
    for (; at + OC_STEP <= n; at += OC_STEP) {
        OC_ROLLED
        for (int l = 0; l < OC_LANES; l++) {
            const T *x = e + at + l;
            UINT count = ones[l];
            const T a = FN(below_1)(x[0], &count), b = FN(below_1)(x[OC_LANES], &count);
            const T c = FN(below_1)(x[2 * OC_LANES], &count), d = FN(below_1)(x[3 * OC_LANES], &count);
            rest[l] += (double)((a + b) + (c + d));
            ones[l] = count;
        }
    }
    for (; at < n; at += OC_LANES) {
        OC_ROLLED
        for (int l = 0; l < OC_LANES; l++)
            rest[l] += (double)FN(below_1)(e[at + l], ones + l);
    }
}

/* Both, of n elements, at most a chunk. Called with a constant n for a whole one, which gcc then unrolls. */
OC_INLINE void FN(exp_and_sum)(ptrdiff_t n, const T *x, const T *top, T lowest, T *e, double *rest, UINT *ones,
                               const T *next, const T *next_out) {
    FN(exp_step)(n, x, top, lowest, e, next, next_out);
    FN(sum_step)(n, e, rest, ones);
}

/* The same for the last elements of a strip of n, which do not fill the lanes. `last` takes the group that ends with the
 * strip, all of it: to put together a part of it with what the others leave would mean to wait for them. */
OC_INLINE void FN(exp_last)(ptrdiff_t n, const T *x, const T *top, T lowest, T *last, double *rest, UINT *ones) {
    const int skip = OC_LANES - (int)(n % OC_LANES);
    OC_ROLLED
    for (int l = 0; l < OC_LANES; l++)
        last[l] = FN(exp_scaled)(x[n - OC_LANES + l] - top[l], lowest);
    OC_ROLLED
    for (int l = 0; l < OC_LANES; l++)
        rest[l] += (double)FN(below_1)(l < skip ? 0 : last[l], ones + l);
}

/* r from the lanes' sums of 2^64 e and their numbers of ones, which are integers and exact in any order. */
OC_INLINE void FN(collect_rest)(FN(tile) *s, double *restrict rest, const UINT *restrict ones) {
    if (s->transposed) {
        for (int l = 0; l < OC_LANES; l++)
            s->rest[l] = rest[l] * 0x1p-64 + ((double)(int)ones[l] - 1);
        return;
    }
    for (int row = 0; row < s->rows; row++, rest += OC_LANES, ones += OC_LANES) {
        UINT count = 0;
        for (int l = 0; l < OC_LANES; l++)
            count += ones[l];
        s->rest[row] = oc_fold_lanes(rest) * 0x1p-64 + ((double)(int)count - 1);
    }
}

/* e and r; e may be z. */
static void FN(exponentials)(FN(tile) *s, const T *z, const T *out) {
    T chunk[OC_CHUNK] OC_ON_LINE, last[OC_LANES] OC_ON_LINE;
    double rest[OC_LANES * OC_LANES] OC_ON_LINE;
    UINT ones[OC_LANES * OC_LANES] OC_ON_LINE;
    const ptrdiff_t whole = s->n / OC_LANES * OC_LANES, ahead = s->transposed ? 0 : s->strips * s->n;
    const T lowest = FN(exp_lowest);
    for (int strip = 0; strip < s->strips; strip++) {
        const T *x = z + strip * s->n, *top = s->top + strip * OC_LANES;
        T *e = s->e ? s->e + strip * s->n : NULL;
        double *lane_rest = rest + strip * OC_LANES;
        UINT *lane_ones = ones + strip * OC_LANES;
        OC_ROLLED
        for (int l = 0; l < OC_LANES; l++)
            lane_rest[l] = lane_ones[l] = 0;
        const T *next = x + ahead, *next_out = out ? out + strip * s->n + ahead : next;
        if (whole < s->n)
            FN(exp_last)(s->n, x, top, lowest, last, lane_rest, lane_ones);
        for (ptrdiff_t start = 0; start < whole; start += OC_CHUNK) {
            const ptrdiff_t left = whole - start;
            T *es = e ? e + start : chunk;
            if (left >= OC_CHUNK)
                FN(exp_and_sum)(OC_CHUNK, x + start, top, lowest, es, lane_rest, lane_ones, next + start, next_out + start);
            else
                FN(exp_and_sum)(left, x + start, top, lowest, es, lane_rest, lane_ones, next + start, next_out + start);
        }
        if (e && whole < s->n)
            memcpy(e + s->n - OC_LANES, last, sizeof last);
    }
    FN(collect_rest)(s, rest, ones);
}

/* e <- e * scale/(1 + r), without its 2^64: a product more, in a loop that waits for its stores. The last group of a strip
 * is read before what it shares with the one before is written. */
static void FN(normalise)(const FN(tile) *s, double scale) {
    T share[OC_LANES], lane[OC_LANES], last[OC_LANES];
    T *e = s->e;
    for (int l = 0; l < OC_LANES; l++)
        share[l] = (T)(scale / (1 + s->rest[l]));
    for (int strip = 0; strip < s->strips; strip++, e += s->n) {
        const T *by = FN(spread)(s, strip, share, lane);
        for (int l = 0; l < OC_LANES; l++)
            last[l] = e[s->n - OC_LANES + l] / OC_ONE * by[l];
        OC_OVER_STRIP(s->n / OC_LANES * OC_LANES, (void)skip; e[i] = e[i] / OC_ONE * by[l]);
        memcpy(e + s->n - OC_LANES, last, sizeof last);
    }
}

OC_INLINE void FN(softmax_body)(FN(tile) *s, const T *z, const T *b, T *p, const FN(loss_args) *args) {
    (void)b, (void)args;
    FN(find_top)(s, z);
    FN(exponentials)(s, z, p);
    FN(normalise)(s, 1);
}

OC_INLINE void FN(log_softmax_body)(FN(tile) *s, const T *z, const T *b, T *log_p, const FN(loss_args) *args) {
    (void)b, (void)args;
    T log_sum[OC_LANES], lane[OC_LANES];
    s->e = NULL; /* its place may be z, which is wanted still */
    FN(find_top)(s, z);
    FN(exponentials)(s, z, log_p);
    for (int l = 0; l < OC_LANES; l++)
        log_sum[l] = (T)oc_log1p(s->rest[l]);
    for (int strip = 0; strip < s->strips; strip++, z += s->n, log_p += s->n) {
        const T *top = s->top + strip * OC_LANES, *by = FN(spread)(s, strip, log_sum, lane);
        OC_OVER_STRIP(s->n, log_p[i] = l < skip ? log_p[i] : (z[i] - top[l]) - by[l]);
    }
}

/* loss = (m - z_t) + log1p(r). dz_t = -(1 + r - e_t)/(1 + r), where e_t = 1 cancels exactly. */
OC_INLINE void FN(cross_entropy_body)(FN(tile) *s, const T *z, const T *b, T *dz, const FN(loss_args) *args) {
    (void)b;
    ptrdiff_t at[OC_LANES];
    FN(find_top)(s, z);
    for (int l = 0; l < s->rows; l++) {
        at[l] = FN(index_of)(s, l, args->target[s->row + l]);
        args->loss[s->row + l] = FN(top_of)(s, l) - (double)z[at[l]];
        s->weight[l] = 1;
    }
    FN(exponentials)(s, z, dz);
    if (!dz)
        return;
    T e[OC_LANES], right[OC_LANES];
    for (int l = 0; l < s->rows; l++)
        e[l] = s->e[at[l]] / OC_ONE;
    for (int l = s->rows; l < OC_LANES; l++)
        e[l] = 0;
    for (int l = 0; l < OC_LANES; l++)
        right[l] = (T)(-args->scale * ((1 - (double)e[l]) + s->rest[l]) / (1 + s->rest[l]));
    FN(normalise)(s, args->scale);
    for (int l = 0; l < s->rows; l++)
        dz[at[l]] = right[l];
}

/* loss = sum_j q_j (m - z_j) + Q log1p(r), Q = sum_j q_j. dz = (Q e - q (1 + r))/(1 + r), in the order that cancels
 * exactly where e = 1 and q = Q. */
OC_INLINE void FN(cross_entropy_soft_body)(FN(tile) *s, const T *z, const T *q, T *dz, const FN(loss_args) *args) {
    double sum[OC_LANES * OC_LANES] = {0}, sum_behind[OC_LANES * OC_LANES] = {0}, behind[OC_LANES], total[OC_LANES];
    T row_total[OC_LANES], row_rest[OC_LANES], row_share[OC_LANES];
    FN(find_top)(s, z);
    for (int strip = 0; strip < s->strips; strip++) {
        const T *x = z + strip * s->n, *w = q + strip * s->n, *top = s->top + strip * OC_LANES;
        double *t = sum + strip * OC_LANES, *b = sum_behind + strip * OC_LANES;
        OC_OVER_STRIP(s->n, const double qi = l < skip ? 0 : (double)w[i]; t[l] += qi;
                      b[l] += qi == 0 ? 0 : qi * ((double)top[l] - (double)x[i]));
    }
    FN(collect)(s, sum, total);
    FN(collect)(s, sum_behind, behind);
    FN(exponentials)(s, z, dz);
    for (int l = 0; l < s->rows; l++) {
        args->loss[s->row + l] = behind[l];
        s->weight[l] = total[l];
    }
    if (!dz)
        return;
    for (int l = 0; l < s->rows; l++) {
        row_total[l] = (T)total[l];
        row_rest[l] = (T)s->rest[l];
        row_share[l] = (T)(args->scale / (1 + s->rest[l]));
    }
    const T *e = s->e;
    for (int strip = 0; strip < s->strips; strip++, e += s->n, q += s->n, dz += s->n) {
        T lane[3][OC_LANES];
        const T *sum_q = FN(spread)(s, strip, row_total, lane[0]), *rest = FN(spread)(s, strip, row_rest, lane[1]);
        const T *by = FN(spread)(s, strip, row_share, lane[2]);
        OC_OVER_STRIP(s->n, dz[i] = l < skip ? dz[i] : ((e[i] / OC_ONE * sum_q[l] - q[i]) - q[i] * rest[l]) * by[l]);
    }
}

OC_INLINE void FN(cross_entropy_r_body)(FN(tile) *s, const T *p, const T *rz, T *rdz, const FN(loss_args) *args) {
    const T scale = (T)args->scale;
    for (int strip = 0; strip < s->strips; strip++, p += s->n, rz += s->n, rdz += s->n) {
        double mean[OC_LANES] = {0};
        OC_OVER_STRIP(s->n, mean[l] += l < skip ? 0 : (double)p[i] * (double)rz[i]);
        if (!s->transposed) {
            const double sum = oc_fold_lanes(mean);
            for (int l = 0; l < OC_LANES; l++)
                mean[l] = sum;
        }
        OC_OVER_STRIP(s->n, rdz[i] = l < skip ? rdz[i] : scale * (p[i] * (T)((double)rz[i] - mean[l])));
    }
}

/* [4][stride] -> [4][ld] turned. gcc finds no such shuffles in loops over the elements. */
OC_INLINE void FN(turn_4)(ptrdiff_t stride, ptrdiff_t ld, const T *x, T *out) {
#ifdef OC_SHUFFLE
    typedef T four __attribute__((vector_size(4 * sizeof(T))));
    four row[4];
    for (int i = 0; i < 4; i++)
        memcpy(&row[i], x + i * stride, sizeof(four));
    const four a = OC_SHUFFLE(row[0], row[2], 0, 4, 1, 5), b = OC_SHUFFLE(row[1], row[3], 0, 4, 1, 5);
    const four c = OC_SHUFFLE(row[0], row[2], 2, 6, 3, 7), d = OC_SHUFFLE(row[1], row[3], 2, 6, 3, 7);
    row[0] = OC_SHUFFLE(a, b, 0, 4, 1, 5), row[1] = OC_SHUFFLE(a, b, 2, 6, 3, 7);
    row[2] = OC_SHUFFLE(c, d, 0, 4, 1, 5), row[3] = OC_SHUFFLE(c, d, 2, 6, 3, 7);
    for (int i = 0; i < 4; i++)
        memcpy(out + i * ld, &row[i], sizeof(four));
#else
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            out[j * ld + i] = x[i * stride + j];
#endif
}

/* [OC_LANES, classes] -> [classes, OC_LANES], or back; the last four classes begin early enough to be four. */
OC_INLINE void FN(turn_classes)(int back, ptrdiff_t classes, const T *from, T *to) {
    const ptrdiff_t stride = back ? OC_LANES : classes, ld = back ? classes : OC_LANES;
    for (ptrdiff_t k = 0; k < classes; k += classes < 4 ? 1 : 4) {
        const ptrdiff_t j = classes < 4 || k < classes - 4 ? k : classes - 4;
        for (int l = 0; l < OC_LANES; l += classes < 4 ? 1 : 4) {
            const ptrdiff_t row = l * classes + j, tile = j * OC_LANES + l;
            if (classes < 4)
                to[back ? row : tile] = from[back ? tile : row];
            else
                FN(turn_4)(stride, ld, from + (back ? tile : row), to + (back ? row : tile));
        }
    }
}

/* The same of up to OC_LANES rows; the lanes without a row hold 0, and nobody reads what becomes of them. */
static void FN(transpose_in)(ptrdiff_t rows, ptrdiff_t classes, const T *x, T *tile) {
    T filled[OC_FEW_CLASSES * OC_LANES];
    if (rows < OC_LANES) {
        memcpy(filled, x, rows * classes * sizeof(T));
        memset(filled + rows * classes, 0, (OC_LANES - rows) * classes * sizeof(T));
        x = filled;
    }
    FN(turn_classes)(0, classes, x, tile);
}

static void FN(transpose_out)(ptrdiff_t rows, ptrdiff_t classes, const T *tile, T *x) {
    T filled[OC_FEW_CLASSES * OC_LANES];
    FN(turn_classes)(1, classes, tile, rows < OC_LANES ? filled : x);
    if (rows < OC_LANES)
        memcpy(x, filled, rows * classes * sizeof(T));
}

/* loss += weight * log1p(r) for up to OC_LANES rows at once, whichever way their r came about. */
static void FN(finish_losses)(ptrdiff_t rows, const double *rest, const double *weight, double *loss) {
    double log_sum[OC_LANES];
    for (int l = 0; l < OC_LANES; l++)
        log_sum[l] = oc_log1p(rest[l]);
    for (ptrdiff_t l = 0; l < rows; l++)
        loss[l] += weight[l] * log_sum[l];
}

/* The one loop over rows. b and out may be NULL. */
OC_INLINE void FN(over_rows)(ptrdiff_t rows, ptrdiff_t classes, const T *a, const T *b, T *out, FN(loss_body) *body,
                             const FN(loss_args) *args) {
    T tile_a[OC_FEW_CLASSES * OC_LANES] OC_ON_LINE;
    T tile_b[OC_FEW_CLASSES * OC_LANES] OC_ON_LINE, tile_out[OC_FEW_CLASSES * OC_LANES] OC_ON_LINE;
    double rest[OC_LANES] = {0}, weight[OC_LANES]; /* of the last rows, whose losses wait until they fill the lanes */
    int waiting = 0;
    FN(tile) s = {.transposed = classes <= OC_FEW_CLASSES};
    const ptrdiff_t room = OC_TILE / classes, most = room > OC_LANES ? OC_LANES : room > 0 ? room : 1;
    s.n = s.transposed ? classes * OC_LANES : classes;
    for (; s.row < rows; s.row += s.rows) {
        const ptrdiff_t at = s.row * classes;
        s.rows = (int)(rows - s.row < most ? rows - s.row : most);
        s.strips = s.transposed ? 1 : s.rows;
        s.e = !out ? NULL : s.transposed ? tile_out : out + at;
        if (s.transposed) {
            FN(transpose_in)(s.rows, classes, a + at, tile_a);
            if (b)
                FN(transpose_in)(s.rows, classes, b + at, tile_b);
            body(&s, tile_a, tile_b, out ? tile_out : NULL, args);
            if (out)
                FN(transpose_out)(s.rows, classes, tile_out, out + at);
        } else {
            body(&s, a + at, b ? b + at : NULL, out ? out + at : NULL, args);
        }
        if (!args || !args->loss)
            continue;
        if (waiting + s.rows > OC_LANES) {
            FN(finish_losses)(waiting, rest, weight, args->loss + s.row - waiting);
            waiting = 0;
        }
        for (int l = 0; l < s.rows; l++, waiting++) {
            rest[waiting] = s.rest[l];
            weight[waiting] = s.weight[l];
        }
    }
    if (waiting > 0)
        FN(finish_losses)(waiting, rest, weight, args->loss + rows - waiting);
}

static void FN(softmax)(ptrdiff_t rows, ptrdiff_t classes, const void *z, void *p) {
    FN(over_rows)(rows, classes, z, NULL, p, FN(softmax_body), NULL);
}

static void FN(log_softmax)(ptrdiff_t rows, ptrdiff_t classes, const void *z, void *log_p) {
    FN(over_rows)(rows, classes, z, NULL, log_p, FN(log_softmax_body), NULL);
}

static void FN(cross_entropy)(ptrdiff_t rows, ptrdiff_t classes, const void *z, const int64_t *target, double scale,
                              double *loss, void *dz) {
    const FN(loss_args) args = {target, scale, loss};
    FN(over_rows)(rows, classes, z, NULL, dz, FN(cross_entropy_body), &args);
}

static void FN(cross_entropy_soft)(ptrdiff_t rows, ptrdiff_t classes, const void *z, const void *q, double scale,
                                   double *loss, void *dz) {
    const FN(loss_args) args = {NULL, scale, loss};
    FN(over_rows)(rows, classes, z, q, dz, FN(cross_entropy_soft_body), &args);
}

static void FN(cross_entropy_r)(ptrdiff_t rows, ptrdiff_t classes, const void *p, const void *rz, double scale,
                                void *rdz) {
    const FN(loss_args) args = {NULL, scale, NULL};
    FN(over_rows)(rows, classes, p, rz, rdz, FN(cross_entropy_r_body), &args);
}

static double FN(mse)(ptrdiff_t n, const void *vy, const void *vtarget, double scale, void *vdy) {
    const T *y = vy, *target = vtarget;
    T *dy = vdy;
    double lane[OC_LANES] = {0};
    if (dy)
        OC_OVER_LANES(n, const double d = (double)y[i] - (double)target[i]; dy[i] = (T)(scale * d); lane[l] += d * d);
    else
        OC_OVER_LANES(n, const double d = (double)y[i] - (double)target[i]; lane[l] += d * d);
    return oc_fold_lanes(lane);
}

/* With m = min(|d|, delta) the error is m (|d| - m/2). */
static double FN(huber)(ptrdiff_t n, const void *vy, const void *vtarget, double delta, double scale, void *vdy) {
    const T *y = vy, *target = vtarget;
    T *dy = vdy;
    double lane[OC_LANES] = {0};
    OC_OVER_LANES(n, const double d = (double)y[i] - (double)target[i]; const double size = d < 0 ? -d : d;
                  const double m = size > delta ? delta : size; lane[l] += m * (size - 0.5 * m);
                  if (dy) dy[i] = (T)(scale * (d < -delta ? -delta : d > delta ? delta : d)));
    return oc_fold_lanes(lane);
}

/* -t log s(z) - (1 - t) log s(-z) = q |z| + log1p(e^-|z|) with q = 1 - t for z > 0, else t; 0 * infinity counts as 0. The
 * derivative is (1 - t) s(z) - t s(-z), each s = 1/(1 + e^-|z|) or e^-|z|/(1 + e^-|z|): none is taken from 1. */
OC_INLINE double FN(bce_body)(ptrdiff_t n, const T *restrict z, const T *restrict target, const T *restrict weight, T scale,
                              T *restrict dz, int weighted, int wanted) {
    double lane[OC_LANES] = {0};
    OC_OVER_LANES_ROLLED(
        n, const T size = FN(abs)(z[i]), e = FN(exp_neg)(-size), t = target[i], w = weighted ? weight[i] : 1;
        const T q = z[i] > 0 ? 1 - t : t; const double line = q == 0 ? 0 : (double)q * (double)size;
        lane[l] += (double)w * (line + oc_log1p((double)e)); if (wanted) {
            const T s = z[i] > 0 ? 1 : e, s_minus = z[i] > 0 ? e : 1;
            dz[i] = scale * w * (((1 - t) * s - t * s_minus) / (1 + e));
        });
    return oc_fold_lanes(lane);
}

static double FN(bce)(ptrdiff_t n, const void *z, const void *target, const void *weight, double scale, void *dz) {
    if (dz)
        return weight ? FN(bce_body)(n, z, target, weight, (T)scale, dz, 1, 1)
                      : FN(bce_body)(n, z, target, NULL, (T)scale, dz, 0, 1);
    return weight ? FN(bce_body)(n, z, target, weight, 0, NULL, 1, 0) : FN(bce_body)(n, z, target, NULL, 0, NULL, 0, 0);
}

#undef OC_FEW_CLASSES
#undef OC_TILE
#undef OC_OVER_STRIP
#undef OC_CHUNK
#undef OC_CHUNK_FN
#undef OC_STEP
#undef OC_ONE
