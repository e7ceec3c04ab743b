"""What a caller gets wrong without noticing: NaN in the buffers, what was saved of another pass, arrays with a mask."""

import numpy as np
import pytest

from optcore import norm

X = np.random.default_rng(0).standard_normal((6, 4))
W = np.arange(1.0, 5)


def raises(error, message, call):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(message), raised.value


@pytest.mark.parametrize(("mean", "var"), [(0.0, np.nan), (0.0, -1.0), (np.nan, 1.0)])
def test_batch_renorm_does_not_hide_nan(mean, var):
    buffers = np.full(4, [mean, 0, 0, 0]), np.full(4, [var, 1, 1, 1])
    y, saved = norm.batch_renorm(X, None, None, *buffers, training=True)
    assert np.isnan(saved.d[0])
    assert np.isnan(saved.r[0]) == (not var > 0)
    assert np.all(np.isnan(y[:, 0]))
    assert np.all(np.isfinite(y[:, 1:]))


# ------------------------------------------------------------------------------------- what was saved of another pass
def derivatives(name, saved, rsaved, x, dy=None):
    """The three passes behind a forward pass, as calls."""
    dy = x if dy is None else dy
    extra = () if name == "rms_norm" else (None,)
    return (lambda: getattr(norm, f"{name}_backward")(dy, x, None, saved),
            lambda: getattr(norm, f"{name}_jvp")(x, None, saved, x, None, *extra),
            lambda: getattr(norm, f"{name}_backward_jvp")(dy, x, None, saved, x, x, None, rsaved))


@pytest.mark.parametrize(("name", "more", "options"), [
    ("batch_norm", (), {"training": True}), ("layer_norm", (), {}), ("rms_norm", (), {}), ("instance_norm", (), {}),
    ("group_norm", (2,), {}), ("batch_renorm", (None, None, *np.zeros((2, 4))), {"training": True})])
def test_what_was_saved_of_another_x_is_refused(name, more, options):
    x = np.random.default_rng(1).standard_normal((6, 4, 3))
    _, saved = getattr(norm, name)(x, *more, **options)
    _, rsaved = getattr(norm, f"{name}_jvp")(x, None, saved, x, *[None] * (1 if name == "rms_norm" else 2))
    for other in (x[:3], x.astype(np.float32), x.reshape(6, 4, 3, 1)):
        for call in derivatives(name, saved, rsaved, np.ascontiguousarray(other)):
            raises(ValueError, "saved: expected that of this x", call)
    # And the derivative of another pass.
    _, small = getattr(norm, name)(x[:3], *more, **options)
    raises(ValueError, "saved: expected that of this x", derivatives(name, small, rsaved, x)[2])


def test_batch_norm_refuses_what_renormalization_saved():
    _, saved = norm.batch_renorm(X, None, None, np.zeros(4), np.ones(4), training=True)
    for call in derivatives("batch_norm", saved, saved, X):
        raises(TypeError, "saved: expected a Saved", call)


def test_evaluation_with_a_relu_asks_for_its_output():
    running = {"running_mean": X.mean(0), "running_var": X.var(0)}
    y, saved = norm.batch_norm(X, W, None, **running, training=False, activation="relu")
    raises(ValueError, "y: expected the output of the forward pass, which had an activation, in evaluation",
           lambda: norm.batch_norm_backward(X, X, W, saved, **running))
    raises(ValueError, "y: expected the output of the forward pass",
           lambda: norm.batch_norm_jvp(X, W, saved, X, None, None, **running))
    dx, _, _ = norm.batch_norm_backward(X, X, W, saved, **running, y=y)
    np.testing.assert_allclose(dx, W / np.sqrt(running["running_var"] + 1e-5) * X * (y > 0), rtol=1e-14)
    # The caller that keeps no `saved` of an evaluation is not bound to.
    assert np.array_equal(dx, norm.batch_norm_backward(X, X, W, None, **running, y=y)[0])
    assert norm.batch_norm(X, W, None, **running, training=False)[1] is None


def test_what_is_saved_does_not_follow_the_callers_bias():
    bias = np.full(4, 0.3)
    _, saved = norm.batch_norm(X, W, bias, training=True, activation="relu")
    before = norm.batch_norm_backward(X, X, W, saved)
    bias -= 100
    for a, b in zip(before, norm.batch_norm_backward(X, X, W, saved), strict=True):
        assert np.array_equal(a, b)


# ----------------------------------------------------------------------------------------------------------- arguments
def test_a_bool_is_no_number():
    for name, call in (
        ("eps", lambda: norm.batch_norm(X, training=True, eps=True)),
        ("eps", lambda: norm.layer_norm(X, eps=True)),
        ("eps", lambda: norm.fold_batch_norm(X, None, None, None, np.zeros(6), np.ones(6), eps=True)),
        ("momentum", lambda: norm.batch_norm(X, training=True, momentum=True)),
        ("channel_axis", lambda: norm.batch_norm(X, training=True, channel_axis=True)),
        ("channel_axis", lambda: norm.group_norm(X, 2, channel_axis=True)),
        ("channel_axis", lambda: norm.fold_batch_norm(X, None, None, None, np.zeros(4), np.ones(4),
                                                      channel_axis=True)),
        ("num_groups", lambda: norm.group_norm(X, True)),
        ("ndim", lambda: norm.layer_norm(X, ndim=True)),
        ("r_max", lambda: norm.batch_renorm(X, None, None, W, W, training=True, r_max=True)),
        ("dim", lambda: norm.weight_norm(X, np.ones(4), True)),
        ("n_power_iterations", lambda: norm.spectral_norm(X, np.ones(6), np.ones(4), n_power_iterations=True,
                                                          training=True)),
    ):
        raises(TypeError, f"{name}: expected", call)
    assert norm.group_norm(X, np.int64(2), eps=np.float32(1e-5))[0].shape == X.shape


def test_an_array_with_a_mask_is_refused_and_a_mapped_one_is_not(tmp_path):
    masked = np.ma.masked_array(X, X > 0)
    for call in (lambda: norm.batch_norm(masked, training=True), lambda: norm.layer_norm(masked),
                 lambda: norm.batch_norm(X, masked[0], training=True), lambda: norm.layer_norm(X, None, masked[0])):
        with pytest.raises(TypeError, match="expected a NumPy array, got MaskedArray"):
            call()
    with pytest.raises(TypeError, match="x: expected a NumPy array, got matrix"):
        norm.batch_norm(X.view(np.matrix), training=True)
    mapped = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    mapped[...] = X
    assert np.array_equal(norm.batch_norm(mapped, training=True)[0], norm.batch_norm(X, training=True)[0])


def test_errors_say_what_is_wrong():
    scalar = np.array(1.0)
    for error, message, call in (
        (ValueError, "x: expected at least 1 dimension, got shape ()", lambda: norm.layer_norm(scalar)),
        (ValueError, "x: expected at least 1 dimension, got shape ()", lambda: norm.rms_norm(scalar)),
        (ValueError, "v: expected at least 1 dimension", lambda: norm.weight_norm(scalar, np.ones(1))),
        (ValueError, "running_mean: expected the running statistics that r and d are measured by, got None",
         lambda: norm.batch_renorm(X, training=True)),
        (ValueError, "m2: expected sums of squares, at least 0, got -1.0",
         lambda: norm.Moments(3, np.ones(2), -np.ones(2))),
        (ValueError, "running_var: expected variances, at least 0, got -1.0",
         lambda: norm.fold_batch_norm(X, None, None, None, np.zeros(6), -np.ones(6))),
        (ValueError, "eps: expected a number in [0, inf), got inf",
         lambda: norm.spectral_norm(X, np.ones(6), np.ones(4), eps=np.inf, training=True)),
    ):
        raises(error, message, call)
