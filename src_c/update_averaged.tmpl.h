/* update_averaged.tmpl.h: the update rules that keep an average of theta.
 * Parameters and helpers: update.tmpl.h, which includes this file. */

/* ASGD. m = g + lambd*theta, sigma = 1; eta falls with the step, and a is the average of theta from step t0 on.
 * Polyak and Juditsky 1992. */
static void FN(asgd)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    OC_CONSTANTS(c);
    const FN(mean) average = FN(mean_of)(c->average);
    const T decay = (T)c->decay;
    S_T *restrict a = x[2];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(a), {
        const T gi = FN(gradient)(G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        const T pi = P_GET(p[i]) - FUSED(decay, P_GET(p[i]), eta * gi);
        p[i] = P_PUT(pi);
        a[i] = S_PUT(FN(mix)(average, S_GET(a[i]), pi));
    });
}

/* Schedule-free SGD and AdamW. z takes the steps: m/sigma = g + decay*y, sigma = 1, or Adam's for g (adaptive). theta
 * holds y = beta1*x + (1-beta1)*z, where g is taken; x, the average of z, is not stored: y moves towards the old z and
 * takes the step with its own eta. The first z is theta. Defazio et al. 2024. */
OC_INLINE void FN(schedule_free_body)(ptrdiff_t n, void *const *x, const oc_coefficients *c, int adaptive, int fresh) {
    OC_CONSTANTS(c);
    const FN(mean) average = FN(mean_of)(c->average), second = FN(mean_of)(c->second);
    const T eps = (T)c->eps, decay = (T)c->decay, eta_z = (T)c->eta_other;
    const oc_view view = c->view;
    S_T *restrict z = x[2], *restrict v = x[3];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(g) OC_COMING(z) if (adaptive) OC_COMING(v), {
        T m;
        if (adaptive) {
            m = FN(squarable)(view, G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
            const T vi = FN(mix)(second, S_GET(v[i]), m * m);
            v[i] = S_PUT(vi);
            m = FN(ratio)(m, vi, eps, 0);
        } else {
            m = FN(gradient)(G_GET(g[i]), P_GET(p[i]), scale, clip, l2);
        }
        m = FUSED(decay, P_GET(p[i]), m);
        const T zi = fresh ? P_GET(p[i]) : S_GET(z[i]);
        z[i] = S_PUT(FUSED(-eta_z, m, zi));
        p[i] = P_PUT(FUSED(-eta, m, FN(mix)(average, P_GET(p[i]), zi)));
    });
}

static void FN(schedule_free)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    switch (c->adaptive + 2 * c->fresh) {
    case 0: FN(schedule_free_body)(n, x, c, 0, 0); break;
    case 1: FN(schedule_free_body)(n, x, c, 1, 0); break;
    case 2: FN(schedule_free_body)(n, x, c, 0, 1); break;
    default: FN(schedule_free_body)(n, x, c, 1, 1); break;
    }
}

/* theta moves between y and x, along the line through z. */
static void FN(towards)(ptrdiff_t n, void *const *x, const oc_coefficients *c) {
    const FN(mean) average = FN(mean_of)(c->average);
    P_T *restrict p = x[0];
    const G_T *restrict z = x[1];
    OC_EACH(T, n, OC_COMING(p) OC_COMING(z), {
        p[i] = P_PUT(FN(mix)(average, P_GET(p[i]), G_GET(z[i])));
    });
}
