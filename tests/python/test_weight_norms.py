"""Weight and spectral normalization against PyTorch in float64, derivatives of both by its autograd."""

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations

from optcore import norm

# Both sides round a few times in double; the reductions are over at most some hundred values.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def jvp(function, point, direction):
    point = tuple(torch.from_numpy(p).clone().requires_grad_() for p in point)
    expected, tangent = torch.autograd.functional.jvp(function, point, tuple(torch.from_numpy(d) for d in direction))
    return [t.detach().numpy() for t in (*expected, *tangent)]


@pytest.mark.parametrize(("shape", "dim"), [((5, 7), 0), ((5, 7), 1), ((5, 7), -1), ((4, 3, 2, 5), 0),
                                            ((4, 3, 2, 5), 1), ((4, 3, 2, 5), -2), ((6,), 0), ((5, 7), None)])
def test_weight_norm_and_its_derivatives_are_those_of_torch(shape, dim):
    rng = np.random.default_rng(12)
    v, dw, rv, rdw = rng.standard_normal((4, *shape))
    v += np.sign(v)  # no slice is nearly zero: its derivatives would be differences of huge numbers
    slices = 1 if dim is None else shape[dim]
    g, rg = rng.standard_normal((2, slices))
    each = [slices if dim is not None and i == dim % len(shape) else 1 for i in range(len(shape))]
    axes = tuple(i for i in range(len(shape)) if each[i] == 1 or shape[i] == 1) if dim is not None else None

    def run(v, g, dw):
        # Not torch._weight_norm: its second derivatives are wrong along the first and last dimension (2.13), where
        # slices of one element, whose w does not depend on |v|, show it.
        length = torch.sqrt((v * v).sum(axes, keepdim=True) if axes != () else v * v)
        w = g.reshape(each) * v / length
        return (w, *torch.autograd.grad(w, (v, g), dw, create_graph=True))

    expected = jvp(run, (v, g, dw), (rv, rg, rdw))
    if dim is not None:  # what PyTorch's parametrization computes
        leaves = torch.from_numpy(v).requires_grad_(), torch.from_numpy(g).reshape(each).requires_grad_()
        theirs = torch._weight_norm(*leaves, dim % len(shape))
        first = torch.autograd.grad(theirs, leaves, torch.from_numpy(dw))
        for a, b in zip((theirs.detach(), first[0], first[1].ravel()), expected[:3], strict=True):
            np.testing.assert_allclose(a.numpy(), b, **CLOSE)
    w, saved = norm.weight_norm(v, g, dim)
    rw, rsaved = norm.weight_norm_jvp(v, g, saved, rv, rg)
    ours = [w, *norm.weight_norm_backward(dw, v, g, saved), rw,
            *norm.weight_norm_backward_jvp(dw, v, g, saved, rdw, rv, rg, rsaved)]
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)
    np.testing.assert_allclose(saved.norm, np.sqrt((v * v).sum(axes)).reshape(-1), **CLOSE)


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e30), ("float32", 3e38 / 5), ("float32", 1e-38),
                                              ("float32", 1e-44), ("float64", 1e200), ("float64", 1e-200),
                                              ("float64", 1e307)])
def test_weight_norm_at_the_ends_of_the_range(dtype, scale):
    rng = np.random.default_rng(13)
    v = np.clip(rng.standard_normal((4, 60)), -4, 4)
    v[2] = rng.standard_normal(60) / scale if scale > 1 else v[2]  # slices of every size side by side
    v = (v * scale).astype(dtype)
    g = rng.standard_normal(4).astype(dtype)
    w, saved = norm.weight_norm(v, g)
    # The reference, with every slice at a scale of order 1, exact powers of 2 away.
    e = np.frexp(np.abs(v).max(1))[1][:, None]
    unit = np.ldexp(v.astype(np.float64), -e)
    direction = unit / np.sqrt((unit * unit).sum(1, keepdims=True))
    eps = np.finfo(dtype).eps
    # The factor g/|v| and the product: two roundings; in float64 the reference's own, a sum of 60, as well.
    close = {"rtol": 2 * eps if dtype == "float32" else 20 * eps}
    np.testing.assert_allclose(w, g[:, None].astype(np.float64) * direction, **close)
    dw = rng.standard_normal(v.shape).astype(dtype)
    dv, dg = norm.weight_norm_backward(dw, v, g, saved)
    np.testing.assert_allclose(dg, (dw * direction).sum(1), rtol=1e3 * eps, atol=10 * eps)
    if scale > 1:  # for tiny weights the gradient of v overflows by itself
        exact = dw - direction * (dw * direction).sum(1, keepdims=True)
        length = np.sqrt((unit * unit).sum(1, keepdims=True))
        # Differences of numbers of order 1; a subnormal result has its unit in the last place.
        np.testing.assert_allclose(np.ldexp(dv.astype(np.float64), e), g[:, None] * exact / length,
                                   rtol=20 * eps, atol=20 * eps + np.ldexp(float(np.finfo(dtype).smallest_subnormal),
                                                                           int(e.max())))


def test_weight_norm_names_a_bad_argument():
    v, g = np.ones((2, 3)), np.ones(2)
    _, saved = norm.weight_norm(v, g)
    for call, error, message in (
        (lambda: norm.weight_norm([1.0], g), TypeError, "v: expected a NumPy array"),
        (lambda: norm.weight_norm(v.astype(int), g), TypeError, "v: expected dtype float32 or float64"),
        (lambda: norm.weight_norm(v.T, g), ValueError, "v: expected a C-contiguous array"),
        (lambda: norm.weight_norm(v, np.ones(3)), ValueError, "g: expected shape (2,)"),
        (lambda: norm.weight_norm(v, None), TypeError, "g: expected an array"),
        (lambda: norm.weight_norm(v, g, 2), ValueError, "dim: expected None or a dimension of v"),
        (lambda: norm.weight_norm(v, g, 0.0), TypeError, "dim: expected an integer"),
        (lambda: norm.weight_norm_backward(v[:1], v, g, saved), ValueError, "dw: expected the shape of v"),
        (lambda: norm.weight_norm_backward(v, v, g, 3), TypeError, "saved: expected a WeightNormSaved"),
        (lambda: norm.weight_norm_backward("v", v, g, saved), TypeError, "dw: expected a NumPy array"),
        (lambda: norm.weight_norm_backward(np.ones((3, 3)), np.ones((3, 3)), np.ones(3), saved), ValueError,
         "saved: expected that of this v"),
        (lambda: norm.weight_norm_jvp(np.ones((2, 4)), g, saved, np.ones((2, 4)), g), ValueError,
         "saved: expected that of this v"),
        (lambda: norm.weight_norm_backward(v.astype("f4"), v.astype("f4"), g, saved), ValueError,
         "saved: expected that of this v"),
        (lambda: norm.weight_norm_backward_jvp(v, v, g, saved, v, v, None, norm.weight_norm(v[:1], g[:1])[1]),
         ValueError, "rsaved: expected that of this v"),
        (lambda: norm.weight_norm_jvp(v, g, saved, v, np.ones(3)), ValueError, "rg: expected shape (2,)"),
        (lambda: norm.weight_norm_backward_jvp(v, v, g, saved, v, v, None, None), TypeError, "rsaved: expected"),
        (lambda: norm.weight_norm_backward_jvp(v, v, g, saved, v[:1], v, None, saved), ValueError,
         "rdw: expected the shape of v"),
    ):
        with pytest.raises(error) as raised:
            call()
        assert str(raised.value).startswith(message)


def state(rng, rows, columns, dtype=np.float64):
    u, v = rng.standard_normal(rows), rng.standard_normal(columns)
    return (u / np.linalg.norm(u)).astype(dtype), (v / np.linalg.norm(v)).astype(dtype)


@pytest.mark.parametrize("shape", [(5, 7), (8, 3), (4, 3, 2, 5), (1, 6)])
@pytest.mark.parametrize("iterations", [1, 3])
def test_spectral_norm_and_its_state_are_those_of_torch(shape, iterations):
    rng = np.random.default_rng(14)
    weight, dw = rng.standard_normal((2, *shape))
    layer = torch.nn.Linear(*shape[::-1], bias=False).double() if len(shape) == 2 else (
        torch.nn.Conv2d(shape[1], shape[0], shape[2:], bias=False).double())
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
    parametrizations.spectral_norm(layer, n_power_iterations=iterations)
    theirs = layer.parametrizations.weight[0]
    u, v = theirs._u.numpy().copy(), theirs._v.numpy().copy()
    for training in (True, True, False):
        layer.train(training)
        leaf = layer.parametrizations.weight.original
        expected = layer.weight
        gradient, = torch.autograd.grad(expected, leaf, torch.from_numpy(dw))
        w, saved = norm.spectral_norm(weight, u, v, n_power_iterations=iterations, training=training)
        np.testing.assert_allclose(w, expected.detach().numpy(), **CLOSE)
        np.testing.assert_allclose(u, theirs._u.numpy(), **CLOSE)
        np.testing.assert_allclose(v, theirs._v.numpy(), **CLOSE)
        np.testing.assert_allclose(norm.spectral_norm_backward(dw, weight, saved), gradient.numpy(), **CLOSE)


def test_spectral_norm_r_operators():
    rng = np.random.default_rng(15)
    weight, dw, rweight, rdw = rng.standard_normal((4, 6, 9))
    u, v = state(rng, 6, 9)

    def run(weight, dw):
        w = weight / (torch.from_numpy(u) @ weight @ torch.from_numpy(v))
        return (w, *torch.autograd.grad(w, weight, dw, create_graph=True))

    w, saved = norm.spectral_norm(weight, u, v, training=False)
    rw, rsaved = norm.spectral_norm_jvp(weight, saved, rweight)
    ours = [w, norm.spectral_norm_backward(dw, weight, saved), rw,
            norm.spectral_norm_backward_jvp(dw, weight, saved, rdw, rweight, rsaved)]
    for a, b in zip(ours, jvp(run, (weight, dw), (rweight, rdw)), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


def test_spectral_norm_finds_the_largest_singular_value():
    rng = np.random.default_rng(16)
    a, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    b, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    weight = np.ascontiguousarray(a[:, :20] * np.linspace(7, 1, 20) @ b)
    u, v = state(rng, 30, 20)
    w, saved = norm.spectral_norm(weight, u, v, n_power_iterations=300, training=True)
    # The ratio of the two largest is 0.955: after 300 steps 0.955^600 = 1e-12 of the error is left.
    assert saved.sigma == pytest.approx(7, rel=1e-11)
    assert np.linalg.norm(w, 2) == pytest.approx(1, rel=1e-11)


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e30), ("float32", 1e38), ("float64", 1e200),
                                              ("float64", 1e-200)])
def test_spectral_norm_at_the_ends_of_the_range(dtype, scale):
    rng = np.random.default_rng(17)
    z = np.clip(rng.standard_normal((6, 50)), -3, 3).astype(dtype)
    weight = z * np.asarray(scale, dtype)
    dw = rng.standard_normal(z.shape).astype(dtype)
    found = []
    for a in (z, weight):
        u, v = state(np.random.default_rng(18), 6, 50, dtype)
        w, saved = norm.spectral_norm(a, u, v, n_power_iterations=5, eps=0.0, training=True)
        dweight = norm.spectral_norm_backward(dw, a, saved)
        found.append((w, u, v, saved.sigma / float(a[0, 0]), dweight * float(a[0, 0])))
    # A common factor changes nothing but roundings: sums of 50 in the dtype, five iterations.
    for one, other in zip(*found, strict=True):
        assert np.all(np.isfinite(other))
        np.testing.assert_allclose(other, one, rtol=1e4 * np.finfo(dtype).eps, atol=1e2 * np.finfo(dtype).eps)


def test_a_zero_weight_gives_nan_as_in_torch():
    u, v = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    w, saved = norm.spectral_norm(np.zeros((2, 2)), u, v, training=True)
    assert np.isnan(w).all()
    assert saved.sigma == 0
    assert not u.any()
    assert np.isnan(norm.spectral_norm_backward(np.ones((2, 2)), np.zeros((2, 2)), saved)).any()
    w, _ = norm.weight_norm(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([1.0, 5.0]))
    assert np.isnan(w[0]).all()
    assert w[1].tolist() == [3, 4]


def test_spectral_norm_names_a_bad_argument_and_changes_nothing():
    rng = np.random.default_rng(19)
    weight = rng.standard_normal((2, 3))
    u, v = state(rng, 2, 3)
    frozen = u.copy()
    frozen.flags.writeable = False
    room = rng.standard_normal(5)
    for change, error, message in (
        ({"weight": weight[0]}, ValueError, "weight: expected at least 2 dimensions"),
        ({"weight": np.zeros((2, 0))}, ValueError, "weight: expected at least one element"),
        ({"weight": weight.astype(">f8")}, TypeError, "weight: expected native byte order"),
        ({"weight": weight.astype(ml_dtypes.bfloat16)}, TypeError,
         "weight: expected dtype float32 or float64, got bfloat16"),
        ({"u": np.ma.masked_array(u)}, TypeError, "u: expected a NumPy array, got MaskedArray"),
        ({"weight": weight.T.copy().T}, ValueError, "weight: expected a C-contiguous array"),
        ({"u": v}, ValueError, "u: expected shape (2,)"),
        ({"v": [1.0]}, TypeError, "v: expected a NumPy array"),
        ({"v": v.astype(np.float32)}, TypeError, "v: expected the dtype of weight"),
        ({"u": frozen}, ValueError, "u: expected a writable array"),
        ({"u": room[:2], "v": room[1:4]}, ValueError, "v: expected memory of its own, got an array that overlaps u"),
        ({"u": weight.ravel()[:2]}, ValueError, "u: expected memory of its own, got an array that overlaps weight"),
        ({"n_power_iterations": 0}, ValueError, "n_power_iterations: expected at least 1"),
        ({"n_power_iterations": 1.0}, TypeError, "n_power_iterations: expected an integer"),
        ({"eps": -1.0}, ValueError, "eps: expected a number in [0, inf)"),
        ({"eps": None}, TypeError, "eps: expected a number, got None"),
        ({"training": 1}, TypeError, "training: expected True or False"),
    ):
        arguments = {"weight": weight, "u": u, "v": v, "n_power_iterations": 1, "eps": 1e-12, "training": True} | change
        before = {k: a.copy() for k, a in arguments.items() if isinstance(a, np.ndarray)}
        with pytest.raises(error) as raised:
            norm.spectral_norm(**arguments)
        assert str(raised.value).startswith(message)
        for name, a in before.items():
            assert np.array_equal(arguments[name], a), name
    _, saved = norm.spectral_norm(weight, frozen, v, training=False)  # evaluation writes nothing
    for call, error, message in (
        (lambda: norm.spectral_norm_backward(weight[:1], weight, saved), ValueError, "dw: expected shape (2, 3)"),
        (lambda: norm.spectral_norm_backward(weight, weight, 1), TypeError, "saved: expected a SpectralNormSaved"),
        (lambda: norm.spectral_norm_backward(weight, weight.reshape(3, 2), saved), ValueError, "saved: expected that"),
        (lambda: norm.spectral_norm_jvp(weight, saved, None), TypeError, "rweight: expected a NumPy array"),
        (lambda: norm.spectral_norm_backward_jvp(weight, weight, saved, weight, weight, None), TypeError, "rsaved: "),
    ):
        with pytest.raises(error) as raised:
            call()
        assert str(raised.value).startswith(message)
