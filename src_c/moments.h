/* moments.h: joining the sums of columns, and the statistics of parts, be they blocks, threads or processes. Included
 * once per level. */
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

/* Columns of a tile of rows. */
#define OC_WIDE 512
