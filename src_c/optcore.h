/* optcore.h: the C core of optcore.
 *
 * Every kernel works on a range of elements, rows or channels that its caller has cut out: no threads, no
 * allocation, no I/O, no global state. The caller owns every buffer and may call from as many threads as it likes,
 * on ranges that do not overlap. Arrays are contiguous and aligned to their element; `void *` stands for an array of
 * the dtype that the kernel was looked up for. The result of a kernel depends on its arguments alone: the same bits at
 * every instruction-set level and for every way to cut the work.
 *
 *     const oc_kernels *k = oc_kernels_best();
 *     oc_coefficients c;
 *     oc_prepare(OC_ADAM, OC_F32, &options, step, 1.0, &c);
 *     void *streams[] = {theta, grad, exp_avg, exp_avg_sq};
 *     k->update[OC_ADAM][OC_F32](n, streams, &c);
 */
#ifndef OPTCORE_H
#define OPTCORE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#define restrict
#endif

#define OC_ABI_VERSION 7

typedef enum { OC_F32, OC_F64, OC_N_DTYPES } oc_dtype;
typedef enum { OC_LEVEL_BASELINE, OC_LEVEL_V3, OC_LEVEL_V4, OC_N_LEVELS } oc_level;

/* ------------------------------------------------------------------------------------------------ update rules
 * All rules are one formula, theta <- theta - eta_t / sigma_t * m_t. oc_prepare turns a user's options and the step
 * number into its constants, in double; a rule's kernel says which m, sigma and eta it takes. */

typedef enum {
    OC_SGD, OC_ADAGRAD, OC_RMSPROP, OC_ADAM, OC_ADADELTA, OC_ADAMAX, OC_NADAM, OC_RADAM, OC_ADEMAMIX,
    OC_RPROP, OC_LION, OC_SOPHIA, OC_ASGD, OC_SCHEDULE_FREE,
    /* layerwise rules: the first of their three stages, see below */
    OC_LAMB, OC_LARS, OC_ADAFACTOR, OC_MUON,
    /* passes between steps */
    OC_SOPHIA_HESSIAN,      /* feeds an estimate of the Hessian's diagonal */
    OC_SCHEDULE_FREE_EVAL,  /* from the point where gradients are taken to the average */
    OC_SCHEDULE_FREE_TRAIN, /* and back */
    /* last stages of the layerwise rules */
    OC_LAYER_APPLY,         /* OC_LAMB, OC_ADAFACTOR, OC_MUON */
    OC_LARS_APPLY,
    OC_N_RULES
} oc_rule;

/* Streams of a rule: x[0] the parameters (INOUT), x[1] the gradients (IN), then its state arrays (INOUT), no two
 * overlapping. State starts at zero; an entry that the options do not ask for is not read and may be NULL.
 *     OC_SGD      x[2] momentum buffer (momentum != 0)
 *     OC_ADAGRAD  x[2] sum of squares (may start at a positive value)
 *     OC_RMSPROP  x[2] mean square, x[3] momentum buffer (momentum != 0), x[4] mean (centered)
 *     OC_ADAM     x[2] first moment, x[3] second moment, x[4] maximum of the second moment (amsgrad)
 *     OC_ADADELTA x[2] mean square of the gradients, x[3] of the updates
 *     OC_ADAMAX   x[2] first moment, x[3] infinity norm
 *     OC_NADAM, OC_RADAM  x[2] first moment, x[3] second moment
 *     OC_ADEMAMIX x[2] fast mean, x[3] slow mean, x[4] second moment
 *     OC_RPROP    x[2] previous gradient, x[3] step size (set by the first step)
 *     OC_LION     x[2] momentum
 *     OC_SOPHIA   x[2] momentum, x[3] diagonal of the Hessian; OC_SOPHIA_HESSIAN: x[1] its estimate, x[3]
 *     OC_ASGD     x[2] average of the parameters
 *     OC_SCHEDULE_FREE  x[2] z (set by the first step), x[3] second moment (adaptive)
 *     OC_SCHEDULE_FREE_EVAL, OC_SCHEDULE_FREE_TRAIN  x[1] z
 *     OC_LAMB     x[2] first moment, x[3] second moment, x[4] u
 *     OC_LARS     x[4] u; OC_LARS_APPLY: x[2] momentum buffer (momentum != 0), x[4] u; x[1] is not read
 *     OC_ADAFACTOR x[2] second moment of a vector; NULL for a matrix, whose factored moment is no stream; x[4] u
 *     OC_MUON     x[2] momentum, x[4] u
 *     OC_LAYER_APPLY x[4] u; x[1] is not read
 *
 * A layerwise rule looks at a whole tensor, a layer, before it moves an element of it: theta <- theta - (decay*theta +
 * eta*factor*u). Its step has three stages:
 *     1. its kernel advances the state and writes the direction u to x[4], which is no state (theta is only read);
 *     2. over the layer: OC_ADAFACTOR divides the u of a matrix by its sigma, OC_MUON orthogonalises it; the 2-norms of
 *        theta and u (OC_MUON: none) give oc_layer_factor, and eta is multiplied by it;
 *     3. OC_LAYER_APPLY or OC_LARS_APPLY, with the coefficients of the first stage. */
#define OC_MAX_STREAMS 5
#define OC_DIRECTION 4 /* the stream of u */

typedef struct {
    double lr;            /* learning rate of this step */
    double weight_decay;
    double eps;
    double beta1, beta2;  /* OC_ADAM and its kin, OC_LION, OC_SOPHIA; OC_SCHEDULE_FREE: beta1 is its momentum */
    double alpha;         /* OC_RMSPROP; OC_ASGD: power of eta; OC_ADEMAMIX: weight of the slow mean */
    double momentum, dampening;
    double lr_decay;      /* OC_ADAGRAD */
    double clip_value;    /* clamp of each gradient; 0 for none, but what is squared is bounded */
    double rho;           /* OC_ADADELTA: weight of the past; OC_SOPHIA: scale of the Hessian */
    double beta3, beta3_warmup, alpha_warmup; /* OC_ADEMAMIX; a warm-up of 0 steps is none */
    double momentum_decay;                    /* OC_NADAM */
    double shrink, grow, step_min, step_max;  /* OC_RPROP */
    double lambd, t0;                         /* OC_ASGD */
    double warmup_steps, r, weight_lr_power;  /* OC_SCHEDULE_FREE */
    double beta2_decay;   /* OC_ADAFACTOR: power of t that the second moment takes in */
    double rms_theta, rms_u; /* OC_ADAFACTOR: least size of theta, largest of u; its eps < 0: the dtype's epsilon */
    double trust;         /* OC_LARS */
    double ns_a, ns_b, ns_c, ns_steps; /* OC_MUON: the polynomial of its iteration */
    int maximize;
    int nesterov;         /* OC_SGD, OC_LARS, OC_MUON */
    int amsgrad;          /* OC_ADAM */
    int decoupled;        /* OC_ADAM, OC_NADAM, OC_RADAM: weight decay as in AdamW */
    int centered;         /* OC_RMSPROP */
    int average;          /* OC_ADAGRAD: sigma from the mean, not the sum, of the squares */
    int warm_start;       /* OC_RMSPROP: sigma_0 = |g_0| */
    int adaptive;         /* OC_SCHEDULE_FREE: AdamW's sigma, not 1 */
    int bias_correction;  /* OC_LAMB */
    int match_rms;        /* OC_MUON: updates of the size of AdamW's */
} oc_options;

/* A moving mean x <- keep*x + add*y. `keep_rest` is what rounding `keep` to the arithmetic dtype loses, so that in
 * float32 keep + add is 1 as closely as it was in double. */
typedef struct {
    double keep, keep_rest, add;
} oc_mean;

/* How a rule looks at a gradient. Those that square it keep it where squares are finite; an infinite one counts there as
 * NaN, not as a large one, unless the user asked for clamping. OC_AS_GIVEN leaves out a grad_scale of 1, OC_WITHIN what is
 * known to change nothing. */
typedef enum { OC_SCALED, OC_AS_GIVEN, OC_WITHIN, OC_CLAMPED } oc_view;

#define OC_MAX_CARRIED 2

typedef struct {
    /* INOUT: numbers that a rule carries from step to step beside its arrays. oc_prepare reads what the last step left
     * here (at step 1 nothing) and leaves what the next one wants.
     *     OC_NADAM          the product of all momentum coefficients
     *     OC_ASGD           the next eta and the next weight of the average
     *     OC_SCHEDULE_FREE  the sum of the average's weights, the largest learning rate */
    double carried[OC_MAX_CARRIED];
    double grad_scale, clip_value, l2; /* g <- clamp(grad_scale*g, -clip_value, clip_value) + l2*theta */
    oc_mean first;                     /* m, from g */
    oc_mean second;                    /* sigma^2, from g^2 */
    oc_mean centre;                    /* OC_RMSPROP: the mean that centered subtracts */
    oc_mean slow;                      /* OC_ADEMAMIX: its second m */
    oc_mean average;                   /* OC_ASGD, OC_SCHEDULE_FREE: of the parameters */
    double sum_max;                    /* OC_ADAGRAD: where the sum of squares stops */
    double eps;                        /* sigma = sqrt(second) + eps */
    double eta;                        /* theta <- theta - (decay*theta + eta*m/sigma) */
    double eta_other;                  /* of what else m is made of; OC_SCHEDULE_FREE: of z */
    double decay;
    double decay_in_u;                 /* OC_LAMB, OC_LARS: decay that is a part of the direction */
    double shrink, grow, step_min, step_max, rho; /* OC_RPROP, OC_SOPHIA */
    oc_view view;
    int heavy, nesterov, amsgrad, centered; /* which streams are in use */
    int adaptive;                      /* OC_RADAM, OC_SCHEDULE_FREE: divide by sigma */
    int fresh;                         /* OC_RPROP, OC_SCHEDULE_FREE: the first step */
    int zero_guard;                    /* where sigma is 0, m/sigma is 0 */
    int far;                           /* memory is asked ahead for short arrays too */
} oc_coefficients;

/* The constants of step number `step` (the first is 1). `grad_scale` multiplies every gradient first (clipping by
 * norm); options->maximize changes its sign. A caller whose arrays are short, but together more than caches hold, sets
 * c->far then: results do not depend on it. */
void oc_prepare(oc_rule rule, oc_dtype dtype, const oc_options *options, int64_t step, double grad_scale,
                oc_coefficients *c);

/* Tells c that no gradient is larger than `largest` before it is scaled, as their norm shows: kernels then look for neither
 * a bound nor infinity where none can be met. */
void oc_gradients_within(double largest, oc_coefficients *c);

typedef void oc_update_fn(ptrdiff_t n, void *const *x, const oc_coefficients *c);

/* A layer of n > 0 elements as oc_layer_factor sees it: OC_LAMB, OC_LARS, OC_ADAFACTOR look at the norms, OC_MUON at the
 * sides. */
typedef struct {
    ptrdiff_t n, rows, columns;
    double norm_theta, norm_u;
} oc_layer;

double oc_layer_factor(oc_rule rule, const oc_options *options, const oc_layer *layer);

/* What a matrix needs in the second stage. A second moment v[rows][columns] is held as the means of its rows and of its
 * columns: v_ij = row_i * column_j / max(mean of the rows, eps).
 *     column_squares the sum of x^2 of each column, in double
 *     mean_squares   v <- the moving mean c->second of sums/count, where v is a row or column factor; returns its sum
 *     divide_factored u_ij <- u_ij / max(sqrt(v_ij), eps); a range of rows
 *     divide         x <- x / by, in double */
typedef struct {
    void (*column_squares)(ptrdiff_t rows, ptrdiff_t columns, const void *x, double *sums);
    double (*mean_squares)(ptrdiff_t n, const double *sums, double count, const oc_coefficients *c, void *v);
    void (*divide_factored)(ptrdiff_t rows, ptrdiff_t columns, const void *row, const void *column, double mean,
                            double eps, void *u);
    void (*divide)(ptrdiff_t n, double by, void *x);
} oc_layer_kernels;

/* ----------------------------------------------------------------------------------------------------- storage
 * Arrays of a rule kept otherwise than it computes with them: block by block they are loaded, updated by the same
 * kernel, and stored, in one pass over memory. */

typedef enum {
    OC_AS_F32, OC_AS_F64,
    OC_AS_BF16, OC_AS_F16,  /* uint16_t */
    OC_AS_SIGNED_CODES,     /* uint8_t, and a scale, a float power of two or 0, for each OC_STATE_BLOCK: see storage.h */
    OC_AS_UNSIGNED_CODES,   /* of what is never negative */
    OC_N_STORAGES
} oc_storage;

typedef enum {
    OC_ROUND_NEAREST,       /* ties to even; codes are rounded at random always */
    OC_ROUND_RANDOM,        /* OC_AS_BF16: up or down, on average right */
    OC_ROUND_PAIR           /* a second array, extra, holds what rounding lost */
} oc_rounding;

#define OC_STATE_BLOCK 256

typedef struct {
    void *data;             /* NULL: no such array */
    void *extra;            /* the scales of codes, the second array of a pair */
    oc_storage storage;
    oc_rounding rounding;
} oc_array;

/* Mixes that have update kernels of their own, for float32 arithmetic: with the bits of oc_staged_fn, and faster, for
 * memory and arithmetic overlap. An array of OC_AS_BF16 among x of oc_update_fn is a uint16_t *. */
typedef enum {
    OC_BF16_STATES,         /* parameters and gradients of float32 */
    OC_ALL_BF16,
    OC_N_MIXES
} oc_mix;

typedef struct {
    oc_array x[OC_MAX_STREAMS];  /* the streams of the rule */
    oc_array average;            /* INOUT: a moving average of the parameters, average <- mean of it and them */
    oc_array copy;               /* OUT: the new parameters once more */
    oc_mean mean;
    uint64_t key;                /* of the random numbers: another one for each step and array */
} oc_staged;

/* Elements [begin, begin + n) of the arrays, begin a multiple of OC_STATE_BLOCK; computed in the dtype that the function
 * was looked up for. The same bits however the range is cut. */
typedef void oc_staged_fn(oc_rule rule, ptrdiff_t begin, ptrdiff_t n, const oc_staged *s, const oc_coefficients *c);

/* The n elements from `at` on, at most OC_STAGE bytes of the dtype; `at` a multiple of OC_STATE_BLOCK for codes. */
#define OC_STAGE 2048
typedef void oc_load_fn(ptrdiff_t at, ptrdiff_t n, const oc_array *a, void *to);
typedef void oc_store_fn(ptrdiff_t at, ptrdiff_t n, const oc_array *a, uint64_t key, int stream, const void *from);

/* -------------------------------------------------------------------------------------------------- reductions
 * Partial results of one block, in double, from 16 fixed lanes and a fixed tree. A caller that cuts an array into
 * blocks of OC_BLOCK elements and combines the partials with oc_tree_sum has the same bits for any number of threads. */

#define OC_BLOCK 8192

/* Bytes of a cache line, and of the widest vector. */
#define OC_LINE 64

typedef struct {
    double (*sum_squares)(ptrdiff_t n, const void *x, double scale); /* of scale*x; scale a power of two */
    double (*dot)(ptrdiff_t n, const void *x, const void *y);
    double (*abs_max)(ptrdiff_t n, const void *x);                   /* NaN if any is NaN */
    ptrdiff_t (*count_nonfinite)(ptrdiff_t n, const void *x);
    /* Of m rows, which begin `stride` elements apart: dot of each with y, with the bits of dot, to result[i*step]; and
     * y -= factor[i]*row[i] one after the other, which is no reduction. */
    void (*dots)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const void *rows, const void *y, ptrdiff_t step,
                 double *result);
    void (*subtract)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const double *factor, const void *rows, void *y);
    /* Both in one reading of the rows, up to four at a time: from each of 2 + fresh vectors, which begin `stride` elements apart
     * too, vector[v] -= factor[v*m + i]*row[i]; then the dot of each row with what the last `fresh`, 1 or 2 of them, are
     * by now, to result[(v*m + i)*step]. */
    void (*sweep)(ptrdiff_t n, ptrdiff_t m, ptrdiff_t stride, const void *rows, int fresh, const double *factor,
                  void *vectors, ptrdiff_t step, double *result);
} oc_reduce_kernels;

/* The penalty of a block of weights, the sum of l1*|w| + l2*w^2/2, in double; its gradient, in which |w| has slope 0 at 0, is
 * added to g unless that is NULL. */
typedef double oc_penalty_fn(ptrdiff_t n, double l1, double l2, const void *w, void *g);

/* Pairwise sum, in place; 0 for n = 0. */
double oc_tree_sum(ptrdiff_t n, double *x);

/* The sum of each column of x[rows][columns], in double. */
typedef void oc_column_sums_fn(ptrdiff_t rows, ptrdiff_t columns, const void *x, double *sums);

/* out[columns][rows] = x[rows][columns] transposed. */
typedef void oc_turn_fn(ptrdiff_t rows, ptrdiff_t columns, const void *x, void *out);

/* Matrix products of few rows, k > 0: out[m][ldo] = a b, or that added to it, of b[k][ldb] and a, whose rows and terms are so
 * many elements apart; and a b^T of a[m][lda] and b[n][ldb]. */
typedef void oc_thin_fn(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t row, ptrdiff_t term, const void *b,
                        ptrdiff_t ldb, int add, void *out, ptrdiff_t ldo);
typedef void oc_thin_dots_fn(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t lda, const void *b,
                             ptrdiff_t ldb, int add, void *out, ptrdiff_t ldo);

/* ------------------------------------------------------------------------------------------------ normalization
 * A block of x is `outer` runs of `inner` contiguous elements, `stride` elements apart. In the form OC_SEGMENTS all of it
 * belongs to one channel (channels first); in OC_ROWS element i of every run belongs to channel i (channels last, one
 * value of every constant for each i).
 *
 * moments: (mean, rest, m2) of each channel, three rows of `inner` values (OC_ROWS) or three values: the mean is
 * mean + rest, m2 the sum of the squared deviations from it. Two-pass: keep a block in cache. Moments of two blocks are
 * joined with oc_kernels.merge_moments, always in the same order if the bits are to be the same.
 * sums: the sum of u, then of u*(v - mean), likewise two rows or two values; joined with oc_kernels.add_sums.
 * gated_sums: the same of d, which is u where ReLU lets a gradient pass, else 0. The output of the ReLU is `gate`, and d
 * is written to `kept`, unless that is NULL; it lies as u does and overlaps nothing. With `gate` NULL the output is made
 * again from v, with rows 0, 6 and 7 of `coef`, as combine_self_gated does.
 * `how` changes no bit: with OC_FROM_MEMORY rows and runs are asked for ahead. */
typedef enum { OC_SEGMENTS, OC_ROWS, OC_N_FORMS } oc_form;

/* Beside the arithmetic dtypes norms have kernels for arrays of bfloat16 (uint16_t), rounded to nearest: those of OC_F32, bit
 * for bit, between a load and a store that convert. Their constants are float. */
enum { OC_BF16 = OC_N_DTYPES, OC_N_NORM_DTYPES };

typedef void oc_moments_fn(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *x, double *moments, int how);
typedef void oc_sums_fn(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *u, const void *v,
                        const double *mean, double *sums, int how);
typedef void oc_gated_sums_fn(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *u, const void *v,
                              const void *gate, const void *coef, ptrdiff_t ld, const double *mean, double *sums,
                              void *kept, int how);

/* a <- a joined with b: moments of na and nb values for each of `channels` channels, rows lda and ldb apart. */
typedef void oc_merge_fn(ptrdiff_t channels, double na, double *a, ptrdiff_t lda, double nb, const double *b,
                         ptrdiff_t ldb);

/* a <- a + b. */
typedef void oc_add_fn(ptrdiff_t n, double *a, const double *b);

/* What batch norm makes of each channel's moments, and of the sums of u = dy and u*(x - mean), over `count` values: rows are
 * `ld` apart. high, scale and shift are what `normalise` takes, `constants` the six rows of `combine`, as double; `narrow`: to
 * be kept as float. */
typedef void oc_standardise_fn(ptrdiff_t channels, double count, double eps, const double *moments, ptrdiff_t ld,
                               double *mean, double *rest, double *m2, double *var, double *inv_std);
typedef void oc_forward_constants_fn(ptrdiff_t channels, int narrow, const double *mean, const double *rest,
                                     const double *inv_std, const double *weight, const double *bias, double *high,
                                     double *scale, double *shift);
typedef void oc_backward_constants_fn(ptrdiff_t channels, int narrow, double count, const double *mean,
                                      const double *rest, const double *inv_std, const double *weight,
                                      const double *sums, double *dweight, double *dbias, double *constants,
                                      ptrdiff_t ld);

/* y from the arrays `in`, which share the block's layout and do not overlap y. Row k of the constants `coef` (of the
 * arithmetic dtype) begins at coef[k*ld]. in[0] is x; high is the mean as the dtype holds it.
 *     normalise   y = (x - high)*scale + bias            coef: high, scale, bias
 *     normalise_relu, normalise_add, normalise_add_relu   in[1] is added; then max(y, 0)
 *     normalise_gated   of x where ReLU, whose output is in[1], lets a gradient pass, of 0 elsewhere
 *     combine     y = a*(in[1] - m) + (b*((x - high)*scale) + c)
 *                                                        coef: high, scale, b, c, a, m
 *     combine_gated     in[1] passes only where ReLU, whose output is in[2], lets it
 *     combine_self_gated   or whose output is max((x - high)*scale6 + bias7, 0)        coef: ..., scale6, bias7
 *     combine3    the same + a2*(in[2] - m2) + a3*((in[3] - m3)*scale)           coef: ..., a2, m2, a3, m3
 * `how` is 0 or the sum of
 *     OC_PAST_CACHES   y is too large to be found in cache by who reads it next
 *     OC_WRAPPED       inner == stride, and each row of constants goes on with those of the first cache line of x; so a
 *                      run of OC_ROWS and the next one are one run of cache lines
 *     OC_WIDENED       for OC_BF16: `in` and y are float, as the constants are; alone
 *     OC_FROM_MEMORY   what is read is not in cache either
 * and changes no bit. Rows of constants are read fastest where they lie to the cache lines as y does. */
enum { OC_PAST_CACHES = 1, OC_WRAPPED = 2, OC_WIDENED = 4, OC_FROM_MEMORY = 8 };
typedef void oc_channel_fn(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *const *in,
                           const void *coef, ptrdiff_t ld, void *y, int how);

/* The power of 2 by which float32 values are multiplied first, which is exact, where `factor` would lose digits or overflow
 * as a float: a weight of 1e-15 over a deviation of 1e30. Divided by the power it does not, unless every result does. 1 where the
 * factor is safe, 0, infinite or NaN. Where the values have a mean subtracted their 1/deviation is `inv_std`, else 1: beside
 * deviations of 2^100 the difference might overflow, and is halved. */
static inline double oc_power_of(double factor, double inv_std) {
    const int safe = 100, largest = 126;
    const double f = fabs(factor), halved = inv_std > 0 && inv_std < 0x1p-100 ? 0.5 : 1;
    if ((f >= 0x1p-100 && f <= 0x1p100) || !(f > 0 && f < INFINITY))
        return halved;
    int e = ilogb(f);
    e = e < 0 ? e + safe : e - safe + 1;
    e = e < -largest ? -largest : e > largest ? largest : e;
    return ldexp(1, e);
}

/* Whether that power is 1 for all of these, with inv_std among them: 1 says so for certain. By the exponents, whose biased
 * form is 923 for 2^-100, in 32 bits: baseline vectors compare no 64. */
static inline int oc_all_safe(ptrdiff_t n, const double *factor) {
    uint32_t unsafe = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, factor + i, sizeof bits);
        const uint32_t high = (uint32_t)(bits >> 31); /* the exponent at bit 21; the sign is cut off */
        unsafe |= (high - (923u << 21) >= 200u << 21) & (high != 0);
    }
    return !unsafe;
}

/* Such a kernel, applied to `inputs` inputs that are multiplied first, in[k] by row `rows` + k of the constants. */
#define OC_MAX_INPUTS 4
typedef void oc_scaled_fn(oc_channel_fn *apply, int inputs, int rows, ptrdiff_t outer, ptrdiff_t inner,
                          ptrdiff_t stride, const void *const *in, const void *coef, ptrdiff_t ld, void *y);

typedef struct {
    oc_moments_fn *moments[OC_N_FORMS];
    oc_sums_fn *sums[OC_N_FORMS];
    oc_gated_sums_fn *gated_sums[OC_N_FORMS];
    oc_channel_fn *normalise[OC_N_FORMS], *normalise_relu[OC_N_FORMS], *normalise_add[OC_N_FORMS];
    oc_channel_fn *normalise_add_relu[OC_N_FORMS], *normalise_gated[OC_N_FORMS];
    oc_channel_fn *combine[OC_N_FORMS], *combine_gated[OC_N_FORMS], *combine_self_gated[OC_N_FORMS];
    oc_channel_fn *combine3[OC_N_FORMS];
    oc_scaled_fn *scaled[OC_N_FORMS];
} oc_norm_kernels;

/* Rows that are normalised by their own statistics: layer norm; RMS norm, which subtracts no mean (centred = 0: mean is 0,
 * 1/inv_std^2 is the mean square + eps). With x_hat = (x - mean)*inv_std:
 *     forward       out = weight*x_hat + bias; writes the statistics
 *     backward      out = dx; dweight, dbias the sums of dy*x_hat and dy over the rows
 *     jvp           out = the derivative of y along (rx, rweight, rbias); writes rmean, rinv_std
 *     backward_jvp  out = that of dx along (rdy, rx, rweight); dweight, dbias those of the sums
 * Row r begins at r*stride of each array of x's dtype; its statistics are at r*every. What a kernel does not name is not
 * read and may be NULL. No array overlaps `out`. */
typedef struct {
    ptrdiff_t rows, columns, stride, every;
    int centred, past_caches; /* past_caches: as in oc_channel_fn */
    double eps;
    const void *x, *dy, *rx, *rdy;
    const void *weight, *bias, *rweight, *rbias; /* [columns], of the arithmetic dtype */
    void *out;
    double *mean, *rest, *inv_std; /* the mean is mean + rest */
    double *rmean, *rinv_std;
    double *dweight, *dbias; /* [columns] */
} oc_rows;

typedef void oc_rows_fn(const oc_rows *p);

/* From so many columns on a row is taken line by line of the output, where all rows lie to the lines alike. */
#define OC_SHORT 128

typedef struct {
    /* Of n contiguous values: (mean, rest, m2) as in oc_moments_fn; the sum of u, then of u*(v - mean). */
    void (*moments)(ptrdiff_t n, const void *x, double *moments);
    void (*sums)(ptrdiff_t n, const void *u, const void *v, double mean, double *sums);
    oc_rows_fn *forward, *backward, *jvp, *backward_jvp;
} oc_row_norm_kernels;

/* ------------------------------------------------------------------------------------------------- activations
 * y = f(x) element by element; the derivatives are taken from `of`: from the output y, but for GELU and SiLU, which are not
 * monotonic, from the input x. An output may be the same array as any of the inputs, but not overlap one otherwise.
 * `alpha` is ELU's and ignored by the others. */

typedef enum {
    OC_RELU, OC_ELU, OC_SIGMOID, OC_TANH, /* of y */
    OC_GELU, OC_GELU_TANH, OC_SILU,       /* of x */
    OC_N_ACTIVATIONS
} oc_activation;

typedef struct {
    void (*forward)(ptrdiff_t n, const void *x, double alpha, void *y);
    void (*backward)(ptrdiff_t n, const void *dy, const void *of, double alpha, void *dx); /* dx = f' dy */
    /* R-operator of backward: rdx = f' rdy + f'' rx dy */
    void (*backward_r)(ptrdiff_t n, const void *dy, const void *rdy, const void *of, const void *rx, double alpha,
                       void *rdx);
} oc_activation_kernels;

/* ------------------------------------------------------------------------------------------------------ losses
 * z, p, dz, ...: [rows, classes], row by row; a row's result does not depend on the other rows. Write m for a row's
 * maximum and r for the sum of e^(z_j - m) over all classes but one that has z_j = m, so that
 * log sum_j e^z_j = m + log1p(r): right even where one class is so far ahead that 1 + r rounds to 1.
 * An output may be the same array as any of the inputs but a q, and not overlap one otherwise. */

typedef struct {
    void (*softmax)(ptrdiff_t rows, ptrdiff_t classes, const void *z, void *p);
    void (*log_softmax)(ptrdiff_t rows, ptrdiff_t classes, const void *z, void *log_p);
    /* loss[i] = -log p_t for the class t = target[i], 0 <= t < classes; dz = scale*(p - onehot(t)), where dz_t is minus
     * the sum of the row's others. dz may be NULL: not wanted. */
    void (*cross_entropy)(ptrdiff_t rows, ptrdiff_t classes, const void *z, const int64_t *target, double scale,
                          double *loss, void *dz);
    /* The same for rows of weights q: loss[i] = -sum_j q_j log p_j, with 0 log 0 = 0; dz = scale*(p*sum(q) - q). */
    void (*cross_entropy_soft)(ptrdiff_t rows, ptrdiff_t classes, const void *z, const void *q, double scale,
                               double *loss, void *dz);
    /* R-operator of dz, sum(q) = 1: rdz = scale * p*(rz - sum_j p_j rz_j). */
    void (*cross_entropy_r)(ptrdiff_t rows, ptrdiff_t classes, const void *p, const void *rz, double scale, void *rdz);
    /* Returns the sum of (y - target)^2 over one block, summed as in the reductions; dy = scale*(y - target), or NULL. */
    double (*mse)(ptrdiff_t n, const void *y, const void *target, double scale, void *dy);
    /* The same of d^2/2 where |d| = |y - target| <= delta, else of delta (|d| - delta/2). */
    double (*huber)(ptrdiff_t n, const void *y, const void *target, double delta, double scale, void *dy);
    /* The same of w (-t log s(z) - (1 - t) log s(-z)), s the logistic function, t the target; weight may be NULL: ones. */
    double (*bce)(ptrdiff_t n, const void *z, const void *target, const void *weight, double scale, void *dz);
} oc_loss_kernels;

/* --------------------------------------------------------------------------------------- convolutions and pools
 * The windows of one image x[channels][height][width], the last index the fastest, with `pad` rows and columns of zeros
 * around it: window (r, o) begins at row r*stride_h - pad_h, column o*stride_w - pad_w, and there are out_h x out_w of
 * them; a pool's have each at least one element of x.
 *     windows_to_columns  columns[channels][kernel_h][kernel_w][rows][out_w]: each element of the windows of the output
 *                         rows [row, row + rows), so that a convolution is a matrix product
 *     add_columns         the transposed map: adds each entry of columns to the element of x that it came from
 *     add_plane_sums      sums[p] += the sum of x[p][n], from fixed lanes
 *     max_pool            the largest element of each window, the first of equals, NaN above all; argmax is its place in
 *                         its channel, height*width <= INT32_MAX. Padding is never the largest
 *     max_pool_backward   dx <- 0, then each dy is added at its argmax
 *     max_pool_r          ry <- rx at argmax
 *     average_pool        the mean of each window, padding included; average_pool_backward its transposed map, dx <- it
 * No output overlaps an input. */
typedef struct {
    ptrdiff_t channels, height, width;
    ptrdiff_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    ptrdiff_t out_h, out_w;
} oc_window;

typedef struct {
    void (*windows_to_columns)(const oc_window *w, ptrdiff_t row, ptrdiff_t rows, const void *x, void *columns);
    void (*add_columns)(const oc_window *w, ptrdiff_t row, ptrdiff_t rows, const void *columns, void *x);
    void (*add_plane_sums)(ptrdiff_t planes, ptrdiff_t n, const void *x, double *sums);
    void (*max_pool)(const oc_window *w, const void *x, void *y, int32_t *argmax);
    void (*max_pool_backward)(const oc_window *w, const void *dy, const int32_t *argmax, void *dx);
    void (*max_pool_r)(const oc_window *w, const void *rx, const int32_t *argmax, void *ry);
    void (*average_pool)(const oc_window *w, const void *x, void *y);
    void (*average_pool_backward)(const oc_window *w, const void *dy, void *dx);
} oc_window_kernels;

/* y_i = x_i*scale, or 0 where 24 random bits, a function of the key and of i, are below `drop`; for the elements
 * [at, at + n), x and y pointing to the first of them. y may be x. The same bits however the range is cut. */
typedef void oc_dropout_fn(ptrdiff_t at, ptrdiff_t n, uint64_t key, int32_t drop, double scale, const void *x, void *y);

/* ---------------------------------------------------------------------------------------------- kernel tables */

typedef struct {
    oc_level level;
    oc_update_fn *update[OC_N_RULES][OC_N_DTYPES];
    oc_update_fn *mixed[OC_N_MIXES][OC_N_RULES];    /* NULL for a layerwise rule */
    oc_layer_kernels layer[OC_N_DTYPES];
    oc_staged_fn *staged[OC_N_DTYPES];
    oc_load_fn *load[OC_N_DTYPES];
    oc_store_fn *store[OC_N_DTYPES];
    oc_reduce_kernels reduce[OC_N_DTYPES];
    oc_column_sums_fn *column_sums[OC_N_DTYPES];
    oc_turn_fn *turn[OC_N_DTYPES];
    oc_thin_fn *thin[OC_N_DTYPES];
    oc_thin_dots_fn *thin_dots[OC_N_DTYPES];
    oc_norm_kernels norm[OC_N_NORM_DTYPES];
    oc_row_norm_kernels row_norm[OC_N_NORM_DTYPES];
    oc_merge_fn *merge_moments;
    oc_add_fn *add_sums;
    oc_standardise_fn *standardise;
    oc_forward_constants_fn *forward_constants;
    oc_backward_constants_fn *backward_constants;
    oc_activation_kernels activation[OC_N_ACTIVATIONS][OC_N_DTYPES];
    oc_loss_kernels loss[OC_N_DTYPES];
    oc_window_kernels window[OC_N_DTYPES];
    oc_dropout_fn *dropout[OC_N_DTYPES];
    oc_penalty_fn *penalty[OC_N_DTYPES];
} oc_kernels;

int oc_abi_version(void);
const char *oc_level_name(oc_level level);          /* "baseline", "v3", "v4" */
const oc_kernels *oc_kernels_at(oc_level level);    /* NULL where the build or the CPU lacks the level */
const oc_kernels *oc_kernels_best(void);            /* both ask the CPU at each call: keep the pointer */

#ifdef __cplusplus
#undef restrict
}
#endif
#endif
