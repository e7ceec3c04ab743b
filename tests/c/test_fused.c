/* The multiply-add of src_c/internal.h for processors without the instruction, against libm's. */
#include "internal.h"

#include <stdio.h>

static uint32_t state = 1;

static uint32_t random_bits(void) { /* xorshift, Marsaglia 2003 */
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A float with its exponent from `low` to `low` + `range` - 1 and `places` random bits behind the point. */
static float number(int low, int range, int places) {
    const uint32_t mantissa = random_bits() & 0x7fffffu & ~(0x7fffffu >> places);
    return of_bits((random_bits() & 0x80000000u) | (uint32_t)(low + (int)(random_bits() % (uint32_t)range)) << 23 | mantissa);
}

static int differs(float a, float b, float c) {
    const float ours = OC_FUSED_F32(a, b, c), libm = fmaf(a, b, c);
    if (memcmp(&ours, &libm, sizeof ours) == 0 || (isnan(ours) && isnan(libm)))
        return 0;
    fprintf(stderr, "%a * %a + %a is %a, not %a\n", (double)a, (double)b, (double)c, (double)libm, (double)ours);
    return 1;
}

int main(void) {
    int wrong = 0;
    for (int i = 0; i < 3000000; i++) {
        wrong += differs(of_bits(random_bits()), of_bits(random_bits()), of_bits(random_bits()));
        wrong += differs(number(120, 15, 23), number(120, 15, 23), number(120, 15, 23));
        wrong += differs(number(120, 15, 12), number(120, 15, 12), number(60, 80, 3)); /* halfway, and a little beside it */
        wrong += differs(number(1, 60, 12), number(64, 64, 12), number(0, 20, 23)); /* to subnormal numbers */
        wrong += differs(number(180, 75, 23), number(180, 75, 23), number(200, 55, 23)); /* to infinity */
    }
    const float special[] = {0, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, 0x1p-149f, 0x1.fffffep127f, 0x1.fffffep-1f};
    const int n = sizeof special / sizeof *special;
    for (int i = 0; i < n * n * n; i++)
        wrong += differs(special[i % n], special[i / n % n], special[i / n / n]);
    return wrong != 0;
}
