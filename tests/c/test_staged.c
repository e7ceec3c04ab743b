/* A step over arrays of every storage has the same bits in one call as in calls of a stage each, at every level and for both
 * dtypes: theta, the gradient and the states kept in codes in turn, with a copy and an average that follow. */
#include "optcore.h"

#include <stdio.h>

enum { N = 1800, MOST = N + OC_STATE_BLOCK, KINDS = 4 };

typedef struct {
    double data[KINDS][MOST];
    float scales[KINDS][MOST / OC_STATE_BLOCK];
    double copy[MOST], average[MOST];
} arrays;

static arrays whole, cut;

static size_t bytes_of(oc_storage storage) {
    return storage == OC_AS_F32 ? 4 : storage == OC_AS_F64 ? 8 : 1;
}

static void fill(arrays *a, const oc_storage *storage) {
    memset(a, 0, sizeof *a);
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < N; i++) {
            const int value = (i * 37 + k * 11) % 101 + 1, sign = k < 3 && i % 3 == 0 ? -1 : 1;
            if (storage[k] == OC_AS_F32)
                ((float *)a->data[k])[i] = (float)(sign * value) / 64;
            else if (storage[k] == OC_AS_F64)
                a->data[k][i] = (double)(sign * value) / 64;
            else
                ((uint8_t *)a->data[k])[i] = (uint8_t)(storage[k] == OC_AS_SIGNED_CODES && sign < 0 ? value | 0x80 : value);
            a->scales[k][i / OC_STATE_BLOCK] = i / OC_STATE_BLOCK % 2 ? 0.5f : 2;
        }
}

static void step(const oc_kernels *k, oc_dtype d, const oc_storage *storage, arrays *a, ptrdiff_t stage) {
    const oc_options options = {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.01, .decoupled = 1};
    const oc_storage wide = d == OC_F32 ? OC_AS_F32 : OC_AS_F64;
    oc_coefficients c = {.carried = {0}};
    oc_staged s = {.copy = {.data = a->copy, .storage = wide}, .average = {.data = a->average, .storage = wide},
                   .mean = {0.9, 0, 0.1}, .key = 7};
    for (int i = 0; i < KINDS; i++)
        s.x[i] = (oc_array){.data = a->data[i], .extra = a->scales[i], .storage = storage[i]};
    oc_prepare(OC_ADAM, d, &options, 3, 1, &c);
    for (ptrdiff_t at = 0; at < N; at += stage)
        k->staged[d](OC_ADAM, at, N - at < stage ? N - at : stage, &s, &c);
}

int main(void) {
    int wrong = 0;
    for (oc_level level = OC_LEVEL_BASELINE; level <= OC_LEVEL_V4; level++) {
        const oc_kernels *k = oc_kernels_at(level);
        for (int d = 0; k && d < OC_N_DTYPES; d++)
            for (int coded = 0; coded < 1 << KINDS; coded++) {
                oc_storage storage[KINDS];
                for (int i = 0; i < KINDS; i++)
                    storage[i] = !(coded >> i & 1) ? (d == OC_F32 ? OC_AS_F32 : OC_AS_F64)
                                 : i < 3           ? OC_AS_SIGNED_CODES : OC_AS_UNSIGNED_CODES;
                fill(&whole, storage);
                fill(&cut, storage);
                step(k, (oc_dtype)d, storage, &whole, N);
                step(k, (oc_dtype)d, storage, &cut, OC_STAGE / (ptrdiff_t)(d == OC_F32 ? 4 : 8));
                for (int i = 0; i < KINDS; i++)
                    if (memcmp(whole.data[i], cut.data[i], N * bytes_of(storage[i]))) {
                        fprintf(stderr, "level %d, dtype %d, codes %d: array %d depends on the cut\n", (int)level, d, coded, i);
                        wrong++;
                    }
                if (memcmp(whole.scales, cut.scales, sizeof cut.scales) || memcmp(whole.copy, cut.copy, sizeof cut.copy) ||
                    memcmp(whole.average, cut.average, sizeof cut.average)) {
                    fprintf(stderr, "level %d, dtype %d, codes %d: what follows depends on the cut\n", (int)level, d, coded);
                    wrong++;
                }
            }
    }
    return wrong != 0;
}
