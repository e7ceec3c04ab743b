"""Gradients at the end of the range and step counts beyond PyTorch's, for every rule, as docs/accuracy.md says."""

import numpy as np
import pytest
import torch
from rule_cases import CASES

import optcore as oc

HUGE = {"float32": 1e25, "float64": 1e200}  # their squares are infinite
SQUARABLE = {"float32": 2.0**63, "float64": 2.0**511}
dtypes = pytest.mark.parametrize("dtype", HUGE)
rules = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

_BETAS = {"betas": (0.9, 0.99)}
FORGETFUL = {  # rule -> (the weight of the past in its longest memory, options)
    "rmsprop": (0.99, {"alpha": 0.99}), "rmsprop_centered": (0.99, {"centered": True, "alpha": 0.99, "eps": 1.0}),
    "adadelta": (0.9, {"rho": 0.9}), "adam": (0.99, _BETAS), "adamw": (0.99, _BETAS), "adamax": (0.99, _BETAS),
    "nadam": (0.99, _BETAS), "radam": (0.99, _BETAS), "ademamix": (0.99, {"betas": (0.9, 0.99, 0.99)}),
    "lion": (0.99, _BETAS), "sophia": (0.9, {"betas": (0.9, 0.99)}), "schedulefreeadamw": (0.99, _BETAS),
    "rprop": (0.5, {}),  # one step: what turned sign counts as 0
}
THROWN = ("sgd", "asgd", "schedulefreesgd")  # sigma = 1: theta takes the whole gradient
ENDURING = {  # sigma never falls
    "adagrad": ("adagrad", {}), "average": ("adagrad", {"average": True}), "amsgrad": ("adam", {"amsgrad": True})}


def steps(opt, p, values):
    """Step with each value as every gradient; return the last change of p."""
    for value in values:
        before = p.copy()
        opt.step(np.full_like(p, value))
    return p - before


def test_every_rule_is_asked_what_a_huge_gradient_does():
    assert {*FORGETFUL, *THROWN, "adagrad"} == set(CASES)


@pytest.mark.parametrize("name", FORGETFUL)
@dtypes
def test_a_huge_gradient_is_forgotten(name, dtype):
    """After k steps a mean holds beta^k of the huge gradient, or of a square no larger than its own: below 1."""
    case, (beta, options) = CASES[name], FORGETFUL[name]
    p = np.zeros(3, dtype)
    opt = case.rule(p, lr=1e-3, **options, **case.known(weight_decay=0.0))
    last = steps(opt, p, [1.0] * 10)  # RAdam looks at its second moment from the sixth step on
    size = np.abs(steps(opt, p, [-HUGE[dtype]]))
    assert (size < 1).all(), "no rule of these throws theta away"
    memory = int(np.ceil(2 * np.log(HUGE[dtype]) / -np.log(beta)))
    again = steps(opt, p, [1.0] * memory)
    # Ten steps had filled a tenth of a mean of 0.99: sigma was as little as sqrt(0.1) of what it is now.
    assert (again / last >= 0.25).all()


@pytest.mark.parametrize("name", THROWN)
@dtypes
def test_without_a_sigma_a_huge_gradient_throws_theta(name, dtype):
    p = np.zeros(3, dtype)
    opt = CASES[name].rule(p, lr=0.5)
    steps(opt, p, [HUGE[dtype]])
    share = 0.1 if name == "schedulefreesgd" else 1  # first step: x = z, y = z
    assert (p <= -0.5 * share * HUGE[dtype] * 0.99).all()
    p[:] = 0
    assert (steps(opt, p, [1.0]) < 0).all()


@pytest.mark.parametrize("name", ENDURING)
@dtypes
def test_a_sigma_that_never_falls_still_lets_gradients_of_its_size_through(name, dtype):
    rule, options = ENDURING[name]
    p = np.zeros(3, dtype)
    opt = CASES[rule].rule(p, lr=0.125, **options)
    steps(opt, p, [1.0])
    for count in range(1, 30):
        step = steps(opt, p, [HUGE[dtype]])
        # g / sqrt(count * g^2), or larger; theta has moved by less than 30 steps of at most 8 * 0.125.
        assert (-step >= 0.99 * 0.125 / np.sqrt(count + 1)).all()
        assert np.isfinite(step).all()


@rules
@dtypes
def test_beyond_what_can_be_squared_size_does_not_count(case, dtype):
    squares = bool({"sum", "square_avg", "exp_avg_sq"} & {slot.key for slot in case.rule.rule.slots})
    ends = []
    for size in (SQUARABLE[dtype], 2 * SQUARABLE[dtype], np.finfo(dtype).max):
        p = np.zeros(3, dtype)
        opt = case.rule(p, lr=1e-3)
        for value in (1.0, size):
            opt.step(np.array([value, -value, 1.0], dtype))
        ends.append(p.tobytes() + b"".join(np.asarray(v).tobytes() for v in opt.state_dict()["state"][0].values()))
        assert np.isfinite(p).all()
    assert (len(set(ends)) == 1) == squares


@rules
@dtypes
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_clip_value_clamps_infinity_too(case, dtype, bad):
    p, q = np.zeros(3, dtype), np.zeros(3, dtype)
    case.rule(p, lr=0.1, clip_value=2.0).step(np.array([bad, 1.0, 1.0], dtype))
    case.rule(q, lr=0.1).step(np.array([np.sign(bad) * 2.0, 1.0, 1.0], dtype))
    assert p.tobytes() == q.tobytes()


@rules
@dtypes
def test_clip_norm_has_the_right_norm_of_huge_gradients(case, dtype):
    g = np.array([3.0, -4.0, 12.0, 0.0], dtype) * np.asarray(HUGE[dtype], dtype)
    p, q = np.zeros(4, dtype), np.zeros(4, dtype)
    opt = case.rule(p, lr=0.1, clip_norm=1.0)
    opt.step(g)
    assert opt.last_grad_norm == pytest.approx(13 * HUGE[dtype], rel=1e-6)  # of float32's 1e25
    case.rule(q, lr=0.1).step(np.array([3 / 13, -4 / 13, 12 / 13, 0.0], dtype))
    np.testing.assert_allclose(p, q, rtol=8 * np.finfo(dtype).eps)  # g, the factor and their product are rounded


# ---------------------------------------------------------------------------------------------------------- step counts

COUNTING = {name: case for name, case in CASES.items() if case.torch and name != "sgd"}  # PyTorch's SGD counts none
MOST = 2**24  # of a float32 that counts by one


@pytest.mark.parametrize("case", COUNTING.values(), ids=COUNTING)
def test_steps_go_on_where_torch_stops_counting(case):
    theta = torch.ones(3, requires_grad=True)
    peer = case.torch([theta])
    theta.grad = torch.ones(3)
    peer.step()
    peer.state[theta]["step"].fill_(MOST)
    peer.step()
    assert int(peer.state[theta]["step"]) == MOST, "PyTorch has stopped"
    p = np.ones(3, "float32")
    opt = case.rule(p)
    opt.load_state_dict(peer.state_dict())
    for count in (1, 2, 3):
        opt.step(np.ones(3, "float32"))
        assert opt.state_dict()["state"][0]["step"] == MOST + count
    state = opt.state_dict()
    state["state"][0] = {k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v
                         for k, v in state["state"][0].items()}
    back = case.torch([torch.ones(3, requires_grad=True)])
    back.load_state_dict(state)
    entry = next(iter(back.state.values()))
    assert float(entry["step"]) == float(np.float32(MOST + 3)), "rounded to float32"
    other = case.rule(np.ones(3, "float32"))
    other.load_state_dict(opt.state_dict())
    assert other.state_dict()["state"][0]["step"] == MOST + 3


def test_a_bias_correction_needs_its_exact_step_number():
    """beta2 = 1 - 2^-26, g = 1 at last: 1 - beta2^t by expm1 and log1p, which keep the digits that a power loses."""
    t, beta = 10**7 + 1, 1 - 2.0**-26
    correction = -np.expm1(t * np.log1p(-2.0**-26))
    p = np.zeros(1)
    opt = oc.optim.Adam(p, lr=1.0, betas=(0.0, beta), eps=0.0)
    state = opt.state_dict()
    state["state"][0].update(step=t - 1, exp_avg=np.zeros(1), exp_avg_sq=np.full(1, 0.25))
    opt.load_state_dict(state)
    opt.step(np.ones(1))
    v = beta * 0.25 + 2.0**-26
    np.testing.assert_allclose(p, -1 / np.sqrt(v / correction), rtol=1e-14)  # a power of 10^7 to some 10^-15
