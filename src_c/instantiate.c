/* instantiate.c: every template for every dtype, at one instruction-set level. Compiled once for each level, with
 * OC_LEVEL its name and the compiler flags that go with it; defines the level's kernel table and nothing else. */
#include "internal.h"
#include "moments.h"
#include "log1p.h"

#define FN(name) OC_PASTE(oc, name, TYPE, OC_LEVEL)

#define T float
#define TYPE f32
#define BITS 32
#define UINT uint32_t
#define SQRT sqrtf
#include "update.tmpl.h"
#include "reduce.tmpl.h"
#include "dense.tmpl.h"
#include "norm.tmpl.h"
#include "row_norm.tmpl.h"
#include "elementary.tmpl.h"
#include "activation.tmpl.h"
#include "loss.tmpl.h"
#undef T
#undef TYPE
#undef BITS
#undef UINT
#undef SQRT

#define T double
#define TYPE f64
#define BITS 64
#define UINT uint64_t
#define SQRT sqrt
#include "update.tmpl.h"
#include "reduce.tmpl.h"
#include "dense.tmpl.h"
#include "norm.tmpl.h"
#include "row_norm.tmpl.h"
#include "elementary.tmpl.h"
#include "activation.tmpl.h"
#include "loss.tmpl.h"
#undef T
#undef TYPE
#undef BITS
#undef UINT
#undef SQRT

#define KERNEL(name, type) OC_PASTE(oc, name, type, OC_LEVEL)
#define BOTH(name) {KERNEL(name, f32), KERNEL(name, f64)}
#define REDUCE(type)                                                                                                  \
    {KERNEL(sum_squares, type), KERNEL(dot, type), KERNEL(abs_max, type), KERNEL(count_nonfinite, type)}
#define FORMS(name, type) {KERNEL(name##_segments, type), KERNEL(name##_rows, type)}
#define NORM(type)                                                                                                    \
    {FORMS(moments, type), FORMS(sums, type), FORMS(normalise, type), FORMS(combine, type), FORMS(combine3, type)}
#define ROW_NORM(type)                                                                                                \
    {KERNEL(run_moments, type), KERNEL(run_sums, type), KERNEL(rows_forward, type), KERNEL(rows_backward, type),      \
     KERNEL(rows_jvp, type), KERNEL(rows_backward_jvp, type)}
#define ACTIVATION_(name, type)                                                                                       \
    {KERNEL(name##_forward, type), KERNEL(name##_backward, type), KERNEL(name##_backward_r, type)}
#define ACTIVATION(name) {ACTIVATION_(name, f32), ACTIVATION_(name, f64)}
#define LOSS(type)                                                                                                    \
    {KERNEL(softmax, type), KERNEL(log_softmax, type), KERNEL(cross_entropy, type), KERNEL(cross_entropy_soft, type), \
     KERNEL(cross_entropy_r, type), KERNEL(mse, type)}

#define LEVEL_NUMBER_baseline OC_LEVEL_BASELINE
#define LEVEL_NUMBER_v3 OC_LEVEL_V3
#define LEVEL_NUMBER_v4 OC_LEVEL_V4
#define NUMBER_(level) LEVEL_NUMBER_##level
#define NUMBER(level) NUMBER_(level)
#define TABLE_(level) oc_table_##level
#define TABLE(level) TABLE_(level)

extern const oc_kernels TABLE(OC_LEVEL);
const oc_kernels TABLE(OC_LEVEL) = {
    .level = NUMBER(OC_LEVEL),
    .update = {[OC_SGD] = BOTH(sgd), [OC_ADAGRAD] = BOTH(adagrad), [OC_RMSPROP] = BOTH(rmsprop), [OC_ADAM] = BOTH(adam),
               [OC_ADADELTA] = BOTH(adadelta), [OC_ADAMAX] = BOTH(adamax), [OC_NADAM] = BOTH(nadam),
               [OC_RADAM] = BOTH(radam), [OC_ADEMAMIX] = BOTH(ademamix), [OC_RPROP] = BOTH(rprop),
               [OC_LION] = BOTH(lion), [OC_SOPHIA] = BOTH(sophia), [OC_ASGD] = BOTH(asgd),
               [OC_SCHEDULE_FREE] = BOTH(schedule_free), [OC_SOPHIA_HESSIAN] = BOTH(sophia_hessian),
               [OC_SCHEDULE_FREE_EVAL] = BOTH(towards), [OC_SCHEDULE_FREE_TRAIN] = BOTH(towards)},
    .reduce = {REDUCE(f32), REDUCE(f64)},
    .column_sums = BOTH(column_sums),
    .norm = {NORM(f32), NORM(f64)},
    .row_norm = {ROW_NORM(f32), ROW_NORM(f64)},
    .merge_moments = KERNEL(merge, moments),
    .add_sums = KERNEL(add, sums),
    .activation = {[OC_RELU] = ACTIVATION(relu), [OC_ELU] = ACTIVATION(elu), [OC_SIGMOID] = ACTIVATION(sigmoid),
                   [OC_TANH] = ACTIVATION(tanh)},
    .loss = {LOSS(f32), LOSS(f64)},
};
