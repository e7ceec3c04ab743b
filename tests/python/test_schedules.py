"""Schedules against closed forms and torch.optim.lr_scheduler."""

import copy
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import optcore as oc
from optcore import schedules as S

ALL = [
    S.constant(0.3), S.step_decay(0.3, 7, 0.5),
    S.exponential_decay(0.3, 0.97), S.exponential_decay(0.3, 0.5, steps=10),
    S.inverse_time_decay(0.3, 0.1), S.inverse_time_decay(0.3, 1.0, power=0.5),
    S.polynomial_decay(0.3, 20, 2.0, end=0.1), S.linear(0.1, 0.4, 20), S.cosine_decay(0.3, 20, end=0.05),
    S.cosine_restarts(0.3, 5), S.cosine_restarts(0.3, 3, mult=2, end=0.01), S.inverse_sqrt(0.3, 6),
    S.one_cycle(0.3, 21), S.one_cycle(0.3, 21, 0.4, "linear", three_phase=True),
    S.warmup_stable_decay(0.3, 25, 5, 10), S.warmup_stable_decay(0.3, 20, 0, 20, end=0.02, decay="sqrt"),
    S.warmup(S.cosine_decay(0.3, 20), 5, start=0.01),
    S.join([0.1, S.linear(0.2, 0.0, 10), S.constant(0.5)], [3, 9]),
]


def torch_values(build, lr, steps):
    """Learning rates of the first steps under a PyTorch scheduler in double."""
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=lr, momentum=0.9)
    scheduler = build(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(values) == steps:
            break                               # OneCycleLR has no step after its last
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # SequentialLR warns about its own use of step(epoch)
            scheduler.step()
    return values


L = torch.optim.lr_scheduler


@pytest.mark.parametrize(("mine", "theirs", "steps"), [
    (S.constant(0.3), lambda o: L.ConstantLR(o, factor=1.0), 30),
    (S.step_decay(0.3, 7, 0.5), lambda o: L.StepLR(o, 7, 0.5), 30),
    (S.exponential_decay(0.3, 0.97), lambda o: L.ExponentialLR(o, 0.97), 60),
    (S.polynomial_decay(0.3, 20, 2.5), lambda o: L.PolynomialLR(o, 20, 2.5), 30),
    (S.linear(0.03, 0.3, 20), lambda o: L.LinearLR(o, 0.1, 1.0, 20), 30),
    (S.linear(0.3, 0.0, 20), lambda o: L.LinearLR(o, 1.0, 0.0, 20), 30),
    (S.cosine_decay(0.3, 20, end=0.05), lambda o: L.CosineAnnealingLR(o, 20, 0.05), 21),
    (S.inverse_time_decay(0.3, 0.1), lambda o: L.LambdaLR(o, lambda t: 1 / (1 + 0.1 * t)), 30),
    (S.cosine_restarts(0.3, 7, end=0.02), lambda o: L.CosineAnnealingWarmRestarts(o, 7, 1, 0.02), 30),
    (S.cosine_restarts(0.3, 3, mult=2), lambda o: L.CosineAnnealingWarmRestarts(o, 3, 2), 100),
    (S.cosine_restarts(0.3, 1, mult=3), lambda o: L.CosineAnnealingWarmRestarts(o, 1, 3), 50),
    (S.one_cycle(0.3, 40), lambda o: L.OneCycleLR(o, 0.3, 40), 40),
    (S.one_cycle(0.3, 37, 0.21, "linear", 10, 50), lambda o: L.OneCycleLR(
        o, 0.3, 37, pct_start=0.21, anneal_strategy="linear", div_factor=10, final_div_factor=50), 37),
    (S.one_cycle(0.3, 40, 0.4, three_phase=True), lambda o: L.OneCycleLR(
        o, 0.3, 40, pct_start=0.4, three_phase=True), 40),
    (S.one_cycle(0.3, 41, 0.5, "linear", three_phase=True), lambda o: L.OneCycleLR(
        o, 0.3, 41, pct_start=0.5, anneal_strategy="linear", three_phase=True), 41),
    (S.one_cycle(0.3, 9, 0.0), lambda o: L.OneCycleLR(o, 0.3, 9, pct_start=0.0), 9),
    (S.one_cycle(0.3, 9, 1.0), lambda o: L.OneCycleLR(o, 0.3, 9, pct_start=1.0), 9),
    (S.inverse_sqrt(0.3, 8), lambda o: L.LambdaLR(
        o, lambda t: 8 ** 0.5 * min((t + 1) ** -0.5, (t + 1) * 8 ** -1.5)), 40),
    (S.warmup_stable_decay(0.3, 30, 6, 10), lambda o: L.SequentialLR(
        o, [L.LinearLR(o, 1e-30, 1.0, 6), L.ConstantLR(o, 1.0), L.LinearLR(o, 1.0, 0.0, 10)], [6, 20]), 35),
    (S.warmup(S.exponential_decay(0.3, 0.9), 10, start=0.03),
     lambda o: L.SequentialLR(o, [L.LinearLR(o, 0.1, 1.0, 10), L.ExponentialLR(o, 0.9)], [10]), 30),
    (S.join([S.constant(0.3), S.step_decay(0.3, 4, 0.5), S.linear(0.3, 0.0, 5)], [6, 15]),
     lambda o: L.SequentialLR(o, [L.ConstantLR(o, 1.0), L.StepLR(o, 4, 0.5), L.LinearLR(o, 1.0, 0.0, 5)],
                              [6, 15]), 30),
])
def test_against_torch(mine, theirs, steps):
    # PyTorch chains products (30 to 60 roundings of 1.1e-16); near zero the cosine's rounding remains.
    expected = torch_values(theirs, 0.3, steps)
    assert [mine(t) for t in range(steps)] == pytest.approx(expected, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("step", [0, 1, 7, 19, 20, 21, 10**9, 10**15])
def test_closed_forms(step):
    t = min(step, 20)
    closed = {
        S.constant(0.3): 0.3,
        S.step_decay(0.3, 10**8, 0.5): 0.3 * 0.5 ** (step // 10**8),
        S.inverse_time_decay(0.3, 0.1): 0.3 / (1 + 0.1 * step),
        S.inverse_time_decay(0.3, 1.0, power=0.5): 0.3 / math.sqrt(1 + step),
        S.polynomial_decay(0.3, 20, 3.0, end=0.1): 0.1 + 0.2 * ((20 - t) / 20) ** 3,
        S.linear(0.1, 0.4, 20): 0.1 + 0.3 * t / 20,
        S.cosine_decay(0.3, 20): 0.3 * math.cos(math.pi * t / 40) ** 2,       # half-angle form
        S.cosine_restarts(0.3, 20): 0.3 * math.cos(math.pi * (step % 20) / 40) ** 2,
        S.inverse_sqrt(0.3, 1): 0.3 / math.sqrt(1 + step),
        S.inverse_sqrt((512 * 4000) ** -0.5, 4000):                           # the paper's numbers
            512 ** -0.5 * min((step + 1) ** -0.5, (step + 1) * 4000 ** -1.5),
        S.one_cycle(0.3, 21, 1 / 21, "linear", final_div_factor=4): 0.3 + (0.3 / 100 - 0.3) * t / 20,
        S.warmup_stable_decay(0.3, 20, 0, 20, decay="sqrt"): 0.3 * (1 - math.sqrt(t / 20)),
        S.warmup_stable_decay(0.3, 20, 0, 20, decay="cos"): 0.3 * math.cos(math.pi * t / 40) ** 2,
    }
    for schedule, value in closed.items():
        # A handful of roundings; cos^2 at pi/2 is 4e-33 where 1 + cos is 0.
        assert schedule(step) == pytest.approx(value, rel=1e-14, abs=1e-16), schedule


@pytest.mark.parametrize("mult", [2, 3, 5, 10])
def test_restarts_are_at_their_step_however_late(mult):
    """The beginning of period i is steps * (mult**i - 1) / (mult - 1); a logarithm in double misses some."""
    schedule = S.cosine_restarts(0.3, 7, mult=mult)
    for i in range(1, 30):
        restart = 7 * (mult ** i - 1) // (mult - 1)
        assert schedule(restart) == 0.3
        assert schedule(restart - 1) < 0.1


def test_warmup_stable_decay_is_what_join_builds():
    for decay, fall in (("linear", S.linear(0.3, 0.1, 8)), ("cos", S.cosine_decay(0.3, 8, end=0.1))):
        joined = S.join([S.warmup(0.3, 5, start=0.05), fall], [12])
        schedule = S.warmup_stable_decay(0.3, 20, 5, 8, start=0.05, end=0.1, decay=decay)
        # two forms of one line: a rounding or two apart
        assert [schedule(t) for t in range(30)] == pytest.approx([joined(t) for t in range(30)], rel=4e-16)


def test_ends_are_exact():
    assert S.linear(0.1, 0.3, 3)(3) == 0.3
    assert S.cosine_decay(0.1, 7, end=0.0)(7) == 0.0
    assert S.polynomial_decay(0.1, 7, 0.5, end=0.03)(7) == 0.03
    assert S.warmup(0.1, 3)(0) == 0.0
    assert S.warmup(0.1, 3)(3) == 0.1
    assert S.inverse_sqrt(0.1, 7)(6) == 0.1
    for anneal in ("cos", "linear"):
        cycle = S.one_cycle(0.1, 30, 0.2, anneal, div_factor=3, final_div_factor=7)
        assert [cycle(t) for t in (0, 5, 29, 10**9)] == [0.1 / 3, 0.1, 0.1 / 3 / 7, 0.1 / 3 / 7]
    for decay in ("cos", "linear", "sqrt"):
        schedule = S.warmup_stable_decay(0.1, 30, 3, 7, start=0.02, end=0.03, decay=decay)
        assert [schedule(t) for t in (0, 3, 23, 30, 10**9)] == [0.02, 0.1, 0.1, 0.03, 0.03]


def test_one_cycle_where_pytorch_divides_by_zero():
    assert S.one_cycle(0.1, 4, 0.25)(0) == 0.1
    assert S.one_cycle(0.1, 1)(0) == 0.1 / 25 / 1e4
    assert S.one_cycle(0.1, 1, 1.0)(0) == 0.1


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_is_a_value(schedule):
    namespace = {name: getattr(S, name) for name in S.__all__}
    again = eval(repr(schedule), namespace)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert copy.deepcopy(schedule) == schedule
    assert [again(t) for t in range(40)] == [schedule(t) for t in range(40)]
    assert all(other != schedule for other in ALL if other is not schedule)
    with pytest.raises(AttributeError):
        schedule.lr = 1.0


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_pure_float_of_the_step(schedule):
    values = [schedule(t) for t in range(40)]
    assert all(type(v) is float for v in values)
    assert [schedule(t) for t in reversed(range(40))] == values[::-1]
    with pytest.raises(ValueError, match=r"^step: expected a number in \[0, inf\), got -1"):
        schedule(-1)


@pytest.mark.parametrize("first", [*ALL, S.ReduceOnPlateau(0.2)], ids=repr)
def test_every_pair_composes(first):
    for second in [*ALL, S.ReduceOnPlateau(0.4)]:
        both = S.join([first, second], [10])
        assert [both(t) for t in range(25)] == [first(t) for t in range(10)] + [second(t) for t in range(15)]
        warm = S.join([S.warmup(first, 4, start=0.07), S.warmup(second, 5)], [10])
        rise = [0.07 * (1 - t / 4) + first(0) * t / 4 for t in range(4)]
        assert [warm(t) for t in range(4)] == pytest.approx(rise, rel=1e-15)        # two roundings
        assert [warm(t) for t in range(4, 10)] == [first(t) for t in range(6)]
        assert (warm(10), warm(15), warm(20)) == (0.0, second(0), second(5))
        again = S.warmup(both, 3)
        assert [again(t) for t in range(3, 20)] == [both(t) for t in range(17)]


@pytest.mark.parametrize(("build", "error", "argument"), [
    (lambda: S.constant(-0.1), ValueError, "value"),
    (lambda: S.constant(math.nan), ValueError, "value"),
    (lambda: S.constant("0.1"), TypeError, "value"),
    (lambda: S.constant(True), TypeError, "value"),
    (lambda: S.step_decay(0.1, 0), ValueError, "step_size"),
    (lambda: S.step_decay(0.1, 2.5), TypeError, "step_size"),
    (lambda: S.step_decay(0.1, 2, gamma=0), ValueError, "gamma"),
    (lambda: S.exponential_decay(math.inf, 0.9), ValueError, "lr"),
    (lambda: S.inverse_time_decay(0.1, -1.0), ValueError, "rate"),
    (lambda: S.polynomial_decay(0.1, 10, power=0), ValueError, "power"),
    (lambda: S.linear(0.1, 0.2, -3), ValueError, "steps"),
    (lambda: S.cosine_decay(0.1, 10, end=-1e-3), ValueError, "end"),
    (lambda: S.cosine_restarts(0.1, 10, mult=0), ValueError, "mult"),
    (lambda: S.cosine_restarts(0.1, 10, mult=1.5), TypeError, "mult"),
    (lambda: S.inverse_sqrt(0.1, 0), ValueError, "steps"),
    (lambda: S.one_cycle(0.1, 10, 1.1), ValueError, "pct_start"),
    (lambda: S.one_cycle(0.1, 10, 0.6, three_phase=True), ValueError, "pct_start"),
    (lambda: S.one_cycle(0.1, 10, anneal_strategy="sine"), ValueError, "anneal_strategy"),
    (lambda: S.one_cycle(0.1, 10, div_factor=0), ValueError, "div_factor"),
    (lambda: S.one_cycle(0.1, 10, final_div_factor=math.inf), ValueError, "final_div_factor"),
    (lambda: S.warmup_stable_decay(0.1, 10, 6, 5), ValueError, "steps"),
    (lambda: S.warmup_stable_decay(0.1, 10, -1, 5), ValueError, "warmup_steps"),
    (lambda: S.warmup_stable_decay(0.1, 10, 1, 0), ValueError, "decay_steps"),
    (lambda: S.warmup_stable_decay(0.1, 10, 1, 5, decay="step"), ValueError, "decay"),
    (lambda: S.ReduceOnPlateau(-0.1), ValueError, "lr"),
    (lambda: S.ReduceOnPlateau(S.constant(0.1)), TypeError, "lr"),
    (lambda: S.ReduceOnPlateau(0.1, "least"), ValueError, "mode"),
    (lambda: S.ReduceOnPlateau(0.1, factor=1.0), ValueError, "factor"),
    (lambda: S.ReduceOnPlateau(0.1, patience=-1), ValueError, "patience"),
    (lambda: S.ReduceOnPlateau(0.1, threshold=1.0), ValueError, "threshold"),
    (lambda: S.ReduceOnPlateau(0.1, threshold_mode="mean"), ValueError, "threshold_mode"),
    (lambda: S.ReduceOnPlateau(0.1, cooldown=0.5), TypeError, "cooldown"),
    (lambda: S.ReduceOnPlateau(0.1, min_lr=math.nan), ValueError, "min_lr"),
    (lambda: S.warmup("cosine", 10), TypeError, "schedule"),
    (lambda: S.warmup(0.1, 10, start=-1), ValueError, "start"),
    (lambda: S.join([0.1], [3]), ValueError, "boundaries"),
    (lambda: S.join([], []), ValueError, "boundaries"),
    (lambda: S.join([0.1, 0.2, 0.3], [5, 5]), ValueError, "boundaries"),
    (lambda: S.join([0.1, None], [5]), TypeError, r"schedules\[1\]"),
])
def test_parameters_are_checked_when_built(build, error, argument):
    with pytest.raises(error, match=f"^{argument}: expected"):
        build()


def test_reachable_from_the_package():
    assert oc.schedules is S


DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", S.__all__)
def test_stands_in_the_docs_with_a_picture(name):
    text = (DOCS / "schedules.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert re.search(rf"^>>> .*\b{name}\(", section, re.M)
    assert f"](pictures/{name}.png)" in section
    picture = (DOCS / "pictures" / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 40_000


# ------------------------------------------------------------------------------------------- ReduceOnPlateau

METRICS = {
    "falls, then rests": [1 / (1 + t) if t < 12 else 1 / 12 for t in range(60)],
    "noise": [float(x) for x in np.random.default_rng(5).standard_normal(80)],
    "steps": [5.0 - t // 9 for t in range(60)],
    "NaN and infinity": [1.0, math.nan, 0.5, math.inf, math.nan, 0.4, 0.4, -math.inf, 0.1, 0.1, 0.1] * 3,
}


@pytest.mark.parametrize("options", [
    {}, {"patience": 3, "factor": 0.5}, {"patience": 0, "cooldown": 4}, {"mode": "max", "patience": 2},
    {"threshold": 0.2, "patience": 2}, {"threshold": 0.3, "threshold_mode": "abs", "patience": 1},
    {"mode": "max", "threshold": 0.3, "threshold_mode": "abs", "patience": 2, "cooldown": 1},
    {"mode": "max", "threshold": 1.5, "patience": 1, "factor": 0.0}, {"patience": 0, "min_lr": 0.02},
    {"patience": 0, "factor": 0.9, "eps": 0.005},
], ids=repr)
@pytest.mark.parametrize("name", METRICS)
def test_plateau_against_torch(name, options):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    theirs, mine = L.ReduceLROnPlateau(optimizer, **options), S.ReduceOnPlateau(0.3, **options)
    for metric in METRICS[name]:
        theirs.step(metric)
        mine.update(metric)
        state = mine.state_dict()
        assert state.pop("value") == mine(7) == optimizer.param_groups[0]["lr"]
        assert state == {key: getattr(theirs, key) for key in state}


def test_plateau_drives_an_optimizer():
    plateau, theta = S.ReduceOnPlateau(0.5, factor=0.5, patience=0), np.zeros(1)
    optimizer = oc.optim.SGD(theta, lr=S.warmup(plateau, 2))
    # lr 0 and half of 0.5 in the warm-up, then 0.25 and 0.125: from its second update on the value halves each time
    for expected in (0.0, -0.25, -0.5, -0.625):
        optimizer.step(np.ones(1))
        plateau.update(1.0)
        assert theta[0] == expected


@pytest.mark.parametrize("cut", [0, 1, 7, 20])
def test_plateau_continues_from_a_checkpoint(tmp_path, cut):
    options = {"patience": 1, "cooldown": 2, "factor": 0.5}
    whole, first, second = (S.ReduceOnPlateau(0.3, **options) for _ in range(3))
    for metric in METRICS["noise"][:cut]:
        first.update(metric)
    oc.checkpoint.save(tmp_path / "plateau.safetensors", first.state_dict())
    second.load_state_dict(oc.checkpoint.load(tmp_path / "plateau.safetensors"))
    for metric in METRICS["noise"]:
        whole.update(metric)
    for metric in METRICS["noise"][cut:]:
        second.update(metric)
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(("change", "error"), [
    ({"value": -1.0}, ValueError), ({"value": "0.1"}, TypeError), ({"best": math.nan}, ValueError),
    ({"num_bad_epochs": 1.5}, TypeError), ({"last_epoch": -1}, ValueError), ({"more": 1}, ValueError),
])
def test_plateau_refuses_a_bad_state_and_keeps_its_own(change, error):
    plateau = S.ReduceOnPlateau(0.3)
    plateau.update(2.0)
    before = plateau.state_dict()
    with pytest.raises(error, match=r"^state"):
        plateau.load_state_dict(before | {"best": 1.0, "cooldown_counter": 3} | change)
    assert plateau.state_dict() == before


def test_plateau_refuses_what_is_no_metric():
    plateau = S.ReduceOnPlateau(0.3)
    with pytest.raises(TypeError, match=r"^metric: expected a number, got '0\.5'"):
        plateau.update("0.5")
    assert plateau.last_epoch == 0


def test_plateau_is_built_by_its_repr():
    plateau = S.ReduceOnPlateau(0.3, patience=3, threshold_mode="abs")
    assert repr(eval(repr(plateau), {"ReduceOnPlateau": S.ReduceOnPlateau})) == repr(plateau)
    assert plateau != S.ReduceOnPlateau(0.3, patience=3, threshold_mode="abs")


def test_plateau_watches_the_history():
    X = np.eye(4, dtype="float32")
    net = oc.nn.Sequential(oc.nn.Linear(4, 4))
    plateau = S.ReduceOnPlateau(1e-3)
    with pytest.raises(ValueError, match=r"^name: expected one of \['loss', .*got 'validation_loss'"):
        oc.train.fit(net, X, np.arange(4), epochs=1, progress=False, callbacks=[plateau.watch()])
    history = oc.train.fit(net, X, np.arange(4), epochs=3, progress=False, validation=(X, np.arange(4)),
                           callbacks=[plateau.watch()])
    assert plateau.last_epoch == 3
    assert plateau.best == min(history.epochs["validation_loss"])
