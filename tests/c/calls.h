/* calls.h: how each kernel of optcore.h is called with the arrays of a row of `table`. */
#include "optcore.h"

#include <stddef.h>
#include <string.h>

/* What a kernel does with an array, and what values the array is filled with. IN to INOUT_POSITIVE have the dtype of the
 * kernel, CONSTANTS the one that it computes with, FLOATS are float and positive, HALVES 16 bits of either format that are
 * finite, CODES any 8 bits. */
typedef enum {
    ABSENT, IN, OUT, INOUT, INOUT_POSITIVE, CLASSES, CONSTANTS_IN, CONSTANTS_INOUT, DOUBLE_IN, DOUBLE_OUT, DOUBLE_INOUT,
    FLOATS_IN, FLOATS_INOUT, HALVES_IN, HALVES_INOUT, CODES_IN, CODES_INOUT
} kind;

/* How long it is, for n units (elements or rows) of `width` elements: times * one of these. */
typedef enum { EACH, UNIT, WIDTH, ONE, STRIDED, BLOCKS /* of OC_STATE_BLOCK units */ } length;

typedef struct {
    kind kind;
    length length;
    int times;
} array;

#define MAX_ARRAYS 9
#define GAP 3 /* between the runs of a strided array */

typedef struct test test;
typedef void call_fn(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a);

struct test {
    const char *name;
    call_fn *call;
    enum { ELEMENTS, ROWS, RUNS /* of norms */ } shapes;
    int splits; /* the kernel on [0, n) is the kernel on [0, c) and on [c, n) */
    int which;  /* rule, activation, form, ... */
    const oc_options *options;
    array arrays[MAX_ARRAYS];
};

/* ------------------------------------------------------------------------------------------------- update rules */

static void update_at(int step, const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, void **a) {
    oc_coefficients c = {.carried = {0.5, 0.25}};
    oc_prepare((oc_rule)t->which, d, t->options, step, 0.5, &c);
    c.far = n % 2; /* parts of an array and the whole have different ones */
    k->update[t->which][d](n, a, &c);
}

static void call_update(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    update_at(3, t, k, d, n, a);
}

static void call_first(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    update_at(1, t, k, d, n, a);
}

static void call_late(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    update_at(100, t, k, d, n, a);
}

/* Nothing is clipped. Of an odd number of gradients it is known that none is beyond 64, as no value is. */
static void call_within(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    oc_options options = *t->options;
    oc_coefficients c = {.carried = {0.5, 0.25}};
    (void)width;
    options.clip_value = 0;
    oc_prepare((oc_rule)t->which, d, &options, 3, 0.5, &c);
    if (n % 2)
        oc_gradients_within(64, &c);
    k->update[t->which][d](n, a, &c);
}

#define COMMON .lr = 0.1, .eps = 1e-3, .weight_decay = 0.01, .clip_value = 2
static const oc_options plain = {COMMON};
static const oc_options momentum = {COMMON, .momentum = 0.9, .dampening = 0.1};
static const oc_options nesterov = {COMMON, .momentum = 0.9, .nesterov = 1};
static const oc_options averaged = {COMMON, .average = 1};
static const oc_options rms = {COMMON, .alpha = 0.9};
static const oc_options rms_warm = {COMMON, .alpha = 0.9, .warm_start = 1};
static const oc_options rms_heavy = {COMMON, .alpha = 0.9, .momentum = 0.9};
static const oc_options rms_centered = {COMMON, .alpha = 0.9, .centered = 1};
static const oc_options rms_all = {COMMON, .alpha = 0.9, .centered = 1, .momentum = 0.9, .warm_start = 1};
static const oc_options adam = {COMMON, .beta1 = 0.9, .beta2 = 0.99, .maximize = 1};
static const oc_options adamw = {COMMON, .beta1 = 0.9, .beta2 = 0.99, .decoupled = 1};
static const oc_options adadelta = {COMMON, .rho = 0.9};
static const oc_options ademamix = {COMMON, .beta1 = 0.9, .beta2 = 0.99, .beta3 = 0.999, .alpha = 2, .beta3_warmup = 9};
static const oc_options rprop = {COMMON, .shrink = 0.5, .grow = 1.2, .step_min = 1e-6, .step_max = 50};
static const oc_options sophia = {COMMON, .beta1 = 0.9, .beta2 = 0.99, .rho = 0.5};
static const oc_options asgd = {COMMON, .lambd = 0.01, .alpha = 0.75};
static const oc_options free_sgd = {COMMON, .beta1 = 0.9, .weight_lr_power = 2, .warmup_steps = 9};
static const oc_options free_adamw = {COMMON, .beta1 = 0.9, .beta2 = 0.99, .weight_lr_power = 2, .adaptive = 1};
static const oc_options lamb = {COMMON, .beta1 = 0.9, .beta2 = 0.99, .bias_correction = 1};
static const oc_options adafactor = {COMMON, .beta2_decay = -0.8, .rms_theta = 1e-3, .rms_u = 1};
static const oc_options amsgrad = {COMMON, .beta1 = 0.9, .beta2 = 0.99, .amsgrad = 1};
/* Betas below 1/2, whose means take another form. */
static const oc_options brief = {COMMON, .beta1 = 0.3, .beta2 = 0.4, .decoupled = 1};
static const oc_options brief_slow = {COMMON, .beta1 = 0.3, .beta2 = 0.4, .beta3 = 0.45, .alpha = 2};
static const oc_options brief_rms = {COMMON, .alpha = 0.3};

/* ------------------------------------------------------------------------------------------- layers of these rules */

static void call_column_squares(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                void **a) {
    (void)t;
    k->layer[d].column_squares(n, width, a[0], a[1]);
}

static void call_mean_squares(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    oc_coefficients c;
    oc_prepare(OC_ADAFACTOR, d, t->options, 3, 1, &c);
    *(double *)a[2] = k->layer[d].mean_squares(n, a[0], 7, &c, a[1]);
}

static void call_divide_factored(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                 void **a) {
    (void)t;
    k->layer[d].divide_factored(n, width, a[0], a[1], 3.5, 1e-3, a[2]);
}

static void call_divide(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    k->layer[d].divide(n, 3.5, a[0]);
}

/* ------------------------------------------------------------------------------------------------------- storage */

/* A storage and a rounding in one number. */
#define KEPT(storage, rounding) (OC_AS_##storage + OC_N_STORAGES * OC_ROUND_##rounding)

static oc_array kept(int how, void *data, void *extra) {
    return (oc_array){data, extra, (oc_storage)(how % OC_N_STORAGES), (oc_rounding)(how / OC_N_STORAGES)};
}

/* load and store take at most a stage at once. */
#define OVER_STAGES(d, n, ...)                                                                                        \
    do {                                                                                                              \
        const ptrdiff_t size = (d) == OC_F32 ? sizeof(float) : sizeof(double), stage = OC_STAGE / size;               \
        for (ptrdiff_t at = 0; at < (n); at += stage) {                                                               \
            const ptrdiff_t m = (n) - at < stage ? (n) - at : stage;                                                  \
            __VA_ARGS__;                                                                                              \
        }                                                                                                             \
    } while (0)

static void call_load(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    const oc_array x = kept(t->which, a[0], a[1]);
    OVER_STAGES(d, n, k->load[d](at, m, &x, (char *)a[2] + at * size));
}

static void call_store(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    const oc_array x = kept(t->which, a[0], a[1]);
    OVER_STAGES(d, n, k->store[d](at, m, &x, 12345, 2, (const char *)a[2] + at * size));
}

/* AdamW: theta and its other part, the gradient, m and v and the scales of each, what follows theta. */
static const struct {
    int theta, gradient, m, v, average, copy;
} stages[] = {
    {KEPT(BF16, NEAREST), KEPT(BF16, NEAREST), KEPT(BF16, NEAREST), KEPT(F16, NEAREST), KEPT(F32, NEAREST),
     KEPT(F16, NEAREST)},
    {KEPT(BF16, RANDOM), KEPT(F16, NEAREST), KEPT(SIGNED_CODES, NEAREST), KEPT(UNSIGNED_CODES, NEAREST),
     KEPT(F32, NEAREST), KEPT(BF16, RANDOM)},
    {KEPT(F16, PAIR), KEPT(F64, NEAREST), KEPT(F32, NEAREST), KEPT(F32, NEAREST), KEPT(F32, NEAREST),
     KEPT(F64, NEAREST)},
};

/* `which` is the rule + the mix*OC_N_RULES; float32 arithmetic alone. */
static void call_mixed(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const int rule = t->which % OC_N_RULES;
    oc_coefficients c = {.carried = {0.5, 0.25}};
    (void)width;
    if (d != OC_F32)
        return;
    oc_prepare((oc_rule)rule, OC_F32, t->options, 100, 0.5, &c);
    c.far = n % 2;
    k->mixed[t->which / OC_N_RULES][rule](n, a, &c);
}

static void call_staged(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    oc_coefficients c = {.carried = {0}};
    oc_prepare(OC_ADAM, d, t->options, 3, 0.5, &c);
    c.far = n % 2;
    const oc_staged s = {
        .x = {kept(stages[t->which].theta, a[0], a[1]), kept(stages[t->which].gradient, a[2], NULL),
              kept(stages[t->which].m, a[3], a[4]), kept(stages[t->which].v, a[5], a[6])},
        .average = kept(stages[t->which].average, a[7], NULL),
        .copy = kept(stages[t->which].copy, a[8], NULL),
        .mean = {0.9, 0, 0.1},
        .key = 12345,
    };
    k->staged[d](OC_ADAM, 0, n, &s, &c);
}

/* ---------------------------------------------------------------------------------------------------- reductions */

static void call_sum_squares(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[1] = k->reduce[d].sum_squares(n, a[0], 0.5);
}

static void call_dot(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[2] = k->reduce[d].dot(n, a[0], a[1]);
}

static void call_penalty(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[2] = k->penalty[d](n, 0.25, 0.5, a[0], a[1]) + k->penalty[d](n, 0.25, 0.5, a[0], NULL);
}

static void call_abs_max(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[1] = k->reduce[d].abs_max(n, a[0]);
}

static void call_count(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[1] = (double)k->reduce[d].count_nonfinite(n, a[0]);
}

static void call_dots(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->reduce[d].dots(width, n, width, a[0], a[1], 1, a[2]);
}

static void call_subtract(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->reduce[d].subtract(width, n, width, a[0], a[1], a[2]);
}

static void call_sweep(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    k->reduce[d].sweep(width, n, width, a[0], t->which, a[1], a[2], 1, a[3]);
}

static void call_column_sums(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->column_sums[d](n, width, a[0], a[1]);
}

static void call_turn(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->turn[d](n, width, a[0], a[1]);
}

static void call_thin(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const ptrdiff_t rows = n < width ? n : width, m = rows < 17 ? rows : 17, terms = (n + 1) / 2;
    k->thin[d](m, width, terms, a[0], 1, width, a[1], 2 * width, 0, a[2], width);
    k->thin[d](m, width, terms, a[0], 1, width, a[1], 2 * width, t->which, a[2], width);
    k->thin[d](m, width, terms < width ? terms : width, a[0], width, 1, a[1], 2 * width, t->which, a[2], width);
}

static void call_thin_dots(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const ptrdiff_t rows = n < width ? n : width, m = rows < 9 ? rows : 9;
    (void)t;
    k->thin_dots[d](m, rows, width, a[0], width, a[1], width, 0, a[2], width);
    k->thin_dots[d](m, rows, width, a[0], width, a[1], width, 1, a[2], width);
}

static void call_mse(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[2] = k->loss[d].mse(n, a[0], a[1], 0.5, a[3]);
}

static void call_huber(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[2] = k->loss[d].huber(n, a[0], a[1], 0.7, 0.5, a[3]);
}

static void call_bce(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    *(double *)a[3] = k->loss[d].bce(n, a[0], a[1], a[2], 0.5, a[4]);
}

/* --------------------------------------------------------------------------------------------------- activations */

static void call_forward(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    k->activation[t->which][d].forward(n, a[0], 0.7, a[1]);
}

static void call_backward(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    k->activation[t->which][d].backward(n, a[0], a[1], 0.7, a[2]);
}

static void call_backward_r(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    k->activation[t->which][d].backward_r(n, a[0], a[1], a[2], a[3], 0.7, a[4]);
}

/* -------------------------------------------------------------------------------------------------------- losses */

static void call_softmax(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->loss[d].softmax(n, width, a[0], a[1]);
}

static void call_log_softmax(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->loss[d].log_softmax(n, width, a[0], a[1]);
}

static void call_entropy(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->loss[d].cross_entropy(n, width, a[0], a[1], 0.5, a[2], a[3]);
}

static void call_entropy_soft(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->loss[d].cross_entropy_soft(n, width, a[0], a[1], 0.5, a[2], a[3]);
}

static void call_entropy_r(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->loss[d].cross_entropy_r(n, width, a[0], a[1], 0.5, a[2]);
}

/* ------------------------------------------------------------------------------------------------- normalization */

static void call_moments(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    k->norm[d].moments[t->which](n, width, width + GAP, a[0], a[1], OC_FROM_MEMORY);
}

static void call_sums(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    k->norm[d].sums[t->which](n, width, width + GAP, a[0], a[1], a[2], a[3], OC_FROM_MEMORY);
}

static void call_gated_sums(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    k->norm[d].gated_sums[t->which](n, width, width + GAP, a[0], a[1], a[2], NULL, 0, a[3], a[4], a[5],
                                    OC_FROM_MEMORY);
}

static void call_self_gated_sums(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                 void **a) {
    const ptrdiff_t ld = t->which == OC_ROWS ? width : 1;
    k->norm[d].gated_sums[t->which](n, width, width + GAP, a[0], a[1], NULL, a[2], ld, a[3], a[4], NULL,
                                    OC_FROM_MEMORY);
}

static void call_add(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)d, (void)width;
    memcpy(a[1], a[2], (size_t)n * sizeof(double));
    k->add_sums(n, a[1], a[0]);
}

static void call_merge(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)d, (void)width;
    for (ptrdiff_t i = 0; i < 3 * n; i++)
        ((double *)a[1])[i] = ((double *)a[2])[i];
    k->merge_moments(n, 3, a[1], n, 5, a[0], n);
}

static void call_standardise(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)d, (void)width;
    k->standardise(n, 3, 100, a[0], n, a[1], a[2], a[3], a[4], a[5]);
}

static void call_forward_constants(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                   void **a) {
    (void)t, (void)width;
    k->forward_constants(n, d == OC_F32, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
}

static void call_backward_constants(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                    void **a) {
    (void)t, (void)width;
    k->backward_constants(n, d == OC_F32, 3, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], n);
}

/* `which` is the form, or the form + OC_N_FORMS: past the caches. Rows without gaps are called below. */
static void call_channels(oc_channel_fn *const *f, const test *t, ptrdiff_t n, ptrdiff_t width, int n_in, void **a) {
    const int form = t->which % OC_N_FORMS;
    const void *const in[] = {a[0], a[1], a[2], a[3]};
    f[form](n, width, width + GAP, in, a[n_in], form == OC_ROWS ? width : 1, a[n_in + 1], t->which >= OC_N_FORMS);
}

static void call_normalise(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    call_channels(k->norm[d].normalise, t, n, width, 1, a);
}

static void call_normalise_relu(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                void **a) {
    call_channels(k->norm[d].normalise_relu, t, n, width, 1, a);
}

static void call_normalise_add(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    call_channels(k->norm[d].normalise_add, t, n, width, 2, a);
}

static void call_normalise_add_relu(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                    void **a) {
    call_channels(k->norm[d].normalise_add_relu, t, n, width, 2, a);
}

static void call_normalise_gated(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                 void **a) {
    call_channels(k->norm[d].normalise_gated, t, n, width, 2, a);
}

static void call_combine_self_gated(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,
                                    void **a) {
    call_channels(k->norm[d].combine_self_gated, t, n, width, 2, a);
}

static void call_combine_gated(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    call_channels(k->norm[d].combine_gated, t, n, width, 3, a);
}

static void call_combine(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    call_channels(k->norm[d].combine, t, n, width, 2, a);
}

static void call_combine3(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    call_channels(k->norm[d].combine3, t, n, width, 4, a);
}

static void call_scaled(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const void *const in[] = {a[0], a[1], a[2], a[3]};
    k->norm[d].scaled[t->which](k->norm[d].combine3[t->which], OC_MAX_INPUTS, 10, n, width, width + GAP, in, a[4],
                                t->which == OC_ROWS ? width : 1, a[5]);
}

/* Rows without gaps, whose six constants go on with those of the first line of x: the last bytes of an array of eight rows.
 * `which` is added to OC_WRAPPED. */
static void call_wrapped(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const size_t item = d == OC_F64 ? sizeof(double) : sizeof(float);
    const ptrdiff_t line = OC_LINE / (ptrdiff_t)((int)d == OC_BF16 ? sizeof(uint16_t) : item), ld = width + line;
    if (2 * width < 6 * line)
        return;
    char *coef = (char *)a[2] + (size_t)(8 * width - 6 * ld) * item;
    for (int row = 0; row < 6; row++)
        memcpy(coef + (size_t)(row * ld + width) * item, coef + (size_t)(row * ld) * item, (size_t)line * item);
    const void *const in[] = {a[0], a[1]};
    k->norm[d].combine[OC_ROWS](n, width, width, in, coef, ld, a[3], OC_WRAPPED + t->which);
}

/* Rows: x, dy, rx, rdy, then the four parameters, five statistics for each row, the result, the sums. `which` is 1 for
 * layer norm, + 2: past the caches. */
static void call_rows(oc_rows_fn *f, const test *t, ptrdiff_t n, ptrdiff_t width, void **a) {
    const size_t item = t->which & 4 ? sizeof(float) : sizeof(double);
    const char *const w = a[4];
    double *const s = a[5], *const sums = a[7];
    const oc_rows rows = {
        .rows = n, .columns = width, .stride = width + GAP, .every = 5, .centred = t->which & 1,
        .past_caches = t->which >> 1 & 1, .eps = 0.5, .x = a[0], .dy = a[1], .rx = a[2], .rdy = a[3], .weight = w,
        .bias = w + (size_t)width * item, .rweight = w + 2 * (size_t)width * item, .rbias = w + 3 * (size_t)width * item,
        .out = a[6], .mean = s, .rest = s + 1, .inv_std = s + 2, .rmean = s + 3, .rinv_std = s + 4, .dweight = sums,
        .dbias = sums ? sums + width : NULL};
    f(&rows);
}

#define CALL_ROWS(name)                                                                                               \
    static void call_rows_##name(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width,        \
                                 void **a) {                                                                          \
        test of_dtype = *t;                                                                                           \
        of_dtype.which |= d == OC_F64 ? 0 : 4;                                                                        \
        call_rows(k->row_norm[d].name, &of_dtype, n, width, a);                                                       \
    }
CALL_ROWS(forward)
CALL_ROWS(backward)
CALL_ROWS(jvp)
CALL_ROWS(backward_jvp)

static void call_run_moments(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    k->row_norm[d].moments(n, a[0], a[1]);
}

static void call_run_sums(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t, (void)width;
    k->row_norm[d].sums(n, a[0], a[1], 0.25, a[2]);
}

/* --------------------------------------------------------------------------------------------------------- windows
 * n x width windows of one image. `which`: three in a row or a column, with padding; two, stride two, of an image of twice the
 * width or height. */
enum { ROW_OF_3, COLUMN_OF_3, ROW_OF_2, COLUMN_OF_2 };

static oc_window windows(int which, ptrdiff_t n, ptrdiff_t width) {
    const ptrdiff_t k = which == ROW_OF_3 || which == COLUMN_OF_3 ? 3 : 2, stride = k == 3 ? 1 : 2, pad = k == 3;
    if (which == ROW_OF_3 || which == ROW_OF_2)
        return (oc_window){1, n, width * stride, 1, k, 1, stride, 0, pad, n, width};
    return (oc_window){1, n * stride, width, k, 1, stride, 1, pad, 0, n, width};
}

static void call_columns(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const oc_window w = windows(t->which, n, width);
    k->window[d].windows_to_columns(&w, 0, n, a[0], a[1]);
}

static void call_add_columns(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const oc_window w = windows(t->which, n, width);
    k->window[d].add_columns(&w, 0, n, a[0], a[1]);
}

static void call_plane_sums(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)t;
    k->window[d].add_plane_sums(n, width, a[0], a[1]);
}

/* argmax has the size of a float. */
static void call_max_pool(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const oc_window w = windows(t->which, n, width);
    k->window[d].max_pool(&w, a[0], a[1], a[2]);
    k->window[d].max_pool_backward(&w, a[1], a[2], a[3]);
    k->window[d].max_pool_r(&w, a[0], a[2], a[4]);
}

static void call_average_pool(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    const oc_window w = windows(t->which, n, width);
    k->window[d].average_pool(&w, a[0], a[1]);
    k->window[d].average_pool_backward(&w, a[1], a[2]);
}

/* `which`: where the counter's high bits change. */
static void call_dropout(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    k->dropout[d](0xffffffff - (ptrdiff_t)t->which, n, 12345, 1 << 22, 4.0 / 3, a[0], a[1]);
}
