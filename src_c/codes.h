/* codes.h: codes of whole vectors of floats, with AVX2 and AVX-512; bit for bit what storage.h says of each. What gcc 12
 * makes of loops over those functions widens bytes by way of 16 bits, and masks what is small already before it narrows:
 * an eighth of a step of AdamW. Elsewhere there are no such vectors, and the loops over elements do it all. */
#ifndef OC_CODES_H
#define OC_CODES_H

#include "storage.h"

/* What takes the place of numbers that are encoded, as many, and what is asked for meanwhile (or NULL), whose first elements
 * belong to the first of them. */
typedef struct {
    const uint8_t *codes;
    float base;
    const float *ask[2];
} oc_coming;

#if defined(__GNUC__) && defined(__AVX512BW__)
#define OC_V(name) _mm512_##name
typedef __m512i oc_ints;
typedef __m512 oc_floats;
#define OC_LOAD_CODES(p) _mm_loadu_si128((const __m128i *)(p))
#define OC_TAKE_INTS(x, ...) _mm512_permutexvar_epi32(_mm512_setr_epi32(__VA_ARGS__), x)
#define OC_LANES_IN_ORDER 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15
#define OC_AND_OR(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xea)
#define OC_CHOOSE(mask, a, b) _mm512_ternarylogic_epi32(mask, a, b, 0xca)
#elif defined(__GNUC__) && defined(__AVX2__)
#define OC_V(name) _mm256_##name
typedef __m256i oc_ints;
typedef __m256 oc_floats;
#define OC_LOAD_CODES(p) _mm_loadl_epi64((const __m128i *)(p))
#define OC_TAKE_INTS(x, ...) _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(__VA_ARGS__))
#define OC_LANES_IN_ORDER 0, 4, 1, 5, 2, 6, 3, 7
#define OC_AND_OR(a, b, c) (((a) & (b)) | (c))
#define OC_CHOOSE(mask, a, b) (((a) & (mask)) | _mm256_andnot_si256(mask, b))
#endif

#ifdef OC_V
enum { OC_INTS = sizeof(oc_ints) / sizeof(uint32_t) };

OC_INLINE oc_ints oc_each(uint32_t x) {
    return OC_V(set1_epi32)((int)x);
}

OC_INLINE oc_floats oc_decode(const uint8_t *codes, oc_ints base, int is_signed) {
    const __m128i bytes = OC_LOAD_CODES(codes);
    const oc_ints ints = is_signed ? OC_V(cvtepi8_epi32)(bytes) : OC_V(cvtepu8_epi32)(bytes);
    const oc_ints wide = OC_V(slli_epi32)(ints, OC_RANDOM_BITS);
    if (!is_signed)
        return (oc_floats)OC_V(add_epi32)(wide, base) - (oc_floats)base;
    const oc_ints kept = wide & oc_each(OC_CODE_SIGN | OC_CODE_SIZE * OC_CODE_ONE);
    return (oc_floats)OC_V(add_epi32)(kept, base) - (oc_floats)OC_AND_OR(wide, oc_each(OC_CODE_SIGN), base);
}

/* How many of the n codes were done: whole vectors. */
OC_INLINE ptrdiff_t oc_decode_vectors(ptrdiff_t n, const uint8_t *codes, float base, int is_signed, float *to) {
    const oc_ints bases = oc_each(oc_bits(base));
    ptrdiff_t i = 0;
    for (; i + OC_INTS <= n; i += OC_INTS)
        OC_V(storeu_ps)(to + i, oc_decode(codes + i, bases, is_signed));
    return i;
}

/* A code for each, as 32 bits: of signed ones the sign is left in bit 11. */
OC_INLINE oc_ints oc_encode(const float *x, oc_ints base, int is_signed, oc_ints add, oc_ints least) {
    const oc_floats value = OC_V(loadu_ps)(x);
    if (is_signed)
        base = OC_AND_OR((oc_ints)value, oc_each(OC_CODE_SIGN), base);
    const oc_ints sum = OC_V(add_epi32)((oc_ints)(value + (oc_floats)base), add);
    return OC_V(srli_epi32)(is_signed ? sum : OC_V(max_epu32)(sum, least), OC_RANDOM_BITS);
}

/* From 16 bits, still one a number, of which no more than 12 are in use, to eight in 16. */
OC_INLINE oc_ints oc_eight_bits(oc_ints codes, int is_signed) {
    if (!is_signed)
        return codes & OC_V(set1_epi16)(0xff);
    return OC_CHOOSE(OC_V(set1_epi16)(OC_CODE_SIZE), codes, OC_V(srli_epi16)(codes, 4));
}

/* As many of the n <= OC_STATE_BLOCK numbers as fill vectors of codes; packing leaves their order to be put right. `coming`
 * may be NULL; to decode in a loop apart would leave the processor half idle in both. */
OC_INLINE ptrdiff_t oc_encode_vectors(ptrdiff_t n, float *x, float base, int is_signed, uint32_t rounding, uint32_t least,
                                      uint8_t *codes, const oc_coming *coming) {
    const oc_ints bases = oc_each(oc_bits(base)), start = oc_each(rounding), floors = oc_each(least);
    const oc_ints next_bases = oc_each(coming ? oc_bits(coming->base) : 0);
    ptrdiff_t i = 0;
    for (; i + 4 * OC_INTS <= n; i += 4 * OC_INTS) {
        oc_ints four[4];
        for (int k = 0; k < 4; k++) {
            const ptrdiff_t at = i + k * OC_INTS;
            const oc_ints spread = *(const oc_ints *)(oc_spread + at);
            four[k] = oc_encode(x + at, bases, is_signed, spread ^ start, floors);
            if (coming)
                OC_V(storeu_ps)(x + at, oc_decode(coming->codes + at, next_bases, is_signed));
        }
        for (int a = 0; coming && a < 2; a++)
            for (int k = 0; coming->ask[a] && k < 4 * OC_INTS; k += OC_LINE / (int)sizeof(float))
                OC_PREFETCH_L2(coming->ask[a] + i + k);
        const oc_ints low = oc_eight_bits(OC_V(packus_epi32)(four[0], four[1]), is_signed);
        const oc_ints high = oc_eight_bits(OC_V(packus_epi32)(four[2], four[3]), is_signed);
        const oc_ints all = OC_TAKE_INTS(OC_V(packus_epi16)(low, high), OC_LANES_IN_ORDER);
        OC_V(storeu_ps)((float *)(void *)(codes + i), (oc_floats)all);
    }
    return i;
}
#else
OC_INLINE ptrdiff_t oc_decode_vectors(ptrdiff_t n, const uint8_t *codes, float base, int is_signed, float *to) {
    (void)n, (void)codes, (void)base, (void)is_signed, (void)to;
    return 0;
}

OC_INLINE ptrdiff_t oc_encode_vectors(ptrdiff_t n, float *x, float base, int is_signed, uint32_t rounding, uint32_t least,
                                      uint8_t *codes, const oc_coming *coming) {
    (void)n, (void)x, (void)base, (void)is_signed, (void)rounding, (void)least, (void)codes, (void)coming;
    return 0;
}
#endif

#endif
