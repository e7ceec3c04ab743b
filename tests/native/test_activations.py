"""Activations: their error in ulp against mpmath and longdouble, special values, derivatives, in place, errors."""

import mpmath
import numpy as np
import pytest
import torch

from optcore import functional as F
from optcore._native.functional import DERIVATIVE_OF, activation, activation_backward, activation_second

OF_Y = ("relu", "elu", "sigmoid", "tanh")
OF_X = ("gelu", "gelu_tanh", "silu")
NAMES = (*OF_Y, *OF_X)
ALPHA = 0.7
BACKWARD = {"relu": F.relu_backward, "elu": F.elu_backward, "sigmoid": F.sigmoid_backward, "tanh": F.tanh_backward,
            "gelu": F.gelu_backward, "gelu_tanh": lambda dy, x: F.gelu_backward(dy, x, "tanh"), "silu": F.silu_backward}


def source(name, x):
    """What the derivatives are taken from."""
    return x if name in OF_X else activation(name, x, ALPHA)


def cubic(x):
    return mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)


REAL = {"gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        "gelu_tanh": lambda x: x / (1 + mpmath.exp(-cubic(x))), "silu": lambda x: x / (1 + mpmath.exp(-x))}


def ulps(got, want, dtype):
    """Distance in units of the last place of the true value, which is at least the smallest subnormal."""
    want = np.asarray(want, np.longdouble)
    unit = np.spacing(np.abs(want).astype(dtype)).astype(np.longdouble)
    return np.max(np.abs(got.astype(np.longdouble) - want) / unit)


def exact(name, x):
    """The function in 80-bit arithmetic, whose 11 spare bits do not show in a float64 ulp."""
    x = np.asarray(x, np.longdouble)
    low = -np.abs(x)
    e = np.exp(low)
    return {"relu": lambda: np.maximum(x, 0), "elu": lambda: np.where(x > 0, x, np.expm1(low)),
            "sigmoid": lambda: np.where(x < 0, e, 1) / (1 + e), "tanh": lambda: np.tanh(x)}[name]()


def points(dtype):
    """Every binade on both sides, densely where the functions bend and where their results turn subnormal."""
    rng = np.random.default_rng(3)
    info = np.finfo(dtype)
    binades = 2.0 ** rng.uniform(info.minexp - info.nmant, 10, 40_000)
    deep = -info.minexp * np.log(2)
    x = np.concatenate([binades, rng.uniform(0, 5, 40_000), rng.uniform(0, 50, 40_000),
                        rng.uniform(0.9, 1.1, 40_000) * deep,
                        rng.integers(0, 1 << 12, 2000) * float(info.smallest_subnormal)])
    x = x.astype(dtype)
    return np.concatenate([x, -x])


# Every float32 from 2^-24 to 128 on both sides, and every 1009th of the others, was tried once, against libm in double:
# ELU 0.99, sigmoid 1.75, tanh 1.82.
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2.0), ("float64", 4.0)])
@pytest.mark.parametrize("name", OF_Y)
def test_error_in_ulp(name, dtype, bound):
    x = points(dtype)
    assert ulps(getattr(F, name)(x), exact(name, x), dtype) <= bound


@pytest.mark.parametrize("name", ["elu", "sigmoid", "tanh"])
def test_the_yardstick_against_mpmath(name):
    f = {"elu": lambda x: x if x > 0 else mpmath.expm1(x), "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
         "tanh": mpmath.tanh}[name]
    x = points("float64")[::400].copy()
    with mpmath.workprec(200):
        want = [f(mpmath.mpf(float(a))) for a in x]
        error = max(abs(mpmath.mpf(float(y)) - w) / mpmath.mpf(float(np.spacing(abs(float(w)))))
                    for y, w in zip(getattr(F, name)(x), want, strict=True))
    assert error <= 4


def true_values(f, x):
    """f at every x, and one unit in the last place of it, at least the smallest subnormal: (mpf, mpf) each."""
    with mpmath.workprec(200):
        for a in x:
            value = f(mpmath.mpf(float(a)))
            yield value, mpmath.mpf(float(np.spacing(abs(x.dtype.type(float(value))))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OF_X)
def test_error_in_ulp_down_to_the_last_subnormal(name, dtype):
    rng = np.random.default_rng(4)
    far = rng.uniform(-15, 3, 500) if dtype == "float32" else rng.uniform(-40, 3, 500)
    x = np.concatenate([points(dtype)[::400], far, 8 * far]).astype(dtype)
    for a, y, (want, unit) in zip(x, activation(name, x), true_values(REAL[name], x), strict=True):
        # Largest seen: SiLU 2.45, of every float32; GELU 6.91 (float32; of every third below 0 15 in 39 million are
        # beyond 6) and 5.5 (float64), where one unit may be half of an eps; the tanh form 4.3, and far below 0 the
        # rounding of the cubic v, of which e^v takes |v| ulp.
        bound = 7 if name != "gelu_tanh" else 7 + 2 * min(0, float(a)) ** 2 * (1.6 + 0.08 * abs(float(a)))
        assert abs(mpmath.mpf(float(y)) - want) <= bound * unit, a


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OF_X)
def test_derivatives_from_x(name, dtype):
    x = np.random.default_rng(5).uniform(-9, 9, 150).astype(dtype)
    one, zero = np.ones_like(x), np.zeros_like(x)
    first, second = activation_backward(name, one, x), activation_second(name, one, zero, x, one)
    for i, a in enumerate(x):
        with mpmath.workprec(200):
            wanted = [float(mpmath.diff(REAL[name], mpmath.mpf(float(a)), k)) for k in (1, 2)]
        # Both are of order one and cross zero: a few roundings of one.
        np.testing.assert_allclose([first[i], second[i]], wanted, rtol=0, atol=3 * np.finfo(dtype).eps)


def test_which_derivatives_are_of_y():
    assert {name: DERIVATIVE_OF[name] for name in NAMES} == DERIVATIVE_OF
    assert {name for name in NAMES if DERIVATIVE_OF[name] == "x"} == set(OF_X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OF_X)
def test_limits(name, dtype):
    x = np.array([-np.inf, -1e30, 0, 1e30, np.inf, np.nan], dtype)
    one, zero = np.ones_like(x), np.zeros_like(x)
    np.testing.assert_array_equal(activation(name, x), np.where(x <= 0, 0, x))
    least = np.finfo(dtype).smallest_subnormal      # the tanh form's slope keeps one
    slope = activation_backward(name, one, x)
    np.testing.assert_allclose(slope, np.array([0, 0, 0.5, 1, 1, np.nan], dtype), rtol=0, atol=least)
    second = activation_second(name, one, zero, x, one)
    assert (abs(second[[0, 1, 3, 4]]) <= 100 * least).all()
    assert np.isnan(second[5])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype):
    x = np.array([-np.inf, -0.0, 0.0, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(F.relu(x), np.array([0, 0, 0, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(F.elu(x, ALPHA), np.array([-ALPHA, 0, 0, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(F.sigmoid(x), np.array([0, 0.5, 0.5, 1, np.nan], dtype))
    np.testing.assert_array_equal(F.tanh(x), np.array([-1, 0, 0, 1, np.nan], dtype))
    assert list(np.signbit(F.tanh(x[1:3]))) == [True, False]


@pytest.mark.parametrize("name", NAMES)
def test_backward_against_pytorch(name):
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, 37, 11)) * 3
    t = torch.tensor(x, requires_grad=True)
    peers = torch.nn.functional
    y = {"elu": lambda: peers.elu(t, ALPHA), "gelu": lambda: peers.gelu(t), "silu": lambda: peers.silu(t),
         "gelu_tanh": lambda: peers.gelu(t, approximate="tanh")}.get(name, lambda: getattr(torch, name)(t))()
    np.testing.assert_allclose(activation(name, x, ALPHA), y.detach(), rtol=1e-12, atol=1e-15)
    y.backward(torch.tensor(dy))
    got = BACKWARD[name](dy, source(name, x), *([ALPHA] if name == "elu" else []))
    # From the output, 1 - y and y + alpha have lost what is below one ulp of 1; in PyTorch 1 + tanh has, times tens.
    np.testing.assert_allclose(got, t.grad.numpy(), rtol=1e-12, atol=1e-13 if name == "gelu_tanh" else 1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_r_operator_of_backward(name):
    """d/de of f'(x + e rx) (dy + e rdy), by central differences."""
    rng = np.random.default_rng(6)
    x, dy, rdy, rx = rng.standard_normal((4, 200))
    x += np.sign(x) * 0.01  # off the kink

    def backward(e):
        return activation_backward(name, dy + e * rdy, source(name, x + e * rx), ALPHA)

    h = 1e-5
    difference = (backward(h) - backward(-h)) / (2 * h)
    got = activation_second(name, dy, rdy, source(name, x), rx, ALPHA)
    # The difference quotient is off by h^2 f''''/6 + eps/h, each about 1e-11.
    np.testing.assert_allclose(got, difference, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_in_place_is_the_same(name, dtype):
    rng = np.random.default_rng(7)
    x, dy, rdy, rx = rng.standard_normal((4, 20_001)).astype(dtype)
    y = activation(name, x, ALPHA)
    a = x.copy()
    assert activation(name, a, ALPHA, a) is a
    np.testing.assert_array_equal(a, y)
    dx = activation_backward(name, dy, y, ALPHA)
    for i in range(2):
        inputs = [dy.copy(), y.copy()]
        np.testing.assert_array_equal(activation_backward(name, *inputs, ALPHA, inputs[i]), dx)
    rdx = activation_second(name, dy, rdy, y, rx, ALPHA)
    for i in range(4):
        inputs = [a.copy() for a in (dy, rdy, y, rx)]
        np.testing.assert_array_equal(activation_second(name, *inputs, ALPHA, inputs[i]), rdx)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3, 4, 5)])
@pytest.mark.parametrize("name", NAMES)
def test_any_shape(name, shape):
    x = np.full(shape, 0.5)
    y = activation(name, x)
    assert y.shape == shape
    assert activation_backward(name, x, y).shape == shape


def test_errors_change_nothing():
    x, out = np.ones(8, "f4"), np.full(8, 9.0, "f4")
    frozen = out.copy()
    frozen.flags.writeable = False
    for call, error, message in [
        (lambda: F.relu([1.0]), TypeError, "x: expected a NumPy array, got list"),
        (lambda: F.relu(x.astype("f2")), TypeError, "x: expected dtype float32 or float64, got float16"),
        (lambda: F.relu(x.astype(">f4")), TypeError, "x: expected native byte order"),
        (lambda: F.relu(x[::2]), ValueError, "x: expected a C-contiguous array"),
        (lambda: F.relu(x, np.ones(8)), TypeError, "out: expected the dtype of x, float32, got float64"),
        (lambda: F.relu(x, out[:4]), ValueError, r"out: expected the shape of x, \(8,\), got \(4,\)"),
        (lambda: F.relu(x, frozen), ValueError, "out: expected a writable array"),
        (lambda: F.relu(out[:4], out[2:6]), ValueError, "out: expected x itself or memory of its own"),
        (lambda: F.elu(x, -1.0, out), ValueError, r"alpha: expected a number in \[0, inf\), got -1"),
        (lambda: F.elu(x, "a", out), TypeError, "alpha: expected a number, got 'a'"),
        (lambda: F.elu(x, None, out), TypeError, "alpha: expected a number, got None"),
        (lambda: F.elu(x, x, out), TypeError, "alpha: expected a number, got array"),
        (lambda: F.elu_backward(x, x, "a", out), TypeError, "alpha: expected a number, got 'a'"),
        (lambda: F.elu(x, np.nan, out), ValueError, r"alpha: expected a number in \[0, inf\), got nan"),
        (lambda: F.tanh_backward(x[:4], x, out), ValueError, "dy: expected the shape of y"),
        (lambda: F.tanh_backward(x.astype("f8"), x, out), TypeError, "dy: expected the dtype of y"),
        (lambda: F.tanh_backward(out[:4], x[:4], out[1:5]), ValueError, "out: expected dy itself or memory of its own"),
        (lambda: activation("mish", x, out=out), ValueError, "name: expected one of relu, .*, silu, got 'mish'"),
        (lambda: F.gelu(x, "erf", out), ValueError, "approximate: expected one of 'none', 'tanh', got 'erf'"),
        (lambda: F.gelu_backward(x, x, None, out), ValueError, "approximate: expected one of 'none', 'tanh', got None"),
        (lambda: F.gelu_backward(x[:4], x, out=out), ValueError, "dy: expected the shape of x"),
        (lambda: F.silu_backward(x, x.astype("f8"), out=out), TypeError, "dy: expected the dtype of x"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert (out == 9).all()
