/* elementary.tmpl.h: exponentials of x <= 0, the hyperbolic tangent and the logistic function, as plain polynomials
 * that the compiler vectorises: no libm, so the same bits at every level.
 * Parameters: T the element type, BITS its width, UINT the unsigned integer of that width, FN(name). */

/* e^x = 2^k e^r, k the integer nearest to x/ln 2, |r| <= ln(2)/2 (Cody and Waite 1980). LN2_HI has so few bits that
 * k*LN2_HI is exact for every k in use; LN2_LO is the rest of ln 2. Adding OC_SHIFTER = 1.5 * 2^MANTISSA + OC_BIAS rounds
 * to an integer and leaves k + OC_BIAS in the low bits, which is the exponent field of 2^(k + 64): the 64 keep it in the
 * normal range where e^x is subnormal or 0. Below OC_EXP_LOWEST e^x rounds to 0; below OC_EXPM1_LOWEST e^x - 1 to -1. */
#if BITS == 32
#define OC_LN2_HI 0x1.62e4p-1f
#define OC_LN2_LO 0x1.7f7d1dp-20f
#define OC_LOG2E 0x1.715476p+0f
#define OC_MANTISSA 23
#define OC_BIAS (64 + 127)
#define OC_SHIFTER (0x1.8p23f + OC_BIAS)
#define OC_EXP_LOWEST -104.0f
#define OC_EXPM1_LOWEST -18.0f
#else
#define OC_LN2_HI 0x1.62e42fefa38p-1
#define OC_LN2_LO 0x1.ef35793c7673p-45
#define OC_LOG2E 0x1.71547652b82fep+0
#define OC_MANTISSA 52
#define OC_BIAS (64 + 1023)
#define OC_SHIFTER (0x1.8p52 + OC_BIAS)
#define OC_EXP_LOWEST -746.0
#define OC_EXPM1_LOWEST -38.0
#endif

OC_INLINE UINT FN(bits)(T x) {
    union {
        T x;
        UINT u;
    } v = {.x = x};
    return v.u;
}

OC_INLINE T FN(of_bits)(UINT u) {
    union {
        UINT u;
        T x;
    } v = {.u = u};
    return v.x;
}

/* |x| with the sign of y. */
OC_INLINE T FN(copysign)(T x, T y) {
    const UINT sign = (UINT)1 << (BITS - 1);
    return FN(of_bits)((FN(bits)(x) & ~sign) | (FN(bits)(y) & sign));
}

OC_INLINE T FN(abs)(T x) {
    return FN(of_bits)(FN(bits)(x) & ~((UINT)1 << (BITS - 1)));
}

/* e^r - 1 = r + r^2 q(r), |r| <= ln(2)/2, q = 1/2! + r/3! + ...
 * float: the q of degree 4 whose largest relative error of e^r - 1 is least (Remez; the coefficients rounded to float one
 * after the other, the later ones fitted again): 1.4e-8, less than a tenth of an ulp of e^r. It is evaluated in pairs of
 * terms (Estrin), because the time goes into waiting for the last result.
 * double: the first term left out is below a tenth of an ulp. */
OC_INLINE T FN(expm1_reduced)(T r) {
    const T square = r * r;
#if BITS == 32
    const T q = (0x1.fffffep-2f + 0x1.5554b4p-3f * r) +
                square * ((0x1.5556f4p-5f + 0x1.12254p-7f * r) + square * 0x1.6b99eap-10f);
#else
    T q = 1.0 / 6227020800;
    q = q * r + 1.0 / 479001600;
    q = q * r + 1.0 / 39916800;
    q = q * r + 1.0 / 3628800;
    q = q * r + 1.0 / 362880;
    q = q * r + 1.0 / 40320;
    q = q * r + 1.0 / 5040;
    q = q * r + 1.0 / 720;
    q = q * r + 1.0 / 120;
    q = q * r + 1.0 / 24;
    q = q * r + 1.0 / 6;
    q = q * r + 0.5;
#endif
    return r + square * q;
}

/* x = k ln 2 + r: returns e^r - 1, and k + OC_BIAS in the low bits of *k. */
OC_INLINE T FN(reduce_exp)(T x, UINT *k) {
    const T shifted = x * OC_LOG2E + OC_SHIFTER;
    const T kf = shifted - OC_SHIFTER;
    *k = FN(bits)(shifted);
    return FN(expm1_reduced)((x - kf * OC_LN2_HI) - kf * OC_LN2_LO);
}

/* 2^(k + 64) from k + OC_BIAS. */
OC_INLINE T FN(pow2_biased)(UINT k) {
    return FN(of_bits)(k << OC_MANTISSA);
}

/* e^x for x <= 0; NaN passes. The last product is exact, or rounds once into the subnormal range. */
OC_INLINE T FN(exp_neg)(T x) {
    UINT k;
    x = x < OC_EXP_LOWEST ? OC_EXP_LOWEST : x;
    const T p = FN(reduce_exp)(x, &k);
    return (p + 1) * FN(pow2_biased)(k) * (T)0x1p-64;
}

/* e^x - 1 for x <= 0, accurate near 0: 2^k (e^r - 1) + (2^k - 1), whose second term is exact. */
OC_INLINE T FN(expm1_neg)(T x) {
    UINT k;
    x = x < OC_EXPM1_LOWEST ? OC_EXPM1_LOWEST : x;
    const T p = FN(reduce_exp)(x, &k);
    const T s = FN(pow2_biased)(k) * (T)0x1p-64;
    return s * p + (s - 1);
}

/* tanh |x| = (1 - e)/(1 + e), e = e^(-2|x|) = t + b with t = 2^k. Numerator and denominator are (1 -+ t) -+ b; what
 * rounding loses of them comes back as a correction of the quotient, for which 1.5 - den/2 is near enough to 1/den. */
OC_INLINE T FN(tanh)(T x) {
    UINT k;
    T a = -2 * FN(abs)(x);
    a = a < OC_EXPM1_LOWEST ? OC_EXPM1_LOWEST : a;
    const T p = FN(reduce_exp)(a, &k);
    const T t = FN(pow2_biased)(k) * (T)0x1p-64;
    const T b = t * p, below = 1 - t, above = 1 + t;
    const T num = below - b, num_lost = (below - num) - b;
    const T den = above + b, den_lost = (above - den) + b;
    const T y = num / den;
    return FN(copysign)(y + (num_lost - y * den_lost) * ((T)1.5 - (T)0.5 * den), x);
}

/* 1/(1 + e^|x|) = 2^-k / (2^-k + e^r), or 1 less that for x >= 0: no overflow, and the subnormal tail is right. 2^-k
 * goes to that side of the denominator's sum where it is exact, or nearly. */
OC_INLINE T FN(sigmoid)(T x) {
    UINT k;
    T a = FN(abs)(x);
    a = a > -OC_EXP_LOWEST ? -OC_EXP_LOWEST : a;
    const T p = FN(reduce_exp)(a, &k);
    const T t = FN(pow2_biased)(2 * OC_BIAS - k);
    const T scaled = t * (T)0x1p-64, large = scaled > (T)0x1p-12 ? scaled : 0;
    const T y = t / ((1 + large) + ((scaled - large) + p)) * (T)0x1p-64;
    return x < 0 ? y : 1 - y;
}

#undef OC_LN2_HI
#undef OC_LN2_LO
#undef OC_LOG2E
#undef OC_MANTISSA
#undef OC_SHIFTER
#undef OC_BIAS
#undef OC_EXP_LOWEST
#undef OC_EXPM1_LOWEST
