"""Accumulated gradients and slow weights against the paper in NumPy float64 and against PyTorch."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from wrapper_cases import LARGE, bits, gradient, noise, start

import optcore as oc


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_multi_steps_is_a_step_with_the_mean(every, dtype):
    params, twin = start(dtype), start(dtype)
    options = {"lr": oc.schedules.linear(0.1, 0.0, 6), "clip_norm": 0.5}     # count steps; see the mean
    opt, rule = oc.optim.MultiSteps(oc.optim.AdamW(params, **options), every), oc.optim.AdamW(twin, **options)
    for step in range(6):
        grads = [noise(params, 10 * step + i) for i in range(every)]
        for g in grads:
            opt.step(g)
        total = {k: a.copy() for k, a in grads[0].items()}
        for g in grads[1:]:
            total = {k: np.asarray(total[k] + g[k]) for k in total}
        rule.step({k: np.asarray(a / a.dtype.type(every)) for k, a in total.items()})
        assert opt.last_grad_norm == rule.last_grad_norm
        assert opt.steps == step + 1
    assert bits(params) == bits(twin)
    assert bits(opt.state_dict()["optimizer"]) == bits(rule.state_dict())


def test_multi_steps_against_accumulated_backward():
    """The idiom of PyTorch: losses scaled by 1/every, .grad adds up; a parameter that no loss uses has none."""
    mine = {"w": np.arange(3.0), "rare": np.ones(2), "never": np.ones(2)}
    theirs = {k: torch.tensor(a.copy(), requires_grad=True) for k, a in mine.items()}
    opt = oc.optim.MultiSteps(oc.optim.AdamW(mine, lr=0.1), 4)
    torch_opt = torch.optim.AdamW(theirs.values(), lr=0.1)
    rng = np.random.default_rng(0)
    for i in range(40):
        x, rare = rng.standard_normal(3), i % 8 == 2
        loss = (torch.sin(theirs["w"]) * torch.tensor(x)).sum() + rare * (theirs["rare"] ** 3).sum()
        inputs = [theirs["w"], theirs["rare"]] if rare else [theirs["w"]]
        (loss / 4).backward(inputs=inputs)
        opt.step({"w": np.cos(mine["w"]) * x, "rare": 3 * mine["rare"] ** 2 if rare else None, "never": None})
        if i % 4 == 3:
            torch_opt.step()
            torch_opt.zero_grad()
    for k, a in mine.items():
        # ten steps; sum/4 and a sum of quarters are the same numbers, the losses' gradients differ by roundings
        assert a == pytest.approx(theirs[k].detach().numpy(), rel=1e-12), k
    assert opt.state_dict()["optimizer"]["state"][1]["step"] == 5
    assert opt.state_dict()["optimizer"]["state"][2]["step"] == 0


def test_multi_steps_beyond_a_block():
    theta, g = np.zeros(LARGE, "float32"), np.random.default_rng(3).standard_normal((3, LARGE)).astype("float32")
    opt = oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0), 3)
    kept = g.copy()
    for row in g:
        opt.step(row)
    assert np.array_equal(theta, -(((g[0] + g[1]) + g[2]) / np.float32(3)))
    assert np.array_equal(g, kept)


def test_multi_steps_every_may_change():
    theta = np.zeros(1)
    opt = oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0), 5)
    for g in (1.0, 2.0):
        opt.step(np.array([g]))
    opt.every = 2
    opt.step(np.array([6.0]))       # three had come: their mean
    assert (theta[0], opt.count) == (-3.0, 0)
    opt.every = 1
    opt.step(np.array([1.0]))
    assert theta[0] == -4.0
    opt.every = 0
    with pytest.raises(ValueError, match=r"^every: expected at least 1, got 0"):
        opt.step(np.array([1.0]))


def test_multi_steps_with_a_group_in_mid_window():
    a, b = np.zeros(1), np.zeros(1)
    opt = oc.optim.MultiSteps(oc.optim.SGD([a], lr=1.0), 2)
    opt.step([np.array([2.0])])
    opt.add_param_group({"params": [b]})
    opt.step([np.array([4.0]), np.array([4.0])])
    assert (a[0], b[0]) == (-3.0, -2.0)


def test_multi_steps_whose_mean_overflows_can_be_skipped():
    """Each gradient is finite, their sum is not: the last one is left out, the others wait."""
    theta = np.zeros(1, "float32")
    opt = oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0, nonfinite="skip"), 2)
    for g, skipped, expected in ((3e38, 0, 0), (3e38, 1, 0), (-1e38, 1, -1e38)):
        opt.step(np.array([g], "float32"))
        assert opt.skipped_steps == skipped
        assert theta[0] == pytest.approx(expected, rel=1e-6)
    assert opt.count == 0


def test_multi_steps_whose_sum_overflows_goes_on():
    """A gradient that makes the sum of finite ones overflow is left out or refused: the others do not wait for ever."""
    theta = np.zeros(1, "float32")
    opt = oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0, nonfinite="skip"), 3)
    for g in (3e38, 3e38, 1.0, 2.0):
        opt.step(np.array([g], "float32"))
    assert (opt.skipped_steps, opt.count, theta[0]) == (1, 0, np.float32(-1e38))
    opt = oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0, nonfinite="raise"), 3)
    opt.step(np.array([3e38], "float32"))
    with pytest.raises(FloatingPointError):
        opt.step(np.array([3e38], "float32"))
    opt.step(np.array([0.0], "float32"))
    assert opt.count == 2
    opt.reset()
    assert opt.count == 0


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("parameter", ["float32", "float64"])
def test_wrappers_take_every_gradient_that_a_rule_takes(parameter, dtype):
    g = np.array([0.5, -2.0, 1.0]).astype(np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype))  # exact
    for wrapped in (lambda opt: oc.optim.MultiSteps(opt, 2), lambda opt: oc.optim.Lookahead(opt, 1, 1.0)):
        theta = np.zeros(3, parameter)
        opt = wrapped(oc.optim.SGD(theta, lr=1.0, nonfinite="raise"))
        for _ in range(2):
            opt.step(g)
        assert theta.tolist() in ([-0.5, 2.0, -1.0], [-1.0, 4.0, -2.0])
    theta = np.ones(3, parameter)
    sam = oc.optim.SAM(oc.optim.SGD(theta, lr=1.0), rho=1.0)
    sam.first_step(g)
    # theta + g/|g|: a rounding of each
    assert theta == pytest.approx(1 + np.array([0.5, -2.0, 1.0]) / np.sqrt(5.25), rel=1e-6)
    sam.second_step(g)
    assert theta.tolist() == [0.5, 3.0, 0.0]


def test_lookahead_refuses_a_rule_that_keeps_parameters_apart():
    theta = np.zeros(2, "float32")
    for rule in (oc.optim.AdamW(theta, compensated=True), oc.optim.ScheduleFreeSGD(theta, lr=0.1)):
        with pytest.raises(ValueError, match="opt: expected a rule whose parameters"):
            oc.optim.Lookahead(rule)


def test_multi_steps_propagates_by_ieee_rules():
    theta = np.zeros(3, "float32")
    opt = oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0), 2)
    opt.step(np.array([math.inf, 3e38, 1], "float32"))
    opt.step(np.array([-math.inf, 3e38, 1], "float32"))
    assert np.array_equal(theta, np.array([math.nan, -math.inf, -1]), equal_nan=True)


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.5), (1, 0.3), (3, 1.0)])
def test_lookahead_against_the_paper(k, alpha):
    """Algorithm 1 in float64, with SGD inside, written out."""
    theta = np.array([1.0, -2.0, 0.5])
    opt = oc.optim.Lookahead(oc.optim.SGD(theta, lr=0.1), k, alpha)
    phi = theta.copy()
    for _ in range(7):
        fast = phi.copy()
        for _ in range(k):
            opt.step(gradient({"": theta})[""])
            fast = fast - 0.1 * gradient({"": fast})[""]
        phi = phi + alpha * (fast - phi)
        # the same expressions in the same order, the update of the rule apart: a rounding a step
        assert theta == pytest.approx(phi, rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lookahead_against_torch(dtype):
    mine = start(dtype)
    theirs = [torch.tensor(a.copy()) for a in mine.values()]
    inner = torch.optim.AdamW(theirs, lr=0.05)
    opt = oc.optim.Lookahead(oc.optim.AdamW(mine, lr=0.05), 4, 0.4)
    slow = [t.clone() for t in theirs]
    for step in range(1, 31):
        grads = noise(mine, step)
        opt.step(grads)
        for t, g in zip(theirs, grads.values(), strict=True):
            t.grad = torch.tensor(g)
        inner.step()
        if step % 4 == 0:
            for s, t in zip(slow, theirs, strict=True):
                s.lerp_(t, 0.4)
                t.copy_(s)
    for a, t in zip(mine.values(), theirs, strict=True):
        # 30 steps, a few roundings each, of weights of about 1
        assert np.allclose(a, t.numpy(), rtol=0, atol=300 * np.finfo(dtype).eps)


def test_lookahead_counts_steps_that_moved():
    theta = np.zeros(1)
    opt = oc.optim.Lookahead(oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0, nonfinite="skip"), 2), k=2, alpha=0.5)
    for _ in range(2):
        opt.step(np.array([math.nan]))
        opt.step(np.array([1.0]))
        opt.step(np.array([1.0]))
    assert (opt.count, opt.steps, theta[0]) == (0, 2, -1.0)


def test_lookahead_refuses_a_parameter_that_became_read_only():
    a, b = np.ones(2), np.ones(2)
    opt = oc.optim.Lookahead(oc.optim.SGD([a, b], lr=1.0), k=1)
    b.flags.writeable = False
    with pytest.raises(ValueError, match=r"^params\[1\]: expected a writable array"):
        opt.step([np.ones(2), None])
    assert np.array_equal(a, np.ones(2))


def test_lookahead_beyond_a_block():
    theta = np.random.default_rng(0).standard_normal(LARGE).astype("float32")
    phi, g = theta.copy(), np.random.default_rng(1).standard_normal(LARGE).astype("float32")
    opt = oc.optim.Lookahead(oc.optim.SGD(theta, lr=1.0), k=1, alpha=0.3)
    opt.step(g)
    assert np.array_equal(theta, phi + np.float32(0.3) * ((phi - g) - phi))


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_the_mean_of_one_narrow_gradient_among_none_is_no_narrow_number(dtype):
    theta, other = np.zeros(3, "float32"), np.zeros(1, "float32")
    opt = oc.optim.MultiSteps(oc.optim.SGD([theta, other], lr=1.0), 3)
    one, g = np.ones(1, "float32"), np.array([1.0, 0.1, 3.0]).astype(dtype)
    for last in (None, None, g):
        opt.step([last, one])
    assert np.array_equal(theta, -g.astype("float32") / np.float32(3))
