# Every declaration of src_c/optcore.h that Cython uses, once.
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "optcore.h" nogil:
    ctypedef enum oc_dtype:
        OC_F32
        OC_F64

    ctypedef enum oc_level:
        OC_LEVEL_BASELINE
        OC_N_LEVELS

    ctypedef enum oc_rule:
        OC_SGD
        OC_ADAGRAD
        OC_RMSPROP
        OC_ADAM
        OC_ADADELTA
        OC_ADAMAX
        OC_NADAM
        OC_RADAM
        OC_ADEMAMIX
        OC_RPROP
        OC_LION
        OC_SOPHIA
        OC_ASGD
        OC_SCHEDULE_FREE
        OC_LAMB
        OC_LARS
        OC_ADAFACTOR
        OC_MUON
        OC_SOPHIA_HESSIAN
        OC_SCHEDULE_FREE_EVAL
        OC_SCHEDULE_FREE_TRAIN
        OC_LAYER_APPLY
        OC_LARS_APPLY
        OC_N_RULES

    enum:
        OC_MAX_STREAMS
        OC_DIRECTION
        OC_MAX_CARRIED
        OC_BLOCK
        OC_ABI_VERSION

    ctypedef struct oc_options:
        double lr, weight_decay, eps, beta1, beta2, alpha, momentum, dampening, lr_decay, clip_value
        double rho, beta3, beta3_warmup, alpha_warmup, momentum_decay, shrink, grow, step_min, step_max, lambd, t0
        double warmup_steps, r, weight_lr_power, beta2_decay, rms_theta, rms_u, trust, ns_a, ns_b, ns_c, ns_steps
        int maximize, nesterov, amsgrad, decoupled, centered, average, warm_start, adaptive, bias_correction
        int match_rms

    ctypedef struct oc_coefficients:
        double carried[OC_MAX_CARRIED]
        double eta, eps
        int far

    ctypedef void oc_update_fn(Py_ssize_t n, void **x, const oc_coefficients *c) noexcept nogil

    ctypedef struct oc_layer:
        Py_ssize_t n, rows, columns
        double norm_theta, norm_u

    double oc_layer_factor(oc_rule rule, const oc_options *options, const oc_layer *layer)

    ctypedef struct oc_layer_kernels:
        void (*column_squares)(Py_ssize_t rows, Py_ssize_t columns, const void *x, double *sums) noexcept nogil
        double (*mean_squares)(Py_ssize_t n, const double *sums, double count, const oc_coefficients *c,
                               void *v) noexcept nogil
        void (*divide_factored)(Py_ssize_t rows, Py_ssize_t columns, const void *row, const void *column, double mean,
                                double eps, void *u) noexcept nogil
        void (*divide)(Py_ssize_t n, double by, void *x) noexcept nogil

    ctypedef enum oc_storage:
        OC_AS_F32
        OC_AS_F64
        OC_AS_BF16
        OC_AS_F16
        OC_AS_SIGNED_CODES
        OC_AS_UNSIGNED_CODES

    ctypedef enum oc_rounding:
        OC_ROUND_NEAREST
        OC_ROUND_RANDOM
        OC_ROUND_PAIR

    enum:
        OC_STATE_BLOCK
        OC_STAGE

    ctypedef enum oc_mix:
        OC_BF16_STATES
        OC_ALL_BF16
        OC_N_MIXES

    ctypedef struct oc_array:
        void *data
        void *extra
        oc_storage storage
        oc_rounding rounding

    ctypedef struct oc_mean:
        double keep, keep_rest, add

    ctypedef struct oc_staged:
        oc_array x[OC_MAX_STREAMS]
        oc_array average
        oc_array copy
        oc_mean mean
        uint64_t key

    ctypedef void oc_staged_fn(oc_rule rule, Py_ssize_t begin, Py_ssize_t n, const oc_staged *s,
                               const oc_coefficients *c) noexcept nogil
    ctypedef void oc_load_fn(Py_ssize_t at, Py_ssize_t n, const oc_array *a, void *to) noexcept nogil
    ctypedef void oc_store_fn(Py_ssize_t at, Py_ssize_t n, const oc_array *a, uint64_t key, int stream,
                              const void *values) noexcept nogil

    ctypedef struct oc_reduce_kernels:
        double (*sum_squares)(Py_ssize_t n, const void *x, double scale) noexcept nogil
        double (*dot)(Py_ssize_t n, const void *x, const void *y) noexcept nogil
        double (*abs_max)(Py_ssize_t n, const void *x) noexcept nogil
        Py_ssize_t (*count_nonfinite)(Py_ssize_t n, const void *x) noexcept nogil
        void (*dots)(Py_ssize_t n, Py_ssize_t m, Py_ssize_t stride, const void *rows, const void *y, Py_ssize_t step,
                     double *result) noexcept nogil
        void (*subtract)(Py_ssize_t n, Py_ssize_t m, Py_ssize_t stride, const double *factor, const void *rows,
                         void *y) noexcept nogil
        void (*sweep)(Py_ssize_t n, Py_ssize_t m, Py_ssize_t stride, const void *rows, int fresh,
                      const double *factor, void *vectors, Py_ssize_t step, double *result) noexcept nogil

    ctypedef double oc_penalty_fn(Py_ssize_t n, double l1, double l2, const void *w, void *g) noexcept nogil

    enum:
        OC_SEGMENTS
        OC_ROWS
        OC_BF16

    ctypedef void oc_moments_fn(Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t stride, const void *x,
                                double *moments, int how) noexcept
    ctypedef void oc_sums_fn(Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t stride, const void *u, const void *v,
                             const double *mean, double *sums, int how) noexcept
    ctypedef void oc_gated_sums_fn(Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t stride, const void *u,
                                   const void *v, const void *gate, const void *coef, Py_ssize_t ld,
                                   const double *mean, double *sums, void *kept, int how) noexcept
    ctypedef void oc_merge_fn(Py_ssize_t channels, double na, double *a, Py_ssize_t lda, double nb, const double *b,
                              Py_ssize_t ldb) noexcept
    ctypedef void oc_add_fn(Py_ssize_t n, double *a, const double *b) noexcept
    ctypedef void oc_standardise_fn(Py_ssize_t channels, double count, double eps, const double *moments, Py_ssize_t ld,
                                    double *mean, double *rest, double *m2, double *var, double *inv_std) noexcept
    ctypedef void oc_forward_constants_fn(Py_ssize_t channels, int narrow, const double *mean, const double *rest,
                                          const double *inv_std, const double *weight, const double *bias, double *high,
                                          double *scale, double *shift) noexcept
    ctypedef void oc_backward_constants_fn(Py_ssize_t channels, int narrow, double count, const double *mean,
                                           const double *rest, const double *inv_std, const double *weight,
                                           const double *sums, double *dweight, double *dbias, double *constants,
                                           Py_ssize_t ld) noexcept
    enum:
        OC_PAST_CACHES, OC_WRAPPED, OC_FROM_MEMORY
        OC_MAX_INPUTS
        OC_SHORT
    ctypedef void oc_channel_fn(Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t stride, const void **ins,
                                const void *coef, Py_ssize_t ld, void *y, int how) noexcept
    double oc_power_of(double factor, double inv_std)
    bint oc_all_safe(Py_ssize_t n, const double *factor)
    ctypedef void oc_scaled_fn(oc_channel_fn *apply, int inputs, int rows, Py_ssize_t outer, Py_ssize_t inner,
                               Py_ssize_t stride, const void **ins, const void *coef, Py_ssize_t ld, void *y) noexcept

    ctypedef struct oc_norm_kernels:
        oc_moments_fn *moments[2]
        oc_sums_fn *sums[2]
        oc_gated_sums_fn *gated_sums[2]
        oc_channel_fn *normalise[2]
        oc_channel_fn *normalise_relu[2]
        oc_channel_fn *normalise_add[2]
        oc_channel_fn *normalise_add_relu[2]
        oc_channel_fn *normalise_gated[2]
        oc_channel_fn *combine[2]
        oc_channel_fn *combine_gated[2]
        oc_channel_fn *combine_self_gated[2]
        oc_channel_fn *combine3[2]
        oc_scaled_fn *scaled[2]

    ctypedef struct oc_rows:
        Py_ssize_t rows, columns, stride, every
        bint centred, past_caches
        double eps
        const void *x
        const void *dy
        const void *rx
        const void *rdy
        const void *weight
        const void *bias
        const void *rweight
        const void *rbias
        void *out
        double *mean
        double *rest
        double *inv_std
        double *rmean
        double *rinv_std
        double *dweight
        double *dbias

    ctypedef void oc_rows_fn(const oc_rows *p) noexcept

    ctypedef struct oc_row_norm_kernels:
        void (*moments)(Py_ssize_t n, const void *x, double *moments) noexcept nogil
        void (*sums)(Py_ssize_t n, const void *u, const void *v, double mean, double *sums) noexcept nogil
        oc_rows_fn *forward
        oc_rows_fn *backward
        oc_rows_fn *jvp
        oc_rows_fn *backward_jvp

    ctypedef enum oc_activation:
        OC_RELU
        OC_ELU
        OC_SIGMOID
        OC_TANH
        OC_GELU
        OC_GELU_TANH
        OC_SILU
        OC_N_ACTIVATIONS

    ctypedef struct oc_activation_kernels:
        void (*forward)(Py_ssize_t n, const void *x, double alpha, void *y) noexcept nogil
        void (*backward)(Py_ssize_t n, const void *dy, const void *of, double alpha, void *dx) noexcept nogil
        void (*backward_r)(Py_ssize_t n, const void *dy, const void *rdy, const void *of, const void *rx, double alpha,
                           void *rdx) noexcept nogil

    ctypedef struct oc_loss_kernels:
        void (*softmax)(Py_ssize_t rows, Py_ssize_t classes, const void *z, void *p) noexcept nogil
        void (*log_softmax)(Py_ssize_t rows, Py_ssize_t classes, const void *z, void *log_p) noexcept nogil
        void (*cross_entropy)(Py_ssize_t rows, Py_ssize_t classes, const void *z, const int64_t *target, double scale,
                              double *loss, void *dz) noexcept nogil
        void (*cross_entropy_soft)(Py_ssize_t rows, Py_ssize_t classes, const void *z, const void *q, double scale,
                                   double *loss, void *dz) noexcept nogil
        void (*cross_entropy_r)(Py_ssize_t rows, Py_ssize_t classes, const void *p, const void *rz, double scale,
                                void *rdz) noexcept nogil
        double (*mse)(Py_ssize_t n, const void *y, const void *target, double scale, void *dy) noexcept nogil
        double (*huber)(Py_ssize_t n, const void *y, const void *target, double delta, double scale,
                        void *dy) noexcept nogil
        double (*bce)(Py_ssize_t n, const void *z, const void *target, const void *weight, double scale,
                      void *dz) noexcept nogil

    ctypedef void oc_column_sums_fn(Py_ssize_t rows, Py_ssize_t columns, const void *x, double *sums) noexcept nogil
    ctypedef void oc_turn_fn(Py_ssize_t rows, Py_ssize_t columns, const void *x, void *out) noexcept nogil
    ctypedef void oc_thin_fn(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a, Py_ssize_t row, Py_ssize_t term,
                             const void *b, Py_ssize_t ldb, int add, void *out, Py_ssize_t ldo) noexcept nogil
    ctypedef void oc_thin_dots_fn(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a, Py_ssize_t lda, const void *b,
                                  Py_ssize_t ldb, int add, void *out, Py_ssize_t ldo) noexcept nogil

    ctypedef struct oc_window:
        Py_ssize_t channels, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, out_h, out_w

    ctypedef struct oc_window_kernels:
        void (*windows_to_columns)(const oc_window *w, Py_ssize_t row, Py_ssize_t rows, const void *x,
                                   void *columns) noexcept nogil
        void (*add_columns)(const oc_window *w, Py_ssize_t row, Py_ssize_t rows, const void *columns,
                            void *x) noexcept nogil
        void (*add_plane_sums)(Py_ssize_t planes, Py_ssize_t n, const void *x, double *sums) noexcept nogil
        void (*max_pool)(const oc_window *w, const void *x, void *y, int32_t *argmax) noexcept nogil
        void (*max_pool_backward)(const oc_window *w, const void *dy, const int32_t *argmax, void *dx) noexcept nogil
        void (*max_pool_r)(const oc_window *w, const void *rx, const int32_t *argmax, void *ry) noexcept nogil
        void (*average_pool)(const oc_window *w, const void *x, void *y) noexcept nogil
        void (*average_pool_backward)(const oc_window *w, const void *dy, void *dx) noexcept nogil

    ctypedef void oc_dropout_fn(Py_ssize_t at, Py_ssize_t n, uint64_t key, int32_t drop, double scale, const void *x,
                                void *y) noexcept nogil

    ctypedef struct oc_kernels:
        oc_level level
        oc_update_fn *update[OC_N_RULES][2]
        oc_update_fn *mixed[2][OC_N_RULES]
        oc_staged_fn *staged[2]
        oc_load_fn *load[2]
        oc_store_fn *store[2]
        oc_layer_kernels layer[2]
        oc_reduce_kernels reduce[2]
        oc_column_sums_fn *column_sums[2]
        oc_turn_fn *turn[2]
        oc_thin_fn *thin[2]
        oc_thin_dots_fn *thin_dots[2]
        oc_norm_kernels norm[3]
        oc_row_norm_kernels row_norm[3]
        oc_merge_fn *merge_moments
        oc_add_fn *add_sums
        oc_standardise_fn *standardise
        oc_forward_constants_fn *forward_constants
        oc_backward_constants_fn *backward_constants
        oc_activation_kernels activation[OC_N_ACTIVATIONS][2]
        oc_loss_kernels loss[2]
        oc_window_kernels window[2]
        oc_dropout_fn *dropout[2]
        oc_penalty_fn *penalty[2]

    int oc_abi_version()
    const char *oc_level_name(oc_level level)
    const oc_kernels *oc_kernels_at(oc_level level)
    const oc_kernels *oc_kernels_best()
    void oc_prepare(oc_rule rule, oc_dtype dtype, const oc_options *options, int64_t step, double grad_scale,
                    oc_coefficients *c)
    void oc_gradients_within(double largest, oc_coefficients *c)
    double oc_tree_sum(Py_ssize_t n, double *x)
