/* reduce.tmpl.h: partial reductions of one block, and projections of it on rows.
 * Parameters: T the element type, FN(name) the symbol of a kernel for this T and level. */

static double FN(sum_squares)(ptrdiff_t n, const void *vx, double scale) {
    const T *x = vx;
    double lane[OC_LANES] = {0};
    OC_OVER_LANES(n, const double s = scale * (double)x[i]; lane[l] += s * s);
    return oc_fold_lanes(lane);
}

static double FN(dot)(ptrdiff_t n, const void *vx, const void *vy) {
    const T *x = vx, *y = vy;
    double lane[OC_LANES] = {0};
    OC_OVER_LANES(n, lane[l] += (double)x[i] * (double)y[i]);
    return oc_fold_lanes(lane);
}

/* Rows are read ROWS at a time: memory delivers them side by side twice as fast as one after the other. */
#define ROWS 4
static void FN(dots)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const void *vx, const void *vy, ptrdiff_t step,
                     double *result) {
    const T *x = vx, *y = vy;
    for (; m >= ROWS; m -= ROWS, x += ROWS * stride, result += ROWS * step) {
        double lane[ROWS][OC_LANES] = {{0}};
        OC_OVER_LANES(n, const double b = (double)y[i];
                      for (int r = 0; r < ROWS; r++) lane[r][l] += (double)x[r * stride + i] * b);
        for (int r = 0; r < ROWS; r++)
            result[r * step] = oc_fold_lanes(lane[r]);
    }
    for (; m > 0; m--, x += stride, result += step)
        *result = FN(dot)(n, x, y);
}

static void FN(subtract)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const double *factor, const void *vx, void *vy) {
    const T *x = vx;
    T *y = vy;
    for (; m >= ROWS; m -= ROWS, x += ROWS * stride, factor += ROWS) {
        const T a = (T)factor[0], b = (T)factor[1], c = (T)factor[2], d = (T)factor[3];
        OC_IN_PLACE
        for (ptrdiff_t i = 0; i < n; i++)
            y[i] = y[i] - a * x[i] - b * x[stride + i] - c * x[2 * stride + i] - d * x[3 * stride + i];
    }
    for (; m > 0; m--, x += stride, factor++) {
        const T a = (T)factor[0];
        OC_IN_PLACE
        for (ptrdiff_t i = 0; i < n; i++)
            y[i] -= a * x[i];
    }
}
#undef ROWS

/* Eight rows, which a level with 32 registers of 8 doubles has room for, asked for a kilobyte or two ahead: the processor's
 * own prefetching begins anew with each row of a block. */
#define ROWS 8
#define AHEAD 256
static void FN(sweep)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const void *vx, const double *of_y, void *vy,
                      const double *of_z, void *vz, ptrdiff_t step, double *result) {
    const T *x = vx;
    T *y = vy, *z = vz;
    for (; m >= ROWS; m -= ROWS, x += ROWS * stride, of_y += ROWS, of_z += ROWS, result += ROWS * step) {
        T a[ROWS], b[ROWS];
        for (int r = 0; r < ROWS; r++)
            a[r] = (T)of_y[r], b[r] = (T)of_z[r];
        double lane[ROWS][OC_LANES] = {{0}};
        for (ptrdiff_t at = 0; at < n; at += OC_LANES) {
            for (int r = 0; r < ROWS; r++)
                OC_PREFETCH(x + r * stride + at + AHEAD);
            const T *const from = x + at;
            T *const to_y = y + at, *const to_z = z + at;
            const ptrdiff_t width = n - at < OC_LANES ? n - at : OC_LANES;
            OC_OVER_LANES(width, T p = to_y[i]; T q = to_z[i];
                          for (int r = 0; r < ROWS; r++) p -= a[r] * from[r * stride + i], q -= b[r] * from[r * stride + i];
                          to_y[i] = p; to_z[i] = q;
                          for (int r = 0; r < ROWS; r++) lane[r][l] += (double)from[r * stride + i] * (double)q);
        }
        for (int r = 0; r < ROWS; r++)
            result[r * step] = oc_fold_lanes(lane[r]);
    }
    for (; m > 0; m--, x += stride, of_y++, of_z++, result += step) {
        FN(subtract)(n, 1, stride, of_y, x, y);
        FN(subtract)(n, 1, stride, of_z, x, z);
        *result = FN(dot)(n, x, z);
    }
}
#undef ROWS
#undef AHEAD

/* The maximum passes NaN over; lanes of their own keep the last one. */
static double FN(abs_max)(ptrdiff_t n, const void *vx) {
    const T *x = vx;
    T lane[OC_LANES] = {0}, nan[OC_LANES] = {0};
    OC_OVER_LANES(n, const T a = x[i] < 0 ? -x[i] : x[i]; lane[l] = a > lane[l] ? a : lane[l];
                  nan[l] = x[i] == x[i] ? nan[l] : x[i]);
    double largest = 0;
    for (int l = 0; l < OC_LANES; l++) {
        if (nan[l] != nan[l])
            return (double)nan[l];
        largest = lane[l] > largest ? (double)lane[l] : largest;
    }
    return largest;
}

static double FN(penalty)(ptrdiff_t n, double l1, double l2, const void *vw, void *vg) {
    const T *w = vw, size = (T)l1, square = (T)l2;
    T *g = vg;
    double sizes[OC_LANES] = {0}, squares[OC_LANES] = {0};
    OC_OVER_LANES(n, const double x = (double)w[i]; sizes[l] += fabs(x); squares[l] += x * x);
    const ptrdiff_t slopes = g ? n : 0;
    OC_IN_PLACE
    for (ptrdiff_t i = 0; i < slopes; i++)
        g[i] += (w[i] > 0 ? size : w[i] < 0 ? -size : 0) + square * w[i];
    return l1 * oc_fold_lanes(sizes) + l2 / 2 * oc_fold_lanes(squares);
}

static ptrdiff_t FN(count_nonfinite)(ptrdiff_t n, const void *vx) {
    const T *x = vx;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        count += !(x[i] - x[i] == 0);
    return count;
}
