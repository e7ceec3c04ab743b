"""Errors that come late, in the last group or deep in a state, change nothing, for every rule."""

import numpy as np
import pytest
from rule_cases import CASES

import optcore as oc

rules = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@rules
@pytest.mark.parametrize("bad", ["NaN", "shape", "option", "state"])
def test_an_error_in_the_last_group_leaves_the_first_untouched(case, bad):
    arrays = [case.full(5, dtype="float32"), case.full(6), case.full(4, dtype="float32")]
    opt = case.rule([{"params": arrays[0]}, {"params": {"w": arrays[1]}}, {"params": [arrays[2]]}], lr=0.1,
                    nonfinite="raise")
    grads = [np.ones_like(a) for a in arrays]
    opt.step(grads)
    state = opt.state_dict()

    def everything():
        now = opt.state_dict()
        return [a.tobytes() for a in arrays], repr(now["state"]), now["step"], repr(now["param_groups"])

    if bad == "NaN":
        grads[2].flat[3] = np.nan
    elif bad == "shape":
        grads[2] = case.full(5, dtype="float32")
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
    opt = case.rule([case.full(3), case.full(4)], lr=0.1)
    opt.step([case.full(3), case.full(4)])
    before = repr(opt.state_dict())
    with pytest.raises(error, match=message):
        opt.load_state_dict({**opt.state_dict(), **change})
    assert repr(opt.state_dict()) == before


@pytest.mark.parametrize("bad", [None, "abc", 3])
def test_clipping_names_what_is_no_gradient(bad):
    with pytest.raises(TypeError, match="grads: expected an array, sequence or mapping of arrays, got"):
        oc.optim.clip_grad_norm_(bad, 1.0)


@rules
def test_an_option_that_is_gone_is_named(case):
    p = case.full(3)
    opt = case.rule([{"params": p}], lr=0.1)
    del opt.param_groups[0]["lr"]
    for act in (lambda: opt.step([case.full(3)]), opt.state_dict):
        with pytest.raises(ValueError, match=r"^param_groups\[0\]: expected the option 'lr', got \["):
            act()
    assert np.all(p == 1)


@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_an_error_inside_a_schedule_names_the_option_and_the_step(option):
    def schedule(step):
        return 0.1 / (2 - step)

    p = np.ones(3)
    opt = oc.optim.AdamW(p, **{option: schedule})
    opt.step(np.ones(3))
    opt.step(np.ones(3))
    before = p.copy()
    message = f"^{option}: expected a value of the schedule after 2 steps, got ZeroDivisionError: .*division by zero"
    for act in (lambda: opt.step(np.ones(3)), opt.state_dict):
        with pytest.raises(RuntimeError, match=message) as raised:
            act()
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert np.array_equal(p, before)
    assert opt.steps == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_masked_gradient_is_refused(dtype):
    """Its mask would be passed over in silence."""
    theta = np.ones(3, dtype)
    opt = oc.optim.SGD(theta, lr=1.0)
    with pytest.raises(TypeError, match="gradient of params: expected a NumPy array, got MaskedArray"):
        opt.step(np.ma.masked_array(np.ones(3, dtype), [True, False, False]))
    assert (theta == 1).all()


@pytest.mark.parametrize(("name", "value", "said"), [
    ("shape", (3, 4), "expected the shape"), ("dtype", "i4", "expected dtype"), ("dtype", ">f4", "native byte order")])
def test_a_gradient_changed_in_place_since_the_last_step(name, value, said):
    p, g = [np.ones((4, 3), "float32") for _ in range(2)]
    opt = oc.optim.AdamW([p], lr=0.1)
    opt.step([g])
    before = p.copy()
    setattr(g, name, value)
    with pytest.raises((TypeError, ValueError), match=said):
        opt.step([g])
    assert np.array_equal(p, before)
