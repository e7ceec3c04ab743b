/* reduce.tmpl.h: partial reductions of one block, and projections of it on rows.
 * Parameters: T the element type, FN(name) the symbol of a kernel for this T and level. */

/* sum + a*b, whose product is exact in double where T is float. */
OC_INLINE double FN(add_product)(T a, T b, double sum) {
    return sizeof(T) == sizeof(double) ? sum + (double)a * (double)b : OC_EXACT_FMA((double)a, (double)b, sum);
}

/* Only squares of doubles can be out of range: those of floats are scaled as a sum, which has the same bits. */
static double FN(sum_squares)(ptrdiff_t n, const void *vx, double scale) {
    enum { DOUBLES = sizeof(T) == sizeof(double), VECTORS = OC_LANES / OC_W };
    const T *x = vx, each = DOUBLES ? (T)scale : 1;
    const ptrdiff_t whole = n / OC_LANES * OC_LANES;
    oc_wide sum[VECTORS];
    for (int v = 0; v < VECTORS; v++)
        sum[v] = (oc_wide){0};
    for (ptrdiff_t i = 0; i < whole; i += OC_LANES) {
        OC_ALL_AT_ONCE
        for (int v = 0; v < VECTORS; v++) {
            const oc_wide w = OC_OF(wide, each *, x + i + v * OC_W);
            sum[v] = DOUBLES ? sum[v] + w * w : OC_FMA(wide, w, w, sum[v]);
        }
    }
    double lane[OC_LANES] OC_ON_LINE;
    memcpy(lane, sum, sizeof lane);
    for (ptrdiff_t l = 0; l < n - whole; l++) {
        const T s = each * x[whole + l];
        lane[l] = FN(add_product)(s, s, lane[l]);
    }
    return DOUBLES ? oc_fold_lanes(lane) : scale * (scale * oc_fold_lanes(lane));
}

static double FN(dot)(ptrdiff_t n, const void *vx, const void *vy) {
    const T *x = vx, *y = vy;
    double lane[OC_LANES] = {0};
    OC_OVER_LANES(n, lane[l] = FN(add_product)(x[i], y[i], lane[l]));
    return oc_fold_lanes(lane);
}

/* Rows are read ROWS at a time: memory delivers them side by side twice as fast as one after the other. */
#define ROWS 4
static void FN(dots)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const void *vx, const void *vy, ptrdiff_t step,
                     double *result) {
    const T *x = vx, *y = vy;
    for (; m >= ROWS; m -= ROWS, x += ROWS * stride, result += ROWS * step) {
        double lane[ROWS][OC_LANES] = {{0}};
        OC_OVER_LANES(n, const T b = y[i];
                      for (int r = 0; r < ROWS; r++) lane[r][l] = FN(add_product)(x[r * stride + i], b, lane[r][l]));
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

/* `rows` of them, at most ROWS. Each is read once, into x, and its sums are of T: four rows with two vectors leave no
 * registers for twice as many. A sum is off by less than T's rounding unit times the sizes of both vectors, and what is
 * measured counts from that unit's root on.
 * The rows are asked for two kilobytes or four ahead, as the processor's own prefetching begins anew with each row of a
 * block, and into the second-level cache, as the first has no room for that beside the vectors. */
#define ROWS 4
#define AHEAD 512
OC_INLINE void FN(sweep_rows)(int rows, int fresh, ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const T *row,
                              const double *factor, T *y, ptrdiff_t step, double *result) {
    T a[4][ROWS];
    for (int v = 0; v < 2 + fresh; v++)
        for (int r = 0; r < rows; r++)
            a[v][r] = (T)factor[v * m + r];
    T lane[2][ROWS][OC_LANES] = {{{0}}};
    OC_OVER_LANES_AFTER(n, for (int r = 0; r < rows; r++) OC_PREFETCH_L2(row + r * stride + i0 + AHEAD);,
                        T x[ROWS];
                        T p[4];
                        for (int r = 0; r < rows; r++) x[r] = row[r * stride + i];
                        for (int v = 0; v < 2 + fresh; v++) {
                            p[v] = y[v * stride + i];
                            for (int r = 0; r < rows; r++) p[v] -= a[v][r] * x[r];
                            y[v * stride + i] = p[v];
                        }
                        for (int v = 0; v < fresh; v++)
                            for (int r = 0; r < rows; r++) lane[v][r][l] += x[r] * p[2 + v]);
    for (int v = 0; v < fresh; v++)
        for (int r = 0; r < rows; r++) {
            double sum[OC_LANES];
            for (int l = 0; l < OC_LANES; l++)
                sum[l] = (double)lane[v][r][l];
            result[(v * m + r) * step] = oc_fold_lanes(sum);
        }
}

OC_INLINE void FN(sweep_over)(int fresh, ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const T *x, const double *factor,
                              T *y, ptrdiff_t step, double *result) {
    ptrdiff_t r = 0;
    for (; r + ROWS <= m; r += ROWS)
        FN(sweep_rows)(ROWS, fresh, n, m, stride, x + r * stride, factor + r, y, step, result + r * step);
    for (; r < m; r++)
        FN(sweep_rows)(1, fresh, n, m, stride, x + r * stride, factor + r, y, step, result + r * step);
}

static void FN(sweep)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const void *rows, int fresh, const double *factor,
                      void *vectors, ptrdiff_t step, double *result) {
    if (fresh == 2)
        FN(sweep_over)(2, n, m, stride, rows, factor, vectors, step, result);
    else
        FN(sweep_over)(1, n, m, stride, rows, factor, vectors, step, result);
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
