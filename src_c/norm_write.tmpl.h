/* norm_write.tmpl.h: what a normalization writes, element by element, with the constants that its statistics have become.
 * Parameters: those of norm.tmpl.h, which it follows and whose FN(line), FN(head), FN(normal), FN(passed), COEF and OC_OUTPUT
 * it uses.
 * `high` is the mean as T holds it: x - high is exact where x is near the mean, so nothing of a small deviation is lost
 * beside a large mean. What rounding the mean lost is in the constant term. One run after the other: four at once share
 * the loads of the constants, but rows a power of two apart read and write the same sets of the cache, which costs more. */

/* The body for every column i, in full-width groups where there are OC_SHORT columns or more: the first group starts at
 * column 0, the next ones on lines from column `head` on, the last one ends with the last column. Where groups overlap a
 * column is done twice, which is faster than to do some of them one by one: a body has to allow that. */
#define OC_OVER_COLUMNS(columns, head, ...)                                                                           \
    do {                                                                                                              \
        if ((columns) < OC_SHORT) {                                                                                   \
            OC_IN_PLACE                                                                                               \
            for (ptrdiff_t i = 0; i < (columns); i++)                                                                 \
                __VA_ARGS__;                                                                                          \
            break;                                                                                                    \
        }                                                                                                             \
        const ptrdiff_t last = (columns) - FN(line);                                                                  \
        for (ptrdiff_t at = 0; at < (columns); at = at ? at + FN(line) : (head) ? (head) : FN(line)) {                \
            const ptrdiff_t first = at < last ? at : last;                                                            \
            OC_IN_PLACE OC_ROLLED                                                                                     \
            for (int l = 0; l < FN(line); l++) {                                                                      \
                const ptrdiff_t i = first + l;                                                                        \
                __VA_ARGS__;                                                                                          \
            }                                                                                                         \
        }                                                                                                             \
    } while (0)

#define OC_EACH_ELEMENT(constants, ...)                                                                               \
    do {                                                                                                              \
        const ptrdiff_t head = FN(head)(stride, y), columns = inner;                                                  \
        const ptrdiff_t few = how || per_column ? OC_SHORT : OC_WIDE / 2;                                             \
        const int whole_lines = columns >= few && stride % FN(line) == 0;                                             \
        for (ptrdiff_t r = 0; r < outer; r++) {                                                                       \
            if (!whole_lines) {                                                                                       \
                OC_OVER_COLUMNS(columns, head, OC_PUT_ELEMENT(constants, __VA_ARGS__));                               \
                continue;                                                                                             \
            }                                                                                                         \
            const ptrdiff_t first = how & OC_WRAPPED && r > 0 ? head : 0;                                             \
            const ptrdiff_t end = columns + (how & OC_WRAPPED && r + 1 < outer ? head : 0);                           \
            const ptrdiff_t last = head + (end - head) / FN(line) * FN(line);                                         \
            for (ptrdiff_t i = first; i < head; i++)                                                                  \
                OC_PUT_ELEMENT(constants, __VA_ARGS__);                                                               \
            if (how & OC_PAST_CACHES) {                                                                               \
                OC_STREAM(constants, __VA_ARGS__);                                                                    \
            } else {                                                                                                  \
                OC_IN_PLACE                                                                                           \
                for (ptrdiff_t i = head; i < last; i++)                                                               \
                    OC_PUT_ELEMENT(constants, __VA_ARGS__);                                                           \
            }                                                                                                         \
            for (ptrdiff_t i = last; i < end; i++)                                                                    \
                OC_PUT_ELEMENT(constants, __VA_ARGS__);                                                               \
        }                                                                                                             \
        if (how & OC_PAST_CACHES)                                                                                     \
            OC_STREAM_END();                                                                                          \
    } while (0)
#define OC_PUT_ELEMENT(constants, ...)                                                                                \
    {                                                                                                                 \
        const ptrdiff_t e = r * stride + i;                                                                           \
        constants;                                                                                                    \
        y[e] = X_PUT(__VA_ARGS__);                                                                                    \
    }

/* The whole lines of a row, written past the caches; nothing of them may be written otherwise too, which would cost twice
 * what it saves. */
#define OC_STREAM(constants, ...)                                                                                     \
    for (ptrdiff_t at = head; at < last; at += FN(line)) {                                                            \
        X_T line[FN(line)] OC_ON_LINE;                                                                                \
        OC_IN_PLACE OC_ROLLED                                                                                         \
        for (int l = 0; l < FN(line); l++) {                                                                          \
            const ptrdiff_t i = at + l, e = r * stride + i;                                                           \
            constants;                                                                                                \
            line[l] = X_PUT(__VA_ARGS__);                                                                             \
        }                                                                                                             \
        OC_STREAM_LINE(y + r * stride + at, line);                                                                    \
    }
#define OC_BODY(name)                                                                                                 \
    OC_INLINE void FN(name##_body)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *const *in,         \
                                   const T *restrict coef, ptrdiff_t ld, X_T *restrict y, int how,                    \
                                   int fused, int per_column)

OC_INLINE T FN(finished)(int fused, T value, T other) {
    const T sum = fused & OC_ADDED ? value + other : value;
    return fused & OC_RECTIFIED ? T_FN(relu_value)(sum, 0) : sum;
}

/* y = (x - high)*scale + bias. */
OC_BODY(normalise) {
    const X_T *x = in[0], *other = fused & (OC_ADDED | OC_GATED) ? in[1] : NULL;
#define OTHER (fused & (OC_ADDED | OC_GATED) ? X_GET(other[e]) : 0)
    OC_EACH_ELEMENT(const T high = COEF(0); const T scale = COEF(1); const T bias = COEF(2),
                    FN(finished)(fused, FN(normal)(FN(passed)(fused, X_GET(x[e]), OTHER), high, scale, bias), OTHER));
#undef OTHER
}

/* y = a*(u - m) + (b*((x - high)*scale) + c). */
#define OC_COMBINE                                                                                                    \
    const T high = COEF(0); const T scale = COEF(1); const T b = COEF(2); const T c = COEF(3); const T a = COEF(4);   \
    const T m = COEF(5)
OC_BODY(combine) {
    const X_T *x = in[0], *u = in[1], *gate = fused & OC_GATED ? in[2] : NULL;
#define OUTPUT (fused & OC_GATED ? X_GET(gate[e]) : fused & OC_SELF_GATED ? OC_OUTPUT(X_GET(x[e])) : 0)
    OC_EACH_ELEMENT(OC_COMBINE,
                    a * (FN(passed)(fused, X_GET(u[e]), OUTPUT) - m) + (b * ((X_GET(x[e]) - high) * scale) + c));
#undef OUTPUT
}

/* The same with two terms more, a2*(u2 - m2) and a3*((u3 - m3)*scale). */
OC_BODY(combine3) {
    (void)fused;
    const X_T *x = in[0], *u = in[1], *u2 = in[2], *u3 = in[3];
    OC_EACH_ELEMENT(OC_COMBINE; const T a2 = COEF(6); const T m2 = COEF(7); const T a3 = COEF(8); const T m3 = COEF(9),
                    ((a * (X_GET(u[e]) - m) + a2 * (X_GET(u2[e]) - m2)) + a3 * ((X_GET(u3[e]) - m3) * scale)) +
                        (b * ((X_GET(x[e]) - high) * scale) + c));
}
#undef OC_COMBINE
#undef OC_OUTPUT
#undef OC_BODY
#undef COEF
#undef OC_EACH_ELEMENT
#undef OC_STREAM
#undef OC_PUT_ELEMENT
#undef OC_OVER_COLUMNS

#define OC_KERNEL(name, body, fused, form, per_column)                                                                \
    static void FN(name##_##form)(ptrdiff_t outer, ptrdiff_t inner, ptrdiff_t stride, const void *const *in,          \
                                  const void *coef, ptrdiff_t ld, void *y, int how) {                                 \
        if (sizeof(X_T) < sizeof(T) && how & OC_WIDENED)                                                              \
            T_FN(name##_##form)(outer, inner, stride, in, coef, ld, y, 0);                                            \
        else                                                                                                          \
            FN(body##_body)(outer, inner, stride, in, coef, ld, y, how, fused, per_column);                           \
    }
#define OC_BOTH_FORMS(name, body, fused)                                                                              \
    OC_KERNEL(name, body, fused, segments, 0) OC_KERNEL(name, body, fused, rows, 1)
OC_BOTH_FORMS(normalise, normalise, 0)
OC_BOTH_FORMS(normalise_relu, normalise, OC_RECTIFIED)
OC_BOTH_FORMS(normalise_add, normalise, OC_ADDED)
OC_BOTH_FORMS(normalise_add_relu, normalise, OC_ADDED | OC_RECTIFIED)
OC_BOTH_FORMS(normalise_gated, normalise, OC_GATED)
OC_BOTH_FORMS(combine, combine, 0)
OC_BOTH_FORMS(combine_gated, combine, OC_GATED)
OC_BOTH_FORMS(combine_self_gated, combine, OC_SELF_GATED)
OC_BOTH_FORMS(combine3, combine3, 0)
#undef OC_BOTH_FORMS
#undef OC_KERNEL

/* What `apply` makes of inputs that were multiplied by rows `rows`, `rows` + 1, ... of the constants. */
enum { FN(staged_columns) = 512 };
OC_INLINE void FN(scaled_body)(oc_channel_fn *apply, int inputs, int rows, ptrdiff_t outer, ptrdiff_t inner,
                               ptrdiff_t stride, const void *const *in, const T *coef, ptrdiff_t ld, X_T *y,
                               int per_column) {
    const int widened = sizeof(X_T) < sizeof(T);
    T product[OC_MAX_INPUTS][FN(staged_columns)] OC_ON_LINE, result[FN(staged_columns)] OC_ON_LINE;
    const void *from[OC_MAX_INPUTS];
    for (ptrdiff_t r = 0; r < outer; r++) {
        for (ptrdiff_t at = 0; at < inner; at += FN(staged_columns)) {
            const ptrdiff_t columns = inner - at < FN(staged_columns) ? inner - at : FN(staged_columns);
            const T *constants = coef + at * per_column;
            for (int k = 0; k < inputs; k++) {
                const X_T *x = (const X_T *)in[k] + r * stride + at;
                const T *power = constants + (rows + k) * ld;
                for (ptrdiff_t i = 0; i < columns; i++)
                    product[k][i] = X_GET(x[i]) * power[i * per_column];
                from[k] = product[k];
            }
            X_T *to = y + r * stride + at;
            apply(1, columns, columns, from, constants, ld, widened ? (void *)result : to, widened ? OC_WIDENED : 0);
            for (ptrdiff_t i = 0; widened && i < columns; i++)
                to[i] = X_PUT(result[i]);
        }
    }
}

#define OC_SCALED(form, per_column)                                                                                   \
    static void FN(scaled_##form)(oc_channel_fn *apply, int inputs, int rows, ptrdiff_t outer, ptrdiff_t inner,       \
                                  ptrdiff_t stride, const void *const *in, const void *coef, ptrdiff_t ld, void *y) { \
        FN(scaled_body)(apply, inputs, rows, outer, inner, stride, in, coef, ld, y, per_column);                      \
    }
OC_SCALED(segments, 0)
OC_SCALED(rows, 1)
#undef OC_SCALED
