"""float32 at the ends of its range: values, deviations and weights whose quotients no float holds, where the results
are ordinary numbers. Against PyTorch in float64, whose range has room for all of it."""

import numpy as np
import pytest
import torch

from optcore import norm

# (centre and deviation of the values, weight): the weight over the deviation leaves float32's range, or its normal one;
# x - mean overflows; the values themselves are subnormal; and one ordinary channel beside them.
CHANNELS = [(0, 1e30, 1e-15), (0, 1e-25, 1e15), (0, 1e30, 1e30), (0, 1e-39, 1.0), (1e36, 1e32, 1e-12), (0, 1e-42, 3.0),
            (2, 1.5, 0.7), (0, 1e38, 1e9)]
C = len(CHANNELS)


def to_torch(a):
    return torch.from_numpy(np.asarray(a, np.float64)).requires_grad_()


def problem(n, seed=0):
    """x, dy, rx, rdy as [n, C], and weight, bias. The gradients are such that dx is near 1."""
    rng = np.random.default_rng(seed)
    centre, deviation, weight = np.array(CHANNELS).T
    x = (centre + deviation * rng.uniform(-2, 2, (n, C))).astype(np.float32)
    dy, rdy = ((np.clip(deviation / weight, 1e-30, 1e30) * rng.uniform(-2, 2, (2, n, C))).astype(np.float32))
    rx = (deviation * rng.uniform(-2, 2, (n, C))).astype(np.float32)
    return (x, dy, rx, rdy), weight.astype(np.float32), (weight * rng.standard_normal(C)).astype(np.float32)


def normalised(x, per, axis, weight, bias):
    """weight*(x - mean)/deviation + bias by torch's elementary operators: its batch norm refuses eps = 0."""
    each = [1] * x.ndim
    each[axis] = C
    var, mean = torch.var_mean(x, per, correction=0, keepdim=True)
    return weight.reshape(each) * (x - mean) / torch.sqrt(var) + bias.reshape(each)


def close(result, expected, per, factor=8):
    """Within `factor` roundings of the largest result of a channel, or the least step of float32."""
    expected = np.asarray(expected)
    largest = np.max(np.abs(expected), axis=per, keepdims=True)
    error = np.abs(result.astype(np.float64) - expected)
    assert np.all(error <= factor * 2.0**-24 * largest + 2.0**-149), np.max(error / largest)


def shaped(a, layout):
    if layout == "channels first":
        return np.ascontiguousarray(a.reshape(-1, 12, C).transpose(0, 2, 1))
    return a.reshape(-1, 12, C) if layout == "channels last" else a


@pytest.mark.parametrize("n", [24, 9000])  # in one piece, and over many blocks and threads
@pytest.mark.parametrize("layout", ["rows", "channels first", "channels last"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_batch_norm(n, layout, activation):
    axis = -1 if layout == "channels last" else 1
    arrays, weight, bias = problem(n)
    x, dy, rx, rdy = (shaped(a, layout) for a in arrays)
    per = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    y, saved = norm.batch_norm(x, weight, bias, training=True, eps=0.0, channel_axis=axis, activation=activation)
    dx, dweight, dbias = norm.batch_norm_backward(dy, x, weight, saved)

    tx, tw, tb = to_torch(x), to_torch(weight), to_torch(bias)
    ty = normalised(tx, per, axis, tw, tb)
    close(y, (torch.relu(ty) if activation else ty).detach(), per)
    d = dy if activation is None else np.where(y > 0, dy, np.float32(0))
    ty.backward(torch.from_numpy(d.astype(np.float64)))
    close(dx, tx.grad, per)
    close(dbias[None], tb.grad[None], 0, 8 * n)   # sums that may cancel
    close(dweight[None], tw.grad[None], 0, 8 * n)
    if activation is None:
        check_r_operators(lambda t: norm.batch_norm(t[0], t[4], None, training=True, eps=0.0, channel_axis=axis)[1],
                          norm.batch_norm_jvp, norm.batch_norm_backward_jvp, (x, dy, rx, rdy, weight), per)


def check_r_operators(forward, jvp, backward_jvp, arrays, per):
    """float32 against the float64 of the same function, which has PyTorch's double backward for a test of its own."""
    results = []
    for dtype in (np.float32, np.float64):
        x, dy, rx, rdy, weight = t = [a.astype(dtype) for a in arrays]
        saved = forward(t)
        ry, rsaved = jvp(x, weight, saved, rx, weight, None)
        results.append((ry, backward_jvp(dy, x, weight, saved, rdy, rx, weight, rsaved)[0]))
    for result, expected in zip(*results, strict=True):
        close(result, expected, per, 64)  # some ten terms, which cancel in part


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_group_and_instance_norm(layout):
    axis = -1 if layout == "channels last" else 1
    arrays, weight, bias = problem(120)
    x, dy, rx, rdy = (shaped(a, layout) for a in arrays)
    per = tuple(i for i in range(1, x.ndim) if i != axis % x.ndim)
    y, saved = norm.instance_norm(x, weight, bias, eps=0.0, channel_axis=axis)
    dx, _, _ = norm.instance_norm_backward(dy, x, weight, saved)
    tx, tw, tb = to_torch(x), to_torch(weight), to_torch(bias)
    ty = normalised(tx, per, axis, tw, tb)
    close(y, ty.detach(), per)
    ty.backward(torch.from_numpy(dy.astype(np.float64)))
    close(dx, tx.grad, per)
    check_r_operators(lambda t: norm.instance_norm(t[0], t[4], eps=0.0, channel_axis=axis)[1],
                      norm.instance_norm_jvp, norm.instance_norm_backward_jvp, (x, dy, rx, rdy, weight), per)

    one = np.ascontiguousarray(np.repeat(x.take([0], axis), 6, axis)) * np.float32(0.5)
    small = np.float32([1e-15, 1, 1e-20, 1e20, 2, 3])
    y, _ = norm.group_norm(one, 2, small, eps=0.0, channel_axis=axis)
    tx = to_torch(one)
    ty = torch.nn.functional.group_norm(tx if axis == 1 else tx.movedim(-1, 1), 2, to_torch(small), None, 0.0)
    close(y, (ty if axis == 1 else ty.movedim(1, -1)).detach(), per)


@pytest.mark.parametrize("row", [4, 300])
def test_layer_and_rms_norm(row):
    rng = np.random.default_rng(3)
    deviation = np.array([[1e30], [1e-25], [3e38], [1e-39], [1e-42], [1.0]])
    x = (deviation * rng.uniform(-1, 1, (6, row))).astype(np.float32)
    x[2] = np.where(x[2] < 0, -3.4e38, 3.4e38)
    dy, rdy = (np.clip(deviation, 1e-30, 1e30) * rng.standard_normal((2, 6, row))).astype(np.float32)
    rx = (deviation * rng.uniform(-1, 1, (6, row))).astype(np.float32)
    weight, bias = rng.standard_normal((2, row)).astype(np.float32)
    tx, tw, tb = to_torch(x), to_torch(weight), to_torch(bias)
    for name, given, theirs in (
            ("layer_norm", (weight, bias), torch.nn.functional.layer_norm(tx, (row,), tw, tb, 0.0)),
            ("rms_norm", (weight,), torch.nn.functional.rms_norm(tx, (row,), tw, 0.0))):
        forward, backward = getattr(norm, name), getattr(norm, f"{name}_backward")
        y, saved = forward(x, *given, eps=0.0)
        close(y, theirs.detach(), 1)
        (grad,) = torch.autograd.grad(theirs, tx, torch.from_numpy(dy.astype(np.float64)))
        close(backward(dy, x, weight, saved)[0], grad, 1, 16)
        jvp, backward_jvp = getattr(norm, f"{name}_jvp"), getattr(norm, f"{name}_backward_jvp")
        check_r_operators(
            lambda t, forward=forward: forward(t[0], t[4], eps=0.0)[1],
            lambda x, w, saved, rx, rw, rb, jvp=jvp, given=given: jvp(x, w, saved, rx, rw, *[None] * (len(given) - 1)),
            backward_jvp, (x, dy, rx, rdy, weight), 1)


def test_the_issues_own_cases():
    x = (1e30 * np.random.default_rng(0).standard_normal((64, 4))).astype(np.float32)
    y, _ = norm.batch_norm(x, np.full(4, 1e-15, np.float32), training=True)
    exact = x.astype(np.float64)
    close(y, 1e-15 * (exact - exact.mean(0)) / exact.std(0), 0)
    y, _ = norm.layer_norm(np.float32([[3.4e38, 3.4e38, 3.4e38, -3.4e38]]))
    np.testing.assert_allclose(y[0], [3**-0.5] * 3 + [-(3**0.5)], rtol=1e-6)
    y, _ = norm.batch_norm(x, np.full(4, 1e-15, np.float32), None, np.zeros(4), np.full(4, 1e60), training=False)
    close(y, 1e-15 * (exact / 1e30), 0)


@pytest.mark.parametrize("value", [1e200, -1e300, 1.7e308])
def test_constant_float64_columns_have_no_deviation(value):
    for shape, axis in (((700, 3), 1), ((40, 3, 50), 1), ((40, 50, 3), -1), ((5, 1), 1), ((3, 2, 20000), 1)):
        x = np.full(shape, value)
        y, saved = norm.batch_norm(x, training=True, channel_axis=axis)
        assert np.all(y == 0), (shape, axis)
        assert np.all(saved.mean == value), (shape, axis)
    assert np.all(norm.layer_norm(np.full((3, 301), value))[0] == 0)
    assert np.all(norm.group_norm(np.full((2, 4, 33), value), 2)[0] == 0)
    assert np.all(norm.moments(np.full((5000, 2), value)).m2 == 0)
