"""What a user may type wrong: numbers beyond range, bools for numbers, options set where nothing reads them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from rule_cases import CASES

import optcore as oc
from optcore import functional as F
from optcore import schedules as S

HUGE = 10**400  # no float holds it
ONES = np.ones(2)
rules = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def sgd(**options):
    return oc.optim.SGD(np.ones(3), **options)


@pytest.mark.parametrize(("build", "error", "message"), [
    (lambda: sgd(lr=HUGE), ValueError, "lr: expected a number within the range of float64"),
    (lambda: sgd(lr=True), TypeError, "lr: expected a number, got True"),
    (lambda: sgd(lr=np.bool_(True)), TypeError, "lr: expected a number"),
    (lambda: sgd(lr=np.array(True)), TypeError, "lr: expected a number"),
    (lambda: sgd(lr=np.array("x")), TypeError, "lr: expected a number"),
    (lambda: sgd(lr=None), TypeError, "lr: expected a number, got None"),
    (lambda: sgd(momentum=1j), TypeError, "momentum: expected a number"),
    (lambda: sgd(rate=0.1), TypeError, "SGD: got an unexpected keyword argument 'rate'"),
    (lambda: sgd(clip_norm=True), TypeError, "clip_norm: expected a number, got True"),
    (lambda: sgd(clip_norm=HUGE), ValueError, "clip_norm: expected a number within"),
    (lambda: sgd(clip_value="1"), TypeError, "clip_value: expected a number, got '1'"),
    (lambda: sgd(clip_norm=0), ValueError, r"clip_norm: expected a number in \(0, inf\), got 0"),
    (lambda: sgd(clip_norm=float("nan")), ValueError, r"clip_norm: expected a number in \(0, inf\), got nan"),
    (lambda: sgd(nesterov=1, momentum=0.9), TypeError, "nesterov: expected True or False, got 1"),
    (lambda: oc.optim.Adam(np.ones(3), betas=(True, 0.9)), TypeError, r"betas\[0\]: expected a number, got True"),
    (lambda: oc.optim.RMSprop(np.ones(3), alpha=1.5), ValueError, r"alpha: expected a number in \[0, 1\], got 1.5"),
    (lambda: oc.optim.EMA(np.ones(3), HUGE), ValueError, "decay: expected a number within"),
    (lambda: oc.optim.EMA(np.ones(3, "uint16"), uint16_as="bf16"), ValueError, "uint16_as: expected one of None, "),
    (lambda: oc.optim.Lookahead(sgd(), alpha=HUGE), ValueError, "alpha: expected a number within"),
    (lambda: oc.optim.clip_grad_norm_(np.ones(3), True), TypeError, "max_norm: expected a number, got True"),
    (lambda: oc.optim.decay_groups({"w": np.ones((2, 2))}, True), TypeError, "weight_decay: expected a number"),
    (lambda: S.constant(HUGE), ValueError, "value: expected a number within"),
    (lambda: S.constant("1"), TypeError, "value: expected a number"),
    (lambda: S.join(1.0, [2]), TypeError, "schedules: expected a list or tuple, got 1.0"),
    (lambda: S.join([1.0, 2.0], 2), TypeError, "boundaries: expected a list or tuple, got 2"),
    (lambda: S.one_cycle(1.0, 10, three_phase=1), TypeError, "three_phase: expected True or False"),
    (lambda: S.cosine_decay(1.0, 10)(float("nan")), ValueError, r"step: expected a number in \[0, inf\), got nan"),
    (lambda: S.constant(0.1)(None), TypeError, "step: expected a number, got None"),
    (lambda: S.warmup(0.1, 5)(np.ones(2)), TypeError, "step: expected a number"),
    (lambda: sgd(nonfinite=np.ones(2)), TypeError, "nonfinite: expected a string"),
    (lambda: oc.optim.clip_grad_norm_(np.ones(3), np.ones(2)), TypeError, "max_norm: expected a number"),
    (lambda: oc.data.split(10, True, np.random.default_rng(0)), TypeError, "fraction: expected a number, got True"),
    (lambda: oc.data.batches(5, 2, shuffle=False, drop_last="no"), TypeError, "drop_last: expected True or False"),
    (lambda: oc.data.batches(2, 1, shuffle=False, rows=[3, 4]), TypeError, "rows: expected a NumPy array, got list"),
    (lambda: oc.data.batches(5, 2, shuffle=False, rows=np.arange(4)), ValueError, "rows: expected int64 of shape"),
    (lambda: oc.data.shuffled(5, None), TypeError, "rng: expected a numpy.random.Generator, got NoneType"),
    (lambda: oc.data.load(3), TypeError, "source: expected a path, got int"),
    (lambda: oc.checkpoint.load(None), TypeError, "path: expected a path, got NoneType"),
    (lambda: F.mse(ONES, ONES, scale="1"), TypeError, "scale: expected a number, got '1'"),
    (lambda: F.bce_with_logits(ONES, ONES, scale=np.nan), ValueError, "scale: expected a number in"),
    (lambda: F.huber(ONES, ONES, gradient=ONES), TypeError, "gradient: expected True or False"),
    (lambda: F.gelu(ONES, approximate=[]), TypeError, r"approximate: expected a string, got \[\]"),
    (lambda: oc.norm.batch_norm(ONES[None], training=True, channel_axis=HUGE), ValueError, "channel_axis: expected"),
    (lambda: oc.nn.Sequential(oc.nn.Linear(2, 2), dtype="x"), TypeError, "dtype: expected float32 or float64, got 'x'"),
])
def test_the_error_names_the_argument(build, error, message):
    with pytest.raises(error, match=f"^{message}"):
        build()


def test_clip_norm_is_checked_at_each_step():
    p = np.ones(3)
    opt = oc.optim.SGD(p, lr=1.0)
    opt.clip_norm = True
    with pytest.raises(TypeError, match=r"^clip_norm: expected a number, got True"):
        opt.step(np.ones(3))
    assert np.all(p == 1)
    for same in (1, np.float32(1), np.array(1.0)):
        opt.clip_norm = same
        opt.step(np.array([3.0, 0, 4]))
        assert opt.last_grad_norm == 5
    assert p == pytest.approx(1 - 3 * np.array([0.6, 0, 0.8]), abs=1e-6)  # 1e-6 beside the norm
    opt.clip_norm = np.inf
    opt.step(np.ones(3))
    assert opt.last_grad_norm == pytest.approx(np.sqrt(3), rel=1e-15)


@rules
def test_an_option_set_as_an_attribute_says_where_it_is(case):
    opt = case.rule([case.full(4)], lr=0.5)
    wrapped = oc.optim.MultiSteps(opt, 2)
    for name in case.rule.rule.options:
        for target in (opt, wrapped):
            with pytest.raises(AttributeError, match=rf"^{name}: .*param_groups\[0\]\['{name}'\]"):
                setattr(target, name, 5)
            assert not hasattr(target, name)
    with pytest.raises(AttributeError, match=r"^state_dtype: expected it when the optimizer is made"):
        opt.state_dtype = "int8"
    opt.note = "a user's own"


def test_what_a_wrapper_passes_on_can_be_set_through_it():
    opt = oc.optim.Lookahead(oc.optim.MultiSteps(sgd(lr=1.0), 1), k=2)
    opt.clip_norm, opt.clip_value, opt.alpha = 0.5, 0.25, 0.75
    rule = opt.opt.opt
    assert (rule.clip_norm, rule.clip_value, opt.clip_norm, opt.clip_value, opt.alpha) == (0.5, 0.25, 0.5, 0.25, 0.75)


@pytest.mark.parametrize("wrap", [lambda o: o, oc.optim.EMA, oc.optim.SAM])
@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_of_an_optimizer_is_refused_with_the_way_round(wrap, act):
    opt = wrap(sgd())
    if act is copy.copy and opt is not getattr(opt, "opt", opt):
        return  # a second handle on the same rule, as for any Python object
    with pytest.raises(TypeError, match=r"SGD: .*cannot be copied or pickled.*load_state_dict"):
        act(opt)


def test_a_schedule_that_steps_its_own_optimizer_is_told_so():
    p = np.ones(3)
    opt = oc.optim.SGD(p, lr=0.1)
    opt.param_groups[0]["lr"] = lambda step: opt.step(np.ones(3))
    with pytest.raises(RuntimeError, match="at work, in another thread or below this call"):
        opt.step(np.ones(3))


def test_rmsprop_with_alpha_1_divides_by_what_there_is():
    """v stays where it is: 0, so that eps alone is left, or what a state brought."""
    g = np.array([3.0, -0.5])
    mine, theirs = np.ones(2), torch.ones(2, dtype=torch.float64)
    opt, torch_opt = oc.optim.RMSprop(mine, lr=1e-9, alpha=1.0), torch.optim.RMSprop([theirs], lr=1e-9, alpha=1.0)
    for _ in range(3):
        opt.step(g)
        theirs.grad = torch.tensor(g)
        torch_opt.step()
    np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-14)  # three steps of three roundings
    assert np.all(mine != 1)


@pytest.mark.parametrize(("schedule", "step", "expected"), [
    (S.exponential_decay(1.0, 2.0), 5000, np.inf), (S.step_decay(1.0, 1, gamma=10.0), 400, np.inf),
    (S.exponential_decay(0.0, 2.0), 5000, 0.0), (S.inverse_time_decay(1.0, 1.0, 400.0), 10**9, 0.0),
    (S.exponential_decay(1.0, 0.5), 5000, 0.0), (S.exponential_decay(1.0, 2.0), 1023, 2.0**1023),
])
def test_a_schedule_beyond_a_float_is_infinite_or_0(schedule, step, expected):
    assert schedule(step) == expected


def test_a_rule_refuses_an_infinite_rate_by_name():
    p = np.ones(3)
    opt = oc.optim.SGD(p, lr=S.exponential_decay(1.0, 1e200))
    opt.step(np.zeros(3))
    opt.step(np.zeros(3))
    with pytest.raises(ValueError, match=r"^lr: expected a number in \[0, inf\), got inf"):
        opt.step(np.ones(3))
    assert np.all(p == 1)
