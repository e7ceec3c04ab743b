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
