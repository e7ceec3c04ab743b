/* update_bounded.tmpl.h: the update rules that bound the step of each element by eta: m/sigma is a sign, or clipped.
 * Parameters and helpers: update.tmpl.h, which includes this file. */

/* The size with the sign of x; 0 and NaN stay what they are. */
OC_INLINE T FN(signed)(T size, T x) {
    const T up = x > 0 ? size : x;
    return x < 0 ? -size : up;
}

OC_INLINE T FN(sign)(T x) {
    return FN(signed)(1, x);
}

/* Rprop. m = g, sigma = |g|, eta an element's own: it grows while g keeps its sign; where the sign turns it shrinks,
 * and that g counts as 0. The signs are compared, not their product's: that would vanish below 1e-23 in float32.
 * Riedmiller and Braun 1993, without weight backtracking. */
OC_INLINE void FN(rprop_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int fresh) {
    OC_CONSTANTS(c);
    const T shrink = (T)c->shrink, grow = (T)c->grow, low = (T)c->step_min, high = (T)c->step_max;
    S_T *restrict before = x[2], *restrict s = x[3];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(before) OC_COMING(s), {
        const T gi = FN(gradient)(G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T same = FN(sign)(gi) * FN(sign)(S_GET(before[i]));
        const T seen = same < 0 ? 0 : gi;
        T factor = same > 0 ? grow : 1;
        factor = same < 0 ? shrink : factor;
        T si = (fresh ? eta : S_GET(s[i])) * factor;
        si = si < low ? low : si;
        si = si > high ? high : si;
        s[i] = S_PUT(si);
        before[i] = S_PUT(seen);
        p[i] = P_PUT(P_GET(p[i]) - FN(signed)(si, seen));
    });
}

static void FN(rprop)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (c->fresh)
        FN(rprop_body)(n, x, c, 1);
    else
        FN(rprop_body)(n, x, c, 0);
}

/* Lion. m = the momentum mixed with g by beta1, sigma = |m|; the momentum itself keeps beta2. Chen et al. 2023. */
OC_INLINE void FN(lion_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int lasting) {
    OC_CONSTANTS(c);
    const FN(mean) ahead = FN(mean_of)(c->first), kept = FN(mean_of)(c->second);
    const T decay = (T)c->decay;
    S_T *restrict b = x[2];
    (void)l2; /* the decay is beside the gradient */
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(b), {
        const T gi = FN(clamped)(G_GET(g[i]), scale, clip);
        const T m = FN(moved)(ahead, lasting, S_GET(b[i]), gi);
        b[i] = S_PUT(FN(moved)(kept, lasting, S_GET(b[i]), gi));
        p[i] = P_PUT(P_GET(p[i]) - FUSED(decay, P_GET(p[i]), FN(signed)(eta, m)));
    });
}

static void FN(lion)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (FN(lasts)(c->first) && FN(lasts)(c->second))
        FN(lion_body)(n, x, c, 1);
    else
        FN(lion_body)(n, x, c, 0);
}

/* Sophia. m = the moving mean of g, sigma = max(rho*h, 0) + eps with h the moving mean of the Hessian's diagonal;
 * m/sigma is clipped. Liu et al. 2023, algorithm 3. */
static void FN(sophia)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    OC_CONSTANTS(c);
    const FN(mean) first = FN(mean_of)(c->first);
    const T rho = (T)c->rho, eps = (T)c->eps, decay = (T)c->decay;
    S_T *restrict m = x[2];
    const S_T *restrict h = x[3];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(m) OC_COMING(h), {
        const T gi = FN(gradient)(G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T mi = FN(mix)(first, S_GET(m[i]), gi);
        const T curvature = rho * S_GET(h[i]);
        T r = mi / ((curvature < 0 ? 0 : curvature) + eps);
        r = r > 1 ? 1 : r;
        r = r < -1 ? -1 : r;
        m[i] = S_PUT(mi);
        p[i] = P_PUT(P_GET(p[i]) - FUSED(decay, P_GET(p[i]), eta * r));
    });
}

/* h <- beta2*h + (1-beta2)*estimate. */
static void FN(sophia_hessian)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    const FN(mean) second = FN(mean_of)(c->second);
    const G_T *restrict estimate = x[1];
    S_T *restrict h = x[3];
    OC_EACH(T, n, OC_COMING(estimate) OC_COMING(h), {
        h[i] = S_PUT(FN(mix)(second, S_GET(h[i]), G_GET(estimate[i])));
    });
}
