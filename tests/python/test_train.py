"""Training: against PyTorch, exact resume, interruption, errors that change nothing."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import scipy.special
import torch

import optcore as oc
from optcore import checkpoint

sys.path.insert(0, os.path.dirname(__file__))
from small_run import adamw, network, problem, quiet


def bits(net, optimizer, history):
    """Everything that a resumed run must end with, wall-clock time aside."""
    state = optimizer.state_dict()["state"]
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows()]
    return (net.theta.tobytes(), {k: b.tobytes() for k, b in net.buffers.items()},
            {i: {k: v if k == "step" else v.tobytes() for k, v in s.items()} for i, s in state.items()}, rows)


# --- against PyTorch

class Recorder:
    """Keeps the parameters after every step."""

    def __init__(self):
        self.thetas = []

    def on_step(self, run):
        self.thetas.append(run.net.theta.copy())


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_same_trajectory_as_torch(loss):
    X, y = problem(dtype="float64")
    if loss == "mse":
        y = np.stack([X[:, 0] * X[:, 1], X[:, 2], X[:, 3] ** 2], axis=1)
    net, recorder = network("float64"), Recorder()
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Tanh(),
                                torch.nn.Linear(16, 3)).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(net.parameters[name]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    criterion = torch.nn.CrossEntropyLoss() if loss == "cross_entropy" else torch.nn.MSELoss()
    rng = np.random.default_rng(np.random.SeedSequence(7).spawn(2)[0])      # the documented source of the order
    theirs, losses = [], []
    for _ in range(3):
        order = oc.data.shuffled(len(X), rng)
        for i in range(0, len(X), 16):
            batch = order[i:i + 16]
            optimizer.zero_grad()
            value = criterion(model(torch.from_numpy(X[batch])), torch.from_numpy(y[batch]))
            value.backward()
            optimizer.step()
            scheduler.step()
            losses.append(value.item())
            theirs.append(torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().copy())
    history = quiet(net, X, y, loss=loss, optimizer=adamw(net, weight_decay=0.1), epochs=3, seed=7,
                    callbacks=[recorder])
    # The bias in front of a batch norm has no gradient but rounding, 1e-17: Adam divides it by eps = 1e-8, so that
    # 21 steps of 0.01 move it by up to 2e-10 at random; everything else agrees to 1e-13.
    np.testing.assert_allclose(recorder.thetas, theirs, rtol=0, atol=1e-9)
    np.testing.assert_allclose(history.steps["loss"], losses, rtol=1e-9)
    for name, b in model.named_buffers():
        if "num_batches" not in name:
            np.testing.assert_allclose(net.buffers[name], b.numpy(), rtol=0, atol=1e-9)     # the bias moves the mean


def test_history_rows():
    X, y = problem()
    net = network()
    schedule = oc.schedules.step_decay(0.01, 10, 0.5)
    history = quiet(net, X, y, optimizer=adamw(net, lr=schedule), validation=0.2, epochs=4)
    examples = history.steps["examples"]
    assert examples == [16, 16, 16, 16, 16, 2] * 4           # a fifth of 103 is 21: 82 are left
    assert history.steps["lr"] == [schedule(t) for t in range(24)]
    assert {len(v) for v in history.steps.values()} == {24}
    assert {len(v) for v in history.epochs.values()} == {4}
    assert history.epochs["steps"] == [6, 12, 18, 24]
    # means and norms of 6 numbers: a few roundings of 1e-16
    expected = np.average(np.reshape(history.steps["loss"], (4, 6)), axis=1, weights=examples[:6])
    np.testing.assert_allclose(history.epochs["loss"], expected, rtol=1e-14)
    expected = np.sqrt(np.mean(np.square(np.reshape(history.steps["grad_norm"], (4, 6))), axis=1))
    np.testing.assert_allclose(history.epochs["grad_norm"], expected, rtol=1e-14)
    assert not history.interrupted
    assert [row["kind"] for row in history.rows()] == (["step"] * 6 + ["epoch"]) * 4


@pytest.mark.parametrize("norms", [(1.0, math.inf), (math.inf, math.nan), (math.nan, 1.0)])
def test_gradient_norm_of_an_epoch_is_nan_where_one_is(norms):
    history = oc.train.History()
    for norm in norms:
        history.add_step(loss=1.0, lr=0.1, grad_norm=norm, examples=1)
    history.add_epoch(2, seconds=0.0)
    np.testing.assert_array_equal(history.epochs["grad_norm"], np.sqrt(np.mean(np.square(norms))))


def test_gradient_norm_is_the_gradient_s():
    X, y = problem(dtype="float64")
    net, twin = network("float64"), network("float64")
    grad = np.empty_like(net.theta)
    value = twin.loss_and_grad(X, y, grad=grad)
    history = quiet(net, X, y, batch_size=None, epochs=1, optimizer=adamw(net, clip_norm=1e-3))
    assert history.steps["loss"] == [value]
    assert history.steps["grad_norm"][0] == pytest.approx(np.linalg.norm(grad), rel=1e-14)      # before clipping


def test_validation_is_held_out_and_in_evaluation_mode():
    X, y = problem()
    net = network()
    history = quiet(net, X[:80], y[:80], validation=(X[80:], y[80:]), epochs=2)
    out = net.forward(X[80:]).astype(np.float64)
    p = np.exp(out - out.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    # the loss is computed from float32 outputs: rounding 6e-8
    assert history.epochs["validation_loss"][-1] == pytest.approx(-np.log(p[np.arange(23), y[80:]]).mean(), rel=1e-6)
    assert history.epochs["validation_accuracy"][-1] == (out.argmax(axis=1) == y[80:]).mean()


def test_evaluate_is_the_formula_over_the_rows():
    X, y = problem(dtype="float64")
    net, rows, w = network("float64"), [5, 2, 90], np.array([1.0, 0.0, 3.0])
    quiet(net, X, y, epochs=2)
    z = net.predict(X)[rows]
    losses = scipy.special.logsumexp(z, axis=1) - z[np.arange(3), y[rows]]
    found = oc.train.evaluate(net, X, y, rows=rows, sample_weight=w)
    assert found["validation_loss"] == pytest.approx(losses @ w / 4, rel=1e-14)     # the rounding of a few sums
    assert found["validation_accuracy"] == (z.argmax(axis=1) == y[rows]) @ w / 4


@pytest.mark.parametrize("loss", [oc.nn.CrossEntropy(weight=[0.0, 1.0, 3.0]), oc.nn.MSE()], ids=str)
def test_evaluate_goes_by_pieces(loss, monkeypatch):
    """One piece has no example that counts, the last one is short; the outputs of all are never held together."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((10, 4)), np.array([0, 0, 0, 0, 1, 2, 0, 1, 2, 2])
    w = rng.integers(1, 4, 10).astype(float)
    net = oc.nn.Sequential(oc.nn.Linear(4, 3), dtype="float64")
    z, held = net.predict(X), []
    predict = net.predict
    monkeypatch.setattr(oc.train.evaluation, "_PIECE", 4)
    monkeypatch.setattr(type(net), "predict", lambda self, x: held.append(len(x)) or predict(x))
    target = y if isinstance(loss, oc.nn.CrossEntropy) else rng.standard_normal((10, 3))
    found = oc.train.evaluate(net, X, target, loss, sample_weight=w)
    if isinstance(loss, oc.nn.CrossEntropy):
        each, share = scipy.special.logsumexp(z, axis=1) - z[np.arange(10), y], w * np.array(loss.weight)[y]
        assert found["validation_accuracy"] == pytest.approx((z.argmax(axis=1) == y) @ w / w.sum(), rel=1e-15)
    else:
        each, share = ((z - target) ** 2).mean(axis=1), w
    assert found["validation_loss"] == pytest.approx(each @ share / share.sum(), rel=1e-14)  # a few sums' rounding
    assert held == [4, 4, 2]


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"net": 3}, TypeError, "net: expected an optcore.nn.Sequential, got int"),
    ({"X": problem()[0][:0], "y": problem()[1][:0]}, ValueError, "X: expected at least one example"),
    ({"y": problem()[1][:5]}, ValueError, "y: expected 103 class indices"),
    ({"rows": [0.0]}, TypeError, "rows: expected integer indices, got float64"),
    ({"rows": []}, ValueError, "rows: expected a non-empty vector"),
    ({"rows": [103]}, ValueError, "rows: expected indices from 0 to 102, got 103 to 103"),
    ({"sample_weight": np.zeros(103)}, ValueError, "sample_weight: expected a positive one"),
])
def test_evaluate_refuses(change, error, message):
    X, y = problem()
    with pytest.raises(error, match=f"^{message}"):
        oc.train.evaluate(**{"net": network(), "X": X, "y": y, **change})


def test_one_hot_targets_give_the_same_training():
    X, y = problem(dtype="float64")
    ends = []
    for target in (y, np.eye(3)[y]):
        net = network("float64")
        sgd = oc.optim.SGD(net.theta, lr=0.1)
        history = quiet(net, X, target, validation=(X, target), optimizer=sgd)
        ends.append((net.theta, history.epochs["validation_accuracy"]))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=0, atol=1e-12)    # roundings of 1e-16, 35 steps
    assert ends[0][1] == ends[1][1]


@pytest.mark.parametrize("batch_size", [None, 1, 7, 103, 1000])
def test_batch_sizes(batch_size):
    X, y = problem()
    nn = oc.nn
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))      # batch norm has no statistics of one
    history = quiet(net, X, y, batch_size=batch_size, epochs=2)
    size = min(batch_size or 103, 103)
    assert len(history.steps["loss"]) == 2 * -(-103 // size)
    assert sum(history.steps["examples"]) == 206


def test_full_batch_without_noise_follows_the_gradient():
    X, y = problem(dtype="float64")
    net, twin = network("float64"), network("float64")
    quiet(net, X, y, batch_size=None, epochs=3, optimizer=oc.optim.SGD(net.theta, lr=0.1))
    for _ in range(3):
        grad = np.empty_like(twin.theta)
        twin.loss_and_grad(X, y, grad=grad)
        twin.theta -= 0.1 * grad
    np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-13, atol=1e-15)     # one rounding a step


def test_reproducible_and_free_of_the_thread_count():
    X, y = problem(500)
    ends = []
    for seed, threads in ((0, 1), (0, 2), (1, 1)):
        net = network()
        optimizer = adamw(net)
        with oc.threads(threads):
            ends.append(bits(net, optimizer, quiet(net, X, y, seed=seed, optimizer=optimizer, validation=0.1)))
    assert ends[0] == ends[1] != ends[2]


# --- the optimizer

def test_named_views_groups_and_frozen_parameters():
    X, y = problem(dtype="float64")
    flat, grouped = network("float64"), network("float64")
    p = grouped.parameters
    opt = oc.optim.AdamW([{"params": {k: p[k] for k in ("3.weight", "0.weight")}},
                          {"params": [p[k] for k in ("0.bias", "1.weight", "1.bias", "3.bias")]}], lr=0.01)
    quiet(flat, X, y, optimizer=adamw(flat, lr=0.01))
    quiet(grouped, X, y, optimizer=opt)
    assert flat.theta.tobytes() == grouped.theta.tobytes()
    frozen = network("float64")
    start = {k: v.copy() for k, v in frozen.parameters.items()}
    quiet(frozen, X, y, optimizer=oc.optim.SGD({"3.weight": frozen.parameters["3.weight"]}, lr=0.1))
    changed = [k for k, v in frozen.parameters.items() if not np.array_equal(v, start[k])]
    assert changed == ["3.weight"]


def test_by_name_and_by_default():
    X, y = problem()
    nets = [network() for _ in range(3)]
    for net, optimizer in zip(nets, (None, "adamw", oc.optim.AdamW(nets[2].theta)), strict=True):
        quiet(net, X, y, optimizer=optimizer)
    assert nets[0].theta.tobytes() == nets[1].theta.tobytes() == nets[2].theta.tobytes()


def test_a_layerwise_rule_by_name_is_given_the_layers():
    X, y = problem()
    nets = [network() for _ in range(3)]
    for net, optimizer in zip(nets, ("lamb", oc.optim.LAMB(nets[1].parameters), oc.optim.LAMB(nets[2].theta)),
                              strict=True):
        quiet(net, X, y, optimizer=optimizer)
    assert nets[0].theta.tobytes() == nets[1].theta.tobytes() != nets[2].theta.tobytes()
    with pytest.raises(ValueError, match="bias: expected a matrix"):
        quiet(network(), X, y, optimizer="muon")


def test_a_used_optimizer_goes_on_with_its_schedule():
    X, y = problem()
    net = network()
    schedule = oc.schedules.linear(0.01, 0.0, 70)
    optimizer = adamw(net, lr=schedule)
    rates = [quiet(net, X, y, optimizer=optimizer).steps["lr"] for _ in range(2)]
    assert rates[0] + rates[1] == [schedule(t) for t in range(70)]


# --- not finite

@pytest.mark.parametrize("mode", ["propagate", "raise"])
def test_a_gradient_that_is_not_finite_raises(mode):
    X, y = problem(64)
    X[40] = 3e38        # finite, but sums of it are not
    net = network()
    optimizer = oc.optim.SGD(net.theta, lr=0.01, nonfinite=mode)
    seen = Recorder()
    with pytest.raises(FloatingPointError, match=r"step \d+ \(epoch 1, lr 0\.01\): ") as caught:
        quiet(net, X, y, optimizer=optimizer, epochs=3, callbacks=[seen], batch_size=8)
    assert optimizer.nonfinite == mode
    assert len(caught.value.history.steps["loss"]) == len(seen.thetas)
    if seen.thetas:
        assert net.theta.tobytes() == seen.thetas[-1].tobytes()
    assert all(np.isfinite(b).all() for b in net.buffers.values())


def test_what_a_loss_that_is_not_finite_advises():
    """Before the first step the rate has done nothing."""
    X, y = problem(64)[0], np.ones((64, 1), "float32")
    for scale, lr, advice in ((1, 1e30, "step [1-9] .*A smaller lr"), (1e25, 0.01, "step 0 .*No step has been taken")):
        net = oc.nn.Sequential(oc.nn.Linear(6, 1))
        with pytest.raises(FloatingPointError, match=advice):
            quiet(net, X * np.float32(scale), y, loss="mse", optimizer=oc.optim.SGD(net.theta, lr=lr))


# --- callbacks

def test_callbacks_and_stopping():
    X, y = problem()
    calls = []

    class Both:
        def on_step(self, run):
            calls.append(("step", run.epoch, run.step))

        def __call__(self, run):
            calls.append(("epoch", run.epoch, run.step))
            return run.epoch == 2

    history = quiet(network(), X, y, callbacks=[Both(), lambda run: None])
    assert calls == [("step", 0, i) for i in range(1, 8)] + [("epoch", 1, 7)] + [
        ("step", 1, i) for i in range(8, 15)] + [("epoch", 2, 14)]
    assert len(history.epochs["loss"]) == 2
    assert not history.interrupted


# --- resume

class StopAt:
    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        return run.step == self.step


@pytest.mark.parametrize("optimizer", [adamw, lambda net: oc.optim.SGD(net.theta, lr=0.05, momentum=0.9)])
@pytest.mark.parametrize("stop", [1, 5, 6, 16, 29])
def test_resume_ends_with_the_same_bits(tmp_path, optimizer, stop):
    X, y = problem()
    path = tmp_path / "run.safetensors"
    whole = network()
    opt = optimizer(whole)
    expected = bits(whole, opt, quiet(whole, X, y, optimizer=opt, validation=0.1, seed=3))
    part = network()
    history = quiet(part, X, y, optimizer=optimizer(part), validation=0.1, seed=3, checkpoint=path,
                    callbacks=[StopAt(stop)])
    assert len(history.steps["loss"]) == stop
    other = network(seed=99)        # the start is overwritten
    opt = optimizer(other)
    history = quiet(other, X, y, optimizer=opt, validation=0.1, seed=3, checkpoint=path, resume=path)
    assert bits(other, opt, history) == expected
    last = checkpoint.load(path)
    assert last["epoch"] == 5
    assert last["theta"].tobytes() == other.theta.tobytes()


def test_resume_for_more_epochs(tmp_path):
    X, y = problem()
    whole, part = network(), network()
    optimizers = [adamw(net) for net in (whole, part)]
    expected = bits(whole, optimizers[0], quiet(whole, X, y, optimizer=optimizers[0], epochs=4))
    quiet(part, X, y, optimizer=optimizers[1], epochs=2, checkpoint=tmp_path / "c")
    history = quiet(part, X, y, optimizer=optimizers[1], epochs=4, resume=tmp_path / "c")
    assert bits(part, optimizers[1], history) == expected
    finished = quiet(part, X, y, optimizer=optimizers[1], epochs=2, resume=tmp_path / "c")
    assert len(finished.epochs["loss"]) == 2


@pytest.mark.parametrize(("change", "message"), [
    ({"batch_size": 8}, "batch_size 16 there, 8 here"), ({"seed": 1}, "seed 0 there, 1 here"),
    ({"shuffle": False}, "shuffle True there"), ({"optimizer": "sgd"}, "optimizer 'AdamW' there, 'SGD' here"),
    ({"validation": 0.5}, "examples"), ({"X": 1}, "data"),
])
def test_resume_of_another_run_is_refused(tmp_path, change, message):
    X, y = problem()
    quiet(network(), X, y, epochs=1, checkpoint=tmp_path / "c")
    net = network(seed=5)
    before = net.theta.copy(), {k: b.copy() for k, b in net.buffers.items()}
    if "X" in change:
        X, change = X + np.float32(change["X"]), {}
    with pytest.raises(ValueError, match=rf"^resume: expected the run of .*{message}"):
        quiet(net, X, y, resume=tmp_path / "c", **change)
    assert np.array_equal(net.theta, before[0])
    assert all(np.array_equal(b, before[1][k]) for k, b in net.buffers.items())


def test_resume_of_something_else_is_refused(tmp_path):
    checkpoint.save(tmp_path / "c", {"theta": np.ones(3)})
    with pytest.raises(ValueError, match="not the checkpoint of a training run"):
        quiet(network(), *problem(), resume=tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        quiet(network(), *problem(), resume=tmp_path / "missing")


CHILD = textwrap.dedent("""
    import sys, time
    sys.path.insert(0, {folder!r})
    import small_run as t
    X, y = t.problem()
    net = t.network()
    opt = t.adamw(net)
    def tick(run):
        print(run.epoch, flush=True)
        time.sleep(0.01)
    class Slow:
        def on_step(self, run):
            time.sleep(0.002)
        __call__ = staticmethod(tick)
    h = t.quiet(net, X, y, optimizer=opt, epochs=40, checkpoint=sys.argv[1], callbacks=[Slow()], seed=3)
    print("interrupted" if h.interrupted else "finished", len(h.steps["loss"]), flush=True)
""").format(folder=os.path.dirname(__file__))


def child(path):
    return subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)


def uninterrupted():
    X, y = problem()
    net = network()
    opt = adamw(net)
    return bits(net, opt, quiet(net, X, y, optimizer=opt, epochs=40, seed=3))


def resumed(path):
    X, y = problem()
    net = network(seed=1)
    opt = adamw(net)
    return bits(net, opt, quiet(net, X, y, optimizer=opt, epochs=40, seed=3, resume=path))


def test_killed_run_resumes_to_the_same_bits(tmp_path):
    path = tmp_path / "c.safetensors"
    with child(path) as process:
        for line in process.stdout:
            if line.strip() == "6":
                break
        time.sleep(0.013)
        process.send_signal(signal.SIGKILL)
    assert checkpoint.load(path)["epoch"] >= 5          # the callback of epoch 6 comes before its checkpoint
    assert resumed(path) == uninterrupted()


def test_ctrl_c_ends_between_steps_and_resumes_to_the_same_bits(tmp_path):
    path = tmp_path / "c.safetensors"
    with child(path) as process:
        for line in process.stdout:
            if line.strip() == "3":
                break
        time.sleep(0.002)       # within an epoch; 37 more take long enough on a busy machine, too
        process.send_signal(signal.SIGINT)
        last = process.stdout.read().split("\n")[-2]
    assert process.returncode == 0
    kind, steps = last.split()
    assert kind == "interrupted"
    saved = checkpoint.load(path)
    assert saved["step"] == int(steps) == len(saved["history"]["steps"]["loss"])
    assert saved["history"]["interrupted"] is True
    assert resumed(path) == uninterrupted()


def test_the_host_s_signal_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    X, y = problem()
    quiet(network(), X, y, epochs=1)
    assert signal.getsignal(signal.SIGINT) is before
    seen = []
    signal.signal(signal.SIGINT, lambda *a: seen.append(a))
    try:        # a host's own handler keeps Ctrl-C
        history = quiet(network(), X, y, epochs=1, callbacks=[lambda run: os.kill(os.getpid(), signal.SIGINT)])
        assert len(seen) == 1
        assert not history.interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread():
    X, y = problem()
    nets = [network(), network()]
    threads = [threading.Thread(target=quiet, args=(net, X, y)) for net in nets]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alone = network()
    quiet(alone, X, y)
    assert nets[0].theta.tobytes() == nets[1].theta.tobytes() == alone.theta.tobytes()


# --- errors

def other_network():
    return oc.optim.SGD(network().theta, lr=0.1)


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"X": problem(dtype="float64")[0]}, TypeError, "X: expected"),
    ({"X": problem()[0][:, :5]}, ValueError, "X: expected"),
    ({"X": problem()[0][:50]}, ValueError, "y: expected"),
    ({"X": np.where(np.arange(6) == 2, np.float32("nan"), problem()[0])}, ValueError, "X: expected finite values"),
    ({"y": np.where(np.arange(103)[:, None] == 7, np.float32("nan"), np.ones((103, 3), "float32")), "loss": "mse"},
     ValueError, "y: expected finite values, got nan in example 7"),
    ({"validation": (problem()[0], np.full((103, 3), np.inf, "float32")), "loss": "mse",
      "y": np.ones((103, 3), "float32")}, ValueError, "validation y: expected finite values, got inf in example 0"),
    ({"y": problem()[1].astype(np.int32)}, TypeError, "y: expected int64"),
    ({"y": problem()[1] + 1}, ValueError, "y: expected class indices from 0 to 2, got 1 to 3"),
    ({"y": np.ma.masked_array(problem()[1])}, TypeError, "y: expected a NumPy array, got MaskedArray"),
    ({"X": None}, TypeError, "X: expected a NumPy array, got NoneType"),
    ({"resume": 3}, TypeError, "resume: expected a path, got int"),
    ({"X": np.ma.masked_array(problem()[0])}, TypeError, "X: expected a NumPy array, got MaskedArray"),
    ({"loss": "hinge"}, ValueError, "loss: expected one of"),
    ({"optimizer": 0.1}, TypeError, "optimizer: expected"),
    ({"optimizer": "adm"}, ValueError, "optimizer: expected one of"),
    ({"optimizer": other_network()}, ValueError, "optimizer: expected a rule over net.theta"),
    ({"epochs": 0}, ValueError, "epochs: expected at least 1"),
    ({"epochs": 2.5}, TypeError, "epochs: expected an integer"),
    ({"batch_size": 0}, ValueError, "batch_size: expected at least 1"),
    ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
    ({"checkpoint_every": 0}, ValueError, "checkpoint_every: expected at least 1"),
    ({"validation": 1.0}, ValueError, r"validation: expected a share in \(0, 1\) .*, got 1.0 of 103"),
    ({"shuffle": "no"}, TypeError, "shuffle: expected True or False, got 'no'"),
    ({"checkpoint": 3}, TypeError, "checkpoint: expected a path, got int"),
    ({"y": problem()[1][:, None]}, ValueError, r"y: expected class indices of shape \[N\], got shape \[103, 1\]"),
    ({"validation": problem()[0]}, TypeError, r"validation: expected \(X, y\)"),
    ({"validation": (problem()[0], problem()[1][:5])}, ValueError, "validation y: expected"),
    ({"callbacks": [3]}, TypeError, "callbacks: expected"),
    ({"checkpoint": "no/such/folder/c"}, FileNotFoundError, "checkpoint: no such folder: no/such/folder"),
])
def test_wrong_input_changes_nothing(change, error, message):
    X, y = problem()
    net = network()
    before = net.theta.copy()
    arguments = {"X": X, "y": y, **change}
    with pytest.raises(error, match=rf"^{message}"):
        quiet(net, **arguments)
    assert np.array_equal(net.theta, before)
    assert (net.buffers["1.running_mean"] == 0).all()


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"net": None}, TypeError, "net: expected an optcore.nn.Sequential, got NoneType"),
    ({"callbacks": None}, TypeError, "callbacks: expected"),
    ({"checkpoint": "."}, IsADirectoryError, "checkpoint: expected a file"),
    ({"batch_size": 1}, ValueError, "batch_size: expected at least 2"),
    ({"X": problem()[0][:1], "y": problem()[1][:1]}, ValueError, "X: expected at least 2"),
])
def test_refused_before_the_first_step(change, error, message):
    X, y = problem()
    with pytest.raises(error, match=f"^{message}"):
        quiet(**{"net": network(), "X": X, "y": y, **change})


def test_a_last_batch_of_one_joins_the_one_before(tmp_path):
    X, y = problem(33)
    whole, part = network(), network()
    opt = adamw(whole)
    history = quiet(whole, X, y, optimizer=opt)
    assert history.steps["examples"] == [16, 17] * 5
    quiet(part, X, y, optimizer=adamw(part), checkpoint=tmp_path / "c", callbacks=[StopAt(3)])
    again = adamw(part)
    assert bits(part, again, quiet(part, X, y, optimizer=again, resume=tmp_path / "c")) == bits(whole, opt, history)


def test_resume_compares_network_and_rule(tmp_path):
    X, y = problem()
    quiet(network(), X, y, epochs=1, checkpoint=tmp_path / "c")
    nn = oc.nn
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm(16), nn.ReLU(), nn.Linear(16, 3))
    with pytest.raises(ValueError, match=r"layer 2 'tanh.* there, 'relu"):
        quiet(net, X, y, resume=tmp_path / "c")
    for options, message in (({"betas": (0.8, 0.9)}, "betas"), ({"lr": oc.schedules.constant(0.1)}, "lr .*constant")):
        net = network()
        with pytest.raises(ValueError, match=f"group 0 {message}"):
            quiet(net, X, y, optimizer=oc.optim.AdamW(net.theta, **options), resume=tmp_path / "c")


@pytest.mark.parametrize("key", ["rng", "epoch", "history"])
def test_a_broken_state_changes_nothing(tmp_path, key):
    X, y = problem()
    net = network()
    quiet(net, X, y, epochs=1, checkpoint=tmp_path / "c")
    state = checkpoint.load(tmp_path / "c")
    checkpoint.save(tmp_path / "c", state | {key: {"a": 1}})
    opt = oc.optim.AdamW(net.theta)
    with pytest.raises(ValueError, match=f"c.*{'random' if key == 'rng' else key}"):
        quiet(net, X, y, optimizer=opt, resume=tmp_path / "c")
    assert opt.steps == 0


def test_a_rule_with_two_modes_is_switched_for_validation():
    calls = []

    class TwoModes(oc.optim.AdamW):
        def eval(self):
            calls.append("eval")

        def train(self):
            calls.append("train")

    X, y = problem()
    net = network()
    quiet(net, X, y, validation=0.2, epochs=2, optimizer=TwoModes(net.theta))
    assert calls == ["eval", "train"] * 2
