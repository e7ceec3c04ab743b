"""Every loss with its options through networks: value, gradient and the dense Hessian against PyTorch, float64."""

import numpy as np
import pytest
import torch
from networks import pair
from test_nn_hessian import products

import optcore as oc
from optcore import nn

WEIGHT, POSITIVE = (0.5, 1.0, 2.0, 3.0), (2.0, 0.3, 1.0, 4.0)
CASES = {
    "smooth classes": (nn.CrossEntropy(label_smoothing=0.2), "classes"),
    "weighted classes": (nn.CrossEntropy(weight=WEIGHT), "classes"),
    "both, classes": (nn.CrossEntropy(0.2, WEIGHT), "classes"),
    "both, probabilities": (nn.CrossEntropy(0.2, WEIGHT), "weights"),
    "bce": ("bce", "weights"),
    "weighted bce": (nn.BCE(weight=WEIGHT, pos_weight=POSITIVE), "weights"),
    "pos_weight": (nn.BCE(pos_weight=3), "weights"),
    "huber": ("huber", "values"),
    "narrow huber": (nn.Huber(0.4), "values"),
    "mse": (nn.MSE(), "values"),
}


def peer(loss, y, target):
    loss = nn.losses.find(loss)
    tensor = {name: None if (v := getattr(loss, name, None)) is None else torch.tensor(v, dtype=torch.float64)
              for name in ("weight", "pos_weight")}
    functional, target = torch.nn.functional, torch.tensor(target)
    match loss:
        case nn.CrossEntropy():
            return functional.cross_entropy(y, target, tensor["weight"], label_smoothing=loss.label_smoothing)
        case nn.BCE():
            return functional.binary_cross_entropy_with_logits(y, target, **tensor)
        case nn.Huber():
            return functional.huber_loss(y, target, delta=loss.delta)
    return functional.mse_loss(y, target)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["mlp", "batch norm"])
def test_value_gradient_and_hessian(name, case):
    net, other, x, targets = pair(name)
    loss, target = CASES[case][0], targets[CASES[case][1]]
    shapes = [p.shape for p in other.parameters()]
    keys = [key for key, _ in other.named_parameters()]

    def f(flat):
        pieces = flat.split([s.numel() for s in shapes])
        params = {key: p.reshape(s) for key, p, s in zip(keys, pieces, shapes, strict=True)}
        buffers = {key: b.clone() for key, b in other.named_buffers()}
        return peer(loss, torch.func.functional_call(other, {**params, **buffers}, torch.tensor(x)), target)

    theta = torch.tensor(net.theta, requires_grad=True)
    value = f(theta)
    obj = nn.objective(net, loss, x, target)
    ours, gradient = obj.loss_and_grad(net.theta)
    grad = np.empty_like(net.theta)
    assert net.loss_and_grad(x, target, loss, grad=grad) == ours == obj.loss(net.theta)
    assert np.array_equal(grad, gradient)
    # float64 sums of at most a hundred terms of order one.
    assert ours == pytest.approx(value.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, torch.autograd.grad(value, theta)[0], rtol=1e-11, atol=1e-13)
    want = torch.autograd.functional.hessian(f, theta.detach()).numpy()
    np.testing.assert_allclose(products(obj, net.theta), want, rtol=1e-9, atol=1e-11 * abs(want).max())


@pytest.mark.parametrize("case", CASES)
def test_a_run_with_it(case):
    """It goes down, and the validation loss is the loss of the predictions."""
    net, _, x, targets = pair("mlp")
    loss, y = CASES[case][0], targets[CASES[case][1]]
    history = oc.train.fit(net, x, y, loss=loss, optimizer=oc.optim.SGD(net.theta, lr=0.05), epochs=8, batch_size=None,
                           validation=(x, y), progress=False)
    assert (np.diff(history.epochs["loss"]) < 0).all()
    assert history.epochs["validation_loss"][-1] == nn.losses.find(loss).value(net.predict(x), y)[0]
    assert ("validation_accuracy" in history.epochs) == (case.split()[-1] in ("classes", "probabilities"))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.CrossEntropy(label_smoothing=2), ValueError, r"label_smoothing: expected a number in \[0, 1\], got 2"),
    (lambda: nn.CrossEntropy(weight=3.0), ValueError, "weight: expected one number for each class"),
    (lambda: nn.CrossEntropy(weight=["a"]), TypeError, "weight: expected real numbers"),
    (lambda: nn.BCE(pos_weight=[[1.0]]), ValueError, r"pos_weight: .* got shape \(1, 1\)"),
    (lambda: nn.BCE(weight=-1), ValueError, "weight: expected finite numbers >= 0, got -1"),
    (lambda: nn.Huber(0), ValueError, r"delta: expected a number in \(0, inf\), got 0"),
    (lambda: nn.Huber("a"), TypeError, "delta: expected a number, got 'a'"),
])
def test_bad_options(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_does_not_fit_the_network():
    net, _, x, targets = pair("mlp")
    for loss, target, message in [
        (nn.CrossEntropy(weight=[1, 2]), targets["classes"], "weight: expected 4 values, one for each output, got 2"),
        (nn.BCE(pos_weight=[1, 2]), targets["weights"], "pos_weight: expected 4 values, one for each output, got 2"),
        ("bce", 3 * targets["weights"], "y: expected numbers from 0 to 1"),
        ("huber", targets["values"][:3], r"y: expected shape \(17, 4\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            nn.objective(net, loss, x, target)


def test_a_loss_is_data():
    assert nn.CrossEntropy(weight=np.array([1, 2])) == nn.CrossEntropy(weight=(1.0, 2.0))
    assert hash(nn.BCE(pos_weight=[1, 2])) == hash(nn.BCE(pos_weight=(1, 2)))
    with pytest.raises(AttributeError):
        nn.Huber().delta = 2.0
