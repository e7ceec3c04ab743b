/* row_parts.tmpl.h: what the kernels of layer norm and RMS norm are made of: sums over a run, the constants of a row,
 * its results line by line.
 * Parameters: those of norm.tmpl.h, which it follows and whose FN(line), FN(head) and FN(two_pass) it uses.
 * row_bands.tmpl.h and row_norm.tmpl.h come next.
 *
 * The bodies take every pointer as a `restrict` parameter, as in norm.tmpl.h. */

#define AT(a) X_GET(a[i])

/* ------------------------------------------------------------------------------------------------- sums over a run
 * In double, the terms of a block of up to OC_BLOCK elements in lanes (OC_RUN_LANES). four[c]: term c of a block as far
 * as its last four lanes, from where a band goes on with all of its rows at once. */
typedef double FN(four)[4];
#define OC_RUN_FOURS(count, n, four, body)                                                                            \
    do {                                                                                                              \
        double lane[count][OC_LANES] OC_ON_LINE;                                                                      \
        if ((n) < OC_LANES) {                                                                                         \
            memset(lane, 0, sizeof lane);                                                                             \
            OC_RUN_VECTOR(count, one, n, 0, body);                                                                    \
        } else { /* the first vector is put down: to clear the lanes takes as long as to add a few */                 \
            OC_RUN_TERMS(count, wide, OC_LANES, 0, lane, OC_TERM(c), body);                                           \
            OC_RUN_LANES(count, wide, (n) - OC_LANES, OC_LANES, body);                                                \
        }                                                                                                             \
        for (int c = 0; c < (count); c++)                                                                             \
            oc_fold_to_four(lane[c], (four)[c]);                                                                      \
    } while (0)

/* Term c is the product of two that T holds, exact in double where T is float. */
#define OC_PRODUCT(c, a, b)                                                                                           \
    add[c] = FN(two_pass) ? (a) * (b) : (a);                                                                          \
    by[c] = (b);                                                                                                      \
    products |= (unsigned)!FN(two_pass) << (c)

/* total[0] to total[count - 1] of n elements; `fours` takes m of them from `from` on to `four`. */
#define OC_RUN_SUMS(count, n, total, fours)                                                                           \
    do {                                                                                                              \
        for (int c = 0; c < (count); c++)                                                                             \
            (total)[c] = 0;                                                                                           \
        for (ptrdiff_t from = 0; from < (n); from += OC_BLOCK) {                                                      \
            const ptrdiff_t m = (n) - from < OC_BLOCK ? (n) - from : OC_BLOCK;                                        \
            FN(four) four[count] OC_ON_LINE;                                                                          \
            fours;                                                                                                    \
            for (int c = 0; c < (count); c++)                                                                         \
                (total)[c] += oc_fold_four(four[c]);                                                                  \
        }                                                                                                             \
    } while (0)

OC_INLINE void FN(square_fours)(ptrdiff_t n, const X_T *restrict x, FN(four) *restrict four) {
#define OC_BODY(kind)                                                                                                 \
    add[0] = OC_OF(kind, X_GET, x + i);                                                                               \
    OC_PRODUCT(1, add[0], add[0])
    OC_RUN_FOURS(2, n, four, OC_BODY);
#undef OC_BODY
}

OC_INLINE void FN(deviation_fours)(ptrdiff_t n, const X_T *restrict x, double shift, FN(four) *restrict four) {
#define OC_BODY(kind)                                                                                                 \
    add[0] = OC_OF(kind, X_GET, x + i) - shift;                                                                       \
    add[1] = add[0] * add[0]
    OC_RUN_FOURS(2, n, four, OC_BODY);
#undef OC_BODY
}

/* The sums of x and x^2, and those of the differences to a shift. */
OC_INLINE void FN(squares)(ptrdiff_t n, const X_T *x, double *total) {
    OC_RUN_SUMS(2, n, total, FN(square_fours)(m, x + from, four));
}

OC_INLINE void FN(deviations)(ptrdiff_t n, const X_T *x, double shift, double *total) {
    OC_RUN_SUMS(2, n, total, FN(deviation_fours)(m, x + from, shift, four));
}

/* Whether n*mean^2, which is subtracted from the sum of squares to give m2, is more than 64 times m2; so is NaN. */
OC_INLINE int FN(is_far)(double n, double mean, double square) {
    const double subtracted = n * (mean * mean);
    return !(subtracted <= 64 * (square - subtracted));
}

/* float32 is summed as it is where the mean is not far. Elsewhere, and in double, the run, which is in cache by then,
 * is summed again, shifted by its mean; a constant run has its value for a mean. */
static OC_APART void FN(run_moments)(ptrdiff_t n, const void *x, double *moments) {
    double total[2], shift = FN(two_pass) && n ? (double)X_GET(*(const X_T *)x) : 0;
    if (FN(two_pass))
        FN(deviations)(n, x, shift, total);
    else
        FN(squares)(n, x, total);
    const double mean = shift + total[0] / (double)n;
    if (FN(two_pass) || FN(is_far)((double)n, mean, total[1])) {
        shift = mean;
        FN(deviations)(n, x, shift, total);
    }
    const double rest = total[0] / (double)n;
    moments[0] = shift;
    moments[1] = rest;
    moments[2] = total[1] - (double)n * (rest * rest);
}

OC_INLINE void FN(product_fours)(ptrdiff_t n, const X_T *restrict u, const X_T *restrict v, double mean,
                                 FN(four) *restrict four) {
#define OC_BODY(kind)                                                                                                 \
    add[0] = OC_OF(kind, X_GET, u + i);                                                                               \
    add[1] = add[0] * (OC_OF(kind, X_GET, v + i) - mean)
    OC_RUN_FOURS(2, n, four, OC_BODY);
#undef OC_BODY
}

OC_INLINE void FN(run_sums_body)(ptrdiff_t n, const X_T *u, const X_T *v, double mean, double *total) {
    OC_RUN_SUMS(2, n, total, FN(product_fours)(m, u + from, v + from, mean, four));
}

static void FN(run_sums)(ptrdiff_t n, const void *u, const void *v, double mean, double *sums) {
    double total[2];
    FN(run_sums_body)(n, u, v, mean, total);
    sums[0] = total[0];
    sums[1] = total[1];
}

/* The sums of u = w*dy and of u*(x - mean). */
OC_INLINE void FN(adjoint_fours)(ptrdiff_t n, const X_T *restrict dy, const T *restrict w, const X_T *restrict x,
                                 double mean, FN(four) *restrict four) {
#define OC_BODY(kind)                                                                                                 \
    const OC_NUMBER(kind) weight = OC_OF(kind, (T), w + i), v = OC_OF(kind, X_GET, dy + i);                           \
    OC_PRODUCT(0, weight, v);                                                                                         \
    add[1] = weight * v * (OC_OF(kind, X_GET, x + i) - mean)
    OC_RUN_FOURS(2, n, four, OC_BODY);
#undef OC_BODY
}

OC_INLINE void FN(adjoint_sums)(ptrdiff_t n, const X_T *dy, const T *w, const X_T *x, double mean, double *total) {
    OC_RUN_SUMS(2, n, total, FN(adjoint_fours)(m, dy + from, w + from, x + from, mean, four));
}

/* The same, then the sums of ru = rw*dy + w*rdy, and u*(rx - rmean). */
OC_INLINE void FN(adjoint_fours_r)(ptrdiff_t n, const X_T *restrict dy, const T *restrict w, const X_T *restrict x,
                                   double mean, const X_T *restrict rdy, const T *restrict rw, const X_T *restrict rx,
                                   double rmean, FN(four) *restrict four) {
#define OC_BODY(kind)                                                                                                 \
    const OC_NUMBER(kind) d = OC_OF(kind, X_GET, x + i) - mean, weight = OC_OF(kind, (T), w + i);                     \
    const OC_NUMBER(kind) v = OC_OF(kind, X_GET, dy + i), rv = OC_OF(kind, X_GET, rdy + i);                           \
    const OC_NUMBER(kind) u = weight * v, ru = OC_OF(kind, (T), rw + i) * v + weight * rv;                            \
    add[0] = u;                                                                                                       \
    add[1] = u * d;                                                                                                   \
    add[2] = ru;                                                                                                      \
    add[3] = ru * d;                                                                                                  \
    add[4] = u * (OC_OF(kind, X_GET, rx + i) - rmean)
    OC_RUN_FOURS(5, n, four, OC_BODY);
#undef OC_BODY
}

OC_INLINE void FN(adjoint_sums_r)(ptrdiff_t n, const X_T *dy, const T *w, const X_T *x, double mean, const X_T *rdy,
                                  const T *rw, const X_T *rx, double rmean, double *total) {
    OC_RUN_SUMS(5, n, total, FN(adjoint_fours_r)(m, dy + from, w + from, x + from, mean, rdy + from, rw + from,
                                                 rx + from, rmean, four));
}

/* ------------------------------------------------------------------------------------------------ what a row holds
 * x_hat = (x*power - high)*scale + shift, where high is the mean as T holds it: see norm.tmpl.h. The power is 1, but
 * for the extremes of float32. */
typedef struct {
    T power, high, scale, shift;
} FN(hat);

OC_INLINE double FN(power_of)(double s) {
    return sizeof(T) == sizeof(float) ? oc_power_of(s, s) : 1;
}

OC_INLINE FN(hat) FN(hat_with)(double mean, double rest, double s, double power) {
    const T high = (T)mean;
    return (FN(hat)){(T)power, high * (T)power, (T)(s / power), (T)(-((mean - (double)high) + rest) * s)};
}

OC_INLINE FN(hat) FN(hat_of)(const oc_rows *p, ptrdiff_t r) {
    const double s = p->inv_std[r * p->every];
    return FN(hat_with)(p->mean[r * p->every], p->rest[r * p->every], s, FN(power_of)(s));
}

OC_INLINE T FN(x_hat)(FN(hat) h, T x) {
    return (x * h.power - h.high) * h.scale + h.shift;
}

/* Both derivatives of a normalisation are the projection P v = s*(v - mean(v) - x_hat*mean(x_hat*v)): with x_hat = (x -
 * mean)*s, dx = P(weight*dy) and R{x_hat} = P(R{x}). RMS norm does not subtract the mean, of v neither. In T:
 * P v = scale*(v*power - mean) + (slope*x_hat + rest). */
typedef struct {
    T power, scale, mean, slope, rest;
} FN(projection);

/* From the means of v and of x_hat*v. */
OC_INLINE FN(projection) FN(projected)(double s, double power, double mean, double slope) {
    const T high = (T)mean;
    const T scale = (T)(s / power), rest = (T)(-s * (mean - (double)high));
    return (FN(projection)){(T)power, scale, high * (T)power, (T)(-s * slope), rest};
}

OC_INLINE T FN(project)(FN(projection) p, T v, T x_hat) {
    return p.scale * (v * p.power - p.mean) + (p.slope * x_hat + p.rest);
}

/* The two means, from the sums of v and of v*(x - mean). */
typedef struct {
    double mean, slope;
} FN(means);

OC_INLINE FN(means) FN(means_of)(const oc_rows *p, double rest, double s, double sum, double product) {
    const double n = (double)p->columns;
    return (FN(means)){p->centred ? sum / n : 0, (product - rest * sum) * s / n};
}

/* ------------------------------------------------------------------------------------------------ results of a row
 * The body for every column i puts its result into out[l]. The first line starts at column 0, the next ones on cache
 * lines of y, the last one ends with the last column; the first `skip` columns of a line were done before. Past the
 * caches the next rows are asked for meanwhile; in cache that would cost more than it saves. */
#define OC_OVER_LINES(y, prefetch, ...)                                                                               \
    do {                                                                                                              \
        const ptrdiff_t last = columns - FN(line), head = columns < OC_SHORT ? 0 : FN(head)(0, y);                    \
        ptrdiff_t at = head ? head : FN(line);                                                                        \
        if (last < 0) {                                                                                               \
            OC_LINE_OF(columns, 0, 0, 0, y, prefetch, __VA_ARGS__);                                                   \
            break;                                                                                                    \
        }                                                                                                             \
        OC_LINE_OF(FN(line), 0, 0, past_caches, y, prefetch, __VA_ARGS__);                                            \
        for (; at <= last; at += FN(line))                                                                            \
            OC_LINE_OF(FN(line), at, at < FN(line) ? FN(line) - at : 0, past_caches, y, prefetch, __VA_ARGS__);       \
        at = at < FN(line) ? FN(line) : at;                                                                           \
        if (at < columns)                                                                                             \
            OC_LINE_OF(FN(line), last, at - last, past_caches, y, prefetch, __VA_ARGS__);                             \
    } while (0)
#define OC_LINE_OF(width, start, done, past, y, prefetch, ...)                                                        \
    do {                                                                                                              \
        const ptrdiff_t first = start, skip = done;                                                                   \
        X_T line[FN(line)] OC_ON_LINE;                                                                                \
        X_T *const out = (past) ? line : (y) + first;                                                                 \
        (void)skip;                                                                                                   \
        if (past) {                                                                                                   \
            prefetch;                                                                                                 \
        }                                                                                                             \
        OC_IN_PLACE OC_ROLLED                                                                                         \
        for (int l = 0; l < (width); l++) {                                                                           \
            const ptrdiff_t i = first + l;                                                                            \
            __VA_ARGS__;                                                                                              \
        }                                                                                                             \
        if (past)                                                                                                     \
            FN(stream)((y) + first, line, skip, first || !head ? FN(line) : head);                                    \
    } while (0)

/* The lines of rows, compiled for either way to write; past the caches where there is a line of y between the ends. */
#define OC_PAST_OR_NOT(lines, ...)                                                                                    \
    do {                                                                                                              \
        if (p->past_caches && p->columns >= 3 * FN(line))                                                             \
            lines(__VA_ARGS__, 1);                                                                                    \
        else                                                                                                          \
            lines(__VA_ARGS__, 0);                                                                                    \
    } while (0)

/* A line past the caches. What is no line of y, at the ends of a row, is written as usual, and no element of a line
 * that goes past them: to bring it back costs more than all of the rest. */
OC_INLINE void FN(stream)(X_T *to, const X_T *line, ptrdiff_t begin, ptrdiff_t end) {
    if ((uintptr_t)to % OC_LINE == 0)
        OC_STREAM_LINE(to, line);
    else
        memcpy(to + begin, line + begin, (size_t)(end - begin) * sizeof(X_T));
}

OC_INLINE void FN(forward_lines)(ptrdiff_t columns, ptrdiff_t ahead, const X_T *restrict x, const T *restrict w,
                                 const T *restrict b, FN(hat) h, X_T *restrict y, const int past_caches) {
    OC_OVER_LINES(y, OC_PREFETCH(x + ahead + first), out[l] = X_PUT(w[i] * FN(x_hat)(h, AT(x)) + b[i]));
}

/* dx = P(w*dy); the sums of dy*x_hat and of dy over the rows are added to dweight and dbias. */
OC_INLINE void FN(backward_lines)(ptrdiff_t columns, ptrdiff_t ahead, const X_T *restrict dy, const X_T *restrict x,
                                  const T *restrict w, FN(hat) h, FN(projection) u, X_T *restrict dx,
                                  double *restrict dweight, double *restrict dbias, const int past_caches) {
    OC_OVER_LINES(dx, OC_PREFETCH_L2(dy + ahead + first); OC_PREFETCH_L2(x + ahead + first),
                  const T x_hat = FN(x_hat)(h, AT(x)); out[l] = X_PUT(FN(project)(u, w[i] * AT(dy), x_hat));
                  dweight[i] = l < skip ? dweight[i] : T_FN(add_product)(AT(dy), x_hat, dweight[i]);
                  dbias[i] += l < skip ? 0 : (double)AT(dy));
}
