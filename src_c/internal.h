/* internal.h: what every template and every compilation of them shares. */
#ifndef OC_INTERNAL_H
#define OC_INTERNAL_H

#include "optcore.h"

#include <math.h>
#include <string.h>

#define OC_PASTE_(a, b, c, d) a##_##b##_##c##_##d
#define OC_PASTE(a, b, c, d) OC_PASTE_(a, b, c, d)

#if defined(__GNUC__) || defined(__clang__)
#define OC_INLINE static inline __attribute__((always_inline))
#define OC_LIKELY(x) __builtin_expect(!!(x), 1)
#define OC_IS_CONSTANT(x) __builtin_constant_p(x) /* once inlined */
#else
#define OC_INLINE static inline
#define OC_LIKELY(x) (x)
#define OC_IS_CONSTANT(x) 1
#endif

/* Elements of two vectors, by their constant indices. */
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define OC_SHUFFLE(...) __builtin_shufflevector(__VA_ARGS__)
#endif
#endif

/* Before a loop whose output may be one of its inputs: iterations are independent, so it vectorises without a check for
 * overlap (which would take the slow way exactly when working in place). */
#if defined(__clang__)
#define OC_IN_PLACE _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define OC_IN_PLACE _Pragma("GCC ivdep")
#else
#define OC_IN_PLACE
#endif

/* Before an inner loop over the lanes that is more than a sum: gcc would unroll it first and then fail to find the
 * vectors again. */
#if defined(__GNUC__) && !defined(__clang__)
#define OC_ROLLED _Pragma("GCC unroll 1")
#else
#define OC_ROLLED
#endif

/* Before a short inner loop that is to be unrolled whole: gcc counts its instructions and may not. */
#if defined(__clang__)
#define OC_ALL_AT_ONCE _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define OC_ALL_AT_ONCE _Pragma("GCC unroll 8")
#else
#define OC_ALL_AT_ONCE
#endif

/* Asks for the cache line of p, which need not exist, to be read or written soon. */
#if defined(__GNUC__) || defined(__clang__)
#define OC_PREFETCH(p) __builtin_prefetch(p)
#define OC_PREFETCH_OUT(p) __builtin_prefetch(p, 1)
#define OC_PREFETCH_L2(p) __builtin_prefetch(p, 0, 2) /* into the second-level cache */
#else
#define OC_PREFETCH(p) (void)(p)
#define OC_PREFETCH_OUT(p) (void)(p)
#define OC_PREFETCH_L2(p) (void)(p)
#endif

/* Elements of an array of n up to its first cache line. Full-width stores that cross lines cost a third of the speed. */
#define OC_WORTH_ALIGNING 512
OC_INLINE ptrdiff_t oc_up_to_line(const void *p, size_t size, ptrdiff_t n) {
    return n < OC_WORTH_ALIGNING ? 0 : (ptrdiff_t)((size_t)-(uintptr_t)p % OC_LINE / size);
}

/* Runs the body, a block, for elements 0 to n - 1 of arrays of `type`, with the coefficients c. A long range begins with the
 * few elements up to a line of x[0], theta; other arrays lie to the lines as it does. Of arrays that caches do not hold, long
 * ones or many, each OC_STRETCH begins with the statements of `ahead`, OC_COMING(x) for each array: they ask for its lines
 * some way ahead. Processors do that by themselves, but begin anew with every page, and fall behind where a line takes
 * long. */
#define OC_EACH(type, n, ahead, ...)                                                                                  \
    do {                                                                                                              \
        const int far = c->far || (n) >= OC_FAR;                                                                      \
        ptrdiff_t at = 0, edge = oc_up_to_line(x[0], sizeof(P_T), n);                                                 \
        for (;;) {                                                                                                    \
            OC_REST(type, at, edge, __VA_ARGS__);                                                                     \
            at = edge;                                                                                                \
            if (at == (n))                                                                                            \
                break;                                                                                                \
            for (; at + OC_STRETCH <= (n); at += OC_STRETCH) {                                                        \
                if (far) {                                                                                            \
                    ahead                                                                                             \
                }                                                                                                     \
                OC_IN_PLACE                                                                                           \
                for (ptrdiff_t i = at; i < at + OC_STRETCH; i++)                                                      \
                    __VA_ARGS__                                                                                       \
            }                                                                                                         \
            edge = (n);                                                                                               \
        }                                                                                                             \
    } while (0)
#define OC_STRETCH 32
#define OC_FAR ((ptrdiff_t)1 << 18) /* elements of an array that caches do not hold */
#define OC_COMING(x)                                                                                                  \
    for (size_t byte = 0; byte < OC_STRETCH * sizeof *(x); byte += OC_LINE)                                           \
        OC_PREFETCH((const char *)((x) + at) + 8 * OC_LINE + byte);

/* The last elements. With masks those that do not fill a vector take as long as a whole one; without them gcc takes
 * smaller vectors and then one by one. */
#if defined(__AVX512F__)
#define OC_LANES_OF(type) ((int)(OC_LINE / sizeof(type)))
#define OC_REST(type, begin, n, ...)                                                                                  \
    do {                                                                                                              \
        const ptrdiff_t whole = (n) - ((n) - (begin)) % OC_LANES_OF(type);                                            \
        const int rest = (int)((n) - whole);                                                                          \
        OC_IN_PLACE                                                                                                   \
        for (ptrdiff_t i = begin; i < whole; i++)                                                                     \
            __VA_ARGS__                                                                                               \
        if (rest == 0)                                                                                                \
            break;                                                                                                    \
        OC_IN_PLACE                                                                                                   \
        for (int l = 0; l < OC_LANES_OF(type); l++)                                                                   \
            if (l < rest) {                                                                                           \
                const ptrdiff_t i = whole + l;                                                                        \
                __VA_ARGS__                                                                                           \
            }                                                                                                         \
    } while (0)
#else
#define OC_REST(type, begin, n, ...)                                                                                  \
    do {                                                                                                              \
        OC_IN_PLACE                                                                                                   \
        for (ptrdiff_t i = begin; i < (n); i++)                                                                       \
            __VA_ARGS__                                                                                               \
    } while (0)
#endif

/* a*b + c where a*b is exact, so that fused or not it has the same bits. */
#if defined(__FP_FAST_FMA) || defined(__FMA__) || defined(__aarch64__)
#define OC_EXACT_FMA(a, b, c) __builtin_fma(a, b, c)
#define OC_EXACT_FMA_F32(a, b, c) __builtin_fmaf(a, b, c)
#else
#define OC_EXACT_FMA(a, b, c) ((a) * (b) + (c))
#define OC_EXACT_FMA_F32(a, b, c) ((a) * (b) + (c))
#endif

/* a*b + c rounded once, in float. What has no such instruction adds in double and rounds that sum to odd: where it is
 * not exact it becomes the neighbour, on the exact sum's side, whose last bit is 1, which then rounds to float as the
 * exact sum does (Boldo and Melquiond 2008). In whole vectors, without comparisons of 64-bit integers, which SSE2 lacks;
 * infinities and NaN lose NaN, which compares as exact. */
#if defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__aarch64__) /* clang may have the first of them or not */
#define OC_FUSED_F32(a, b, c) __builtin_fmaf(a, b, c)
#else
typedef union {
    double value;
    uint64_t bits;
} oc_double;

OC_INLINE float oc_fused(float a, float b, float c) {
    const double product = (double)a * (double)b, addend = (double)c;
    oc_double sum = {.value = product + addend}, lost, size, one;
    const double part = sum.value - product;
    lost.value = (product - (sum.value - part)) + (addend - part);
    size.bits = lost.bits & 0x7fffffffffffffffu;
    one.value = size.value > 0 ? 0x1p-1022 : 0; /* the smallest normal number: bit 52 alone */
    const uint64_t to_odd = one.bits >> 52 & ~sum.bits, beyond = (sum.bits ^ lost.bits) >> 63;
    sum.bits += to_odd - 2 * (to_odd & beyond);
    return (float)sum.value;
}
#define OC_FUSED_F32(a, b, c) oc_fused(a, b, c)
#endif

/* In double it would have to be libm's there, a hundred times as slow: two roundings, at every level. */
#define OC_FUSED_F64(a, b, c) ((a) * (b) + (c))

/* 16 double lanes fill two AVX-512 registers or eight SSE2 ones: enough independent sums to hide the latency of an
 * addition at every level. */
#define OC_LANES 16

#if defined(__GNUC__) || defined(__clang__)
#define OC_ON_LINE __attribute__((aligned(OC_LINE)))
#else
#define OC_ON_LINE
#endif

/* Bytes after which addresses look alike to a processor that asks whether a load has to wait for a store. */
#define OC_ALIAS 4096

/* One line to memory past the caches, which saves reading it first; OC_STREAM_END orders the lines before what follows. C
 * has no word for it. */
#if defined(__SSE2__)
#include <immintrin.h>
OC_INLINE void oc_stream_line(void *to, const void *from) {
#if defined(__AVX512F__)
    _mm512_stream_si512(to, _mm512_load_si512(from));
#else
    for (int i = 0; i < OC_LINE / 16; i++)
        _mm_stream_si128((__m128i *)to + i, _mm_load_si128((const __m128i *)from + i));
#endif
}
#define OC_STREAM_LINE(to, from) oc_stream_line(to, from)
#define OC_STREAM_END() _mm_sfence()
#else
#define OC_STREAM_LINE(to, from) memcpy(to, from, OC_LINE)
#define OC_STREAM_END() (void)0
#endif

/* A sum in double is written for a `kind` of numbers: `wide`, vectors that gcc converts as they are loaded, where it would
 * load whole vectors of floats and take them apart, in twice the instructions; or `one`, for the few that fill none. OC_OF
 * converts the elements from p on. */
#if defined(__AVX512F__)
#define OC_W 8
#define OC_WIDE_OF(get, p)                                                                                            \
    {(double)get((p)[0]), (double)get((p)[1]), (double)get((p)[2]), (double)get((p)[3]),                              \
     (double)get((p)[4]), (double)get((p)[5]), (double)get((p)[6]), (double)get((p)[7])}
#elif defined(__AVX__)
#define OC_W 4
#define OC_WIDE_OF(get, p) {(double)get((p)[0]), (double)get((p)[1]), (double)get((p)[2]), (double)get((p)[3])}
#elif defined(__GNUC__) || defined(__clang__)
#define OC_W 2
#define OC_WIDE_OF(get, p) {(double)get((p)[0]), (double)get((p)[1])}
#else
#define OC_W 1
#define OC_WIDE_OF(get, p) {(double)get((p)[0])}
#endif
typedef double oc_one, oc_one_at;
#if defined(__GNUC__) || defined(__clang__)
typedef double oc_wide __attribute__((vector_size(OC_W * sizeof(double))));
typedef oc_wide oc_wide_at __attribute__((aligned(sizeof(double)), may_alias)); /* in an array of double */
OC_INLINE oc_wide oc_wide_fma(oc_wide a, oc_wide b, oc_wide c) {
    for (int i = 0; i < OC_W; i++)
        c[i] = OC_EXACT_FMA(a[i], b[i], c[i]);
    return c;
}
#else
typedef double oc_wide, oc_wide_at;
#define oc_wide_fma(a, b, c) OC_EXACT_FMA(a, b, c)
#endif
#define oc_one_fma(a, b, c) OC_EXACT_FMA(a, b, c)
enum { oc_one_width = 1, oc_wide_width = OC_W };
#define OC_NUMBER(kind) oc_##kind
#define OC_WIDTH(kind) oc_##kind##_width
#define OC_OF(kind, get, p) OC_OF_##kind(get, p)
#define OC_OF_one(get, p) ((double)get(*(p)))
#define OC_OF_wide(get, p) ((oc_wide)OC_WIDE_OF(get, p))
#define OC_AT(kind, p) (*(oc_##kind##_at *)(p))
#define OC_READ(kind, p) ((oc_##kind)*(const oc_##kind##_at *)(p))
#define OC_FMA(kind, a, b, c) oc_##kind##_fma(a, b, c)
#define OC_OVER_NUMBERS(kind) OC_OVER_##kind
#define OC_OVER_one OC_IN_PLACE OC_ROLLED
#define OC_OVER_wide OC_ALL_AT_ONCE

/* Runs the body for element i in lane l = i % OC_LANES. The tail falls into the first lanes with the same expression,
 * so a length decides nothing but which lanes are added to. The body may write in place. */
#define OC_OVER_LANES(n, ...) OC_OVER_LANES_(n, OC_IN_PLACE, __VA_ARGS__)
/* With something to do before the lanes from element i0 on. */
#define OC_OVER_LANES_AFTER(n, first, ...) OC_OVER_LANES_(n, first OC_IN_PLACE, __VA_ARGS__)
#define OC_OVER_LANES_ROLLED(n, ...) OC_OVER_LANES_(n, OC_IN_PLACE OC_ROLLED, __VA_ARGS__)
#define OC_OVER_LANES_(n, pragmas, ...)                                                                               \
    do {                                                                                                              \
        ptrdiff_t i0 = 0;                                                                                             \
        for (; i0 + OC_LANES <= (n); i0 += OC_LANES) {                                                                \
            pragmas                                                                                                   \
            for (int l = 0; l < OC_LANES; l++) {                                                                      \
                const ptrdiff_t i = i0 + l;                                                                           \
                __VA_ARGS__;                                                                                          \
            }                                                                                                         \
        }                                                                                                             \
        for (int l = 0; l < (n) - i0; l++) {                                                                          \
            const ptrdiff_t i = i0 + l;                                                                               \
            __VA_ARGS__;                                                                                              \
        }                                                                                                             \
    } while (0)

/* Terms 0 to count - 1 of the elements [first, first + n) of a run, n >= OC_LANES or so many elements before them:
 * body(kind) sets add[0], ... for the elements from i on, which are added to lane[0], ... in the order of i. Where it sets bit
 * c of `products` the term is add[c]*by[c], exact in double. Where the last ones do not fill the lanes the last vector begins
 * early enough to be a whole one, and leaves out the `skip` elements that were added before. */
#define OC_RUN_LANES(count, kind, n, first, body)                                                                     \
    do {                                                                                                              \
        const ptrdiff_t whole = (n) / OC_LANES * OC_LANES;                                                            \
        for (ptrdiff_t at = 0; at < whole; at += OC_LANES)                                                            \
            OC_RUN_VECTOR(count, kind, OC_LANES, (first) + at, body);                                                 \
        if (whole == (n))                                                                                             \
            break;                                                                                                    \
        const int skip = (int)(whole + OC_LANES - (n));                                                               \
        OC_RUN_REST(count, kind, (first) + (n) - OC_LANES, body);                                                     \
    } while (0)
#define OC_IS_PRODUCT(c) (products >> (c)&1)
#define OC_TERM(c) (OC_IS_PRODUCT(c) ? add[c] * by[c] : add[c])
#define OC_LANE(kind, c) OC_READ(kind, &lane[c][l])
#define OC_RUN_REST(count, kind, begin, body) OC_RUN_REST_##kind(count, begin, body)
#define OC_RUN_REST_one(count, begin, body)                                                                           \
    double term[count][OC_LANES] OC_ON_LINE;                                                                          \
    OC_RUN_TERMS(count, one, OC_LANES, begin, term, OC_TERM(c), body);                                                \
    for (int c = 0; c < (count); c++)                                                                                 \
        OC_ROLLED                                                                                                     \
        for (int l = 0; l < OC_LANES; l++)                                                                            \
            lane[c][l] += l < skip ? 0 : term[c][l]
#if defined(__GNUC__) || defined(__clang__)
/* A mask from memory is one instruction, a comparison of lanes several. */
typedef int64_t oc_wide_bits __attribute__((vector_size(OC_W * sizeof(int64_t))));
typedef oc_wide_bits oc_wide_bits_at __attribute__((aligned(sizeof(int64_t)), may_alias));
static const int64_t oc_none_then_all[2 * OC_LANES] = {[OC_LANES] = -1, -1, -1, -1, -1, -1, -1, -1,
                                                       -1, -1, -1, -1, -1, -1, -1, -1};
#define OC_UNSKIPPED(term)                                                                                            \
    ((oc_wide)((oc_wide_bits)(term) & *(const oc_wide_bits_at *)(oc_none_then_all + OC_LANES - skip + l)))
#define OC_RUN_REST_wide(count, begin, body)                                                                          \
    OC_RUN_TERMS(count, wide, OC_LANES, begin, lane, OC_LANE(wide, c) + OC_UNSKIPPED(OC_TERM(c)), body)
#else
#define OC_RUN_REST_wide OC_RUN_REST_one
#endif
#define OC_RUN_VECTOR(count, kind, width, begin, body)                                                                \
    OC_RUN_TERMS(count, kind, width, begin, lane,                                                                     \
                 OC_IS_PRODUCT(c) ? OC_FMA(kind, add[c], by[c], OC_LANE(kind, c)) : OC_LANE(kind, c) + add[c], body)
#define OC_RUN_TERMS(count, kind, width, begin, to, value, body)                                                      \
    do {                                                                                                              \
        OC_OVER_NUMBERS(kind)                                                                                         \
        for (int l = 0; l < (width); l += OC_WIDTH(kind)) {                                                           \
            OC_NUMBER(kind) add[count], by[count];                                                                    \
            unsigned products = 0;                                                                                    \
            const ptrdiff_t i = (begin) + l;                                                                          \
            for (int c = 0; c < (count); c++)                                                                         \
                add[c] = by[c] = (OC_NUMBER(kind)){0};                                                                \
            body(kind);                                                                                               \
            for (int c = 0; c < (count); c++)                                                                         \
                OC_AT(kind, &(to)[c][l]) = value;                                                                     \
        }                                                                                                             \
    } while (0)

/* The lanes' fixed tree: halves added pairwise, to four lanes and to one. */
OC_INLINE void oc_fold_to_four(double *lane, double *four) {
    OC_ROLLED
    for (int i = 0; i < 8; i++)
        lane[i] += lane[i + 8];
    OC_ROLLED
    for (int i = 0; i < 4; i++)
        four[i] = lane[i] + lane[i + 4];
}

OC_INLINE double oc_fold_four(const double *four) {
    return (four[0] + four[2]) + (four[1] + four[3]);
}

OC_INLINE double oc_fold_lanes(double *lane) {
    double four[4] OC_ON_LINE;
    oc_fold_to_four(lane, four);
    return oc_fold_four(four);
}

/* For what is done once for many elements: inlined, it would take registers from the loop over them. */
#if defined(__GNUC__) || defined(__clang__)
#define OC_APART __attribute__((noinline))
#else
#define OC_APART
#endif

#endif
