/* table.h: every kernel of optcore.h, one row each. A new kernel is one more row of `table`, and a call_... function in
 * calls.h if its signature is new. */
#include "calls.h"

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
    {"rmsprop brief", call_update, ELEMENTS, 1, OC_RMSPROP, &brief_rms, {PARAMETER, X, SQUARES, NONE, NONE}},
    {"rmsprop warm", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_warm, {PARAMETER, X, SQUARES, NONE, NONE}},
    {"rmsprop momentum", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_heavy, {PARAMETER, X, SQUARES, STATE, NONE}},
    {"rmsprop centered", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_centered, {PARAMETER, X, SQUARES, NONE, STATE}},
    {"rmsprop all", call_update, ELEMENTS, 1, OC_RMSPROP, &rms_all, {PARAMETER, X, SQUARES, STATE, STATE}},
    {"adam", call_update, ELEMENTS, 1, OC_ADAM, &adam, {PARAMETER, X, STATE, SQUARES, NONE}},
    {"adamw", call_update, ELEMENTS, 1, OC_ADAM, &adamw, {PARAMETER, X, STATE, SQUARES, NONE}},
    {"adamw brief", call_update, ELEMENTS, 1, OC_ADAM, &brief, {PARAMETER, X, STATE, SQUARES, NONE}},
    {"adam amsgrad", call_update, ELEMENTS, 1, OC_ADAM, &amsgrad, {PARAMETER, X, STATE, SQUARES, SQUARES}},
    {"adamw within", call_within, ELEMENTS, 1, OC_ADAM, &adamw, {PARAMETER, X, STATE, SQUARES, NONE}},
    {"adam amsgrad within", call_within, ELEMENTS, 1, OC_ADAM, &amsgrad, {PARAMETER, X, STATE, SQUARES, SQUARES}},
    {"adagrad within", call_within, ELEMENTS, 1, OC_ADAGRAD, &plain, {PARAMETER, X, SQUARES}},
    {"rmsprop within", call_within, ELEMENTS, 1, OC_RMSPROP, &rms, {PARAMETER, X, SQUARES, NONE, NONE}},
    {"nadam within", call_within, ELEMENTS, 1, OC_NADAM, &adamw, {PARAMETER, X, STATE, SQUARES}},
    {"adadelta", call_update, ELEMENTS, 1, OC_ADADELTA, &adadelta, {PARAMETER, X, SQUARES, SQUARES}},
    {"adamax", call_update, ELEMENTS, 1, OC_ADAMAX, &adam, {PARAMETER, X, STATE, SQUARES}},
    {"nadam", call_update, ELEMENTS, 1, OC_NADAM, &adamw, {PARAMETER, X, STATE, SQUARES}},
    {"radam", call_update, ELEMENTS, 1, OC_RADAM, &adam, {PARAMETER, X, STATE, SQUARES}},
    {"radam adaptive", call_late, ELEMENTS, 1, OC_RADAM, &adamw, {PARAMETER, X, STATE, SQUARES}},
    {"ademamix", call_update, ELEMENTS, 1, OC_ADEMAMIX, &ademamix, {PARAMETER, X, STATE, STATE, SQUARES}},
    {"ademamix brief", call_update, ELEMENTS, 1, OC_ADEMAMIX, &brief_slow, {PARAMETER, X, STATE, STATE, SQUARES}},
    {"rprop", call_update, ELEMENTS, 1, OC_RPROP, &rprop, {PARAMETER, X, STATE, SQUARES}},
    {"rprop first", call_first, ELEMENTS, 1, OC_RPROP, &rprop, {PARAMETER, X, STATE, SQUARES}},
    {"lion", call_update, ELEMENTS, 1, OC_LION, &adam, {PARAMETER, X, STATE}},
    {"lion brief", call_update, ELEMENTS, 1, OC_LION, &brief, {PARAMETER, X, STATE}},
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
    {"thin", call_thin, ROWS, 0, 1, NULL, {X, X, Y}},
    {"thin_dots", call_thin_dots, ROWS, 0, 0, NULL, {X, X, Y}},
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
