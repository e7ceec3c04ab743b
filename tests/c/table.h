/* table.h: every kernel of optcore.h, one row each. A new kernel is one more row of `table` (and a call_... function if
 * its signature is new). */
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
    k->mixed[t->which / OC_N_RULES][rule](n, a, &c);
}

static void call_staged(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t n, ptrdiff_t width, void **a) {
    (void)width;
    oc_coefficients c = {.carried = {0}};
    oc_prepare(OC_ADAM, d, t->options, 3, 0.5, &c);
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

/* ---------------------------------------------------------------------------------------------------------- table */

#define X {IN, EACH, 1}
#define Y {OUT, EACH, 1}
#define PARAMETER {INOUT, EACH, 1}
#define STATE {INOUT, EACH, 1}
#define SQUARES {INOUT_POSITIVE, EACH, 1}
#define NONE {ABSENT, ONE, 0}
#define SUM {DOUBLE_OUT, ONE, 1}
#define OF_CHANNEL(rows) {DOUBLE_IN, UNIT, rows}
#define RESULT(rows) {DOUBLE_OUT, UNIT, rows}
#define RUN {IN, STRIDED, 1}
#define RUN_OUT {OUT, STRIDED, 1}
#define PER(form, k, times) {k, form == OC_ROWS ? WIDTH : ONE, times}

#define CODES_SCALES {FLOATS_INOUT, BLOCKS, 1}
#define HALVES {HALVES_INOUT, EACH, 1}
#define CODES {CODES_INOUT, EACH, 1}
#define FLOATS {FLOATS_INOUT, EACH, 1}
#define DOUBLES {DOUBLE_OUT, EACH, 1}

/* Codes and random numbers depend on where a range begins. */
#define STORED(name, which, splits, in, in_extra, out, out_extra)                                                     \
    {"load " name, call_load, ELEMENTS, splits, which, NULL, {{in, EACH, 1}, in_extra, Y}},                           \
    {"store " name, call_store, ELEMENTS, splits, which, NULL, {{out, EACH, 1}, out_extra, X}}
#define OTHER(kind, length) {kind, length, 1}

#define ACTIVATION(name, which)                                                                                       \
    {name " forward", call_forward, ELEMENTS, 1, which, NULL, {X, Y}},                                                \
    {name " backward", call_backward, ELEMENTS, 1, which, NULL, {X, X, Y}},                                           \
    {name " backward_r", call_backward_r, ELEMENTS, 1, which, NULL, {X, X, X, X, Y}}

#define NORM(name, f)                                                                                                 \
    {"moments " name, call_moments, RUNS, 0, f, NULL, {RUN, PER(f, DOUBLE_OUT, 3)}},                                  \
    {"sums " name, call_sums, RUNS, 0, f, NULL, {RUN, RUN, PER(f, DOUBLE_IN, 1), PER(f, DOUBLE_OUT, 2)}},             \
    {"gated_sums " name, call_gated_sums, RUNS, 0, f, NULL,                                                           \
     {RUN, RUN, RUN, PER(f, DOUBLE_IN, 1), PER(f, DOUBLE_OUT, 2), NONE}},                                             \
    {"self_gated_sums " name, call_self_gated_sums, RUNS, 0, f, NULL,                                                 \
     {RUN, RUN, PER(f, CONSTANTS_IN, 8), PER(f, DOUBLE_IN, 1), PER(f, DOUBLE_OUT, 2)}},                               \
    {"gated_sums kept " name, call_gated_sums, RUNS, 0, f, NULL,                                                      \
     {RUN, RUN, RUN, PER(f, DOUBLE_IN, 1), PER(f, DOUBLE_OUT, 2), RUN_OUT}}

#define CHANNELS(name, f, which)                                                                                      \
    {"normalise " name, call_normalise, RUNS, 1, which, NULL, {RUN, PER(f, CONSTANTS_IN, 3), RUN_OUT}},               \
    {"normalise_relu " name, call_normalise_relu, RUNS, 1, which, NULL, {RUN, PER(f, CONSTANTS_IN, 3), RUN_OUT}},     \
    {"normalise_add " name, call_normalise_add, RUNS, 1, which, NULL, {RUN, RUN, PER(f, CONSTANTS_IN, 3), RUN_OUT}},  \
    {"normalise_add_relu " name, call_normalise_add_relu, RUNS, 1, which, NULL,                                       \
     {RUN, RUN, PER(f, CONSTANTS_IN, 3), RUN_OUT}},                                                                   \
    {"normalise_gated " name, call_normalise_gated, RUNS, 1, which, NULL,                                             \
     {RUN, RUN, PER(f, CONSTANTS_IN, 3), RUN_OUT}},                                                                   \
    {"combine " name, call_combine, RUNS, 1, which, NULL, {RUN, RUN, PER(f, CONSTANTS_IN, 6), RUN_OUT}},              \
    {"combine_self_gated " name, call_combine_self_gated, RUNS, 1, which, NULL,                                       \
     {RUN, RUN, PER(f, CONSTANTS_IN, 8), RUN_OUT}},                                                                   \
    {"combine_gated " name, call_combine_gated, RUNS, 1, which, NULL,                                                 \
     {RUN, RUN, RUN, PER(f, CONSTANTS_IN, 6), RUN_OUT}},                                                              \
    {"combine3 " name, call_combine3, RUNS, 1, which, NULL, {RUN, RUN, RUN, RUN, PER(f, CONSTANTS_IN, 10), RUN_OUT}}

#define STATISTICS(k) {k, UNIT, 5}
#define COLUMN_SUMS {DOUBLE_OUT, WIDTH, 2}
#define PARAMETERS {CONSTANTS_IN, WIDTH, 4}
#define ROW_NORM(name, which)                                                                                         \
    {"forward " name, call_rows_forward, RUNS, 1, which, NULL,                                                        \
     {RUN, NONE, NONE, NONE, PARAMETERS, STATISTICS(DOUBLE_OUT), RUN_OUT}},                                           \
    {"backward " name, call_rows_backward, RUNS, 0, which, NULL,                                                      \
     {RUN, RUN, NONE, NONE, PARAMETERS, STATISTICS(DOUBLE_IN), RUN_OUT, COLUMN_SUMS}},                                \
    {"jvp " name, call_rows_jvp, RUNS, 1, which, NULL,                                                                \
     {RUN, NONE, RUN, NONE, PARAMETERS, STATISTICS(DOUBLE_INOUT), RUN_OUT}},                                          \
    {"backward_jvp " name, call_rows_backward_jvp, RUNS, 0, which, NULL,                                              \
     {RUN, RUN, RUN, RUN, PARAMETERS, STATISTICS(DOUBLE_IN), RUN_OUT, COLUMN_SUMS}}

/* An image has `times` elements for each window. */
#define WINDOWS(name, which, times, places)                                                                           \
    {"columns " name, call_columns, ROWS, 0, which, NULL, {{IN, EACH, times}, {OUT, EACH, places}}},                  \
    {"add columns " name, call_add_columns, ROWS, 0, which, NULL, {{IN, EACH, places}, {INOUT, EACH, times}}},        \
    {"max pool " name, call_max_pool, ROWS, 0, which, NULL,                                                           \
     {{IN, EACH, times}, Y, FLOATS, {OUT, EACH, times}, Y}},                                                          \
    {"average pool " name, call_average_pool, ROWS, 0, which, NULL, {{IN, EACH, times}, Y, {OUT, EACH, times}}}

#define MIXED(name, rule, options, ...)                                                                               \
    {name ", bfloat16 states", call_mixed, ELEMENTS, 1, rule + OC_BF16_STATES * OC_N_RULES, options,                  \
     {FLOATS, {FLOATS_IN, EACH, 1}, __VA_ARGS__}},                                                                    \
    {name ", all bfloat16", call_mixed, ELEMENTS, 1, rule + OC_ALL_BF16 * OC_N_RULES, options,                        \
     {HALVES, {HALVES_IN, EACH, 1}, __VA_ARGS__}}

static const test table[] = {
    {"sgd", call_update, ELEMENTS, 1, OC_SGD, &plain, {PARAMETER, X, NONE, NONE, NONE}},
    {"sgd momentum", call_update, ELEMENTS, 1, OC_SGD, &momentum, {PARAMETER, X, STATE, NONE, NONE}},
    {"sgd nesterov", call_update, ELEMENTS, 1, OC_SGD, &nesterov, {PARAMETER, X, STATE, NONE, NONE}},
    {"adagrad", call_update, ELEMENTS, 1, OC_ADAGRAD, &plain, {PARAMETER, X, SQUARES, NONE, NONE}},
    {"adagrad average", call_update, ELEMENTS, 1, OC_ADAGRAD, &averaged, {PARAMETER, X, SQUARES, NONE, NONE}},
    {"rmsprop", call_update, ELEMENTS, 1, OC_RMSPROP, &rms, {PARAMETER, X, SQUARES, NONE, NONE}},
    {"rmsprop warm", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_warm, {PARAMETER, X, SQUARES, NONE, NONE}},
    {"rmsprop momentum", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_heavy, {PARAMETER, X, SQUARES, STATE, NONE}},
    {"rmsprop centered", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_centered, {PARAMETER, X, SQUARES, NONE, STATE}},
    {"rmsprop all", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_all, {PARAMETER, X, SQUARES, STATE, STATE}},
    {"adam", call_update, ELEMENTS, 1, OC_ADAM, &adam, {PARAMETER, X, STATE, SQUARES, NONE}},
    {"adamw", call_update, ELEMENTS, 1, OC_ADAM, &adamw, {PARAMETER, X, STATE, SQUARES, NONE}},
    {"adam amsgrad", call_update, ELEMENTS, 1, OC_ADAM, &amsgrad, {PARAMETER, X, STATE, SQUARES, SQUARES}},
    {"adadelta", call_update, ELEMENTS, 1, OC_ADADELTA, &adadelta, {PARAMETER, X, SQUARES, SQUARES}},
    {"adamax", call_update, ELEMENTS, 1, OC_ADAMAX, &adam, {PARAMETER, X, STATE, SQUARES}},
    {"nadam", call_update, ELEMENTS, 1, OC_NADAM, &adamw, {PARAMETER, X, STATE, SQUARES}},
    {"radam", call_update, ELEMENTS, 1, OC_RADAM, &adam, {PARAMETER, X, STATE, SQUARES}},
    {"radam adaptive", call_late, ELEMENTS, 1, OC_RADAM, &adamw, {PARAMETER, X, STATE, SQUARES}},
    {"ademamix", call_update, ELEMENTS, 1, OC_ADEMAMIX, &ademamix, {PARAMETER, X, STATE, STATE, SQUARES}},
    {"rprop", call_update, ELEMENTS, 1, OC_RPROP, &rprop, {PARAMETER, X, STATE, SQUARES}},
    {"rprop first", call_first, ELEMENTS, 1, OC_RPROP, &rprop, {PARAMETER, X, STATE, SQUARES}},
    {"lion", call_update, ELEMENTS, 1, OC_LION, &adam, {PARAMETER, X, STATE}},
    {"sophia", call_update, ELEMENTS, 1, OC_SOPHIA, &sophia, {PARAMETER, X, STATE, X}},
    {"sophia hessian", call_update, ELEMENTS, 1, OC_SOPHIA_HESSIAN, &sophia, {X, X, NONE, STATE}},
    {"asgd", call_update, ELEMENTS, 1, OC_ASGD, &asgd, {PARAMETER, X, STATE}},
    {"schedule_free sgd", call_update, ELEMENTS, 1, OC_SCHEDULE_FREE, &free_sgd, {PARAMETER, X, STATE}},
    {"schedule_free sgd first", call_first, ELEMENTS, 1, OC_SCHEDULE_FREE, &free_sgd, {PARAMETER, X, STATE}},
    {"schedule_free adamw", call_late, ELEMENTS, 1, OC_SCHEDULE_FREE, &free_adamw, {PARAMETER, X, STATE, SQUARES}},
    {"schedule_free adamw first", call_first, ELEMENTS, 1, OC_SCHEDULE_FREE, &free_adamw, {PARAMETER, X, STATE, SQUARES}},
    {"schedule_free eval", call_update, ELEMENTS, 1, OC_SCHEDULE_FREE_EVAL, &free_sgd, {PARAMETER, X}},
    {"schedule_free train", call_update, ELEMENTS, 1, OC_SCHEDULE_FREE_TRAIN, &free_sgd, {PARAMETER, X}},
    {"lamb", call_update, ELEMENTS, 1, OC_LAMB, &lamb, {X, X, STATE, SQUARES, Y}},
    {"lars", call_update, ELEMENTS, 1, OC_LARS, &plain, {X, X, NONE, NONE, Y}},
    {"lars apply", call_update, ELEMENTS, 1, OC_LARS_APPLY, &plain, {PARAMETER, NONE, NONE, NONE, X}},
    {"lars apply momentum", call_update, ELEMENTS, 1, OC_LARS_APPLY, &momentum, {PARAMETER, NONE, STATE, NONE, X}},
    {"lars apply nesterov", call_update, ELEMENTS, 1, OC_LARS_APPLY, &nesterov, {PARAMETER, NONE, STATE, NONE, X}},
    {"adafactor vector", call_update, ELEMENTS, 1, OC_ADAFACTOR, &adafactor, {X, X, SQUARES, NONE, Y}},
    {"adafactor matrix", call_update, ELEMENTS, 1, OC_ADAFACTOR, &adafactor, {X, X, NONE, NONE, Y}},
    {"muon", call_update, ELEMENTS, 1, OC_MUON, &momentum, {X, X, STATE, NONE, Y}},
    {"muon nesterov", call_update, ELEMENTS, 1, OC_MUON, &nesterov, {X, X, STATE, NONE, Y}},
    {"layer apply", call_update, ELEMENTS, 1, OC_LAYER_APPLY, &plain, {PARAMETER, NONE, NONE, NONE, X}},
    STORED("float32", KEPT(F32, NEAREST), 1, FLOATS_IN, NONE, FLOATS_INOUT, NONE),
    STORED("float64", KEPT(F64, NEAREST), 1, DOUBLE_IN, NONE, DOUBLE_OUT, NONE),
    STORED("bfloat16", KEPT(BF16, NEAREST), 1, HALVES_IN, NONE, HALVES_INOUT, NONE),
    STORED("bfloat16 at random", KEPT(BF16, RANDOM), 0, HALVES_IN, NONE, HALVES_INOUT, NONE),
    STORED("float16", KEPT(F16, NEAREST), 1, HALVES_IN, NONE, HALVES_INOUT, NONE),
    STORED("signed codes", KEPT(SIGNED_CODES, NEAREST), 0, CODES_IN, OTHER(FLOATS_IN, BLOCKS), CODES_INOUT,
           OTHER(FLOATS_INOUT, BLOCKS)),
    STORED("unsigned codes", KEPT(UNSIGNED_CODES, NEAREST), 0, CODES_IN, OTHER(FLOATS_IN, BLOCKS), CODES_INOUT,
           OTHER(FLOATS_INOUT, BLOCKS)),
    STORED("pair of float32", KEPT(F32, PAIR), 1, FLOATS_IN, OTHER(FLOATS_IN, EACH), FLOATS_INOUT,
           OTHER(FLOATS_INOUT, EACH)),
    STORED("pair of bfloat16", KEPT(BF16, PAIR), 1, HALVES_IN, OTHER(HALVES_IN, EACH), HALVES_INOUT,
           OTHER(HALVES_INOUT, EACH)),
    STORED("pair of float16", KEPT(F16, PAIR), 1, HALVES_IN, OTHER(HALVES_IN, EACH), HALVES_INOUT,
           OTHER(HALVES_INOUT, EACH)),
    MIXED("sgd", OC_SGD, &momentum, HALVES),
    MIXED("adagrad", OC_ADAGRAD, &plain, HALVES),
    MIXED("rmsprop", OC_RMSPROP, &rms_all, HALVES, HALVES, HALVES),
    MIXED("adam", OC_ADAM, &adamw, HALVES, HALVES),
    MIXED("adam amsgrad", OC_ADAM, &amsgrad, HALVES, HALVES, HALVES),
    MIXED("adadelta", OC_ADADELTA, &adadelta, HALVES, HALVES),
    MIXED("adamax", OC_ADAMAX, &adam, HALVES, HALVES),
    MIXED("nadam", OC_NADAM, &adamw, HALVES, HALVES),
    MIXED("radam", OC_RADAM, &adamw, HALVES, HALVES),
    MIXED("ademamix", OC_ADEMAMIX, &ademamix, HALVES, HALVES, HALVES),
    MIXED("rprop", OC_RPROP, &rprop, HALVES, HALVES),
    MIXED("lion", OC_LION, &adam, HALVES),
    MIXED("sophia", OC_SOPHIA, &sophia, HALVES, {HALVES_IN, EACH, 1}),
    MIXED("sophia hessian", OC_SOPHIA_HESSIAN, &sophia, NONE, HALVES),
    MIXED("asgd", OC_ASGD, &asgd, HALVES),
    MIXED("schedule_free", OC_SCHEDULE_FREE, &free_adamw, HALVES, HALVES),
    MIXED("schedule_free eval", OC_SCHEDULE_FREE_EVAL, &free_sgd, NONE),
    MIXED("schedule_free train", OC_SCHEDULE_FREE_TRAIN, &free_sgd, NONE),
    {"staged halves", call_staged, ELEMENTS, 1, 0, &adamw,
     {HALVES, NONE, {HALVES_IN, EACH, 1}, HALVES, NONE, HALVES, NONE, FLOATS, HALVES}},
    {"staged codes at random", call_staged, ELEMENTS, 0, 1, &adamw,
     {HALVES, NONE, {HALVES_IN, EACH, 1}, CODES, CODES_SCALES, CODES, CODES_SCALES, FLOATS, HALVES}},
    {"staged pair", call_staged, ELEMENTS, 1, 2, &adamw,
     {HALVES, HALVES, {DOUBLE_IN, EACH, 1}, FLOATS, NONE, FLOATS, NONE, FLOATS, DOUBLES}},
    {"column_squares", call_column_squares, ROWS, 0, 0, NULL, {X, {DOUBLE_OUT, WIDTH, 1}}},
    {"mean_squares", call_mean_squares, ELEMENTS, 0, 0, &adafactor, {{DOUBLE_IN, EACH, 1}, SQUARES, SUM}},
    {"divide_factored", call_divide_factored, ROWS, 1, 0, NULL,
     {{INOUT_POSITIVE, UNIT, 1}, {INOUT_POSITIVE, WIDTH, 1}, PARAMETER}},
    {"divide", call_divide, ELEMENTS, 1, 0, NULL, {PARAMETER}},
    {"sum_squares", call_sum_squares, ELEMENTS, 0, 0, NULL, {X, SUM}},
    {"dot", call_dot, ELEMENTS, 0, 0, NULL, {X, X, SUM}},
    {"penalty", call_penalty, ELEMENTS, 0, 0, NULL, {X, PARAMETER, SUM}},
    {"abs_max", call_abs_max, ELEMENTS, 0, 0, NULL, {X, SUM}},
    {"count_nonfinite", call_count, ELEMENTS, 0, 0, NULL, {X, SUM}},
    {"dots", call_dots, ROWS, 1, 0, NULL, {X, {IN, WIDTH, 1}, {DOUBLE_OUT, UNIT, 1}}},
    {"subtract", call_subtract, ROWS, 0, 0, NULL, {{DOUBLE_IN, UNIT, 1}, X, {INOUT, WIDTH, 1}}},
    {"sweep", call_sweep, ROWS, 0, 1, NULL, {X, {DOUBLE_IN, UNIT, 3}, {INOUT, WIDTH, 3}, {DOUBLE_OUT, UNIT, 1}}},
    {"sweep of two", call_sweep, ROWS, 0, 2, NULL, {X, {DOUBLE_IN, UNIT, 4}, {INOUT, WIDTH, 4}, {DOUBLE_OUT, UNIT, 2}}},
    {"mse", call_mse, ELEMENTS, 0, 0, NULL, {X, X, SUM, Y}},
    {"mse loss only", call_mse, ELEMENTS, 0, 0, NULL, {X, X, SUM, NONE}},
    {"huber", call_huber, ELEMENTS, 0, 0, NULL, {X, X, SUM, Y}},
    {"huber loss only", call_huber, ELEMENTS, 0, 0, NULL, {X, X, SUM, NONE}},
    {"bce", call_bce, ELEMENTS, 0, 0, NULL, {X, X, X, SUM, Y}},
    {"bce loss only", call_bce, ELEMENTS, 0, 0, NULL, {X, X, NONE, SUM, NONE}},
    ACTIVATION("relu", OC_RELU),
    ACTIVATION("elu", OC_ELU),
    ACTIVATION("sigmoid", OC_SIGMOID),
    ACTIVATION("tanh", OC_TANH),
    ACTIVATION("gelu", OC_GELU),
    ACTIVATION("gelu tanh", OC_GELU_TANH),
    ACTIVATION("silu", OC_SILU),
    {"softmax", call_softmax, ROWS, 1, 0, NULL, {X, Y}},
    {"log_softmax", call_log_softmax, ROWS, 1, 0, NULL, {X, Y}},
    {"cross_entropy", call_entropy, ROWS, 1, 0, NULL, {X, {CLASSES, UNIT, 1}, {DOUBLE_OUT, UNIT, 1}, Y}},
    {"cross_entropy loss only", call_entropy, ROWS, 1, 0, NULL, {X, {CLASSES, UNIT, 1}, {DOUBLE_OUT, UNIT, 1}, NONE}},
    {"cross_entropy_soft", call_entropy_soft, ROWS, 1, 0, NULL, {X, X, {DOUBLE_OUT, UNIT, 1}, Y}},
    {"cross_entropy_soft loss only", call_entropy_soft, ROWS, 1, 0, NULL, {X, X, {DOUBLE_OUT, UNIT, 1}, NONE}},
    {"cross_entropy_r", call_entropy_r, ROWS, 1, 0, NULL, {X, X, Y}},
    WINDOWS("row of 3", ROW_OF_3, 1, 3),
    WINDOWS("column of 3", COLUMN_OF_3, 1, 3),
    WINDOWS("row of 2", ROW_OF_2, 2, 2),
    WINDOWS("column of 2", COLUMN_OF_2, 2, 2),
    {"plane sums", call_plane_sums, ROWS, 1, 0, NULL, {X, {DOUBLE_INOUT, UNIT, 1}}},
    {"dropout", call_dropout, ELEMENTS, 0, 100, NULL, {X, Y}},
    {"column_sums", call_column_sums, ROWS, 0, 0, NULL, {X, {DOUBLE_OUT, WIDTH, 1}}},
    {"turn", call_turn, ROWS, 0, 0, NULL, {X, Y}},
    {"add_sums", call_add, ELEMENTS, 1, 0, NULL, {{DOUBLE_IN, UNIT, 1}, {DOUBLE_OUT, UNIT, 1}, {DOUBLE_IN, UNIT, 1}}},
    {"merge_moments", call_merge, ELEMENTS, 0, 0, NULL,
     {{DOUBLE_IN, UNIT, 3}, {DOUBLE_OUT, UNIT, 3}, {DOUBLE_IN, UNIT, 3}}},
    {"standardise", call_standardise, ELEMENTS, 0, 0, NULL,
     {OF_CHANNEL(3), RESULT(1), RESULT(1), RESULT(1), RESULT(1), RESULT(1)}},
    {"forward_constants", call_forward_constants, ELEMENTS, 0, 0, NULL,
     {OF_CHANNEL(1), OF_CHANNEL(1), OF_CHANNEL(1), OF_CHANNEL(1), OF_CHANNEL(1), RESULT(1), RESULT(1), RESULT(1)}},
    {"backward_constants", call_backward_constants, ELEMENTS, 0, 0, NULL,
     {OF_CHANNEL(1), OF_CHANNEL(1), OF_CHANNEL(1), OF_CHANNEL(1), OF_CHANNEL(2), RESULT(1), RESULT(1), RESULT(6)}},
    NORM("segments", OC_SEGMENTS),
    NORM("rows", OC_ROWS),
    CHANNELS("segments", OC_SEGMENTS, OC_SEGMENTS),
    CHANNELS("rows", OC_ROWS, OC_ROWS),
    CHANNELS("segments past caches", OC_SEGMENTS, OC_SEGMENTS + OC_N_FORMS),
    CHANNELS("rows past caches", OC_ROWS, OC_ROWS + OC_N_FORMS),
    {"scaled segments", call_scaled, RUNS, 1, OC_SEGMENTS, NULL,
     {RUN, RUN, RUN, RUN, PER(OC_SEGMENTS, CONSTANTS_IN, 14), RUN_OUT}},
    {"scaled rows", call_scaled, RUNS, 1, OC_ROWS, NULL, {RUN, RUN, RUN, RUN, PER(OC_ROWS, CONSTANTS_IN, 14), RUN_OUT}},
    {"combine wrapped", call_wrapped, RUNS, 0, 0, NULL,
     {{IN, EACH, 1}, {IN, EACH, 1}, {CONSTANTS_INOUT, WIDTH, 8}, {OUT, EACH, 1}}},
    {"combine wrapped past caches", call_wrapped, RUNS, 0, OC_PAST_CACHES, NULL,
     {{IN, EACH, 1}, {IN, EACH, 1}, {CONSTANTS_INOUT, WIDTH, 8}, {OUT, EACH, 1}}},
    {"run moments", call_run_moments, ELEMENTS, 0, 0, NULL, {X, {DOUBLE_OUT, ONE, 3}}},
    {"run sums", call_run_sums, ELEMENTS, 0, 0, NULL, {X, X, {DOUBLE_OUT, ONE, 2}}},
    ROW_NORM("rms", 0),
    ROW_NORM("layer", 1),
    ROW_NORM("rms past caches", 2),
    ROW_NORM("layer past caches", 3),
};
