"""Batch norm's statistics and outputs against exact arithmetic, at every edge of the partition."""

import math
from fractions import Fraction

import numpy as np
import pytest

from optcore import norm

MILLION = 1_000_000


def layouts(column):
    """The same million values as a channel in each layout; the other channel holds them reversed."""
    both = np.stack([column, column[::-1]])
    return {"rows": (np.ascontiguousarray(both.T), 1),
            "NCHW": (np.ascontiguousarray(both.reshape(2, 10, 250, 400).transpose(1, 0, 2, 3)), 1),
            "channels last": (np.ascontiguousarray(both.reshape(2, 10, 250, 400).transpose(1, 2, 3, 0)), -1),
            "one channel": (column.reshape(-1, 1), 1)}


def exact_moments(column):
    """Mean, biased variance and deviations from the mean, good to 1e-15.

    fsum is exact. The deviations from the mean's nearest double are exact to a rounding; what lies between
    the mean and its nearest double is their own mean.
    """
    values = column.astype(np.float64)
    mean = math.fsum(values) / values.size
    d = values - mean
    rest = math.fsum(d) / values.size
    d = d - rest
    return mean + rest, math.fsum(d * d) / values.size, d


# Rows are measured from 0 where the first ones allow it, so from elsewhere at 5 +- 1, and from either at 3.5 +- 1.
SETS = {"standard": (0, 1), "3.5 +- 1": (3.5, 1), "5 +- 1": (5, 1), "1e3 +- 0.1": (1e3, 0.1), "1e5 +- 0.1": (1e5, 0.1),
        "1e6 +- 1": (1e6, 1), "1e19": (0, 1e19), "1e-25": (0, 1e-25)}


@pytest.mark.parametrize("name", SETS)
def test_float32_statistics_are_within_an_ulp_of_the_exact_ones(name):
    centre, deviation = SETS[name]
    column = (centre + deviation * np.random.default_rng(0).standard_normal(MILLION)).astype(np.float32)
    mean, var, _ = exact_moments(column)
    unbiased = var * MILLION / (MILLION - 1)
    for layout, (x, axis) in layouts(column).items():
        c = x.shape[axis]
        running_mean, running_var = np.zeros((2, c), np.float32)
        # With momentum 1 the float32 buffers are the batch's own statistics.
        _, saved = norm.batch_norm(x, None, None, running_mean, running_var, training=True, momentum=1.0,
                                   eps=0.0, channel_axis=axis)
        assert np.all(np.abs(running_mean - mean) <= np.spacing(np.float32(abs(mean)))), layout
        assert np.all(np.abs(running_var - unbiased) <= np.spacing(np.float32(unbiased))), layout
        # The statistics themselves are double: some 20 roundings of 1.1e-16 on the way, and the reference's
        # own.
        close = {"rtol": 1e-14, "atol": 1e-16 * math.sqrt(var), "err_msg": layout}
        np.testing.assert_allclose(saved.mean, mean, **close)
        np.testing.assert_allclose(saved.inv_std, 1 / math.sqrt(var), rtol=1e-13, err_msg=layout)


@pytest.mark.parametrize("centre", [0, 3.9, 4.1, 1e4])
def test_the_gradient_of_a_weight_is_the_exact_one_rounded(centre):
    rng = np.random.default_rng(9)
    column = (centre + rng.standard_normal(MILLION)).astype(np.float32)
    gradient = (2 + rng.standard_normal(MILLION)).astype(np.float32)
    _, var, deviations = exact_moments(column)
    expected = math.fsum(gradient * deviations) / math.sqrt(var)
    for (layout, (x, axis)), (dy, _) in zip(layouts(column).items(), layouts(gradient).values(), strict=True):
        w = np.ones(x.shape[axis], np.float32)
        _, saved = norm.batch_norm(x, w, training=True, eps=0.0, channel_axis=axis)
        _, dweight, _ = norm.batch_norm_backward(dy, x, w, saved, channel_axis=axis)
        # Half an ulp for rounding to float32, and what a sum in double may move that to the next number.
        assert np.all(np.abs(dweight - expected) <= np.spacing(np.float32(abs(expected)))), layout


@pytest.mark.parametrize("value", [0.0123, 1e-6, 3e4])
def test_a_constant_channel_leaves_its_weight_alone(value):
    column = np.full(MILLION, value, np.float32)
    gradient = np.random.default_rng(10).standard_normal(MILLION, np.float32)
    for (layout, (x, axis)), (dy, _) in zip(layouts(column).items(), layouts(gradient).values(), strict=True):
        w = np.ones(x.shape[axis], np.float32)
        _, saved = norm.batch_norm(x, w, training=True, channel_axis=axis)
        assert np.all(norm.batch_norm_backward(dy, x, w, saved, channel_axis=axis)[1] == 0), layout


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_first_rows_about_zero_say_nothing_of_the_others(far):
    x = np.full((200, 600), far, np.float32) + np.random.default_rng(7).standard_normal((200, 600)).astype(np.float32)
    x[:8] -= far
    m = norm.moments(x)
    expected = [exact_moments(column) for column in x.T[::50]]
    # Sums of 200 terms in double, of which the subtraction of n*mean^2 costs at most 13 bits: 1e-16 * 8192 * 10.
    np.testing.assert_allclose(m.mean[::50], [e[0] for e in expected], rtol=1e-14)
    np.testing.assert_allclose(m.m2[::50] / 200, [e[1] for e in expected], rtol=1e-11)


@pytest.mark.parametrize(("far", "first"), [(1, 0), (3, 0), (1e4, 0), (1e6, 0), (1e3, 16), (1e6, 16)])
def test_the_sums_of_a_gradient_lose_no_digits_to_a_large_mean(far, first):
    rng = np.random.default_rng(11)
    x, dy = (far + rng.standard_normal((2000, 70))).astype(np.float32), 3 + rng.standard_normal((2000, 70), np.float32)
    x[:first] -= np.float32(far)  # they say nothing of the others
    w = np.ones(70)  # whose gradient, of its dtype, shows the digits of a sum in double
    for v, g, call, options in ((x, dy, norm.batch_norm, {"training": True}),
                                (x.T[None], dy.T[None], norm.batch_norm, {"training": True}),
                                (x[None], dy[None], norm.group_norm, {"channel_axis": -1})):
        v, g, groups = np.ascontiguousarray(v), np.ascontiguousarray(g), [70] if call is norm.group_norm else []
        backward = getattr(norm, call.__name__ + "_backward")
        _, saved = call(v, *groups, w, eps=0.0, **options)
        _, dweight, _ = backward(g, v, w, saved)
        assert dweight.dtype == np.float64
        for c in range(0, 70, 7):
            _, var, deviations = exact_moments(x[:, c])
            expected = math.fsum(dy[:, c] * deviations) / math.sqrt(var)
            size = np.linalg.norm(dy[:, c].astype(np.float64)) * np.linalg.norm(deviations) / math.sqrt(var)
            # Of 53 bits what is subtracted costs 6 (rows) to 8 (segments), and sums of 2,000 terms 2 more.
            assert abs(dweight[c] - expected) <= 2.0**-43 * size, (call.__name__, c)


def test_no_bit_of_a_gradient_depends_on_the_columns_beside_it():
    rng = np.random.default_rng(12)
    x, dy = rng.standard_normal((2, 300, 64), np.float32)
    far = x + np.where(np.arange(64) % 3, np.float32(100), np.float32(0))
    w = np.ones(64)
    (near_dw, near_dx), (far_dw, far_dx) = ((g[1], g[0]) for g in (
        norm.batch_norm_backward(dy, v, w, norm.batch_norm(v, w, training=True)[1]) for v in (x, far)))
    assert near_dw[::3].tobytes() == far_dw[::3].tobytes()
    assert near_dx[:, ::3].tobytes() == far_dx[:, ::3].tobytes()


def test_a_result_has_the_same_bits_wherever_it_lies():
    rng = np.random.default_rng(8)
    x, dy = (3 + rng.standard_normal((2, 100, 1040))).astype(np.float32)  # some columns are measured from 0, some not
    room = np.empty(x.size + 16, np.float32)
    y, saved = norm.batch_norm(x, training=True)
    dx = norm.batch_norm_backward(dy, x, None, saved)[0]
    for begin in range(16):
        out = room[begin:begin + x.size].reshape(x.shape)
        _, placed = norm.batch_norm(x, training=True, out=out)
        assert out.tobytes() == y.tobytes()
        assert placed.inv_std.tobytes() == saved.inv_std.tobytes()
        norm.batch_norm_backward(dy, x, None, saved, out=out)
        assert out.tobytes() == dx.tobytes()


@pytest.mark.parametrize("name", ["1e3 +- 0.1", "1e5 +- 0.1", "1e19"])
def test_float32_outputs_keep_the_digits_of_a_small_deviation(name):
    centre, deviation = SETS[name]
    column = (centre + deviation * np.random.default_rng(1).standard_normal(MILLION)).astype(np.float32)
    _, var, deviations = exact_moments(column)
    expected = deviations / math.sqrt(var)
    for layout, (x, axis) in layouts(column).items():
        y, _ = norm.batch_norm(x, training=True, eps=0.0, channel_axis=axis)
        first = np.moveaxis(y, axis, 0)[0].ravel()
        # x - mean rounds twice, the scale and the product once each: four relative errors of 2^-24.
        assert np.all(np.abs(first - expected) <= 4 * 2.0**-24 * np.abs(expected)), layout


@pytest.mark.parametrize("value", [0.1, -7.3e8, 3e38])
def test_constant_columns_have_no_variance(value):
    column = np.full(MILLION, value, np.float32)
    for x, axis in layouts(column).values():
        bias = np.full(x.shape[axis], 0.25, np.float32)
        y, saved = norm.batch_norm(x, None, bias, training=True, channel_axis=axis)
        assert np.all(saved.mean == np.float64(np.float32(value)))
        assert np.all(saved.inv_std == 1 / math.sqrt(1e-5))
        assert np.all(y == 0.25)


@pytest.mark.parametrize("scale", [1e30, 1e-25])
def test_float32_extremes_give_finite_right_results(scale):
    rng = np.random.default_rng(2)
    z, dy = rng.standard_normal((2, 300, 40)).astype(np.float32)
    x = (scale * z.astype(np.float64)).astype(np.float32)
    y, saved = norm.batch_norm(x, training=True, eps=0.0)
    dx, dweight, _ = norm.batch_norm_backward(dy, x, None, saved)
    # The reference: the definition, in float64 and at a scale of order 1.
    exact, dy = x.astype(np.float64) / scale, dy.astype(np.float64)
    deviations = exact - exact.mean(axis=0)
    inv_std = 1 / np.sqrt((deviations**2).mean(axis=0))
    x_hat = deviations * inv_std
    gradient = inv_std * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
    # A handful of float32 roundings (6e-8), relative to values of order 1.
    np.testing.assert_allclose(y, x_hat, rtol=4e-7, atol=1e-7)
    np.testing.assert_allclose(dx * np.float64(scale), gradient, rtol=4e-7, atol=1e-6)
    np.testing.assert_allclose(dweight, (dy * x_hat).sum(axis=0), rtol=4e-7, atol=1e-6)


NIST = {"NumAcc1": [10000001.0, 10000003.0, 10000002.0], "NumAcc2": [1.2] + [1.1, 1.3] * 500,
        "NumAcc3": [1000000.2] + [1000000.1, 1000000.3] * 500,
        "NumAcc4": [10000000.2] + [10000000.1, 10000000.3] * 500}


def drift(n):
    """Block means that differ by far more than the noise, beside a mean 1e8 times larger."""
    rng = np.random.default_rng(4)
    return list(1e8 + np.linspace(0, 1, n) + 1e-3 * rng.standard_normal(n))


@pytest.mark.parametrize("values", [*NIST.values(), drift(20_000)], ids=[*NIST, "drift"])
def test_float64_statistics_have_every_digit_that_the_data_have(values):
    exact = [Fraction(v) for v in values]
    n = len(exact)
    mean = sum(exact) / n
    var = sum((v - mean) ** 2 for v in exact) / n
    column = np.array(values)
    for x in (column.reshape(-1, 1), column.reshape(1, 1, -1), np.stack([column] * 5, axis=1)):
        _, saved = norm.batch_norm(x, training=True, eps=0.0)
        # mean + mean_rest: what is left is the rounding of a sum of deviations, at most 512 in a lane. The mean
        # alone is rounded from that, so it can miss the nearest double only where the exact mean is half-way.
        left = 512 * 2.0**-53 * math.sqrt(var)
        for high, low in zip(saved.mean, saved.mean_rest, strict=True):
            assert abs(Fraction(high) + Fraction(low) - mean) <= left, x.shape
            assert abs(Fraction(high) - mean) <= np.spacing(abs(high)) / 2 + left, x.shape
        # The root and the division that make inv_std, and a rounding of the variance: a few eps.
        np.testing.assert_allclose(saved.inv_std, 1 / math.sqrt(var), rtol=1e-15, err_msg=str(x.shape))


CERTIFIED = {"NumAcc1": (10000002, 1), "NumAcc2": (1.2, 0.1), "NumAcc3": (1000000.2, 0.1), "NumAcc4": (10000000.2, 0.1)}


def digits(value, certified):
    """NIST's measure, the logarithm of the relative error, at its usual cap."""
    return 15 if value == certified else min(15, -math.log10(abs(value - certified) / certified))


@pytest.mark.parametrize("name", NIST)
def test_the_certified_digits_are_those_of_numpy_and_of_the_data(name):
    """The decimal values are rounded before anything is computed: exact arithmetic on the rest has no digit more."""
    x = np.array(NIST[name])
    m = norm.moments(x.reshape(-1, 1))
    exact = [Fraction(v) for v in NIST[name]]
    mean = sum(exact) / x.size
    results = [(m.mean[0], math.sqrt(m.m2[0] / (x.size - 1))), (x.mean(), x.std(ddof=1)),
               (float(mean), math.sqrt(sum((v - mean) ** 2 for v in exact) / (x.size - 1)))]
    ours, numpys, best = ([digits(v, c) for v, c in zip(r, CERTIFIED[name], strict=True)] for r in results)
    assert ours[0] == 15  # of the mean
    for reference in (numpys, best):
        assert ours[1] >= reference[1] - 0.01


EDGES = ([((r, c), 1) for c in (1, 2, 3, 7, 255, 256, 257) for r in (5, 63, 64, 65, 300)]
         + [((r, c), -1) for c in (511, 512, 513, 1030) for r in (5, 63, 65, 200)]
         + [((n, c, i), 1) for c in (1, 2, 9) for n in (1, 3) for i in (5, 15, 17, 8191, 8192, 8193, 20000)]
         + [((600, 2, 33), 1), ((17, 300, 3), 1), ((5000, 1), 1), ((2, 0), 1), ((0, 0), -1), ((0, 0, 4), 1)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_edge_of_the_partition(dtype):
    rng = np.random.default_rng(5)
    # Rounding only: the values are of order 1 and the sums at most 6e4 long; a value that is left out,
    # counted twice or read from another channel changes a result by 1e-5 or more of its scale.
    close = {"float32": {"rtol": 2e-6, "atol": 2e-6}, "float64": {"rtol": 1e-11, "atol": 1e-12}}[dtype]
    for shape, axis in EDGES:
        x, dy = rng.standard_normal((2, *shape)).astype(dtype)
        w, b = rng.standard_normal((2, shape[axis])).astype(dtype)
        y, saved = norm.batch_norm(x, w, b, training=True, channel_axis=axis)
        dx, dweight, dbias = norm.batch_norm_backward(dy, x, w, saved)

        axes = tuple(i for i in range(len(shape)) if i != axis % len(shape))
        v, g = x.astype(np.float64), dy.astype(np.float64)
        each = tuple(slice(None) if i not in axes else None for i in range(len(shape)))
        mean = v.mean(axes, keepdims=True) if x.size else np.zeros([1] * len(shape))
        s = 1 / np.sqrt(((v - mean) ** 2).mean(axes, keepdims=True) + 1e-5) if x.size else mean
        x_hat = (v - mean) * s
        d = w.astype(np.float64)[each] * g
        if x.size:
            d = d - d.mean(axes, keepdims=True) - x_hat * (d * x_hat).mean(axes, keepdims=True)
        np.testing.assert_allclose(y, w[each] * x_hat + b[each], err_msg=str(shape), **close)
        np.testing.assert_allclose(dx, s * d, err_msg=str(shape), **close)
        scale = math.sqrt(max(1, x.size))
        slope = (g * x_hat).sum(axes)
        np.testing.assert_allclose(dweight / scale, slope / scale, err_msg=str(shape), **close)
        np.testing.assert_allclose(dbias / scale, g.sum(axes) / scale, err_msg=str(shape), **close)


@pytest.mark.parametrize("shape", [(5000, 24), (16, 24, 18, 18)])
def test_gradient_identities(shape):
    """dx sums to 0 and is orthogonal to x_hat (eps = 0): y does not see a shift or a scale of x."""
    rng = np.random.default_rng(6)
    x = (5 + rng.standard_normal(shape)).astype(np.float32)
    dy = (100 + rng.standard_normal(shape)).astype(np.float32)  # nearly all of it is projected away
    y, saved = norm.batch_norm(x, training=True, eps=0.0)
    dx, _, _ = norm.batch_norm_backward(dy, x, None, saved)
    axes = tuple(i for i in range(len(shape)) if i != 1)
    dx, y = dx.astype(np.float64), y.astype(np.float64)
    n = dx.size // shape[1]
    # dx is of order 1, each element rounded independently to about 1e-7: the sum of n of them is off by
    # sqrt(n)*1e-7.
    assert np.abs(dx.sum(axes)).max() < 10 * math.sqrt(n) * 1e-7
    assert np.abs((dx * y).sum(axes)).max() < 10 * math.sqrt(n) * 1e-7


def test_a_direction_whose_mean_is_large_costs_the_second_derivatives_no_digits():
    """The float32 kernel subtracts the means of rx and rdy as float32 holds them, and makes up for their rounding."""
    rng = np.random.default_rng(7)
    x, dy = rng.standard_normal((2, 500, 8)).astype(np.float32)
    dy += x  # so that k, the mean of dy*x_hat, is near 1
    rx, rdy = (1e6 + 1 / 3 + rng.standard_normal((2, 500, 8))).astype(np.float32)
    results = []
    for dtype in (np.float32, np.float64):
        a, d, ra, rd = (v.astype(dtype) for v in (x, dy, rx, rdy))
        _, saved = norm.batch_norm(a, training=True)
        ry, rsaved = norm.batch_norm_jvp(a, None, saved, ra, None, None)
        results.append((ry, norm.batch_norm_backward_jvp(d, a, None, saved, rd, ra, None, rsaved)[0]))
    for ours, exact in zip(*results, strict=True):
        # some ten roundings of terms of order 1 to 10; an ulp of 1e6 is 0.06
        np.testing.assert_allclose(ours, exact, rtol=0, atol=10 * 2.0**-24 * 10)


def at_offset(a, offset, out=False):
    """A copy of `a` that begins `offset` elements into a cache line (room for one, where it is an output)."""
    room = np.empty(a.size + 32, a.dtype)
    first = (-room.ctypes.data % 64) // a.itemsize + offset
    view = room[first:first + a.size].reshape(a.shape)
    if not out:
        view[...] = a
    return view


@pytest.mark.parametrize(("shape", "axis"), [((40, 512), 1), ((2100, 64), 1), ((700, 24), -1), ((70, 1000), 1),
                                             ((3, 4, 30, 40), 1), ((5, 16, 14, 14), 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_an_array_lies_changes_no_bit(shape, axis, dtype):
    rng = np.random.default_rng(8)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    w = rng.standard_normal(shape[axis])
    seen = set()
    for offset in range(64 // x.itemsize):
        # x, dy and the outputs lie to the lines alike, then each in its own way
        for shift in (0, 1, 5):
            a, g = at_offset(x, offset), at_offset(dy, (offset + shift) % (64 // x.itemsize))
            y, saved = norm.batch_norm(a, w, None, training=True, channel_axis=axis, out=at_offset(x, 0, out=True))
            dx, dweight, dbias = norm.batch_norm_backward(g, a, w, saved, out=at_offset(x, offset, out=True))
            seen.add(b"".join(r.tobytes() for r in (y, dx, dweight, dbias, saved.mean, saved.inv_std)))
    assert len(seen) == 1


@pytest.mark.parametrize(("shape", "axis"), [((70_000, 72), -1), ((20, 72, 70, 50), 1)])
def test_results_that_go_past_the_caches_have_the_same_bits(shape, axis):
    rng = np.random.default_rng(9)
    x = rng.standard_normal(shape, dtype=np.float32)
    assert 2 * x.nbytes > 20 << 20  # large enough to go past them, its tenth is not
    mean, var = rng.random((2, 72))
    whole, _ = norm.batch_norm(x, None, None, mean, var, training=False, channel_axis=axis)
    step = len(x) // 10
    parts = [norm.batch_norm(x[i:i + step], None, None, mean, var, training=False, channel_axis=axis)[0]
             for i in range(0, len(x), step)]
    assert np.array_equal(whole, np.concatenate(parts))
