/* update.tmpl.h: the update rules, theta <- theta - eta_t / sigma_t * m_t: what they share, and those whose sigma is
 * made of squares or magnitudes of the gradients. The end includes the other element-wise
 * families.
 * Parameters: T the arithmetic type, SQRT its square root, FUSED(a, b, c) its a*b + c, EXACT_FMA the same where a*b is
 * exact, FN(name) the symbol of a kernel for this T and level; P_T, G_T and S_T, what parameters, gradients and states are
 * kept as, with P_GET, P_PUT, ... from and to T.
 *
 * Each rule is one loop body; its flags are constants of the body, so that each combination is a loop without a
 * branch. Nothing is fused that does not say so, nor reordered (-ffp-contract=off): an element's result does not depend on
 * its neighbours, on the vector width, or on whether it falls into the tail. */

/* The constants in T. */
typedef struct {
    T keep, rest, add;
} FN(mean);

OC_INLINE FN(mean) FN(mean_of)(oc_mean m) {
    return (FN(mean)){(T)m.keep, (T)m.keep_rest, (T)m.add};
}

/* x <- keep*x + add*y, the small terms first. */
OC_INLINE T FN(mix)(FN(mean) m, T x, T y) {
    return FUSED(m.keep, x, FUSED(m.rest, x, m.add * y));
}

/* The same in two operations where the mean is `lasting`, its keep at least 1/2: what rounding y - x loses is then small
 * beside x, of which at least half stays. Loops in cache are bound by their operations. */
OC_INLINE T FN(moved)(FN(mean) m, int lasting, T x, T y) {
    return lasting ? FUSED(m.add, y - x, x) : FN(mix)(m, x, y);
}

/* And towards y^2. */
OC_INLINE T FN(moved_to_square)(FN(mean) m, int lasting, T x, T y) {
    return lasting ? FUSED(m.add, FUSED(y, y, -x), x) : FN(mix)(m, x, y * y);
}

OC_INLINE int FN(lasts)(oc_mean m) {
    return m.keep >= 0.5;
}

/* The gradient scaled (clipping by norm, sign of maximize) and clamped. The comparisons let NaN pass. */
OC_INLINE T FN(clamped)(T g, T scale, T clip) {
    g = scale * g;
    g = g > clip ? clip : g;
    return g < -clip ? -clip : g;
}

/* The gradient as most rules see it: with L2 decay. */
OC_INLINE T FN(gradient)(T g, T p, T scale, T clip, T l2) {
    return FUSED(l2, p, FN(clamped)(g, scale, clip));
}

/* The gradient of a rule that squares it: oc_prepare keeps clip where squares are finite, for an infinite one would
 * hold sigma, and with it theta, for good; m sees the same bound, so that m/sigma stays a ratio of like to like. An
 * infinite gradient is no large one: times 0 it is NaN. */
OC_INLINE T FN(bounded)(oc_view view, T g, T scale, T clip) {
    if (OC_IS_CONSTANT(view) && view == OC_WITHIN)
        return scale * g;
    const T within = FN(clamped)(g, view == OC_AS_GIVEN ? 1 : scale, clip);
    return view >= OC_WITHIN ? within : EXACT_FMA(0, g, within);
}

OC_INLINE T FN(squarable)(oc_view view, T g, T p, T scale, T clip, T l2) {
    return FUSED(l2, p, FN(bounded)(view, g, scale, clip));
}

/* The same where most have no decay in the gradient, a constant of the body: in cache the loops are bound by their
 * operations. */
OC_INLINE T FN(coupled)(int coupled, oc_view view, T g, T p, T scale, T clip, T l2) {
    return coupled ? FN(squarable)(view, g, p, scale, clip, l2) : FN(bounded)(view, g, scale, clip);
}

/* sigma, and m/sigma with 0/0 = 0 where the rule asks for it (the lecture's forms with eps = 0). */
OC_INLINE T FN(ratio)(T m, T second, T eps, int zero_guard) {
    const T sigma = SQRT(second) + eps;
    if (zero_guard)
        return sigma == 0 ? 0 : m / sigma;
    return m / sigma;
}

/* A body whose last argument is the view, a constant of each loop. */
#define OC_BY_VIEW(view, body, ...)                                                                                   \
    ((view) == OC_SCALED     ? body(__VA_ARGS__, OC_SCALED)                                                           \
     : (view) == OC_AS_GIVEN ? body(__VA_ARGS__, OC_AS_GIVEN)                                                         \
                             : body(__VA_ARGS__, OC_WITHIN))

#define OC_CONSTANTS(c)                                                                                               \
    const T scale = (T)c->grad_scale, clip = (T)c->clip_value, l2 = (T)c->l2;                                         \
    const T eta = (T)c->eta;                                                                                          \
    P_T *restrict p = x[0];                                                                                           \
    const G_T *restrict g = x[1]

/* SGD. m = g, or the momentum buffer b <- momentum*b + (1-dampening)*g (the first time b = g), or with Nesterov
 * g + momentum*b; sigma = 1. Sutskever et al. 2013, in the form of torch.optim. */
OC_INLINE void FN(sgd_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int heavy, int nesterov) {
    OC_CONSTANTS(c);
    const T keep = (T)c->first.keep, add = (T)c->first.add, ahead = (T)c->decay;
    S_T *restrict b = x[2];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) if (heavy) OC_COMING(b), {
        const T gi = FN(gradient)(G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        T m = gi;
        if (heavy) {
            const T bi = FUSED(keep, S_GET(b[i]), add * gi);
            b[i] = S_PUT(bi);
            m = nesterov ? FUSED(ahead, bi, gi) : bi;
        }
        p[i] = P_PUT(FUSED(-eta, m, P_GET(p[i])));
    });
}

static void FN(sgd)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (!c->heavy)
        FN(sgd_body)(n, x, c, 0, 0);
    else if (!c->nesterov)
        FN(sgd_body)(n, x, c, 1, 0);
    else
        FN(sgd_body)(n, x, c, 1, 1);
}

/* Adagrad. m = g, sigma^2 = the sum of g^2, or their mean (1/sqrt(t) is in eta and eps); the sum stops short
 * of infinity. Duchi et al. 2011. */
OC_INLINE void FN(adagrad_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int zero_guard, int coupled,
                                oc_view view) {
    OC_CONSTANTS(c);
    const T eps = (T)c->eps, full = (T)c->sum_max;
    S_T *restrict s = x[2];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(s), {
        const T gi = FN(coupled)(coupled, view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        T si = FUSED(gi, gi, S_GET(s[i]));
        si = si > full ? full : si;
        s[i] = S_PUT(si);
        p[i] = P_PUT(FUSED(-eta, FN(ratio)(gi, si, eps, zero_guard), P_GET(p[i])));
    });
}

static void FN(adagrad)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (c->zero_guard)
        FN(adagrad_body)(n, x, c, 1, 1, c->view);
    else if (c->l2 != 0 || c->view == OC_CLAMPED)
        FN(adagrad_body)(n, x, c, 0, 1, c->view);
    else
        OC_BY_VIEW(c->view, FN(adagrad_body), n, x, c, 0, 0);
}

/* Adadelta. m = g, sigma^2 = (mean of g^2 + eps) / (mean of the squared updates + eps): a step in the units of theta.
 * Zeiler 2012. */
static void FN(adadelta)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    OC_CONSTANTS(c);
    const oc_view view = c->view;
    const FN(mean) second = FN(mean_of)(c->second);
    const T eps = (T)c->eps;
    S_T *restrict s = x[2], *restrict d = x[3];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(s) OC_COMING(d), {
        const T gi = FN(squarable)(view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T si = FN(mix)(second, S_GET(s[i]), gi * gi);
        const T delta = SQRT(S_GET(d[i]) + eps) / SQRT(si + eps) * gi;
        s[i] = S_PUT(si);
        d[i] = S_PUT(FN(mix)(second, S_GET(d[i]), delta * delta));
        p[i] = P_PUT(FUSED(-eta, delta, P_GET(p[i])));
    });
}

/* RMSprop. sigma^2 = the moving mean of g^2, less the square of the moving mean of g (centered; Graves 2013); m = g, or
 * b <- momentum*b + g/sigma, which then stands for m/sigma. Tieleman and Hinton 2012. */
OC_INLINE void FN(rmsprop_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int heavy, int centered,
                                int zero_guard, int lasting, int coupled, oc_view view) {
    OC_CONSTANTS(c);
    const FN(mean) second = FN(mean_of)(c->second), centre = FN(mean_of)(c->centre);
    const T eps = (T)c->eps, keep = (T)c->first.keep;
    S_T *restrict s = x[2], *restrict b = x[3], *restrict a = x[4];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(s) if (heavy) OC_COMING(b) if (centered) OC_COMING(a), {
        const T gi = FN(coupled)(coupled, view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        T si = FN(moved_to_square)(second, lasting, S_GET(s[i]), gi);
        s[i] = S_PUT(si);
        if (centered) {
            const T ai = FN(mix)(centre, S_GET(a[i]), gi);
            a[i] = S_PUT(ai);
            si = FUSED(-ai, ai, si);
            si = si < 0 ? 0 : si; /* rounding alone makes it negative */
        }
        T r = FN(ratio)(gi, si, eps, zero_guard);
        if (heavy) {
            r = FUSED(keep, S_GET(b[i]), r);
            b[i] = S_PUT(r);
        }
        p[i] = P_PUT(FUSED(-eta, r, P_GET(p[i])));
    });
}

static void FN(rmsprop)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (FN(lasts)(c->second) && !c->heavy && !c->centered && !c->zero_guard) { /* what most ask for */
        if (c->l2 != 0 || c->view == OC_CLAMPED)
            FN(rmsprop_body)(n, x, c, 0, 0, 0, 1, 1, c->view);
        else
            OC_BY_VIEW(c->view, FN(rmsprop_body), n, x, c, 0, 0, 0, 1, 0);
        return;
    }
    switch (c->heavy + 2 * c->centered + 4 * c->zero_guard) {
    case 0: FN(rmsprop_body)(n, x, c, 0, 0, 0, 0, 1, c->view); break;
    case 1: FN(rmsprop_body)(n, x, c, 1, 0, 0, 0, 1, c->view); break;
    case 2: FN(rmsprop_body)(n, x, c, 0, 1, 0, 0, 1, c->view); break;
    case 3: FN(rmsprop_body)(n, x, c, 1, 1, 0, 0, 1, c->view); break;
    case 4: FN(rmsprop_body)(n, x, c, 0, 0, 1, 0, 1, c->view); break;
    case 5: FN(rmsprop_body)(n, x, c, 1, 0, 1, 0, 1, c->view); break;
    case 6: FN(rmsprop_body)(n, x, c, 0, 1, 1, 0, 1, c->view); break;
    default: FN(rmsprop_body)(n, x, c, 1, 1, 1, 0, 1, c->view); break;
    }
}

/* Adam and AdamW. m and sigma^2 = the moving means of g and g^2; their bias corrections are in eta and eps.
 * amsgrad takes the largest sigma^2 so far. Decay is in the gradient (l2) or beside it (decay), never in both: in cache
 * the loop is bound by its arithmetic, and the other one's product and sum are 7 % of it.
 * Kingma and Ba 2015; Loshchilov and Hutter 2019; Reddi et al. 2018. */
OC_INLINE void FN(adam_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int lasting, int amsgrad, int coupled,
                             oc_view view) {
    OC_CONSTANTS(c);
    const FN(mean) first = FN(mean_of)(c->first), second = FN(mean_of)(c->second);
    const T eps = (T)c->eps, decay = (T)c->decay;
    S_T *restrict m = x[2], *restrict v = x[3], *restrict largest = x[4];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(m) OC_COMING(v) if (amsgrad) OC_COMING(largest), {
        const T gi = FN(coupled)(coupled, view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T mi = FN(moved)(first, lasting, S_GET(m[i]), gi);
        T vi = FN(moved_to_square)(second, lasting, S_GET(v[i]), gi);
        m[i] = S_PUT(mi);
        v[i] = S_PUT(vi);
        if (amsgrad) {
            vi = S_GET(largest[i]) > vi ? S_GET(largest[i]) : vi;
            largest[i] = S_PUT(vi);
        }
        const T step = FN(ratio)(eta * mi, vi, eps, 0);
        p[i] = P_PUT(P_GET(p[i]) - (coupled ? step : FUSED(decay, P_GET(p[i]), step)));
    });
}

static void FN(adam)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    const int lasting = FN(lasts)(c->first) && FN(lasts)(c->second), coupled = c->l2 != 0;
    if (lasting && !c->amsgrad && !coupled && c->view != OC_CLAMPED) { /* what most ask for */
        OC_BY_VIEW(c->view, FN(adam_body), n, x, c, 1, 0, 0);
        return;
    }
    switch (4 * lasting + 2 * (c->amsgrad != 0) + coupled) {
    case 0: FN(adam_body)(n, x, c, 0, 0, 0, c->view); break;
    case 1: FN(adam_body)(n, x, c, 0, 0, 1, c->view); break;
    case 2: FN(adam_body)(n, x, c, 0, 1, 0, c->view); break;
    case 3: FN(adam_body)(n, x, c, 0, 1, 1, c->view); break;
    case 4: FN(adam_body)(n, x, c, 1, 0, 0, c->view); break;
    case 5: FN(adam_body)(n, x, c, 1, 0, 1, c->view); break;
    case 6: FN(adam_body)(n, x, c, 1, 1, 0, c->view); break;
    default: FN(adam_body)(n, x, c, 1, 1, 1, c->view); break;
    }
}

/* Adamax. m = the moving mean of g, sigma = the larger of beta2*sigma and |g| + eps. Kingma and Ba 2015, 7.1. */
static void FN(adamax)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    OC_CONSTANTS(c);
    const FN(mean) first = FN(mean_of)(c->first), second = FN(mean_of)(c->second);
    const T eps = (T)c->eps;
    S_T *restrict m = x[2], *restrict u = x[3];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(m) OC_COMING(u), {
        const T gi = FN(gradient)(G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T mi = FN(mix)(first, S_GET(m[i]), gi);
        const T faded = FUSED(second.keep, S_GET(u[i]), second.rest * S_GET(u[i]));
        const T size = (gi < 0 ? -gi : gi) + eps;
        const T ui = faded > size ? faded : size;
        m[i] = S_PUT(mi);
        u[i] = S_PUT(ui);
        p[i] = P_PUT(P_GET(p[i]) - eta * mi / ui);
    });
}

/* NAdam. m = a share of g and one of its moving mean, which are in eta_other and eta; sigma as Adam's. Dozat 2016. */
static void FN(nadam)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    OC_CONSTANTS(c);
    const oc_view view = c->view;
    const FN(mean) first = FN(mean_of)(c->first), second = FN(mean_of)(c->second);
    const T eps = (T)c->eps, decay = (T)c->decay, eta_g = (T)c->eta_other;
    S_T *restrict m = x[2], *restrict v = x[3];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(m) OC_COMING(v), {
        const T gi = FN(squarable)(view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T mi = FN(mix)(first, S_GET(m[i]), gi);
        const T vi = FN(mix)(second, S_GET(v[i]), gi * gi);
        m[i] = S_PUT(mi);
        v[i] = S_PUT(vi);
        const T step = FN(ratio)(FUSED(eta, mi, eta_g * gi), vi, eps, 0);
        p[i] = P_PUT(P_GET(p[i]) - FUSED(decay, P_GET(p[i]), step));
    });
}

/* RAdam. m = the moving mean of g; sigma as Adam's once enough gradients were seen (adaptive), 1 before; eta holds the
 * bias correction and the rectification. Liu et al. 2020. */
OC_INLINE void FN(radam_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int adaptive) {
    OC_CONSTANTS(c);
    const oc_view view = c->view;
    const FN(mean) first = FN(mean_of)(c->first), second = FN(mean_of)(c->second);
    const T eps = (T)c->eps, decay = (T)c->decay;
    S_T *restrict m = x[2], *restrict v = x[3];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(m) OC_COMING(v), {
        const T gi = FN(squarable)(view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T mi = FN(mix)(first, S_GET(m[i]), gi);
        const T vi = FN(mix)(second, S_GET(v[i]), gi * gi);
        m[i] = S_PUT(mi);
        v[i] = S_PUT(vi);
        const T step = adaptive ? FN(ratio)(eta * mi, vi, eps, 0) : eta * mi;
        p[i] = P_PUT(P_GET(p[i]) - FUSED(decay, P_GET(p[i]), step));
    });
}

static void FN(radam)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (c->adaptive)
        FN(radam_body)(n, x, c, 1);
    else
        FN(radam_body)(n, x, c, 0);
}

/* AdEMAMix. m = a fast moving mean of g, with its bias correction, and alpha times a slow one; their etas are eta and
 * eta_other; sigma as Adam's. Pagliardini et al. 2024. */
OC_INLINE void FN(ademamix_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int lasting) {
    OC_CONSTANTS(c);
    const oc_view view = c->view;
    const FN(mean) first = FN(mean_of)(c->first), slow = FN(mean_of)(c->slow), second = FN(mean_of)(c->second);
    const T eps = (T)c->eps, decay = (T)c->decay, eta_slow = (T)c->eta_other;
    S_T *restrict m = x[2], *restrict s = x[3], *restrict v = x[4];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(m) OC_COMING(s) OC_COMING(v), {
        const T gi = FN(squarable)(view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T mi = FN(moved)(first, lasting, S_GET(m[i]), gi);
        const T si = FN(moved)(slow, lasting, S_GET(s[i]), gi);
        const T vi = FN(moved_to_square)(second, lasting, S_GET(v[i]), gi);
        m[i] = S_PUT(mi);
        s[i] = S_PUT(si);
        v[i] = S_PUT(vi);
        const T step = FN(ratio)(FUSED(eta, mi, eta_slow * si), vi, eps, 0);
        p[i] = P_PUT(P_GET(p[i]) - FUSED(decay, P_GET(p[i]), step));
    });
}

static void FN(ademamix)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    if (FN(lasts)(c->first) && FN(lasts)(c->second) && FN(lasts)(c->slow))
        FN(ademamix_body)(n, x, c, 1);
    else
        FN(ademamix_body)(n, x, c, 0);
}

#include "update_averaged.tmpl.h"
#include "update_bounded.tmpl.h"

#undef OC_CONSTANTS
