/* layer.tmpl.h: what the layerwise update rules do with a whole matrix.
 * Parameters: T the element type, SQRT its square root, FN(name) the symbol of a kernel for this T and level. */

/* The larger of the two; NaN if x is. */
OC_INLINE T FN(at_least)(T bound, T x) {
    return x < bound ? bound : x;
}

/* The sum of the squares of each column, in double. Four rows share one load and store of the sums. */
static void FN(column_squares)(ptrdiff_t rows, ptrdiff_t columns, const void *vx, double *restrict sums) {
    const T *restrict x = vx;
    for (ptrdiff_t i = 0; i < columns; i++)
        sums[i] = 0;
    ptrdiff_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * columns)
        for (ptrdiff_t i = 0; i < columns; i++) {
            const double a = (double)x[i], b = (double)x[columns + i];
            const double c = (double)x[2 * columns + i], d = (double)x[3 * columns + i];
            sums[i] += (a * a + b * b) + (c * c + d * d);
        }
    for (; r < rows; r++, x += columns)
        for (ptrdiff_t i = 0; i < columns; i++)
            sums[i] += (double)x[i] * (double)x[i];
}

/* The moving mean of sums/count, kept in T, added up in double: the mean of a factor comes from its rounded values. */
static double FN(mean_squares)(ptrdiff_t n, const double *restrict sums, double count, const oc_coefficients *c,
                               void *vv) {
    const double keep = c->second.keep + c->second.keep_rest, add = c->second.add;
    T *restrict v = vv;
    double lane[OC_LANES] = {0};
    OC_OVER_LANES(n, v[i] = (T)(keep * (double)v[i] + add * (sums[i] / count)); lane[l] += (double)v[i]);
    return oc_fold_lanes(lane);
}

/* The root of each factor by itself: the product of a row's, in units of their mean as many as there are rows, and a
 * column's may be out of T's range where its root is not. */
static void FN(divide_factored)(ptrdiff_t rows, ptrdiff_t columns, const void *vrow, const void *vcolumn, double mean,
                                double eps, void *vu) {
    const T *restrict row = vrow, *restrict column = vcolumn;
    const T least = (T)eps;
    T *restrict u = vu;
    for (ptrdiff_t r = 0; r < rows; r++, u += columns) {
        const T root = (T)sqrt((double)row[r] / (mean < eps ? eps : mean));
        for (ptrdiff_t i = 0; i < columns; i++)
            u[i] = u[i] / FN(at_least)(least, root * SQRT(column[i]));
    }
}

/* A norm, or its inverse, may be out of T's range where the quotient is not. */
static void FN(divide)(ptrdiff_t n, double by, void *vx) {
    T *x = vx;
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = (T)((double)x[i] / by);
}
