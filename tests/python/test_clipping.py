"""Gradients clipped in place: norms of float64 NumPy, products rounded once, PyTorch's values."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

import optcore as oc

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "uint16": ml_dtypes.bfloat16}
kinds = pytest.mark.parametrize("kind", DTYPES)


def gradients(kind, seed=7):
    """A float32, two half-precision and no gradient; the half ones longer than a block of the reductions."""
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(shape).astype("float32") for shape in ((5,), (3, 7000), (64,))]
    halves = [v.astype(DTYPES[kind]) for v in values[1:]]
    return [values[0], None, *halves]


def given(grads, kind):
    """Copies as a user has them: bfloat16 without its dtype is uint16."""
    return [g if g is None else g.copy() if g.dtype == np.float32 or kind != "uint16" else g.view(np.uint16).copy()
            for g in grads]


def bits(grads):
    return [g.tobytes() for g in grads if g is not None]


def options(kind):
    return {"uint16_as": "bfloat16"} if kind == "uint16" else {}


@kinds
@pytest.mark.parametrize(("p", "limit"), [(2.0, 1.5), (np.inf, 0.3), (3.0, 2.0)])
def test_half_gradients_are_scaled_by_the_norm_of_all(kind, p, limit):
    grads = gradients(kind)
    arrays = given(grads, kind)
    norm = oc.optim.clip_grad_norm_(arrays, limit, p, **options(kind))
    flat = np.concatenate([g.astype("float64").reshape(-1) for g in grads if g is not None])
    assert norm == pytest.approx(np.linalg.norm(flat, p), rel=1e-12)     # sums in double of 2e4 terms
    scale = np.float32(limit / (norm + 1e-6))
    wanted = [(g.astype("float32") * scale).astype(g.dtype) for g in grads if g is not None]
    assert bits(arrays) == bits(wanted)


@kinds
def test_half_gradients_below_the_limit_stay(kind):
    grads = gradients(kind)
    arrays = given(grads, kind)
    oc.optim.clip_grad_norm_(arrays, 1e6, **options(kind))
    assert bits(arrays) == bits(grads)


@pytest.mark.parametrize(("kind", "torch_dtype", "digits"),
                         [("bfloat16", torch.bfloat16, 2.0**-8), ("float16", torch.float16, 2.0**-11)])
def test_half_gradients_are_clipped_as_torch_does(kind, torch_dtype, digits):
    grads = [g for g in gradients(kind) if g is not None][1:]
    theirs = []
    for g in grads:
        theirs.append(torch.zeros(g.shape, dtype=torch_dtype))
        theirs[-1].grad = torch.from_numpy(g.astype("float32")).to(torch_dtype)
    arrays = given(grads, kind)
    norm = oc.optim.clip_grad_norm_(arrays, 1.0)
    # PyTorch rounds each array's norm, the norm of them, the factor and the product to half precision.
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)), rel=2 * digits)
    for a, t in zip(arrays, theirs, strict=True):
        np.testing.assert_allclose(a.astype("float32"), t.grad.float().numpy(), rtol=5 * digits, atol=2.0**-24)


@pytest.mark.parametrize("p", [2.0, np.inf, 1.0, 3.0])
def test_gradients_that_are_not_finite_are_clipped_as_torch_does(p):
    for values in itertools.product([(1.0, 2.0), (np.inf, 1.0), (np.nan, 1.0), (np.inf, np.nan)], repeat=3):
        arrays = [np.array(v, "float32") for v in values]
        theirs = [torch.zeros(2) for _ in arrays]
        for t, a in zip(theirs, arrays, strict=True):
            t.grad = torch.from_numpy(a.copy())
        norm, wanted = oc.optim.clip_grad_norm_(arrays, 1.0, p), torch.nn.utils.clip_grad_norm_(theirs, 1.0, p)
        np.testing.assert_allclose(norm, float(wanted), rtol=1e-6)  # theirs is of float32
        for t, a in zip(theirs, arrays, strict=True):
            np.testing.assert_allclose(a, t.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_norm_that_is_not_finite_is_refused_where_asked_for(bad):
    grads = [np.array([3.0, 4.0]), np.array([bad], "float32")]
    with pytest.raises(FloatingPointError, match=f"grads: expected gradients with a finite norm, got {bad}; nothing"):
        oc.optim.clip_grad_norm_(grads, 1.0, error_if_nonfinite=True)
    assert grads[0].tolist() == [3.0, 4.0]
    assert oc.optim.clip_grad_norm_(grads[:1], 1.0, error_if_nonfinite=True) == 5.0


@kinds
def test_half_gradients_are_clamped_as_torch_does(kind):
    grads = gradients(kind)
    grads[2].flat[:3] = [np.inf, -np.inf, np.nan]
    arrays = given(grads, kind)
    oc.optim.clip_grad_value_(arrays, 0.5, **options(kind))
    wanted = [g for g in grads if g is not None]
    wanted = [torch.from_numpy(g.astype("float32")).clamp_(-0.5, 0.5).numpy().astype(g.dtype) for g in wanted]
    for a, w in zip([a for a in arrays if a is not None], wanted, strict=True):
        np.testing.assert_array_equal(a.view(w.dtype).astype("float32"), w.astype("float32"))


@pytest.mark.parametrize("clip", [oc.optim.clip_grad_norm_, oc.optim.clip_grad_value_])
def test_a_bad_array_is_named_and_nothing_changes(clip):
    good = np.full(3, 5.0, ml_dtypes.bfloat16)
    read_only = np.ones(3, np.float16)
    read_only.flags.writeable = False
    for bad, error, message in [
            (np.ones(3, np.uint16), TypeError, r"grads\[2\]: expected dtype float32, float64, bfloat16 or float16 \("),
            (np.ones(3, np.int64), TypeError, r"grads\[2\]: expected dtype .*, got int64"),
            ([1.0], TypeError, r"grads\[2\]: expected a NumPy array, got list"),
            (read_only, ValueError, r"grads\[2\]: .*read-only"),
            (np.ones((4, 4), np.float16).T[:3], ValueError, r"grads\[2\]: .*contiguous")]:
        with pytest.raises(error, match=message):
            clip([good, None, bad], 1.0)
    with pytest.raises(ValueError, match="uint16_as: expected one of None, 'float16', 'bfloat16', got"):
        clip([good], 1.0, uint16_as="bf16")
    assert (good == 5).all()


def test_zeros_in_float32_beside_tiny_gradients_in_float64():
    """1e-340, their sum of squares, is below float64: they are scaled first, which zeros of any dtype survive."""
    p, g = [np.zeros(2), np.zeros(2, np.float32)], [np.full(2, 1e-170), np.zeros(2, np.float32)]
    opt = oc.optim.SGD(p, lr=1.0, clip_norm=1.0, nonfinite="raise")
    opt.step(g)
    assert (p[0] == -1e-170).all()
    assert (p[1] == 0).all()
    np.testing.assert_allclose(opt.last_grad_norm, np.sqrt(2) * 1e-170, rtol=1e-15)  # a root and a product: 4 roundings
