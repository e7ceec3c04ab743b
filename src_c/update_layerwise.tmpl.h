/* update_layerwise.tmpl.h: the first and last stages of the layerwise update rules, theta <- theta - (decay*theta +
 * eta*factor*u): what they do element by element. u, the direction, stands in the work array x[OC_DIRECTION]; what
 * happens between the stages is in layer.tmpl.h.
 * Parameters and helpers: update.tmpl.h, which comes before; at_least of layer.tmpl.h. */

#define OC_DIRECTION_CONSTANTS(c)                                                                                     \
    const T scale = (T)c->grad_scale, clip = (T)c->clip_value;                                                        \
    const oc_view view = c->view;                                                                                     \
    const G_T *restrict g = x[1];                                                                                     \
    T *restrict u = x[OC_DIRECTION]

/* u = g: LARS, and Adafactor for a matrix, whose sigma belongs to the second stage. */
static void FN(take_gradient)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    OC_DIRECTION_CONSTANTS(c);
    OC_EACH(T, n, OC_COMING(g) OC_COMING(u), {
        u[i] = FN(bounded)(view, G_GET(g[i]), scale, clip);
    });
}

/* LAMB. u = m/sigma + decay_in_u*theta, with m and sigma as Adam's; their bias corrections are in eta_other and eps. You et al.
 * 2020, algorithm 2. */
static void FN(lamb)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    OC_DIRECTION_CONSTANTS(c);
    const FN(mean) first = FN(mean_of)(c->first), second = FN(mean_of)(c->second);
    const T eps = (T)c->eps, correction = (T)c->eta_other, decay = (T)c->decay_in_u;
    const P_T *restrict p = x[0];
    S_T *restrict m = x[2], *restrict v = x[3];
    OC_EACH(T, n, OC_COMING(g) OC_COMING(u) OC_COMING(p) OC_COMING(m) OC_COMING(v), {
        const T gi = FN(bounded)(view, G_GET(g[i]), scale, clip);
        const T mi = FN(mix)(first, S_GET(m[i]), gi);
        const T vi = FN(mix)(second, S_GET(v[i]), gi * gi);
        m[i] = S_PUT(mi);
        v[i] = S_PUT(vi);
        u[i] = FUSED(decay, P_GET(p[i]), FN(ratio)(correction * mi, vi, eps, 0));
    });
}

/* Adafactor. u = g/sigma, sigma^2 = the moving mean of g^2, bounded from below by eps. Shazeer and Stern 2018, in the
 * form of torch.optim; a matrix has no x[2]. */
static void FN(adafactor)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (!x[2]) {
        FN(take_gradient)(n, x, c);
        return;
    }
    OC_DIRECTION_CONSTANTS(c);
    const FN(mean) second = FN(mean_of)(c->second);
    const T eps = (T)c->eps;
    S_T *restrict v = x[2];
    OC_EACH(T, n, OC_COMING(g) OC_COMING(u) OC_COMING(v), {
        const T gi = FN(bounded)(view, G_GET(g[i]), scale, clip);
        const T vi = FN(mix)(second, S_GET(v[i]), gi * gi);
        v[i] = S_PUT(vi);
        u[i] = gi / FN(at_least)(eps, SQRT(vi));
    });
}

/* Muon. u = the moving mean of g, or with Nesterov that mean mixed with g once more; the second stage orthogonalises
 * it. Jordan et al. 2024, in the form of torch.optim. */
OC_INLINE void FN(muon_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int nesterov) {
    OC_DIRECTION_CONSTANTS(c);
    const FN(mean) first = FN(mean_of)(c->first);
    S_T *restrict m = x[2];
    OC_EACH(T, n, OC_COMING(g) OC_COMING(u) OC_COMING(m), {
        const T gi = FN(bounded)(view, G_GET(g[i]), scale, clip);
        const T mi = FN(mix)(first, S_GET(m[i]), gi);
        m[i] = S_PUT(mi);
        u[i] = nesterov ? FN(mix)(first, mi, gi) : mi;
    });
}

static void FN(muon)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (c->nesterov)
        FN(muon_body)(n, x, c, 1);
    else
        FN(muon_body)(n, x, c, 0);
}

/* eta in two factors: a quotient of norms may be out of T's range where eta*u is not. The first is a power of two, so
 * that they round as one. */
typedef struct {
    T power, rest;
} FN(factors);

OC_INLINE FN(factors) FN(factors_of)(double eta) {
    int exponent;
    frexp(eta, &exponent);
    exponent /= 2;
    return (FN(factors)){(T)ldexp(1, exponent), (T)ldexp(eta, -exponent)};
}

/* The last stage of LAMB, Adafactor and Muon. */
static void FN(layer_apply)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    const FN(factors) eta = FN(factors_of)(c->eta);
    const T decay = (T)c->decay;
    P_T *restrict p = x[0];
    const T *restrict u = x[OC_DIRECTION];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(u), {
        p[i] = P_PUT(P_GET(p[i]) - FUSED(decay, P_GET(p[i]), u[i] * eta.power * eta.rest));
    });
}

/* The last stage of LARS: the momentum sums steps, b <- momentum*b + eta*(u + decay_in_u*theta), and theta moves by b,
 * or with Nesterov by what the next b would be for the same step. You et al. 2017, algorithm 1. */
OC_INLINE void FN(lars_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int heavy, int nesterov) {
    const FN(factors) eta = FN(factors_of)(c->eta);
    const T decay = (T)c->decay_in_u, keep = (T)c->first.keep;
    P_T *restrict p = x[0]; S_T *restrict b = x[2];
    const T *restrict u = x[OC_DIRECTION];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(u) if (heavy) OC_COMING(b), {
        const T step = FUSED(decay, P_GET(p[i]), u[i]) * eta.power * eta.rest;
        T move = step;
        if (heavy) {
            const T bi = FUSED(keep, S_GET(b[i]), step);
            b[i] = S_PUT(bi);
            move = nesterov ? FUSED(keep, bi, step) : bi;
        }
        p[i] = P_PUT(P_GET(p[i]) - move);
    });
}

static void FN(lars_apply)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (!c->heavy)
        FN(lars_body)(n, x, c, 0, 0);
    else if (!c->nesterov)
        FN(lars_body)(n, x, c, 1, 0);
    else
        FN(lars_body)(n, x, c, 1, 1);
}

#undef OC_DIRECTION_CONSTANTS
