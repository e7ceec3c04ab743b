/* activation.tmpl.h: y = f(x), and products with the derivatives of f, which are functions of the output y, or of the input
 * x where y does not say from which x it came.
 * Parameters: T the element type, FN(name) the symbol of a kernel for this T and level; elementary.tmpl.h before.
 *
 * An output may be one of the inputs: OC_IN_PLACE tells the compiler that an element depends on its own index only. */

/* `value` is f(x), `first` is f'*d, `second` is f''*d, in terms of d, alpha and `of`: of x where it says x, else of y. */
#define OC_ACTIVATION(name, of, value, first, second)                                                                 \
    OC_INLINE T FN(name##_value)(T x, T alpha) {                                                                      \
        return (void)alpha, value;                                                                                    \
    }                                                                                                                 \
    OC_INLINE T FN(name##_first)(T of, T d, T alpha) {                                                                \
        return (void)alpha, first;                                                                                    \
    }                                                                                                                 \
    OC_INLINE T FN(name##_second)(T of, T d, T alpha) {                                                               \
        return (void)of, (void)d, (void)alpha, second;                                                                \
    }                                                                                                                 \
    static void FN(name##_forward)(ptrdiff_t n, const void *vx, double alpha, void *vy) {                             \
        const T *x = vx;                                                                                              \
        T *y = vy;                                                                                                    \
        OC_IN_PLACE                                                                                                   \
        for (ptrdiff_t i = 0; i < n; i++)                                                                             \
            y[i] = FN(name##_value)(x[i], (T)alpha);                                                                  \
    }                                                                                                                 \
    static void FN(name##_backward)(ptrdiff_t n, const void *vdy, const void *vof, double alpha, void *vdx) {         \
        const T *dy = vdy, *of = vof;                                                                                 \
        T *dx = vdx;                                                                                                  \
        OC_IN_PLACE                                                                                                   \
        for (ptrdiff_t i = 0; i < n; i++)                                                                             \
            dx[i] = FN(name##_first)(of[i], dy[i], (T)alpha);                                                         \
    }                                                                                                                 \
    static void FN(name##_backward_r)(ptrdiff_t n, const void *vdy, const void *vrdy, const void *vof,                \
                                      const void *vrx, double alpha, void *vrdx) {                                    \
        const T *dy = vdy, *rdy = vrdy, *of = vof, *rx = vrx;                                                         \
        T *rdx = vrdx;                                                                                                \
        OC_IN_PLACE                                                                                                   \
        for (ptrdiff_t i = 0; i < n; i++)                                                                             \
            rdx[i] = FN(name##_first)(of[i], rdy[i], (T)alpha) + FN(name##_second)(of[i], rx[i] * dy[i], (T)alpha);   \
    }

/* max(x, 0), written so that NaN passes; f'(0) = 0 as in PyTorch. */
OC_ACTIVATION(relu, y, x <= 0 ? 0 : x, y <= 0 ? 0 : d, 0)

/* x, or alpha*(e^x - 1) for x <= 0 (Clevert et al. 2016); there f' = f'' = alpha*e^x = y + alpha. */
OC_ACTIVATION(elu, y, x > 0 ? x : alpha * FN(expm1_neg)(x), y <= 0 ? d * (y + alpha) : d, y <= 0 ? d * (y + alpha) : 0)

/* 1/(1 + e^-x): f' = y(1 - y), f'' = f' (1 - 2y). */
OC_ACTIVATION(sigmoid, y, FN(sigmoid)(x), d * (y * (1 - y)), d * (y * (1 - y) * (1 - 2 * y)))

/* f' = 1 - y^2, in factors because 1 - y is exact near 1; f'' = -2y f'. */
OC_ACTIVATION(tanh, y, FN(tanh)(x), d * ((1 - y) * (1 + y)), d * (-2 * y * ((1 - y) * (1 + y))))

/* What lies below 0 of GELU and SiLU, and with it their other side. Both are y = x s(x) with s(-x) = 1 - s(x): with a = |x|
 * y = max(x, 0) - a s(-a), and f'(x) = 1 - f'(-x), f''(x) = f''(-x). s(-a) keeps its relative precision far out, where
 * 1 + erf and 1 + tanh cancel; it comes times 2^64, so that only the last product is subnormal. */
OC_INLINE T FN(within)(T x, T end) {
    const T a = FN(abs)(x);
    return a > end ? end : a;
}

OC_INLINE T FN(upper)(T x, T below) {
    return (x > 0 ? x : 0) - below * (T)0x1p-64;
}

OC_INLINE T FN(either)(T x, T below) {
    const T slope = below * (T)0x1p-64;
    return x < 0 ? slope : 1 - slope;
}

/* x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016): f' = Phi + x phi, f'' = (2 - x^2) phi, with the
 * density phi = e^(-x^2/2)/sqrt(2 pi). */
#define OC_DENSITY_AT_0 (T)0x1.9884533d43651p-2 /* 1/sqrt(2 pi) */

OC_INLINE T FN(gelu_y)(T x) {
    const T a = FN(within)(x, OC_NORMAL_END);
    return FN(upper)(x, FN(gaussian)(a) * FN(mills)(a) * a);
}

OC_INLINE T FN(gelu_slope)(T x) {
    const T a = FN(within)(x, OC_NORMAL_END);
    return FN(either)(x, FN(gaussian)(a) * (FN(mills)(a) - OC_DENSITY_AT_0 * a));
}

OC_INLINE T FN(gelu_bend)(T x) {
    const T a = FN(within)(x, OC_NORMAL_END);
    return FN(gaussian)(a) * (OC_DENSITY_AT_0 * (2 - a * a)) * (T)0x1p-64;
}

/* x sigma(v), v = k x + c x^3 and sigma the logistic function: f' = sigma (1 + x v' (1 - sigma)),
 * f'' = sigma (1 - sigma) (2 v' + x v'' + x v'^2 (1 - 2 sigma)). */
typedef struct {
    T k, c, end;
} FN(gate);

/* SiLU is v = x (Elfwing et al. 2018); GELU's tanh form is v = sqrt(8/pi) (x + 0.044715 x^3). */
static const FN(gate) FN(silu_gate) = {1, 0, OC_TAIL_END};
static const FN(gate) FN(gelu_tanh_gate) = {(T)0x1.9884533d43651p0, (T)0x1.2444f2a4d8b4bp-4, OC_CUBIC_END};

OC_INLINE T FN(gated_value)(T x, FN(gate) g) {
    const T a = FN(within)(x, g.end);
    return FN(upper)(x, FN(logistic_tail)(a * (g.k + g.c * (a * a))) * a);
}

OC_INLINE T FN(gated_slope)(T x, FN(gate) g) {
    const T a = FN(within)(x, g.end), square = a * a;
    const T tail = FN(logistic_tail)(a * (g.k + g.c * square)), dv = g.k + 3 * g.c * square;
    return FN(either)(x, tail * (1 - a * dv * (1 - tail * (T)0x1p-64)));
}

OC_INLINE T FN(gated_bend)(T x, FN(gate) g) {
    const T a = FN(within)(x, g.end), square = a * a;
    const T tail = FN(logistic_tail)(a * (g.k + g.c * square)), share = tail * (T)0x1p-64;
    const T dv = g.k + 3 * g.c * square, ddv = 6 * g.c * a;
    return tail * ((1 - share) * (2 * dv + a * ddv - a * (dv * dv) * (1 - 2 * share))) * (T)0x1p-64;
}

OC_ACTIVATION(gelu, x, FN(gelu_y)(x), FN(gelu_slope)(x) * d, FN(gelu_bend)(x) * d)
OC_ACTIVATION(gelu_tanh, x, FN(gated_value)(x, FN(gelu_tanh_gate)), FN(gated_slope)(x, FN(gelu_tanh_gate)) * d,
              FN(gated_bend)(x, FN(gelu_tanh_gate)) * d)
OC_ACTIVATION(silu, x, FN(gated_value)(x, FN(silu_gate)), FN(gated_slope)(x, FN(silu_gate)) * d,
              FN(gated_bend)(x, FN(silu_gate)) * d)

#undef OC_ACTIVATION
#undef OC_DENSITY_AT_0
#undef OC_TAIL_END
#undef OC_NORMAL_END
#undef OC_CUBIC_END
