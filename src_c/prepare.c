/* prepare.c: the constants of a step, from the options and the step number, in double. Compiled once; the only place
 * where a rule's powers and roots are taken. One function a rule. */
#include "internal.h"

#include <float.h>

/* The mean that takes `add` of what is new, with the rest as the dtype holds it and what it cannot hold. */
static oc_mean mean_of(double keep, double add, oc_dtype dtype) {
    const double held = dtype == OC_F32 ? (double)(float)keep : keep;
    return (oc_mean){held, keep - held, add};
}

static oc_mean mean_keeping(double keep, oc_dtype dtype) {
    return mean_of(keep, 1 - keep, dtype);
}

static oc_mean mean_adding(double add, oc_dtype dtype) {
    return mean_of(1 - add, add, dtype);
}

static void decouple(const oc_options *o, oc_coefficients *c) {
    c->l2 = 0;
    c->decay = o->lr * o->weight_decay;
}

/* sigma = sqrt(second)/root + eps, with both sides of the fraction m/sigma multiplied by `root`: a product less for
 * each element. */
static void scale_sigma(double root, oc_coefficients *c) {
    c->eta *= root;
    c->eta_other *= root;
    c->eps *= root;
}

typedef void prepare_fn(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c);

static void sgd(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)dtype;
    c->heavy = o->momentum != 0;
    c->nesterov = o->nesterov;
    c->first = (oc_mean){t == 1 ? 0 : o->momentum, 0, t == 1 ? 1 : 1 - o->dampening};
    c->decay = o->momentum; /* Nesterov's look ahead */
}

static void adagrad(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)dtype;
    c->eta = o->lr / (1 + (t - 1) * o->lr_decay);
    if (o->average)
        scale_sigma(sqrt(t), c);
    c->zero_guard = o->average;
}

static void rmsprop(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    c->heavy = o->momentum != 0;
    c->centered = o->centered;
    c->first.keep = o->momentum;
    c->second = o->warm_start && t == 1 ? (oc_mean){0, 0, 1} : mean_keeping(o->alpha, dtype);
    c->centre = mean_keeping(o->alpha, dtype);
    c->zero_guard = o->warm_start;
}

static void adadelta(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)t;
    c->second = mean_keeping(o->rho, dtype);
}

/* 1 - beta^t, the bias correction of a moving mean. beta^t is at most e^-(1 - beta)t, and 1 stays 1 in double when less
 * than 2^-54 = e^-37.43 is taken away: pow, a fair share of a small step, is for the time before. */
static double correction(double beta, double t) {
    return (1 - beta) * t > 38 ? 1 : 1 - pow(beta, t);
}

/* Both moving means, and the bias correction of the first, m / (1 - beta1^t). */
static void moments(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    c->first = mean_keeping(o->beta1, dtype);
    c->second = mean_keeping(o->beta2, dtype);
    c->eta = o->lr / correction(o->beta1, t);
    if (o->decoupled)
        decouple(o, c);
}

/* That of the second, sigma = sqrt(v / (1 - beta2^t)) + eps. Returns by what both sides were multiplied. */
static double correct_sigma(const oc_options *o, double t, oc_coefficients *c) {
    const double root = sqrt(correction(o->beta2, t));
    scale_sigma(root, c);
    return root;
}

static void adam(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    moments(o, dtype, t, c);
    correct_sigma(o, t, c);
    c->amsgrad = o->amsgrad;
}

/* Dozat 2016, section 2.3: momentum mu_t = beta1 (1 - 0.96^(t psi) / 2), 0.96 the paper's; each share of m has the bias
 * correction of its own product of mu. */
static void nadam(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    const double mu = o->beta1 * (1 - 0.5 * pow(0.96, t * o->momentum_decay));
    const double mu_next = o->beta1 * (1 - 0.5 * pow(0.96, (t + 1) * o->momentum_decay));
    const double product = (t == 1 ? 1 : c->carried[0]) * mu;
    moments(o, dtype, t, c);
    c->eta = o->lr * mu_next / (1 - product * mu_next);
    c->eta_other = o->lr * (1 - mu) / (1 - product);
    c->carried[0] = product;
    correct_sigma(o, t, c);
}

/* Liu et al. 2020, algorithm 2. rho_t counts the gradients that v is an average of; up to 5 its variance is unbounded
 * and sigma = 1. eps is added to the uncorrected root, as PyTorch does. */
static void radam(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    const double correction = 1 - pow(o->beta2, t);
    const double rho_inf = 2 / (1 - o->beta2) - 1;
    const double rho = rho_inf - 2 * t * pow(o->beta2, t) / correction;
    moments(o, dtype, t, c);
    c->adaptive = rho > 5;
    if (c->adaptive) {
        c->eta *= sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho));
        correct_sigma(o, t, c);
        c->eps = o->eps;
    }
}

/* Steps until a moving mean has forgotten half. 1e-8 is the authors': it keeps the logarithm of beta = 0 finite. */
static double half_life(double beta) {
    return log(0.5) / log(beta + 1e-8);
}

/* Pagliardini et al. 2024. alpha grows linearly from 0, beta3 from beta1 so that its half-life does. */
static void ademamix(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    double alpha = o->alpha, beta3 = o->beta3;
    if (t < o->alpha_warmup)
        alpha *= t / o->alpha_warmup;
    if (t < o->beta3_warmup) {
        const double share = t / o->beta3_warmup;
        const double life = (1 - share) * half_life(o->beta1) + share * half_life(o->beta3);
        beta3 = fmin(pow(0.5, 1 / life), 1); /* 1e-8 may lift beta3 over 1 */
    }
    moments(o, dtype, t, c);
    c->slow = mean_keeping(beta3, dtype);
    c->eta_other = o->lr * alpha;
    correct_sigma(o, t, c);
    decouple(o, c);
}

static void rprop(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)dtype;
    c->fresh = t == 1;
    c->shrink = o->shrink;
    c->grow = o->grow;
    c->step_min = o->step_min;
    c->step_max = o->step_max;
}

static void lion(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)t;
    c->first = mean_keeping(o->beta1, dtype);
    c->second = mean_keeping(o->beta2, dtype);
    decouple(o, c);
}

static void sophia(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    lion(o, dtype, t, c);
    c->rho = o->rho;
}

/* Polyak and Juditsky 1992, in the form of PyTorch: a step uses the eta and the weight that the last one left. */
static void asgd(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    c->eta = t == 1 ? o->lr : c->carried[0];
    c->average = mean_adding(t == 1 ? 1 : c->carried[1], dtype);
    c->decay = o->lambd * c->eta;
    c->carried[0] = o->lr / pow(1 + o->lambd * o->lr * t, o->alpha);
    c->carried[1] = 1 / fmax(1, t - o->t0);
}

/* Defazio et al. 2024. Step t has the weight t^r lr_max^p in the average x; theta = y = beta1 x + (1 - beta1) z. */
static void schedule_free(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    const double lr = t <= o->warmup_steps ? o->lr * (t / o->warmup_steps) : o->lr;
    const double lr_max = t == 1 ? lr : fmax(lr, c->carried[1]);
    const double weight = pow(t, o->r) * pow(lr_max, o->weight_lr_power);
    const double sum = (t == 1 ? 0 : c->carried[0]) + weight;
    const double share = sum > 0 ? weight / sum : 0;
    moments(o, dtype, t, c);
    c->adaptive = o->adaptive;
    c->fresh = t == 1;
    c->l2 = 0;
    c->decay = o->weight_decay; /* a part of m, taken at y */
    c->average = mean_adding(share, dtype);
    c->eta = lr * (1 - o->beta1 * (1 - share));
    c->eta_other = lr;
    if (c->adaptive)
        c->decay /= correct_sigma(o, t, c);
    c->carried[0] = sum;
    c->carried[1] = lr_max;
}

/* y = beta1 x + (1 - beta1) z, and x = y / beta1 + (1 - 1/beta1) z. */
static void schedule_free_train(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)t;
    c->average = mean_adding(1 - o->beta1, dtype);
}

static void schedule_free_eval(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)t;
    c->average = mean_adding(1 - 1 / o->beta1, dtype);
}

/* The rules whose sigma is made of squares of g. */
static int squares(oc_rule rule, const oc_options *o) {
    switch (rule) {
    case OC_ADAGRAD: case OC_RMSPROP: case OC_ADAM: case OC_ADADELTA: case OC_NADAM: case OC_RADAM: case OC_ADEMAMIX:
    case OC_LAMB: case OC_ADAFACTOR:
        return 1;
    case OC_SCHEDULE_FREE:
        return o->adaptive;
    default:
        return 0;
    }
}

/* Keeps what is squared within 2^63, in double 2^480. In float the square is a quarter of where the range ends: room for
 * the roundings of a moving mean of such squares, and for one more of them in Adagrad's sum. In double there is room for
 * the sum of 2^63 of them: Adafactor sums rows and columns in double, whatever the dtype. */
static void bound(const oc_options *o, oc_dtype dtype, oc_coefficients *c) {
    const double most = dtype == OC_F32 ? 0x1p63 : 0x1p480;
    c->clip_value = fmin(c->clip_value, most);
    c->sum_max = most * most;
    if (!(o->clip_value > 0))
        c->view = c->grad_scale == 1 ? OC_AS_GIVEN : OC_SCALED;
}

/* You et al. 2020, algorithm 2. Without bias correction as in the authors' code. */
static void lamb(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    moments(o, dtype, t, c);
    c->eta_other = 1;
    if (o->bias_correction) {
        c->eta_other /= correction(o->beta1, t);
        correct_sigma(o, t, c);
    }
    c->eta = o->lr;
    c->decay_in_u = o->weight_decay;
}

static void lars(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)dtype, (void)t;
    c->heavy = o->momentum != 0;
    c->nesterov = o->nesterov;
    c->first.keep = o->momentum;
    c->decay_in_u = o->weight_decay;
}

/* Shazeer and Stern 2018, with the relative step size min(lr, 1/sqrt(t)). */
static void adafactor(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    c->second = mean_adding(pow(t, o->beta2_decay), dtype);
    c->eps = o->eps < 0 ? (dtype == OC_F32 ? FLT_EPSILON : DBL_EPSILON) : o->eps;
    decouple(o, c);
    c->eta = fmin(o->lr, 1 / sqrt(t));
}

static void muon(const oc_options *o, oc_dtype dtype, double t, oc_coefficients *c) {
    (void)t;
    c->nesterov = o->nesterov;
    c->first = mean_keeping(o->momentum, dtype);
    decouple(o, c);
}

/* By what the layer's norms or sides scale the step; where a norm is 0 there is nothing to compare. The comparisons
 * of a norm of u let NaN pass, which would else leave a step that no norm bounds. */
double oc_layer_factor(oc_rule rule, const oc_options *o, const oc_layer *l) {
    const double root_n = sqrt((double)l->n), rows = (double)l->rows, columns = (double)l->columns;
    const int one_is_zero = l->norm_theta == 0 || l->norm_u == 0;
    const double excess = l->norm_u / root_n / o->rms_u;
    switch (rule) {
    case OC_LAMB: return one_is_zero ? 1 : l->norm_theta / l->norm_u;
    case OC_LARS:
        return one_is_zero ? 1 : o->trust * l->norm_theta / (l->norm_u + o->weight_decay * l->norm_theta + o->eps);
    case OC_ADAFACTOR:
        return fmax(o->rms_theta, l->norm_theta / root_n) / (excess < 1 ? 1 : excess);
    case OC_MUON: return o->match_rms ? 0.2 * sqrt(fmax(rows, columns)) : sqrt(fmax(1, rows / columns));
    default: return 1;
    }
}

void oc_prepare(oc_rule rule, oc_dtype dtype, const oc_options *o, int64_t step, double grad_scale,
                oc_coefficients *c) {
    static prepare_fn *const prepare[OC_N_RULES] = {
        [OC_SGD] = sgd, [OC_ADAGRAD] = adagrad, [OC_RMSPROP] = rmsprop, [OC_ADAM] = adam, [OC_ADADELTA] = adadelta,
        [OC_ADAMAX] = moments, [OC_NADAM] = nadam, [OC_RADAM] = radam, [OC_ADEMAMIX] = ademamix, [OC_RPROP] = rprop,
        [OC_LION] = lion, [OC_SOPHIA] = sophia, [OC_ASGD] = asgd, [OC_SCHEDULE_FREE] = schedule_free,
        [OC_SOPHIA_HESSIAN] = sophia, [OC_SCHEDULE_FREE_EVAL] = schedule_free_eval,
        [OC_SCHEDULE_FREE_TRAIN] = schedule_free_train,
        [OC_LAMB] = lamb, [OC_LARS] = lars, [OC_ADAFACTOR] = adafactor, [OC_MUON] = muon, [OC_LAYER_APPLY] = muon,
        [OC_LARS_APPLY] = lars,
    };
    *c = (oc_coefficients){
        .carried = {c->carried[0], c->carried[1]},
        .grad_scale = o->maximize ? -grad_scale : grad_scale,
        .clip_value = o->clip_value > 0 ? o->clip_value : INFINITY,
        .l2 = o->weight_decay,
        .eps = o->eps,
        .eta = o->lr,
        .view = OC_CLAMPED,
    };
    if (squares(rule, o))
        bound(o, dtype, c);
    prepare[rule](o, dtype, (double)step, c);
}

void oc_gradients_within(double largest, oc_coefficients *c) {
    /* Room for roundings. A change of sign would change that of zeros too, to which the look for infinity adds 0*g. */
    if (c->grad_scale > 0 && largest < INFINITY && largest * c->grad_scale <= c->clip_value / 2)
        c->view = OC_WITHIN;
}
