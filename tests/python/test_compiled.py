"""The compiled network against the Python passes: bit for bit, whatever the network, loss, dtype and batch."""

import copy
import multiprocessing
import pickle
import threading

import numpy as np
import pytest

import optcore as oc
from optcore.nn import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
    losses,
    passes,
)
from optcore.nn.compiled import loss_form
from optcore.nn.ops import OPS
from optcore.process import one_pool

NETWORKS = {
    "64-128-10": lambda **k: Sequential(Linear(64, 128), BatchNorm(128), ReLU(), Linear(128, 10), **k),
    "one layer": lambda **k: Sequential(Linear(5, 3), **k),
    "no bias, activations in a row": lambda **k: Sequential(
        Linear(7, 5, bias=False), ELU(0.7), Sigmoid(), BatchNorm(5, momentum=None), Tanh(), ReLU(), Linear(5, 3),
        Tanh(), **k),
    "norm first and last": lambda **k: Sequential(
        Flatten(), BatchNorm(12, eps=0.1), Linear(12, 300), ReLU(), Linear(300, 4), BatchNorm(4, momentum=0.3),
        input_shape=(3, 4), **k),
    "channels": lambda **k: Sequential(BatchNorm(3), Tanh(), Flatten(), Linear(12, 4), input_shape=(3, 4), **k),
    "derivatives from x": lambda **k: Sequential(
        Linear(6, 5), GELU(), SiLU(), BatchNorm(5), GELU("tanh"), Linear(5, 4), SiLU(), **k),
    "an activation first": lambda **k: Sequential(ReLU(), Linear(6, 4), ELU(), **k),
    "images": lambda **k: Sequential(
        Conv2d(2, 6, 3, padding=1), BatchNorm(6), ReLU(), MaxPool2d(2), Dropout(0.2), Conv2d(6, 5, 3, bias=False),
        Tanh(), AvgPool2d(3, stride=2, padding=1), Flatten(), Linear(20, 4), input_shape=(2, 12, 10), **k),
    "norms of rows": lambda **k: Sequential(
        LayerNorm(7), Linear(7, 6), LayerNorm(6, affine=False), ReLU(), RMSNorm(6), Linear(6, 6), GroupNorm(2, 6),
        Tanh(), GroupNorm(3, 6, affine=False), Linear(6, 3), RMSNorm(3, affine=False), **k),
    "norms of images": lambda **k: Sequential(
        InstanceNorm(4, affine=True), Conv2d(4, 6, 3, padding=1), GroupNorm(3, 6), ReLU(), LayerNorm((6, 4)),
        InstanceNorm(6), GroupNorm(2, 6, affine=False), Flatten(), Linear(144, 3), input_shape=(4, 6, 4), **k),
    "pools first": lambda **k: Sequential(
        AvgPool2d(2), MaxPool2d((1, 2)), Conv2d(3, 4, (2, 1), stride=2), MaxPool2d(2), Flatten(),
        input_shape=(3, 16, 16), **k),
    "dropout at both ends": lambda **k: Sequential(Dropout(0.3), Linear(6, 5), GELU(), Dropout(), ReLU(), Dropout(1.0),
                                                   **k),
    "residual": lambda **k: Sequential(
        Linear(6, 5), Residual(Linear(5, 7), BatchNorm(7), ReLU(), Linear(7, 5)), Residual(Tanh()), ReLU(),
        Residual(Residual(GELU(), Linear(5, 5)), Dropout(0.1)), Linear(5, 3), **k),
    "residual at both ends": lambda **k: Sequential(
        Residual(Tanh(), Dropout(0.5)), Residual(Linear(4, 4), Sigmoid()), Residual(Flatten()), Residual(ELU()), **k),
    "shared by threads": lambda **k: Sequential(Linear(300, 400), ReLU(), Linear(400, 90), **k),
}
ROWS = (33, 2, 5, 300)  # the arena is planned for the first, shrinks, and grows


# Each loss with the kind of its targets; W stands for weights of the outputs.
LOSSES = {
    "classes": (lambda w: "cross_entropy", "classes"),
    "probabilities": (lambda w: "cross_entropy", "shares"),
    "mse": (lambda w: "mse", "values"),
    "smoothed classes": (lambda w: losses.CrossEntropy(label_smoothing=0.1), "classes"),
    "weighted classes": (lambda w: losses.CrossEntropy(label_smoothing=0.3, weight=w), "classes"),
    "weighted probabilities": (lambda w: losses.CrossEntropy(label_smoothing=0.3, weight=w), "shares"),
    "huber": (lambda w: losses.Huber(0.7), "values"),
    "bce": (lambda w: "bce", "shares"),
    "weighted bce": (lambda w: losses.BCE(weight=w, pos_weight=3), "shares"),
    "positive bce": (lambda w: losses.BCE(pos_weight=w), "shares"),
}


def targets(loss, rng, n, k, dtype):
    make, kind = LOSSES[loss]
    target = {"classes": lambda: rng.integers(0, k, n), "shares": lambda: rng.random((n, k)).astype(dtype).round(1),
              "values": lambda: rng.standard_normal((n, k)).astype(dtype)}[kind]()
    weights = rng.uniform(0, 2, k)
    weights[1:2] = 0
    if kind == "classes":
        target[0] = 0       # not all of the class without a weight
    return make(tuple(weights)), target


def reference(net, x, target, loss):
    """Loss, gradient and buffers afterwards, by the Python passes, on a copy."""
    net, grad = copy.deepcopy(net), np.empty_like(net.theta)
    with one_pool:
        records = passes.forward(net.program, net.theta, net._buffers, x, training=True, update_running=True)
        value, dy = losses.find(loss).value(records[-1].y, target)
        passes.backward(net.program, records, dy, grad)
    return [np.float64(value), grad, *net.buffers.values()]


def same_bits(these, others):
    return [np.asarray(a).tobytes() for a in these] == [np.asarray(a).tobytes() for a in others]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["classes", "probabilities", "mse"])
@pytest.mark.parametrize("name", NETWORKS)
def test_bits_of_the_python_passes(name, loss, dtype):
    rng, net = np.random.default_rng(3), NETWORKS[name](dtype=dtype)
    grad = np.empty_like(net.theta)
    for n in ROWS:
        x = rng.standard_normal((n, *net.program.in_shape)).astype(dtype)
        which, target = targets(loss, rng, n, net.program.out_shape[0], dtype)
        expected = reference(net, x, target, which)
        grad.fill(np.nan)
        found = net.loss_and_grad(x, target, which, grad)
        assert same_bits([np.float64(found), grad, *net.buffers.values()], expected)
        with one_pool:
            expected = passes.output(net.program, net.theta, net._buffers, x)
        assert same_bits([net.predict(x), net.forward(x)], [expected, expected])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_bits_of_every_loss(loss, dtype):
    rng, net = np.random.default_rng(3), NETWORKS["one layer"](dtype=dtype)
    grad = np.empty_like(net.theta)
    for n in (*ROWS, 4000):
        x = rng.standard_normal((n, 5)).astype(dtype)
        which, target = targets(loss, rng, n, 3, dtype)
        assert loss_form(which) is not None
        expected = reference(net, x, target, which)
        assert same_bits([np.float64(net.loss_and_grad(x, target, which, grad)), grad], expected)


class Own(losses.MSE):
    """A loss of one's own, which has no compiled form."""

    def value(self, y, target, gradient=True):
        loss, dy = super().value(y, target, gradient)
        return 2 * loss, None if dy is None else 2 * dy


def test_a_loss_of_ones_own():
    rng, net = np.random.default_rng(3), NETWORKS["one layer"]()
    x, target = rng.standard_normal((9, 5), dtype="float32"), rng.standard_normal((9, 3), dtype="float32")
    assert loss_form(Own()) is None
    grads = np.empty((2, net.theta.size), "float32")
    values = [net.loss_and_grad(x, target, loss, g) for loss, g in zip(("mse", Own()), grads, strict=True)]
    assert values[1] == 2 * values[0]
    assert np.array_equal(grads[1], 2 * grads[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_in_training(name):
    rng, net = np.random.default_rng(4), NETWORKS[name]()
    other = copy.deepcopy(net)
    x = rng.standard_normal((9, *net.program.in_shape)).astype("float32")
    with one_pool:
        y = passes.forward(other.program, other.theta, other._buffers, x, training=True, update_running=True)[-1].y
    assert same_bits([net.forward(x, training=True), *net.buffers.values()], [y, *other.buffers.values()])


def test_every_operation_is_compiled():
    for make in NETWORKS.values():
        net = make()
        assert net.compiled.take(8, True) is not None
        assert net.compiled.take(8, False) is not None
    assert {op.name for make in NETWORKS.values() for op in make().program.every_op()} == set(OPS)


class Apart(oc.optim.AdamW):
    """A rule with a step of its own, which the compiled step does not take over."""

    def step(self, grads):
        super().step(grads)


@pytest.mark.parametrize("options", [
    {}, {"clip_norm": 0.05}, {"clip_value": 1e-3, "nonfinite": "skip"}, {"state_dtype": "bfloat16"},
    {"compensated": True}, {"ema_decay": 0.9}, {"state_dtype": "int8", "seed": 3},
    {"lr": oc.schedules.cosine_decay(0.01, 20)},
], ids=lambda options: ", ".join(options))
def test_fit_joined_and_apart(options):
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((103, 64), dtype="float32"), rng.integers(0, 10, 103)
    runs = []
    for rule in (oc.optim.AdamW, Apart):
        net = NETWORKS["64-128-10"]()
        opt = rule(net.theta, **options)
        history = oc.train.fit(net, X, y, optimizer=opt, epochs=3, batch_size=20, progress=False)
        state = [a for a in opt.state_dict()["state"][0].values() if isinstance(a, np.ndarray)]
        runs.append([net.theta, *net.buffers.values(), *state, *map(np.array, history.steps.values())])
    assert same_bits(*runs)


def test_fit_joined_over_groups_and_views():
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((60, 64), dtype="float32"), rng.integers(0, 10, 60)
    thetas = []
    for rule in (oc.optim.AdamW, Apart):
        net = NETWORKS["64-128-10"]()
        p = net.parameters
        opt = rule([{"params": [p["0.weight"], p["3.weight"]], "lr": 0.01}, {"params": [p["3.bias"]], "lr": 0.1}])
        oc.train.fit(net, X, y, optimizer=opt, epochs=2, batch_size=20, progress=False)
        thetas.append(net.theta)
    assert same_bits([thetas[0]], [thetas[1]])
    assert (thetas[0][64 * 128:64 * 128 + 128] == NETWORKS["64-128-10"]().parameters["0.bias"]).all()  # left out


@pytest.mark.parametrize("rule", [oc.optim.AdamW, Apart])
def test_a_skipped_step_leaves_nothing_behind(rule):
    rng = np.random.default_rng(8)
    X, y = rng.standard_normal((40, 64), dtype="float32"), rng.integers(0, 10, 40)
    net = NETWORKS["64-128-10"]()
    net.parameters["0.weight"][0, 0] = np.inf
    before = [a.copy() for a in (net.theta, *net.buffers.values())]
    opt = rule(net.theta, nonfinite="skip")
    oc.train.fit(net, X, y, optimizer=opt, epochs=1, batch_size=20, progress=False)
    assert opt.skipped_steps == 2
    assert same_bits([net.theta, *net.buffers.values()], before)


def test_a_broken_counter_is_refused():
    net = NETWORKS["64-128-10"]()
    net.buffers["1.num_batches_tracked"][...] = -1
    with pytest.raises(ValueError, match="num_batches: expected 0 <= num_batches"):
        net.forward(np.zeros((4, 64), "float32"), training=True)


def test_calls_from_several_threads():
    rng, net = np.random.default_rng(9), NETWORKS["shared by threads"]()
    batches = [rng.standard_normal((50 + i, 300), dtype="float32") for i in range(4)]
    expected, found = [net.predict(x) for x in batches], [None] * 4

    def work(i):
        found[i] = [net.predict(batches[i]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(same_bits(found[i], [expected[i]] * 20) for i in range(4))


def test_copies_leave_the_memory_behind():
    net, size = NETWORKS["shared by threads"](), len(pickle.dumps(NETWORKS["shared by threads"]()))
    x = np.ones((500, 300), "float32")
    y, grad = net.predict(x), np.empty_like(net.theta)
    net.loss_and_grad(x, np.zeros(500, int), grad=grad)
    assert len(pickle.dumps(net)) < size + 1000     # what the program has found out about itself since
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert same_bits([other.predict(x)], [y])
        other.theta = np.zeros_like(other.theta)
        assert not other.predict(x).any()
    assert same_bits([net.predict(x)], [y])


def _predict_in_child(net, x, pipe):
    pipe.send(net.predict(x))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_child_predicts():
    net, x = NETWORKS["shared by threads"](), np.ones((500, 300), "float32")
    y = net.predict(x)  # the parent has a pool of threads, which the child has not
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_predict_in_child, args=(net, x, theirs))
    child.start()
    assert ours.poll(30)
    assert same_bits([ours.recv()], [y])
    child.join()


def test_no_examples():
    assert NETWORKS["64-128-10"]().predict(np.empty((0, 64), "float32")).shape == (0, 10)
