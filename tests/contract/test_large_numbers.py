"""Gradients at the ends of the range and step counts beyond PyTorch's, for every rule, as docs/accuracy.md says."""

import numpy as np
import pytest
import torch
from rule_cases import CASES, run

import optcore as oc

HUGE = {"float32": 1e25, "float64": 1e200}  # their squares are infinite
SQUARABLE = {"float32": 2.0**63, "float64": 2.0**480}
dtypes = pytest.mark.parametrize("dtype", HUGE)
rules = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

_BETAS = {"betas": (0.9, 0.99)}
_DECAY = {"beta2_decay": -0.3, "eps": (None, 0.0)}  # 1 - t^-0.3 is below 0.95 for t up to 21,000
FORGETFUL = {  # rule -> (the weight of the past in its longest memory, options)
    "rmsprop": (0.99, {"alpha": 0.99}), "rmsprop_centered": (0.99, {"centered": True, "alpha": 0.99, "eps": 1.0}),
    "adadelta": (0.9, {"rho": 0.9}), "adam": (0.99, _BETAS), "adamw": (0.99, _BETAS), "adamax": (0.99, _BETAS),
    "nadam": (0.99, _BETAS), "radam": (0.99, _BETAS), "ademamix": (0.99, {"betas": (0.9, 0.99, 0.99)}),
    "lion": (0.99, _BETAS), "sophia": (0.9, {"betas": (0.9, 0.99)}), "schedulefreeadamw": (0.99, _BETAS),
    "rprop": (0.5, {}),  # one step: what turned sign counts as 0
    "lamb": (0.99, _BETAS), "lars": (0.9, {}), "muon": (0.95, {}), "muon_tall": (0.95, {}),
    "adafactor": (0.95, _DECAY), "adafactor_wide": (0.95, _DECAY),
}
PROPORTIONAL = (oc.optim.LAMB, oc.optim.LARS, oc.optim.Adafactor)  # theta moves by a share of its norm
# sigma = 1: theta takes the whole gradient; so it does in LARS where there is no theta yet to take a share of.
THROWN = ("sgd", "asgd", "schedulefreesgd", "lars")
ENDURING = {  # sigma never falls
    "adagrad": ("adagrad", {}), "average": ("adagrad", {"average": True}), "amsgrad": ("adam", {"amsgrad": True})}


def squares(case):
    return bool({"sum", "square_avg", "exp_avg_sq", "variance"} & {slot.key for slot in case.rule.rule.slots})


def exactly(case, p, grads, options):
    """The reference in long double, with the eps that Adafactor has in the dtype of p."""
    if case.rule is oc.optim.Adafactor:
        options = {"eps": (np.finfo(p.dtype).eps, 1e-3), **options}
    return case.reference(p.astype(np.longdouble), [g.astype(np.longdouble) for g in grads], options)


def steps(opt, p, values):
    """Step with each value as every gradient; return the last change of p."""
    for value in values:
        before = p.copy()
        opt.step(np.full_like(p, value))
    return p - before


@rules
@dtypes
def test_subnormal_gradients_follow_the_paper(case, dtype):
    """Flushed to zero, they would not move theta; rounded in their range they are right to 2**-17 of themselves."""
    tiny = np.finfo(dtype).smallest_subnormal
    g = case.shaped((np.array([2.0**17, -2.0**18, 3 * 2.0**19, -2.0**20]) * tiny).astype(dtype))
    p, options = case.full(4, 0, dtype), case.known(lr=1.0, weight_decay=0.0)
    assert np.all(np.abs(g) < np.finfo(dtype).smallest_normal)
    got, _ = run(case, p, [g, g], options)
    wanted, _ = exactly(case, p, [g, g], options)
    # A product with 1 - beta may be a thousandth of g: then right to 2**-8, and twice that in a mean of two.
    np.testing.assert_allclose(got, wanted.astype(dtype), rtol=2.0**-7, atol=0)
    assert np.all(got != 0)


# Without Sophia, which the reference feeds the squares of gradients as estimates; what follows asks it too.
ALONE = {name: case for name, case in CASES.items() if name != "sophia"}


@pytest.mark.parametrize("case", ALONE.values(), ids=ALONE)
@dtypes
@pytest.mark.parametrize("sign", [1, -1])
def test_a_huge_gradient_follows_the_paper(case, dtype, sign):
    """A rule that squares gradients takes it for one whose square is of the dtype; others as it is."""
    rng = np.random.default_rng(21)
    p, grads = case.problem(rng, 30, dtype, steps=6)
    grads[2].flat[:10] = sign * HUGE[dtype]
    # At most 0.8 of a mean is kept in a step, so that the steps after the huge one have something to show.
    betas = (0.5, 0.8, 0.9)[:len(case.rule.rule.options.get("betas", ()))]
    options = case.known(lr=0.1, betas=betas, alpha=0.5, rho=0.5, momentum=0.5, weight_decay=0.0, eps=1e-6)
    got, opt = run(case, p, grads, options)
    largest = SQUARABLE[dtype] if squares(case) else np.inf
    wanted, _ = exactly(case, p, [np.clip(g, -largest, largest) for g in grads], options)
    assert np.isfinite(got).all()
    assert all(np.isfinite(v).all() for v in opt.state_dict()["state"][0].values())
    # Six steps of about ten roundings, which lr / sigma = 0.1 / |g| with |g| from 0.01 on weighs tenfold.
    eps = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, wanted.astype(dtype), rtol=eps, atol=eps, err_msg=str(options))


@dtypes
def test_adafactors_factors_of_huge_gradients_are_finite(dtype):
    """A row and a column of them: their sums are 300 squares, and where they cross, sigma^2 is 35 squares."""
    rng = np.random.default_rng(22)
    case, p = CASES["adafactor_wide"], rng.standard_normal((40, 300)).astype(dtype)
    grads = [rng.standard_normal((40, 300)).astype(dtype) for _ in range(3)]
    grads[1][7], grads[1][:, 11] = HUGE[dtype], -HUGE[dtype]
    got, opt = run(case, p, grads, {"lr": 0.1})
    seen = [np.clip(g, -SQUARABLE[dtype], SQUARABLE[dtype]) for g in grads]
    wanted, state = exactly(case, p, seen, {"lr": 0.1})
    eps = np.finfo(dtype).eps
    for key in ("row_var", "col_var"):
        np.testing.assert_allclose(opt.state_dict()["state"][0][key], state[key].astype(dtype), rtol=3 * eps)
    # Three steps of at most 0.1 of RMS(theta), of some ten roundings each, and those of theta.
    np.testing.assert_allclose(got, wanted.astype(dtype), rtol=3 * eps, atol=10 * eps)


def test_every_rule_is_asked_what_a_huge_gradient_does():
    assert {*FORGETFUL, *THROWN, "adagrad"} == set(CASES)


@pytest.mark.parametrize("name", FORGETFUL)
@dtypes
def test_a_huge_gradient_is_forgotten(name, dtype):
    """After k steps a mean holds beta^k of the huge gradient, or of a square no larger than its own: below 1."""
    case, (beta, options) = CASES[name], FORGETFUL[name]
    p = case.full(3, 1.0 if case.rule in PROPORTIONAL else 0.0, dtype)
    opt = case.rule(p, lr=1e-3, **options, **case.known(weight_decay=0.0))

    def move(values):
        change = steps(opt, p, values)
        return change / np.linalg.norm(p - change) if case.rule in PROPORTIONAL else change

    last = move([1.0] * 10)  # RAdam looks at its second moment from the sixth step on
    assert (np.abs(move([-HUGE[dtype]])) < 1).all(), "no rule of these throws theta away"
    memory = int(np.ceil(2 * np.log(HUGE[dtype]) / -np.log(beta)))
    again = move([1.0] * memory)
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
    ends = []
    for size in (SQUARABLE[dtype], 2 * SQUARABLE[dtype], np.finfo(dtype).max):
        p = case.full(3, 0, dtype)
        opt = case.rule(p, lr=1e-3)
        for value in (size, 1.0, size):  # LARS sees a size in the first step, where theta is 0, Rprop keeps the last
            opt.step(case.shaped(np.array([value, -value, 1.0], dtype)))
        ends.append(p.tobytes() + b"".join(np.asarray(v).tobytes() for v in opt.state_dict()["state"][0].values()))
        assert np.isfinite(p).all()
    assert (len(set(ends)) == 1) == squares(case)


@rules
@dtypes
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.51, 1, 2, None])
def test_a_norm_that_is_known_changes_no_bit(case, dtype, share, maximize):
    """With it a step looks for no bound and no infinity where the gradients are too small to meet one."""
    size = np.finfo(dtype).max / 4 if share is None else share * SQUARABLE[dtype]
    grads = [case.shaped(np.array([value, -value, 1.0, -0.0, 0.0, 0.0], dtype)) for value in (size, 1.0, size)]
    ends = []
    for how in ({}, {"nonfinite": "skip"}, {"clip_norm": np.inf}):
        p = case.shaped(np.array([0.0, 0.0, 0.0, 0.0, -0.0, 0.0], dtype))
        opt = case.rule(p, lr=1e-3, maximize=maximize, **how)
        for g in grads:
            opt.step(g)
        ends.append(p.tobytes() + b"".join(np.asarray(v).tobytes() for v in opt.state_dict()["state"][0].values()))
    assert len(set(ends)) == 1


LAYERWISE = {name: case for name, case in CASES.items() if case.layerwise}


@pytest.mark.parametrize("case", LAYERWISE.values(), ids=LAYERWISE)
@dtypes
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_spoilt_gradient_throws_no_neighbour(case, dtype, bad):
    """Norms that it spoils make the array NaN; a finite step is one of the usual size."""
    p = case.full(6, dtype=dtype)
    opt = case.rule(p, lr=0.1)
    opt.step(case.full(6, dtype=dtype))
    before, g = p.copy(), case.full(6, dtype=dtype)
    g.flat[1] = bad
    opt.step(g)
    assert np.isnan(p.flat[1])
    assert (np.isnan(p) | (np.abs(p - before) < 0.3)).all()
    if case.rule is oc.optim.LARS and np.isinf(bad):
        assert np.isfinite(np.delete(p, 1)).all()  # its step is 0 where |g| is infinite
    else:
        assert np.isnan(p).all()


@rules
@dtypes
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_clip_value_clamps_infinity_too(case, dtype, bad):
    """As torch.nn.utils.clip_grad_value_ does; without it infinity is no large gradient."""
    p, q = case.full(3, 0, dtype), case.full(3, 0, dtype)
    case.rule(p, lr=0.1, clip_value=2.0).step(case.shaped(np.array([bad, 1.0, 1.0], dtype)))
    case.rule(q, lr=0.1).step(case.shaped(np.array([np.sign(bad) * 2.0, 1.0, 1.0], dtype)))
    assert p.tobytes() == q.tobytes()


@rules
@dtypes
def test_clip_norm_has_the_right_norm_of_huge_gradients(case, dtype):
    g = case.shaped(np.array([3.0, -4.0, 12.0, 0.0], dtype) * np.asarray(HUGE[dtype], dtype))
    p, q = case.full(4, 0, dtype), case.full(4, 0, dtype)
    opt = case.rule(p, lr=0.1, clip_norm=1.0)
    opt.step(g)
    assert opt.last_grad_norm == pytest.approx(13 * HUGE[dtype], rel=1e-6)  # of float32's 1e25
    case.rule(q, lr=0.1).step(case.shaped(np.array([3 / 13, -4 / 13, 12 / 13, 0.0], dtype)))
    # g, the factor and their product are rounded: as much again as a step rounds.
    tolerance = 2 * case.one_step_ulp * np.finfo(dtype).eps
    np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance * np.abs(q).max() if case.products else 0)


def test_infinity_makes_nan_of_clipped_gradients_as_in_torch():
    grads, theirs = [np.array([np.inf, 1.0]), np.ones(2)], [torch.zeros(2, dtype=torch.float64) for _ in range(2)]
    for p, g in zip(theirs, grads, strict=True):
        p.grad = torch.from_numpy(g.copy())
    assert oc.optim.clip_grad_norm_(grads, 1.0) == float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)) == np.inf
    for p, g in zip(theirs, grads, strict=True):
        assert np.array_equal(g, p.grad.numpy(), equal_nan=True)


# ---------------------------------------------------------------------------------------------------------- step counts

COUNTING = {  # PyTorch's SGD and Muon count none
    name: case for name, case in CASES.items() if case.torch and case.rule not in (oc.optim.SGD, oc.optim.Muon)}
MOST = 2**24  # of a float32 that counts by one


@pytest.mark.parametrize("case", COUNTING.values(), ids=COUNTING)
def test_steps_go_on_where_torch_stops_counting(case):
    theta = torch.from_numpy(case.full(3, dtype="float32")).requires_grad_()
    peer = case.torch([theta])
    theta.grad = torch.ones_like(theta)
    peer.step()
    peer.state[theta]["step"].fill_(MOST)
    peer.step()
    assert int(peer.state[theta]["step"]) == MOST, "PyTorch has stopped"
    p = case.full(3, dtype="float32")
    opt = case.rule(p)
    opt.load_state_dict(peer.state_dict())
    for count in (1, 2, 3):
        opt.step(case.full(3, dtype="float32"))
        assert opt.state_dict()["state"][0]["step"] == MOST + count
    state = opt.state_dict()
    state["state"][0] = {k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v
                         for k, v in state["state"][0].items()}
    back = case.torch([torch.from_numpy(case.full(3, dtype="float32")).requires_grad_()])
    back.load_state_dict(state)
    entry = next(iter(back.state.values()))
    assert float(entry["step"]) == float(np.float32(MOST + 3)), "rounded to float32"
    other = case.rule(case.full(3, dtype="float32"))
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
