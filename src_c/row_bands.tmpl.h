/* row_bands.tmpl.h: layer norm and RMS norm of short rows, in bands.
 * Parameters: those of norm.tmpl.h; row_parts.tmpl.h before.
 *
 * A band has up to OC_BAND rows, as far as these have OC_BAND_VALUES values together, which stay in the first-level
 * cache: what one row has to wait for, sums of lanes, quotients and roots, is hidden behind the others, and one vector
 * holds a number of each of eight. From OC_LONG_ROW columns on that saves less than it costs, in the backward pass and
 * where rows come from memory. Either way each row goes through the same operations. */
#define OC_LONG_ROW 512
#define OC_BAND 16
#define OC_BAND_VALUES 4096

typedef double FN(eight)[8]; /* a number of each of eight rows; those that a band lacks are computed too, from zeros */
#define OC_OVER_EIGHT(...)                                                                                            \
    OC_IN_PLACE OC_ROLLED                                                                                             \
    for (int r = 0; r < 8; r++) {                                                                                     \
        __VA_ARGS__;                                                                                                  \
    }

/* The sums of a row, two terms as far as their last four lanes. */
typedef FN(four) FN(sums)[2];

/* The statistics of eight rows, the constants of their x_hat, and those of the projection. */
typedef struct {
    FN(eight) mean, rest, s;
} FN(statistics);
typedef struct {
    T power[8], high[8], scale[8], shift[8];
} FN(hats);
typedef struct {
    T power[8], scale[8], mean[8], slope[8], rest[8];
} FN(projections);

/* The powers of 2 that go with s: 1 for all, as nearly always, or one for each. */
#define OC_OVER_POWERS(s, ...)                                                                                        \
    do {                                                                                                              \
        if (sizeof(T) == sizeof(double) || oc_all_safe(8, s)) {                                                       \
            const double power = 1;                                                                                   \
            OC_OVER_EIGHT(__VA_ARGS__)                                                                                \
        } else {                                                                                                      \
            OC_OVER_EIGHT(const double power = FN(power_of)((s)[r]); __VA_ARGS__)                                     \
        }                                                                                                             \
    } while (0)

OC_INLINE void FN(hats_of)(const FN(statistics) *of, FN(hats) *h) {
    OC_OVER_POWERS(of->s, const FN(hat) one = FN(hat_with)(of->mean[r], of->rest[r], of->s[r], power);
                   h->power[r] = one.power; h->high[r] = one.high; h->scale[r] = one.scale; h->shift[r] = one.shift);
}

OC_INLINE FN(hat) FN(hat_at)(const FN(hats) *h, ptrdiff_t r) {
    h += r / 8;
    return (FN(hat)){h->power[r % 8], h->high[r % 8], h->scale[r % 8], h->shift[r % 8]};
}

OC_INLINE FN(projection) FN(projection_at)(const FN(projections) *u, ptrdiff_t r) {
    u += r / 8;
    return (FN(projection)){u->power[r % 8], u->scale[r % 8], u->mean[r % 8], u->slope[r % 8], u->rest[r % 8]};
}

OC_INLINE void FN(clear_behind)(ptrdiff_t rows, FN(sums) *sums) {
    if (rows < OC_BAND)
        memset(sums[rows], 0, (size_t)(OC_BAND - rows) * sizeof *sums);
}

/* shift, rest, m2 of up to eight rows, from their sums: of x and x^2 in float32. */
OC_INLINE void FN(moments_of)(const oc_rows *p, ptrdiff_t rows, const X_T *x, const FN(sums) *sums, double *shift,
                              double *rest, double *m2) {
    const double n = (double)p->columns;
    unsigned far = FN(two_pass);
    FN(eight) square;
    OC_OVER_EIGHT(square[r] = oc_fold_four(sums[r][1]); shift[r] = 0; rest[r] = oc_fold_four(sums[r][0]) / n;
                  m2[r] = square[r] - n * (rest[r] * rest[r]));
    if (!p->centred) {
        OC_OVER_EIGHT(rest[r] = 0; m2[r] = square[r]);
        return;
    }
    OC_OVER_EIGHT(far |= FN(is_far)(n, rest[r], square[r])); /* alone: an int among doubles would halve the vectors */
    for (ptrdiff_t r = 0; r < (far ? rows : 0); r++) {
        double moments[3];
        if (!FN(two_pass) && !FN(is_far)(n, rest[r], square[r]))
            continue;
        FN(run_moments)(p->columns, x + r * p->stride, moments);
        shift[r] = moments[0];
        rest[r] = moments[1];
        m2[r] = moments[2];
    }
}

OC_INLINE void FN(put)(ptrdiff_t rows, ptrdiff_t every, const double *restrict from, double *restrict to) {
    if (rows == 8 && every == 1)
        memcpy(to, from, sizeof(FN(eight)));
    else
        for (ptrdiff_t r = 0; r < rows; r++)
            to[r * every] = from[r];
}

/* Puts down the statistics of up to eight rows, and gives their constants. */
static OC_APART void FN(measure)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, const FN(sums) *sums, FN(hats) *h) {
    FN(eight) shift, rest, m2;
    FN(statistics) of;
    FN(moments_of)(p, rows, (const X_T *)p->x + first * p->stride, sums, shift, rest, m2);
    OC_OVER_EIGHT(of.mean[r] = shift[r] + rest[r]; of.rest[r] = rest[r] - (of.mean[r] - shift[r]);
                  of.s[r] = 1 / sqrt(m2[r] / (double)p->columns + p->eps));
    FN(hats_of)(&of, h);
    FN(put)(rows, p->every, of.mean, p->mean + first * p->every);
    FN(put)(rows, p->every, of.rest, p->rest + first * p->every);
    FN(put)(rows, p->every, of.s, p->inv_std + first * p->every);
}

/* In double, FN(run_moments) takes rows that have a mean. */
static OC_APART void FN(sum_rows)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, FN(sums) *sums) {
    const X_T *x = (const X_T *)p->x + first * p->stride;
    rows = FN(two_pass) && p->centred ? 0 : rows;
    FN(clear_behind)(rows, sums);
    for (ptrdiff_t r = 0; r < rows; r++)
        FN(square_fours)(p->columns, x + r * p->stride, sums[r]);
}

OC_INLINE void FN(forward_rows)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, const FN(hats) *h, const int past) {
    const ptrdiff_t columns = p->columns, stride = p->stride, ahead = rows * stride;
    const X_T *x = (const X_T *)p->x + first * stride;
    X_T *y = (X_T *)p->out + first * stride;
    const T *w = p->weight, *b = p->bias;
    for (ptrdiff_t r = 0; r < rows; r++)
        FN(forward_lines)(columns, ahead, x + r * stride, w, b, FN(hat_at)(h, r), y + r * stride, past);
}

OC_INLINE void FN(forward_band)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows) {
    FN(sums) sums[OC_BAND] OC_ON_LINE;
    FN(hats) h[OC_BAND / 8];
    FN(sum_rows)(p, first, rows, sums);
    for (ptrdiff_t r = 0; r < rows; r += 8)
        FN(measure)(p, first + r, rows - r < 8 ? rows - r : 8, sums + r, h + r / 8);
    OC_PAST_OR_NOT(FN(forward_rows), p, first, rows, h);
}

/* Takes the statistics of up to eight rows, and gives the constants of their backward pass. */
OC_INLINE void FN(take_statistics)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, FN(statistics) *of) {
    OC_OVER_EIGHT(of->mean[r] = of->rest[r] = of->s[r] = 0);
    for (ptrdiff_t r = 0; r < rows; r++) {
        const ptrdiff_t at = (first + r) * p->every;
        of->mean[r] = p->mean[at];
        of->rest[r] = p->rest[at];
        of->s[r] = p->inv_std[at];
    }
}

static OC_APART void FN(project_rows)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, const FN(sums) *sums,
                                      FN(hats) *h, FN(projections) *u) {
    FN(statistics) of;
    FN(take_statistics)(p, first, rows, &of);
    FN(hats_of)(&of, h);
    OC_OVER_POWERS(of.s, const FN(means) m = FN(means_of)(p, of.rest[r], of.s[r], oc_fold_four(sums[r][0]),
                                                          oc_fold_four(sums[r][1]));
                   const FN(projection) one = FN(projected)(of.s[r], power, m.mean, m.slope); u->power[r] = one.power;
                   u->scale[r] = one.scale; u->mean[r] = one.mean; u->slope[r] = one.slope; u->rest[r] = one.rest);
}

static OC_APART void FN(sum_adjoints)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, FN(sums) *sums) {
    const X_T *dy = (const X_T *)p->dy + first * p->stride, *x = (const X_T *)p->x + first * p->stride;
    FN(clear_behind)(rows, sums);
    for (ptrdiff_t r = 0; r < rows; r++)
        FN(adjoint_fours)(p->columns, dy + r * p->stride, p->weight, x + r * p->stride, p->mean[(first + r) * p->every],
                          sums[r]);
}

OC_INLINE void FN(backward_rows)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows, const FN(hats) *h,
                                 const FN(projections) *u, const int past) {
    const ptrdiff_t columns = p->columns, stride = p->stride, ahead = rows * stride;
    const X_T *dy = (const X_T *)p->dy + first * stride, *x = (const X_T *)p->x + first * stride;
    X_T *dx = (X_T *)p->out + first * stride;
    const T *w = p->weight;
    double *dweight = p->dweight, *dbias = p->dbias;
    for (ptrdiff_t r = 0; r < rows; r++)
        FN(backward_lines)(columns, ahead, dy + r * stride, x + r * stride, w, FN(hat_at)(h, r),
                           FN(projection_at)(u, r), dx + r * stride, dweight, dbias, past);
}

OC_INLINE void FN(backward_band)(const oc_rows *p, ptrdiff_t first, ptrdiff_t rows) {
    FN(sums) sums[OC_BAND] OC_ON_LINE;
    FN(hats) h[OC_BAND / 8];
    FN(projections) u[OC_BAND / 8];
    FN(sum_adjoints)(p, first, rows, sums);
    for (ptrdiff_t r = 0; r < rows; r += 8)
        FN(project_rows)(p, first + r, rows - r < 8 ? rows - r : 8, sums + r, h + r / 8, u + r / 8);
    OC_PAST_OR_NOT(FN(backward_rows), p, first, rows, h, u);
}

#define OC_BANDS(pass)                                                                                                \
    static void FN(pass##_bands)(const oc_rows *p) {                                                                  \
        const ptrdiff_t whole = p->columns * OC_BAND > OC_BAND_VALUES ? OC_BAND_VALUES / p->columns : OC_BAND;        \
        for (ptrdiff_t r = 0; r < p->rows; r += whole)                                                                \
            FN(pass##_band)(p, r, p->rows - r < whole ? p->rows - r : whole);                                         \
    }
OC_BANDS(forward)
OC_BANDS(backward)
#undef OC_BANDS
#undef OC_OVER_POWERS
#undef OC_OVER_EIGHT
#undef OC_BAND
