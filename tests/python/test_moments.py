"""Mergeable statistics against exact fractions, and the folding of a batch norm against the two layers."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch

from optcore import nn, norm


def exact(values):
    values = [Fraction(float(v)) for v in values]
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("centre", "spread"), [(0, 1), (1e5, 0.1), (1e8, 1), (0, 1e-25)])
def test_parts_merge_to_the_exact_moments_of_the_whole(dtype, centre, spread):
    rng = np.random.default_rng(8)
    column = (centre + spread * rng.standard_normal(3001)).astype(dtype)
    mean, m2 = exact(column)
    x = np.stack([column, column[::-1]], axis=1)
    deviation = math.sqrt(m2 / 3001)
    for cuts in ([], [1], [1500], [1, 2, 3, 1000, 2999]):
        whole = norm.moments(x[:0])
        for part in np.split(x, cuts):
            whole = whole.merge(norm.moments(np.ascontiguousarray(part)))
        assert whole.count == 3001
        for c in range(2):
            # Sums of deviations in double, at most 512 in a lane: some hundred roundings of 1.1e-16 in quadrature.
            assert abs(Fraction(whole.mean[c]) + Fraction(whole.mean_rest[c]) - mean) <= 1e-14 * deviation
            assert abs(Fraction(whole.m2[c]) - m2) <= Fraction(1e-13) * m2


def test_layouts_and_what_batch_norm_computes():
    x = np.random.default_rng(9).standard_normal((6, 3, 5))
    m = norm.moments(x)
    _, saved = norm.batch_norm(x, training=True, eps=0.0)
    assert np.array_equal(m.mean, saved.mean)
    assert np.array_equal(1 / np.sqrt(m.var()), saved.inv_std)
    np.testing.assert_allclose(m.var(unbiased=True), x.var((0, 2), ddof=1), rtol=1e-13)  # NumPy's own rounding
    last = norm.moments(np.ascontiguousarray(np.moveaxis(x, 1, -1)), channel_axis=-1)
    np.testing.assert_allclose(last.m2, m.m2, rtol=1e-14)  # summed in another order
    again = norm.Moments(*pickle.loads(pickle.dumps((m.count, m.mean, m.m2, m.mean_rest))))
    assert np.array_equal(again.merge(m).m2, m.merge(m).m2)
    assert norm.moments(np.zeros((4, 0))).mean.shape == (0,)


def test_moments_name_a_bad_argument():
    good = norm.moments(np.array([[1.0, 2.0], [3.0, 5.0]]))
    before = good.mean.copy(), good.m2.copy()
    for call, error, message in (
        (lambda: norm.moments([1.0]), TypeError, "x: expected a NumPy array"),
        (lambda: norm.moments(np.zeros(3)), ValueError, "x: expected at least 2 dimensions"),
        (lambda: norm.moments(np.zeros((3, 3)), 0), ValueError, "channel_axis: expected 1 or -1"),
        (lambda: good.merge(3), TypeError, "other: expected Moments, got int"),
        (lambda: good.merge(norm.moments(np.zeros((3, 3)))), ValueError, "other: expected 2 channels, got 3"),
        (lambda: norm.Moments(1.0, good.mean, good.m2), TypeError, "count: expected an integer"),
        (lambda: norm.Moments(-1, good.mean, good.m2), ValueError, "count: expected 0 <= count"),
        (lambda: norm.Moments(2**63, good.mean, good.m2), ValueError, "count: expected 0 <= count < 2**63"),
        (lambda: norm.Moments(2, good.mean, np.zeros(4)[::2]), ValueError, "m2: expected a C-contiguous array"),
        (lambda: norm.Moments(2, np.ma.masked_array(good.mean), good.m2), TypeError, "mean: expected a NumPy array"),
        (lambda: norm.Moments(2, good.mean, good.m2[:1]), ValueError, "m2: expected one value per channel"),
        (lambda: norm.Moments(2, good.mean, good.m2.astype("f4")), TypeError, "m2: expected an array of float64"),
        (lambda: norm.Moments(2, 1.0, good.m2), TypeError, "mean: expected an array of float64"),
        (lambda: norm.moments(np.zeros((0, 2))).var(), ValueError, "count: expected at least 1 values"),
        (lambda: norm.moments(np.zeros((1, 2))).var(unbiased=True), ValueError, "count: expected at least 2 values"),
    ):
        with pytest.raises(error) as raised:
            call()
        assert str(raised.value).startswith(message)
    assert np.array_equal((good.mean, good.m2), before)


@pytest.mark.parametrize("present", [True, False])
def test_a_folded_layer_is_the_two_layers(present):
    rng = np.random.default_rng(10)
    bn = torch.nn.BatchNorm2d(4, eps=1e-3, affine=present).double().eval()
    layers = ((torch.nn.Conv2d(3, 4, 3, bias=present), 0), (torch.nn.ConvTranspose2d(3, 4, 3, bias=present), 1))
    with torch.no_grad():
        bn.running_mean.copy_(torch.from_numpy(rng.standard_normal(4)))
        bn.running_var.copy_(torch.from_numpy(rng.uniform(0.1, 2, 4)))
        if present:
            bn.weight.copy_(torch.from_numpy(rng.standard_normal(4)))
            bn.bias.copy_(torch.from_numpy(rng.standard_normal(4)))
        x = torch.from_numpy(rng.standard_normal((2, 3, 5, 5)))
        for layer, axis in layers:
            layer = layer.double()
            expected = bn(layer(x))
            arrays = [None if p is None else p.numpy() for p in (layer.weight, layer.bias, bn.weight, bn.bias)]
            before = [None if a is None else a.copy() for a in arrays]
            weight, bias = norm.fold_batch_norm(*arrays, bn.running_mean.numpy(), bn.running_var.numpy(), eps=1e-3,
                                                channel_axis=axis)
            for a, b in zip(arrays, before, strict=True):
                assert a is None or np.array_equal(a, b)
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias = torch.nn.Parameter(torch.from_numpy(bias))
            np.testing.assert_allclose(layer(x).numpy(), expected.numpy(), rtol=1e-11, atol=1e-12)  # double rounding


def test_folding_rounds_once():
    rng = np.random.default_rng(11)
    weight = rng.standard_normal((5, 7)).astype(np.float32)
    scale, mean, var = rng.standard_normal(5).astype(np.float32), rng.standard_normal(5), rng.uniform(0.1, 2, 5)
    folded, bias = norm.fold_batch_norm(weight, None, scale, None, mean, var, eps=0.0)
    a = scale.astype(np.float64) / np.sqrt(var)
    assert folded.dtype == bias.dtype == np.float32
    assert np.array_equal(folded, (weight * a[:, None]).astype(np.float32))
    assert np.array_equal(bias, (-a * mean).astype(np.float32))


def test_a_folded_view_is_laid_out_as_networks_take_it():
    """As of scikit-learn's coefs_, which are transposed views."""
    weight = np.arange(6.0).reshape(3, 2).T
    folded, _ = norm.fold_batch_norm(weight, None, np.full(2, 2.0), None, np.zeros(2), np.ones(2), eps=0.0)
    assert folded.flags.c_contiguous
    assert np.array_equal(folded, 2 * weight)


def test_a_folded_network_of_the_library_is_the_network():
    """oc.nn holds weights as [out, in] and [out, in, height, width], as `fold_batch_norm` takes them."""
    rng = np.random.default_rng(12)
    for layer, features, shape in ((nn.Linear(6, 4), 4, (5, 6)), (nn.Conv2d(3, 4, 3), 4, (5, 3, 6, 7))):
        net = nn.Sequential(layer, nn.BatchNorm(features), dtype="float64", seed=0, input_shape=shape[1:])
        x = rng.standard_normal(shape)
        for _ in range(3):
            net.forward(x, training=True)
        p, b = net.parameters, net.buffers
        p["1.weight"][...], p["1.bias"][...] = rng.standard_normal((2, features))
        folded = nn.Sequential(layer, dtype="float64", input_shape=shape[1:])
        folded.parameters["0.weight"][...], folded.parameters["0.bias"][...] = norm.fold_batch_norm(
            p["0.weight"], p["0.bias"], p["1.weight"], p["1.bias"], b["1.running_mean"], b["1.running_var"])
        np.testing.assert_allclose(folded.predict(x), net.predict(x), rtol=1e-12, atol=1e-13)  # double rounding


def test_folding_without_a_variance_or_beyond_the_dtype_is_what_the_two_layers_give():
    """And without a warning, which the suite takes for an error."""
    w = np.full((1, 1), 1e30, np.float32)
    weight, bias = norm.fold_batch_norm(w, None, np.array([1e30]), None, np.zeros(1), np.ones(1))
    assert weight == np.inf
    assert bias == 0
    weight, bias = norm.fold_batch_norm(w, None, None, None, np.ones(1), np.zeros(1), eps=0.0)
    assert weight == np.inf
    assert bias == -np.inf


def test_folding_names_a_bad_argument():
    w, c = np.ones((2, 3)), np.ones(2)
    good = {"weight": w, "bias": c, "bn_weight": c, "bn_bias": c, "running_mean": c, "running_var": c, "eps": 1e-5}
    for change, error, message in (
        ({"weight": [[1.0]]}, TypeError, "weight: expected a NumPy array"),
        ({"weight": w.astype(int)}, TypeError, "weight: expected dtype float32 or float64"),
        ({"bias": np.ones(3)}, ValueError, "bias: expected shape (2,)"),
        ({"bn_weight": np.ones(3)}, ValueError, "bn_weight: expected shape (2,)"),
        ({"running_mean": None}, ValueError, "running_mean: expected the running statistics"),
        ({"running_var": "c"}, TypeError, "running_var: expected a NumPy array"),
        ({"eps": -1.0}, ValueError, "eps: expected a number in [0, inf)"),
        ({"eps": "0"}, TypeError, "eps: expected a number, got '0'"),
        ({"channel_axis": 2}, ValueError, "channel_axis: expected an axis of weight"),
        ({"weight": np.ma.masked_array(w)}, TypeError, "weight: expected a NumPy array, got MaskedArray"),
    ):
        with pytest.raises(error) as raised:
            norm.fold_batch_norm(**(good | change))
        assert str(raised.value).startswith(message)
