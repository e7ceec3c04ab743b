"""Layer, RMS, group and instance norm against exact arithmetic; extremes, layouts, alignments."""

import math
from fractions import Fraction

import numpy as np
import pytest
from test_norm_accuracy import NIST, SETS, at_offset, drift, exact_moments

from optcore import norm

ROW = 16_000


def row_of(name, seed=0, n=ROW):
    centre, deviation = SETS[name]
    return (centre + deviation * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def arranged(values):
    """The same values as one row or group in each form: name -> (y, saved), with eps = 0 and no parameters."""
    both = np.stack([values, values[::-1]])
    last = np.ascontiguousarray(both.reshape(2, 4, -1).swapaxes(1, 2))     # [2, positions, 4 channels]
    return {"layer": norm.layer_norm(both, eps=0.0),
            "group, features": norm.group_norm(both, 1, eps=0.0),
            "group": norm.group_norm(both.reshape(2, 4, -1), 1, eps=0.0),
            "group, channels last": norm.group_norm(last, 1, eps=0.0, channel_axis=-1),
            "instance": norm.instance_norm(both.reshape(1, 2, -1), eps=0.0),
            "instance, channels last": norm.instance_norm(np.ascontiguousarray(both.T)[None], eps=0.0, channel_axis=-1)}


@pytest.mark.parametrize("columns", [5, 64, 300, 1024])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_a_row_does_not_depend_on_the_rows_beside_it(name, columns):
    # Kernels take rows in bands, of which one may need its sums again, or powers of 2 that the others do not.
    rng = np.random.default_rng(columns)
    rows = 37
    centre = np.resize(np.array([0, 1e5, 0, 3, 1e19, 0, np.nan]), rows)[:, None]
    deviation = np.resize(np.array([1, 0.1, 1e30, 0, 1e15, 1e-30, 1]), rows)[:, None]
    x = (centre + deviation * rng.standard_normal((rows, columns))).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    forward, backward = getattr(norm, name), getattr(norm, f"{name}_backward")
    w = rng.standard_normal(columns).astype(np.float32)
    y, saved = forward(x, w)
    dx, *_ = backward(dy, x, w, saved)
    for i in range(rows):
        alone, saved_alone = forward(x[i:i + 1], w)
        np.testing.assert_array_equal(y[i], alone[0])
        np.testing.assert_array_equal(saved.inv_std[i], saved_alone.inv_std[0])
        np.testing.assert_array_equal(dx[i], backward(dy[i:i + 1], x[i:i + 1], w, saved_alone)[0][0])


@pytest.mark.parametrize("name", SETS)
def test_float32_statistics_are_within_an_ulp_of_the_exact_ones(name):
    values = row_of(name)
    mean, var, _ = exact_moments(values)
    for form, (_, saved) in arranged(values).items():
        for m, s in zip(saved.mean.ravel(), saved.inv_std.ravel(), strict=True):
            assert abs(np.float32(m) - mean) <= np.spacing(np.float32(abs(mean))), form
            assert abs(np.float32(1 / s**2) - var) <= np.spacing(np.float32(var)), form
            # The statistics themselves are double: some 20 roundings of 1.1e-16 on the way, and the reference's own.
            assert m == pytest.approx(mean, rel=1e-14, abs=1e-16 * math.sqrt(var)), form
            assert s == pytest.approx(1 / math.sqrt(var), rel=1e-13), form


@pytest.mark.parametrize("name", SETS)
def test_the_float32_mean_square_is_within_an_ulp_of_the_exact_one(name):
    values = row_of(name)
    square = math.fsum(values.astype(np.float64)**2) / ROW     # each square is exact, so is their sum
    _, saved = norm.rms_norm(np.stack([values, values[::-1]]), eps=0.0)
    for s in saved.inv_std:
        assert abs(np.float32(1 / s**2) - square) <= np.spacing(np.float32(square))
        assert s == pytest.approx(1 / math.sqrt(square), rel=1e-13)     # some 500 roundings of 1.1e-16 in a lane


@pytest.mark.parametrize("name", ["1e3 +- 0.1", "1e5 +- 0.1", "1e19"])
def test_float32_outputs_keep_the_digits_of_a_small_deviation(name):
    values = row_of(name, 1)
    _, var, deviations = exact_moments(values)
    expected = deviations / math.sqrt(var)
    for form, (y, saved) in arranged(values).items():
        first = y[..., 0] if form == "instance, channels last" else y[0] if form != "instance" else y[0, 0]
        first = first.T if form == "group, channels last" else first
        # (x - high)*s + c: the mean of `high` is off by half an ulp of it at most, which c makes good to an ulp of c;
        # x - high, s, the product and the sum round once each: five relative errors of 2^-24, two of them of c.
        c = np.spacing(np.float32(abs(saved.mean.ravel()[0]))) / math.sqrt(var)
        assert np.all(np.abs(first.ravel() - expected) <= 5 * 2.0**-24 * (np.abs(expected) + c)), form


@pytest.mark.parametrize("value", [0.1, -7.3e8, 3e38])
@pytest.mark.parametrize("n", [16, 100, 1024, ROW])
def test_constant_rows_have_no_variance(value, n):
    x, last, bias = np.full((3, 4, n), value, np.float32), np.full((3, n, 4), value, np.float32), np.full(4, 0.25)
    for y, saved in (norm.layer_norm(x, None, np.full(n, 0.25)), norm.group_norm(x, 2, None, bias),
                     norm.group_norm(last, 2, None, bias, channel_axis=-1)):
        assert np.all(saved.mean == np.float64(np.float32(value)))
        assert np.all(saved.inv_std == 1 / math.sqrt(1e-5))
        assert np.all(y == 0.25)


@pytest.mark.parametrize("scale", [1e30, 1e19, 1e-25])
def test_float32_extremes_give_finite_right_results(scale):
    rng = np.random.default_rng(2)
    z, dy = rng.standard_normal((2, 6, 8, 50)).astype(np.float32)
    x = (scale * z.astype(np.float64)).astype(np.float32)
    exact, g = x.astype(np.float64) / scale, dy.astype(np.float64)

    def check(y, dx, axes, centred=True):
        """Against the definition, in float64 and at a scale of order 1."""
        d = exact - exact.mean(axes, keepdims=True) if centred else exact
        s = 1 / np.sqrt((d**2).mean(axes, keepdims=True))
        x_hat = d * s
        expected = s * (g - (g.mean(axes, keepdims=True) if centred else 0)
                        - x_hat * (g * x_hat).mean(axes, keepdims=True))
        # A handful of float32 roundings (6e-8), relative to values of order 1.
        np.testing.assert_allclose(y, x_hat, rtol=4e-7, atol=2e-7)
        np.testing.assert_allclose(dx * np.float64(scale), expected, rtol=4e-7, atol=1e-6)

    y, saved = norm.layer_norm(x, eps=0.0)
    check(y, norm.layer_norm_backward(dy, x, None, saved)[0], (2,))
    y, saved = norm.rms_norm(x, eps=0.0)
    check(y, norm.rms_norm_backward(dy, x, None, saved)[0], (2,), centred=False)
    y, saved = norm.group_norm(x, 1, eps=0.0)
    check(y, norm.group_norm_backward(dy, x, None, saved)[0], (1, 2))
    y, saved = norm.instance_norm(x, eps=0.0, channel_axis=-1)
    check(y, norm.instance_norm_backward(dy, x, None, saved)[0], (1,))


@pytest.mark.parametrize("values", [*NIST.values(), drift(20_000)], ids=[*NIST, "drift"])
def test_float64_statistics_have_every_digit_that_the_data_have(values):
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    var = sum((v - mean) ** 2 for v in exact) / len(exact)
    row = np.array(values)
    for x in (norm.layer_norm(row, eps=0.0)[1], norm.instance_norm(row[None, None], eps=0.0)[1],
              norm.instance_norm(row[None, :, None], eps=0.0, channel_axis=-1)[1]):
        # What is left of the mean is the rounding of a sum of deviations, at most 512 in a lane.
        left = 512 * 2.0**-53 * math.sqrt(var)
        high, low = float(x.mean.ravel()[0]) if x.mean.ndim else float(x.mean), float(x.mean_rest.ravel()[0])
        assert abs(Fraction(high) + Fraction(low) - mean) <= left
        assert abs(Fraction(high) - mean) <= np.spacing(abs(high)) / 2 + left
        # A lane adds up to 512 squares, whose roundings of 1.1e-16 cancel but for their root; the root and a division.
        np.testing.assert_allclose(x.inv_std.ravel(), 1 / math.sqrt(var), rtol=4e-15)


@pytest.mark.parametrize("columns", [*range(1, 36), 63, 64, 65, 127, 128, 129, 1000, 8191, 8192, 8193, 20000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_length_of_a_row_is_right(columns, dtype):
    rng = np.random.default_rng(5)
    # Rounding only: values of order 1 and short sums; a value that is left out, counted twice or read from another row
    # changes a result by 1e-5 or more of its scale.
    close = {"float32": {"rtol": 4e-6, "atol": 4e-6}, "float64": {"rtol": 1e-11, "atol": 1e-12}}[dtype]
    for rows in (1, 3, 4, 9):
        x, dy = rng.standard_normal((2, rows, columns)).astype(dtype)
        w, b = rng.standard_normal((2, columns)).astype(dtype)
        y, saved = norm.layer_norm(x, w, b, eps=0.1)     # one that keeps two equal values from being divided by nothing
        dx, dweight, dbias = norm.layer_norm_backward(dy, x, w, saved)
        v, u = x.astype(np.float64), w.astype(np.float64) * dy
        s = 1 / np.sqrt(v.var(1, keepdims=True) + 0.1)
        x_hat = (v - v.mean(1, keepdims=True)) * s
        expected = s * (u - u.mean(1, keepdims=True) - x_hat * (u * x_hat).mean(1, keepdims=True))
        np.testing.assert_allclose(y, w * x_hat + b, err_msg=str(rows), **close)
        np.testing.assert_allclose(dx, expected, err_msg=str(rows), **close)
        np.testing.assert_allclose(dweight, (dy * x_hat).sum(0), err_msg=str(rows), **close)
        np.testing.assert_allclose(dbias, dy.sum(0, dtype=np.float64), err_msg=str(rows), **close)


GROUPS = [((n, c, p), g, 1) for n in (1, 3) for c, g in ((1, 1), (6, 2), (300, 3)) for p in (2, 15, 17, 130, 8193)]
GROUPS += [((n, p, c), g, -1) for n in (1, 3) for c, g in ((1, 1), (6, 2), (255, 255), (257, 1), (520, 260))
           for p in (2, 15, 130, 700)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_edge_of_the_groups(dtype):
    rng = np.random.default_rng(5)
    close = {"float32": {"rtol": 4e-6, "atol": 4e-6}, "float64": {"rtol": 1e-11, "atol": 1e-12}}[dtype]  # as above
    for shape, groups, axis in GROUPS:
        x, dy = rng.standard_normal((2, *shape)).astype(dtype)
        w, b = rng.standard_normal((2, shape[axis])).astype(dtype)
        y, saved = norm.group_norm(x, groups, w, b, eps=0.1, channel_axis=axis)
        dx, dweight, dbias = norm.group_norm_backward(dy, x, w, saved)

        first = [(a if axis == 1 else np.moveaxis(a, -1, 1)).astype(np.float64) for a in (x, dy, y, dx)]
        each = w.astype(np.float64)[:, None]
        parts = [a.reshape(shape[0], groups, -1) for a in (first[0], each * first[1])]
        v, u = parts
        s = 1 / np.sqrt(v.var(2, keepdims=True) + 0.1)
        x_hat = (v - v.mean(2, keepdims=True)) * s
        gradient = s * (u - u.mean(2, keepdims=True) - x_hat * (u * x_hat).mean(2, keepdims=True))
        x_hat, gradient = x_hat.reshape(first[0].shape), gradient.reshape(first[0].shape)
        np.testing.assert_allclose(first[2], each * x_hat + b[:, None], err_msg=str(shape), **close)
        np.testing.assert_allclose(first[3], gradient, err_msg=str(shape), **close)
        scale = math.sqrt(x.size // shape[axis])
        np.testing.assert_allclose(dweight / scale, (first[1] * x_hat).sum((0, 2)) / scale, err_msg=str(shape), **close)
        np.testing.assert_allclose(dbias / scale, first[1].sum((0, 2)) / scale, err_msg=str(shape), **close)


def test_gradient_identities():
    """The sum of dx over a row is 0 and dx is orthogonal to x_hat (eps = 0): y sees no shift and no scale of x."""
    rng = np.random.default_rng(6)
    x = (5 + rng.standard_normal((6, 8, 700))).astype(np.float32)
    dy = (100 + rng.standard_normal(x.shape)).astype(np.float32)  # nearly all of it is projected away
    for name, args, axes in (("layer_norm", (), (2,)), ("group_norm", (2,), (1, 2)), ("instance_norm", (), (2,))):
        y, saved = getattr(norm, name)(x, *args, eps=0.0)
        dx, _, _ = getattr(norm, f"{name}_backward")(dy, x, None, saved)
        shape = (6, 2, 4, 700) if name == "group_norm" else x.shape
        axes = (2, 3) if name == "group_norm" else axes
        dx, y = dx.astype(np.float64).reshape(shape), y.astype(np.float64).reshape(shape)
        n = dx.size // saved.mean.size
        # dx is of order 1, each element rounded independently to about 1e-7: the sum of n is off by sqrt(n)*1e-7.
        assert np.abs(dx.sum(axes)).max() < 10 * math.sqrt(n) * 1e-7, name
        assert np.abs((dx * y).sum(axes)).max() < 10 * math.sqrt(n) * 1e-7, name
    y, saved = norm.rms_norm(x, eps=0.0)
    dx, _, _ = norm.rms_norm_backward(dy, x, None, saved)
    # y sees no scale. Of dx = s*dy - c*y the coefficient c, of order 0.2 * 100, is rounded once for the whole row.
    assert np.abs((dx.astype(np.float64) * y).sum(2)).max() < 2 * 700 * 20 * 2.0**-24


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_an_array_lies_changes_no_bit(dtype):
    rng = np.random.default_rng(8)
    calls = [((40, 512), lambda x, w, out: norm.layer_norm(x, w, out=out), norm.layer_norm_backward),
             ((21, 100), lambda x, w, out: norm.rms_norm(x, w, out=out), norm.rms_norm_backward),
             ((3, 16, 14, 14), lambda x, w, out: norm.group_norm(x, 4, w, out=out), norm.group_norm_backward),
             ((3, 70, 160), lambda x, w, out: norm.group_norm(x, 5, w, channel_axis=-1, out=out),
              norm.group_norm_backward)]
    for shape, forward, backward in calls:
        x, dy = rng.standard_normal((2, *shape)).astype(dtype)
        w = rng.standard_normal(shape[1 if len(shape) == 4 else -1])
        seen = set()
        line = 64 // x.itemsize
        for offset in range(line):
            # x, dy and the outputs lie to the lines alike, then each in its own way
            for shift in (0, 1, 5):
                a, g = at_offset(x, offset), at_offset(dy, (offset + shift) % line)
                y, saved = forward(a, w, at_offset(x, shift, out=True))
                dx, dweight, dbias = backward(g, a, w, saved, out=at_offset(x, offset, out=True))
                results = (y, dx, dweight, saved.mean, saved.inv_std, *([] if dbias is None else [dbias]))
                seen.add(b"".join(r.tobytes() for r in results))
        assert len(seen) == 1, shape


@pytest.mark.parametrize("columns", [1024, 1000, 10])
def test_results_that_go_past_the_caches_have_the_same_bits(columns):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((20_000_000 // columns // 10 * 10, columns), dtype=np.float32)
    dy = x[::-1].copy()
    assert 2 * x.nbytes > 20 << 20  # large enough to go past them, its tenth is not
    w = rng.standard_normal(columns)
    step = len(x) // 10
    y, saved = norm.layer_norm(x, w)
    dx, _, _ = norm.layer_norm_backward(dy, x, w, saved)
    for i in range(0, len(x), step):
        part, own = norm.layer_norm(x[i:i + step], w)
        assert np.array_equal(part, y[i:i + step])
        assert np.array_equal(norm.layer_norm_backward(dy[i:i + step], x[i:i + step], w, own)[0], dx[i:i + step])
