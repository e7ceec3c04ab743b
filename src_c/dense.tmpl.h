/* dense.tmpl.h: what a dense layer needs beside its matrix products.
 * Parameters: T the element type, FN(name) the symbol of a kernel for this T and level. */

/* The sum of each column, in double. Four rows share one load and store of the sums. */
static void FN(column_sums)(ptrdiff_t rows, ptrdiff_t columns, const void *vx, double *restrict sums) {
    const T *restrict x = vx;
    for (ptrdiff_t i = 0; i < columns; i++)
        sums[i] = 0;
    ptrdiff_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * columns)
        for (ptrdiff_t i = 0; i < columns; i++)
            sums[i] += ((double)x[i] + (double)x[columns + i]) +
                       ((double)x[2 * columns + i] + (double)x[3 * columns + i]);
    for (; r < rows; r++, x += columns)
        for (ptrdiff_t i = 0; i < columns; i++)
            sums[i] += (double)x[i];
}

/* out = a b, or that added to it, [m][n], of a, whose rows and terms are so far apart, and b[k][ldb], for few rows: neither
 * operand is packed. Up to six rows by a line of columns are summed at a time, and added to the result after OC_DEPTH terms:
 * rows of b that are near enough to be walked together. */
#define OC_DEPTH 64
#if defined(__GNUC__) || defined(__clang__)
typedef T FN(half_line) __attribute__((vector_size(OC_LINE / 2), aligned(sizeof(T))));
#else
typedef T FN(half_line);
#endif
enum { FN(half) = sizeof(FN(half_line)) / sizeof(T), FN(whole) = 2 * FN(half), FN(thin_rows) = 6 };
OC_INLINE void FN(thin_tile)(int rows, ptrdiff_t k, const T *a, ptrdiff_t row, ptrdiff_t term, const T *b,
                             ptrdiff_t ldb, int add, T *out, ptrdiff_t ldo) {
    FN(half_line) sum[FN(thin_rows)][2] = {0};
    for (ptrdiff_t p = 0; p < k; p++, a += term, b += ldb) {
        OC_PREFETCH(b + 2 * FN(whole)); /* no processor follows as many rows */
        const FN(half_line) x[2] = {*(const FN(half_line) *)b, *(const FN(half_line) *)(b + FN(half))};
        OC_ALL_AT_ONCE
        for (int r = 0; r < rows; r++) {
            sum[r][0] += a[r * row] * x[0];
            sum[r][1] += a[r * row] * x[1];
        }
    }
    OC_ALL_AT_ONCE
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++) {
            FN(half_line) *to = (FN(half_line) *)(out + r * ldo + h * FN(half));
            *to = add ? *to + sum[r][h] : sum[r][h];
        }
}

static void FN(thin_line)(ptrdiff_t m, ptrdiff_t k, const T *a, ptrdiff_t row, ptrdiff_t term, const T *b, ptrdiff_t ldb,
                          int add, T *out, ptrdiff_t ldo) {
    for (ptrdiff_t i = 0, rows; i < m; i += rows) {
        const ptrdiff_t left = m - i, tiles = (left + FN(thin_rows) - 1) / FN(thin_rows);
        rows = (left + tiles - 1) / tiles; /* of even height: ten by halves */
#define OC_TILE(r)                                                                                                    \
    case r: FN(thin_tile)(r, k, a + i * row, row, term, b, ldb, add, out + i * ldo, ldo); break
        switch (rows) { OC_TILE(1); OC_TILE(2); OC_TILE(3); OC_TILE(4); OC_TILE(5); OC_TILE(6); }
#undef OC_TILE
    }
}

/* Columns that fill no line, among zeros. */
static void FN(thin_rest)(ptrdiff_t columns, ptrdiff_t m, ptrdiff_t k, const T *a, ptrdiff_t row, ptrdiff_t term,
                          const T *b, ptrdiff_t ldb, int add, T *out, ptrdiff_t ldo) {
    T line[OC_DEPTH * FN(whole)] OC_ON_LINE = {0}, sums[FN(thin_rows) * FN(whole)] OC_ON_LINE;
    for (ptrdiff_t p = 0; p < k; p++)
        for (ptrdiff_t j = 0; j < columns; j++)
            line[p * FN(whole) + j] = b[p * ldb + j];
    for (ptrdiff_t i = 0; i < m; i += FN(thin_rows)) {
        const ptrdiff_t rows = m - i < FN(thin_rows) ? m - i : FN(thin_rows);
        FN(thin_line)(rows, k, a + i * row, row, term, line, FN(whole), 0, sums, FN(whole));
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t j = 0; j < columns; j++) {
                T *to = out + (i + r) * ldo + j;
                *to = add ? *to + sums[r * FN(whole) + j] : sums[r * FN(whole) + j];
            }
    }
}

static void FN(thin)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *va, ptrdiff_t row, ptrdiff_t term, const void *vb,
                     ptrdiff_t ldb, int add, void *vout, ptrdiff_t ldo) {
    T *out = vout;
    const ptrdiff_t rest = n % FN(whole);
    for (ptrdiff_t first = 0; first < k; first += OC_DEPTH, add = 1) {
        const ptrdiff_t depth = k - first < OC_DEPTH ? k - first : OC_DEPTH;
        const T *a = (const T *)va + first * term, *b = (const T *)vb + first * ldb;
        for (ptrdiff_t j = 0; j < n - rest; j += FN(whole))
            FN(thin_line)(m, depth, a, row, term, b + j, ldb, add, out + j, ldo);
        if (rest)
            FN(thin_rest)(rest, m, depth, a, row, term, b + n - rest, ldb, add, out + n - rest, ldo);
    }
}
#undef OC_DEPTH

/* Sums of up to six rows of a by one row of b or two, in the elements of half a line, which are folded at the end. */
OC_INLINE void FN(dots_tile)(int rows, int columns, ptrdiff_t k, const T *a, ptrdiff_t lda, const T *b, ptrdiff_t ldb,
                             int add, T *out, ptrdiff_t ldo) {
    FN(half_line) sum[FN(thin_rows)][2] = {0};
    ptrdiff_t p = 0;
    for (; p + FN(half) <= k; p += FN(half)) {
        const FN(half_line) x[2] = {*(const FN(half_line) *)(b + p), *(const FN(half_line) *)(b + (columns - 1) * ldb + p)};
        OC_ALL_AT_ONCE
        for (int r = 0; r < rows; r++) {
            const FN(half_line) y = *(const FN(half_line) *)(a + r * lda + p);
            sum[r][0] += y * x[0];
            if (columns == 2)
                sum[r][1] += y * x[1];
        }
    }
    OC_ALL_AT_ONCE
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            T part[FN(half)], *to = out + r * ldo + c;
            memcpy(part, &sum[r][c], sizeof part);
            for (int w = FN(half) / 2; w > 0; w /= 2)
                for (int i = 0; i < w; i++)
                    part[i] += part[i + w];
            for (ptrdiff_t q = p; q < k; q++)
                part[0] += a[r * lda + q] * b[c * ldb + q];
            *to = add ? *to + part[0] : part[0];
        }
}

/* out = a b^T, or that added to it, [m][n], of a[m][lda] and b[n][ldb], for few rows: stretches of a that the first cache
 * holds, with each row of b in turn. */
#define OC_DEPTH 512
static void FN(thin_dots)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *va, ptrdiff_t lda, const void *vb,
                          ptrdiff_t ldb, int add, void *vout, ptrdiff_t ldo) {
    for (ptrdiff_t first = 0; first < k; first += OC_DEPTH, add = 1) {
        const ptrdiff_t depth = k - first < OC_DEPTH ? k - first : OC_DEPTH;
        for (ptrdiff_t j = 0; j < n; j += 2)
            for (ptrdiff_t i = 0, rows; i < m; i += rows) {
                const T *a = (const T *)va + i * lda + first, *b = (const T *)vb + j * ldb + first;
                T *out = (T *)vout + i * ldo + j;
                rows = m - i < FN(thin_rows) ? m - i : FN(thin_rows);
#define OC_TILE(r)                                                                                                    \
    case r:                                                                                                           \
        if (j + 1 < n)                                                                                                \
            FN(dots_tile)(r, 2, depth, a, lda, b, ldb, add, out, ldo);                                                \
        else                                                                                                          \
            FN(dots_tile)(r, 1, depth, a, lda, b, ldb, add, out, ldo);                                                \
        break
                switch (rows) { OC_TILE(1); OC_TILE(2); OC_TILE(3); OC_TILE(4); OC_TILE(5); OC_TILE(6); }
#undef OC_TILE
            }
    }
}
#undef OC_DEPTH

/* x[16][stride] turned, into out[16][ld]. Written out, it is something that gcc does by interleaving vectors. */
#define OC_TURN(k) t[16 * j + (k)] = x[(k) * stride + j]
OC_INLINE void FN(turn_tile)(ptrdiff_t stride, ptrdiff_t ld, const T *restrict x, T *restrict out) {
    T t[16 * 16] OC_ON_LINE;
    for (int j = 0; j < 16; j++) {
        OC_TURN(0), OC_TURN(1), OC_TURN(2), OC_TURN(3), OC_TURN(4), OC_TURN(5), OC_TURN(6), OC_TURN(7);
        OC_TURN(8), OC_TURN(9), OC_TURN(10), OC_TURN(11), OC_TURN(12), OC_TURN(13), OC_TURN(14), OC_TURN(15);
    }
    for (int j = 0; j < 16; j++)
        memcpy(out + j * ld, t + 16 * j, 16 * sizeof(T));
}
#undef OC_TURN

/* out[columns][rows] = x[rows][columns] turned. The last tiles begin early enough to be whole. */
static void FN(turn)(ptrdiff_t rows, ptrdiff_t columns, const void *vx, void *vout) {
    const T *x = vx;
    T *out = vout;
    if (rows < 16 || columns < 16) {
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t i = 0; i < columns; i++)
                out[i * rows + r] = x[r * columns + i];
        return;
    }
    for (ptrdiff_t r = 0; r < rows; r += 16)
        for (ptrdiff_t i = 0; i < columns; i += 16) {
            const ptrdiff_t row = r < rows - 16 ? r : rows - 16, column = i < columns - 16 ? i : columns - 16;
            FN(turn_tile)(columns, rows, x + row * columns + column, out + column * rows + row);
        }
}
