/* Every kernel of the table, on buffers that end directly at, and then begin directly after, a page that nobody may
 * touch: one element read or written outside its range ends the program with the kernel's name. Beside that: nothing
 * written around the buffers or into an input, the same bits for every split and at every level.
 *
 * `test_kernels overrun|underrun|stray` misbehaves on purpose, so that its own alarms can be tested. */
#define _DEFAULT_SOURCE
#include "table.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARENA (1 << 18)
#define FRINGE 64 /* bytes watched on either side of a buffer */
#define CANARY 0xA5

typedef struct {
    unsigned char *low, *high; /* the accessible bytes between two forbidden pages */
    unsigned char *data;       /* the buffer inside */
    size_t bytes;
} arena;

static arena arenas[MAX_ARRAYS];
static unsigned char expected[MAX_ARRAYS][ARENA];
static const oc_kernels *levels[OC_N_LEVELS], *best; /* to ask for them is to ask the CPU, slowly in a virtual machine */
static const char *misbehave = "";
static char where[160];

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", where, what);
    exit(1);
}

static void on_fault(int signal) {
    (void)signal;
    static const char text[] = ": touched memory outside its range\n";
    if (write(2, where, strlen(where)) < 0 || write(2, text, sizeof text - 1) < 0)
        _exit(3);
    _exit(2);
}

static void make_arenas(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int j = 0; j < MAX_ARRAYS; j++) {
        unsigned char *p = mmap(NULL, ARENA + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + page, ARENA, PROT_READ | PROT_WRITE)) {
            perror("test_kernels");
            exit(1);
        }
        arenas[j] = (arena){p + page, p + page + ARENA, NULL, 0};
    }
}

static ptrdiff_t count(const array *a, ptrdiff_t n, ptrdiff_t width) {
    switch (a->length) {
    case EACH: return a->times * n * width;
    case UNIT: return a->times * n;
    case WIDTH: return a->times * width;
    case ONE: return a->times;
    case BLOCKS: return a->times * ((n * width + OC_STATE_BLOCK - 1) / OC_STATE_BLOCK);
    default: return n ? a->times * ((n - 1) * (width + GAP) + width) : 0;
    }
}

/* Norms have kernels of bfloat16 beside the others. */
static int dtypes(const test *t) {
    const int norm = t->shapes == RUNS || t->call == call_run_moments || t->call == call_run_sums;
    return norm ? OC_N_NORM_DTYPES : OC_N_DTYPES;
}

static size_t item(const array *a, oc_dtype d) {
    if (a->kind == CLASSES)
        return sizeof(int64_t);
    if ((int)d == OC_BF16 && a->kind < CLASSES)
        return sizeof(uint16_t);
    if (a->kind >= FLOATS_IN)
        return a->kind <= FLOATS_INOUT ? sizeof(float) : a->kind <= HALVES_INOUT ? sizeof(uint16_t) : 1;
    return a->kind == DOUBLE_IN || a->kind == DOUBLE_OUT || a->kind == DOUBLE_INOUT || d == OC_F64 ? sizeof(double) : sizeof(float);
}

static int is_output(const array *a) {
    switch (a->kind) {
    case OUT:
    case INOUT:
    case INOUT_POSITIVE:
    case CONSTANTS_INOUT:
    case DOUBLE_OUT:
    case DOUBLE_INOUT:
    case FLOATS_INOUT:
    case HALVES_INOUT:
    case CODES_INOUT: return 1;
    default: return 0;
    }
}

static uint64_t hash(uint64_t x) { /* splitmix64, Steele, Lea and Flood 2014 */
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* One in sixteen is 0; the others have either sign and magnitudes from 2^-6 to 2^6. */
static double value(uint64_t seed) {
    const uint64_t h = hash(seed);
    const double m = 1 + (double)(h >> 20) * 0x1p-44;
    const int e = (int)(h >> 8 & 0xFF) % 12 - 6;
    const double x = e < 0 ? m / (1 << -e) : m * (1 << e);
    return (h & 0xF0) == 0 ? 0 : h & 1 ? -x : x;
}

/* The upper half of a float: a bfloat16. */
static uint16_t cut(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void fill(const test *t, oc_dtype d, ptrdiff_t n, ptrdiff_t width, int at_end) {
    for (int j = 0; j < MAX_ARRAYS; j++) {
        const array *a = &t->arrays[j];
        arena *m = &arenas[j];
        m->data = NULL;
        if (a->kind == ABSENT)
            continue;
        const ptrdiff_t length = count(a, n, width);
        m->bytes = (size_t)length * item(a, d);
        if (m->bytes + FRINGE > ARENA)
            fail("the arena is too small");
        m->data = at_end ? m->high - m->bytes : m->low;
        memset(at_end ? m->data - FRINGE : m->data, CANARY, m->bytes + FRINGE);
        for (ptrdiff_t i = 0; i < length && a->kind != OUT && a->kind != DOUBLE_OUT; i++) {
            double v = value((uint64_t)i * MAX_ARRAYS + (uint64_t)j);
            v = (a->kind == INOUT_POSITIVE || a->kind >= FLOATS_IN) && v < 0 ? -v : v;
            if (a->kind >= CODES_IN)
                m->data[i] = (unsigned char)hash((uint64_t)i);
            else if (a->kind >= HALVES_IN) /* an exponent below 2 in either format; positive, for v is one of them */
                ((uint16_t *)(void *)m->data)[i] = (uint16_t)(hash((uint64_t)i) & 0x3fff);
            else if (a->kind == CLASSES)
                ((int64_t *)(void *)m->data)[i] = (int64_t)(hash((uint64_t)i) % (uint64_t)width);
            else if (item(a, d) == sizeof(double))
                ((double *)(void *)m->data)[i] = v;
            else if (item(a, d) == sizeof(float))
                ((float *)(void *)m->data)[i] = (float)v;
            else
                ((uint16_t *)(void *)m->data)[i] = cut((float)v);
        }
    }
}

static void check_fringes(const test *t, int at_end) {
    for (int j = 0; j < MAX_ARRAYS; j++) {
        const arena *m = &arenas[j];
        if (t->arrays[j].kind == ABSENT)
            continue;
        const unsigned char *fringe = at_end ? m->data - FRINGE : m->data + m->bytes;
        for (int i = 0; i < FRINGE; i++)
            if (fringe[i] != CANARY)
                fail("wrote outside its range");
    }
}

/* The kernel on `rows` units from `start` on. */
static void run(const test *t, const oc_kernels *k, oc_dtype d, ptrdiff_t start, ptrdiff_t n, ptrdiff_t width) {
    void *pieces[MAX_ARRAYS];
    for (int j = 0; j < MAX_ARRAYS; j++) {
        const array *a = &t->arrays[j];
        const ptrdiff_t unit = a->length == EACH      ? width
                               : a->length == UNIT    ? 1
                               : a->length == STRIDED ? width + GAP
                                                      : 0;
        pieces[j] = arenas[j].data ? arenas[j].data + (size_t)(start * unit * a->times) * item(a, d) : NULL;
    }
    t->call(t, k, d, n, width, pieces);
    const volatile unsigned char *x = arenas[0].data;
    if (!strcmp(misbehave, "overrun"))
        (void)x[arenas[0].bytes];
    if (!strcmp(misbehave, "underrun"))
        (void)x[-1];
    if (!strcmp(misbehave, "stray"))
        (x == arenas[0].low ? arenas[0].data + arenas[0].bytes : arenas[0].data - 1)[0] = 0;
}

static void save(void) {
    for (int j = 0; j < MAX_ARRAYS; j++)
        if (arenas[j].data)
            memcpy(expected[j], arenas[j].data, arenas[j].bytes);
}

static void compare(const test *t, int inputs, const char *what) {
    for (int j = 0; j < MAX_ARRAYS; j++) {
        const arena *m = &arenas[j];
        if (m->data && is_output(&t->arrays[j]) != inputs && memcmp(expected[j], m->data, m->bytes))
            fail(what);
    }
}

static void check(const test *t, oc_dtype d, ptrdiff_t n, ptrdiff_t width, int at_end) {
    fill(t, d, n, width, at_end);
    save();
    run(t, levels[OC_LEVEL_BASELINE], d, 0, n, width);
    check_fringes(t, at_end);
    compare(t, 1, "changed an input");
    save();
    for (int level = 1; level < OC_N_LEVELS; level++) {
        if (!levels[level])
            continue;
        fill(t, d, n, width, at_end);
        run(t, levels[level], d, 0, n, width);
        check_fringes(t, at_end);
        compare(t, 0, "other bits than baseline at a higher level");
    }
    const ptrdiff_t cuts[] = {1, n / 2, n - 1};
    for (int i = 0; t->splits && i < 3; i++) {
        if (cuts[i] <= 0 || cuts[i] >= n)
            continue;
        fill(t, d, n, width, at_end);
        run(t, best, d, 0, cuts[i], width);
        run(t, best, d, cuts[i], n - cuts[i], width);
        check_fringes(t, at_end);
        compare(t, 0, "other bits when the range is split");
    }
}

static void check_shapes(const test *t, oc_dtype d) {
    static const ptrdiff_t units[] = {1, 2, 3, 4, 5, 15, 16, 17, 33, 0};
    /* Runs of 13, 61 and 253 begin GAP further on: on a cache line each. */
    static const ptrdiff_t widths[] = {1, 2, 3, 10, 13, 15, 16, 17, 33, 40, 41, 61, 63, 64, 65, 100, 253, 256, 257, 300};
    /* Statistics of no run at all are not asked for: runs start at 1, rows go down to 0. */
    const int n_units = (int)(sizeof units / sizeof *units) - (t->shapes == RUNS);
    /* Elements: up to 300, and from where rules go to a cache line first; at the end of the memory each is elsewhere in it. */
    const int n_shapes = t->shapes == ELEMENTS ? 301 + 16 : n_units * (int)(sizeof widths / sizeof *widths);
    for (int s = 0; s < n_shapes; s++)
        for (int at_end = 0; at_end < 2; at_end++) {
            const ptrdiff_t n = t->shapes != ELEMENTS ? units[s % n_units] : s <= 300 ? s : 512 - 301 + s;
            const ptrdiff_t width = t->shapes == ELEMENTS ? 1 : widths[s / n_units];
            snprintf(where, sizeof where, "%s %s, n = %td, width = %td, %s", t->name,
                     d == OC_F32 ? "float32" : d == OC_F64 ? "float64" : "bfloat16", n, width,
                     at_end ? "at the end of the memory" : "at its beginning");
            check(t, d, n, width, at_end);
        }
}

static jmp_buf back;

static void was_called(void) {
    longjmp(back, 1);
}

/* Every entry of the kernel table is reached by some row: each in turn is replaced by was_called. */
static void check_that_none_is_missing(void) {
    static volatile size_t entry;
    static volatile int test_number, d, found;
    for (entry = 1; entry < sizeof(oc_kernels) / sizeof(void *); entry++) {
        oc_kernels k = *levels[OC_LEVEL_BASELINE];
        void (*const replacement)(void) = was_called;
        const void *there;
        memcpy(&there, (unsigned char *)&k + entry * sizeof(void *), sizeof there);
        if (!there) /* a layerwise rule has no mixes */
            continue;
        memcpy((unsigned char *)&k + entry * sizeof(void *), &replacement, sizeof replacement);
        found = 0;
        for (test_number = 0; test_number < (int)(sizeof table / sizeof *table); test_number++)
            for (d = 0; d < dtypes(&table[test_number]); d++) {
                const test *t = &table[test_number];
                fill(t, (oc_dtype)d, 2, t->shapes == ELEMENTS ? 1 : 3, 1);
                if (setjmp(back))
                    found = 1;
                else
                    run(t, &k, (oc_dtype)d, 0, 2, t->shapes == ELEMENTS ? 1 : 3);
            }
        snprintf(where, sizeof where, "oc_kernels, pointer number %d", (int)entry);
        if (!found)
            fail("no row of the table calls it");
    }
}

int main(int argc, char **argv) {
    const int n_tests = (int)(sizeof table / sizeof *table);
    if (argc > 1)
        misbehave = argv[1];
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    make_arenas();
    best = oc_kernels_best();
    for (int level = 0; level < OC_N_LEVELS; level++)
        levels[level] = oc_kernels_at((oc_level)level);
    check_that_none_is_missing();
    for (int i = 0; i < n_tests; i++)
        for (int d = 0; d < dtypes(&table[i]); d++)
            check_shapes(&table[i], (oc_dtype)d);
    printf("%d kernels at", n_tests);
    for (int level = 0; level < OC_N_LEVELS; level++)
        if (levels[level])
            printf(" %s", oc_level_name((oc_level)level));
    printf("\n");
    return 0;
}
