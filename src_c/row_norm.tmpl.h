/* row_norm.tmpl.h: layer norm and RMS norm, rows of x normalised by their own statistics; moments and sums of one run.
 * Parameters: those of norm.tmpl.h; row_parts.tmpl.h and row_bands.tmpl.h before.
 *
 * A row is read from memory once: its statistics, then its results while it is in cache. */

/* So many long rows ahead of the one that is written, past the caches, memory is asked for what is read next; of two
 * arrays into the second-level cache, as the first has no room for so many rows of both. */
#define OC_AHEAD 2

/* Puts down a row's statistics. */
OC_INLINE void FN(put_statistics)(const oc_rows *p, ptrdiff_t r) {
    const X_T *x = (const X_T *)p->x + r * p->stride;
    double moments[3] = {0}, total[2];
    if (p->centred)
        FN(run_moments)(p->columns, x, moments);
    else
        FN(squares)(p->columns, x, total);
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

/* ry = w*P(rx) + rw*x_hat + rb. */
OC_INLINE void FN(jvp_row)(ptrdiff_t columns, ptrdiff_t stride, const X_T *restrict x, const X_T *restrict rx,
                           const T *restrict w, const T *restrict rw, const T *restrict rb, FN(hat) h,
                           FN(projection) v, X_T *restrict ry, int past_caches) {
    OC_OVER_LINES(ry, OC_PREFETCH_L2(x + OC_AHEAD * stride + first); OC_PREFETCH_L2(rx + OC_AHEAD * stride + first),
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
    OC_PAST_OR_NOT(FN(backward_jvp_lines), p->columns, dy, x, rdy, rx, p->weight, p->rweight,
                   FN(second_of)(p, r, total), (X_T *)p->out + e, p->dweight, p->dbias);
}

OC_INLINE void FN(no_sums)(const oc_rows *p) {
    memset(p->dweight, 0, (size_t)p->columns * sizeof(double));
    memset(p->dbias, 0, (size_t)p->columns * sizeof(double));
}

/* All rows, in bands where that pays. */
static void FN(rows_forward)(const oc_rows *p) {
    if (p->columns < (p->past_caches ? OC_LONG_ROW : OC_BAND_VALUES / 2))
        FN(forward_bands)(p);
    else
        for (ptrdiff_t r = 0; r < p->rows; r++)
            FN(forward_row)(p, r);
    OC_STREAM_END();
}

static void FN(rows_backward)(const oc_rows *p) {
    FN(no_sums)(p);
    if (p->columns < OC_LONG_ROW)
        FN(backward_bands)(p);
    else
        for (ptrdiff_t r = 0; r < p->rows; r++)
            FN(backward_row)(p, r);
    OC_STREAM_END();
}

static void FN(rows_backward_jvp)(const oc_rows *p) {
    FN(no_sums)(p);
    for (ptrdiff_t r = 0; r < p->rows; r++)
        FN(backward_jvp_row)(p, r);
    OC_STREAM_END();
}
#undef OC_OVER_LINES
#undef OC_RUN_SUMS
#undef OC_LINE_OF
#undef OC_PRODUCT
#undef OC_PAST_OR_NOT
#undef OC_AHEAD
#undef OC_LONG_ROW
#undef OC_BAND_VALUES
#undef AT
