"""Hessian-vector products of networks against the dense Hessian that PyTorch forms by double backward, float64."""

import numpy as np
import pytest
import torch
from networks import LOSSES, NETS, pair, torch_loss

from optcore import nn
from optcore.nn.layers import Layer


def function(other, x, target, loss, mode):
    """The module's loss as a function of the flat vector; its buffers stay as they are."""
    other.train(mode == "train")
    shapes = {key: p.shape for key, p in other.named_parameters()}

    def f(flat):
        pieces = torch.split(flat, [s.numel() for s in shapes.values()])
        params = {key: piece.reshape(s) for (key, s), piece in zip(shapes.items(), pieces, strict=True)}
        buffers = {key: b.clone() for key, b in other.named_buffers()}
        return torch_loss(torch.func.functional_call(other, {**params, **buffers}, torch.tensor(x)), target, loss)

    return f


def dense_hessian(other, theta, *arguments):
    """[n, n], by double backward row by row."""
    return torch.autograd.functional.hessian(function(other, *arguments), torch.tensor(theta)).numpy()


def classes_of(layers):
    """The classes of these layers and of those inside them."""
    return {cls for layer in layers for cls in {type(layer), *classes_of(getattr(layer, "layers", ()))}}


def test_every_layer_is_compared():
    public = [getattr(nn, name) for name in nn.__all__]
    layers = {x for x in public if isinstance(x, type) and issubclass(x, Layer)}
    assert len(layers) >= 18  # the layers of today: the search finds them
    assert layers == set().union(*(classes_of(layers) for _, layers in NETS.values()))


def products(obj, theta):
    return np.stack([obj.hvp(theta, e) for e in np.eye(obj.size)])


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NETS)
def test_hessian(name, mode):
    net, other, x, targets = pair(name)
    obj = nn.objective(net, "cross_entropy", x, targets["classes"], mode=mode)
    expected = dense_hessian(other, net.theta, x, targets["classes"], "cross_entropy", mode)
    # Both are float64 through some ten operations with entries of order one; batch norm divides by a
    # deviation of order one twice.
    np.testing.assert_allclose(products(obj, net.theta), expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("loss", "kind"), LOSSES)
def test_product(loss, kind, name, mode):
    net, other, x, targets = pair(name)
    obj = nn.objective(net, loss, x, targets[kind], mode=mode)
    v = np.random.default_rng(1).standard_normal(obj.size)
    f = function(other, x, targets[kind], loss, mode)
    expected = torch.autograd.functional.vhp(f, torch.tensor(net.theta), torch.tensor(v))[1].numpy()
    # As above, with sums of some hundred entries.
    assert np.linalg.norm(obj.hvp(net.theta, v) - expected) < 1e-10 * np.linalg.norm(expected)


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("name", NETS)
def test_several_vectors_at_once(name, batch_size):
    """Where the first layer is linear they share its products; with batches, each of them."""
    net, other, x, targets = pair(name)
    obj = nn.objective(net, "cross_entropy", x, targets["classes"], mode="eval", batch_size=batch_size)
    expected = dense_hessian(other, net.theta, x, targets["classes"], "cross_entropy", "eval")
    vs = np.random.default_rng(1).standard_normal((3, obj.size))
    for v, product in zip(vs, obj.multiply(net.theta, vs), strict=True):
        # As for one product.
        assert np.linalg.norm(product - expected @ v) < 1e-10 * np.linalg.norm(expected @ v)
    for kind in ("gauss_newton", "fisher"):
        for v, product in zip(vs, obj.multiply(net.theta, vs, kind=kind), strict=True):
            one = getattr(obj, kind)(net.theta, v)  # compared with PyTorch's in test_outer_products.py
            assert np.linalg.norm(product - one) < 1e-12 * np.linalg.norm(one)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_hessian_on_a_batch(mode):
    net, other, x, targets = pair("batch norm")
    batch = np.array([3, 1, 4, 15, 9, 2, 6])
    obj = nn.objective(net, "cross_entropy", x, targets["classes"], mode=mode)
    expected = dense_hessian(other, net.theta, x[batch], targets["classes"][batch], "cross_entropy", mode)
    h = np.stack([obj.hvp(net.theta, e, batch) for e in np.eye(obj.size)])
    np.testing.assert_allclose(h, expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


def test_hessian_away_from_the_network():
    """At a theta that the network is not at; the network stays where it is."""
    net, other, x, targets = pair("images")
    theta = net.theta + 0.1
    obj = nn.objective(net, "mse", x, targets["values"])
    expected = dense_hessian(other, theta, x, targets["values"], "mse", "train")
    np.testing.assert_allclose(products(obj, theta), expected, rtol=1e-9, atol=1e-11 * abs(expected).max())
