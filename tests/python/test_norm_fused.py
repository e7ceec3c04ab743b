"""Batch norm with a residual and a ReLU in the same pass; the options of the running statistics."""

import numpy as np
import pytest
import torch

from optcore import functional, norm

# Both sides round a few times in double; the reductions are over at most some hundred values.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
SHAPES = [((8, 5), 1), ((6, 3, 7), 1), ((4, 3, 5, 2), 1), ((9, 4), -1), ((2, 3, 4, 5), -1), ((40, 130), 1)]
FUSED = [("relu", False), ("relu", True), (None, True)]


def second(a, axis):
    """The tensor with channels second, as torch has them."""
    t = torch.from_numpy(a)
    return t if axis == 1 else t.movedim(-1, 1)


def problem(shape, axis, seed=4):
    rng = np.random.default_rng(seed)
    x, dy, residual, rx, rdy, rresidual = rng.standard_normal((6, *shape))
    w, b, rw, rb, mean = rng.standard_normal((5, shape[axis]))
    return x, dy, residual, w, b, mean, rng.uniform(0.5, 2, shape[axis]), (rx, rw, rb, rresidual, rdy)


def composed(axis, training, mean, var, activation, with_residual):
    """(y, dx, dweight, dbias, dresidual) by torch's operators, as a function of (x, w, b, residual, dy)."""
    def run(x, w, b, residual, dy):
        y = torch.nn.functional.batch_norm(x, torch.from_numpy(mean.copy()), torch.from_numpy(var.copy()), w, b,
                                           training, 0.1, 1e-5)
        y = y + residual if with_residual else y + 0 * residual
        y = torch.relu(y) if activation else y
        return (y, *torch.autograd.grad(y, (x, w, b, residual), dy, create_graph=True))
    return run


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(("activation", "with_residual"), FUSED)
@pytest.mark.parametrize("training", [True, False])
def test_all_passes_are_those_of_torchs_operators(shape, axis, activation, with_residual, training):
    x, dy, residual, w, b, mean, var, (rx, rw, rb, rresidual, rdy) = problem(shape, axis)
    if not with_residual:
        rresidual = np.zeros_like(rresidual)
    point = (second(x, axis), torch.from_numpy(w), torch.from_numpy(b), second(residual, axis), second(dy, axis))
    direction = (second(rx, axis), torch.from_numpy(rw), torch.from_numpy(rb), second(rresidual, axis),
                 second(rdy, axis))
    expected, tangent = torch.autograd.functional.jvp(
        composed(axis, training, mean, var, activation, with_residual),
        tuple(p.clone().requires_grad_() for p in point), direction)

    def same(ours, theirs):
        if ours.ndim > 1 and axis == -1:
            theirs = theirs.movedim(1, -1)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), **CLOSE)

    evaluation = {} if training else {"running_mean": mean, "running_var": var, "channel_axis": axis}
    fused = {"residual": residual if with_residual else None, "activation": activation}
    y, saved = norm.batch_norm(x, w, b, mean.copy(), var.copy(), training=training, channel_axis=axis, **fused)
    output = y if activation else None
    dresidual = np.full_like(x, np.nan) if activation and with_residual else None
    gradients = norm.batch_norm_backward(dy, x, w, saved, y=output, dresidual=dresidual, **evaluation)
    ry, rsaved = norm.batch_norm_jvp(x, w, saved, rx, rw, rb, y=output, rresidual=rresidual, **evaluation)
    rgradients = norm.batch_norm_backward_jvp(dy, x, w, saved, rdy, rx, rw, rsaved, y=output, **evaluation)
    same(y, expected[0])
    same(ry, tangent[0])
    for ours, rours, theirs, rtheirs in zip(gradients, rgradients, expected[1:4], tangent[1:4], strict=True):
        same(ours, theirs)
        same(rours, rtheirs)
    if dresidual is not None:
        same(dresidual, expected[4])
    without = norm.batch_norm_backward(dy, x, w, saved, y=output, **evaluation)
    for a, b in zip(gradients, without, strict=True):  # whether dresidual is wanted changes no bit
        assert np.array_equal(a, b)
    if training and activation and not with_residual:  # x says what y would
        again = [*norm.batch_norm_backward(dy, x, w, saved), norm.batch_norm_jvp(x, w, saved, rx, rw, rb)[0],
                 *norm.batch_norm_backward_jvp(dy, x, w, saved, rdy, rx, rw, rsaved)]
        for a, b in zip(again, [*gradients, ry, *rgradients], strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), [((5001, 3), 1), ((700, 130), 1), ((64, 1100), 1), ((9, 4, 31, 33), 1),
                                             ((2, 3, 20001), 1), ((60_000, 48), -1)])
@pytest.mark.parametrize("training", [True, False])
def test_fused_bits_are_those_of_the_passes_one_by_one(dtype, shape, axis, training):
    """Batch norm, the sum and ReLU are tested by themselves; the last shape goes past the caches."""
    rng = np.random.default_rng(5)
    x, dy, residual = rng.standard_normal((3, *shape)).astype(dtype)
    w, b, mean = rng.standard_normal((3, shape[axis]))
    running = {"running_mean": mean, "running_var": np.ones_like(mean), "channel_axis": axis}
    kept = {} if training else running
    options = {"training": training, "momentum": 0.0, **running}
    plain, saved = norm.batch_norm(x, w, b, **options)
    rectified, saved_relu = norm.batch_norm(x, w, b, activation="relu", **options)
    assert np.array_equal(rectified, functional.relu(plain))
    added, _ = norm.batch_norm(x, w, b, residual=residual, **options)
    assert np.array_equal(added, plain + residual)
    y, saved_both = norm.batch_norm(x, w, b, residual=residual, activation="relu", **options)
    assert np.array_equal(y, functional.relu(plain + residual))
    for output, forward in ((rectified, saved_relu), (y, saved_both)):
        passed = functional.relu_backward(dy, output)
        one_by_one = norm.batch_norm_backward(passed, x, w, saved, **kept)
        dresidual = np.empty_like(x)
        for extra in ({}, {"dresidual": dresidual}):
            fused = norm.batch_norm_backward(dy, x, w, forward, y=output, **extra, **kept)
            for a, b_ in zip(fused, one_by_one, strict=True):
                assert np.array_equal(a, b_)
        if training and output is rectified:
            for a, b_ in zip(norm.batch_norm_backward(dy, x, w, forward), one_by_one, strict=True):
                assert np.array_equal(a, b_)
        assert np.array_equal(dresidual, passed)


def test_nan_passes_and_huge_values_stay():
    x = np.array([[1e30, 1.0], [-1e30, np.nan], [2e30, 3.0]], np.float32)
    y, saved = norm.batch_norm(x, training=True, eps=0.0, activation="relu")
    z = np.array([1.0, -1.0, 2.0])
    x_hat = (z - z.mean()) / z.std()
    # Four roundings of float32, as in the unfused form.
    np.testing.assert_allclose(y[:, 0], np.maximum(x_hat, 0), rtol=4 * 2.0**-24)
    assert np.isnan(y[:, 1]).all()
    for output in (None, y):
        dx, _, _ = norm.batch_norm_backward(np.ones_like(x), x, None, saved, y=output)
        assert np.isfinite(dx[:, 0]).all()
        assert np.isnan(dx[:, 1]).all()


def test_running_statistics_in_the_forms_of_other_libraries():
    x = np.array([[1.0], [3.0]])  # mean 2, variance 1, unbiased 2
    for options, expected in (({}, (9.2, 5.6)), ({"unbiased": False}, (9.2, 5.5)),
                              ({"momentum_on": "old"}, (2.8, 2.4)),
                              ({"momentum_on": "old", "unbiased": False}, (2.8, 1.5))):
        mean, var = np.array([10.0]), np.array([6.0])
        norm.batch_norm(x, None, None, mean, var, training=True, momentum=0.1, **options)
        assert (mean[0], var[0]) == pytest.approx(expected, rel=1e-15), options
    for momentum_on in ("new", "old"):  # the cumulative average has no momentum to weigh
        mean, seen = np.array([10.0]), np.array([1])
        norm.batch_norm(x, None, None, mean, training=True, momentum=None, num_batches=seen, momentum_on=momentum_on)
        assert mean[0] == 6.0


def test_a_bad_argument_is_named_and_nothing_is_changed():
    x = np.arange(12.0).reshape(4, 3)
    for change, error, message in (
        ({"residual": x.astype(np.float32)}, TypeError, "residual: expected the dtype of x"),
        ({"residual": x[:3]}, ValueError, "residual: expected the shape of x"),
        ({"residual": "y"}, TypeError, "residual: expected a NumPy array"),
        ({"activation": "elu"}, ValueError, "activation: expected None or 'relu', got 'elu'"),
        ({"unbiased": 1}, TypeError, "unbiased: expected True or False, got 1"),
        ({"momentum_on": "mean"}, ValueError, "momentum_on: expected 'new' or 'old', got 'mean'"),
    ):
        mean, var, out = np.zeros(3), np.ones(3), np.full((4, 3), 7.0)
        with pytest.raises(error) as raised:
            norm.batch_norm(x, None, None, mean, var, training=True, out=out, **change)
        assert str(raised.value).startswith(message)
        assert not mean.any()
        assert np.all(var == 1)
        assert np.all(out == 7)
    out = np.full((4, 3), 7.0)
    with pytest.raises(ValueError, match="out: expected memory of its own, got an array that overlaps residual"):
        norm.batch_norm(x, training=True, out=out, residual=out)
    y, saved = norm.batch_norm(x, training=True, activation="relu", residual=x)
    _, plain = norm.batch_norm(x, training=True)
    for change, error, message in (
        ({"y": None}, ValueError, "y: expected the output of the forward pass, which had a residual"),
        ({"saved": plain}, ValueError, "y: expected None, the forward pass had no activation, got ndarray"),
        ({"y": y[:2]}, ValueError, "y: expected the shape of x"),
        ({"dresidual": x[:2]}, ValueError, "dresidual: expected the shape of x"),
        ({"dresidual": x}, ValueError, "dresidual: expected memory of its own, got an array that overlaps x"),
        ({"dresidual": y}, ValueError, "dresidual: expected memory of its own, got an array that overlaps y"),
        ({"dresidual": out}, ValueError, "out: expected memory of its own, got an array that overlaps dresidual"),
        ({"saved": plain, "y": None, "dresidual": out.copy()}, ValueError, "dresidual: expected y with it"),
    ):
        before = x.copy(), y.copy()
        with pytest.raises(error) as raised:
            norm.batch_norm_backward(**({"dy": x.copy(), "x": x, "weight": None, "saved": saved, "y": y} | change),
                                     out=out)
        assert str(raised.value).startswith(message)
        assert np.all(out == 7)
        assert np.array_equal(x, before[0])
        assert np.array_equal(y, before[1])
    with pytest.raises(ValueError, match="rresidual: expected the shape of x"):
        norm.batch_norm_jvp(x, None, plain, x, None, None, rresidual=x[:2])
    with pytest.raises(ValueError, match="y: expected the output"):
        norm.batch_norm_jvp(x, None, saved, x, None, None)
    _, rsaved = norm.batch_norm_jvp(x, None, saved, x, None, None, y=y)
    with pytest.raises(ValueError, match="y: expected the output"):
        norm.batch_norm_backward_jvp(x, x, None, saved, x, x, None, rsaved)
