/* moments.h: joining the sums of columns, and the statistics of parts, be they blocks, threads or processes; and what a
 * batch norm makes of them for each channel. Included once per level. */
#include <string.h>

/* a <- a joined with b, for `channels` channels, each with (mean, rest, m2) in three rows `lda` or `ldb` apart:
 *     delta = mean_b - mean_a,  n = na + nb
 *     mean  = mean_a + delta*nb/n,  m2 = m2_a + m2_b + delta^2*na*nb/n
 * Chan, Golub and LeVeque 1979. The mean is the unrounded sum mean + rest: means that differ by less than their own
 * rounding still have the right delta. Knuth's two-sum keeps the sum exact. */
static void OC_PASTE(oc, merge, moments, OC_LEVEL)(ptrdiff_t channels, double na, double *restrict a, ptrdiff_t lda,
                                                   double nb, const double *restrict b, ptrdiff_t ldb) {
    const double share = nb / (na + nb), weight = na * share;
    double *restrict mean = a, *restrict rest = a + lda, *restrict m2 = a + 2 * lda;
    const double *restrict mean_b = b, *restrict rest_b = b + ldb, *restrict m2_b = b + 2 * ldb;
    for (ptrdiff_t i = 0; i < channels; i++) {
        const double delta = (mean_b[i] - mean[i]) + (rest_b[i] - rest[i]);
        const double old = mean[i], move = rest[i] + delta * share;
        const double sum = old + move, moved = sum - old;
        mean[i] = sum;
        rest[i] = (old - (sum - moved)) + (move - moved);
        m2[i] = (m2[i] + m2_b[i]) + delta * delta * weight;
    }
}

/* a <- a + b: sums of two blocks joined. */
static void OC_PASTE(oc, add, sums, OC_LEVEL)(ptrdiff_t n, double *restrict a, const double *restrict b) {
    for (ptrdiff_t i = 0; i < n; i++)
        a[i] = a[i] + b[i];
}

/* From the moments of `count` values, in three rows `ld` apart: their mean in one double and what that leaves, m2, the
 * variance and inv_std = 1/sqrt(var + eps). */
static void OC_PASTE(oc, standardise, channels, OC_LEVEL)(ptrdiff_t channels, double count, double eps,
                                                          const double *restrict moments, ptrdiff_t ld,
                                                          double *restrict mean, double *restrict rest, double *restrict m2,
                                                          double *restrict var, double *restrict inv_std) {
    for (ptrdiff_t i = 0; i < channels; i++) {
        const double high = moments[i], low = moments[ld + i];
        mean[i] = high + low;
        rest[i] = low - (mean[i] - high);
        m2[i] = moments[2 * ld + i];
        var[i] = m2[i] / count;
        inv_std[i] = 1 / sqrt(var[i] + eps);
    }
}

/* What is lost when the constants' type holds the value. */
OC_INLINE double oc_lost(int narrow, double value) {
    return narrow ? value - (double)(float)value : 0;
}

/* (x - high)*scale + shift = w*s*(x - mean - rest) + b, s being inv_std. */
static void OC_PASTE(oc, forward, constants, OC_LEVEL)(ptrdiff_t channels, int narrow, const double *restrict mean,
                                                       const double *restrict rest, const double *restrict inv_std,
                                                       const double *restrict weight, const double *restrict bias,
                                                       double *restrict high, double *restrict scale,
                                                       double *restrict shift) {
    for (ptrdiff_t i = 0; i < channels; i++) {
        const double ws = weight[i] * inv_std[i];
        high[i] = mean[i];
        scale[i] = ws;
        shift[i] = bias[i] - ws * (oc_lost(narrow, mean[i]) + rest[i]);
    }
}

/* The constants of dx = w*s*(dy - dbias/n - x_hat*dweight/n), and the gradients dbias and dweight themselves, from the
 * sums of dy and of dy*(x - mean) over n = `count` values. */
static void OC_PASTE(oc, backward, constants, OC_LEVEL)(ptrdiff_t channels, int narrow, double count,
                                                        const double *restrict mean, const double *restrict rest,
                                                        const double *restrict inv_std, const double *restrict weight,
                                                        const double *restrict sums, double *restrict dweight,
                                                        double *restrict dbias, double *restrict constants, ptrdiff_t ld) {
    OC_IN_PLACE
    for (ptrdiff_t i = 0; i < channels; i++) {
        const double s = inv_std[i], a = weight[i] * s, dw = (sums[ld + i] - rest[i] * sums[i]) * s;
        const double b = -a * (dw / count), m = sums[i] / count;
        dbias[i] = sums[i];
        dweight[i] = dw;
        constants[i] = mean[i];
        constants[ld + i] = s;
        constants[2 * ld + i] = b;
        constants[3 * ld + i] = 0 - b * s * (oc_lost(narrow, mean[i]) + rest[i]) - a * oc_lost(narrow, m);
        constants[4 * ld + i] = a;
        constants[5 * ld + i] = m;
    }
}

/* Columns of a tile of rows. */
#define OC_WIDE 512
