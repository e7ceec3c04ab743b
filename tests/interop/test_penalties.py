"""Penalties of the weights against PyTorch's autograd of the whole sum and central differences, in float64."""

import numpy as np
import pytest
import torch
from networks import NETS, pair, torch_loss

import optcore as oc
from optcore import nn

L1, L2 = 0.07, 0.3


def torch_weights(other):
    """The weights of linear maps and convolutions: not biases, not norms."""
    maps = (torch.nn.Linear, torch.nn.Conv2d)
    return {f"{name}.weight" for name, m in other.named_modules() if isinstance(m, maps)}


def total(other, x, target):
    """The loss and the penalties as a function of the flat vector; training mode, without a trace in the buffers."""
    other.train()
    shapes, weights = {key: p.shape for key, p in other.named_parameters()}, torch_weights(other)
    assert weights

    def f(flat):
        pieces = torch.split(flat, [s.numel() for s in shapes.values()])
        params = {key: piece.reshape(s) for (key, s), piece in zip(shapes.items(), pieces, strict=True)}
        buffers = {key: b.clone() for key, b in other.named_buffers()}
        loss = torch_loss(torch.func.functional_call(other, {**params, **buffers}, torch.tensor(x)), target,
                          "cross_entropy")
        w = torch.cat([params[name].reshape(-1) for name in sorted(weights)])
        return loss + L1 * w.abs().sum() + L2 / 2 * w.square().sum()

    return f


@pytest.mark.parametrize("name", NETS)
def test_value_gradient_and_hessian_of_the_whole_sum(name):
    net, other, x, targets = pair(name)
    f = total(other, x, targets["classes"])
    flat = torch.tensor(net.theta, requires_grad=True)
    value = f(flat)
    (slope,) = torch.autograd.grad(value, flat)
    hessian = torch.autograd.functional.hessian(f, torch.tensor(net.theta)).numpy()
    obj = nn.objective(net, "cross_entropy", x, targets["classes"], l1=L1, l2=L2)
    # float64 through some ten operations with entries of order one, as in test_nn_hessian.py.
    loss, grad = obj.loss_and_grad(net.theta)
    assert (loss, nn.objective(net, "cross_entropy", x, targets["classes"], l1=L1, l2=L2).loss(net.theta)) == \
        pytest.approx((value.item(), value.item()), rel=1e-12)
    np.testing.assert_allclose(grad, slope.numpy(), rtol=1e-9, atol=1e-11)
    products = np.stack([obj.hvp(net.theta, e) for e in np.eye(obj.size)])
    np.testing.assert_allclose(products, hessian, rtol=1e-9, atol=1e-11 * abs(hessian).max())
    compiled = np.empty_like(net.theta)
    assert net.loss_and_grad(x, targets["classes"], grad=compiled, l1=L1, l2=L2) == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(compiled, slope.numpy(), rtol=1e-9, atol=1e-11)


def test_central_differences():
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2), dtype="float64")
    obj = nn.objective(net, "mse", rng.standard_normal((20, 4)), rng.standard_normal((20, 2)), l1=L1, l2=L2)
    theta, v, h = net.theta + 0.5, rng.standard_normal(net.theta.size), 1e-5
    assert (abs(theta) > h * abs(v)).all()      # no weight crosses the kink
    up, down = obj.loss_and_grad(theta + h * v), obj.loss_and_grad(theta - h * v)
    # Error h^2 times a third derivative of order one, and rounding 1e-16/h of values of order one.
    assert (up[0] - down[0]) / (2 * h) == pytest.approx(obj.loss_and_grad(theta)[1] @ v, rel=1e-8)
    np.testing.assert_allclose((up[1] - down[1]) / (2 * h), obj.hvp(theta, v), rtol=1e-7, atol=1e-8)


def test_products_of_other_matrices():
    """Gauss-Newton has the penalty's Hessian, Fisher, of the examples' own gradients, nothing of it."""
    net, _, x, targets = pair("mlp")
    with_penalty, without = (nn.objective(net, "cross_entropy", x, targets["classes"], mode="eval", **given)
                             for given in ({"l1": L1, "l2": L2}, {}))
    v = np.random.default_rng(1).standard_normal(net.theta.size)
    is_weight = np.zeros(net.theta.size, bool)
    for p in net.program.parameters():
        is_weight[p.start:p.stop] = p.name.endswith("weight") and len(p.shape) > 1
    difference = with_penalty.gauss_newton(net.theta, v) - without.gauss_newton(net.theta, v)
    np.testing.assert_allclose(difference, L2 * v * is_weight, rtol=1e-12, atol=1e-13)
    assert np.array_equal(with_penalty.fisher(net.theta, v), without.fisher(net.theta, v))


def test_in_batches_with_weights_of_examples():
    """A mean over batches holds the penalty once, whatever the batches weigh."""
    net, _, x, targets = pair("mlp")
    weight = np.random.default_rng(2).uniform(0, 2, len(x))
    whole, batched = (nn.objective(net, "cross_entropy", x, targets["classes"], mode="eval", sample_weight=weight,
                                   l1=L1, l2=L2, batch_size=size) for size in (None, 5))
    v = np.ones(net.theta.size)
    for a, b in zip((*whole.loss_and_grad(net.theta), whole.hvp(net.theta, v)),
                    (*batched.loss_and_grad(net.theta), batched.hvp(net.theta, v)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_at_zero():
    """|w| has slope 0 and curvature 0 at 0."""
    net = nn.Sequential(nn.Linear(3, 2, init="zeros"), dtype="float64")
    x, y = np.zeros((4, 3)), np.zeros((4, 2))
    obj = nn.objective(net, "mse", x, y, l1=1.0)
    assert not obj.loss_and_grad(net.theta)[1].any()
    assert not obj.hvp(net.theta, np.ones(8))[:6].any()


@pytest.mark.parametrize("optimizer", [
    lambda net: oc.optim.SGD(net.theta, lr=0.1), lambda net: oc.optim.Lookahead(oc.optim.SGD(net.theta, lr=0.1)),
    lambda net: oc.optim.MultiSteps(oc.optim.SGD(net.theta, lr=0.1), 1),
], ids=["compiled", "Lookahead", "MultiSteps"])
def test_fit_takes_the_steps_of_pytorch(optimizer):
    net, other, x, targets = pair("mlp")
    f, flat, losses = total(other, x, targets["classes"]), torch.tensor(net.theta), []
    for _ in range(3):
        flat.requires_grad_(True)
        losses.append(f(flat))
        flat = (flat - 0.1 * torch.autograd.grad(losses[-1], flat)[0]).detach()
    history = oc.train.fit(net, x, targets["classes"], optimizer=optimizer(net), epochs=3, batch_size=None,
                           shuffle=False, progress=False, l1=L1, l2=L2, validation=(x, targets["classes"]))
    np.testing.assert_allclose(net.theta, flat.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(history.epochs["loss"], [v.item() for v in losses], rtol=1e-12)
    data = nn.objective(net, "cross_entropy", x, targets["classes"], mode="eval").loss(net.theta)
    assert history.epochs["validation_loss"][-1] == pytest.approx(data, rel=1e-12)      # without the penalty
