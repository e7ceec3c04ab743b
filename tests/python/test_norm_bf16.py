"""Norms of bfloat16 arrays: the float32 result of the same numbers, rounded to nearest, bit for bit."""

import ml_dtypes
import numpy as np
import pytest
import torch

from optcore import norm

BF16 = np.dtype(ml_dtypes.bfloat16)

# Batch norm: folded rows with and without a tail, one panel and several, a partial line; segments shorter and longer
# than a block; one channel; channels last.
BATCH = [((33, 3), 1), ((2100, 64), -1), ((700, 130), 1), ((129, 1100), 1), ((300, 528), 1), ((2, 3, 20001), 1),
         ((9, 4, 31, 33), 1), ((3, 5, 7, 7), 1), ((100003, 1), 1), ((6, 7, 5, 96), -1), ((1, 130), 1)]
ROWS = [(300, 3), (33, 31), (517, 32), (70, 33), (129, 100), (5, 8192), (1, 40000), (0, 3), (4, 6, 128)]
GROUPS = [((5, 12, 9, 7), 1), ((5, 9, 7, 12), -1), ((2, 6, 20001), 1), ((3, 700, 288), -1), ((40, 96), 1)]


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def bf16(rng, shape, scale=1.0, offset=3.0, skew=0):
    """Random numbers in memory that begins `skew` elements behind a cache line's boundary."""
    size = int(np.prod(shape))
    room = np.empty(2 * size + 256, np.uint8)
    start = -room.ctypes.data % 64 + 2 * skew
    a = room[start:start + 2 * size].view(BF16).reshape(shape)
    a[...] = scale * (offset + rng.standard_normal(shape))
    return a


def wide(a):
    return None if a is None else a.astype(np.float32)


def same(got, expected):
    """Arrays of values are the rounded float32 ones; what is per channel is equal."""
    assert (got is None) == (expected is None)
    if got is None:
        return
    if got.dtype == BF16:
        with np.errstate(over="ignore", invalid="ignore"):
            expected = expected.astype(BF16)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got.astype(np.float64), expected.astype(np.float64))
    number = ~np.isnan(got.astype(np.float64))
    np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(expected)[number])


def parameters(rng, channels, scales=(1.0,)):
    return (rng.standard_normal((2, channels)) * rng.choice(scales, channels)).astype(np.float32)


def check_batch(rng, shape, axis, scale=1.0, scales=(1.0,), **options):
    x, dy, r, rx = (bf16(rng, shape, scale, skew=k) for k in (0, 5, 31, 2))
    c = shape[axis]
    w, b = parameters(rng, c, scales)
    running = np.zeros(c, np.float32), np.ones(c, np.float32)
    buffers = [np.copy(a) for a in running]
    for fused in ({}, {"activation": "relu"}, {"activation": "relu", "residual": r}, {"residual": r}):
        full = {k: wide(v) if k == "residual" else v for k, v in fused.items()}
        y, saved = norm.batch_norm(x, w, b, *running, training=True, channel_axis=axis, **fused, **options)
        y32, saved32 = norm.batch_norm(wide(x), w, b, *buffers, training=True, channel_axis=axis, **full, **options)
        for got, expected in zip((y, saved.mean, saved.inv_std, *running),
                                 (y32, saved32.mean, saved32.inv_std, *buffers), strict=True):
            same(got, expected)
        of = {"y": y} if "activation" in fused and "residual" in fused else {}
        kept, kept32 = (np.empty_like(x), np.empty(shape, np.float32)) if of else (None, None)
        got = norm.batch_norm_backward(dy, x, w, saved, dresidual=kept, **of)
        expected = norm.batch_norm_backward(wide(dy), wide(x), w, saved32, dresidual=kept32, y=wide(of.get("y")))
        for one, other in zip((*got, kept), (*expected, kept32), strict=True):
            same(one, other)
    check_batch_jvp(x, w, b, dy, rx, axis, options)


def check_batch_jvp(x, w, b, dy, rx, axis, options):
    results = []
    for a, d, r in ((x, dy, rx), (wide(x), wide(dy), wide(rx))):
        _, saved = norm.batch_norm(a, w, b, training=True, channel_axis=axis, **options)
        ry, rsaved = norm.batch_norm_jvp(a, w, saved, r, b, w)
        results.append((ry, rsaved.mean, *norm.batch_norm_backward_jvp(d, a, w, saved, d, r, b, rsaved)))
    for got, expected in zip(*results, strict=True):
        same(got, expected)


@pytest.mark.parametrize(("shape", "axis"), [s for s in BATCH if s[0] != (1, 130)])
def test_batch_norm_is_float32_rounded(rng, shape, axis):
    check_batch(rng, shape, axis)


@pytest.mark.parametrize(("shape", "axis"), [((700, 130), 1), ((3, 5, 7, 7), 1), ((2100, 64), -1)])
@pytest.mark.parametrize("scale", [1e-25, 1e30])
def test_batch_norm_at_the_ends_of_the_range(rng, shape, axis, scale):
    check_batch(rng, shape, axis, scale, (1e-15, 1.0, 1e15), eps=0.0)


@pytest.mark.parametrize(("shape", "axis"), BATCH)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_evaluation_is_float32_rounded(rng, shape, axis, activation):
    x, dy = bf16(rng, shape), bf16(rng, shape, skew=9)
    w, b = parameters(rng, shape[axis])
    how = {"running_mean": w.copy(), "running_var": np.abs(b), "channel_axis": axis}
    y, saved = norm.batch_norm(x, w, b, training=False, activation=activation, **how)
    y32, saved32 = norm.batch_norm(wide(x), w, b, training=False, activation=activation, **how)
    same(y, y32)
    of = y if activation else None
    got = norm.batch_norm_backward(dy, x, w, saved, y=of, **how)
    expected = norm.batch_norm_backward(wide(dy), wide(x), w, saved32, y=wide(of), **how)
    for one, other in zip(got, expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("weighted", [False, True])
def test_renorm_and_moments_are_those_of_float32(rng, weighted):
    x, dy = bf16(rng, (300, 70)), bf16(rng, (300, 70), skew=3)
    w, b = parameters(rng, 70) if weighted else (None, None)
    results = []
    for a, d in ((x, dy), (wide(x), wide(dy))):
        mean, var = np.zeros(70), np.ones(70)
        y, saved = norm.batch_renorm(a, w, b, mean, var, training=True)
        m = norm.moments(a)
        results.append((y, mean, var, *norm.batch_renorm_backward(d, a, w, saved), m.mean, m.m2))
    for got, expected in zip(*results, strict=True):
        same(got, expected)


def derivatives(name, x, dy, rx, w, b, **options):
    """All four passes of a norm of rows or groups."""
    bias = [] if name == "rms_norm" else [b]
    y, saved = getattr(norm, name)(x, *options.pop("groups", []), w, *bias, **options)
    ry, rsaved = getattr(norm, f"{name}_jvp")(x, w, saved, rx, b, *([] if name == "rms_norm" else [w]))
    return (y, saved.mean, saved.inv_std, *getattr(norm, f"{name}_backward")(dy, x, w, saved), ry, rsaved.mean,
            *getattr(norm, f"{name}_backward_jvp")(dy, x, w, saved, dy, rx, b, rsaved))


@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e30])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_row_norms_are_float32_rounded(rng, shape, scale, name):
    arrays = [bf16(rng, shape, scale, skew=k) for k in (0, 5, 31)]
    w, b = parameters(rng, shape[-1])
    for got, expected in zip(derivatives(name, *arrays, w, b, eps=0.0),
                             derivatives(name, *map(wide, arrays), w, b, eps=0.0), strict=True):
        same(got, expected)


@pytest.mark.parametrize(("shape", "axis"), GROUPS)
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e30])
@pytest.mark.parametrize("name", ["group_norm", "instance_norm"])
def test_group_norms_are_float32_rounded(rng, shape, axis, scale, name):
    if name == "instance_norm" and len(shape) == 2:
        shape = (*shape, 2)
    arrays = [bf16(rng, shape, scale, skew=k) for k in (0, 5, 31)]
    w, b = parameters(rng, shape[axis], (1e-15, 1.0, 1e15))
    options = {"channel_axis": axis, "eps": 0.0} | ({"groups": [2]} if name == "group_norm" else {})
    for got, expected in zip(derivatives(name, *arrays, w, b, **options),
                             derivatives(name, *map(wide, arrays), w, b, **options), strict=True):
        same(got, expected)


def test_arrays_beyond_the_caches(rng):
    """They are written past the caches, in whole lines of 32 values."""
    x = bf16(rng, (5300, 1024), skew=7)
    x32 = wide(x)
    w, b = parameters(rng, 1024)
    y, saved = norm.batch_norm(x, w, b, training=True)
    same(y, norm.batch_norm(x32, w, b, training=True)[0])
    same(norm.batch_norm_backward(y, x, w, saved)[0],
         norm.batch_norm_backward(wide(y), x32, w, norm.batch_norm(x32, w, b, training=True)[1])[0])
    same(norm.layer_norm(x, w, b)[0], norm.layer_norm(x32, w, b)[0])
    shape, last = (10, 64, 53, 160), (10, 53, 160, 64)
    same(norm.batch_norm(x.reshape(shape), training=True)[0], norm.batch_norm(x32.reshape(shape), training=True)[0])
    same(norm.batch_norm(x.reshape(last), training=True, channel_axis=-1)[0],
         norm.batch_norm(x32.reshape(last), training=True, channel_axis=-1)[0])
    same(norm.group_norm(x.reshape(last), 4, channel_axis=-1)[0],
         norm.group_norm(x32.reshape(last), 4, channel_axis=-1)[0])


def test_what_is_not_finite(rng):
    x = bf16(rng, (64, 4))
    x[3, 0], x[4, 1], x[5, 2] = np.nan, np.inf, -np.inf
    same(norm.batch_norm(x, training=True)[0], norm.batch_norm(wide(x), training=True)[0])
    same(norm.layer_norm(x)[0], norm.layer_norm(wide(x))[0])


def half_ulp(y):
    """Half the distance of bfloat16 numbers around y: 8 significant bits."""
    return 2.0**-9 * 2.0**np.ceil(np.log2(np.abs(y) + 1e-30))


@pytest.mark.parametrize(("ours", "theirs"), [
    (lambda x, w, b: norm.batch_norm(x, w, b, training=True), torch.nn.functional.batch_norm),
    (norm.layer_norm, torch.nn.functional.layer_norm)])
def test_against_pytorch_in_float64(rng, ours, theirs):
    """Within half a unit of bfloat16 and the rounding of float32, whose terms are sums of numbers of size 10."""
    x, (w, b) = bf16(rng, (200, 64)), parameters(rng, 64)
    y, _ = ours(x, w, b)
    xd, wd, bd = (torch.tensor(a.astype(np.float64)) for a in (x, w, b))
    expected = (theirs(xd, None, None, wd, bd, training=True) if theirs is torch.nn.functional.batch_norm
                else theirs(xd, (64,), wd, bd)).numpy()
    assert np.all(np.abs(y.astype(np.float64) - expected) <= half_ulp(expected) + 10 * 2.0**-22)


@pytest.mark.parametrize("scales", [(1.0,), (1e-43, 1e-15, 1.0)])  # below the first float32, not bfloat16, has numbers
@pytest.mark.parametrize(("shape", "axis"), [((70, 13), 1), ((3, 5, 7, 7), 1), ((9, 4, 24), -1)])
def test_derivatives_of_the_fused_forms_are_float32_rounded(rng, shape, axis, scales):
    x, dy, r, rx, rr, rdy = (bf16(rng, shape, skew=k) for k in (0, 5, 31, 2, 7, 0))
    w, b = parameters(rng, shape[axis], scales)
    w[0], b = scales[0], (b if len(scales) == 1 else None)
    for residual, activation in ((None, "relu"), (r, "relu"), (r, None)):
        results = []
        for to in (np.asarray, wide):
            a = to(x)
            y, saved = norm.batch_norm(a, w, b, training=True, channel_axis=axis, activation=activation,
                                       residual=None if residual is None else to(residual))
            of = {} if residual is None or activation is None else {"y": to(y.astype(BF16))}
            ry, rsaved = norm.batch_norm_jvp(a, w, saved, to(rx), w, w, rresidual=to(rr), **of)
            results.append((*norm.batch_norm_backward(to(dy), a, w, saved, **of), ry, rsaved.mean, *(
                norm.batch_norm_backward_jvp(to(dy), a, w, saved, to(rdy), to(rx), w, rsaved, **of))))
        for got, expected in zip(*results, strict=True):
            same(got, expected)


def test_options_and_mistakes(rng):
    x = bf16(rng, (20, 4))
    out = np.empty_like(x)
    assert norm.batch_norm(x, training=True, out=out)[0] is out
    y, saved = norm.batch_norm(x, training=True)
    _, dweight, dbias = norm.batch_norm_backward(x, x, None, saved)
    assert y.dtype == BF16
    assert dweight.dtype == dbias.dtype == np.float32
    with pytest.raises(TypeError, match="dy: expected the dtype of x, bfloat16, got float32"):
        norm.batch_norm_backward(wide(x), x, None, saved)
    with pytest.raises(TypeError, match="weight: expected dtype float32 or float64, got bfloat16"):
        norm.batch_norm(x, x[0], training=True)
    with pytest.raises(TypeError, match="x: expected dtype float32, float64 or bfloat16, got uint16 "
                       r".where it holds bfloat16: x.view.ml_dtypes.bfloat16.."):
        norm.layer_norm(x.view(np.uint16))
    with pytest.raises(TypeError, match="x: expected dtype float32, float64 or bfloat16, got float16"):
        norm.group_norm(x.astype(np.float16), 2)
    with pytest.raises(ValueError, match="saved: expected that of this x, float32"):
        norm.batch_norm_backward(wide(x), wide(x), None, saved)
