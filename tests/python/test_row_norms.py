"""Layer, RMS, group and instance norm against PyTorch in float64 and their own definition; errors, empty arrays."""

import numpy as np
import pytest
import torch

from optcore import norm

# Both sides round a few times in double; the reductions are over at most some hundred values.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
F = torch.nn.functional


class Case:
    """One norm with its options: how optcore and PyTorch call it, and which shape its parameters have."""

    def __init__(self, name, shape, row=None, groups=None, axis=1):
        self.name, self.shape, self.groups, self.axis = name, shape, groups, axis
        self.row = row or (shape[axis],)
        self.bias = name != "rms_norm"
        self.options = {"num_groups": groups} if name == "group_norm" else {}
        if row is None:
            self.options["channel_axis"] = axis
        elif len(row) != 1:
            self.options["ndim"] = len(row)

    def __repr__(self):
        return f"{self.name} {self.shape} {self.groups or self.row} {self.axis}"

    def call(self, suffix):
        return getattr(norm, self.name + suffix)

    def forward(self, x, weight, bias, **options):
        parameters = {"weight": weight} | ({"bias": bias} if self.bias else {})
        return self.call("")(x, **parameters, **self.options, **options)

    def jvp(self, x, weight, saved, rx, rweight, rbias):
        return self.call("_jvp")(x, weight, saved, rx, rweight, *([rbias] if self.bias else []))

    def torch(self, x, weight, bias, eps=1e-5):
        if self.name == "layer_norm":
            return F.layer_norm(x, self.row, weight, bias, eps)
        if self.name == "rms_norm":
            return F.rms_norm(x, self.row, weight, eps)
        t = x if self.axis == 1 else x.movedim(-1, 1)
        if weight is None and bias is not None:  # which PyTorch 2.13 does not differentiate
            weight = torch.ones_like(bias)
        y = F.group_norm(t, self.groups or self.row[0], weight, bias, eps)
        return y if self.axis == 1 else y.movedim(1, -1)


CASES = [
    Case("layer_norm", (7,), row=(7,)), Case("layer_norm", (5, 33), row=(33,)), Case("layer_norm", (3, 4, 1), row=(1,)),
    Case("layer_norm", (3, 4, 5), row=(4, 5)), Case("layer_norm", (2, 3, 4, 20), row=(3, 4, 20)),
    Case("rms_norm", (7,), row=(7,)), Case("rms_norm", (5, 33), row=(33,)), Case("rms_norm", (3, 4, 5), row=(4, 5)),
    Case("group_norm", (5, 6), groups=2), Case("group_norm", (5, 6), groups=3, axis=-1),
    Case("group_norm", (3, 6, 7), groups=3), Case("group_norm", (2, 8, 3, 5), groups=1),
    Case("group_norm", (2, 4, 3, 2, 3), groups=4), Case("group_norm", (3, 7, 6), groups=2, axis=-1),
    Case("group_norm", (2, 3, 5, 4), groups=4, axis=-1), Case("group_norm", (1, 3, 5, 12), groups=1, axis=-1),
    Case("instance_norm", (3, 6, 7)), Case("instance_norm", (2, 3, 4, 5)), Case("instance_norm", (3, 7, 6), axis=-1),
    Case("instance_norm", (2, 3, 2, 3, 4), axis=-1),
]
PRESENT = [(True, True), (True, False), (False, True), (False, False)]


def problem(case, with_weight=True, with_bias=True, seed=3):
    rng = np.random.default_rng(seed)
    x = 3.0 + 2.0 * rng.standard_normal(case.shape)
    weight = rng.standard_normal(case.row) if with_weight else None
    bias = rng.standard_normal(case.row) if with_bias and case.bias else None
    return rng, x, weight, bias


def leaf(a):
    return None if a is None else torch.from_numpy(a.copy()).requires_grad_()


@pytest.mark.parametrize("case", CASES, ids=repr)
@pytest.mark.parametrize(("with_weight", "with_bias"), PRESENT)
def test_forward_and_backward_are_those_of_torch(case, with_weight, with_bias):
    rng, x, weight, bias = problem(case, with_weight, with_bias)
    if len(case.row) > 1 and not with_weight and not with_bias:
        assert case.options["ndim"] == len(case.row)
    dy = rng.standard_normal(case.shape)
    tx, tw, tb = map(leaf, (x, weight, bias))
    ty = case.torch(tx, tw, tb)
    ty.backward(torch.from_numpy(dy))

    y, saved = case.forward(x, weight, bias)
    dx, dweight, dbias = case.call("_backward")(dy, x, weight, saved)

    np.testing.assert_allclose(y, ty.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(dx, tx.grad.numpy(), **CLOSE)
    if with_weight:
        np.testing.assert_allclose(dweight, tw.grad.numpy(), **CLOSE)
    if bias is not None:
        np.testing.assert_allclose(dbias, tb.grad.numpy(), **CLOSE)
    assert dweight.shape == case.row
    assert (dbias is None) == (not case.bias)


@pytest.mark.parametrize("case", CASES, ids=repr)
@pytest.mark.parametrize("with_weight", [True, False])
def test_r_operator_is_torchs_double_backward(case, with_weight):
    rng, x, weight, bias = problem(case, with_weight)
    dy, rdy, rx = (rng.standard_normal(case.shape) for _ in range(3))
    rweight = rng.standard_normal(case.row) if with_weight else None
    rbias = rng.standard_normal(case.row) if case.bias else None

    def forward_and_backward(tx, tw, tb, tdy):
        y = case.torch(tx, tw, tb if case.bias else None) + (0 if case.bias else 0 * tb.sum())
        return (y, *torch.autograd.grad(y, (tx, tw, tb), tdy, create_graph=True))

    zeros, ones = np.zeros(case.row), np.ones(case.row)
    point = tuple(map(leaf, (x, ones if weight is None else weight, zeros if bias is None else bias, dy)))
    direction = tuple(torch.from_numpy(zeros if a is None else a) for a in (rx, rweight, rbias, rdy))
    _, expected = torch.autograd.functional.jvp(forward_and_backward, point, direction)

    _, saved = case.forward(x, weight, bias)
    ry, rsaved = case.jvp(x, weight, saved, rx, rweight, rbias)
    rdx, rdweight, rdbias = case.call("_backward_jvp")(dy, x, weight, saved, rdy, rx, rweight, rsaved)

    np.testing.assert_allclose(ry, expected[0].numpy(), **CLOSE)
    np.testing.assert_allclose(rdx, expected[1].numpy(), **CLOSE)
    np.testing.assert_allclose(rdweight, expected[2].numpy(), **CLOSE)
    if case.bias:
        np.testing.assert_allclose(rdbias, expected[3].numpy(), **CLOSE)
    else:
        assert rdbias is None


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_derivatives_are_central_differences(case):
    rng, x, weight, bias = problem(case)
    dy, rdy, rx = (rng.standard_normal(case.shape) for _ in range(3))
    rweight, rbias = rng.standard_normal((2, *case.row))
    if case.row == (1,) and case.name == "layer_norm":
        x = x + 0  # x_hat of one value is 0 whatever it is: every derivative but the bias's is 0
    _, saved = case.forward(x, weight, bias)
    gradients = case.call("_backward")(dy, x, weight, saved)
    ry, rsaved = case.jvp(x, weight, saved, rx, rweight, rbias)
    seconds = case.call("_backward_jvp")(dy, x, weight, saved, rdy, rx, rweight, rsaved)

    def outputs(h):
        moved = x + h * rx, weight + h * rweight, (bias if bias is None else bias + h * rbias)
        y, saved = case.forward(*moved)
        return [y, saved.mean, saved.inv_std,
                *case.call("_backward")(dy + h * rdy, moved[0], moved[1], saved)[:3 if case.bias else 2]]

    # Central differences: h^2 = 1e-12 of the third derivative, at most of order 1e3 beside the first where a group has
    # two values close together, and 1e-16/h = 1e-10 of rounding.
    h = 1e-6
    ours = [ry, rsaved.mean, rsaved.inv_std, *seconds[:3 if case.bias else 2]]
    for tangent, ahead, behind in zip(ours, outputs(h), outputs(-h), strict=True):
        scale = max(1, np.abs(tangent).max())
        np.testing.assert_allclose(tangent / scale, (ahead - behind) / (2 * h) / scale, rtol=0, atol=1e-7)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, (rx, rweight, rbias), strict=True) if g is not None)
    assert slope == pytest.approx(float((ry * dy).sum()), rel=1e-10, abs=1e-10)     # the adjoint of the tangent


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_out_takes_the_result_and_dtypes_are_independent(case):
    rng, x, weight, bias = problem(case)
    x, dy = x.astype(np.float32), rng.standard_normal(case.shape).astype(np.float32)
    y, saved = case.forward(x, weight, bias)
    out, dout = np.empty_like(x), np.empty_like(x)
    same, _ = case.forward(x, weight, bias, out=out)
    dx, dweight, _ = case.call("_backward")(dy, x, weight, saved)
    dsame, _, _ = case.call("_backward")(dy, x, weight, saved, out=dout)
    assert same is out
    assert dsame is dout
    assert np.array_equal(y, out)
    assert np.array_equal(dx, dout)
    assert (y.dtype, dx.dtype, dweight.dtype) == (np.float32, np.float32, np.float64)


def test_the_parameters_say_how_long_a_row_is():
    x = np.random.default_rng(1).standard_normal((2, 3, 4))
    by_weight, _ = norm.layer_norm(x, np.ones((3, 4)))
    by_bias, _ = norm.layer_norm(x, None, np.zeros((3, 4)))
    by_number, saved = norm.layer_norm(x, ndim=2)
    assert np.array_equal(by_weight, by_number)
    assert np.array_equal(by_bias, by_number)
    assert saved.mean.shape == (2,)
    assert norm.layer_norm(x)[1].mean.shape == (2, 3)
    assert norm.group_norm(x, 1)[1].mean.shape == (2, 1)
    assert norm.instance_norm(x, channel_axis=-1)[1].mean.shape == (2, 4)


def test_eps_stands_inside_the_root():
    assert norm.layer_norm(np.array([[0.0, 2.0]]), eps=3.0)[0].tolist() == [[-0.5, 0.5]]
    assert norm.rms_norm(np.array([[1.0, -1.0]]), eps=3.0)[0].tolist() == [[0.5, -0.5]]
    assert norm.group_norm(np.array([[0.0, 2.0]]), 1, eps=3.0)[0].tolist() == [[-0.5, 0.5]]
    assert norm.instance_norm(np.array([[[0.0, 2.0]]]), eps=3.0)[0].tolist() == [[[-0.5, 0.5]]]


@pytest.mark.parametrize(("case", "statistics"), [
    (Case("layer_norm", (0, 3), row=(3,)), (0,)), (Case("layer_norm", (4, 0), row=(0,)), (4,)),
    (Case("rms_norm", (0, 3), row=(3,)), (0,)), (Case("layer_norm", (2, 0, 3), row=(0, 3)), (2,)),
    (Case("group_norm", (0, 4), groups=2), (0, 2)), (Case("group_norm", (0, 4, 5), groups=2), (0, 2)),
    (Case("group_norm", (3, 4, 0), groups=2), (3, 2)), (Case("group_norm", (0, 5, 4), groups=2, axis=-1), (0, 2)),
    (Case("group_norm", (3, 0), groups=2), (3, 2)), (Case("group_norm", (3, 0, 5), groups=2), (3, 2)),
    (Case("group_norm", (3, 5, 0), groups=1, axis=-1), (3, 1)), (Case("instance_norm", (3, 0, 5)), (3, 1)),
    (Case("instance_norm", (0, 4, 5)), (0, 4)), (Case("instance_norm", (3, 0, 4), axis=-1), (3, 4))], ids=repr)
def test_empty_arrays(case, statistics):
    x = np.zeros(case.shape, np.float32)
    y, saved = case.forward(x, np.ones(case.row), None)
    dx, dweight, dbias = case.call("_backward")(x, x, np.ones(case.row), saved)
    ry, rsaved = case.jvp(x, None, saved, x, None, None)
    rdx, _, _ = case.call("_backward_jvp")(x, x, None, saved, x, x, None, rsaved)
    assert y.shape == dx.shape == ry.shape == rdx.shape == case.shape
    assert saved.mean.shape == rsaved.mean.shape == statistics
    assert dweight.shape == case.row
    assert not dweight.any()
    assert dbias is None or not dbias.any()


def read_only(*shape):
    a = np.zeros(shape)
    a.flags.writeable = False
    return a


X = np.arange(24.0).reshape(2, 4, 3)
BAD_ARRAYS = [  # for every norm: what is wrong, arguments that replace the good ones, error, start of the message
    ("a list", {"x": [[1.0, 2.0]]}, TypeError, "x: expected a NumPy array"),
    ("integers", {"x": X.astype(np.int64)}, TypeError, "x: expected dtype"),
    ("byte order", {"x": X.astype(">f8")}, TypeError, "x: expected native"),
    ("strided", {"x": np.zeros((2, 4, 6))[:, :, ::2]}, ValueError, "x: expected a C-contiguous"),
    ("weight dtype", {"weight": "half"}, TypeError, "weight: expected dtype"),
    ("weight list", {"weight": [1.0]}, TypeError, "weight: expected a NumPy array"),
    ("weight shape", {"weight": np.ones(7)}, ValueError, "weight: expected shape"),
    ("eps", {"eps": -1e-5}, ValueError, "eps: expected a finite number"),
    ("eps nan", {"eps": float("nan")}, ValueError, "eps: expected a finite number"),
    ("eps infinite", {"eps": float("inf")}, ValueError, "eps: expected a finite number"),
    ("eps type", {"eps": "1e-5"}, TypeError, "eps: expected a real number"),
    ("out dtype", {"out": np.zeros((2, 4, 3), np.float32)}, TypeError, "out: expected the dtype of x"),
    ("out shape", {"out": np.zeros((4, 2, 3))}, ValueError, "out: expected the shape of x"),
    ("out is x", {"x": X, "out": X}, ValueError, "out: expected memory of its own"),
    ("out read-only", {"out": read_only(2, 4, 3)}, ValueError, "out: expected a writable"),
]
BAD_BIAS = [("bias shape", {"bias": np.ones((1, 1))}, ValueError, "bias: expected shape")]
BAD_OPTIONS = {
    "layer_norm": [("ndim", {"weight": None, "bias": None, "ndim": 4}, ValueError, "ndim: expected 1 to 3 dimensions"),
                   ("no dimension", {"weight": None, "bias": None, "ndim": 0}, ValueError, "ndim: expected at least 1"),
                   ("ndim type", {"ndim": 1.5}, TypeError, "ndim: expected an integer"),
                   ("two lengths", {"ndim": 2}, ValueError, "ndim: expected that of weight, 1, got 2"),
                   ("deep weight", {"weight": np.ones((1, 1, 1, 1))}, ValueError, "weight: expected 1 to 3 dim")],
    "rms_norm": [("ndim", {"weight": None, "ndim": 4}, ValueError, "ndim: expected 1 to 3 dimensions")],
    "group_norm": [("divisor", {"num_groups": 3}, ValueError, "num_groups: expected a divisor"),
                   ("no group", {"num_groups": 0}, ValueError, "num_groups: expected at least 1, got 0"),
                   ("groups type", {"num_groups": 2.0}, TypeError, "num_groups: expected an integer"),
                   ("axis", {"channel_axis": 0}, ValueError, "channel_axis: expected 1 or -1"),
                   ("one dimension", {"x": np.zeros(3)}, ValueError, "x: expected at least 2 dimensions"),
                   ("one value", {"x": np.zeros((2, 4)), "num_groups": 4}, ValueError,
                    "x: expected at least 2 values in each group, got 1")],
    "instance_norm": [("axis", {"channel_axis": 2}, ValueError, "channel_axis: expected 1 or -1"),
                      ("one value", {"x": np.zeros((2, 4, 1))}, ValueError, "x: expected at least 2 values")],
}
BAD = [(name, *row) for name, own in BAD_OPTIONS.items()
       for row in BAD_ARRAYS + own + (BAD_BIAS if name != "rms_norm" else [])]


@pytest.mark.parametrize(("name", "what", "wrong", "error", "message"), BAD, ids=lambda v: v if type(v) is str else "")
def test_a_bad_argument_is_named_and_nothing_is_changed(name, what, wrong, error, message):
    row = 3 if name in ("layer_norm", "rms_norm") else 4
    arguments = {"x": X.copy(), "weight": np.ones(row), "out": np.full((2, 4, 3), 7.0)}
    arguments |= {} if name == "rms_norm" else {"bias": np.zeros(row)}
    arguments |= {"num_groups": 2} if name == "group_norm" else {}
    wrong = {k: np.ones(row, np.float16) if isinstance(v, str) and v == "half" else v for k, v in wrong.items()}
    arguments |= wrong
    before = {k: v.copy() for k, v in arguments.items() if isinstance(v, np.ndarray)}
    with pytest.raises(error) as raised:
        getattr(norm, name)(**arguments)
    assert str(raised.value).startswith(message)
    for key, old in before.items():
        assert np.array_equal(arguments[key], old), key


@pytest.mark.parametrize("case", [Case("layer_norm", (2, 4, 3), row=(3,)), Case("rms_norm", (2, 4, 3), row=(3,)),
                                  Case("group_norm", (2, 4, 3), groups=2), Case("instance_norm", (2, 4, 3)),
                                  Case("group_norm", (2, 4), groups=2)], ids=repr)
def test_backward_and_r_operator_name_a_bad_argument(case):
    x = np.arange(float(np.prod(case.shape))).reshape(case.shape)
    _, saved = case.forward(x, None, None)
    _, other = case.forward(np.concatenate([x, x]), None, None)
    _, batch = norm.batch_norm(x, training=True)
    _, rms = norm.rms_norm(x) if case.name != "rms_norm" else norm.layer_norm(x)
    out = np.full(case.shape, 7.0)
    for change, error, message in (
        ({"dy": x.astype(np.float32)}, TypeError, "dy: expected the dtype of x"),
        ({"dy": x[:1]}, ValueError, "dy: expected the shape of x"),
        ({"x": x.tolist()}, TypeError, "x: expected a NumPy array"),
        ({"weight": np.ones(2)}, ValueError, "weight: expected shape"),
        ({"saved": other}, ValueError, "saved: expected that of this x"),
        ({"saved": (1, 2)}, TypeError, f"saved: expected a Statistics as {case.name}"),
        ({"saved": batch}, TypeError, f"saved: expected a Statistics as {case.name}"),
        ({"saved": rms}, ValueError, f"saved: expected what {case.name} returned"),
        ({"dy": out}, ValueError, "out: expected memory of its own"),
    ):
        arguments = {"dy": x.copy(), "x": x, "weight": None, "saved": saved} | change
        with pytest.raises(error) as raised:
            case.call("_backward")(**arguments, out=out)
        assert str(raised.value).startswith(message)
        assert np.all(out == 7)
    with pytest.raises(ValueError, match="rx: expected the shape of x"):
        case.jvp(x, None, saved, x[:1], None, None)
    with pytest.raises(ValueError, match="rweight: expected shape"):
        case.jvp(x, None, saved, x, np.ones(2), None)
    _, rsaved = case.jvp(x, None, saved, x, None, None)
    with pytest.raises(ValueError, match="rdy: expected the shape of x"):
        case.call("_backward_jvp")(x, x, None, saved, x[:1], x, None, rsaved)
    with pytest.raises(TypeError, match="rsaved: expected a Statistics"):
        case.call("_backward_jvp")(x, x, None, saved, x, x, None, None)
    with pytest.raises(ValueError, match="rsaved: expected that of this x"):
        case.call("_backward_jvp")(x, x, None, saved, x, x, None, other)
