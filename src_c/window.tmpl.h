/* window.tmpl.h: what convolutions and pools do with the windows of an image, beside matrix products; and dropout's mask.
 * Parameters: T the element type, FN(name) the symbol of a kernel for this T and level; storage.h before. */

/* The outputs [*first, *end) whose window has place `at` of the kernel inside an axis of `size` elements, not its padding. */
OC_INLINE void FN(inside)(ptrdiff_t size, ptrdiff_t stride, ptrdiff_t pad, ptrdiff_t outputs, ptrdiff_t at,
                          ptrdiff_t *first, ptrdiff_t *end) {
    const ptrdiff_t before = pad - at, after = size + pad - at; /* before <= o*stride < after */
    *first = before <= 0 ? 0 : (before + stride - 1) / stride;
    *end = after <= 0 ? 0 : (after + stride - 1) / stride;
    *first = *first < outputs ? *first : outputs;
    *end = *end < outputs ? *end : outputs;
    *end = *end > *first ? *end : *first;
}

/* ------------------------------------------------------------------------------------ windows as columns, and back */

OC_INLINE void FN(copy_row)(ptrdiff_t n, ptrdiff_t stride, const T *restrict x, T *restrict to) {
    for (ptrdiff_t o = 0; o < n; o++)
        to[o] = x[o * stride];
}

OC_INLINE void FN(add_row)(ptrdiff_t n, ptrdiff_t stride, const T *restrict from, T *restrict x) {
    for (ptrdiff_t o = 0; o < n; o++)
        x[o * stride] += from[o];
}

/* One place of the kernel: its element of the windows of the outputs of these rows. */
OC_INLINE void FN(place_to_row)(const oc_window *w, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t i, ptrdiff_t j, const T *x,
                                T *to) {
    ptrdiff_t first, end, left, right;
    FN(inside)(w->height, w->stride_h, w->pad_h, w->out_h, i, &first, &end);
    FN(inside)(w->width, w->stride_w, w->pad_w, w->out_w, j, &left, &right);
    for (ptrdiff_t r = row; r < row + rows; r++, to += w->out_w) {
        const int outside = r < first || r >= end;
        const ptrdiff_t from = outside ? w->out_w : left, until = outside ? w->out_w : right;
        for (ptrdiff_t o = 0; o < from; o++)
            to[o] = 0;
        for (ptrdiff_t o = until; o < w->out_w; o++)
            to[o] = 0;
        if (outside)
            continue;
        const T *line = x + (r * w->stride_h + i - w->pad_h) * w->width + left * w->stride_w + j - w->pad_w;
        if (w->stride_w == 1)
            FN(copy_row)(right - left, 1, line, to + left);
        else
            FN(copy_row)(right - left, w->stride_w, line, to + left);
    }
}

static void FN(windows_to_columns)(const oc_window *w, ptrdiff_t row, ptrdiff_t rows, const void *vx, void *vcolumns) {
    const T *x = vx;
    T *to = vcolumns;
    for (ptrdiff_t c = 0; c < w->channels; c++, x += w->height * w->width)
        for (ptrdiff_t i = 0; i < w->kernel_h; i++)
            for (ptrdiff_t j = 0; j < w->kernel_w; j++, to += rows * w->out_w)
                FN(place_to_row)(w, row, rows, i, j, x, to);
}

OC_INLINE void FN(row_to_place)(const oc_window *w, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t i, ptrdiff_t j,
                                const T *from, T *x) {
    ptrdiff_t first, end, left, right;
    FN(inside)(w->height, w->stride_h, w->pad_h, w->out_h, i, &first, &end);
    FN(inside)(w->width, w->stride_w, w->pad_w, w->out_w, j, &left, &right);
    first = first > row ? first : row;
    end = end < row + rows ? end : row + rows;
    for (ptrdiff_t r = first; r < end && right > left; r++) {
        T *line = x + (r * w->stride_h + i - w->pad_h) * w->width + left * w->stride_w + j - w->pad_w;
        const T *of = from + (r - row) * w->out_w + left;
        if (w->stride_w == 1)
            FN(add_row)(right - left, 1, of, line);
        else
            FN(add_row)(right - left, w->stride_w, of, line);
    }
}

static void FN(add_columns)(const oc_window *w, ptrdiff_t row, ptrdiff_t rows, const void *vcolumns, void *vx) {
    T *x = vx;
    const T *from = vcolumns;
    for (ptrdiff_t c = 0; c < w->channels; c++, x += w->height * w->width)
        for (ptrdiff_t i = 0; i < w->kernel_h; i++)
            for (ptrdiff_t j = 0; j < w->kernel_w; j++, from += rows * w->out_w)
                FN(row_to_place)(w, row, rows, i, j, from, x);
}

static void FN(add_plane_sums)(ptrdiff_t planes, ptrdiff_t n, const void *vx, double *sums) {
    const T *x = vx;
    for (ptrdiff_t p = 0; p < planes; p++, x += n) {
        double lane[OC_LANES] = {0};
        OC_OVER_LANES(n, lane[l] += (double)x[i]);
        sums[p] += oc_fold_lanes(lane);
    }
}

/* ------------------------------------------------------------------------------------------------------------ pools */

/* What is larger, or NaN, takes the place of what was found before: the first of equals stays, as in PyTorch. */
OC_INLINE void FN(larger_row)(ptrdiff_t n, ptrdiff_t stride, int32_t at, const T *restrict x, T *restrict y,
                              int32_t *restrict argmax) {
    for (ptrdiff_t o = 0; o < n; o++) {
        const T v = x[o * stride];
        const int take = v > y[o] || v != v;
        argmax[o] = take ? at + (int32_t)(o * stride) : argmax[o];
        y[o] = take ? v : y[o];
    }
}

OC_INLINE void FN(max_pool_row)(const oc_window *w, ptrdiff_t r, const T *x, T *y, int32_t *argmax) {
    const ptrdiff_t top = r * w->stride_h - w->pad_h, above = top > 0 ? top : 0;
    for (ptrdiff_t o = 0; o < w->out_w; o++) {
        const ptrdiff_t column = o * w->stride_w - w->pad_w;
        argmax[o] = (int32_t)(above * w->width + (column > 0 ? column : 0));
        y[o] = -(T)INFINITY;
    }
    for (ptrdiff_t i = above - top; i < w->kernel_h && top + i < w->height; i++)
        for (ptrdiff_t j = 0; j < w->kernel_w; j++) {
            ptrdiff_t left, right;
            FN(inside)(w->width, w->stride_w, w->pad_w, w->out_w, j, &left, &right);
            const ptrdiff_t at = (top + i) * w->width + left * w->stride_w + j - w->pad_w;
            if (right <= left)
                continue;
            if (w->stride_w == 2)
                FN(larger_row)(right - left, 2, (int32_t)at, x + at, y + left, argmax + left);
            else
                FN(larger_row)(right - left, w->stride_w, (int32_t)at, x + at, y + left, argmax + left);
        }
}

static void FN(max_pool)(const oc_window *w, const void *vx, void *vy, int32_t *argmax) {
    const T *x = vx;
    T *y = vy;
    for (ptrdiff_t c = 0; c < w->channels; c++, x += w->height * w->width)
        for (ptrdiff_t r = 0; r < w->out_h; r++, y += w->out_w, argmax += w->out_w)
            FN(max_pool_row)(w, r, x, y, argmax);
}

static void FN(max_pool_backward)(const oc_window *w, const void *vdy, const int32_t *argmax, void *vdx) {
    const ptrdiff_t outputs = w->out_h * w->out_w;
    const T *dy = vdy;
    T *dx = vdx;
    for (ptrdiff_t c = 0; c < w->channels; c++, dx += w->height * w->width, dy += outputs, argmax += outputs) {
        memset(dx, 0, (size_t)(w->height * w->width) * sizeof(T));
        for (ptrdiff_t o = 0; o < outputs; o++)
            dx[argmax[o]] += dy[o];
    }
}

static void FN(max_pool_r)(const oc_window *w, const void *vrx, const int32_t *argmax, void *vry) {
    const ptrdiff_t outputs = w->out_h * w->out_w;
    const T *rx = vrx;
    T *ry = vry;
    for (ptrdiff_t c = 0; c < w->channels; c++, rx += w->height * w->width, ry += outputs, argmax += outputs)
        for (ptrdiff_t o = 0; o < outputs; o++)
            ry[o] = rx[argmax[o]];
}

/* The mean over the whole window, its padding counted as zeros. */
static void FN(average_pool)(const oc_window *w, const void *vx, void *vy) {
    const T *x = vx;
    T *y = vy;
    const T count = (T)(w->kernel_h * w->kernel_w);
    for (ptrdiff_t c = 0; c < w->channels; c++, x += w->height * w->width)
        for (ptrdiff_t r = 0; r < w->out_h; r++, y += w->out_w) {
            const ptrdiff_t top = r * w->stride_h - w->pad_h;
            for (ptrdiff_t o = 0; o < w->out_w; o++)
                y[o] = 0;
            for (ptrdiff_t i = top < 0 ? -top : 0; i < w->kernel_h && top + i < w->height; i++)
                for (ptrdiff_t j = 0; j < w->kernel_w; j++) {
                    ptrdiff_t left, right;
                    FN(inside)(w->width, w->stride_w, w->pad_w, w->out_w, j, &left, &right);
                    for (ptrdiff_t o = left; o < right; o++)
                        y[o] += x[(top + i) * w->width + o * w->stride_w + j - w->pad_w];
                }
            for (ptrdiff_t o = 0; o < w->out_w; o++)
                y[o] /= count;
        }
}

static void FN(average_pool_backward)(const oc_window *w, const void *vdy, void *vdx) {
    const T *dy = vdy;
    T *dx = vdx;
    const T count = (T)(w->kernel_h * w->kernel_w);
    for (ptrdiff_t c = 0; c < w->channels; c++, dx += w->height * w->width) {
        memset(dx, 0, (size_t)(w->height * w->width) * sizeof(T));
        for (ptrdiff_t r = 0; r < w->out_h; r++, dy += w->out_w) {
            const ptrdiff_t top = r * w->stride_h - w->pad_h;
            for (ptrdiff_t i = top < 0 ? -top : 0; i < w->kernel_h && top + i < w->height; i++)
                for (ptrdiff_t j = 0; j < w->kernel_w; j++) {
                    ptrdiff_t left, right;
                    FN(inside)(w->width, w->stride_w, w->pad_w, w->out_w, j, &left, &right);
                    for (ptrdiff_t o = left; o < right; o++)
                        dx[(top + i) * w->width + o * w->stride_w + j - w->pad_w] += dy[o] / count;
                }
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------- dropout */

/* Element at + i goes where 24 random bits of (key, at + i) are below `drop`; the others are scaled. */
static void FN(dropout)(ptrdiff_t at, ptrdiff_t n, uint64_t key, int32_t drop, double scale, const void *vx, void *vy) {
    const T *x = vx;
    T *y = vy;
    while (n > 0) { /* pieces within which the counter's high bits stay */
        const uint32_t low = (uint32_t)at, high = oc_key(key, at);
        const ptrdiff_t room = (ptrdiff_t)(0xffffffffu - low), piece = n - 1 < room ? n : room + 1;
        OC_IN_PLACE
        for (ptrdiff_t i = 0; i < piece; i++) {
            const T kept = x[i] * (T)scale;
            y[i] = (int32_t)(oc_random(high, low + (uint32_t)i) >> 8) < drop ? 0 : kept;
        }
        x += piece, y += piece, at += piece, n -= piece;
    }
}
