"""Callbacks of fit: when each method is called, early stopping against a replay of the history, exact resume."""

import numpy as np
import pytest
from small_run import adamw, network, problem, quiet

import optcore as oc
from optcore.train import EarlyStopping


class Everything:
    def __init__(self):
        self.calls = []

    def on_start(self, run):
        self.calls.append(("start", run.epoch, run.step))

    def on_step(self, run):
        self.calls.append(("step", run.epoch, run.step, len(run.history.steps["loss"])))

    def on_epoch(self, run):
        self.calls.append(("epoch", run.epoch, run.step, len(run.history.epochs["loss"])))

    def on_end(self, run):
        self.calls.append(("end", run.epoch, run.step, type(run.error).__name__))


def test_each_method_is_called_when_it_says():
    X, y = problem(40)
    seen = Everything()
    quiet(network(), X, y, epochs=2, batch_size=20, callbacks=[seen])
    assert seen.calls == [("start", 0, 0), ("step", 0, 1, 1), ("step", 0, 2, 2), ("epoch", 1, 2, 1),
                          ("step", 1, 3, 3), ("step", 1, 4, 4), ("epoch", 2, 4, 2), ("end", 2, 4, "NoneType")]


@pytest.mark.parametrize(("method", "steps", "epochs"), [("on_start", 0, 0), ("on_step", 1, 0), ("on_epoch", 2, 1)])
def test_any_of_them_ends_the_training(method, steps, epochs):
    X, y = problem(40)
    stop, seen = type("Stop", (), {method: lambda self, run: True})(), Everything()
    history = quiet(network(), X, y, batch_size=20, callbacks=[stop, seen])
    assert (len(history.steps["loss"]), len(history.epochs["loss"])) == (steps, epochs)
    assert seen.calls[-1] == ("end", epochs, steps, "NoneType")
    assert not history.interrupted


def test_the_end_is_called_after_errors_in_the_opposite_order():
    X, y = problem(40)
    order = []

    class End:
        def __init__(self, name):
            self.name = name

        def on_end(self, run):
            order.append((self.name, str(run.error)))
            raise RuntimeError(self.name)

    class Broken:
        def on_step(self, run):
            raise KeyError("broken")

    with pytest.raises(RuntimeError, match="first"):
        quiet(network(), X, y, callbacks=[End("first"), End("second"), Broken()])
    assert order == [("second", "'broken'"), ("first", "'broken'")]


def test_what_a_run_tells():
    X, y = problem()
    seen = []

    def look(run):
        objective = oc.nn.objective(run.net, run.loss, run.X, run.y)
        value = objective.loss(run.net.theta, batch=run.rows)
        held_out = oc.train.evaluate(run.net, *run.held_out[:2], run.loss, run.held_out[2])
        seen.append((value, held_out, len(run.rows), np.sort(np.r_[run.rows, run.held_out[2]])))
        run.say("no display, nothing said")

    history = quiet(network(), X, y, epochs=1, validation=0.2, callbacks=[look])
    value, held_out, n, rows = seen[0]
    assert value < history.epochs["loss"][0]        # after the epoch's steps
    assert held_out == {k: history.epochs[k][0] for k in ("validation_loss", "validation_accuracy")}
    assert n == 82
    assert np.array_equal(rows, np.arange(103))


@pytest.mark.parametrize(("wrong", "message"), [
    (3, "got int"), (EarlyStopping, "got the class EarlyStopping"), (object(), "got object"),
    (type("C", (), {"on_step": 3})(), "got C")])
def test_what_is_no_callback(wrong, message):
    with pytest.raises(TypeError, match=f"^callbacks: expected callables or objects with .*{message}"):
        quiet(network(), *problem(), callbacks=[wrong])


# --- early stopping

class Keep:
    """The parameters and buffers at the end of every epoch."""

    def __init__(self):
        self.kept = []

    def on_epoch(self, run):
        self.kept.append((run.net.theta.copy(), {k: b.copy() for k, b in run.net.buffers.items()}))


def replay(values, patience, min_delta, sign):
    """(epochs until the end, best epoch) of a column, by the definition."""
    best, at = np.inf, 0
    for epoch, v in enumerate(sign * np.asarray(values), 1):
        if v < best - min_delta:
            best, at = v, epoch
        if epoch - at >= patience:
            return epoch, at
    return len(values), at


@pytest.mark.parametrize(("monitor", "sign"), [("validation_loss", 1), ("validation_accuracy", -1), ("loss", 1)])
@pytest.mark.parametrize("min_delta", [0.0, 0.02])
def test_early_stopping_is_its_definition(monitor, sign, min_delta):
    X, y = problem()
    whole = quiet(network(), X, y, epochs=60, validation=0.3, optimizer="adam")
    net, keep = network(), Keep()
    stop = EarlyStopping(patience=4, min_delta=min_delta, monitor=monitor)
    history = quiet(net, X, y, epochs=60, validation=0.3, optimizer="adam", callbacks=[keep, stop])
    end, best = replay(whole.epochs[monitor], 4, min_delta, sign)
    assert len(history.epochs["loss"]) == end
    assert stop.best_epoch == best
    assert stop.best == whole.epochs[monitor][best - 1]
    theta, buffers = keep.kept[best - 1]
    assert net.theta.tobytes() == theta.tobytes()
    assert all(net.buffers[k].tobytes() == b.tobytes() for k, b in buffers.items())


def test_without_restoring_the_last_parameters_stay():
    X, y = problem()
    net, keep, stop = network(), Keep(), EarlyStopping(patience=2, min_delta=10.0, monitor="loss", restore_best=False)
    quiet(net, X, y, callbacks=[keep, stop])
    assert len(keep.kept) == 3
    assert net.theta.tobytes() == keep.kept[-1][0].tobytes()
    with pytest.raises(ValueError, match="restore_best=True"):
        stop.restore(net)


def test_the_best_of_a_schedule_free_rule_is_its_average():
    X, y = problem()
    net = network()
    opt = oc.optim.ScheduleFreeAdamW(net.theta, lr=0.05)
    stop = EarlyStopping(patience=3)
    quiet(net, X, y, epochs=40, validation=0.3, optimizer=opt, callbacks=[stop])
    assert 0 < stop.best_epoch < 40
    rows = oc.data.split(103, 0.3, np.random.default_rng(np.random.SeedSequence(0).spawn(2)[1]), y)[1]
    assert oc.train.evaluate(net, X[rows], y[rows])["validation_loss"] == stop.best


def test_used_again_it_begins_anew():
    X, y = problem()
    stop = EarlyStopping(patience=2, min_delta=10.0, monitor="loss")
    assert [len(quiet(network(), X, y, callbacks=[stop]).epochs["loss"]) for _ in range(2)] == [3, 3]


@pytest.mark.parametrize("epochs", [2, 4, 5])
def test_early_stopping_is_resumed(tmp_path, epochs):
    """In the middle, at the best epoch, and where it had stopped already: the same end, the same bits."""
    X, y = problem()
    stops = [EarlyStopping(patience=3, min_delta=0.3, monitor="loss") for _ in range(3)]
    whole, net = network(), network()
    expected = quiet(whole, X, y, epochs=30, optimizer=adamw(whole), callbacks=[stops[0]])
    quiet(net, X, y, epochs=epochs, optimizer=adamw(net), callbacks=[stops[1]], checkpoint=tmp_path / "c")
    other = network(seed=9)
    history = quiet(other, X, y, epochs=30, optimizer=adamw(other), callbacks=[stops[2]], resume=tmp_path / "c")
    assert history.steps == expected.steps
    assert other.theta.tobytes() == whole.theta.tobytes()
    assert (stops[2].best, stops[2].best_epoch) == (stops[0].best, stops[0].best_epoch)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"patience": 0}, ValueError, "patience: expected at least 1"), ({"patience": 1.5}, TypeError, "patience"),
    ({"min_delta": -1}, ValueError, "min_delta"), ({"min_delta": "0"}, TypeError, "min_delta"),
    ({"mode": "least"}, ValueError, "mode: expected 'min'"), ({"monitor": 3}, TypeError, "monitor")])
def test_early_stopping_refuses(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        EarlyStopping(**options)


def test_a_column_that_is_not_there():
    net = network()
    with pytest.raises(ValueError, match=r"monitor: expected one of loss, .* got 'validation_loss'; fit has no valid"):
        quiet(net, *problem(), callbacks=[EarlyStopping()])
    stop = EarlyStopping()
    with pytest.raises(ValueError, match="state"):
        stop.load_state_dict({"best": 1.0})
