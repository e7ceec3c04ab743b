"""Batch norm against PyTorch in float64 and its own definition; options, errors, empty arrays."""

import numpy as np
import pytest
import torch

from optcore import norm

# Both sides round a few times in double; the reductions are over at most some hundred values.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}

SHAPES = [((8, 5), 1), ((6, 3, 7), 1), ((4, 3, 5, 2), 1), ((2, 3, 2, 3, 2), 1), ((9, 4), -1), ((3, 5, 4), -1),
          ((2, 3, 4, 5), -1), ((2, 2, 3, 2, 6), -1)]
PRESENT = [(True, True), (True, False), (False, True), (False, False)]


def to_torch(a, channel_axis):
    """The tensor with channels second, as torch has them."""
    t = torch.from_numpy(np.array(a))
    return t if channel_axis == 1 else t.movedim(-1, 1)


def from_torch(t, channel_axis):
    return (t if channel_axis == 1 else t.movedim(1, -1)).detach().numpy()


def problem(shape, channel_axis, with_weight, with_bias, seed=3):
    rng = np.random.default_rng(seed)
    c = shape[channel_axis]
    x = 3.0 + 2.0 * rng.standard_normal(shape)
    weight = rng.standard_normal(c) if with_weight else None
    bias = rng.standard_normal(c) if with_bias else None
    return rng, x, weight, bias


def reference(x, weight, bias, training, running, axis, momentum=0.1, eps=1e-5):
    leaf = [None if a is None else torch.from_numpy(a.copy()).requires_grad_() for a in (weight, bias)]
    tx = to_torch(x, axis).clone().requires_grad_()
    stats = [None if r is None else torch.from_numpy(r) for r in running]
    y = torch.nn.functional.batch_norm(tx, *stats, *leaf, training, momentum, eps)
    return tx, leaf[0], leaf[1], y


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(("with_weight", "with_bias"), PRESENT)
@pytest.mark.parametrize("training", [True, False])
def test_forward_backward_and_buffers_are_those_of_torch(shape, axis, with_weight, with_bias, training):
    rng, x, weight, bias = problem(shape, axis, with_weight, with_bias)
    c = shape[axis]
    mean, var = rng.standard_normal(c), rng.uniform(0.5, 2, c)
    theirs = mean.copy(), var.copy()
    tx, tw, tb, ty = reference(x, weight, bias, training, theirs, axis)
    dy = rng.standard_normal(shape)
    ty.backward(to_torch(dy, axis))

    y, saved = norm.batch_norm(x, weight, bias, mean, var, training=training, channel_axis=axis)
    evaluation = {} if training else {"running_mean": mean, "running_var": var, "channel_axis": axis}
    dx, dweight, dbias = norm.batch_norm_backward(dy, x, weight, saved, **evaluation)

    np.testing.assert_allclose(y, from_torch(ty, axis), **CLOSE)
    np.testing.assert_allclose(mean, theirs[0], **CLOSE)
    np.testing.assert_allclose(var, theirs[1], **CLOSE)
    np.testing.assert_allclose(dx, from_torch(tx.grad, axis), **CLOSE)
    if with_weight:
        np.testing.assert_allclose(dweight, tw.grad.numpy(), **CLOSE)
    if with_bias:
        np.testing.assert_allclose(dbias, tb.grad.numpy(), **CLOSE)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("with_weight", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_r_operator_is_torchs_double_backward(shape, axis, with_weight, training):
    rng, x, weight, bias = problem(shape, axis, with_weight, True)
    c = shape[axis]
    mean, var = rng.standard_normal(c), rng.uniform(0.5, 2, c)
    evaluation = {} if training else {"running_mean": mean, "running_var": var, "channel_axis": axis}
    dy, rdy, rx = (rng.standard_normal(shape) for _ in range(3))
    rweight, rbias = rng.standard_normal((2, c))
    if not with_weight:
        rweight = None

    def forward_and_backward(*arguments):
        """(y, dx, dweight, dbias) as a differentiable function of (x, weight, bias, dy), channels second."""
        tx, tw, tb, tdy = arguments
        buffers = torch.from_numpy(mean.copy()), torch.from_numpy(var.copy())
        y = torch.nn.functional.batch_norm(tx, *buffers, tw, tb, training, 0.1, 1e-5)
        return (y, *torch.autograd.grad(y, (tx, tw, tb), tdy, create_graph=True))

    ones = np.ones(c) if weight is None else weight
    point = (to_torch(x, axis), torch.from_numpy(ones), torch.from_numpy(bias), to_torch(dy, axis))
    point = tuple(p.clone().requires_grad_() for p in point)
    direction = (to_torch(rx, axis), torch.from_numpy(np.zeros(c) if rweight is None else rweight),
                 torch.from_numpy(rbias), to_torch(rdy, axis))
    _, expected = torch.autograd.functional.jvp(forward_and_backward, point, direction)

    _, saved = norm.batch_norm(x, weight, bias, mean.copy(), var.copy(), training=training, channel_axis=axis)
    ry, rsaved = norm.batch_norm_jvp(x, weight, saved, rx, rweight, rbias, **evaluation)
    rdx, rdweight, rdbias = norm.batch_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved,
                                                         **evaluation)

    np.testing.assert_allclose(ry, from_torch(expected[0], axis), **CLOSE)
    np.testing.assert_allclose(rdx, from_torch(expected[1], axis), **CLOSE)
    np.testing.assert_allclose(rdweight, expected[2].numpy(), **CLOSE)
    np.testing.assert_allclose(rdbias, expected[3].numpy(), **CLOSE)


@pytest.mark.parametrize("training", [True, False])
def test_backward_is_the_slope_of_forward(training):
    rng, x, weight, bias = problem((6, 3, 4), 1, True, True)
    mean, var = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    dy = rng.standard_normal(x.shape)
    arguments = [x, weight, bias]

    def loss(*arguments):
        y, _ = norm.batch_norm(*arguments, mean.copy(), var.copy(), training=training)
        return float((y * dy).sum())

    _, saved = norm.batch_norm(*arguments, mean.copy(), var.copy(), training=training)
    gradients = norm.batch_norm_backward(dy, x, weight, saved, running_mean=mean, running_var=var)
    for i, gradient in enumerate(gradients):
        step = rng.standard_normal(arguments[i].shape)
        h = 1e-5
        ahead, behind = ([*arguments[:i], arguments[i] + sign * h * step, *arguments[i + 1:]] for sign in (1, -1))
        slope = (loss(*ahead) - loss(*behind)) / (2 * h)
        # Central difference: h^2 = 1e-10 of the third derivative, 1e-16/h = 1e-11 of rounding, both of order 10.
        assert float((gradient * step).sum()) == pytest.approx(slope, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("shape", [(3, 4, 5), (20, 6)])
def test_r_operator_is_a_central_difference(shape):
    rng, x, weight, bias = problem(shape, 1, True, True)
    c = shape[1]
    dy, rdy, rx = (rng.standard_normal(shape) for _ in range(3))
    rweight, rbias = rng.standard_normal((2, c))
    _, saved = norm.batch_norm(x, weight, bias, training=True)
    ry, rsaved = norm.batch_norm_jvp(x, weight, saved, rx, rweight, rbias)
    tangents = [ry, rsaved.mean, rsaved.inv_std,
                *norm.batch_norm_backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved)]

    def outputs(h):
        y, saved = norm.batch_norm(x + h * rx, weight + h * rweight, bias + h * rbias, training=True)
        return [y, saved.mean, saved.inv_std,
                *norm.batch_norm_backward(dy + h * rdy, x + h * rx, weight + h * rweight, saved)]

    h = 1e-5
    for tangent, ahead, behind in zip(tangents, outputs(h), outputs(-h), strict=True):
        np.testing.assert_allclose(tangent, (ahead - behind) / (2 * h), rtol=1e-7, atol=1e-7)


def test_cumulative_average_is_that_of_torch():
    rng = np.random.default_rng(7)
    theirs = torch.nn.BatchNorm1d(4, momentum=None).double()
    mean, var, seen = np.zeros(4), np.ones(4), np.zeros(1, np.int64)
    for _ in range(5):
        x = rng.standard_normal((10, 4))
        theirs(torch.from_numpy(x))
        norm.batch_norm(x, None, None, mean, var, training=True, momentum=None, num_batches=seen)
    assert seen[0] == theirs.num_batches_tracked.item() == 5
    np.testing.assert_allclose(mean, theirs.running_mean.numpy(), **CLOSE)
    np.testing.assert_allclose(var, theirs.running_var.numpy(), **CLOSE)


def test_a_count_is_any_int64():
    """long long is a type of its own in NumPy, and the same numbers."""
    for dtype in (np.longlong, np.int64, np.intp):
        seen = np.zeros(1, dtype)
        norm.batch_norm(np.array([[1.0], [3.0]]), training=True, num_batches=seen)
        assert seen[0] == 1
    with pytest.raises(TypeError, match="num_batches: expected dtype int64, got uint64"):
        norm.batch_norm(np.array([[1.0], [3.0]]), training=True, num_batches=np.zeros(1, np.uint64))


def test_momentum_weighs_the_new_value():
    x = np.array([[1.0], [3.0]])  # mean 2, unbiased variance 2
    for momentum in (0.0, 0.25, 1.0):
        mean, var, seen = np.array([10.0]), np.array([6.0]), np.array(3)
        norm.batch_norm(x, None, None, mean, var, training=True, momentum=momentum, num_batches=seen)
        assert mean[0] == 10 - 8 * momentum
        assert var[0] == 6 - 4 * momentum
        assert seen == 4
    mean = np.array([10.0])
    norm.batch_norm(x, None, None, mean, None, training=True)  # either buffer can be missing
    assert mean[0] == pytest.approx(9.2, rel=1e-15)


def test_eps_stands_inside_the_root():
    x = np.array([[0.0], [2.0]])
    y, saved = norm.batch_norm(x, training=True, eps=3.0)
    assert saved.inv_std[0] == 0.5
    assert y.tolist() == [[-0.5], [0.5]]


def test_evaluation_changes_nothing_and_reads_read_only_buffers():
    x = np.random.default_rng(8).standard_normal((5, 2)).astype(np.float32)
    mean, var = np.array([1.0, 2.0]), np.array([4.0, 0.25])
    for a in (x, mean, var):
        a.flags.writeable = False
    y, saved = norm.batch_norm(x, None, None, mean, var, training=False, eps=0.0)
    assert saved is None
    np.testing.assert_allclose(y, (x - mean) / [2.0, 0.5], rtol=3e-7)  # two float32 roundings and the mean's


def test_out_takes_the_result_and_dtypes_are_independent():
    rng = np.random.default_rng(9)
    x, dy = rng.standard_normal((2, 40, 3)).astype(np.float32)
    weight, mean = np.array([1.0, 2.0, 3.0]), np.zeros(3)
    y, saved = norm.batch_norm(x, weight, None, mean, None, training=True)
    out, dout = np.empty_like(x), np.empty_like(x)
    same, _ = norm.batch_norm(x, weight, None, mean, None, training=True, out=out)
    dx, dweight, _ = norm.batch_norm_backward(dy, x, weight, saved)
    dsame, _, _ = norm.batch_norm_backward(dy, x, weight, saved, out=dout)
    assert same is out
    assert dsame is dout
    assert np.array_equal(y, out)
    assert np.array_equal(dx, dout)
    assert (y.dtype, dx.dtype, dweight.dtype, mean.dtype) == (np.float32, np.float32, np.float64, np.float64)


def test_empty_arrays():
    for shape, axis in (((0, 3), 1), ((0, 3, 4), 1), ((2, 3, 0), 1), ((0, 4, 3), -1)):
        x = np.zeros(shape, np.float32)
        stats = {"running_mean": np.zeros(3), "running_var": np.ones(3), "channel_axis": axis}
        y, _ = norm.batch_norm(x, training=False, **stats)
        dx, dweight, dbias = norm.batch_norm_backward(x, x, None, None, **stats)
        assert y.shape == dx.shape == shape
        assert not dweight.any()
        assert not dbias.any()
    y, saved = norm.batch_norm(np.zeros((4, 0)), training=True)
    assert y.shape == (4, 0)
    assert saved.mean.shape == (0,)


def bad_calls():
    """(what is wrong, arguments that replace the good ones, error, start of the message)."""
    def read_only(n):
        a = np.zeros(n)
        a.flags.writeable = False
        return a

    yield "a list", {"x": [[1.0, 2.0]]}, TypeError, "x: expected a NumPy array"
    yield "integers", {"x": np.zeros((4, 3), np.int64)}, TypeError, "x: expected dtype"
    yield "byte order", {"x": np.zeros((4, 3), ">f8")}, TypeError, "x: expected native"
    yield "strided", {"x": np.zeros((4, 6))[:, ::2]}, ValueError, "x: expected a C-contiguous"
    yield "one dimension", {"x": np.zeros(3)}, ValueError, "x: expected at least 2 dimensions"
    yield "one value", {"x": np.zeros((1, 3))}, ValueError, "x: expected at least 2 values per channel"
    yield "no value", {"x": np.zeros((0, 3))}, ValueError, "x: expected at least 2 values per channel"
    yield "axis", {"channel_axis": 0}, ValueError, "channel_axis: expected 1 or -1"
    yield "weight shape", {"weight": np.ones(4)}, ValueError, "weight: expected shape (3,)"
    yield "bias dtype", {"bias": np.ones(3, np.float16)}, TypeError, "bias: expected dtype"
    yield "buffer shape", {"running_mean": np.ones((1, 3))}, ValueError, "running_mean: expected shape (3,)"
    yield "read-only buffer", {"running_var": read_only(3)}, ValueError, "running_var: expected a writable"
    shared = np.zeros(5)
    yield "buffers overlap", {"running_mean": shared[:3], "running_var": shared[2:]}, ValueError, "running_var: "
    yield "buffer is weight", {"running_mean": shared[:3], "weight": shared[:3]}, ValueError, "running_mean: "
    yield "eps", {"eps": -1e-5}, ValueError, "eps: expected a finite number, at least 0"
    yield "eps nan", {"eps": float("nan")}, ValueError, "eps: expected a finite number"
    yield "eps infinite", {"eps": float("inf")}, ValueError, "eps: expected a finite number"
    yield "eps type", {"eps": "1e-5"}, TypeError, "eps: expected a real number"
    yield "momentum", {"momentum": 1.5}, ValueError, "momentum: expected 0 <= momentum <= 1"
    yield "no count", {"momentum": None}, ValueError, "num_batches: expected the number"
    yield "count dtype", {"num_batches": np.zeros(1, np.int32)}, TypeError, "num_batches: expected dtype int64"
    yield "count negative", {"num_batches": np.array([-1])}, ValueError, "num_batches: expected 0 <= num"
    yield "count full", {"num_batches": np.array([2**63 - 1])}, ValueError, "num_batches: expected 0 <= num"
    yield "training", {"training": "no"}, TypeError, "training: expected True or False, got 'no'"
    yield "count size", {"num_batches": np.zeros(2, np.int64)}, ValueError, "num_batches: expected one element"
    yield "out dtype", {"out": np.zeros((4, 3), np.float32)}, TypeError, "out: expected the dtype of x"
    yield "out shape", {"out": np.zeros((3, 4))}, ValueError, "out: expected the shape of x"
    x = np.arange(12.0).reshape(4, 3)
    yield "out is x", {"x": x, "out": x}, ValueError, "out: expected memory of its own"
    yield "out read-only", {"out": read_only(12).reshape(4, 3)}, ValueError, "out: expected a writable"
    yield "no buffers", {"training": False, "running_mean": None}, ValueError, "running_mean: expected the running"


@pytest.mark.parametrize("case", list(bad_calls()), ids=lambda case: case[0])
def test_a_bad_argument_is_named_and_nothing_is_changed(case):
    _, wrong, error, message = case
    rng = np.random.default_rng(10)
    arguments = {"x": rng.standard_normal((4, 3)), "weight": np.ones(3), "bias": np.zeros(3),
                 "running_mean": np.zeros(3), "running_var": np.ones(3), "training": True, "momentum": 0.1,
                 "eps": 1e-5, "channel_axis": 1, "out": np.full((4, 3), 7.0), "num_batches": np.zeros(1, np.int64)}
    arguments |= wrong
    if wrong.get("momentum", 0) is None:
        arguments["num_batches"] = None
    before = {k: v.copy() for k, v in arguments.items() if isinstance(v, np.ndarray)}
    x, weight, bias = arguments.pop("x"), arguments.pop("weight"), arguments.pop("bias")
    with pytest.raises(error) as raised:
        norm.batch_norm(x, weight, bias, **arguments)
    assert str(raised.value).startswith(message)
    for name, old in before.items():
        now = {"x": x, "weight": weight, "bias": bias, **arguments}[name]
        assert np.array_equal(now, old), name


def test_backward_and_r_operator_name_a_bad_argument():
    x = np.arange(12.0).reshape(4, 3)
    _, saved = norm.batch_norm(x, training=True)
    _, other = norm.batch_norm(np.arange(10.0).reshape(2, 5), training=True)
    out = np.full((4, 3), 7.0)
    for change, error, message in (
        ({"dy": x.astype(np.float32)}, TypeError, "dy: expected the dtype of x"),
        ({"dy": x[:3]}, ValueError, "dy: expected the shape of x"),
        ({"weight": np.ones(2)}, ValueError, "weight: expected shape"),
        ({"saved": other}, ValueError, "saved: expected that of this x"),
        ({"saved": (1, 2)}, TypeError, "saved: expected a Saved"),
        ({"saved": None}, ValueError, "running_mean: expected the running statistics"),
        ({"dy": out}, ValueError, "out: expected memory of its own"),
    ):
        arguments = {"dy": x.copy(), "x": x, "weight": None, "saved": saved} | change
        with pytest.raises(error) as raised:
            norm.batch_norm_backward(**arguments, out=out)
        assert str(raised.value).startswith(message)
        assert np.all(out == 7)
    with pytest.raises(ValueError, match="rx: expected the shape of x"):
        norm.batch_norm_jvp(x, None, saved, x[:2], None, None)
    with pytest.raises(ValueError, match="rbias: expected shape"):
        norm.batch_norm_jvp(x, None, saved, x, None, np.ones(2))
    _, rsaved = norm.batch_norm_jvp(x, None, saved, x, None, None)
    with pytest.raises(ValueError, match="rdy: expected the shape of x"):
        norm.batch_norm_backward_jvp(x, x, None, saved, x[:2], x, None, rsaved)
    with pytest.raises(ValueError, match="rsaved: expected what batch_norm_jvp returned"):
        norm.batch_norm_backward_jvp(x, x, None, saved, x, x, None, None)
    with pytest.raises(TypeError, match="rsaved: expected a Saved"):
        norm.batch_norm_backward_jvp(x, x, None, saved, x, x, None, 3)


def _at(offset, a):
    """A copy that begins `offset` bytes into a cache line."""
    room = np.empty(a.nbytes + 128, np.uint8)
    first = (offset - room.ctypes.data) % 64
    copy = room[first:first + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


@pytest.mark.parametrize("shape", [(300, 528), (1000, 64), (33, 1024), (2700, 1056)])  # the last one past the caches
def test_the_bits_do_not_depend_on_where_an_array_lies(shape):
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
    w, b = rng.standard_normal((2, shape[1]), dtype=np.float32)

    def results(offset):
        at, dy_at = _at(offset, x), _at(offset, dy)
        y, saved = norm.batch_norm(at, w, b, training=True, out=_at(offset, np.zeros_like(x)))
        dx, dweight, dbias = norm.batch_norm_backward(dy_at, at, w, saved, out=_at(offset, np.zeros_like(x)))
        return [a.tobytes() for a in (y, saved.mean, saved.inv_std, dx, dweight, dbias)]

    assert all(results(offset) == results(0) for offset in (4, 16, 60))
