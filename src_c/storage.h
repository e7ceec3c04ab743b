/* storage.h: how arrays of an update rule are kept in memory, apart from how they are computed with. float32 from and to
 * narrower storage, as plain integer operations that the compiler vectorises; included once per level. */
#ifndef OC_STORAGE_H
#define OC_STORAGE_H

#include "internal.h"

OC_INLINE uint32_t oc_bits(float x) {
    union {
        float x;
        uint32_t u;
    } v = {.x = x};
    return v.u;
}

OC_INLINE float oc_of_bits(uint32_t u) {
    union {
        uint32_t u;
        float x;
    } v = {.u = u};
    return v.x;
}

/* ------------------------------------------------------------------------------------------------- random numbers
 * From counters alone: (seed, step, array) give a key; key, block and stream a number at random for the block, of which each
 * element's is the exclusive or with oc_spread. So each of them is evenly distributed and those of one element are
 * independent from step to step, which is what makes rounding right on average; the numbers of neighbours are spread
 * evenly (a lattice with a random digital shift), so that their errors cancel rather than add up. */
#define OC_RANDOM_BITS 20

/* 159 i modulo 256, as the first eight bits: every number once in a block, an arithmetic progression on every stride; and
 * 159/256, of the odd ones next to 1/golden ratio, spreads the first n evenly for every n. */
#define OC_SPREAD_1(i) ((159u * (i) & 255u) << (OC_RANDOM_BITS - 8))
#define OC_SPREAD_4(i) OC_SPREAD_1(i), OC_SPREAD_1((i) + 1), OC_SPREAD_1((i) + 2), OC_SPREAD_1((i) + 3)
#define OC_SPREAD_16(i) OC_SPREAD_4(i), OC_SPREAD_4((i) + 4), OC_SPREAD_4((i) + 8), OC_SPREAD_4((i) + 12)
#define OC_SPREAD_64(i) OC_SPREAD_16(i), OC_SPREAD_16((i) + 16), OC_SPREAD_16((i) + 32), OC_SPREAD_16((i) + 48)
static const uint32_t oc_spread[OC_STATE_BLOCK] OC_ON_LINE = {OC_SPREAD_64(0), OC_SPREAD_64(64), OC_SPREAD_64(128),
                                                              OC_SPREAD_64(192)};

/* The finaliser of splitmix64 (Steele, Lea and Flood 2014). */
OC_INLINE uint64_t oc_mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The OC_RANDOM_BITS of a stream of the block that begins at element `at`. The constant is splitmix64's step, without which
 * 0 would mix to 0. */
OC_INLINE uint32_t oc_start(uint64_t key, ptrdiff_t at, int stream) {
    const uint64_t counter = (uint64_t)(at / OC_STATE_BLOCK) * 8 + (uint64_t)stream;
    return (uint32_t)(oc_mix64(oc_mix64(key + 0x9e3779b97f4a7c15u) + counter) >> (64 - OC_RANDOM_BITS));
}

/* Where numbers of neighbours have to be independent too (dropout): the low 32 bits of the index are the counter, the others
 * part of the key. */
OC_INLINE uint32_t oc_key(uint64_t key, ptrdiff_t at) {
    return (uint32_t)(oc_mix64(key + 0x9e3779b97f4a7c15u + ((uint64_t)at >> 32)) >> 32);
}

/* A 32-bit mixing of two multiplications with low bias (found by Wellons 2018, "hash prospector"). */
OC_INLINE uint32_t oc_random(uint32_t key, uint32_t i) {
    uint32_t x = i ^ key;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

/* ------------------------------------------------------------------------------------------------------- bfloat16
 * The upper half of a float32. */
OC_INLINE float oc_from_bf16(uint16_t h) {
    return oc_of_bits((uint32_t)h << 16);
}

/* `add` to the 16 bits that go: 0x7fff + the last bit that stays rounds to nearest, ties to even; a random number from 0
 * to 0xffff rounds up as often as what goes is large. Infinity stays infinity; a NaN, whose bits may have no room for what is
 * added, becomes the one of all bits. */
OC_INLINE uint16_t oc_to_bf16(float x, uint32_t add) {
    return (uint16_t)(((oc_bits(x) + add) | (0u - (uint32_t)(x != x))) >> 16);
}

OC_INLINE uint16_t oc_nearest_bf16(float x) {
    return oc_to_bf16(x, 0x7fffu + ((oc_bits(x) >> 16) & 1));
}

/* -------------------------------------------------------------------------------------------------------- float16
 * IEEE 754 binary16: exponents from -14 to 15, below them multiples of 2^-24. */
OC_INLINE float oc_from_f16(uint16_t h) {
    const uint32_t size = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t normal = (size << 13) + ((127u - 15u) << 23), special = (size << 13) | 0x7f800000u;
    const uint32_t small = oc_bits((float)(int32_t)size * 0x1p-24f);
    return oc_of_bits(sign | (size < 0x400u ? small : size < 0x7c00u ? normal : special));
}

/* To nearest, ties to even. Below 2^-14 the sum with 1/2 has the result in its last bits: its ulp is 2^-24. A finite value
 * stays finite, at most 65504 = 2^16 - 2^5: a sum of squares reaches that soon, and infinity would never fall again. */
OC_INLINE uint16_t oc_to_f16(float x) {
    const uint32_t b = oc_bits(x), size = b & 0x7fffffffu, sign = (b >> 16) & 0x8000u;
    const uint32_t normal = (size - ((127u - 15u) << 23) + 0xfffu + ((size >> 13) & 1)) >> 13;
    const uint32_t small = oc_bits(oc_of_bits(size) + 0.5f) - oc_bits(0.5f);
    const uint32_t large = size > 0x7f800000u ? 0x7e00u : size == 0x7f800000u ? 0x7c00u : 0x7bffu;
    /* From 65520 = 2^16 - 2^4 on rounding would reach 2^16. */
    return (uint16_t)(sign | (size < 0x38800000u ? small : size < 0x477ff000u ? normal : large));
}

/* ---------------------------------------------------------------------------------------------- eight bits
 * Codes of OC_STATE_BLOCK values share a scale, the power of two above the largest size among them. A code is the exponent
 * and the first three bits of the mantissa of base + size, base a power of two below the scale: four bits of exponent and
 * a sign, or five bits for what is never negative. To add the base makes 0 the code 0 and the codes next to it evenly
 * spaced, with no case apart. What is coded are the bits of the sum less those of the base: nothing is divided by the scale.
 * base + size rounds to 9/8 of the scale at most, whose code there is: nothing is clamped. Rounding is random: to the
 * nearest, a mean that keeps 0.999 of itself would never leave its code, whose neighbours are 1/8 away. What is never
 * negative has the code 0 in blocks of zeros alone, for sigma divides. What is not finite takes its block with it. */
#define OC_CODE_SIGN 0x80000000u
#define OC_CODE_ONE (1u << OC_RANDOM_BITS) /* beside the bits that go, one code */
#define OC_CODE_SIZE 0x7f                  /* of a signed code the size, behind its sign */

OC_INLINE float oc_base(float scale, int is_signed) {
    return scale * (is_signed ? 0x1p-15f : 0x1p-31f);
}

/* Of a block whose scale is infinite all is NaN. */
OC_INLINE float oc_base_to_read(float scale, int is_signed) {
    return oc_base(scale, is_signed) + (scale - scale);
}

OC_INLINE float oc_from_unsigned(uint8_t code, float base) {
    return oc_of_bits(((uint32_t)code << OC_RANDOM_BITS) + oc_bits(base)) - base;
}

OC_INLINE float oc_from_signed(uint8_t code, float base) {
    const uint32_t wide = (uint32_t)(int8_t)code << OC_RANDOM_BITS, kept = OC_CODE_SIGN | OC_CODE_SIZE * OC_CODE_ONE;
    return oc_of_bits((wide & kept) + oc_bits(base)) - oc_of_bits((wide & OC_CODE_SIGN) | oc_bits(base));
}

/* What is added to the bits of base + value, after the exclusive or with oc_spread: in the bits that go the block's random
 * number, in the others, where a base has nothing but its exponent, minus the base. */
OC_INLINE uint32_t oc_code_start(uint32_t start, float base) {
    return start | (0u - oc_bits(base));
}

/* `least` is OC_CODE_ONE, or 0 in a block of zeros. */
OC_INLINE uint8_t oc_to_unsigned(float x, float base, uint32_t add, uint32_t least) {
    const uint32_t sum = oc_bits(x + base) + add;
    return (uint8_t)((sum > least ? sum : least) >> OC_RANDOM_BITS);
}

/* The sign comes to lie before the size in 16 bits, which take half the vectors. */
OC_INLINE uint8_t oc_to_signed(float x, float base, uint32_t add) {
    const uint32_t sum = oc_bits(x + oc_of_bits((oc_bits(x) & OC_CODE_SIGN) | oc_bits(base))) + add;
    const uint16_t code = (uint16_t)(sum >> OC_RANDOM_BITS);
    return (uint8_t)((code & OC_CODE_SIZE) | ((code >> 4) & 0x80));
}

/* The scale of a block from its largest size; 0 where all are 0. Beyond 2^-90 it falls no more, so that the smallest code
 * stands for a normal number; from 2^127 on it is infinite. The sizes of floats are ordered as their bits are, infinity and
 * NaN above all. */
OC_INLINE float oc_scale(int32_t largest) {
    const int32_t above = (largest >> 23) + 1, exponent = above < 127 - 90 ? 127 - 90 : above > 255 ? 255 : above;
    return largest == 0 ? 0 : oc_of_bits((uint32_t)exponent << 23);
}

#endif
