/* row_norm.tmpl.h: layer norm and RMS norm, rows of x normalised by their own statistics; moments and sums of one run.
 * Parameters: those of norm.tmpl.h, which it follows and whose FN(line), FN(head) and FN(two_pass) it uses.
 *
 * A row is read from memory once: its statistics, then its results while it is in cache.
 *
 * The bodies take every pointer as a `restrict` parameter, as in norm.tmpl.h. */

#define AT(a) X_GET(a[i])

/* Rows of fewer columns than OC_LONG_ROW are taken in bands of up to OC_BAND rows, as far as these have OC_BAND_VALUES values
 * together, which stay in the first-level cache: what one row has to wait for, sums of lanes, quotients and roots, is hidden
 * behind the others, and one vector holds a number of each. A longer row is taken alone: it hides
 * them itself, and a band of such leaves the cache. Either way each row goes through the same operations. */
#define OC_LONG_ROW 512
#define OC_BAND 16
#define OC_BAND_VALUES 2048

/* So many long rows ahead of the one that is written, past the caches, memory is asked for what is read next; else a band. */
#define OC_AHEAD 2

/* ------------------------------------------------------------------------------------------------- sums over a run
 * total[0] to total[count - 1], in double: blocks of OC_BLOCK, the terms of each in lanes (OC_RUN_LANES). */
#define OC_RUN_SUMS(count, n, total, ...)                                                                             \
    do {                                                                                                              \
        for (int c = 0; c < (count); c++)                                                                             \
            (total)[c] = 0;                                                                                           \
        for (ptrdiff_t from = 0; from < (n); from += OC_BLOCK) {                                                      \
            const ptrdiff_t m = (n) - from < OC_BLOCK ? (n) - from : OC_BLOCK;                                        \
            double lane[count][OC_LANES] OC_ON_LINE = {{0}};                                                          \
            if (m < OC_LANES)                                                                                         \
                OC_RUN_VECTOR(count, m, from, __VA_ARGS__);                                                           \
            else                                                                                                      \
                OC_RUN_LANES(count, m, from, __VA_ARGS__);                                                            \
            for (int c = 0; c < (count); c++)                                                                         \
                (total)[c] += oc_fold_lanes(lane[c]);                                                                 \
        }                                                                                                             \
    } while (0)

OC_INLINE void FN(deviations)(ptrdiff_t n, const X_T *restrict x, double shift, double *total) {
    OC_RUN_SUMS(2, n, total, const double d = (double)AT(x) - shift; add[0] = d; add[1] = d * d);
}

/* One number of each row of a band. */
typedef double FN(band)[OC_BAND];

/* mean, rest, m2 of `rows` runs, as FN(moments_rows) has them of columns, in places 0 to OC_BAND - 1. float32 is summed as it is
 * where the square of the mean is at most 64 times the variance: so much is subtracted from m2 at most. Elsewhere, and in
 * double, the run, which is in cache by then, is summed again, shifted by its mean; a constant run has its value for a mean. */
OC_INLINE void FN(band_moments)(ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const X_T *x, double *shift,
                           double *rest, double *m2) {
    double total[2];
    FN(band) sum = {0}, square = {0}, mean;
    int again[OC_BAND];
    for (ptrdiff_t r = 0; r < OC_BAND; r++)
        shift[r] = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        shift[r] = FN(two_pass) && n ? (double)X_GET(x[r * stride]) : 0;
        FN(deviations)(n, x + r * stride, shift[r], total);
        sum[r] = total[0];
        square[r] = total[1];
    }
    for (ptrdiff_t r = 0; r < OC_BAND; r++) {
        mean[r] = shift[r] + sum[r] / (double)n;
        const double subtracted = (double)n * (mean[r] * mean[r]);
        again[r] = FN(two_pass) || !(subtracted <= 64 * (square[r] - subtracted));
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        if (!again[r])
            continue;
        shift[r] = mean[r];
        FN(deviations)(n, x + r * stride, shift[r], total);
        sum[r] = total[0];
        square[r] = total[1];
    }
    for (ptrdiff_t r = 0; r < OC_BAND; r++) {
        rest[r] = sum[r] / (double)n;
        m2[r] = square[r] - (double)n * (rest[r] * rest[r]);
    }
}

static void FN(run_moments)(ptrdiff_t n, const void *x, double *moments) {
    double total[2], shift = FN(two_pass) && n ? (double)X_GET(*(const X_T *)x) : 0;
    FN(deviations)(n, x, shift, total);
    const double mean = shift + total[0] / (double)n, subtracted = (double)n * (mean * mean);
    if (FN(two_pass) || !(subtracted <= 64 * (total[1] - subtracted))) {
        shift = mean;
        FN(deviations)(n, x, shift, total);
    }
    const double rest = total[0] / (double)n;
    moments[0] = shift;
    moments[1] = rest;
    moments[2] = total[1] - (double)n * (rest * rest);
}

OC_INLINE void FN(run_sums_body)(ptrdiff_t n, const X_T *restrict u, const X_T *restrict v, double mean, double *total) {
    OC_RUN_SUMS(2, n, total, add[0] = (double)AT(u); add[1] = (double)AT(u) * ((double)AT(v) - mean));
}

static void FN(run_sums)(ptrdiff_t n, const void *u, const void *v, double mean, double *sums) {
    double total[2];
    FN(run_sums_body)(n, u, v, mean, total);
    sums[0] = total[0];
    sums[1] = total[1];
}

/* The sums of u = w*dy and of u*(x - mean). */
OC_INLINE void FN(adjoint_sums)(ptrdiff_t n, const X_T *restrict dy, const T *restrict w, const X_T *restrict x,
                                double mean, double *total) {
    OC_RUN_SUMS(2, n, total, const double u = (double)w[i] * (double)AT(dy); add[0] = u;
                add[1] = u * ((double)AT(x) - mean));
}

/* The same, then the sums of ru = rw*dy + w*rdy, and u*(rx - rmean). */
OC_INLINE void FN(adjoint_sums_r)(ptrdiff_t n, const X_T *restrict dy, const T *restrict w, const X_T *restrict x,
                                  double mean, const X_T *restrict rdy, const T *restrict rw, const X_T *restrict rx,
                                  double rmean, double *total) {
    OC_RUN_SUMS(5, n, total, const double d = (double)AT(x) - mean; const double u = (double)w[i] * (double)AT(dy);
                const double ru = (double)rw[i] * (double)AT(dy) + (double)w[i] * (double)AT(rdy); add[0] = u;
                add[1] = u * d; add[2] = ru; add[3] = ru * d; add[4] = u * ((double)AT(rx) - rmean));
}

/* ------------------------------------------------------------------------------------------------ what a row holds
 * x_hat = (x*power - high)*scale + shift, where high is the mean as T holds it: see norm.tmpl.h. The power is 1, but for the
 * extremes of float32. */
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
    return (FN(projection)){(T)power, (T)(s / power), high * (T)power, (T)(-s * slope), (T)(-s * (mean - (double)high))};
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
 * The body for every column i puts its result into out[l]. The first line starts at column 0, the next ones on cache lines
 * of y, the last one ends with the last column; the first `skip` columns of a line were done before. Past the caches the next
 * rows are asked for meanwhile; in cache that would cost more than it saves. */
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

/* A line past the caches. What is no line of y, at the ends of a row, is written as usual, and no element of a line that
 * goes past them: to bring it back costs more than all of the rest. */
OC_INLINE void FN(stream)(X_T *to, const X_T *line, ptrdiff_t begin, ptrdiff_t end) {
    if ((uintptr_t)to % OC_LINE == 0)
        OC_STREAM_LINE(to, line);
    else
        memcpy(to + begin, line + begin, (size_t)(end - begin) * sizeof(X_T));
}

/* ------------------------------------------------------------------------------------------------------ the kernels */
/* The statistics of a band's rows, and the powers of 2 that go with them. */
typedef struct {
    FN(band) mean, rest, s, power;
} FN(statistics);

OC_INLINE void FN(take_powers)(FN(statistics) *of) {
    const int safe = sizeof(T) == sizeof(double) || oc_all_safe(OC_BAND, of->s);
    for (ptrdiff_t r = 0; r < OC_BAND; r++)
        of->power[r] = safe ? 1 : FN(power_of)(of->s[r]);
}

/* Zeros stand for the rows that a band lacks: their power is 1. */
OC_INLINE void FN(read_statistics)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows,
                                   FN(statistics) *of) {
    for (ptrdiff_t r = 0; r < OC_BAND; r++)
        of->mean[r] = of->rest[r] = of->s[r] = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        const ptrdiff_t at = (first + r) * p->every;
        of->mean[r] = p->mean[at];
        of->rest[r] = p->rest[at];
        of->s[r] = p->inv_std[at];
    }
    FN(take_powers)(of);
}

/* Measures rows. */
OC_INLINE void FN(measure)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, FN(statistics) *of) {
    const X_T *x = (const X_T *)p->x + first * p->stride;
    const double n = (double)p->columns;
    FN(band) mean = {0}, rest = {0}, m2 = {0};
    if (p->centred) {
        FN(band_moments)(rows, p->columns, p->stride, x, mean, rest, m2);
    } else {
        for (ptrdiff_t r = 0; r < rows; r++) {
            double total[2];
            FN(deviations)(p->columns, x + r * p->stride, 0, total);
            m2[r] = total[1];
        }
    }
    for (ptrdiff_t r = 0; r < OC_BAND; r++) {
        of->mean[r] = mean[r] + rest[r];
        of->rest[r] = rest[r] - (of->mean[r] - mean[r]);
        of->s[r] = 1 / sqrt(m2[r] / n + p->eps);
    }
    FN(take_powers)(of);
}

OC_INLINE void FN(forward_lines)(ptrdiff_t columns, ptrdiff_t ahead, const X_T *restrict x, const T *restrict w,
                                 const T *restrict b, FN(hat) h, X_T *restrict y, const int past_caches) {
    OC_OVER_LINES(y, OC_PREFETCH(x + ahead + first), out[l] = X_PUT(w[i] * FN(x_hat)(h, AT(x)) + b[i]));
}

/* The constants of x_hat of a band's rows. */
typedef struct {
    T power[OC_BAND], high[OC_BAND], scale[OC_BAND], shift[OC_BAND];
} FN(hats);

OC_INLINE void FN(hats_of)(const FN(statistics) *of, FN(hats) *h) {
    for (ptrdiff_t r = 0; r < OC_BAND; r++) {
        const FN(hat) one = FN(hat_with)(of->mean[r], of->rest[r], of->s[r], of->power[r]);
        h->power[r] = one.power;
        h->high[r] = one.high;
        h->scale[r] = one.scale;
        h->shift[r] = one.shift;
    }
}

OC_INLINE FN(hat) FN(hat_at)(const FN(hats) *h, ptrdiff_t r) {
    return (FN(hat)){h->power[r], h->high[r], h->scale[r], h->shift[r]};
}

/* Puts down a row's statistics. */
OC_INLINE void FN(put_statistics)(const oc_rows *p, ptrdiff_t r) {
    const X_T *x = (const X_T *)p->x + r * p->stride;
    double moments[3] = {0}, total[2];
    if (p->centred)
        FN(run_moments)(p->columns, x, moments);
    else
        FN(deviations)(p->columns, x, 0, total);
    const double mean = moments[0] + moments[1];
    const double m2 = p->centred ? moments[2] : total[1];
    p->mean[r * p->every] = mean;
    p->rest[r * p->every] = moments[1] - (mean - moments[0]);
    p->inv_std[r * p->every] = 1 / sqrt(m2 / (double)p->columns + p->eps);
}

OC_INLINE void FN(forward_row)(const oc_rows *p, ptrdiff_t r) {
    FN(put_statistics)(p, r);
    OC_PAST_OR_NOT(FN(forward_lines), p->columns, OC_AHEAD * p->stride, (const X_T *)p->x + r * p->stride, p->weight,
                   p->bias, FN(hat_of)(p, r), (X_T *)p->out + r * p->stride);
}

OC_INLINE void FN(forward_band)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows) {
    const ptrdiff_t every = p->every, ahead = rows * p->stride;
    FN(statistics) of;
    FN(hats) h;
    FN(measure)(p, first, rows, &of);
    FN(hats_of)(&of, &h);
    for (ptrdiff_t r = 0; r < rows; r++) {
        const ptrdiff_t row = first + r, e = row * p->stride;
        p->mean[row * every] = of.mean[r];
        p->rest[row * every] = of.rest[r];
        p->inv_std[row * every] = of.s[r];
        OC_PAST_OR_NOT(FN(forward_lines), p->columns, ahead, (const X_T *)p->x + e, p->weight, p->bias, FN(hat_at)(&h, r),
                       (X_T *)p->out + e);
    }
}

/* All rows: in bands, or one at a time. */
#define OC_OVER_BANDS(of_band, of_row)                                                                                \
    do {                                                                                                              \
        const ptrdiff_t whole = p->columns * OC_BAND > OC_BAND_VALUES ? OC_BAND_VALUES / p->columns : OC_BAND;        \
        if (p->columns < OC_LONG_ROW)                                                                                 \
            for (ptrdiff_t r = 0; r < p->rows; r += whole)                                                            \
                of_band(p, r, p->rows - r < whole ? p->rows - r : whole);                                    \
        else                                                                                                          \
            for (ptrdiff_t r = 0; r < p->rows; r++)                                                                   \
                of_row(p, r);                                                                                  \
    } while (0)

static void FN(rows_forward)(const oc_rows *p) {
    OC_OVER_BANDS(FN(forward_band), FN(forward_row));
    OC_STREAM_END();
}

/* dx = P(w*dy); the sums of dy*x_hat and of dy over the rows are added to dweight and dbias. */
OC_INLINE void FN(backward_lines)(ptrdiff_t columns, ptrdiff_t ahead, const X_T *restrict dy, const X_T *restrict x,
                                  const T *restrict w, FN(hat) h, FN(projection) u, X_T *restrict dx,
                                  double *restrict dweight, double *restrict dbias, const int past_caches) {
    OC_OVER_LINES(dx, OC_PREFETCH(dy + ahead + first); OC_PREFETCH(x + ahead + first),
                  const T x_hat = FN(x_hat)(h, AT(x)); out[l] = X_PUT(FN(project)(u, w[i] * AT(dy), x_hat));
                  dweight[i] += l < skip ? 0 : (double)AT(dy) * (double)x_hat; dbias[i] += l < skip ? 0 : (double)AT(dy));
}

OC_INLINE void FN(backward_row)(const oc_rows *p, ptrdiff_t r) {
    const X_T *dy = (const X_T *)p->dy + r * p->stride, *x = (const X_T *)p->x + r * p->stride;
    const double s = p->inv_std[r * p->every];
    double total[2];
    FN(adjoint_sums)(p->columns, dy, p->weight, x, p->mean[r * p->every], total);
    const FN(means) m = FN(means_of)(p, p->rest[r * p->every], s, total[0], total[1]);
    OC_PAST_OR_NOT(FN(backward_lines), p->columns, OC_AHEAD * p->stride, dy, x, p->weight, FN(hat_of)(p, r),
                   FN(projected)(s, FN(power_of)(s), m.mean, m.slope), (X_T *)p->out + r * p->stride, p->dweight,
                   p->dbias);
}

/* The constants of the projection of a band's rows. */
typedef struct {
    T power[OC_BAND], scale[OC_BAND], mean[OC_BAND], slope[OC_BAND], rest[OC_BAND];
} FN(projections);

OC_INLINE void FN(projections_of)(const oc_rows *p, const FN(statistics) *of, const double *sum,
                                  const double *product, FN(projections) *u) {
    for (ptrdiff_t r = 0; r < OC_BAND; r++) {
        const FN(means) m = FN(means_of)(p, of->rest[r], of->s[r], sum[r], product[r]);
        const FN(projection) one = FN(projected)(of->s[r], of->power[r], m.mean, m.slope);
        u->power[r] = one.power;
        u->scale[r] = one.scale;
        u->mean[r] = one.mean;
        u->slope[r] = one.slope;
        u->rest[r] = one.rest;
    }
}

OC_INLINE void FN(backward_band)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows) {
    const ptrdiff_t stride = p->stride, at = first * stride, ahead = rows * stride;
    const X_T *dy = (const X_T *)p->dy + at, *x = (const X_T *)p->x + at;
    X_T *dx = (X_T *)p->out + at;
    FN(band) sum = {0}, product = {0};
    FN(statistics) of;
    FN(hats) h;
    FN(projections) u;
    FN(read_statistics)(p, first, rows, &of);
    for (ptrdiff_t r = 0; r < rows; r++) {
        double total[2];
        FN(adjoint_sums)(p->columns, dy + r * stride, p->weight, x + r * stride, of.mean[r], total);
        sum[r] = total[0];
        product[r] = total[1];
    }
    FN(hats_of)(&of, &h);
    FN(projections_of)(p, &of, sum, product, &u);
    for (ptrdiff_t r = 0; r < rows; r++) {
        const FN(projection) of_u = {u.power[r], u.scale[r], u.mean[r], u.slope[r], u.rest[r]};
        OC_PAST_OR_NOT(FN(backward_lines), p->columns, ahead, dy + r * stride, x + r * stride, p->weight,
                       FN(hat_at)(&h, r), of_u, dx + r * stride, p->dweight, p->dbias);
    }
}

/* ry = w*P(rx) + rw*x_hat + rb. */
OC_INLINE void FN(jvp_row)(ptrdiff_t columns, ptrdiff_t stride, const X_T *restrict x, const X_T *restrict rx,
                           const T *restrict w, const T *restrict rw, const T *restrict rb, FN(hat) h,
                           FN(projection) v, X_T *restrict ry, int past_caches) {
    OC_OVER_LINES(ry, OC_PREFETCH(x + OC_AHEAD * stride + first); OC_PREFETCH(rx + OC_AHEAD * stride + first),
                  const T x_hat = FN(x_hat)(h, AT(x));
                  out[l] = X_PUT(w[i] * FN(project)(v, AT(rx), x_hat) + (rw[i] * x_hat + rb[i])));
}

/* R{s} = -s^2*mean(x_hat*rx). */
static void FN(rows_jvp)(const oc_rows *p) {
    for (ptrdiff_t r = 0; r < p->rows; r++) {
        const X_T *x = (const X_T *)p->x + r * p->stride, *rx = (const X_T *)p->rx + r * p->stride;
        const double s = p->inv_std[r * p->every];
        double total[2];
        FN(run_sums_body)(p->columns, rx, x, p->mean[r * p->every], total);
        const FN(means) m = FN(means_of)(p, p->rest[r * p->every], s, total[0], total[1]);
        p->rmean[r * p->every] = m.mean;
        p->rinv_std[r * p->every] = -s * s * m.slope;
        OC_PAST_OR_NOT(FN(jvp_row), p->columns, p->stride, x, rx, p->weight, p->rweight, p->rbias, FN(hat_of)(p, r),
                       FN(projected)(s, FN(power_of)(s), m.mean, m.slope), (X_T *)p->out + r * p->stride);
    }
    OC_STREAM_END();
}

/* dx = P u with u = w*dy, differentiated; ru = rw*dy + w*rdy and rx_hat = P rx:
 *     rdx = P ru + (R{s}/s)*P u - s*mean(u*x_hat)*rx_hat - s*mean(u*rx_hat)*x_hat
 * The weights of the last three terms are `by`. dweight and dbias take the sums of rdy*x_hat + dy*rx_hat and of rdy. */
typedef struct {
    FN(hat) hat;
    FN(projection) u, ru, rx;
    T by[3];
} FN(second);

OC_INLINE void FN(backward_jvp_lines)(ptrdiff_t columns, const X_T *restrict dy, const X_T *restrict x,
                                      const X_T *restrict rdy, const X_T *restrict rx, const T *restrict w,
                                      const T *restrict rw, FN(second) c, X_T *restrict rdx, double *restrict dweight,
                                      double *restrict dbias, const int past_caches) {
    OC_OVER_LINES(rdx, (void)0, const T x_hat = FN(x_hat)(c.hat, AT(x));
                  const T rx_hat = FN(project)(c.rx, AT(rx), x_hat);
                  const T du = FN(project)(c.u, w[i] * AT(dy), x_hat);
                  const T rdu = FN(project)(c.ru, rw[i] * AT(dy) + w[i] * AT(rdy), x_hat);
                  out[l] = X_PUT((rdu + c.by[0] * du) + (c.by[1] * rx_hat + c.by[2] * x_hat));
                  dweight[i] += l < skip ? 0 : (double)AT(rdy) * (double)x_hat + (double)AT(dy) * (double)rx_hat;
                  dbias[i] += l < skip ? 0 : (double)AT(rdy));
}

OC_INLINE FN(second) FN(second_of)(const oc_rows *p, ptrdiff_t r, const double *total) {
    const double s = p->inv_std[r * p->every], rs = p->rinv_std[r * p->every], rmean = p->rmean[r * p->every];
    const double slope = -(rs / s) / s; /* the mean of x_hat*rx */
    const double rest = p->rest[r * p->every], power = FN(power_of)(s);
    const FN(means) u = FN(means_of)(p, rest, s, total[0], total[1]);
    const FN(means) ru = FN(means_of)(p, rest, s, total[2], total[3]);
    const double along = s * (total[4] / (double)p->columns - u.slope * slope); /* the mean of u*rx_hat */
    return (FN(second)){FN(hat_of)(p, r), FN(projected)(s, power, u.mean, u.slope),
                        FN(projected)(s, power, ru.mean, ru.slope), FN(projected)(s, power, rmean, slope),
                        {(T)(rs / s), (T)(-s * u.slope), (T)(-s * along)}};
}

OC_INLINE void FN(backward_jvp_row)(const oc_rows *p, ptrdiff_t r) {
    const ptrdiff_t e = r * p->stride, stat = r * p->every;
    const X_T *dy = (const X_T *)p->dy + e, *x = (const X_T *)p->x + e, *rdy = (const X_T *)p->rdy + e;
    const X_T *rx = (const X_T *)p->rx + e;
    double total[5];
    FN(adjoint_sums_r)(p->columns, dy, p->weight, x, p->mean[stat], rdy, p->rweight, rx, p->rmean[stat], total);
    OC_PAST_OR_NOT(FN(backward_jvp_lines), p->columns, dy, x, rdy, rx, p->weight, p->rweight, FN(second_of)(p, r, total),
                   (X_T *)p->out + e, p->dweight, p->dbias);
}

OC_INLINE void FN(no_sums)(const oc_rows *p) {
    memset(p->dweight, 0, (size_t)p->columns * sizeof(double));
    memset(p->dbias, 0, (size_t)p->columns * sizeof(double));
}

static void FN(rows_backward)(const oc_rows *p) {
    FN(no_sums)(p);
    OC_OVER_BANDS(FN(backward_band), FN(backward_row));
    OC_STREAM_END();
}

static void FN(rows_backward_jvp)(const oc_rows *p) {
    FN(no_sums)(p);
    for (ptrdiff_t r = 0; r < p->rows; r++)
        FN(backward_jvp_row)(p, r);
    OC_STREAM_END();
}
#undef OC_OVER_BANDS
#undef OC_OVER_LINES
#undef OC_RUN_SUMS
#undef OC_LINE_OF
#undef OC_PAST_OR_NOT
#undef OC_AHEAD
#undef OC_LONG_ROW
#undef OC_BAND
#undef OC_BAND_VALUES
#undef AT
