"""Batch renormalization against the paper's formulas under PyTorch's autograd, in float64."""

import numpy as np
import pytest
import torch

from optcore import norm

# Both sides round a few times in double; the reductions are over at most some hundred values.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
SHAPES = [((8, 5), 1), ((6, 3, 7), 1), ((4, 3, 5, 2), 1), ((2, 3, 4, 5), -1)]
EPS = 1e-5


def paper(mean, var, axis, r_max, d_max):
    """(y, dx, dweight, dbias) of Ioffe 2017, algorithm 1, channels last; r and d are detached."""
    def run(x, w, b, dy):
        axes = tuple(range(x.ndim - 1))
        mu, sigma = x.mean(axes), torch.sqrt(x.var(axes, unbiased=False) + EPS)
        running = torch.sqrt(torch.from_numpy(var) + EPS)
        r = (sigma / running).clamp(1 / r_max, r_max).detach()
        d = ((mu - torch.from_numpy(mean)) / running).clamp(-d_max, d_max).detach()
        y = w * ((x - mu) / sigma * r + d) + b
        return (y, *torch.autograd.grad(y, (x, w, b), dy, create_graph=True))
    return run


def problem(shape, axis):
    rng = np.random.default_rng(6)
    x, dy, rx, rdy = rng.standard_normal((4, *shape))
    w, b, rw, rb, mean = rng.standard_normal((5, shape[axis]))
    return 1 + 2 * x, dy, w, b, mean, rng.uniform(0.2, 9, shape[axis]), rx, rw, rb, rdy


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("limits", [(1.0, 0.0), (1.5, 0.5), (3.0, 5.0), (np.inf, np.inf)])
def test_all_passes_are_those_of_the_paper(shape, axis, limits):
    x, dy, w, b, mean, var, rx, rw, rb, rdy = problem(shape, axis)

    def last(a):
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, axis, -1)))

    point = tuple(p.requires_grad_() for p in (last(x), torch.from_numpy(w), torch.from_numpy(b), last(dy)))
    direction = (last(rx), torch.from_numpy(rw), torch.from_numpy(rb), last(rdy))
    expected, tangent = torch.autograd.functional.jvp(paper(mean, var, axis, *limits), point, direction)

    def same(ours, theirs):
        ours = np.moveaxis(ours, axis, -1) if ours.ndim > 1 else ours
        np.testing.assert_allclose(ours, theirs.detach().numpy(), **CLOSE)

    buffers = mean.copy(), var.copy()
    y, saved = norm.batch_renorm(x, w, b, *buffers, training=True, channel_axis=axis, eps=EPS, r_max=limits[0],
                                 d_max=limits[1])
    ry, rsaved = norm.batch_renorm_jvp(x, w, saved, rx, rw, rb)
    gradients = norm.batch_renorm_backward(dy, x, w, saved)
    rgradients = norm.batch_renorm_backward_jvp(dy, x, w, saved, rdy, rx, rw, rsaved)
    for ours, theirs in zip((y, *gradients, ry, *rgradients), (*expected, *tangent), strict=True):
        same(ours, theirs)
    plain = mean.copy(), var.copy()
    normal, _ = norm.batch_norm(x, w, b, *plain, training=True, channel_axis=axis, eps=EPS)
    assert np.array_equal(buffers, plain)  # the running buffers move as in batch norm
    if limits == (1.0, 0.0):
        assert np.array_equal(y, normal)


def test_evaluation_is_that_of_batch_norm():
    x, dy, w, b, mean, var, rx, rw, rb, rdy = problem((6, 3, 4), 1)
    y, saved = norm.batch_renorm(x, w, b, mean, var, training=False, r_max=2.0, d_max=1.0)
    assert saved is None
    running = {"running_mean": mean, "running_var": var}
    assert np.array_equal(y, norm.batch_norm(x, w, b, mean, var, training=False)[0])
    for ours, theirs in ((norm.batch_renorm_backward, norm.batch_norm_backward),
                         (norm.batch_renorm_jvp, norm.batch_norm_jvp)):
        arguments = (dy, x, w, None) if ours is norm.batch_renorm_backward else (x, w, None, rx, rw, rb)
        assert np.array_equal(ours(*arguments, **running)[0], theirs(*arguments, **running)[0])
    assert np.array_equal(norm.batch_renorm_backward_jvp(dy, x, w, None, rdy, rx, rw, None, **running)[0],
                          norm.batch_norm_backward_jvp(dy, x, w, None, rdy, rx, rw, None, **running)[0])


def test_running_statistics_in_the_forms_of_other_libraries():
    x = np.array([[1.0], [3.0]])  # mean 2, variance 1, unbiased 2
    for options, expected in (({}, (9.2, 5.6)), ({"unbiased": False}, (9.2, 5.5)), ({"momentum_on": "old"}, (2.8, 2.4)),
                              ({"momentum_on": "old", "unbiased": False}, (2.8, 1.5))):
        mean, var, seen = np.array([10.0]), np.array([6.0]), np.array([4])
        y, _ = norm.batch_renorm(x, None, None, mean, var, training=True, eps=0.0, d_max=8.0, num_batches=seen,
                                 **options)
        assert (mean[0], var[0]) == pytest.approx(expected, rel=1e-15), options
        assert seen[0] == 5
        # Within the limits the batch's own statistics cancel, and those before the batch are what counts.
        assert y.ravel() == pytest.approx((x.ravel() - 10) / np.sqrt(6), rel=1e-14)


def test_cumulative_average_is_the_mean_over_all_batches():
    batches = np.random.default_rng(8).standard_normal((5, 10, 4))
    mean, var, seen = np.zeros(4), np.ones(4), np.zeros(1, np.int64)
    for x in batches:
        norm.batch_renorm(x, None, None, mean, var, training=True, momentum=None, num_batches=seen)
    np.testing.assert_allclose(mean, batches.mean((0, 1)), **CLOSE)
    np.testing.assert_allclose(var, batches.var(1, ddof=1).mean(0), **CLOSE)


def test_float32_near_1e30_and_dtypes():
    rng = np.random.default_rng(7)
    z = rng.standard_normal((50, 3))
    x = (1e30 * z).astype(np.float32)
    mean, var = np.zeros(3), np.full(3, 4e60)
    w = np.array([1.0, 2.0, 3.0], np.float32)
    y, saved = norm.batch_renorm(x, w, None, mean, var, training=True, eps=0.0)
    z = x.astype(np.float64) / 1e30
    sigma = z.std(0)
    # r and d within their limits undo the batch: y = w*(x - mean)/sigma with the running statistics. Five roundings.
    assert np.all(sigma / 2 < 3)
    np.testing.assert_allclose(y, w * z / 2, rtol=5 * 2.0**-24, atol=5 * 2.0**-24)
    dx, dweight, dbias = norm.batch_renorm_backward(np.ones_like(x), x, w, saved)
    assert (dx.dtype, dweight.dtype, dbias.dtype) == (np.float32,) * 3
    np.testing.assert_allclose(dweight, (z / 2).sum(0), rtol=1e-6)
    assert np.all(dbias == 50)


def test_a_bad_argument_is_named_and_nothing_is_changed():
    x = np.arange(12.0).reshape(4, 3)
    for change, error, message in (
        ({"r_max": 0.5}, ValueError, "r_max: expected 1 <= r_max"),
        ({"r_max": np.nan}, ValueError, "r_max: expected 1 <= r_max"),
        ({"r_max": None}, TypeError, "r_max: expected a real number"),
        ({"d_max": -1.0}, ValueError, "d_max: expected 0 <= d_max"),
        ({"momentum": None}, ValueError, "num_batches: expected the number of batches"),
        ({"unbiased": None}, TypeError, "unbiased: expected True or False"),
        ({"momentum_on": "both"}, ValueError, "momentum_on: expected 'new' or 'old'"),
        ({"running_mean": None}, ValueError, "running_mean: expected the running statistics"),
        ({"weight": np.ones(2)}, ValueError, "weight: expected shape (3,)"),
    ):
        out = np.full((4, 3), 7.0)
        arguments = {"weight": None, "bias": None, "running_mean": np.zeros(3), "running_var": np.ones(3)} | change
        with pytest.raises(error) as raised:
            norm.batch_renorm(x, training=True, out=out, **arguments)
        assert str(raised.value).startswith(message)
        assert np.all(out == 7)
        assert np.all(arguments["running_var"] == 1)
    _, saved = norm.batch_norm(x, training=True)
    for call in (lambda: norm.batch_renorm_backward(x, x, None, saved),
                 lambda: norm.batch_renorm_jvp(x, None, saved, x, None, None),
                 lambda: norm.batch_renorm_backward_jvp(x, x, None, saved, x, x, None, saved)):
        with pytest.raises(TypeError, match="saved: expected None or a RenormSaved"):
            call()
    _, saved = norm.batch_renorm(x, None, None, np.zeros(3), np.ones(3), training=True)
    with pytest.raises(ValueError, match="rbias: expected shape"):
        norm.batch_renorm_jvp(x, None, saved, x, None, np.ones(2))
