"""Gauss-Newton and empirical Fisher products against dense matrices from PyTorch's Jacobians, float64."""

import numpy as np
import pytest
import torch
from networks import LOSSES, NETS, pair, torch_loss

import optcore as oc
from optcore import nn

EXAMPLES_APART = [name for name in NETS if not any("BatchNorm" in type(m).__name__ for m in pair(name)[1].modules())]


def outputs(other, x, mode):
    other.train(mode == "train")
    shapes = {key: p.shape for key, p in other.named_parameters()}

    def f(flat):
        pieces = torch.split(flat, [s.numel() for s in shapes.values()])
        params = {key: piece.reshape(s) for (key, s), piece in zip(shapes.items(), pieces, strict=True)}
        buffers = {key: b.clone() for key, b in other.named_buffers()}
        return torch.func.functional_call(other, {**params, **buffers}, torch.tensor(x))

    return f


def dense_gauss_newton(other, theta, x, target, loss, mode):
    f, theta = outputs(other, x, mode), torch.tensor(theta)
    z = f(theta)
    jacobian = torch.autograd.functional.jacobian(f, theta).reshape(z.numel(), -1)
    outer = torch.autograd.functional.hessian(lambda z: torch_loss(z, target, loss), z.detach())
    return (jacobian.T @ outer.reshape(z.numel(), z.numel()) @ jacobian).numpy()


def dense_fisher(other, theta, x, target, loss, mode):
    rows = []
    for i in range(len(x)):     # all examples go through, as dropout's mask is one of all
        t = torch.tensor(theta, requires_grad=True)
        z = outputs(other, x, mode)(t)
        rows.append(torch.autograd.grad(torch_loss(z[i:i + 1], target[i:i + 1], loss), t)[0])
    gradients = torch.stack(rows).numpy()
    return gradients.T @ gradients / len(x)


def columns(product, n):
    return np.stack([product(e) for e in np.eye(n)])


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NETS)
def test_gauss_newton(name, mode):
    net, other, x, targets = pair(name)
    for loss, kind in LOSSES[:1] if mode == "train" else LOSSES:
        obj = nn.objective(net, loss, x, targets[kind], mode=mode)
        expected = dense_gauss_newton(other, net.theta, x, targets[kind], loss, mode)
        got = columns(lambda v, obj=obj: obj.gauss_newton(net.theta, v), obj.size)
        # As for the Hessian: sums of some hundred terms of order one in float64.
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


@pytest.mark.parametrize("name", EXAMPLES_APART)
def test_fisher(name):
    net, other, x, targets = pair(name)
    for loss, kind in LOSSES:
        obj = nn.objective(net, loss, x, targets[kind])
        expected = dense_fisher(other, net.theta, x, targets[kind], loss, "train")
        got = columns(lambda v, obj=obj: obj.fisher(net.theta, v), obj.size)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


def test_fisher_needs_examples_of_their_own():
    net, _, x, targets = pair("batch norm")
    with pytest.raises(ValueError, match='mode: expected "eval" for the empirical Fisher matrix'):
        nn.objective(net, "mse", x, targets["values"]).fisher(net.theta, net.theta)
    nn.objective(net, "mse", x, targets["values"], mode="eval").fisher(net.theta, net.theta)


def test_products_of_all_kinds_leave_each_other_alone():
    net, _, x, targets = pair("mlp")
    obj = nn.objective(net, "cross_entropy", x, targets["classes"])
    v = np.random.default_rng(1).standard_normal(obj.size)
    first = [obj.hvp(net.theta, v), obj.gauss_newton(net.theta, v), obj.fisher(net.theta, v)]
    again = [obj.hvp(net.theta, v), obj.gauss_newton(net.theta, v), obj.fisher(net.theta, v)]
    assert all(map(np.array_equal, first, again))


# --- PyTorch modules as objectives


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("name", ["mlp", "layer norm", "batch norm"])
def test_module_objective_is_the_networks(name, batch_size):
    """The same network in both: two independent implementations, in batches of 5 of 17 examples too."""
    net, other, x, targets = pair(name)
    f = torch.nn.functional.cross_entropy
    ours = nn.objective(net, "cross_entropy", x, targets["classes"], mode="eval", batch_size=batch_size)
    theirs = oc.torch.objective(other, f, x, targets["classes"], mode="eval", batch_size=batch_size)
    assert np.array_equal(theirs.theta0, net.theta)
    theta = net.theta + 0.1
    v = np.random.default_rng(0).standard_normal(ours.size)
    for batch in (None, np.array([3, 1, 1, 16, 9, 2])):
        np.testing.assert_allclose(theirs.loss(theta, batch), ours.loss(theta, batch), rtol=1e-12)
        for method in ("hvp", "gauss_newton", "fisher"):
            a, b = (getattr(obj, method)(theta, v, batch) for obj in (ours, theirs))
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-11 * abs(a).max(), err_msg=method)
        np.testing.assert_allclose(theirs.loss_and_grad(theta, batch)[1], ours.loss_and_grad(theta, batch)[1],
                                   rtol=1e-9, atol=1e-12)


def test_module_is_never_changed_and_theta_is_not_copied():
    _, other, x, targets = pair("batch norm")
    other.eval()
    state = {key: a.clone() for key, a in other.state_dict().items()}
    obj = oc.torch.objective(other, torch.nn.functional.mse_loss, x, targets["values"], mode="train")
    obj.hvp(obj.theta0 + 1, np.ones(obj.size))
    assert not other.training
    assert all(torch.equal(state[key], a) for key, a in other.state_dict().items())
    theta = np.array(obj.theta0)
    flat, _, _ = obj._output(theta, slice(None))
    assert flat.data_ptr() == theta.ctypes.data


def test_memory_is_shared_both_ways():
    """Theta, a vector and the examples are what PyTorch works on; gradients and products are what it computed."""
    seen = {}

    class Spy(torch.nn.Linear):
        def forward(self, x):
            seen["x"], seen["weight"] = x, self.weight
            return super().forward(x)

    x, y = np.random.default_rng(0).standard_normal((2, 40, 3), dtype="float32")
    obj = oc.torch.objective(Spy(3, 3), torch.nn.functional.mse_loss, x, y)
    theta, v = np.array(obj.theta0), np.ones(obj.size, "float32")
    _, grad, state = obj._evaluate(theta, slice(None))
    assert np.shares_memory(seen["x"].numpy(), x)
    assert np.shares_memory(seen["weight"].detach().numpy(), theta)
    assert np.shares_memory(grad, state[3].detach().numpy())
    calls, derivative = [], obj._derivative

    def spy(y, x, v):
        calls.append((v, derivative(y, x, v)))
        return calls[-1][1]

    obj._derivative = spy
    obj._products(state, [v], "hvp")
    assert np.shares_memory(calls[-1][0].numpy(), v)
    assert np.shares_memory(obj.hvp(theta, v), calls[-1][1].numpy())


def test_module_errors():
    x, y = np.zeros((3, 2), "float32"), np.zeros((3, 1), "float32")
    layer = torch.nn.Linear(2, 1)
    f = torch.nn.functional.mse_loss
    for arguments, error, match in [
        ((None, f, x, y), TypeError, "module: expected a torch.nn.Module, got NoneType"),
        ((layer, 3, x, y), TypeError, "loss_fn: expected a callable, got int"),
        ((layer, f, x, y[:2]), ValueError, "y: expected 3 targets"),
        ((torch.nn.Linear(2, 1).half(), f, x, y), TypeError, "module: expected parameters of one dtype"),
    ]:
        with pytest.raises(error, match=match):
            oc.torch.objective(*arguments)
    linear = oc.torch.objective(torch.nn.Linear(2, 1), lambda z, y: z.mean(), x, y)
    assert not linear.hvp(linear.theta0, np.ones(3)).any()
