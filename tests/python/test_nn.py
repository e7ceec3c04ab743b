"""Networks from outside: the flat vector, names, initial values, errors. Numbers against PyTorch: tests/interop."""

import copy
import math

import numpy as np
import pytest

import optcore as oc
from optcore import nn


def digits_net(**options):
    return nn.Sequential(nn.Linear(64, 128), nn.BatchNorm(128), nn.ReLU(), nn.Linear(128, 10), **options)


def batch(n, features, classes=10, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, features)).astype(dtype), rng.integers(0, classes, n)


# ------------------------------------------------------------------------------------------------- theta and its views

def test_names_and_layout():
    net = digits_net()
    assert list(net.parameters) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert [p.shape for p in net.parameters.values()] == [(128, 64), (128,), (128,), (128,), (10, 128), (10,)]
    assert np.array_equal(net.theta, np.concatenate([p.ravel() for p in net.parameters.values()]))
    assert net.theta.dtype == np.float32
    assert list(net.buffers) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert net.buffers["1.num_batches_tracked"].dtype == np.int64


def test_theta_is_the_storage():
    net = digits_net()
    storage = net.theta
    net.theta[...] = 3
    assert (net.parameters["3.weight"] == 3).all()
    net.parameters["0.bias"][:] = 7
    assert (net.theta[8192:8320] == 7).all()
    net.theta = np.arange(net.theta.size, dtype="float64")
    assert net.theta is storage
    assert net.parameters["0.weight"][0, 1] == 1
    net.theta += 1
    assert net.theta is storage
    assert net.theta[0] == 1


@pytest.mark.parametrize(("value", "error"), [
    ([0.0] * 8, TypeError), (np.zeros(8, int), TypeError), (np.zeros(7), ValueError), (np.zeros((8, 1)), ValueError)])
def test_theta_is_checked(value, error):
    net = nn.Sequential(nn.Linear(3, 2))
    before = net.theta.copy()
    with pytest.raises(error, match="theta: expected"):
        net.theta = value
    assert np.array_equal(net.theta, before)


def test_a_copy_is_a_network_of_its_own():
    net = digits_net()
    other = copy.deepcopy(net)
    other.theta[...] = 0
    assert not other.parameters["0.weight"].any()
    assert net.theta.any()
    other.forward(*batch(4, 64)[:1], training=True)
    assert net.buffers["1.num_batches_tracked"] == 0


# ------------------------------------------------------------------------------------------------------ initial values

DISTRIBUTIONS = {  # bound of the uniform ones, variance of all; n_in = 300, n_out = 200
    "fan_in_uniform": (1 / math.sqrt(300), 1 / 900),
    "kaiming_uniform": (math.sqrt(6 / 300), 2 / 300),
    "kaiming_normal": (None, 2 / 300),
    "xavier_uniform": (math.sqrt(6 / 500), 2 / 500),
    "xavier_normal": (None, 2 / 500),
    "lecun_uniform": (math.sqrt(3 / 300), 1 / 300),
    "lecun_normal": (None, 1 / 300),
    "orthogonal": (None, 1 / 300),  # 200 orthonormal rows of 300
    "zeros": (0, 0),
}


@pytest.mark.parametrize("scheme", DISTRIBUTIONS)
def test_initial_weights(scheme):
    net = nn.Sequential(nn.Linear(300, 200, init=scheme), dtype="float64", seed=5)
    w, b = net.parameters["0.weight"], net.parameters["0.bias"]
    bound, variance = DISTRIBUTIONS[scheme]
    # The mean of 60,000 values has a standard error of s/245, their variance one of sqrt((kurtosis - 1)/60000) times
    # itself, at most 0.6 %; five of each.
    assert abs(w.mean()) <= 5 * math.sqrt(variance / w.size)
    assert abs(w.var() - variance) <= 5 * 0.006 * variance
    if bound:  # within it, and reaching it: all 60,000 below 0.999 of it has probability e^-60
        assert 0.999 * bound < abs(w).max() <= bound
    if scheme == "fan_in_uniform":
        assert 0.9 * bound < abs(b).max() <= bound
    else:
        assert not b.any()


@pytest.mark.parametrize("layer", [nn.Linear(7, 4, init="orthogonal"), nn.Linear(4, 7, init="orthogonal")])
def test_orthogonal(layer):
    w = nn.Sequential(layer, dtype="float64", seed=1).parameters["0.weight"]
    fewer = w if w.shape[0] <= w.shape[1] else w.T
    np.testing.assert_allclose(fewer @ fewer.T, np.eye(4), atol=1e-14)


def test_orthogonal_is_evenly_distributed():
    """The entry of a random 2 x 2 rotation or reflection is the cosine of an even angle: P(|w| < 1/2) = 1/3."""
    w = np.array([nn.init.draw("orthogonal", np.random.default_rng(k), (2, 2), 2, 2) for k in range(2000)])
    assert abs((abs(w[:, 0, 0]) < 0.5).mean() - 1 / 3) < 5 * math.sqrt(2 / 9 / 2000)
    for entry in (w[:, 0, 0], w[:, 1, 1], np.linalg.det(w)):
        assert abs((entry > 0).mean() - 0.5) < 5 * 0.5 / math.sqrt(2000)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lsuv(dtype):
    """Sigmoids and convolutions whose layers put out unit variance afterwards, as NumPy measures it."""
    x = 5 + 3 * np.random.default_rng(0).standard_normal((64, 1, 8, 8)).astype(dtype)
    layers = [nn.Conv2d(1, 3, 3), nn.Sigmoid(), nn.Conv2d(3, 4, 3), nn.BatchNorm(4), nn.ReLU(), nn.Flatten(),
              nn.Linear(64, 20), nn.Sigmoid(), nn.Linear(20, 3)]
    net = nn.Sequential(*layers, dtype=dtype, input_shape=(1, 8, 8), seed=3)
    buffers = {k: b.copy() for k, b in net.buffers.items()}
    found = nn.lsuv_(net, x)
    assert all(np.array_equal(buffers[k], b) for k, b in net.buffers.items())
    for k, cut in enumerate((1, 3, 7, 9)):
        part = nn.Sequential(*layers[:cut], dtype=dtype, input_shape=(1, 8, 8))
        part.theta = net.theta[:part.theta.size]
        y = part.forward(x, training=True)
        assert abs(np.var(y) - 1) <= 0.1
        assert found[k] == pytest.approx(np.var(y, dtype="float64"), rel=1e-5)


def test_lsuv_refuses_what_does_not_vary():
    net = nn.Sequential(nn.Linear(2, 3), seed=0)
    before = net.theta.copy()
    with pytest.raises(ValueError, match=r"x: layer 0 puts out a variance of 0\.0"):
        nn.lsuv_(net, np.zeros((5, 2), "float32"))
    with pytest.raises(ValueError, match=r"^x: expected at least one example, got none"):
        nn.lsuv_(net, np.zeros((0, 2), "float32"))
    assert np.array_equal(net.theta, before)


def test_every_scheme_is_tested():
    assert {*DISTRIBUTIONS, "ones"} == set(nn.init.names())


def test_initial_norm():
    net = digits_net()
    assert (net.parameters["1.weight"] == 1).all()
    assert not net.parameters["1.bias"].any()
    assert not net.buffers["1.running_mean"].any()
    assert (net.buffers["1.running_var"] == 1).all()
    assert net.buffers["1.num_batches_tracked"] == 0


def test_seeds():
    assert np.array_equal(digits_net(seed=1).theta, digits_net(seed=1).theta)
    assert np.array_equal(digits_net(seed=1).theta, digits_net(seed=np.random.default_rng(1)).theta)
    assert not np.array_equal(digits_net(seed=1).theta, digits_net(seed=2).theta)
    assert np.array_equal(digits_net(seed=1).theta, digits_net(seed=1, dtype="float64").theta.astype("float32"))


# ------------------------------------------------------------------------------------------------------------- shapes

@pytest.mark.parametrize(("layers", "options", "message"), [
    ([nn.Linear(4, 3), nn.ReLU(), nn.Linear(5, 2)], {},
     r"layer 2, Linear\(5, 2\), expected examples of shape \(5,\), got \(3,\) from layer 1, ReLU\(\)"),
    ([nn.Linear(4, 3), nn.BatchNorm(4)], {}, r"layer 1, BatchNorm\(4\), .* got \(3,\) from layer 0, Linear\(4, 3\)"),
    ([nn.Linear(4, 3)], {"input_shape": (5,)}, r"layer 0, Linear\(4, 3\), .* got \(5,\) from input_shape"),
    ([nn.BatchNorm(3), nn.Flatten(), nn.Linear(12, 2)], {}, r"layer 2, .* got \(3,\) from layer 1, Flatten\(\)"),
    ([nn.ReLU()], {}, "input_shape: expected the shape of one example"),
    ([], {}, "layers: expected at least one"),
])
def test_layers_that_do_not_fit(layers, options, message):
    with pytest.raises(ValueError, match=message):
        nn.Sequential(*layers, **options)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.Sequential(nn.Linear), TypeError, "layers: expected layers of optcore.nn"),
    (lambda: nn.Sequential(nn.Linear(2, 2), dtype="float16"), TypeError, "dtype: expected float32 or float64"),
    (lambda: nn.Sequential(nn.Linear(2, 2), dtype=">f4"), TypeError, "dtype: expected float32 or float64"),
    (lambda: nn.Sequential(nn.Linear(2, 2), seed=-1), ValueError, "seed: expected integers of at least 0 .*, got -1"),
    (lambda: nn.Sequential(nn.Linear(2, 2), seed="a"), TypeError, "seed: expected .*, got 'a'"),
    (lambda: nn.Linear(0, 2), ValueError, "in_features: expected at least 1, got 0"),
    (lambda: nn.Linear(2, 2.0), TypeError, "out_features: expected an integer, got 2.0"),
    (lambda: nn.Linear(2, 2, init="he"), ValueError, "init: expected one of 'fan_in_uniform'"),
    (lambda: nn.Linear(2, 2, init=["zeros"]), TypeError, r"init: expected a string, got \['zeros'\]"),
    (lambda: nn.init.draw(["zeros"], None, (2,), 1, 1), TypeError, r"init: expected a string, got \['zeros'\]"),
    (lambda: nn.Linear(2, 2, bias="no"), TypeError, "bias: expected True or False, got 'no'"),
    (lambda: nn.Linear(True, 2), TypeError, "in_features: expected an integer, got True"),
    (lambda: nn.BatchNorm(2, eps="a"), TypeError, "eps: expected a number, got 'a'"),
    (lambda: nn.BatchNorm(2, eps=np.ones(2)), TypeError, "eps: expected a number, got array"),
    (lambda: nn.BatchNorm(2, momentum="a"), TypeError, "momentum: expected a number, got 'a'"),
    (lambda: nn.ELU("a"), TypeError, "alpha: expected a number, got 'a'"),
    (lambda: nn.Sequential(nn.ReLU(), input_shape=3), TypeError, "input_shape: expected a tuple of integers, got 3"),
    (lambda: nn.Sequential(nn.ReLU(), input_shape=(-3,)), ValueError, r"input_shape\[0\]: expected at least 1, got -3"),
    (lambda: nn.Sequential(nn.ReLU(), input_shape=(3.5,)), TypeError, r"input_shape\[0\]: expected an integer"),
    (lambda: nn.BatchNorm(2, eps=0), ValueError, r"eps: expected a number in \(0, inf\), got 0"),
    (lambda: nn.BatchNorm(2, momentum=1.5), ValueError, r"momentum: expected a number in \[0, 1\], got 1.5"),
    (lambda: nn.GELU("erf"), ValueError, "approximate: expected one of 'none', 'tanh', got 'erf'"),
    (lambda: nn.ELU(-1.0), ValueError, r"alpha: expected a number in \[0, inf\), got -1"),
])
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_numbers_of_numpy_are_numbers():
    net = nn.Sequential(nn.Linear(np.int64(3), np.int8(100), bias=np.True_),
                        nn.BatchNorm(np.int32(100), np.float32(0.5)), nn.ELU(np.float64(2.0)),
                        input_shape=[np.int64(3)])
    assert net.layers == (nn.Linear(3, 100), nn.BatchNorm(100, 0.5), nn.ELU(2.0))
    assert repr(net) == repr(nn.Sequential(*net.layers))
    assert all(type(n) is int for op in net.program.ops for n in (*op.in_shape, *op.out_shape))


def test_flatten():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    x = np.random.default_rng(0).standard_normal((5, 8, 8)).astype("float32")
    assert np.array_equal(net.forward(x), net.forward(x.reshape(5, 64)))
    assert np.array_equal(net.forward(x), net.forward(x.reshape(5, 4, 2, 8)))
    with pytest.raises(ValueError, match=r"x: expected shape \[N, 64\]"):
        net.forward(x.reshape(4, 80))
    strict = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), input_shape=(8, 8))
    with pytest.raises(ValueError, match=r"x: expected shape \[N, 8, 8\]"):
        strict.forward(x.reshape(5, 64))


# ------------------------------------------------ errors of a call

def test_bad_inputs():
    net = digits_net()
    x, _ = batch(6, 64)
    for value, error, message in [
        (x.tolist(), TypeError, "x: expected a NumPy array, got list"),
        (x.astype("float64"), TypeError, "x: expected dtype float32, that of the network, got float64"),
        (x[:, :63], ValueError, r"x: expected shape \[N, 64\], got \[6, 63\]"),
        (x[0], ValueError, r"x: expected shape \[N, 64\], got \[64\]"),
        (np.asfortranarray(x), ValueError, "x: expected a C-contiguous array"),
    ]:
        for call in (net.forward, net.predict):
            with pytest.raises(error, match=message):
                call(value)


def test_a_failed_step_changes_nothing():
    net = nn.Sequential(nn.BatchNorm(4), nn.Linear(4, 3))
    x, y = batch(6, 4, 3)
    grad = np.full_like(net.theta, 9)
    shared = net.theta[:]
    cases = [
        ({"x": x[:1], "target": y[:1]}, ValueError, "at least 2"),
        ({"x": x[:0], "target": y[:0]}, ValueError, "x: expected at least one example"),
        ({"target": y + 1}, ValueError, "target: expected class indices from 0 to 2, got"),
        ({"target": y - 1}, ValueError, "target: expected class indices from 0 to 2, got"),
        ({"target": y[:5]}, ValueError, "target: expected 6 class indices"),
        ({"target": y.astype("int32")}, TypeError, "target: expected int64 class indices"),
        ({"target": y.tolist()}, TypeError, "target: expected a NumPy array"),
        ({"target": np.ones((6, 2), "float32")}, ValueError, r"target: expected shape \(6, 3\)"),
        ({"target": np.ones((6, 3))}, TypeError, "target: expected dtype float32"),
        ({"loss": ["mse"]}, TypeError, "loss: expected a name or a loss such as CrossEntropy\\(\\), got list"),
        ({"loss": "hinge"}, ValueError, "loss: expected one of 'cross_entropy', 'mse', 'bce', 'huber', got 'hinge'"),
        ({"grad": None}, TypeError, "grad: expected a NumPy array"),
        ({"grad": grad.astype("float64")}, TypeError, "grad: expected dtype float32"),
        ({"grad": grad[1:]}, ValueError, "grad: expected shape"),
        ({"grad": shared}, ValueError, "grad: expected memory of its own"),
    ]
    theta, buffers = net.theta.copy(), {key: b.copy() for key, b in net.buffers.items()}
    for change, error, message in cases:
        arguments = {"x": x, "target": y, "loss": "cross_entropy", "grad": grad} | change
        with pytest.raises(error, match=message):
            net.loss_and_grad(**arguments)
        assert np.array_equal(net.theta, theta)
        assert all(np.array_equal(b, buffers[key]) for key, b in net.buffers.items()), message
        assert (grad == 9).all()


def test_the_gradient_overwrites_no_argument():
    net = nn.Sequential(nn.Linear(1, 1))
    b, x = np.array([3.0, 4.0], "float32"), np.array([[1.0], [2.0]], "float32")
    for name, change in (("target", {"grad": b}), ("x", {"grad": x.reshape(2)})):
        with pytest.raises(ValueError, match=f"grad: expected memory of its own, got an array that overlaps {name}"):
            net.loss_and_grad(**{"x": x, "target": b.reshape(2, 1), "loss": "mse"} | change)
    assert b.tolist() == [3, 4]
    assert x.tolist() == [[1], [2]]


def test_training_is_a_flag():
    net = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(TypeError, match="training: expected True or False, got 'no'"):
        net.forward(np.ones((2, 3), "float32"), training="no")


def test_buffers_come_back_when_a_later_layer_fails():
    net = nn.Sequential(nn.BatchNorm(2), nn.Flatten(), nn.BatchNorm(4), input_shape=(2, 2))
    before = {key: b.copy() for key, b in net.buffers.items()}
    with pytest.raises(ValueError, match="at least 2"):  # two values for each channel of the first, one of the second
        net.forward(np.ones((1, 2, 2), "float32"), training=True)
    assert all(np.array_equal(b, before[key]) for key, b in net.buffers.items())


# ---------------------------------------------------------------------------------------------------------- evaluation

def test_predict_is_forward_in_pieces():
    net = digits_net()
    net.forward(batch(50, 64)[0], training=True)
    x, _ = batch(9001, 64)
    # Pieces are other matrix products than the whole, so roundings differ: outputs of order one, 128 terms.
    np.testing.assert_allclose(net.predict(x), net.forward(x), rtol=1e-5, atol=1e-5)
    assert net.predict(x[:0]).shape == (0, 10)
    assert net.forward(x[:0]).shape == (0, 10)


def test_one_example():
    net = digits_net()
    x, _ = batch(1, 64)
    assert net.forward(x).shape == (1, 10)
    with pytest.raises(ValueError, match="at least 2 values per channel"):
        net.forward(x, training=True)
    assert nn.Sequential(nn.Linear(64, 10)).forward(x, training=True).shape == (1, 10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_bits(dtype):
    x, y = batch(1201, 64, dtype=dtype)
    seen = []
    for n in (1, 2, 3, 7):
        net = digits_net(dtype=dtype)
        grad = np.empty_like(net.theta)
        with oc.threads(n):
            value = net.loss_and_grad(x, y, grad=grad)
            obj = nn.objective(net, "cross_entropy", x, y)
            product = obj.hvp(net.theta, np.cos(np.arange(obj.size)))
        seen.append((value, grad.tobytes(), product.tobytes(), net.buffers["1.running_var"].tobytes()))
    assert all(s == seen[0] for s in seen[1:])


def test_text():
    net = digits_net()
    assert "BatchNorm(128)" in repr(net)
    assert "9,866 parameters" in repr(net)
    table = net.summary()
    assert "Linear(64, 128)" in table
    assert "[N, 10]" in table
    assert "8,320" in table


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.LayerNorm(3), (4, 2)), (nn.LayerNorm((2, 3)), (3,)), (nn.RMSNorm(3), (3, 2)), (nn.GroupNorm(2, 4), (3, 4)),
    (nn.GroupNorm(4, 4), (4,)), (nn.InstanceNorm(4), (4,)), (nn.InstanceNorm(4), (3, 4))], ids=repr)
def test_a_norm_says_which_examples_it_takes(layer, shape):
    with pytest.raises(ValueError, match="layers: layer 0, "):
        nn.Sequential(layer, input_shape=shape)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.LayerNorm(()), ValueError, "shape: expected at least one dimension"),
    (lambda: nn.LayerNorm((3, 0)), ValueError, r"shape\[1\]: expected at least 1"),
    (lambda: nn.RMSNorm(3.0), TypeError, r"shape\[0\]: expected an integer"),
    (lambda: nn.RMSNorm(3, eps=0), ValueError, r"eps: expected a number in \(0, inf\), got 0"),
    (lambda: nn.GroupNorm(3, 4), ValueError, "num_groups: expected a divisor of features, 4, got 3"),
    (lambda: nn.GroupNorm(2, 4, affine=1), TypeError, "affine: expected True or False"),
    (lambda: nn.InstanceNorm(0), ValueError, "features: expected at least 1"),
    (lambda: nn.InstanceNorm(3, eps="x"), TypeError, "eps: expected a number, got 'x'")])
def test_a_bad_option_of_a_norm_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
