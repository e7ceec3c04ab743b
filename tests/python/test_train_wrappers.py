"""Training under wrappers, rules with two modes and schedules that remember: by hand, and resumed bit for bit."""

import numpy as np
import pytest
from small_run import network, problem, quiet
from wrapper_cases import WRAPPERS, bits

import optcore as oc
from optcore import checkpoint


class StopAt:
    """Ends the run after a number of steps."""

    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        return run.step == self.step


def end(net, optimizer, history):
    """Everything that a resumed run must end with, wall-clock time aside."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows()]
    return bits([net.theta, dict(net.buffers), optimizer.state_dict(), optimizer.steps]), rows


def batches(n, size, seed):
    """The documented order of the examples."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[0])
    while True:
        order = oc.data.shuffled(n, rng)
        yield from (order[i:i + size] for i in range(0, n, size))


@pytest.mark.parametrize("name", WRAPPERS)
def test_follows_a_loop_by_hand(name):
    X, y = problem(96, dtype="float64")
    net, twin = network("float64"), network("float64")
    opt, by_hand = (WRAPPERS[name](oc.optim.AdamW(n.theta, lr=oc.schedules.cosine_decay(0.01, 30)))
                    for n in (net, twin))
    history = quiet(net, X, y, optimizer=opt, epochs=2, seed=3)
    order, losses, rates = batches(96, 16, 3), [], []
    for _ in range(12):
        index, grad, first = next(order), np.empty_like(twin.theta), {}

        def gradient(index=index, grad=grad, first=first):
            value = twin.loss_and_grad(X[index], y[index], grad=grad)
            if first:       # SAM's second gradient: the running statistics are those of theta itself
                for k, b in twin.buffers.items():
                    b[...] = first[k]
            else:
                losses.append(value)
                first.update({k: b.copy() for k, b in twin.buffers.items()})
            return grad

        rates.append(by_hand.param_groups[0]["lr"](by_hand.steps))
        by_hand.step(gradient if "SAM" in name else gradient())
    assert bits([net.theta, dict(net.buffers), opt.state_dict()]) == bits(
        [twin.theta, dict(twin.buffers), by_hand.state_dict()])
    assert history.steps["loss"] == losses
    assert history.steps["lr"] == rates
    assert np.all(np.isfinite(history.steps["grad_norm"]))


def schedule_free(opt):
    """No wrapper, but a rule with two modes over the parameters of the one given."""
    return oc.optim.ScheduleFreeAdamW(opt.param_groups[0]["params"], lr=0.01, warmup_steps=4)


BUILDS = {**WRAPPERS, "ScheduleFreeAdamW": schedule_free, "SAM of ScheduleFreeAdamW":
          lambda opt: oc.optim.SAM(schedule_free(opt), 0.1), "EMA of ScheduleFreeAdamW":
          lambda opt: oc.optim.EMA(schedule_free(opt), 0.9)}


@pytest.mark.parametrize("stop", [1, 4, 6, 17])
@pytest.mark.parametrize("name", BUILDS)
def test_resume_ends_with_the_same_bits(name, stop, tmp_path):
    X, y = problem()

    def build(net):
        return BUILDS[name](oc.optim.AdamW(net.theta, lr=oc.schedules.cosine_decay(0.01, 30)))

    whole, part, other = network(), network(), network(seed=99)
    opt = build(whole)
    expected = end(whole, opt, quiet(whole, X, y, optimizer=opt, validation=0.1, epochs=4))
    history = quiet(part, X, y, optimizer=build(part), validation=0.1, epochs=4, checkpoint=tmp_path / "c",
                    callbacks=[StopAt(stop)])
    assert len(history.steps["loss"]) == stop
    opt = build(other)
    assert end(other, opt, quiet(other, X, y, optimizer=opt, validation=0.1, epochs=4,
                                 resume=tmp_path / "c")) == expected


@pytest.mark.parametrize("name", ["ScheduleFreeAdamW", "SAM of ScheduleFreeAdamW", "EMA of ScheduleFreeAdamW"])
def test_a_schedule_free_rule_is_evaluated_at_its_average_and_goes_on_with_its_bits(name):
    X, y = problem(64)
    nets = [network(), network()]
    opts = [BUILDS[name](oc.optim.AdamW(n.theta)) for n in nets]
    history = quiet(nets[0], X, y, optimizer=opts[0], validation=(X, y))
    quiet(nets[1], X, y, optimizer=opts[1])
    assert bits([nets[0].theta, opts[0].state_dict()]) == bits([nets[1].theta, opts[1].state_dict()])
    at_y = oc.train.evaluate(nets[1], X, y)["validation_loss"]
    opts[1].eval()
    at_x = oc.train.evaluate(nets[1], X, y)["validation_loss"]
    assert history.epochs["validation_loss"][-1] == at_x != at_y


def plateau_run(net, kind, watched=True):
    """An optimizer whose rate falls on a plateau of the training loss, and the callbacks that tell it."""
    plateau = oc.schedules.ReduceOnPlateau(0.02, factor=0.5, patience=0, threshold=0.3)
    lr = {"alone": plateau, "warmed up": oc.schedules.warmup(plateau, 5),
          "joined": oc.schedules.join([0.01, oc.schedules.warmup(plateau, 3)], [8]),
          "hidden": lambda step: 0.5 * plateau(step)}[kind]
    tell = plateau.watch("loss") if watched else lambda run: plateau.update(run.history.epochs["loss"][-1])
    return plateau, oc.optim.Adam(net.theta, lr=lr), [tell]


@pytest.mark.parametrize(("kind", "watched"), [("alone", False), ("warmed up", False), ("joined", False),
                                               ("joined", True), ("hidden", True)])
@pytest.mark.parametrize("stop", [7, 21, 25])
def test_resume_remembers_the_plateau(kind, watched, stop, tmp_path):
    X, y = problem()
    whole, part, other = network(), network(), network(seed=99)
    plateau, opt, watch = plateau_run(whole, kind, watched)
    history = quiet(whole, X, y, optimizer=opt, epochs=8, callbacks=watch)
    expected, remembered = end(whole, opt, history), plateau.state_dict()
    assert remembered["value"] < 0.01       # it fell at least twice
    _, opt, watch = plateau_run(part, kind, watched)
    quiet(part, X, y, optimizer=opt, epochs=8, callbacks=[*watch, StopAt(stop)], checkpoint=tmp_path / "c")
    plateau, opt, watch = plateau_run(other, kind, watched)
    history = quiet(other, X, y, optimizer=opt, epochs=8, callbacks=watch, resume=tmp_path / "c")
    assert end(other, opt, history) == expected
    assert plateau.state_dict() == remembered


def test_a_callback_s_memory_is_saved(tmp_path):
    class Patience:
        def __init__(self):
            self.seen = []

        def __call__(self, run):
            self.seen.append(run.epoch)

        def state_dict(self):
            return {"seen": list(self.seen)}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    X, y = problem()
    quiet(network(), X, y, epochs=2, checkpoint=tmp_path / "c", callbacks=[Patience()])
    patience = Patience()
    quiet(network(), X, y, epochs=4, resume=tmp_path / "c", callbacks=[patience])
    assert patience.seen == [1, 2, 3, 4]


@pytest.mark.parametrize("what", ["number", "plateau", "optimizer"])
def test_a_broken_memory_changes_nothing(what, tmp_path):
    X, y = problem()
    net = network()
    plateau, opt, watch = plateau_run(net, "alone")
    quiet(net, X, y, epochs=1, optimizer=opt, callbacks=watch, checkpoint=tmp_path / "c")
    state = checkpoint.load(tmp_path / "c")
    if what == "number":
        state["memories"].pop()
    elif what == "plateau":
        state["memories"][-1]["best"] = float("nan")
    else:
        state["optimizer"]["state"][0]["exp_avg"] = np.ones(3)
    checkpoint.save(tmp_path / "c", state)
    net = network(seed=4)
    plateau, opt, watch = plateau_run(net, "alone")
    plateau.update(5.0)
    before = bits([net.theta, opt.state_dict(), plateau.state_dict()])
    message = {"number": "expected 2 schedules and callbacks with a memory, got 1", "plateau": r"state\['best'\]",
               "optimizer": "exp_avg"}[what]
    with pytest.raises(ValueError, match=message):
        quiet(net, X, y, optimizer=opt, callbacks=watch, resume=tmp_path / "c")
    assert bits([net.theta, opt.state_dict(), plateau.state_dict()]) == before


def test_resume_with_another_wrapper_is_refused(tmp_path):
    X, y = problem()
    net = network()
    quiet(net, X, y, epochs=1, optimizer=oc.optim.MultiSteps(oc.optim.AdamW(net.theta), 2), checkpoint=tmp_path / "c")
    for build in (lambda opt: opt, lambda opt: oc.optim.MultiSteps(opt, 3), lambda opt: oc.optim.Lookahead(opt)):
        net = network()
        with pytest.raises(ValueError, match=r"optimizer 'MultiSteps \(every=2\) of AdamW' there, "):
            quiet(net, X, y, optimizer=build(oc.optim.AdamW(net.theta)), resume=tmp_path / "c")


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_loss_that_is_not_finite_changes_nothing(name):
    X, y = problem(64)
    X[40] = 3e38        # finite, but sums of it are not
    net = network()
    opt = WRAPPERS[name](oc.optim.SGD(net.theta, lr=0.01))
    before = end(net, opt, oc.train.History())
    with pytest.raises(FloatingPointError, match=r"step 0 \(epoch 1, lr 0\.01\): "):
        quiet(net, X, y, optimizer=opt, batch_size=None)
    assert end(net, opt, oc.train.History()) == before
    opt.nonfinite = "skip"
    history = quiet(net, X, y, optimizer=opt, batch_size=None, epochs=3)
    assert opt.skipped_steps == 3
    assert end(net, opt, oc.train.History()) == before
    assert not np.isfinite(history.steps["loss"]).any()


def test_what_steps_nothing_is_refused():
    X, y = problem()
    net = network()
    with pytest.raises(TypeError, match=r"^optimizer: expected a rule .* got an EMA over arrays"):
        quiet(net, X, y, optimizer=oc.optim.EMA(net.theta))
    other = oc.optim.Lookahead(oc.optim.SGD(network().theta))
    with pytest.raises(ValueError, match=r"^optimizer: expected a rule over net.theta"):
        quiet(net, X, y, optimizer=other)
