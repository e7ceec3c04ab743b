"""What every wrapper of a rule promises: state, errors, groups, composition."""

import math

import numpy as np
import pytest
from wrapper_cases import (
    BAD_GRADIENTS,
    BY_GRADIENTS,
    LARGE,
    SHAPES,
    WRAPPERS,
    bits,
    everything,
    gradient,
    move,
    noise,
    start,
)

import optcore as oc


@pytest.mark.parametrize("name", WRAPPERS)
def test_passes_on_what_is_the_rules(name):
    params = start()
    rule = oc.optim.AdamW(params, lr=0.1, nonfinite="raise")
    opt = WRAPPERS[name](rule)
    assert opt.param_groups is rule.param_groups
    assert opt.nonfinite == "raise"
    opt.nonfinite = "propagate"
    assert rule.nonfinite == "propagate"
    for seed in range(6):
        move(opt, params, seed)
    assert opt.steps == rule.steps > 0
    assert opt.skipped_steps == 0
    assert "AdamW" in repr(opt)
    opt.param_groups[0]["lr"] = 0.0
    opt.param_groups[0]["weight_decay"] = 0.0
    if "Lookahead" not in name:     # whose slow weights still move
        before = bits(params)
        for seed in range(6):
            move(opt, params, seed)
        assert bits(params) == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cut", [0, 1, 5, 8])
@pytest.mark.parametrize("name", WRAPPERS)
def test_continues_from_a_checkpoint_bit_for_bit(name, cut, dtype, tmp_path):
    whole, first = start(dtype), start(dtype)
    one, two = (WRAPPERS[name](oc.optim.AdamW(p, lr=oc.schedules.cosine_decay(0.1, 12))) for p in (whole, first))
    for seed in range(12):
        move(one, whole, seed)
    for seed in range(cut):
        move(two, first, seed)
    oc.checkpoint.save(tmp_path / "c.safetensors", {"opt": two.state_dict(), "params": first})
    saved = oc.checkpoint.load(tmp_path / "c.safetensors")
    second = start(dtype, seed=9)
    three = WRAPPERS[name](oc.optim.AdamW(second, lr=oc.schedules.cosine_decay(0.1, 12)))
    move(three, second, 77)         # a state of its own, to be forgotten
    for k, a in second.items():
        a[...] = saved["params"][k]
    three.load_state_dict(saved["opt"])
    assert bits(three.state_dict()) == bits(two.state_dict())
    for seed in range(cut, 12):
        move(three, second, seed)
    assert bits([three.state_dict(), second]) == bits([one.state_dict(), whole])


@pytest.mark.parametrize("name", WRAPPERS)
def test_state_is_a_copy(name):
    params = start()
    opt = WRAPPERS[name](oc.optim.SGD(params, momentum=0.9))
    for seed in range(4):
        move(opt, params, seed)
    state = opt.state_dict()
    before = bits(state)
    other = WRAPPERS[name](oc.optim.SGD(params2 := start(), momentum=0.9))
    other.load_state_dict(state)
    for seed in range(4):
        move(opt, params, seed)
        move(other, params2, seed)
    assert bits(state) == before


@BAD_GRADIENTS
@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_a_bad_gradient_changes_nothing(name, what, bad, error, message):
    params, twin = start(), start()
    opt, other = (WRAPPERS[name](oc.optim.Adam(p, nonfinite="raise")) for p in (params, twin))
    for seed in range(7):
        before = everything(opt, params)
        with pytest.raises(error, match=message):
            opt.step(bad)
        assert everything(opt, params) == before, what
        move(opt, params, seed)
        move(other, twin, seed)
    assert everything(opt, params) == everything(other, twin)


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_a_gradient_in_the_parameters_memory_changes_nothing(name):
    params = {"a": np.ones(4), "b": np.ones(4)}
    opt = WRAPPERS[name](oc.optim.SGD(params))
    before = everything(opt, params)
    with pytest.raises(ValueError, match="gradient of b: expected memory of its own, got an array that overlaps a"):
        opt.step([np.ones(4), params["a"]])
    assert everything(opt, params) == before


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_bad_option_changes_nothing(name):
    """An error of the rule itself, at any call: the same call then works."""
    params, twin = start(), start()
    opt, other = (WRAPPERS[name](oc.optim.Adam(p, lr=0.1)) for p in (params, twin))
    raised = 0
    for seed in range(7):
        before = everything(opt, params)
        move(other, twin, seed)
        opt.param_groups[0]["lr"] = -1.0
        if other.steps > opt.steps:         # this call is a step of the rule
            raised += 1
            with pytest.raises(ValueError, match=r"^lr: expected"):
                move(opt, params, seed)
            opt.param_groups[0]["lr"] = 0.1
            assert everything(opt, params) == before
        opt.param_groups[0]["lr"] = 0.1
        move(opt, params, seed)
        assert everything(opt, params) == everything(other, twin)
    assert raised


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_bad_state_changes_nothing(name):
    params = start()
    opt = WRAPPERS[name](oc.optim.Adam(params))
    for seed in range(5):
        move(opt, params, seed)
    before, state = everything(opt, params), opt.state_dict()
    for key in state:
        with pytest.raises(TypeError, match=r"^state: expected a dict with"):
            opt.load_state_dict({k: v for k, v in state.items() if k != key})
        assert everything(opt, params) == before
    other = start(shapes={**SHAPES, "w": (2, 6)})
    wrong = WRAPPERS[name](oc.optim.Adam(other))
    for seed in range(5):
        move(wrong, other, seed)
    for bad in (wrong.state_dict(), {**state, "optimizer": wrong.state_dict()["optimizer"]},
                {**state, "optimizer": 3}, []):
        with pytest.raises((TypeError, ValueError), match=r"^state"):
            opt.load_state_dict(bad)
        assert everything(opt, params) == before


@pytest.mark.parametrize("through", ["wrapper", "rule"])
@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_a_group_that_comes_later_starts_where_it_comes(name, through):
    params, more, apart = start(), {"m": np.array([1.0, -2.0])}, {"m": np.array([1.0, -2.0])}
    rule = oc.optim.SGD(params, lr=0.1)
    opt, single = WRAPPERS[name](rule), WRAPPERS[name](oc.optim.SGD(apart, lr=0.2))
    for seed in range(12):      # a multiple of every cycle above
        move(opt, params, seed)
    (opt if through == "wrapper" else rule).add_param_group({"params": more, "lr": 0.2})
    for seed in range(12):
        grads = noise({**params, **more}, seed)
        opt.step(grads)
        single.step({"m": grads["m"]})
        assert bits(more) == bits(apart)


@pytest.mark.parametrize("name", WRAPPERS)
def test_one_array_is_enough(name):
    theta, as_list = np.ones(LARGE, "float32"), [np.ones(LARGE, "float32")]
    opt, other = WRAPPERS[name](oc.optim.SGD(theta)), WRAPPERS[name](oc.optim.SGD(as_list))
    g = np.random.default_rng(2).standard_normal(LARGE).astype("float32")
    for _ in range(12):
        if opt._takes_arrays:
            opt.step(g)
            other.step([g])
        else:
            opt.step(lambda: g)
            other.step(lambda: [g])
    assert bits(theta) == bits(as_list[0])
    assert not np.array_equal(theta, np.ones(LARGE))


@pytest.mark.parametrize("build", [oc.optim.MultiSteps, oc.optim.Lookahead, oc.optim.SAM])
def test_wraps_rules_only(build):
    with pytest.raises(TypeError, match=r"^opt: expected a rule"):
        build(np.zeros(3), 2)


@pytest.mark.parametrize(("build", "error", "argument"), [
    (lambda o: oc.optim.MultiSteps(o, 0), ValueError, "every"),
    (lambda o: oc.optim.MultiSteps(o, 2.0), TypeError, "every"),
    (lambda o: oc.optim.Lookahead(o, k=0), ValueError, "k"),
    (lambda o: oc.optim.Lookahead(o, alpha=0), ValueError, "alpha"),
    (lambda o: oc.optim.Lookahead(o, alpha=1.5), ValueError, "alpha"),
    (lambda o: oc.optim.EMA(o, 1.0), ValueError, "decay"),
    (lambda o: oc.optim.EMA(o, math.nan), ValueError, "decay"),
    (lambda o: oc.optim.EMA(o, "0.9"), TypeError, "decay"),
    (lambda o: oc.optim.EMA(o, 0.9, debias=1), TypeError, "debias"),
    (lambda o: oc.optim.EMA(np.zeros(3, int)), TypeError, "params"),
    (lambda o: oc.optim.EMA([np.zeros(3), np.zeros((3, 2)).T]), ValueError, r"params\[1\]"),
    (lambda o: oc.optim.EMA(dict.fromkeys("ab", np.zeros(3))), ValueError, "params"),
    (lambda o: oc.optim.SAM(o, -0.1), ValueError, "rho"),
    (lambda o: oc.optim.SAM(o, math.inf), ValueError, "rho"),
    (lambda o: oc.optim.SAM(o, adaptive=1), TypeError, "adaptive"),
    (lambda o: oc.optim.SAM(oc.optim.Lookahead(oc.optim.SAM(o))), TypeError, "opt"),
    (lambda o: oc.optim.MultiSteps(oc.optim.SAM(o), 2), TypeError, "opt"),
])
def test_options_are_checked_when_built(build, error, argument):
    with pytest.raises(error, match=f"^{argument}: expected"):
        build(oc.optim.SGD(np.zeros(3)))


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_skip_leaves_the_whole_call_out(name):
    params, twin = start(), start()
    opt, other = (WRAPPERS[name](oc.optim.Adam(p, nonfinite="skip")) for p in (params, twin))
    for seed in range(7):
        opt.step({**gradient(params), "b": np.full(4, math.nan)})
        assert opt.skipped_steps == seed + 1
        assert math.isnan(opt.last_grad_norm)
        move(opt, params, seed)
        move(other, twin, seed)
        assert opt.last_grad_norm == other.last_grad_norm > 0
    assert bits([opt.state_dict(), params]) == bits([other.state_dict(), twin])


@pytest.mark.parametrize("every", [1, 3])
def test_gradients_in_eval_mode_are_refused_at_once(every):
    """They would be those of x, not of y, whether they wait for a step or not."""
    theta, twin = np.ones(3), np.ones(3)
    opt, other = (oc.optim.MultiSteps(oc.optim.ScheduleFreeSGD(p, lr=0.1), every) for p in (theta, twin))
    opt.eval()
    with pytest.raises(RuntimeError, match=r"^step: expected train mode"):
        opt.step(np.ones(3))
    opt.train()
    assert opt.count == 0
    for o in (opt, other):
        for _ in range(3):
            o.step(np.ones(3))
    assert bits(theta) == bits(twin)


def test_sam_in_the_middle_of_a_step_has_no_other_mode():
    theta = np.ones(3)
    opt = oc.optim.SAM(oc.optim.ScheduleFreeSGD(theta, lr=0.1))
    opt.eval()
    with pytest.raises(RuntimeError, match=r"^step: expected train mode"):
        opt.first_step(np.ones(3))
    opt.train()
    opt.first_step(np.ones(3))
    moved = bits(theta)
    for turn in ("eval", "train"):
        with pytest.raises(RuntimeError, match=f"^{turn}: expected second_step or restore"):
            getattr(opt, turn)()
    assert bits(theta) == moved
    opt.second_step(np.ones(3))
    opt.eval()
