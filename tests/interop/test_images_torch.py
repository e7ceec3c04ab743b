"""Convolutions and pools against PyTorch, float64, where the networks do not reach: values and extremes."""

import numpy as np
import pytest
import torch

from optcore._native import pooling
from optcore._native.convolution import convolve_images, convolve_images_backward

# Images, channels in and out, height, width, kernel, stride, padding. The last two are cut into rows of outputs.
CONVOLUTIONS = [(1, 1, 1, 1, 1, 1, 1, 0), (3, 2, 5, 7, 6, (3, 2), (2, 1), (1, 2)), (37, 3, 4, 9, 9, 4, 3, 0),
                (2, 2, 3, 3, 4, 3, 1, 5), (2, 64, 30, 40, 40, 3, 1, 1), (2, 3, 2, 140, 150, 7, 2, 3)]


def pair(n):
    return n if isinstance(n, tuple) else (n, n)


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_convolution(shape):
    n, c, o, height, width, kernel, stride, padding = shape
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((n, c, height, width)), rng.standard_normal((o, c, *pair(kernel)))
    bias = rng.standard_normal(o)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, bias)]
    expected = torch.nn.functional.conv2d(*tensors, stride=stride, padding=padding)
    y = np.full(expected.shape, np.nan)
    convolve_images(x, w, bias, y, pair(stride), pair(padding))
    dy = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    dx, dw, db = (np.full_like(a, np.nan) for a in (x, w, bias))
    convolve_images_backward(dy, x, w, dw, db, dx, pair(stride), pair(padding))
    # Sums of at most some 10,000 products of order one in another order: roundings add up to 1e-12 of the largest.
    for a, b in zip((y, dx, dw, db), (expected.detach(), *(tensors[i].grad for i in (0, 1, 2))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12 * abs(b.numpy()).max())


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 1, 1), ((3, 2), (2, 3), (1, 1)), (5, 3, 2),
                                    ((1, 4), (1, 2), (0, 2))])
def test_pools(window):
    """Small integers tie; NaN and infinities are among them."""
    rng = np.random.default_rng(2)
    x = rng.integers(-3, 3, (4, 3, 11, 12)).astype("float64")
    x[1].flat[::5], x[2], x[3].flat[::3] = np.nan, -np.inf, np.inf
    sizes = [pair(n) for n in window]
    tensor = torch.tensor(x, requires_grad=True)
    largest, place = torch.nn.functional.max_pool2d(tensor, *window, return_indices=True)
    y, argmax = pooling.max_pool(x, *sizes)
    assert argmax.dtype == np.int32
    assert np.array_equal(argmax, place)
    assert np.array_equal(y, largest.detach(), equal_nan=True)
    dy = rng.standard_normal(y.shape)
    largest.backward(torch.tensor(dy))
    # Here and below sums of at most 25 numbers of order one.
    close = {"rtol": 1e-14, "atol": 1e-14}
    np.testing.assert_allclose(pooling.max_pool_backward(dy, argmax, (11, 12), *sizes), tensor.grad, **close)
    tensor = torch.tensor(np.nan_to_num(x, posinf=1.5, neginf=-2.5), requires_grad=True)
    mean = torch.nn.functional.avg_pool2d(tensor, *window)
    mean.backward(torch.tensor(dy))
    np.testing.assert_allclose(pooling.average_pool(tensor.detach().numpy(), *sizes), mean.detach(), **close)
    np.testing.assert_allclose(pooling.average_pool_backward(dy, (11, 12), *sizes), tensor.grad, **close)
