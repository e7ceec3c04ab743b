/* staged.tmpl.h: a step over arrays that are kept in memory otherwise than the kernel computes with them. A block that fits
 * into the first-level cache is loaded, updated by the same kernel as ever, and stored: one pass over memory.
 * Parameters: T the element type of the kernels, FN(name), UPDATE the update kernels of this T and level. */

enum { FN(stage) = OC_STAGE / sizeof(T) }; /* elements of a block */


/* The calls differ in the inner expression alone. */
#define OC_LOAD(type, value)                                                                                          \
    do {                                                                                                              \
        const type *restrict from = (const type *)a->data + at;                                                       \
        for (ptrdiff_t i = 0; i < n; i++)                                                                             \
            to[i] = value;                                                                                            \
    } while (0)
#define OC_STORE(type, value)                                                                                         \
    do {                                                                                                              \
        type *restrict to = (type *)a->data + at;                                                                     \
        for (ptrdiff_t i = 0; i < n; i++)                                                                             \
            to[i] = value;                                                                                            \
    } while (0)

/* Bytes may alias anything: only as `restrict` parameters do they let these loops become vectors. */
OC_INLINE void FN(decode)(ptrdiff_t n, const uint8_t *restrict codes, float scale, int bias, T *restrict to) {
    const uint32_t size = bias == OC_SIGNED_BIAS ? 0x7fu : 0xffu;
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint32_t sign = (codes[i] & ~size) << 24;
        to[i] = (T)oc_of_bits(oc_bits(scale * oc_from_code(codes[i] & size, bias)) ^ sign);
    }
}

OC_INLINE void FN(encode)(ptrdiff_t n, const float *restrict x, const uint32_t *restrict random, float inverse, int bias,
                          uint8_t *restrict codes) {
    for (ptrdiff_t i = 0; i < n; i++)
        codes[i] = bias == OC_SIGNED_BIAS ? oc_to_signed(inverse * x[i], oc_share(random[i], 2))
                                          : oc_to_unsigned(inverse * x[i], oc_share(random[i], 3), x[i] > 0);
}

OC_INLINE void FN(load_codes)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, int bias, T *to) {
    const float *scales = (const float *)a->extra + at / OC_STATE_BLOCK;
    for (ptrdiff_t j = 0; j < n; j += OC_STATE_BLOCK)
        FN(decode)(n - j < OC_STATE_BLOCK ? n - j : OC_STATE_BLOCK, (const uint8_t *)a->data + at + j,
                   scales[j / OC_STATE_BLOCK], bias, to + j);
}

OC_INLINE void FN(store_codes)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, int bias, const uint32_t *random,
                               const T *from) {
    float *scales = (float *)a->extra + at / OC_STATE_BLOCK;
    float x[FN(stage)] OC_ON_LINE;
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = (float)from[i];
    for (ptrdiff_t j = 0; j < n; j += OC_STATE_BLOCK) {
        const ptrdiff_t count = n - j < OC_STATE_BLOCK ? n - j : OC_STATE_BLOCK;
        const float scale = oc_scale(count, x + j, bias);
        scales[j / OC_STATE_BLOCK] = scale;
        FN(encode)(count, x + j, random + j, 1 / scale, bias, (uint8_t *)a->data + at + j);
    }
}

/* The elements from `at` on, at most a block, each as it is stored: the high part of a pair. */
static void FN(load_high)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, T *restrict to) {
    switch (a->storage) {
    case OC_AS_F32: OC_LOAD(float, (T)from[i]); break;
    case OC_AS_F64: OC_LOAD(double, (T)from[i]); break;
    case OC_AS_BF16: OC_LOAD(uint16_t, (T)oc_from_bf16(from[i])); break;
    case OC_AS_F16: OC_LOAD(uint16_t, (T)oc_from_f16(from[i])); break;
    case OC_AS_SIGNED_CODES: FN(load_codes)(at, n, a, OC_SIGNED_BIAS, to); break;
    default: FN(load_codes)(at, n, a, OC_UNSIGNED_BIAS, to); break;
    }
}

static void FN(store_high)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, const uint32_t *restrict random, int stream,
                           const T *restrict from) {
    switch (a->storage) {
    case OC_AS_F32: OC_STORE(float, (float)from[i]); break;
    case OC_AS_F64: OC_STORE(double, (double)from[i]); break;
    case OC_AS_BF16:
        if (a->rounding == OC_ROUND_RANDOM)
            OC_STORE(uint16_t, oc_to_bf16((float)from[i], oc_share(random[i], stream) >> 4));
        else
            OC_STORE(uint16_t, oc_nearest_bf16((float)from[i]));
        break;
    case OC_AS_F16: OC_STORE(uint16_t, oc_to_f16((float)from[i])); break;
    case OC_AS_SIGNED_CODES: FN(store_codes)(at, n, a, OC_SIGNED_BIAS, random, from); break;
    default: FN(store_codes)(at, n, a, OC_UNSIGNED_BIAS, random, from); break;
    }
}
#undef OC_LOAD
#undef OC_STORE

OC_INLINE oc_array FN(low_part)(const oc_array *a) {
    return (oc_array){.data = a->extra, .storage = a->storage};
}

/* A pair is the sum of two numbers: the high one is the value rounded, the low one what that lost (Kahan's compensation,
 * kept with the value). */
static void FN(load)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, void *vto) {
    T *to = vto;
    FN(load_high)(at, n, a, to);
    if (a->rounding == OC_ROUND_PAIR) {
        const oc_array low = FN(low_part)(a);
        T rest[FN(stage)];
        FN(load_high)(at, n, &low, rest);
        for (ptrdiff_t i = 0; i < n; i++)
            to[i] = to[i] + rest[i];
    }
}

static void FN(put)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, const uint32_t *random, int stream, const T *from) {
    FN(store_high)(at, n, a, random, stream, from);
    if (a->rounding == OC_ROUND_PAIR) {
        const oc_array low = FN(low_part)(a);
        T rest[FN(stage)];
        FN(load_high)(at, n, a, rest);
        for (ptrdiff_t i = 0; i < n; i++)
            rest[i] = from[i] - rest[i];
        FN(store_high)(at, n, &low, NULL, stream, rest);
    }
}

OC_INLINE int FN(is_random)(const oc_array *a) {
    return a->data && (a->rounding == OC_ROUND_RANDOM || a->storage >= OC_AS_SIGNED_CODES);
}

OC_INLINE void FN(draw)(uint64_t key, ptrdiff_t at, ptrdiff_t n, uint32_t *restrict random) {
    const uint32_t k = oc_key(key, at);
    for (ptrdiff_t i = 0; i < n; i++)
        random[i] = oc_random(k, (uint32_t)(at + i));
}

static void FN(store)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, uint64_t key, int stream, const void *from) {
    uint32_t random[FN(stage)] OC_ON_LINE = {0};
    if (FN(is_random)(a))
        FN(draw)(key, at, n, random);
    FN(put)(at, n, a, random, stream, from);
}

/* The elements from `at` on as T: in place where they are that already, else in `room`; NULL where there are none. */
OC_INLINE T *FN(fetch)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, T *room) {
    if (a->data == NULL)
        return NULL;
    if (a->storage == (sizeof(T) == sizeof(float) ? OC_AS_F32 : OC_AS_F64))
        return (T *)a->data + at;
    FN(load)(at, n, a, room);
    return room;
}

/* theta has moved: its moving average and its copy follow. */
OC_INLINE void FN(follow)(ptrdiff_t at, ptrdiff_t n, const oc_staged *s, const uint32_t *random, const T *theta,
                          T *room) {
    if (s->average.data) {
        const FN(mean) mean = FN(mean_of)(s->mean);
        T *average = FN(fetch)(at, n, &s->average, room);
        for (ptrdiff_t i = 0; i < n; i++)
            average[i] = FN(mix)(mean, average[i], theta[i]);
        if (average == room)
            FN(put)(at, n, &s->average, random, OC_MAX_STREAMS, room);
    }
    if (s->copy.data)
        FN(put)(at, n, &s->copy, random, OC_MAX_STREAMS + 1, theta);
}

/* Asks for a quarter of what the kernel will read of theta and g in the block from `at` on: loads, arithmetic and stores
 * take turns here, and memory would wait while others work. */
OC_INLINE void FN(ask_for)(ptrdiff_t at, ptrdiff_t end, const oc_staged *s, int quarter) {
    static const unsigned char size[OC_N_STORAGES] = {4, 8, 2, 2, 1, 1};
    const ptrdiff_t n = end - at < FN(stage) ? end - at : FN(stage);
    for (int k = 0; k < 2; k++) {
        const ptrdiff_t bytes = size[s->x[k].storage];
        const char *from = (const char *)s->x[k].data + at * bytes;
        for (ptrdiff_t b = quarter * OC_LINE; b < n * bytes; b += 4 * OC_LINE)
            OC_PREFETCH(from + b);
    }
}

static void FN(staged)(oc_rule rule, ptrdiff_t begin, ptrdiff_t n, const oc_staged *s, const oc_coefficients *c) {
    /* A line more than a power of two: else all rooms would share the same sets of the cache. */
    T rooms[OC_MAX_STREAMS][FN(stage) + OC_LINE / sizeof(T)] OC_ON_LINE;
    uint32_t random[FN(stage)] OC_ON_LINE = {0};
    void *x[OC_MAX_STREAMS];
    int draws = FN(is_random)(&s->average) || FN(is_random)(&s->copy);
    for (int k = 0; k < OC_MAX_STREAMS; k++)
        draws = draws || FN(is_random)(&s->x[k]);
    for (ptrdiff_t at = begin; at < begin + n; at += FN(stage)) {
        const ptrdiff_t m = begin + n - at < FN(stage) ? begin + n - at : FN(stage);
        int quarter = 0;
        for (int k = 0; k < OC_MAX_STREAMS; k++)
            x[k] = FN(fetch)(at, m, &s->x[k], rooms[k]);
        UPDATE(rule)(m, x, c);
        if (draws)
            FN(draw)(s->key, at, m, random);
        for (int k = 0; k < OC_MAX_STREAMS; k++)
            if (k != 1 && x[k] == rooms[k]) {
                if (quarter < 4)
                    FN(ask_for)(at + FN(stage), begin + n, s, quarter++);
                if (quarter < 4)
                    FN(ask_for)(at + FN(stage), begin + n, s, quarter++);
                FN(put)(at, m, &s->x[k], random, k, rooms[k]);
            }
        FN(follow)(at, m, s, random, x[0], rooms[1]);
    }
}
