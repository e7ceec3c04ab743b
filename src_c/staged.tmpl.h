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

/* Bytes may alias anything: only as `restrict` parameters do they let these loops become vectors. Of floats, whole vectors
 * are done before, where the level has code for them. */
OC_INLINE void FN(decode)(ptrdiff_t n, const uint8_t *restrict codes, float base, int is_signed, T *restrict to) {
    for (ptrdiff_t i = sizeof(T) == sizeof(float) ? oc_decode_vectors(n, codes, base, is_signed, (float *)to) : 0; i < n; i++)
        to[i] = (T)(is_signed ? oc_from_signed(codes[i], base) : oc_from_unsigned(codes[i], base));
}

OC_INLINE int32_t FN(largest_size)(ptrdiff_t n, const T *x) {
    int32_t largest = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int32_t size = (int32_t)(oc_bits((float)x[i]) & 0x7fffffffu);
        largest = size > largest ? size : largest;
    }
    return largest;
}

OC_INLINE void FN(encode)(ptrdiff_t n, T *restrict x, float base, int is_signed, uint32_t rounding, uint32_t least,
                          uint8_t *restrict codes, const oc_coming *coming) {
    ptrdiff_t done = 0;
    if (sizeof(T) == sizeof(float))
        done = oc_encode_vectors(n, (float *)x, base, is_signed, rounding, least, codes, coming);
    for (ptrdiff_t i = done; i < n; i++)
        codes[i] = is_signed ? oc_to_signed((float)x[i], base, oc_spread[i] ^ rounding)
                             : oc_to_unsigned((float)x[i], base, oc_spread[i] ^ rounding, least);
    if (coming && done < n)
        FN(decode)(n - done, coming->codes + done, coming->base, is_signed, x + done);
}

OC_INLINE ptrdiff_t FN(block_at)(ptrdiff_t j, ptrdiff_t n) {
    return n - j < OC_STATE_BLOCK ? n - j : OC_STATE_BLOCK;
}

OC_INLINE void FN(load_codes)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, int is_signed, T *to) {
    const float *scales = (const float *)a->extra + at / OC_STATE_BLOCK;
    for (ptrdiff_t j = 0; j < n; j += OC_STATE_BLOCK) {
        const float base = oc_base_to_read(scales[j / OC_STATE_BLOCK], is_signed);
        FN(decode)(FN(block_at)(j, n), (const uint8_t *)a->data + at + j, base, is_signed, to + j);
    }
}

/* Unless `next` is NULL, what follows these n elements, as many, takes their places in `from`, which is only read else; `next`
 * says what is asked for meanwhile. */
OC_INLINE void FN(store_codes)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, int is_signed, uint64_t key, int stream,
                               T *from, const float *const *next) {
    float *scales = (float *)a->extra + at / OC_STATE_BLOCK;
    uint8_t *codes = (uint8_t *)a->data + at;
    for (ptrdiff_t j = 0; j < n; j += OC_STATE_BLOCK)
        scales[j / OC_STATE_BLOCK] = oc_scale(FN(largest_size)(FN(block_at)(j, n), from + j));
    for (ptrdiff_t j = 0; j < n; j += OC_STATE_BLOCK) {
        const float base = oc_base(scales[j / OC_STATE_BLOCK], is_signed);
        const uint32_t rounding = oc_code_start(oc_start(key, at + j, stream), base), least = base > 0 ? OC_CODE_ONE : 0;
        if (next) {
            const oc_coming coming = {codes + n + j, oc_base_to_read(scales[(n + j) / OC_STATE_BLOCK], is_signed),
                                      {next[0] ? next[0] + j : NULL, next[1] ? next[1] + j : NULL}};
            FN(encode)(OC_STATE_BLOCK, from + j, base, is_signed, rounding, least, codes + j, &coming);
        } else {
            FN(encode)(FN(block_at)(j, n), from + j, base, is_signed, rounding, least, codes + j, NULL);
        }
    }
}

/* To bfloat16, rounded at random. */
OC_INLINE void FN(store_random)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, uint64_t key, int stream,
                                const T *restrict from) {
    uint16_t *restrict to = (uint16_t *)a->data + at;
    for (ptrdiff_t j = 0; j < n; j += OC_STATE_BLOCK) {
        const uint32_t start = oc_start(key, at + j, stream);
        for (ptrdiff_t i = 0; i < FN(block_at)(j, n); i++)
            to[j + i] = oc_to_bf16((float)from[j + i], (oc_spread[i] ^ start) >> (OC_RANDOM_BITS - 16));
    }
}

/* The elements from `at` on, at most a block, each as it is stored: the high part of a pair. */
static void FN(load_high)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, T *restrict to) {
    switch (a->storage) {
    case OC_AS_F32: OC_LOAD(float, (T)from[i]); break;
    case OC_AS_F64: OC_LOAD(double, (T)from[i]); break;
    case OC_AS_BF16: OC_LOAD(uint16_t, (T)oc_from_bf16(from[i])); break;
    case OC_AS_F16: OC_LOAD(uint16_t, (T)oc_from_f16(from[i])); break;
    case OC_AS_SIGNED_CODES: FN(load_codes)(at, n, a, 1, to); break;
    default: FN(load_codes)(at, n, a, 0, to); break;
    }
}

static void FN(store_high)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, uint64_t key, int stream,
                           const T *restrict from) {
    switch (a->storage) {
    case OC_AS_F32: OC_STORE(float, (float)from[i]); break;
    case OC_AS_F64: OC_STORE(double, (double)from[i]); break;
    case OC_AS_BF16:
        if (a->rounding == OC_ROUND_RANDOM)
            FN(store_random)(at, n, a, key, stream, from);
        else
            OC_STORE(uint16_t, oc_nearest_bf16((float)from[i]));
        break;
    case OC_AS_F16: OC_STORE(uint16_t, oc_to_f16((float)from[i])); break;
    case OC_AS_SIGNED_CODES: FN(store_codes)(at, n, a, 1, key, stream, (T *)from, NULL); break;
    default: FN(store_codes)(at, n, a, 0, key, stream, (T *)from, NULL); break;
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

static void FN(store)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, uint64_t key, int stream, const void *vfrom) {
    const T *from = vfrom;
    FN(store_high)(at, n, a, key, stream, from);
    if (a->rounding == OC_ROUND_PAIR) {
        const oc_array low = FN(low_part)(a);
        T rest[FN(stage)];
        FN(load_high)(at, n, a, rest);
        for (ptrdiff_t i = 0; i < n; i++)
            rest[i] = from[i] - rest[i];
        FN(store_high)(at, n, &low, key, stream, rest);
    }
}

OC_INLINE int FN(is_in_place)(const oc_array *a) {
    return a->storage == (sizeof(T) == sizeof(float) ? OC_AS_F32 : OC_AS_F64);
}

/* The elements from `at` on as T: in place where they are that already, else in `room`; NULL where there are none. */
OC_INLINE T *FN(fetch)(ptrdiff_t at, ptrdiff_t n, const oc_array *a, T *room) {
    if (a->data == NULL)
        return NULL;
    if (FN(is_in_place)(a))
        return (T *)a->data + at;
    FN(load)(at, n, a, room);
    return room;
}

/* theta has moved: its moving average and its copy follow. */
OC_INLINE void FN(follow)(ptrdiff_t at, ptrdiff_t n, const oc_staged *s, const T *theta, T *room) {
    if (s->average.data) {
        const FN(mean) mean = FN(mean_of)(s->mean);
        T *average = FN(fetch)(at, n, &s->average, room);
        for (ptrdiff_t i = 0; i < n; i++)
            average[i] = FN(mix)(mean, average[i], theta[i]);
        if (average == room)
            FN(store)(at, n, &s->average, s->key, OC_MAX_STREAMS, room);
    }
    if (s->copy.data)
        FN(store)(at, n, &s->copy, s->key, OC_MAX_STREAMS + 1, theta);
}

/* A line more than a power of two: else all rooms would share the same sets of the cache. */
typedef T FN(room)[FN(stage) + OC_LINE / sizeof(T)];

/* How far beyond theta a room is to begin, in the bits of an address that a processor compares first. A load waits for the
 * stores before it that look alike, and a kernel that waits for what it has just put into a room does not ask memory for
 * theta and g ahead of time: up to 1.9 times as slow, as arrays happen to lie. So no room begins a little beyond theta or g, nor
 * theta a little beyond a room; the rooms are half of OC_ALIAS and a line apart, which is why half of it is what counts. */
OC_INLINE size_t FN(room_offset)(const oc_staged *s) {
    const size_t half = OC_ALIAS / 2, g = ((size_t)s->x[1].data - (size_t)s->x[0].data) & (half - 1);
    if (g < 3 * half / 8)
        return (half + g) / 2;
    return g < half / 2 + 2 * OC_LINE ? g - 2 * OC_LINE : half / 2;
}

/* The rooms within `memory`: the first state's, stream 2, lies as far beyond theta. */
OC_INLINE FN(room) *FN(rooms_beside)(const oc_staged *s, ptrdiff_t begin, T *memory) {
    const size_t theta = (size_t)s->x[0].data + (size_t)begin * sizeof(T);
    const size_t start = theta + FN(room_offset)(s) - 2 * sizeof(FN(room)) - (size_t)memory;
    return (FN(room) *)(memory + (start & (OC_ALIAS - OC_LINE)) / sizeof(T));
}

/* Not of theta, which what follows it has still to read, nor of g, which is not stored. */
OC_INLINE int FN(is_exchanged)(const oc_staged *s, int stream) {
    const oc_array *a = &s->x[stream];
    return stream >= 2 && a->data && (a->storage == OC_AS_SIGNED_CODES || a->storage == OC_AS_UNSIGNED_CODES);
}

/* A stage of codes is stored, and the one behind it left in the room, in one loop. If it `asks`, then for the next stage of
 * theta and g, line by line: all at once they would wait for each other, and it for them. */
OC_INLINE void FN(exchange)(ptrdiff_t at, const oc_staged *s, int stream, int asks, T *room) {
    const float *next[2] = {NULL, NULL};
    for (int k = 0; k < 2; k++)
        if (asks && s->x[k].storage == OC_AS_F32 && s->x[k].data)
            next[k] = (const float *)s->x[k].data + at + FN(stage);
    if (s->x[stream].storage == OC_AS_SIGNED_CODES)
        FN(store_codes)(at, FN(stage), &s->x[stream], 1, s->key, stream, room, next);
    else
        FN(store_codes)(at, FN(stage), &s->x[stream], 0, s->key, stream, room, next);
}

static void FN(staged)(oc_rule rule, ptrdiff_t begin, ptrdiff_t n, const oc_staged *s, const oc_coefficients *c) {
    T memory[(OC_ALIAS + OC_MAX_STREAMS * sizeof(FN(room))) / sizeof(T)] OC_ON_LINE;
    FN(room) *rooms = FN(rooms_beside)(s, begin, memory);
    void *x[OC_MAX_STREAMS];
    int held = 0; /* whether the rooms of what is exchanged hold this stage already */
    oc_coefficients here = *c;
    here.far = 0; /* rooms are in cache; exchanges of floats ask for theta and g */
    for (ptrdiff_t at = begin; at < begin + n; at += FN(stage)) {
        const ptrdiff_t left = begin + n - at, m = left < FN(stage) ? left : FN(stage);
        for (int k = 0; k < OC_MAX_STREAMS; k++)
            x[k] = held && FN(is_exchanged)(s, k) ? rooms[k] : FN(fetch)(at, m, &s->x[k], rooms[k]);
        UPDATE(rule)(m, x, &here);
        int asks = 1; /* the first exchange, for all */
        held = left >= 2 * FN(stage);
        for (int k = 0; k < OC_MAX_STREAMS; k++) {
            if (k == 1 || x[k] != rooms[k])
                continue;
            if (held && FN(is_exchanged)(s, k)) {
                FN(exchange)(at, s, k, asks, rooms[k]);
                asks = 0;
            } else {
                FN(store)(at, m, &s->x[k], s->key, k, rooms[k]);
            }
        }
        FN(follow)(at, m, s, x[0], rooms[1]);
    }
}
