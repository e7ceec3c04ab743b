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
 * From counters alone: (seed, step, array) give a key; key, block and stream a number at random, where the block starts; from
 * there on each element's is OC_GOLDEN further, modulo 2^32. So each of them is evenly distributed and those of one element
 * are independent from step to step, which is what makes rounding right on average; the numbers of neighbours are spread
 * evenly (a lattice with a random shift: Cranley and Patterson 1976), so that their errors cancel rather than add up. */
#define OC_GOLDEN 0x9e3779b1u /* 2^32 over the golden ratio: the n first numbers are spread evenly for every n */

/* The finaliser of splitmix64 (Steele, Lea and Flood 2014). */
OC_INLINE uint64_t oc_mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Where the numbers of a stream of the block that begins at element `at` start. The constant is splitmix64's step, without
 * which 0 would mix to 0. */
OC_INLINE uint32_t oc_start(uint64_t key, ptrdiff_t at, int stream) {
    const uint64_t counter = (uint64_t)(at / OC_STATE_BLOCK) * 8 + (uint64_t)stream;
    return (uint32_t)(oc_mix64(oc_mix64(key + 0x9e3779b97f4a7c15u) + counter) >> 32);
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
 * to 0xffff rounds up as often as what goes is large. Infinity stays infinity, and so does NaN: all of them
 * as one, to which nothing is added. */
OC_INLINE uint16_t oc_to_bf16(float x, uint32_t add) {
    const uint32_t b = oc_bits(x);
    return (uint16_t)((x != x ? (b & 0x80000000u) | 0x7fc00000u : b + add) >> 16);
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
 * and the first three bits of the mantissa of base + size, the size a share of the scale and base a power of two: four bits
 * of exponent and a sign, or five bits for what is never negative. To add the base makes 0 the code 0 and the codes next to
 * it evenly spaced, with no case apart. Products with the scale are exact, and base + size rounds to 9/8 at most, whose code
 * there is: nothing is clamped. Rounding is random: to the nearest, a mean that keeps 0.999 of itself would never leave its code,
 * whose neighbours are 1/8 away. What is not negative never becomes zero unless it is: sigma divides. What is not finite
 * takes its block with it. */
enum { OC_SIGNED_BIAS = 127 - 15, OC_UNSIGNED_BIAS = 127 - 31 }; /* whose last bits are 0: they vanish from a code */

OC_INLINE float oc_base(int bias, uint32_t sign) {
    return oc_of_bits(((uint32_t)bias << 23) | sign);
}

OC_INLINE float oc_from_unsigned(uint8_t code) {
    return oc_of_bits(((uint32_t)code << 20) + ((uint32_t)OC_UNSIGNED_BIAS << 23)) - oc_base(OC_UNSIGNED_BIAS, 0);
}

OC_INLINE float oc_from_signed(uint8_t code) {
    const uint32_t wide = (uint32_t)(int8_t)code << 20, sign = wide & 0x80000000u;
    return oc_of_bits((wide & 0x87f00000u) | ((uint32_t)OC_SIGNED_BIAS << 23)) - oc_base(OC_SIGNED_BIAS, sign);
}

/* `x` is the value, `inverse` that of the scale; the first 20 bits of `random` are added to the 20 that go. The codes are
 * put together before they are bytes: vectors are narrowed once. */
OC_INLINE uint8_t oc_to_unsigned(float x, float inverse, uint32_t random) {
    const uint32_t sum = oc_bits(inverse * x + oc_base(OC_UNSIGNED_BIAS, 0)) + (random >> 12);
    const uint32_t least = ((uint32_t)OC_UNSIGNED_BIAS << 23) + (x > 0 ? 1u << 20 : 0);
    return (uint8_t)((sum > least ? sum : least) >> 20);
}

/* Bit 27, the first that the code keeps, is 1 in every sum: there the sign comes to lie. */
OC_INLINE uint8_t oc_to_signed(float x, float inverse, uint32_t random) {
    const uint32_t sign = oc_bits(x) & 0x80000000u;
    const uint32_t sum = oc_bits(inverse * x + oc_base(OC_SIGNED_BIAS, sign)) + (random >> 12);
    return (uint8_t)((sum & ((sum >> 4) | ~(1u << 27))) >> 20);
}

/* The scale of a block from its largest size. Beyond 2^-90 it falls no more, so that the smallest code stands for a normal
 * number; from 2^127 on it is infinite. The sizes of floats are ordered as their bits are, infinity and NaN above all. */
OC_INLINE float oc_scale(int32_t largest) {
    const int32_t exponent = (largest >> 23) + 1;
    return oc_of_bits((uint32_t)(exponent < 127 - 90 ? 127 - 90 : exponent > 255 ? 255 : exponent) << 23);
}

#endif
