/* elementary.tmpl.h: exponentials of x <= 0, the hyperbolic tangent, the logistic function and the normal distribution,
 * as plain polynomials that the compiler vectorises: no libm, so the same bits at every level.
 * Parameters: T the element type, BITS its width, UINT the unsigned integer of that width, FUSED and EXACT_FMA as in
 * update.tmpl.h, FN(name). */

/* e^x = 2^k e^r, k the integer nearest to x/ln 2, |r| <= ln(2)/2 (Cody and Waite 1980). LN2_HI and LN2_LO, the rest of
 * ln 2, have so few bits that k times either is exact for every k in use. Adding OC_SHIFTER = 1.5 * 2^MANTISSA + OC_BIAS
 * rounds to an integer and leaves k + OC_BIAS in the low bits, which is the exponent field of 2^(k + 64): the 64 keep it in
 * the normal range where e^x is subnormal or 0. At OC_EXP_LOWEST, far below where e^x rounds to 0, k + OC_BIAS is 0, and so
 * is the power; below OC_EXPM1_LOWEST e^x - 1 rounds to -1;
 * beyond OC_TAIL_END a e^-a rounds to 0, beyond OC_NORMAL_END a^2 e^(-a^2/2), and
 * beyond OC_CUBIC_END what GELU's tanh form has of it. */
#if BITS == 32
#define OC_LN2_HI 0x1.62e4p-1f
#define OC_LN2_LO 0x1.7f7ep-20f
#define OC_LOG2E 0x1.715476p+0f
#define OC_MANTISSA 23
#define OC_BIAS (64 + 127)
#define OC_SHIFTER (0x1.8p23f + OC_BIAS)
#define OC_EXP_LOWEST -132.4f
#define OC_EXPM1_LOWEST -18.0f
#define OC_TAIL_END 110.0f
#define OC_NORMAL_END 14.8f
#define OC_CUBIC_END 11.1f
#define OC_MILLS_K 3.5f
#define OC_HALF 12
#else
#define OC_LN2_HI 0x1.62e42fefa38p-1
#define OC_LN2_LO 0x1.ef35793c76p-45
#define OC_LOG2E 0x1.71547652b82fep+0
#define OC_MANTISSA 52
#define OC_BIAS (64 + 1023)
#define OC_SHIFTER (0x1.8p52 + OC_BIAS)
#define OC_EXP_LOWEST -753.5
#define OC_EXPM1_LOWEST -38.0
#define OC_TAIL_END 752.0
#define OC_NORMAL_END 38.8
#define OC_CUBIC_END 21.59
#define OC_MILLS_K 5.5
#define OC_HALF 27
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

/* x where `keep` is 1, 0 where it is 0, by the bits: what a condition chooses, gcc widens to double first and then chooses
 * twice as often. */
OC_INLINE T FN(where)(int keep, T x) {
    return FN(of_bits)(FN(bits)(x) & -(UINT)keep);
}

/* e^r - 1 = r + r^2 q(r), |r| <= ln(2)/2, q = 1/2! + r/3! + ...
 * float: the q of degree 4 whose largest relative error of e^r - 1 is least (Remez; the coefficients rounded to float one
 * after the other, the later ones fitted again): 1.4e-8, less than a tenth of an ulp of e^r. It is evaluated in pairs of
 * terms (Estrin), because the time goes into waiting for the last result.
 * double: the first term left out is below a tenth of an ulp. */
OC_INLINE T FN(expm1_reduced)(T r) {
    const T square = r * r;
#if BITS == 32
    const T low = FUSED(r, 0x1.5554b4p-3f, 0x1.fffffep-2f), high = FUSED(r, 0x1.12254p-7f, 0x1.5556f4p-5f);
    const T q = FUSED(square, FUSED(square, 0x1.6b99eap-10f, high), low);
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
    return FUSED(square, q, r);
}

/* x = k ln 2 + r: returns r, and k + OC_BIAS in the low bits of *k. */
OC_INLINE T FN(reduce_exp)(T x, UINT *k) {
    const T shifted = FUSED(x, OC_LOG2E, OC_SHIFTER);
    const T kf = shifted - OC_SHIFTER;
    *k = FN(bits)(shifted);
    return EXACT_FMA(kf, -OC_LN2_LO, EXACT_FMA(kf, -OC_LN2_HI, x));
}

/* 2^(k + 64) from k + OC_BIAS. */
OC_INLINE T FN(pow2_biased)(UINT k) {
    return FN(of_bits)(k << OC_MANTISSA);
}

/* OC_EXP_LOWEST out of gcc's sight, which takes a constant bound through all that follows: it blends each result with what
 * comes of the bound, five operations where a maximum is one. To be read before a loop. */
static const volatile T FN(exp_lowest) = OC_EXP_LOWEST;

/* 2^64 e^x for x <= 0, which is not subnormal where e^x is, in two steps: x = k ln 2 + r and *power = 2^(k + 64); NaN
 * passes. */
OC_INLINE T FN(reduce_neg)(T x, T lowest, T *power) {
    UINT k;
    const T r = FN(reduce_exp)(x < lowest ? lowest : x, &k);
    *power = FN(pow2_biased)(k);
    return r;
}

/* e^r - 1 times a power of two is exact, or so small that it does not decide how the sum rounds. */
OC_INLINE T FN(exp_reduced)(T r, T power) {
    return EXACT_FMA(FN(expm1_reduced)(r), power, power);
}

OC_INLINE T FN(exp_scaled)(T x, T lowest) {
    T power;
    const T r = FN(reduce_neg)(x, lowest, &power);
    return FN(exp_reduced)(r, power);
}

/* The product is exact, or rounds once into the subnormal range. */
OC_INLINE T FN(exp_neg)(T x) {
    return FN(exp_scaled)(x, OC_EXP_LOWEST) * (T)0x1p-64;
}

/* e^x - 1 for x <= 0, accurate near 0: 2^k (e^r - 1) + (2^k - 1), whose second term is exact. */
OC_INLINE T FN(expm1_neg)(T x) {
    UINT k;
    x = x < OC_EXPM1_LOWEST ? OC_EXPM1_LOWEST : x;
    const T p = FN(expm1_reduced)(FN(reduce_exp)(x, &k));
    const T s = FN(pow2_biased)(k) * (T)0x1p-64;
    return s * p + (s - 1);
}

/* tanh |x| = (1 - e)/(1 + e), e = e^(-2|x|) = t + b with t = 2^k. Numerator and denominator are (1 -+ t) -+ b; what
 * rounding loses of them comes back as a correction of the quotient, for which 1.5 - den/2 is near enough to 1/den. */
OC_INLINE T FN(tanh)(T x) {
    UINT k;
    T a = -2 * FN(abs)(x);
    a = a < OC_EXPM1_LOWEST ? OC_EXPM1_LOWEST : a;
    const T p = FN(expm1_reduced)(FN(reduce_exp)(a, &k));
    const T t = FN(pow2_biased)(k) * (T)0x1p-64;
    const T b = t * p, below = 1 - t, above = 1 + t;
    const T num = below - b, num_lost = (below - num) - b;
    const T den = above + b, den_lost = (above - den) + b;
    const T y = num / den;
    return FN(copysign)(y + (num_lost - y * den_lost) * ((T)1.5 - (T)0.5 * den), x);
}

/* 2^64/(1 + e^a) = 2^(64-k) / (2^-k + e^r), 0 <= a <= OC_TAIL_END: no overflow, and what is made of it may be subnormal.
 * 2^-k goes to that side of the denominator's sum where it is exact, or nearly; by the bits, as gcc would divide for either. */
OC_INLINE T FN(logistic_tail)(T a) {
    UINT k;
    const T p = FN(expm1_reduced)(FN(reduce_exp)(a, &k));
    const T t = FN(pow2_biased)(2 * OC_BIAS - k);
    const T scaled = t * (T)0x1p-64, large = FN(where)(scaled > (T)0x1p-12, scaled);
    return t / ((1 + large) + ((scaled - large) + p));
}

OC_INLINE T FN(sigmoid)(T x) {
    T a = FN(abs)(x);
    a = a > OC_TAIL_END ? OC_TAIL_END : a;
    const T y = FN(logistic_tail)(a) * (T)0x1p-64;
    return x < 0 ? y : 1 - y;
}

/* 2^64 Phi(-a), a >= 0, with Phi the normal distribution function: e^(-a^2/2) R(a). R is smooth and falls like 1/a, so that
 * R(a) = u P(t) with u = 1/(a + K), t = (a - K) u in [-1, 1) (after Shepherd and Laframboise 1981); P interpolates in
 * Chebyshev's points up to where the result rounds to 0: its relative error is 1.7e-8 (float), 1.0e-17 (double). */
OC_INLINE T FN(mills)(T a) {
    const T u = 1 / (a + OC_MILLS_K), t = (a - OC_MILLS_K) * u;
#if BITS == 32
    const T s = t * t;
    const T low = (0x1.7d241ap-1f - 0x1.21915p-1f * t) + s * (0x1.42feaep-2f - 0x1.db5a22p-4f * t);
    const T high = (0x1.1d411p-6f + 0x1.a9811ep-8f * t) +
                   s * ((-0x1.a2250ep-9f - 0x1.061984p-11f * t) + s * (0x1.cc9186p-12f + 0x1.fff70cp-14f * t));
    return u * (low + (s * s) * high);
#else
    const T s = t * t;
    T even = -0x1.e203e27de2e06p-33;
    even = even * s - 0x1.72f119641c609p-28;
    even = even * s + 0x1.b272b995c328fp-25;
    even = even * s - 0x1.206dd4591fd6dp-22;
    even = even * s + 0x1.e00e9daee151dp-22;
    even = even * s + 0x1.11cc4a83198fcp-16;
    even = even * s - 0x1.54495c1bcc3e2p-12;
    even = even * s + 0x1.4034e53e60314p-9;
    even = even * s + 0x1.71707b57878aep-5;
    even = even * s + 0x1.be33e6ee98bc2p-3;
    even = even * s + 0x1.1239b3f8c06e6p-1;
    even = even * s + 0x1.8c2b8893b5c8dp-1;
    T odd = -0x1.ae4e2b763e109p-29;
    odd = odd * s + 0x1.a53a29151b966p-26;
    odd = odd * s - 0x1.818b6e1962aecp-23;
    odd = odd * s + 0x1.8eae159b8effep-20;
    odd = odd * s - 0x1.96a96908b94cfp-17;
    odd = odd * s + 0x1.2b8946eb9dafap-14;
    odd = odd * s + 0x1.1ab34408ee1e9p-12;
    odd = odd * s - 0x1.c83edf41a0b75p-7;
    odd = odd * s - 0x1.c15806fa4c3eap-4;
    odd = odd * s - 0x1.77dbb5cdda909p-2;
    odd = odd * s - 0x1.5ed05c7e41a2ep-1;
    return u * (even + t * odd);
#endif
}

/* 2^64 e^(-a^2/2), 0 <= a <= OC_NORMAL_END. With the upper half of a's bits in h, h^2 is exact and a^2 - h^2 =
 * (a - h)(a + h) small: a^2 itself would be off by an ulp, and e to it by a^2/2 of them. */
OC_INLINE T FN(gaussian)(T a) {
    const T h = FN(of_bits)(FN(bits)(a) >> OC_HALF << OC_HALF);
    const T top = h * h * (T)-0.5, rest = (a - h) * (a + h) * (T)-0.5;
    const T shifted = FUSED(top + rest, OC_LOG2E, OC_SHIFTER);
    const T kf = shifted - OC_SHIFTER;
    const T p = FN(expm1_reduced)(((top - kf * OC_LN2_HI) + rest) - kf * OC_LN2_LO);
    return (p + 1) * FN(pow2_biased)(FN(bits)(shifted));
}

#undef OC_LN2_HI
#undef OC_LN2_LO
#undef OC_LOG2E
#undef OC_MANTISSA
#undef OC_SHIFTER
#undef OC_BIAS
#undef OC_EXP_LOWEST
#undef OC_EXPM1_LOWEST
#undef OC_MILLS_K
#undef OC_HALF
