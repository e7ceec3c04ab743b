"""Gradients at the ends of the range, for every rule; and that every rule stands in every suite."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from rule_cases import CASES, run

import optcore as oc

rules = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

HUGE = {"float32": 1e25, "float64": 1e200}          # whose squares are not of the dtype
BOUND = {"float32": 2.0**63, "float64": 2.0**511}   # what a rule takes them for that squares gradients


def squares(case):
    return any(slot.key in ("sum", "square_avg", "exp_avg_sq") for slot in case.rule.rule.slots)


def short_memory(case):
    """Options under which 600 steps forget a square of 1e38, or of 1e308 2,000: at most 0.8 of it is kept in one."""
    return case.known(lr=0.1, betas=(0.5, 0.8, 0.9)[:len(case.rule.rule.options.get("betas", ()))], alpha=0.5, rho=0.5,
                      weight_decay=0.0, eps=1e-6)


def test_every_rule_stands_in_every_suite():
    assert {case.rule.__name__.lower() for case in CASES.values()} == set(oc.optim.names())
    path = Path(__file__).parents[1] / "native" / "cases" / "update.py"
    spec = importlib.util.spec_from_file_location("bits_of_updates", path)
    bits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bits)
    assert set(bits.OPTIONS) == set(oc.optim.names())


@rules
@dtypes
def test_subnormal_gradients_follow_the_paper(case, dtype):
    """Flushed to zero, they would not move theta; rounded in their range they are right to 2**-17 of themselves."""
    tiny = np.finfo(dtype).smallest_subnormal
    g = (np.array([2.0**17, -2.0**18, 3 * 2.0**19, -2.0**20]) * tiny).astype(dtype)
    p, options = np.zeros(4, dtype), case.known(lr=1.0, weight_decay=0.0)
    assert np.all(np.abs(g) < np.finfo(dtype).smallest_normal)
    got, _ = run(case, p, [g, g], options)
    wanted, _ = case.reference(p.astype(np.longdouble), [g.astype(np.longdouble)] * 2, options)
    # A product with 1 - beta may be a thousandth of g: then right to 2**-8, and twice that in a mean of two.
    np.testing.assert_allclose(got, wanted.astype(dtype), rtol=2.0**-7, atol=0)
    assert np.all(got != 0)


@rules
@dtypes
@pytest.mark.parametrize("sign", [1, -1])
def test_a_huge_gradient_follows_the_paper(case, dtype, sign):
    """Its square overflows: rules that square it take it for a smaller one, so that the step is that of its sign."""
    if case.rule is oc.optim.Sophia:
        return  # the suite feeds it squares of gradients as estimates; see the next test
    rng = np.random.default_rng(21)
    p = rng.standard_normal(30).astype(dtype)
    grads = [rng.standard_normal(30).astype(dtype) for _ in range(6)]
    grads[2][:10] = sign * HUGE[dtype]
    options = short_memory(case)
    got, opt = run(case, p, grads, options)
    seen = [np.clip(g, -BOUND[dtype], BOUND[dtype]) if squares(case) else g for g in grads]
    wanted, _ = case.reference(p.astype(np.longdouble), [g.astype(np.longdouble) for g in seen], options)
    assert np.isfinite(got).all()
    assert all(np.isfinite(v).all() for v in opt.state_dict()["state"][0].values())
    # six steps of about ten roundings, which lr / sigma = 0.1 / |g| with |g| from 0.01 on weighs tenfold
    eps = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, wanted.astype(dtype), rtol=eps, atol=eps, err_msg=str(options))


@rules
@dtypes
def test_a_huge_gradient_does_not_freeze_a_parameter(case, dtype):
    """A rule that forgets goes on as before once the square is forgotten. A sum, Adagrad's, never is; a rule that is
    linear in the gradient has thrown theta far out."""
    linear = (oc.optim.SGD, oc.optim.ASGD, oc.optim.ScheduleFreeSGD, oc.optim.RAdam)     # RAdam in its first steps
    if case.rule is oc.optim.Adagrad or case.rule in linear:
        return
    p = np.ones(3, dtype)
    opt = case.rule(p, **short_memory(case))
    opt.step(np.full(3, HUGE[dtype], dtype))
    for _ in range(600 if dtype == "float32" else 4000):
        opt.step(np.ones(3, dtype))
    before = p.copy()
    opt.step(np.ones(3, dtype))
    assert np.isfinite(p).all()
    assert np.all(p < before)


@pytest.mark.parametrize("rule", [oc.optim.AdamW, oc.optim.RMSprop, oc.optim.SGD, oc.optim.Lion])
def test_an_asked_for_clip_holds_infinity_too(rule):
    """As torch.nn.utils.clip_grad_value_ does; without it infinity is no large gradient (see test_nonfinite)."""
    p, q = np.ones(2), np.ones(2)
    rule(p, lr=0.1, clip_value=3.0).step(np.array([np.inf, -np.inf]))
    rule(q, lr=0.1, clip_value=3.0).step(np.array([3.0, -3.0]))
    assert p.tobytes() == q.tobytes()
    assert np.isfinite(p).all()


@rules
@pytest.mark.parametrize("bad", ["NaN", "shape", "option", "state"])
def test_an_error_in_the_last_group_leaves_the_first_untouched(case, bad):
    arrays = [np.ones(5, "float32"), np.ones((2, 3)), np.ones(4, "float32")]
    opt = case.rule([{"params": arrays[0]}, {"params": {"w": arrays[1]}}, {"params": [arrays[2]]}], lr=0.1,
                    nonfinite="raise")
    grads = [np.ones_like(a) for a in arrays]
    opt.step(grads)
    state = opt.state_dict()

    def everything():
        now = opt.state_dict()
        return [a.tobytes() for a in arrays], repr(now["state"]), now["step"], repr(now["param_groups"])

    if bad == "NaN":
        grads[2][3] = np.nan
    elif bad == "shape":
        grads[2] = np.ones(5, "float32")
    elif bad == "option":
        opt.param_groups[2]["lr"] = -1.0
    else:
        state["state"][2]["step"] = -1
    before = everything()
    with pytest.raises((ValueError, FloatingPointError)):
        opt.load_state_dict(state) if bad == "state" else opt.step(grads)
    assert everything() == before


@rules
@pytest.mark.parametrize(("change", "error", "message"), [
    ({"param_groups": 3}, TypeError, r"state\['param_groups'\]: expected a list, got int"),
    ({"param_groups": ["x"]}, TypeError, r"state\['param_groups'\]\[0\]: expected a dict with a list 'params'"),
    ({"param_groups": [{}]}, TypeError, r"state\['param_groups'\]\[0\]: expected a dict with a list 'params'"),
    ({"param_groups": [{"params": [0, 0]}]}, ValueError, "expected the number of each parameter once"),
    ({"param_groups": [{"params": [0, [1]]}]}, ValueError, "expected the number of each parameter once"),
    ({"state": [1, 2]}, TypeError, r"state\['state'\]: expected a dict, got list")])
def test_a_state_of_another_build_changes_nothing(case, change, error, message):
    opt = case.rule([np.ones(3), np.ones(4)], lr=0.1)
    opt.step([np.ones(3), np.ones(4)])
    before = repr(opt.state_dict())
    with pytest.raises(error, match=message):
        opt.load_state_dict({**opt.state_dict(), **change})
    assert repr(opt.state_dict()) == before


def test_clipping_names_what_is_no_gradient_and_makes_nan_of_infinity_as_torch_does():
    for bad in (None, "abc", 3):
        with pytest.raises(TypeError, match="grads: expected an array, sequence or mapping of arrays, got"):
            oc.optim.clip_grad_norm_(bad, 1.0)
    grads, theirs = [np.array([np.inf, 1.0]), np.ones(2)], [torch.zeros(2, dtype=torch.float64) for _ in range(2)]
    for p, g in zip(theirs, grads, strict=True):
        p.grad = torch.from_numpy(g.copy())
    assert oc.optim.clip_grad_norm_(grads, 1.0) == float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)) == np.inf
    for p, g in zip(theirs, grads, strict=True):
        assert np.array_equal(g, p.grad.numpy(), equal_nan=True)


def test_decay_groups_check_the_decay():
    for bad, error in ((-0.1, ValueError), ("x", TypeError), (np.nan, ValueError)):
        with pytest.raises(error, match="weight_decay: expected"):
            oc.optim.decay_groups({"w": np.ones((2, 2))}, bad)
