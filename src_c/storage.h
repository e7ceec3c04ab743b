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
 * From counters alone: (seed, step, array) give a key, key and index the number. The same on every thread and level. */

/* The finaliser of splitmix64 (Steele, Lea and Flood 2014). */
OC_INLINE uint64_t oc_mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The low 32 bits of the index are the counter, the others part of the key. */
OC_INLINE uint32_t oc_key(uint64_t key, ptrdiff_t at) {
    return (uint32_t)(oc_mix64(key + 0x9e3779b97f4a7c15u + ((uint64_t)at >> 32)) >> 32); /* 0 would mix to 0 */
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

/* 20 of the bits for each stream of a rule: both ends for the states 2 and 3, which share none but the last of one and the
 * first of the other; another mixture for the rest. */
OC_INLINE uint32_t oc_share(uint32_t random, int stream) {
    return stream == 2 ? random & 0xfffffu : (stream == 3 ? random : random * (0x9e3779b1u + 2u * (uint32_t)stream)) >> 12;
}

/* ------------------------------------------------------------------------------------------------------- bfloat16
 * The upper half of a float32. */
OC_INLINE float oc_from_bf16(uint16_t h) {
    return oc_of_bits((uint32_t)h << 16);
}

/* `add` to the 16 bits that go: 0x7fff + the last bit that stays rounds to nearest, ties to even; a random number from 0
 * to 0xffff rounds up as often as what goes is large. Infinity stays infinity, and so does NaN: all of them as one, whose
 * low bits carry nothing over. */
OC_INLINE uint16_t oc_to_bf16(float x, uint32_t add) {
    const uint32_t b = oc_bits(x), size = b & 0x7fffffffu;
    return (uint16_t)(((b >> 16) & 0x8000u) | (((size > 0x7f800000u ? 0x7fc00000u : size) + add) >> 16));
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
 * Codes of OC_STATE_BLOCK values share a scale. A code is the exponent and the first three bits of the mantissa of
 * base + size, the size a share of the block's largest and base a power of two: four bits of exponent and a sign, or five
 * bits for what is never negative. To add the base makes 0 the code 0 and the codes next to it evenly spaced, with no case
 * apart. Rounding is random: to the nearest, a mean that keeps 0.999 of itself would never leave its code, whose
 * neighbours are 1/8 away. What is not negative never becomes zero unless it is: sigma divides. What is not finite takes
 * its block with it. */
enum { OC_SIGNED_BIAS = 127 - 15, OC_UNSIGNED_BIAS = 127 - 31 };

OC_INLINE float oc_base(int bias) {
    return oc_of_bits((uint32_t)bias << 23);
}

OC_INLINE float oc_code_max(int bias) {
    return 1.875f - oc_base(bias);
}

OC_INLINE float oc_from_code(uint32_t code, int bias) {
    return oc_of_bits((code << 20) + ((uint32_t)bias << 23)) - oc_base(bias);
}

/* `random` has the 20 bits that go. */
OC_INLINE int32_t oc_to_code(float size, uint32_t random, int bias) {
    return (int32_t)((oc_bits(size + oc_base(bias)) + random - ((uint32_t)bias << 23)) >> 20);
}

/* `positive` tells what `size`, a share of the block's largest, may be too small for. */
OC_INLINE uint8_t oc_to_unsigned(float size, uint32_t random, int positive) {
    int32_t code = oc_to_code(size, random, OC_UNSIGNED_BIAS);
    const int32_t least = positive;
    code = code > least ? code : least;
    return (uint8_t)(code < 255 ? code : 255);
}

OC_INLINE uint8_t oc_to_signed(float x, uint32_t random) {
    const uint32_t b = oc_bits(x), sign = (b >> 24) & 0x80u;
    const int32_t code = oc_to_code(oc_of_bits(b & 0x7fffffffu), random, OC_SIGNED_BIAS);
    return (uint8_t)(sign | (uint32_t)(code < 127 ? code : 127));
}

/* The scale of a block: the largest size over the largest code, never so small that its inverse is infinite. The sizes of
 * floats are ordered as their bits are, infinity and NaN above all others. */
OC_INLINE float oc_scale(ptrdiff_t n, const float *x, int bias) {
    uint32_t largest = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint32_t size = oc_bits(x[i]) & 0x7fffffffu;
        largest = size > largest ? size : largest;
    }
    const float scale = oc_of_bits(largest) / oc_code_max(bias);
    return scale < 0x1p-120f ? 0x1p-120f : scale;
}

#endif
