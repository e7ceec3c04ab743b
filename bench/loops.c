/* The machine's limit: plain loops with the traffic of what they stand for, one element after the other. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The update rules: a body each, and one driver. */
typedef struct {
    double t; /* steps taken */
    int threads;
    float lr, weight_decay, beta1, beta2, eps;
    float clip_norm; /* 0: none */
} options;

typedef struct {
    float scale, lr, kept, b1, b2, eps, c1, c2; /* c1, c2: Adam's bias corrections */
} constants;

typedef void rule_body(ptrdiff_t n, void *p, const void *g, void *m, void *v, constants c);

/* What AdamW keeps narrower: the least that such a loop has to do, no more than rounding to nearest, and nothing for NaN. */
static inline float from_bf16(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#define AS_IT_IS(x) (x)
#define ADAMW_BODY(name, P, get, put, S, get_state, put_state)                                                        \
    static void name##_body(ptrdiff_t n, P *restrict p, const P *restrict g, S *restrict m, S *restrict v,            \
                            constants c) {                                                                            \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                           \
            const float gi = c.scale * get(g[i]);                                                                     \
            const float mi = c.b1 * get_state(m[i]) + (1 - c.b1) * gi;                                                \
            const float vi = c.b2 * get_state(v[i]) + (1 - c.b2) * gi * gi;                                           \
            p[i] = put(get(p[i]) * c.kept - c.lr * c.c1 * mi / (sqrtf(vi) * c.c2 + c.eps));                           \
            m[i] = put_state(mi);                                                                                     \
            v[i] = put_state(vi);                                                                                     \
        }                                                                                                             \
    }
ADAMW_BODY(adamw, float, AS_IT_IS, AS_IT_IS, float, AS_IT_IS, AS_IT_IS)
ADAMW_BODY(adamw_half_states, float, AS_IT_IS, AS_IT_IS, uint16_t, from_bf16, to_bf16)
ADAMW_BODY(adamw_half, uint16_t, from_bf16, to_bf16, uint16_t, from_bf16, to_bf16)

static void momentum_body(ptrdiff_t n, float *restrict p, const float *restrict g, float *restrict m,
                          float *restrict v, constants c) {
    (void)v;
    for (ptrdiff_t i = 0; i < n; i++) {
        m[i] = c.b1 * m[i] + c.scale * g[i];
        p[i] -= c.lr * m[i];
    }
}

static void adagrad_body(ptrdiff_t n, float *restrict p, const float *restrict g, float *restrict m, float *restrict v,
                         constants c) {
    (void)m;
    for (ptrdiff_t i = 0; i < n; i++) {
        const float gi = c.scale * g[i];
        v[i] += gi * gi;
        p[i] -= c.lr * gi / (sqrtf(v[i]) + c.eps);
    }
}

static void rmsprop_body(ptrdiff_t n, float *restrict p, const float *restrict g, float *restrict m, float *restrict v,
                         constants c) {
    (void)m;
    for (ptrdiff_t i = 0; i < n; i++) {
        const float gi = c.scale * g[i];
        v[i] = c.b2 * v[i] + (1 - c.b2) * gi * gi;
        p[i] -= c.lr * gi / (sqrtf(v[i]) + c.eps);
    }
}

static void lion_body(ptrdiff_t n, float *restrict p, const float *restrict g, float *restrict m, float *restrict v,
                      constants c) {
    (void)v;
    for (ptrdiff_t i = 0; i < n; i++) {
        const float gi = c.scale * g[i], u = c.b1 * m[i] + (1 - c.b1) * gi;
        m[i] = c.b2 * m[i] + (1 - c.b2) * gi;
        p[i] = p[i] * c.kept - c.lr * (float)((u > 0) - (u < 0));
    }
}

/* The cheapest code of eight bits: a multiple of the largest number of its block. */
enum { BLOCK = 256 };
typedef struct {
    float unit;
    uint8_t code[BLOCK];
} codes;

static void read_codes(const uint8_t *restrict code, float unit, int middle, float *restrict x) {
    for (int i = 0; i < BLOCK; i++)
        x[i] = (float)((int)code[i] - middle) * unit;
}

static void write_codes(codes *restrict to, const float *restrict x, float steps, float middle) {
    uint32_t largest = 0;
    for (int i = 0; i < BLOCK; i++) {
        uint32_t size;
        memcpy(&size, x + i, sizeof size);
        size &= 0x7fffffff;
        largest = size > largest ? size : largest;
    }
    float scale;
    memcpy(&scale, &largest, sizeof scale);
    const float each = scale > 0 ? steps / scale : 0;
    for (int i = 0; i < BLOCK; i++)
        to->code[i] = (uint8_t)(int)(x[i] * each + (middle + 0.5f));
    to->unit = scale / steps;
}

/* Of whole blocks. */
static void adamw_bytes_body(ptrdiff_t n, float *restrict p, const float *restrict g, codes *restrict m,
                             codes *restrict v, constants c) {
    for (; n >= BLOCK; n -= BLOCK, p += BLOCK, g += BLOCK, m++, v++) {
        float mean[BLOCK], square[BLOCK];
        read_codes(m->code, m->unit, 128, mean);
        read_codes(v->code, v->unit, 0, square);
        adamw_body(BLOCK, p, g, mean, square, c);
        write_codes(m, mean, 127, 128);
        write_codes(v, square, 255, 0);
    }
}

/* What memory takes for the bytes of a step alone: p, m and v read and written, g read, all asked for ahead as optcore does,
 * with an operation each. Nothing changes, as `none` is 0. */
#define MOVE_BODY(name, P, S)                                                                                         \
    static void name##_body(ptrdiff_t n, P *restrict p, const P *restrict g, S *restrict m, S *restrict v,            \
                            constants c) {                                                                            \
        const uint32_t none = c.eps < 0;                                                                              \
        for (ptrdiff_t at = 0; at + 32 <= n; at += 32) {                                                              \
            for (size_t byte = 512; byte < 512 + 32 * sizeof *p; byte += 64) {                                        \
                __builtin_prefetch((const char *)(p + at) + byte);                                                    \
                __builtin_prefetch((const char *)(g + at) + byte);                                                    \
            }                                                                                                         \
            for (size_t byte = 512; byte < 512 + 32 * sizeof *m; byte += 64) {                                        \
                __builtin_prefetch((const char *)(m + at) + byte);                                                    \
                __builtin_prefetch((const char *)(v + at) + byte);                                                    \
            }                                                                                                         \
            for (ptrdiff_t i = at; i < at + 32; i++) {                                                                \
                p[i] ^= (P)(g[i] & none);                                                                             \
                m[i] ^= (S)none;                                                                                      \
                v[i] ^= (S)none;                                                                                      \
            }                                                                                                         \
        }                                                                                                             \
    }
MOVE_BODY(move_half_states, uint32_t, uint16_t)
MOVE_BODY(move_half, uint16_t, uint16_t)
MOVE_BODY(move_bytes, uint32_t, uint8_t)

/* Arrays of a step: those of one tensor, or of many that lie apart; and the bytes of a BLOCK of each. */
typedef struct {
    ptrdiff_t tensors;
    const ptrdiff_t *sizes;
    char **p, **g, **m, **v;
    ptrdiff_t block_p, block_g, block_m, block_v;
} arrays;

/* In double, as optcore's: in float 1e20 would have no square. */
static double sum_squares(ptrdiff_t n, const float *g) {
    double squares = 0;
#pragma omp simd reduction(+ : squares)
    for (ptrdiff_t i = 0; i < n; i++)
        squares += (double)g[i] * (double)g[i];
    return squares;
}

/* A thread takes a share of the one tensor, in whole blocks, or whole tensors. */
static ptrdiff_t share_of(const arrays *a, const options *o) {
    return a->tensors > 1 ? 1 : (a->sizes[0] / o->threads + BLOCK) / BLOCK * BLOCK;
}

static float clip_scale(const arrays *a, const options *o) {
    if (o->clip_norm == 0)
        return 1;
    double squares = 0;
    const ptrdiff_t share = share_of(a, o), n = a->tensors > 1 ? a->tensors : a->sizes[0];
#pragma omp parallel for num_threads(o->threads) schedule(static) reduction(+ : squares)
    for (ptrdiff_t i = 0; i < n; i += share)
        squares += a->tensors > 1 ? sum_squares(a->sizes[i], (const float *)a->g[i])
                                  : sum_squares(n - i < share ? n - i : share, (const float *)a->g[0] + i);
    return fminf(1, o->clip_norm / ((float)sqrt(squares) + 1e-6f));
}

/* Each step is a parallel region of its own, as it has to be between two gradients. */
static void take(rule_body body, ptrdiff_t steps, const arrays *a, options *o) {
    constants c = {.lr = o->lr, .kept = 1 - o->lr * o->weight_decay, .b1 = o->beta1, .b2 = o->beta2, .eps = o->eps};
    const ptrdiff_t share = share_of(a, o), n = a->tensors > 1 ? a->tensors : a->sizes[0];
    for (; steps > 0; steps--) {
        o->t++;
        c.scale = clip_scale(a, o);
        c.c1 = (float)(1 / (1 - pow(o->beta1, o->t)));
        c.c2 = (float)(1 / sqrt(1 - pow(o->beta2, o->t)));
        if (o->threads == 1) {
            for (ptrdiff_t k = 0; k < a->tensors; k++)
                body(a->sizes[k], a->p[k], a->g[k], a->m[k], a->v[k], c);
            continue;
        }
#pragma omp parallel for num_threads(o->threads) schedule(static)
        for (ptrdiff_t i = 0; i < n; i += share)
            if (a->tensors > 1)
                body(a->sizes[i], a->p[i], a->g[i], a->m[i], a->v[i], c);
            else
                body(n - i < share ? n - i : share, a->p[0] + i / BLOCK * a->block_p, a->g[0] + i / BLOCK * a->block_g,
                     a->m[0] + i / BLOCK * a->block_m, a->v[0] + i / BLOCK * a->block_v, c);
    }
}

#define RULE(name)                                                                                                    \
    static void name##_of(ptrdiff_t n, void *p, const void *g, void *m, void *v, constants c) {                       \
        name##_body(n, p, g, m, v, c);                                                                                \
    }                                                                                                                 \
    void name(ptrdiff_t steps, const arrays *a, options *o) {                                                         \
        take(name##_of, steps, a, o);                                                                                 \
    }
RULE(adamw)
RULE(adamw_half_states)
RULE(adamw_half)
RULE(adamw_bytes)
RULE(move_half_states)
RULE(move_half)
RULE(move_bytes)
RULE(momentum)
RULE(adagrad)
RULE(rmsprop)
RULE(lion)

/* y = a*x + b: one array read, one written. */
void scale(ptrdiff_t n, const float *restrict x, float *restrict y, float a, float b, int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = a * x[i] + b;
}

/* y = a*u + b*x: two arrays read, one written. */
void blend(ptrdiff_t n, const float *restrict x, const float *restrict u, float *restrict y, float a, float b,
           int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = a * u[i] + b * x[i];
}

/* The same two past the caches, which saves reading y before it is written. */
#if defined(__SSE__)
#include <xmmintrin.h>
#define EACH_FOUR(...)                                                                                                \
    _Pragma("omp parallel for num_threads(threads) schedule(static)")                                                 \
    for (ptrdiff_t i = 0; i < n / 4 * 4; i += 4)                                                                      \
        _mm_stream_ps(y + i, __VA_ARGS__)
#define TIMES(number, array) _mm_mul_ps(_mm_set1_ps(number), _mm_loadu_ps((array) + i))

void scale_past(ptrdiff_t n, const float *restrict x, float *restrict y, float a, float b, int threads) {
    EACH_FOUR(_mm_add_ps(TIMES(a, x), _mm_set1_ps(b)));
    scale(n % 4, x + n / 4 * 4, y + n / 4 * 4, a, b, 1);
}

void blend_past(ptrdiff_t n, const float *restrict x, const float *restrict u, float *restrict y, float a, float b,
                int threads) {
    EACH_FOUR(_mm_add_ps(TIMES(a, u), TIMES(b, x)));
    blend(n % 4, x + n / 4 * 4, u + n / 4 * 4, y + n / 4 * 4, a, b, 1);
}
#else
void scale_past(ptrdiff_t n, const float *restrict x, float *restrict y, float a, float b, int threads) {
    scale(n, x, y, a, b, threads);
}

void blend_past(ptrdiff_t n, const float *restrict x, const float *restrict u, float *restrict y, float a, float b,
                int threads) {
    blend(n, x, u, y, a, b, threads);
}
#endif

/* The sums of u and of u*x in double, which exact statistics ask for: what batch norm needs before it can write. */
double sum_in_double(ptrdiff_t n, const float *restrict x, const float *restrict u, int threads) {
    double sum = 0, product = 0;
#pragma omp parallel for simd num_threads(threads) schedule(static) reduction(+ : sum, product)
    for (ptrdiff_t i = 0; i < n; i++) {
        sum += (double)u[i];
        product += (double)u[i] * (double)x[i];
    }
    return sum + product;
}

/* Layer norm (centred) and RMS norm row by row, a row in cache, with what exact statistics cannot do without: sums in double,
 * in which the product of two floats is exact. */
#ifdef __FP_FAST_FMA
#define PLUS_PRODUCT(sum, a, b) __builtin_fma((double)(a), (double)(b), sum)
#else
#define PLUS_PRODUCT(sum, a, b) ((sum) + (double)(a) * (double)(b))
#endif
void rows_in_double(ptrdiff_t rows, ptrdiff_t columns, const float *restrict x, const float *restrict w,
                    const float *restrict b, float *restrict y, int centred, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t r = 0; r < rows; r++) {
        const float *restrict in = x + r * columns;
        float *restrict out = y + r * columns;
        double sum = 0, square = 0;
#pragma omp simd reduction(+ : square)
        for (ptrdiff_t i = 0; i < (centred ? 0 : columns); i++)
            square = PLUS_PRODUCT(square, in[i], in[i]);
#pragma omp simd reduction(+ : sum, square)
        for (ptrdiff_t i = 0; i < (centred ? columns : 0); i++) {
            sum += (double)in[i];
            square = PLUS_PRODUCT(square, in[i], in[i]);
        }
        const double mean = sum / (double)columns, s = 1 / sqrt(square / (double)columns - mean * mean + 1e-5);
        const float scale = (float)s, shift = (float)(-mean * s);
#pragma omp simd
        for (ptrdiff_t i = 0; i < (centred ? columns : 0); i++)
            out[i] = (scale * in[i] + shift) * w[i] + b[i];
#pragma omp simd
        for (ptrdiff_t i = 0; i < (centred ? 0 : columns); i++)
            out[i] = scale * in[i] * w[i];
    }
}

/* Both derivatives of it, x_hat being x: the sums of w*dy and w*dy*x of a row, then dx, and the columns' sums of dy*x and dy,
 * which have rows for every thread. RMS norm has no mean and no bias. */
void rows_backward_in_double(ptrdiff_t rows, ptrdiff_t columns, const float *restrict dy, const float *restrict x,
                             const float *restrict w, float *restrict dx, double *restrict sums, int centred,
                             int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        double *restrict dweight = sums + 2 * t * columns, *restrict dbias = dweight + columns;
        for (ptrdiff_t r = t * rows / threads; r < (t + 1) * rows / threads; r++) {
            const float *restrict d = dy + r * columns, *restrict in = x + r * columns;
            float *restrict out = dx + r * columns;
            double sum = 0, product = 0;
#pragma omp simd reduction(+ : product)
            for (ptrdiff_t i = 0; i < (centred ? 0 : columns); i++)
                product += (double)w[i] * (double)d[i] * (double)in[i];
#pragma omp simd reduction(+ : sum, product)
            for (ptrdiff_t i = 0; i < (centred ? columns : 0); i++) {
                sum = PLUS_PRODUCT(sum, w[i], d[i]);
                product += (double)w[i] * (double)d[i] * (double)in[i];
            }
            const float mean = (float)(sum / (double)columns), slope = (float)(product / (double)columns);
#pragma omp simd
            for (ptrdiff_t i = 0; i < (centred ? 0 : columns); i++) {
                out[i] = w[i] * d[i] - slope * in[i];
                dweight[i] = PLUS_PRODUCT(dweight[i], d[i], in[i]);
            }
#pragma omp simd
            for (ptrdiff_t i = 0; i < (centred ? columns : 0); i++) {
                out[i] = (w[i] * d[i] - mean) - slope * in[i];
                dweight[i] = PLUS_PRODUCT(dweight[i], d[i], in[i]);
                dbias[i] += (double)d[i];
            }
        }
    }
}

/* e^x for x <= 0 in float: x = k ln 2 + r, 2^k by its bits, e^r by Taylor's first terms. */
static inline float exp_below(float x) {
    const float at_least = x < -87 ? -87 : x, k = rintf(at_least * 0x1.715476p+0f);
    const float r = (at_least - k * 0x1.62e4p-1f) - k * 0x1.7f7ep-20f;
    const float q = (((r * (1.0f / 720) + 1.0f / 120) * r + 1.0f / 24) * r + 1.0f / 6) * r + 0.5f;
    const uint32_t bits = (uint32_t)((int32_t)k + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power + power * (r + r * r * q);
}

/* Softmax cross-entropy with its gradient as short as it can be: a row in cache, its sum in float, the right class's gradient
 * by a difference. */
void cross_entropy(ptrdiff_t rows, ptrdiff_t classes, const float *restrict z, const int64_t *restrict target,
                   float *restrict dz, float scale, float *restrict loss, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t r = 0; r < rows; r++) {
        const float *restrict in = z + r * classes;
        float *restrict out = dz + r * classes;
        float top = in[0], sum = 0;
#pragma omp simd reduction(max : top)
        for (ptrdiff_t i = 0; i < classes; i++)
            top = in[i] > top ? in[i] : top;
#pragma omp simd reduction(+ : sum)
        for (ptrdiff_t i = 0; i < classes; i++)
            sum += out[i] = exp_below(in[i] - top);
        loss[r] = top - in[target[r]] + logf(sum);
        const float share = scale / sum;
#pragma omp simd
        for (ptrdiff_t i = 0; i < classes; i++)
            out[i] *= share;
        out[target[r]] -= scale;
    }
}

/* One array read, nothing written. */
float read_all(ptrdiff_t n, const float *restrict x, int threads) {
    float sum = 0;
#pragma omp parallel for simd num_threads(threads) schedule(static) reduction(+ : sum)
    for (ptrdiff_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}
