/* instantiate.c: every template for every dtype, at one instruction-set level. Compiled once for each level, with
 * OC_LEVEL its name and the compiler flags that go with it; defines the level's kernel table and nothing else. */
#include "internal.h"
#include "moments.h"
#include "log1p.h"
#include "codes.h"

#define TABLE_(level) oc_table_##level
#define TABLE(level) TABLE_(level)
extern const oc_kernels TABLE(OC_LEVEL);
#define UPDATE(rule) TABLE(OC_LEVEL).update[rule][sizeof(T) == sizeof(float) ? OC_F32 : OC_F64]

#define FN(name) OC_PASTE(oc, name, TYPE, OC_LEVEL)

#define AS_IT_IS(x) (x)

/* What norms read and write: what they compute with, */
#define T_FN FN
#define X_T T
#define X_GET AS_IT_IS
#define X_PUT AS_IT_IS

/* what update rules keep: as they compute, */
#define P_T T
#define P_GET AS_IT_IS
#define P_PUT AS_IT_IS
#define G_T T
#define G_GET AS_IT_IS
#define S_T T
#define S_GET AS_IT_IS
#define S_PUT AS_IT_IS

#define T float
#define TYPE f32
#define BITS 32
#define UINT uint32_t
#define SQRT sqrtf
#define FUSED OC_FUSED_F32
#define EXACT_FMA OC_EXACT_FMA_F32
#include "layer.tmpl.h"
#include "update.tmpl.h"
#include "update_layerwise.tmpl.h"
#include "staged.tmpl.h"
#include "reduce.tmpl.h"
#include "dense.tmpl.h"
#include "elementary.tmpl.h"
#include "activation.tmpl.h"
#include "norm.tmpl.h"
#include "norm_write.tmpl.h"
#include "row_parts.tmpl.h"
#include "row_bands.tmpl.h"
#include "row_norm.tmpl.h"
#include "loss.tmpl.h"
#include "window.tmpl.h"
#undef T
#undef TYPE
#undef BITS
#undef UINT
#undef SQRT
#undef FUSED
#undef EXACT_FMA

#define T double
#define TYPE f64
#define BITS 64
#define UINT uint64_t
#define SQRT sqrt
#define FUSED OC_FUSED_F64
#define EXACT_FMA OC_EXACT_FMA
#include "layer.tmpl.h"
#include "update.tmpl.h"
#include "update_layerwise.tmpl.h"
#include "staged.tmpl.h"
#include "reduce.tmpl.h"
#include "dense.tmpl.h"
#include "elementary.tmpl.h"
#include "activation.tmpl.h"
#include "norm.tmpl.h"
#include "norm_write.tmpl.h"
#include "row_parts.tmpl.h"
#include "row_bands.tmpl.h"
#include "row_norm.tmpl.h"
#include "loss.tmpl.h"
#include "window.tmpl.h"
#undef T
#undef TYPE
#undef BITS
#undef UINT
#undef SQRT
#undef FUSED
#undef EXACT_FMA

/* or in float32 over bfloat16: the mixes of optcore.h, in one loop that neither loads nor stores anything twice. */
#define T float
#define SQRT sqrtf
#define FUSED OC_FUSED_F32
#define EXACT_FMA OC_EXACT_FMA_F32
#undef S_T
#undef S_GET
#undef S_PUT
#define S_T uint16_t
#define S_GET oc_from_bf16
#define S_PUT oc_nearest_bf16
#define TYPE f32_bf16_states
#include "update.tmpl.h"
#undef TYPE
#undef P_T
#undef P_GET
#undef P_PUT
#undef G_T
#undef G_GET
#define P_T uint16_t
#define P_GET oc_from_bf16
#define P_PUT oc_nearest_bf16
#define G_T uint16_t
#define G_GET oc_from_bf16
#define TYPE f32_bf16
#include "update.tmpl.h"
#undef TYPE
#undef T_FN
#undef X_T
#undef X_GET
#undef X_PUT
#define T_FN(name) OC_PASTE(oc, name, f32, OC_LEVEL)
#define X_T uint16_t
#define X_GET oc_from_bf16
#define X_PUT oc_nearest_bf16
#define TYPE bf16
#include "norm.tmpl.h"
#include "norm_write.tmpl.h"
#include "row_parts.tmpl.h"
#include "row_bands.tmpl.h"
#include "row_norm.tmpl.h"
#undef TYPE
#undef T
#undef SQRT
#undef FUSED
#undef EXACT_FMA

#define KERNEL(name, type) OC_PASTE(oc, name, type, OC_LEVEL)
#define BOTH(name) {KERNEL(name, f32), KERNEL(name, f64)}
#define REDUCE(type)                                                                                                  \
    {KERNEL(sum_squares, type), KERNEL(dot, type), KERNEL(abs_max, type), KERNEL(count_nonfinite, type),              \
     KERNEL(dots, type), KERNEL(subtract, type), KERNEL(sweep, type)}
#define LAYER(type)                                                                                                   \
    {KERNEL(column_squares, type), KERNEL(mean_squares, type), KERNEL(divide_factored, type), KERNEL(divide, type)}
#define FORMS(name, type) {KERNEL(name##_segments, type), KERNEL(name##_rows, type)}
#define NORM(type)                                                                                                    \
    {FORMS(moments, type), FORMS(sums, type), FORMS(gated_sums, type), FORMS(normalise, type),                        \
     FORMS(normalise_relu, type), FORMS(normalise_add, type), FORMS(normalise_add_relu, type),                        \
     FORMS(normalise_gated, type), FORMS(combine, type), FORMS(combine_gated, type), FORMS(combine_self_gated, type), \
     FORMS(combine3, type), FORMS(scaled, type)}
#define ROW_NORM(type)                                                                                                \
    {KERNEL(run_moments, type), KERNEL(run_sums, type), KERNEL(rows_forward, type), KERNEL(rows_backward, type),      \
     KERNEL(rows_jvp, type), KERNEL(rows_backward_jvp, type)}
#define ACTIVATION_(name, type)                                                                                       \
    {KERNEL(name##_forward, type), KERNEL(name##_backward, type), KERNEL(name##_backward_r, type)}
#define ACTIVATION(name) {ACTIVATION_(name, f32), ACTIVATION_(name, f64)}
#define LOSS(type)                                                                                                    \
    {KERNEL(softmax, type), KERNEL(log_softmax, type), KERNEL(cross_entropy, type), KERNEL(cross_entropy_soft, type), \
     KERNEL(cross_entropy_r, type), KERNEL(mse, type), KERNEL(huber, type), KERNEL(bce, type)}
#define WINDOW(type)                                                                                                  \
    {KERNEL(windows_to_columns, type), KERNEL(add_columns, type), KERNEL(add_plane_sums, type),                       \
     KERNEL(max_pool, type), KERNEL(max_pool_backward, type), KERNEL(max_pool_r, type), KERNEL(average_pool, type),   \
     KERNEL(average_pool_backward, type)}

/* The element-wise rules and passes. */
#define RULES(K)                                                                                                      \
    [OC_SGD] = K(sgd), [OC_ADAGRAD] = K(adagrad), [OC_RMSPROP] = K(rmsprop), [OC_ADAM] = K(adam),                     \
    [OC_ADADELTA] = K(adadelta), [OC_ADAMAX] = K(adamax), [OC_NADAM] = K(nadam), [OC_RADAM] = K(radam),               \
    [OC_ADEMAMIX] = K(ademamix), [OC_RPROP] = K(rprop), [OC_LION] = K(lion), [OC_SOPHIA] = K(sophia),                 \
    [OC_ASGD] = K(asgd), [OC_SCHEDULE_FREE] = K(schedule_free), [OC_SOPHIA_HESSIAN] = K(sophia_hessian),              \
    [OC_SCHEDULE_FREE_EVAL] = K(towards), [OC_SCHEDULE_FREE_TRAIN] = K(towards)
#define BF16_STATES(name) KERNEL(name, f32_bf16_states)
#define ALL_BF16(name) KERNEL(name, f32_bf16)

#define LEVEL_NUMBER_baseline OC_LEVEL_BASELINE
#define LEVEL_NUMBER_v3 OC_LEVEL_V3
#define LEVEL_NUMBER_v4 OC_LEVEL_V4
#define NUMBER_(level) LEVEL_NUMBER_##level
#define NUMBER(level) NUMBER_(level)

const oc_kernels TABLE(OC_LEVEL) = {
    .level = NUMBER(OC_LEVEL),
    .update = {RULES(BOTH), [OC_LAMB] = BOTH(lamb), [OC_LARS] = BOTH(take_gradient),
               [OC_ADAFACTOR] = BOTH(adafactor), [OC_MUON] = BOTH(muon),
               [OC_LAYER_APPLY] = BOTH(layer_apply), [OC_LARS_APPLY] = BOTH(lars_apply)},
    .mixed = {[OC_BF16_STATES] = {RULES(BF16_STATES)}, [OC_ALL_BF16] = {RULES(ALL_BF16)}},
    .layer = {LAYER(f32), LAYER(f64)},
    .staged = BOTH(staged),
    .load = BOTH(load),
    .store = BOTH(store),
    .reduce = {REDUCE(f32), REDUCE(f64)},
    .column_sums = BOTH(column_sums),
    .turn = BOTH(turn),
    .thin = BOTH(thin),
    .thin_dots = BOTH(thin_dots),
    .norm = {NORM(f32), NORM(f64), NORM(bf16)},
    .row_norm = {ROW_NORM(f32), ROW_NORM(f64), ROW_NORM(bf16)},
    .merge_moments = KERNEL(merge, moments),
    .add_sums = KERNEL(add, sums),
    .standardise = KERNEL(standardise, channels),
    .forward_constants = KERNEL(forward, constants),
    .backward_constants = KERNEL(backward, constants),
    .activation = {[OC_RELU] = ACTIVATION(relu), [OC_ELU] = ACTIVATION(elu), [OC_SIGMOID] = ACTIVATION(sigmoid),
                   [OC_TANH] = ACTIVATION(tanh), [OC_GELU] = ACTIVATION(gelu), [OC_GELU_TANH] = ACTIVATION(gelu_tanh),
                   [OC_SILU] = ACTIVATION(silu)},
    .loss = {LOSS(f32), LOSS(f64)},
    .window = {WINDOW(f32), WINDOW(f64)},
    .dropout = BOTH(dropout),
    .penalty = BOTH(penalty),
};
