/* norm.tmpl.h: batch normalization over a block of x: its statistics and the sums of its backward pass.
 * norm_write.tmpl.h, which comes next, writes with what becomes of them.
 * Parameters: T the type of the arithmetic and of the constants, T_FN(name) the symbol of a kernel for this T and level;
 * X_T the element type of the arrays, X_GET(x) and X_PUT(t) from and to it, FN(name) the symbol for this X_T and level.
 * activation.tmpl.h of T before.
 *
 * A block is `outer` runs of `inner` contiguous elements, `stride` elements apart. In the segment form all of it
 * belongs to one channel (channels first); in the row form element i of every run belongs to channel i (rows of
 * features, channels last). One body serves both: a constant of element i is constant[i*per_column], and the sums of a segment
 * are sums over columns too, folded at the end.
 *
 * The bodies take every pointer as a `restrict` parameter: gcc ignores restrict on local variables, and vectorises
 * nothing here where doubles might overlap doubles. */

enum { FN(line) = OC_LINE / sizeof(X_T) }; /* elements of a cache line, and of the widest vector */

/* Columns up to the first that lies on a cache line in every row; 0 where rows differ in that. NumPy's arrays begin
 * inside a line, and a full-width access across two costs as much as two. */
OC_INLINE ptrdiff_t FN(head)(ptrdiff_t stride, const X_T *a) {
    const ptrdiff_t head = (ptrdiff_t)((OC_LINE - (uintptr_t)a % OC_LINE) % OC_LINE / sizeof(X_T));
    return stride % FN(line) ? 0 : head;
}

/* Sums in double of every column, as OC_OVER_COLUMNS of norm_write.tmpl.h from OC_SHORT columns on: body(kind) of the numbers
 * from column i on. It writes what it
 * accumulates to place j, where each group has its own; FN(gather) finds the columns there. `begin` comes before a group,
 * whose first column is `first`. */
#define OC_SUM_COLUMNS(columns, head, kind, begin, body)                                                              \
    do {                                                                                                              \
        if ((columns) < OC_SHORT) {                                                                                   \
            OC_IN_PLACE                                                                                               \
            for (ptrdiff_t i = 0; i < (columns); i++) {                                                               \
                const ptrdiff_t j = i;                                                                                \
                body(one);                                                                                            \
            }                                                                                                         \
            break;                                                                                                    \
        }                                                                                                             \
        const ptrdiff_t last = (columns) - FN(line);                                                                  \
        for (ptrdiff_t at = 0, group = 0; at < (columns); group += FN(line)) {                                        \
            const ptrdiff_t first = at < last ? at : last;                                                            \
            begin;                                                                                                    \
            OC_OVER_NUMBERS(kind)                                                                                     \
            for (int l = 0; l < FN(line); l += OC_WIDTH(kind)) {                                                      \
                const ptrdiff_t i = first + l, j = group + l;                                                         \
                body(kind);                                                                                           \
            }                                                                                                         \
            at = at ? at + FN(line) : (head) ? (head) : FN(line);                                                     \
        }                                                                                                             \
    } while (0)

/* Columns of the next tile: less than a line more than that are none of their own. */
OC_INLINE ptrdiff_t FN(next_tile)(ptrdiff_t columns) {
    return columns < OC_WIDE + FN(line) ? columns : OC_WIDE;
}

/* Places of a tile of columns, and from the places to the columns. */
#define OC_PLACES (OC_WIDE + 3 * FN(line))
OC_INLINE ptrdiff_t FN(places)(ptrdiff_t columns, ptrdiff_t head) {
    if (columns < OC_SHORT)
        return columns;
    return (head != 0) * FN(line) + (columns - head + FN(line) - 1) / FN(line) * FN(line);
}

OC_INLINE void FN(gather)(ptrdiff_t columns, ptrdiff_t head, const double *places, double *to) {
    if (columns < OC_SHORT) {
        memcpy(to, places, (size_t)columns * sizeof(double));
        return;
    }
    const ptrdiff_t tail = (columns - head) % FN(line), middle = columns - head - tail;
    memcpy(to, places, (size_t)head * sizeof(double));
    memcpy(to + head, places + (head ? FN(line) : 0), (size_t)middle * sizeof(double));
    memcpy(to + columns - tail, places + FN(places)(columns, head) - tail, (size_t)tail * sizeof(double));
}

/* Only what a tile uses is cleared: a channel of a few hundred values would wait for the rest. */
OC_INLINE void FN(clear)(ptrdiff_t columns, ptrdiff_t head, double *places) {
    memset(places, 0, (size_t)FN(places)(columns, head) * sizeof(double));
}

/* The body for K rows from r on at once: `together`, while there are so many, then 1. They share one load of the columns'
 * constants and one load and store of their sums. `begin` may say OC_ASK. */
#define OC_WHILE_ROWS(together, kind, begin, body)                                                                    \
    for (; r + (together) <= rows; r += (together)) {                                                                 \
        enum { K = (together) };                                                                                      \
        ptrdiff_t asked = 0, asked_row = (r + FN(rows_ahead)) * stride;                                               \
        (void)asked, (void)asked_row;                                                                                 \
        OC_SUM_COLUMNS(columns, head, kind, begin, body);                                                             \
    }
/* Asks memory for the lines of K rows that come later, element e of them, as many with each group of columns: one
 * after the other as they lie in memory, which delivers that up to twice as fast as the same columns of row after
 * row, and into the second-level cache: the first has no room for so many rows. The first rows of a block nobody has
 * asked for. */
enum { FN(rows_ahead) = 8 };
#define OC_ASK(each)                                                                                                  \
    for (int k = 0; k < (ahead ? K : 0); k++) {                                                                       \
        const ptrdiff_t e = asked_row + asked;                                                                        \
        each;                                                                                                         \
        asked += FN(line);                                                                                            \
        if (asked >= columns) {                                                                                       \
            asked = 0;                                                                                                \
            asked_row += stride;                                                                                      \
        }                                                                                                             \
    }
#define OC_OVER_ROWS(together, begin, body)                                                                           \
    do {                                                                                                              \
        ptrdiff_t r = 0;                                                                                              \
        OC_WHILE_ROWS(together, wide, begin, body)                                                                    \
        OC_WHILE_ROWS(1, wide, begin, body)                                                                           \
    } while (0)
#define OC_EACH_ROW                                                                                                   \
    OC_ALL_AT_ONCE                                                                                                    \
    for (int k = 0; k < K; k++)
#define AT(kind, a) OC_OF(kind, X_GET, (a) + (r + k) * stride + i)

/* total[0], ... of a segment block, in lanes: element i of the body is i elements from its first. Runs that do not fill the
 * lanes have lanes of their own, which are memory: those of the others stay in registers. */
#define OC_SEGMENT_SUMS(count, kind, total, body)                                                                      \
    do {                                                                                                              \
        if (inner < OC_LANES)                                                                                         \
            OC_SUM_RUNS(count, total, OC_RUN_VECTOR(count, one, inner, s * stride, body));                            \
        else                                                                                                          \
            OC_SUM_RUNS(count, total, OC_RUN_LANES(count, kind, inner, s * stride, body));                            \
    } while (0)
/* Before the first of OC_LANES elements, of runs that fill them: OC_NEXT_RUN of each array, as runs lie apart. */
#define OC_BEFORE(kind, ...) OC_BEFORE_##kind(__VA_ARGS__)
#define OC_BEFORE_one(...) (void)l
#define OC_BEFORE_wide(...)                                                                                           \
    if (l == 0) {                                                                                                     \
        __VA_ARGS__;                                                                                                  \
    }
#define OC_NEXT_RUN(a)                                                                                                \
    if (ahead && inner < FN(long_run))                                                                                \
        OC_PREFETCH((a) + i + stride);                                                                                \
    else if (ahead)                                                                                                   \
    OC_PREFETCH_L2((a) + i + stride)
/* A block of one run would ask for what is far away yet. */
OC_INLINE int FN(asks_ahead)(ptrdiff_t outer, int how) {
    return how & OC_FROM_MEMORY && outer > 1;
}
enum { FN(long_run) = 4096 / sizeof(X_T) }; /* two arrays' long runs, these and the next, would fill the first-level cache */
#define OC_SUM_RUNS(count, total, run)                                                                                \
    do {                                                                                                              \
        double lane[count][OC_LANES] OC_ON_LINE = {{0}};                                                              \
        for (ptrdiff_t s = 0; s < outer; s++)                                                                         \
            run;                                                                                                      \
        for (int c = 0; c < (count); c++)                                                                             \
            (total)[c] = oc_fold_lanes(lane[c]);                                                                      \
    } while (0)

/* ------------------------------------------------------------------------------------------- statistics of a block
 * In double, with d = x - shift and shift the mean of k of the n values:
 *     mean = shift + rest,  rest = sum(d)/n,  m2 = sum(d^2) - n*rest^2
 * (Chan, Golub and LeVeque 1983). What is subtracted is at most n/k times m2, because the k values alone have
 * k*rest^2 <= m2: the relative error of m2 is at most 1 + n/k times that of a sum, whatever the data are, and rounding does
 * not make it negative.
 * float64 takes k = n, the corrected two-pass algorithm, over a block that its caller made small enough for the cache; the
 * mean is that of the differences to the first value, so that equal values, however large, have it for a mean.
 * float32 takes the first eight rows, or the first OC_LANES values of a segment, which makes it one pass over memory. Of the
 * 29 bits that double has to spare, blocks of 1,000 rows or 8,000 values cost at most 7 and 13.
 * Columns of float32 take shift = 0 where those rows have mean^2 <= 16*m2, m2 being theirs and no more than that of all: what
 * is subtracted is n*mean^2 <= 2n*(16 + 1/k)*m2, 15 bits of 1,000 rows. Where all do it saves a difference, and the square of a
 * float is exact in double, so that it may be fused with its sum. So do segments, by their first OC_LANES values: 18 bits of
 * 8,000. */
enum { FN(two_pass) = sizeof(T) == sizeof(double), FN(sample) = 8 };

OC_INLINE void FN(add)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride, ptrdiff_t head, const X_T *restrict x,
                       const double *restrict base, int by_place, double *restrict sum) {
#define OC_BODY(kind)                                                                                                 \
    const OC_NUMBER(kind) m = by_place ? OC_READ(kind, base + j) : (OC_NUMBER(kind)){0};                          \
    OC_NUMBER(kind) s = {0};                                                                                          \
    OC_EACH_ROW                                                                                                       \
        s += AT(kind, x) - m;                                                                                         \
    OC_AT(kind, sum + j) += s
    OC_OVER_ROWS(8, (void)0, OC_BODY);
#undef OC_BODY
}

OC_INLINE void FN(add_deviations)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride, ptrdiff_t head,
                                  const X_T *restrict x, const double *restrict shift, int ahead, double *restrict sum,
                                  double *restrict square) {
#define OC_BODY(kind)                                                                                                 \
    const OC_NUMBER(kind) m = OC_READ(kind, shift + j);                                                           \
    OC_NUMBER(kind) s = {0}, q = {0};                                                                                 \
    OC_EACH_ROW {                                                                                                     \
        const OC_NUMBER(kind) d = AT(kind, x) - m;                                                                    \
        s += d;                                                                                                       \
        q += d * d;                                                                                                   \
    }                                                                                                                 \
    OC_AT(kind, sum + j) += s;                                                                                        \
    OC_AT(kind, square + j) += q
    OC_OVER_ROWS(8, OC_ASK(OC_PREFETCH_L2(x + e)), OC_BODY);
#undef OC_BODY
}

OC_INLINE void FN(add_squares)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride, ptrdiff_t head, const X_T *restrict x,
                               int ahead, double *restrict sum, double *restrict square) {
#define OC_BODY(kind)                                                                                                 \
    OC_NUMBER(kind) s = {0}, q = {0};                                                                                 \
    OC_EACH_ROW {                                                                                                     \
        const OC_NUMBER(kind) v = AT(kind, x);                                                                        \
        s = k ? s + v : v;                                                                                            \
        q = OC_FMA(kind, v, v, q);                                                                                    \
    }                                                                                                                 \
    OC_AT(kind, sum + j) += s;                                                                                        \
    OC_AT(kind, square + j) += q
    OC_OVER_ROWS(8, OC_ASK(OC_PREFETCH_L2(x + e)), OC_BODY);
#undef OC_BODY
}

/* The shift of every place from the sums of n values: 0 where mean^2 <= most*m2; return whether all are 0. */
OC_INLINE int FN(take_shift)(ptrdiff_t places, double n, double most, const double *restrict sum,
                             const double *restrict square, double *restrict shift) {
    int64_t far = 0;
    for (ptrdiff_t j = 0; j < places; j++) {
        const double mean = sum[j] / n, m2 = square[j] - n * (mean * mean);
        shift[j] = mean * mean <= most * m2 ? 0 : mean;
        far |= shift[j] != 0;
    }
    return !far;
}

/* sum and square to the places, of differences to the shift. */
OC_INLINE void FN(shifted_sums)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride, ptrdiff_t head, const X_T *x,
                                int ahead, double *restrict shift, double *restrict sum, double *restrict square) {
    const ptrdiff_t places = FN(places)(columns, head), k = rows < FN(sample) ? rows : FN(sample);
    FN(clear)(columns, head, shift);
    FN(clear)(columns, head, sum);
    FN(clear)(columns, head, square);
    if (FN(two_pass)) {
        FN(add)(1, columns, stride, head, x, NULL, 0, shift);
        FN(add)(rows, columns, stride, head, x, shift, 1, sum);
        for (ptrdiff_t j = 0; j < places; j++)
            shift[j] = shift[j] + sum[j] / (double)rows;
    } else {
        FN(add_squares)(k, columns, stride, head, x, ahead, sum, square);
        if (FN(take_shift)(places, (double)k, 16, sum, square, shift)) { // the sums so far are as they would be again
            FN(add_squares)(rows - k, columns, stride, head, x + k * stride, ahead, sum, square);
            return;
        }
        FN(clear)(columns, head, square);
    }
    FN(clear)(columns, head, sum);
    FN(add_deviations)(rows, columns, stride, head, x, shift, ahead, sum, square);
}

static void FN(moments_rows)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *vx, double *moments,
                             int how) {
    const double n = (double)outer;
    for (ptrdiff_t first = 0, columns; first < inner; first += columns) {
        columns = FN(next_tile)(inner - first);
        const X_T *x = (const X_T *)vx + first;
        const ptrdiff_t head = FN(head)(stride, x), places = FN(places)(columns, head);
        double shift[OC_PLACES] OC_ON_LINE, sum[OC_PLACES] OC_ON_LINE, square[OC_PLACES] OC_ON_LINE;
        if (how & OC_FROM_MEMORY)
            FN(shifted_sums)(outer, columns, stride, head, x, 1, shift, sum, square);
        else
            FN(shifted_sums)(outer, columns, stride, head, x, 0, shift, sum, square);
        for (ptrdiff_t j = 0; j < places; j++) {
            sum[j] = sum[j] / n;
            square[j] = square[j] - n * (sum[j] * sum[j]);
        }
        FN(gather)(columns, head, shift, moments + first);
        FN(gather)(columns, head, sum, moments + inner + first);
        FN(gather)(columns, head, square, moments + 2 * inner + first);
    }
}

/* Of differences to the shift; where it is 0 the values themselves, whose squares are exact in double. */
OC_INLINE void FN(segment_deviations)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const X_T *restrict x,
                                      double shift, int ahead, double *total) {
#define OC_BODY(kind)                                                                                                 \
    OC_BEFORE(kind, OC_NEXT_RUN(x));                                                                                  \
    add[0] = OC_OF(kind, X_GET, x + i) - shift;                                                                       \
    add[1] = add[0] * add[0]
#define OC_EXACT_BODY(kind)                                                                                           \
    OC_BEFORE(kind, OC_NEXT_RUN(x));                                                                                  \
    add[0] = add[1] = by[1] = OC_OF(kind, X_GET, x + i);                                                              \
    products = 2
    if (!FN(two_pass) && shift == 0)
        OC_SEGMENT_SUMS(2, wide, total, OC_EXACT_BODY);
    else
        OC_SEGMENT_SUMS(2, wide, total, OC_BODY);
#undef OC_BODY
#undef OC_EXACT_BODY
}

/* The shift of a segment block in float32, from its first n values. */
static double FN(segment_shift)(ptrdiff_t n, double most, const X_T *x) {
    double total[2], shift;
    FN(segment_deviations)(1, n, n, x, 0, 0, total);
    FN(take_shift)(1, (double)n, most, total, total + 1, &shift);
    return shift;
}

static double FN(segment_mean)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const X_T *x) {
    double total[2], base = (double)X_GET(*x);
    FN(segment_deviations)(outer, inner, stride, x, base, 0, total);
    return base + total[0] / ((double)outer * (double)inner);
}

static void FN(moments_segments)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *x, double *moments,
                                 int how) {
    const double n = (double)outer * (double)inner;
    const double shift = FN(two_pass) ? FN(segment_mean)(outer, inner, stride, x)
                                      : FN(segment_shift)(inner < OC_LANES ? inner : OC_LANES, 16, x);
    double total[2];
    if (FN(asks_ahead)(outer, how))
        FN(segment_deviations)(outer, inner, stride, x, shift, 1, total);
    else
        FN(segment_deviations)(outer, inner, stride, x, shift, 0, total);
    const double rest = total[0] / n;
    moments[0] = shift;
    moments[1] = rest;
    moments[2] = total[1] - n * (rest * rest);
}

/* ---------------------------------------------------------------------------------------------------- fused on the way
 * What else a body does, a constant of it. A gradient passes a ReLU as in activation.tmpl.h, and NaN passes with it. */
#ifndef OC_FUSED
#define OC_FUSED
enum {
    OC_ADDED = 1,     /* the last input is added */
    OC_RECTIFIED = 2, /* ReLU of the result */
    OC_GATED = 4,     /* the gradient passes the ReLU whose output is the last input */
    OC_SELF_GATED = 8, /* the same, the output being made again from x: OC_OUTPUT */
    OC_KEPT = 16      /* what passes is written */
};
#endif
#define COEF(k) coef[(k) * ld + i * per_column]
#define OC_OUTPUT(x) FN(normal)(x, COEF(0), COEF(6), COEF(7))

OC_INLINE T FN(normal)(T x, T high, T scale, T bias) {
    return (x - high) * scale + bias;
}

OC_INLINE T FN(passed)(int fused, T d, T output) {
    return fused & (OC_GATED | OC_SELF_GATED) ? T_FN(where)(!(output <= 0), d) : d;
}

OC_INLINE T FN(pass)(int fused, T d, T output, X_T *kept) {
    const T passed = FN(passed)(fused, d, output);
    if (fused & OC_KEPT)
        *kept = X_PUT(passed);
    return passed;
}

/* ------------------------------------------------------------------------------------------- sums of the backward pass
 * The sum of u and the sum of u*(v - mean), one value of each per channel of the block. In float32 the latter is the
 * sum of u*v, whose products are exact in double, less mean*sum(u), which saves a difference each: where the block's
 * first k values of v, with the mean c and the sum s of their squared deviations from it, have c^2 <= s. Let S be the
 * sum of all (v - mean)^2, whichever mean that is: s + k*(c - mean)^2 <= S, so |mean| <= |c| + |mean - c| <=
 * 2*sqrt(S). With |.| the root of a sum of squares over the block's n values what is subtracted is at most
 * 2*sqrt(n)*|u|*|v - mean|, and |u|*|v - mean| bounds the sum itself: of the 29 bits that double has to spare it
 * costs 6, or 8 of a long segment. */
#define OC_SUMS(name)                                                                                                 \
    OC_INLINE void FN(name)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const X_T *restrict u,                \
                            const X_T *restrict v, const X_T *restrict gate, const T *restrict coef, ptrdiff_t ld,    \
                            const double *restrict mean, double *restrict sums, X_T *restrict kept, int fused, int how)
/* What passes of element e of u. `wide` sums find it in `passes`, where pass_all put it before: ReLUs are for whole
 * vectors of T. It puts as many at a time as a sum loads at most: a load waits long for a store of 64 bytes of which it
 * takes half. */
#define OC_PIECE 8
#define OC_PASS(e) FN(pass)(fused, X_GET(u[e]), OC_GATE_AT(e), fused & OC_KEPT ? kept + (e) : NULL)
#define OC_GATE_AT(e)                                                                                                 \
    (fused & OC_GATED ? X_GET(gate[e]) : fused & OC_SELF_GATED ? OC_OUTPUT(X_GET(v[e])) : 0)
OC_INLINE void FN(pass_all)(ptrdiff_t n, int fused, const X_T *restrict u, const X_T *restrict v, const X_T *restrict gate,
                            const T *restrict coef, ptrdiff_t ld, int per_column, X_T *restrict kept, T *restrict to) {
    for (ptrdiff_t at = 0; at < n; at += OC_PIECE) {
        OC_IN_PLACE OC_ROLLED
        for (ptrdiff_t i = at; i < at + OC_PIECE; i++)
            to[i] = OC_PASS(i);
    }
}
#define OC_PASS_ALL(n, at, i, to)                                                                                     \
    if (fused)                                                                                                        \
    FN(pass_all)(n, fused, u + (at), v + (at), fused & OC_GATED ? gate + (at) : NULL,                                 \
                 fused & OC_SELF_GATED ? coef + (i) * per_column : NULL, ld, per_column,                              \
                 fused & OC_KEPT ? kept + (at) : NULL, to)
#define OC_PASSED(kind, e, all, passes) OC_PASSED_##kind(e, all, passes)
#define OC_PASSED_one(e, all, passes) (double)OC_PASS(e)
#define OC_PASSED_wide(e, all, passes) (fused ? OC_OF(wide, , passes) : (all))
OC_INLINE void FN(add_products)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride, ptrdiff_t head,
                                const X_T *restrict u, const X_T *restrict v, const X_T *restrict gate,
                                const T *restrict coef, ptrdiff_t ld, const double *restrict mean,
                                X_T *restrict kept, int fused, int ahead, int exact, double *restrict sum,
                                double *restrict product) {
    const int per_column = 1;
    ptrdiff_t r = 0;
    T passes[4][FN(line)] OC_ON_LINE;
/* Four rows: they are as far from the group's pointer as in every group, which is an instruction less for each vector
 * of two arrays than to find them from the arrays. Eight would be too many distances for the registers, and their
 * lines would not stay in the first-level cache until the next vector of a line comes back to them, where rows are a
 * power of two apart. */
#define OC_GROUP(a) const X_T *const a##_group = (a) + r * stride + first
#define OC_IN_GROUP(kind, a) OC_IN_GROUP_##kind(a)
#define OC_IN_GROUP_one(a) AT(one, a)
#define OC_IN_GROUP_wide(a) OC_OF(wide, X_GET, a##_group + k * stride + l)
#define OC_BODY(kind)                                                                                                 \
    const OC_NUMBER(kind) m = OC_READ(kind, mean + i);                                                                \
    OC_NUMBER(kind) s, p = {0};                                                                                       \
    OC_EACH_ROW {                                                                                                     \
        const OC_NUMBER(kind) w = OC_IN_GROUP(kind, v);                                                               \
        const OC_NUMBER(kind) d = OC_PASSED(kind, (r + k) * stride + i, OC_IN_GROUP(kind, u), passes[k] + l);         \
        s = k ? s + d : d;                                                                                            \
        p = exact ? OC_FMA(kind, d, w, p) : p + d * (w - m);                                                          \
    }                                                                                                                 \
    OC_AT(kind, sum + j) += s;                                                                                        \
    OC_AT(kind, product + j) += p
#define OC_BEGIN                                                                                                      \
    OC_GROUP(u);                                                                                                      \
    OC_GROUP(v);                                                                                                      \
    OC_ASK(OC_PREFETCH_L2(u + e); OC_PREFETCH_L2(v + e); if (fused & OC_GATED) OC_PREFETCH_L2(gate + e));             \
    for (int k = 0; k < K; k++)                                                                                       \
        OC_PASS_ALL(FN(line), (r + k) * stride + first, first, passes[k])
    OC_WHILE_ROWS(4, wide, OC_BEGIN, OC_BODY)
    OC_WHILE_ROWS(1, wide, OC_BEGIN, OC_BODY)
#undef OC_BEGIN
#undef OC_GROUP
#undef OC_IN_GROUP
#undef OC_IN_GROUP_one
#undef OC_IN_GROUP_wide
#undef OC_BODY
}

/* Rows of a block from which a look at the first ones pays, and up to which it costs no more bits than that; values
 * of a segment block. */
enum { FN(rows_to_look) = 128, FN(most_rows) = 1024, FN(values_to_look) = 512, FN(most_values) = 8192 };

/* The mean of each column, or 0 where its first values say so; return whether all are 0. */
OC_INLINE int FN(take_about)(ptrdiff_t columns, ptrdiff_t stride, ptrdiff_t head, const X_T *v, const double *restrict mean,
                             double *restrict about) {
    double sum[OC_PLACES] OC_ON_LINE, square[OC_PLACES] OC_ON_LINE, shift[OC_PLACES] OC_ON_LINE;
    FN(clear)(columns, head, sum);
    FN(clear)(columns, head, square);
    FN(add_squares)(FN(sample), columns, stride, head, v, 0, sum, square);
    const int all = FN(take_shift)(FN(places)(columns, head), FN(sample), 1, sum, square, shift);
    FN(gather)(columns, head, shift, about);
    for (ptrdiff_t i = 0; i < columns; i++)
        about[i] = about[i] == 0 ? 0 : mean[i];
    return all;
}

OC_SUMS(sums_rows_body) {
    for (ptrdiff_t first = 0, columns; first < inner; first += columns) {
        columns = FN(next_tile)(inner - first);
        const ptrdiff_t head = FN(head)(stride, u + first);
        double sum[OC_PLACES] OC_ON_LINE, product[OC_PLACES] OC_ON_LINE;
        FN(clear)(columns, head, sum);
        FN(clear)(columns, head, product);
        const X_T *gates = fused & OC_GATED ? gate + first : NULL;
        const T *remade = fused & OC_SELF_GATED ? coef + first : NULL;
        X_T *passed = fused & OC_KEPT ? kept + first : NULL;
        double near[OC_PLACES] OC_ON_LINE;
        const int look = !FN(two_pass) && outer >= FN(rows_to_look) && outer <= FN(most_rows);
        const double *about = look ? near : mean + first;
        const int exact = look && FN(take_about)(columns, stride, head, v + first, mean + first, near);
#define OC_ADD(ahead, exact)                                                                                          \
    FN(add_products)(outer, columns, stride, head, u + first, v + first, gates, remade, ld, about, passed, fused,     \
                     ahead, exact, sum, product)
        if (how & OC_FROM_MEMORY && exact)
            OC_ADD(1, 1);
        else if (how & OC_FROM_MEMORY)
            OC_ADD(1, 0);
        else if (exact)
            OC_ADD(0, 1);
        else
            OC_ADD(0, 0);
#undef OC_ADD
        FN(gather)(columns, head, sum, sums + first);
        FN(gather)(columns, head, product, sums + inner + first);
        for (ptrdiff_t i = 0; i < columns; i++)
            sums[inner + first + i] -= about[i] == mean[first + i] ? 0 : mean[first + i] * sums[first + i];
    }
}

OC_SUMS(sums_segments_body) {
    const int per_column = 0;
    const double m = *mean;
    const ptrdiff_t n = outer * inner;
    const int look = !FN(two_pass) && n >= FN(values_to_look) && n <= FN(most_values);
    const int exact = look && FN(segment_shift)(inner < OC_LANES ? inner : OC_LANES, 1, v) == 0;
    T passes[OC_LANES] OC_ON_LINE;
#define OC_PASSING(kind)                                                                                              \
    OC_BEFORE(kind, OC_NEXT_RUN(u); OC_NEXT_RUN(v); OC_PASS_ALL(OC_LANES, i, i, passes));                             \
    add[0] = OC_PASSED(kind, i, OC_OF(kind, X_GET, u + i), passes + l)
#define OC_BODY(kind)                                                                                                 \
    OC_PASSING(kind);                                                                                                 \
    add[1] = add[0] * (OC_OF(kind, X_GET, v + i) - m)
#define OC_EXACT_BODY(kind)                                                                                           \
    OC_PASSING(kind);                                                                                                 \
    add[1] = add[0];                                                                                                  \
    by[1] = OC_OF(kind, X_GET, v + i);                                                                                \
    products = 2
#define OC_ADD(body)                                                                                                  \
    if (FN(asks_ahead)(outer, how)) {                                                                                 \
        enum { ahead = 1 };                                                                                           \
        OC_SEGMENT_SUMS(2, wide, sums, body);                                                                         \
    } else {                                                                                                          \
        enum { ahead = 0 };                                                                                           \
        OC_SEGMENT_SUMS(2, wide, sums, body);                                                                         \
    }
    if (exact) {
        OC_ADD(OC_EXACT_BODY)
        sums[1] -= m == 0 ? 0 : m * sums[0]; /* 0 times an infinite sum would be NaN */
    } else {
        OC_ADD(OC_BODY)
    }
#undef OC_ADD
#undef OC_EXACT_BODY
#undef OC_BODY
#undef OC_PASSING
}
#undef OC_PASSED
#undef OC_PASSED_wide
#undef OC_PASSED_one
#undef OC_PASS_ALL
#undef OC_PIECE
#undef OC_PASS
#undef OC_GATE_AT
#undef OC_SUMS

#define OC_SUMS_KERNELS(form)                                                                                         \
    static void FN(sums_##form)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *u, const void *v,     \
                                const double *mean, double *sums, int how) {                                          \
        FN(sums_##form##_body)(outer, inner, stride, u, v, NULL, NULL, 0, mean, sums, NULL, 0, how);                  \
    }                                                                                                                 \
    static void FN(gated_sums_##form)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *u,              \
                                      const void *v, const void *gate, const void *coef, ptrdiff_t ld,                \
                                      const double *mean, double *sums, void *kept, int how) {                        \
        if (!gate)                                                                                                    \
            FN(sums_##form##_body)(outer, inner, stride, u, v, NULL, coef, ld, mean, sums, NULL, OC_SELF_GATED, how); \
        else if (!kept)                                                                                               \
            FN(sums_##form##_body)(outer, inner, stride, u, v, gate, NULL, 0, mean, sums, NULL, OC_GATED, how);       \
        else                                                                                                          \
            FN(sums_##form##_body)(outer, inner, stride, u, v, gate, NULL, 0, mean, sums, kept, OC_GATED | OC_KEPT,   \
                                   how);                                                                              \
    }
OC_SUMS_KERNELS(rows)
OC_SUMS_KERNELS(segments)
#undef OC_SUMS_KERNELS

#undef OC_SEGMENT_SUMS
#undef OC_BEFORE
#undef OC_BEFORE_one
#undef OC_BEFORE_wide
#undef OC_NEXT_RUN
#undef OC_SUM_RUNS
#undef OC_OVER_ROWS
#undef OC_ASK
#undef OC_PLACES
#undef AT
