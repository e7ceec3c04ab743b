"""Layers of images, dropout, residual blocks: what they refuse, how they are named, that dropout repeats and counts."""

import copy

import numpy as np
import pytest

import optcore as oc
from optcore import nn


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.Conv2d(1.5, 2, 3), TypeError, "in_channels: expected an integer, got 1.5"),
    (lambda: nn.Conv2d(1, 0, 3), ValueError, "out_channels: expected at least 1, got 0"),
    (lambda: nn.Conv2d(1, 2, 0), ValueError, "kernel_size: expected at least 1, got 0"),
    (lambda: nn.Conv2d(1, 2, (3, 3, 3)), TypeError, "kernel_size: expected an integer or two, got"),
    (lambda: nn.Conv2d(1, 2, 3, stride=(1, 0)), ValueError, "stride: expected at least 1, got"),
    (lambda: nn.Conv2d(1, 2, 3, stride=None), TypeError, "stride: expected an integer or two, got None"),
    (lambda: nn.Conv2d(1, 2, 3, padding=-1), ValueError, "padding: expected at least 0, got -1"),
    (lambda: nn.Conv2d(1, 2, 3, padding=True), TypeError, "padding: expected an integer or two, got True"),
    (lambda: nn.Conv2d(1, 2, 3, bias=1), TypeError, "bias: expected True or False"),
    (lambda: nn.Conv2d(1, 2, 3, init="best"), ValueError, "init: expected one of"),
    (lambda: nn.MaxPool2d(3, padding=2), ValueError, "padding: expected at most half of kernel_size, 3, got 2"),
    (lambda: nn.AvgPool2d("2"), TypeError, "kernel_size: expected an integer or two, got '2'"),
    (lambda: nn.Dropout(1.5), ValueError, r"p: expected a number in \[0, 1\], got 1.5"),
    (lambda: nn.Dropout("half"), TypeError, "p: expected a number, got 'half'"),
    (lambda: nn.Dropout(float("nan")), ValueError, r"p: expected a number in \[0, 1\], got nan"),
    (lambda: nn.Residual(), ValueError, "layers: expected at least one layer, got none"),
    (lambda: nn.Residual(nn.Tanh), TypeError, "layers: expected layers of optcore.nn"),
    (lambda: nn.Sequential(nn.Residual(nn.Linear(3, 4))), ValueError,
     r"layer 0, Residual, expected its layers to give the shape that they take, \(3,\), got \(4,\)"),
    (lambda: nn.Sequential(nn.Residual(nn.Linear(3, 4), nn.Linear(5, 3))), ValueError,
     r"layer 0.1, Linear\(5, 3\), expected examples of shape \(5,\), got \(4,\) from layer 0.0"),
    (lambda: nn.Sequential(nn.Conv2d(3, 2, 5, padding=1), input_shape=(3, 2, 9)), ValueError,
     r"expected examples of shape \(3, height >= 3, width >= 3\), got \(3, 2, 9\) from input_shape"),
    (lambda: nn.Sequential(nn.MaxPool2d(2), input_shape=(9,)), ValueError, r"\(channels, height >= 2, width >= 2\)"),
    (lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 2)), ValueError,
     "input_shape: expected the shape of one example"),
])
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_text():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=(1, 0)),
                        nn.Residual(nn.MaxPool2d(3, stride=1, padding=1), nn.ReLU()), nn.AvgPool2d(2), nn.Dropout(0.1),
                        input_shape=(1, 8, 8))
    lines = net.summary().splitlines()
    assert [line.split("  ")[1].strip() for line in lines[1:5]] == [
        "Conv2d(1, 4, 3, padding=(1, 0))", "Residual(MaxPool2d(3, stride=1, padding=1), ReLU())", "AvgPool2d(2)",
        "Dropout(p=0.1)"]


def test_names_within_a_block():
    net = nn.Sequential(nn.Linear(3, 3), nn.Residual(nn.BatchNorm(3), nn.Residual(nn.Linear(3, 3, bias=False))))
    assert list(net.parameters) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias", "1.1.0.weight"]
    assert list(net.buffers) == ["1.0.running_mean", "1.0.running_var", "1.0.num_batches_tracked"]
    assert sum(p.size for p in net.parameters.values()) == net.theta.size


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_by_numbers(p):
    n = 200_000
    net = nn.Sequential(nn.Dropout(p), input_shape=(n,))
    x = np.ones((1, n), "float32")
    masks = np.concatenate([net.forward(x, training=True) for _ in range(4)])
    share = (masks == 0).mean(axis=1)
    # Five deviations of a mean of n draws.
    assert (abs(share - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()
    if p < 1:
        assert set(np.unique(masks)) <= {np.float32(0), np.float32(1 / (1 - p))}
    if p == 0.3:  # independent from pass to pass, and from one element to the next
        kept = (masks > 0) - (1 - p)
        first = kept[0]
        for a, b in ((first, kept[1]), (kept[1], kept[2]), (first[1:], first[:-1]), (first[64:], first[:-64])):
            assert abs((a * b).mean()) < 5 * p * (1 - p) / np.sqrt(n)
    assert np.array_equal(net.predict(x), x)


def test_dropout_differs_by_layer_and_seed():
    def run(seed):
        net = nn.Sequential(nn.Dropout(), input_shape=(1000,), seed=seed)
        other = nn.Sequential(nn.Tanh(), nn.Dropout(), nn.Dropout(), input_shape=(1000,), seed=seed)
        mask = net.forward(np.ones((1, 1000), "float32"), training=True)
        return mask, [int(other.buffers[f"{i}.seed"]) for i in (1, 2)]

    assert np.array_equal(run(3)[0], run(3)[0])
    assert not np.array_equal(run(3)[0], run(4)[0])
    assert len(set(run(3)[1] + run(4)[1])) == 4


def digits(n=300):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 2, 8, 8)).astype("float32"), rng.integers(0, 3, n)


def network():
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.2),
                         nn.Residual(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm(4), nn.ReLU(), nn.Dropout(0.1)),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3), input_shape=(2, 8, 8), seed=1)


def test_fit_repeats_and_resumes(tmp_path):
    X, y = digits()
    options = {"epochs": 4, "batch_size": 32, "progress": False, "seed": 2}
    nets = []
    for threads in (1, 3):
        with oc.threads(threads):
            nets.append(network())
            oc.train.fit(nets[-1], X, y, **options)
    half = network()
    oc.train.fit(half, X, y, **{**options, "epochs": 2}, checkpoint=tmp_path / "half")
    nets.append(network())
    oc.train.fit(nets[-1], X, y, **options, resume=tmp_path / "half")
    first, *others = [[net.theta.tobytes(), *(b.tobytes() for b in net.buffers.values())] for net in nets]
    assert all(first == other for other in others)
    assert int(nets[0].buffers["2.num_passes"]) == 4 * -(-300 // 32)


def test_a_failed_pass_does_not_count():
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm(3))
    with pytest.raises(ValueError, match="at least 2 values per channel"):
        net.forward(np.ones((1, 3), "float32"), training=True)
    assert int(net.buffers["0.num_passes"]) == 0


def test_objective_has_one_mask():
    X, y = digits(40)
    net = network()
    before = copy.deepcopy(net.buffers["2.num_passes"])
    objective = nn.objective(net, "cross_entropy", X, y, dtype="float64")
    theta = net.theta.astype("float64")
    assert objective.loss(theta) == objective.loss(theta) == objective.loss_and_grad(theta)[0]
    assert objective.loss(theta) != nn.objective(net, "cross_entropy", X, y, mode="eval", dtype="float64").loss(theta)
    assert before == net.buffers["2.num_passes"]


def test_product_against_differences():
    """By a central difference of the gradient, through every new layer; tanh, for a kink has no Hessian."""
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Tanh(), nn.Dropout(0.3),
                        nn.Residual(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh(), nn.AvgPool2d(3, stride=1, padding=1)),
                        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3), input_shape=(2, 8, 8), dtype="float64")
    X, y = digits(20)
    objective = nn.objective(net, "cross_entropy", X, y)
    v = np.random.default_rng(0).standard_normal(objective.size)
    v /= np.linalg.norm(v)

    def slope(h):
        plus, minus = (objective.loss_and_grad(net.theta + s * h * v)[1] for s in (1, -1))
        return (plus - minus) / (2 * h)

    # Richardson's extrapolation removes h^2: truncation about h^4 = 1e-12, rounding eps/h about 2e-13.
    expected = (4 * slope(1e-3) - slope(2e-3)) / 3
    assert np.linalg.norm(objective.hvp(net.theta, v) - expected) < 1e-7 * np.linalg.norm(expected)


@pytest.mark.parametrize("value", [-1, 2**63 - 1])
def test_a_counter_that_would_repeat_is_refused(value):
    """As batch norm's, in the compiled pass, the Python passes, a step of fit and an objective."""
    net = nn.Sequential(nn.Dropout(), nn.Linear(3, 1))
    net.buffers["0.num_passes"][...] = value
    x, y, grad = np.ones((4, 3), "float32"), np.ones((4, 1), "float32"), np.empty_like(net.theta)
    before = net.theta.copy()
    for call in (lambda: net.forward(x, training=True), lambda: net.loss_and_grad(x, y, "mse", grad),
                 lambda: oc.train.fit(net, x, y, "mse", epochs=1, progress=False),
                 lambda: nn.objective(net, "mse", x, y).loss(net.theta)):
        with pytest.raises(ValueError, match=r"num_passes: expected 0 <= num_passes < 2\*\*63 - 1, got"):
            call()
    assert net.buffers["0.num_passes"] == value
    assert np.array_equal(net.theta, before)
    net.predict(x)
    net.buffers["0.num_passes"][...] = 2**63 - 2        # the last one that there is
    net.forward(x, training=True)


def test_both_gradients_of_sam_have_one_mask():
    """With a radius of nothing the second is the first: SAM steps as its rule does."""
    rng = np.random.default_rng(0)
    X, y, thetas = rng.standard_normal((40, 6)), rng.standard_normal((40, 1)), []
    for wrap in (lambda rule: rule, lambda rule: oc.optim.SAM(rule, rho=1e-12)):
        net = nn.Sequential(nn.Linear(6, 30), nn.Dropout(), nn.Linear(30, 1), dtype="float64")
        oc.train.fit(net, X, y, "mse", wrap(oc.optim.SGD(net.theta, lr=0.01)), epochs=3, progress=False)
        thetas.append((net.theta, int(net.buffers["1.num_passes"])))
    np.testing.assert_allclose(thetas[1][0], thetas[0][0], rtol=1e-8, atol=1e-10)
    assert thetas[0][1] == thetas[1][1]
