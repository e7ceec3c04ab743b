/* Counts what is taken from the heap: preloaded, it stands before glibc's own functions. */
#include <stddef.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static long count;

long allocations(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }

static void one_more(void) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); }

void *malloc(size_t n) { one_more(); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { one_more(); return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { one_more(); return __libc_realloc(p, n); }
void *memalign(size_t to, size_t n) { one_more(); return __libc_memalign(to, n); }
void *aligned_alloc(size_t to, size_t n) { one_more(); return __libc_memalign(to, n); }

int posix_memalign(void **p, size_t to, size_t n)
{
    one_more();
    *p = __libc_memalign(to, n);
    return *p == NULL ? 12 : 0; /* ENOMEM */
}
