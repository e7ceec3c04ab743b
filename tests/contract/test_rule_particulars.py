"""What single rules promise beyond the contract of all: averages, estimates of the Hessian, carried scalars, limits,
layers."""

import numpy as np
import pytest
import reference
import torch
from reference import sophia_estimate

import optcore as oc

SCHEDULE_FREE = pytest.mark.parametrize("rule", [oc.optim.ScheduleFreeSGD, oc.optim.ScheduleFreeAdamW])


def entry(opt, i=0):
    return opt.state_dict()["state"][i]


def steps(opt, grads):
    for g in grads:
        opt.step(g)


# --------------------------------------------------------------------------------------------------- schedule-free


@SCHEDULE_FREE
def test_eval_holds_the_mean_of_z_and_train_goes_back(rule):
    """With a rate that only falls and r = 0 all weights are those of the first: x is the plain mean of z."""
    rng = np.random.default_rng(0)
    theta, seen = rng.standard_normal(50), []
    opt = rule(theta, lr=lambda step: 0.3 / (1 + step), weight_decay=0.1)
    for _ in range(20):
        opt.step(rng.standard_normal(50))
        seen.append(entry(opt)["z"])
    y = theta.copy()
    opt.eval()
    np.testing.assert_allclose(theta, np.mean(seen, axis=0), rtol=1e-12, atol=1e-13)  # 20 steps of a few roundings
    opt.eval()  # a second time changes nothing
    x = theta.copy()
    opt.train()
    np.testing.assert_allclose(theta, y, rtol=1e-13, atol=1e-15)  # y - z divided and multiplied by beta
    np.testing.assert_allclose(theta, 0.9 * x + 0.1 * seen[-1], rtol=1e-13, atol=1e-15)


@SCHEDULE_FREE
def test_a_step_in_eval_mode_is_an_error_and_changes_nothing(rule):
    theta = np.ones(3)
    opt = rule(theta, lr=0.1)
    opt.step(theta * 2)
    opt.eval()
    before, state = theta.copy(), repr(opt.state_dict())
    with pytest.raises(RuntimeError, match=r"call train\(\)"):
        opt.step(theta * 2)
    assert np.array_equal(theta, before)
    assert repr(opt.state_dict()) == state


@SCHEDULE_FREE
def test_before_its_first_step_a_parameter_is_both_x_and_y(rule):
    a, b = np.ones(3), np.full(2, 7.0)
    opt = rule([a, b], lr=0.1)
    opt.eval()
    opt.train()
    assert np.array_equal(a, np.ones(3))
    opt.step([a * 2, None])
    opt.eval()
    assert np.array_equal(b, [7.0, 7.0])
    assert not np.array_equal(a, np.ones(3))


@SCHEDULE_FREE
def test_a_state_saved_in_eval_mode_goes_on_from_x(rule):
    rng = np.random.default_rng(1)
    grads = [rng.standard_normal(10) for _ in range(12)]
    theta = np.ones(10)
    opt = rule(theta, lr=0.1)
    steps(opt, grads[:6])
    opt.eval()
    copy = theta.copy()
    other = rule(copy, lr=9.0)
    other.load_state_dict(opt.state_dict())
    assert not other.training
    for one in (opt, other):
        one.train()
        steps(one, grads[6:])
    assert copy.tobytes() == theta.tobytes()


@SCHEDULE_FREE
def test_eval_writes_only_what_may_be_written(rule):
    theta = np.ones(3)
    opt = rule(theta, lr=0.1)
    opt.step(theta * 2)
    theta.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        opt.eval()
    assert opt.training


@pytest.mark.parametrize(("rule", "options"), [
    (oc.optim.ScheduleFreeSGD, {"momentum": 0.0}), (oc.optim.ScheduleFreeSGD, {"momentum": 1.0}),
    (oc.optim.ScheduleFreeAdamW, {"betas": (0.0, 0.9)}), (oc.optim.RMSprop, {"alpha": 1.5}),
    (oc.optim.Adadelta, {"rho": 1.01}), (oc.optim.AdEMAMix, {"betas": (0.9, 0.999)}),
    (oc.optim.Adam, {"betas": (0.9, 0.99, 0.999)}), (oc.optim.LARS, {"nesterov": True, "momentum": 0.0})])
def test_limits_of_single_rules(rule, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        rule(np.ones(2), **options)


# ----------------------------------------------------------------------------------------------------------- Sophia


def test_sophia_keeps_an_estimate_between_feeds():
    """The paper's algorithm 3, an estimate every third step; elements of each kind: clipped, not clipped, h < 0."""
    rng = np.random.default_rng(2)
    p, m, h, clipped = rng.standard_normal(200), 0, 0, []
    theta = p.copy()
    opt = oc.optim.Sophia(theta, lr=0.05, betas=(0.9, 0.8), rho=0.5, weight_decay=0.2)
    for t in range(30):
        g = rng.standard_normal(200)
        if t % 3 == 0:
            opt.update_hessian(sophia_estimate(g))
            h = 0.8 * h + 0.2 * sophia_estimate(g)
        opt.step(g)
        m = 0.9 * m + 0.1 * g
        ratio = m / (np.maximum(0.5 * h, 0) + 1e-15)
        clipped.append(np.abs(ratio) > 1)
        p = (1 - 0.05 * 0.2) * p - 0.05 * np.clip(ratio, -1, 1)
    assert 0.1 < np.mean(clipped) < 0.9
    np.testing.assert_allclose(theta, p, rtol=1e-12, atol=1e-12)  # 30 steps of about ten roundings


def test_sophia_without_an_estimate_steps_by_the_sign():
    theta = np.zeros(3, "float32")
    oc.optim.Sophia(theta, lr=0.25, weight_decay=0.0).step(np.array([3.0, -1e-3, 0.0], "float32"))
    assert np.array_equal(theta, np.array([-0.25, 0.25, 0.0], "float32"))


def test_estimates_are_checked_as_gradients_are():
    theta = {"w": np.ones(3), "b": np.ones(2)}
    opt = oc.optim.Sophia(theta, lr=0.1, nonfinite="raise")
    opt.update_hessian({"w": np.ones(3), "b": None})
    before = repr(opt.state_dict())
    assert not entry(opt, 1)["hessian"].any()
    np.testing.assert_allclose(entry(opt)["hessian"], 0.01, rtol=1e-14)
    for bad, error, message in [
            ({"w": np.ones(4), "b": None}, ValueError, "estimate of w: expected"),
            ({"w": np.ones(3, complex), "b": None}, TypeError, "estimate of w"),
            ({"w": theta["w"], "b": None}, ValueError, "estimate of w: expected memory of its own"),
            ({"w": np.ones(3)}, ValueError, "estimates: expected the names"),
            ({"w": np.ones(3), "b": np.array([1.0, np.nan])}, FloatingPointError, "estimate of b")]:
        with pytest.raises(error, match=message):
            opt.update_hessian(bad)
        assert repr(opt.state_dict()) == before
    opt.nonfinite = "skip"
    opt.update_hessian({"w": np.ones(3), "b": np.array([1.0, np.nan])})
    assert repr(opt.state_dict()) == before
    assert opt.skipped_steps == 1


# -------------------------------------------------------------------------------------------- scalars that are carried


def test_nadam_takes_over_torchs_float32_product():
    p = torch.ones(4, requires_grad=True)
    peer = torch.optim.NAdam([p], lr=0.1)
    for k in range(5):
        p.grad = torch.full((4,), 0.5 + k)
        peer.step()
    theta = p.detach().numpy().copy()
    opt = oc.optim.NAdam(theta)
    opt.load_state_dict(peer.state_dict())
    assert entry(opt)["mu_product"] == float(peer.state[p]["mu_product"])
    p.grad = torch.full((4,), 3.0)
    peer.step()
    opt.step(np.full(4, 3.0, "float32"))
    np.testing.assert_allclose(theta, p.detach().numpy(), rtol=1e-6)  # float32, one step


def test_a_state_without_a_scalar_is_refused():
    opt = oc.optim.NAdam(np.ones(3))
    opt.step(np.ones(3))
    state = opt.state_dict()
    del state["state"][0]["mu_product"]
    before = repr(opt.state_dict())
    with pytest.raises(ValueError, match=r"state\[0\]: expected the keys \['mu_product'\]"):
        opt.load_state_dict(state)
    state["state"][0]["mu_product"] = np.ones(3)
    with pytest.raises(TypeError, match="mu_product"):
        opt.load_state_dict(state)
    assert repr(opt.state_dict()) == before


def test_parameters_of_one_group_carry_their_own_scalars():
    """Same step, same group, other history: the product of a changed momentum_decay differs."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(5), rng.standard_normal(5)
    pair, alone = oc.optim.NAdam([a, b], lr=0.1), []
    for i, decay in enumerate((0.5, 0.004)):
        pair.param_groups[0]["momentum_decay"] = decay
        pair.step([np.ones(5) if i == j else None for j in range(2)])
    assert entry(pair, 0)["mu_product"] != entry(pair, 1)["mu_product"]
    for i, theta in enumerate((a, b)):
        copy = theta.copy()
        single = oc.optim.NAdam(copy, lr=0.1)
        single.load_state_dict({"state": {0: entry(pair, i)}, "param_groups": [{"params": [0]}]})
        single.step(np.ones(5))
        alone.append(copy)
    pair.step([np.ones(5), np.ones(5)])
    assert a.tobytes() == alone[0].tobytes()
    assert b.tobytes() == alone[1].tobytes()


def test_asgd_follows_a_changing_rate_as_torch_does():
    rng = np.random.default_rng(4)
    p = rng.standard_normal(20)
    theta = torch.from_numpy(p.copy()).requires_grad_()
    torch.set_default_dtype(torch.float64)  # of PyTorch's eta and mu
    try:
        opt, peer = oc.optim.ASGD(p, lr=0.1, lambd=0.1, t0=2), torch.optim.ASGD([theta], lr=0.1, lambd=0.1, t0=2)
        for k in range(12):
            for group in (opt.param_groups[0], peer.param_groups[0]):
                group["lr"] = 0.1 / (1 + k)
            g = rng.standard_normal(20)
            theta.grad = torch.from_numpy(g)
            opt.step(g)
            peer.step()
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(p, theta.detach().numpy(), rtol=1e-12, atol=1e-13)  # 12 steps of a few roundings
    np.testing.assert_allclose(entry(opt)["ax"], peer.state[theta]["ax"].numpy(), rtol=1e-12, atol=1e-13)


def test_asgd_averages_all_theta_from_t0_on():
    rng = np.random.default_rng(5)
    theta, seen = rng.standard_normal(10), []
    opt = oc.optim.ASGD(theta, lr=0.1, t0=3)
    for _ in range(12):
        opt.step(rng.standard_normal(10))
        seen.append(theta.copy())
    np.testing.assert_allclose(entry(opt)["ax"], np.mean(seen[4:], axis=0), rtol=1e-13, atol=1e-14)


def test_a_parameter_that_the_state_leaves_out_starts_anew():
    """PyTorch has no entry for a parameter that never had a gradient."""
    fresh, theta = np.ones(3), np.ones(3)
    opt = oc.optim.Rprop(theta, lr=0.1)
    steps(opt, [np.ones(3)] * 3)
    theta[:] = 1
    opt.load_state_dict({"state": {}, "param_groups": [{"lr": 0.2, "params": [0]}]})
    other = oc.optim.Rprop(fresh, lr=0.2)
    for one in (opt, other):
        one.step(np.ones(3))
    assert theta.tobytes() == fresh.tobytes()
    assert entry(opt)["step"] == 1


# --------------------------------------------------------------------------------------------- signs, limits, relatives


def test_rprop_sees_signs_whose_product_vanishes():
    theta = np.zeros(2, "float32")
    opt = oc.optim.Rprop(theta, lr=0.5, etas=(0.5, 2.0))
    opt.step(np.array([1e-30, 1e-30], "float32"))
    opt.step(np.array([1e-30, -1e-30], "float32"))
    assert np.array_equal(entry(opt)["step_size"], np.array([1.0, 0.25], "float32"))
    assert np.array_equal(theta, np.array([-1.5, -0.5], "float32"))


def test_rprop_takes_its_first_step_size_from_the_first_step():
    theta = np.zeros(1)
    opt = oc.optim.Rprop(theta, lr=0.5)
    opt.param_groups[0]["lr"] = 0.25
    opt.step(np.ones(1))
    assert theta[0] == -0.25
    opt.param_groups[0]["lr"] = 99.0
    opt.step(np.ones(1))
    assert theta[0] == -0.25 - 0.25 * 1.2


def test_lion_steps_by_the_sign():
    theta = np.zeros(4, "float32")
    oc.optim.Lion(theta, lr=0.25).step(np.array([1e30, -1e-40, 0.0, -0.0], "float32"))
    assert np.array_equal(theta, np.array([-0.25, 0.25, 0.0, 0.0], "float32"))


def test_ademamix_without_its_slow_mean_is_adamw():
    rng = np.random.default_rng(6)
    a, b = np.ones(50, "float32"), np.ones(50, "float32")
    mix, adamw = oc.optim.AdEMAMix(a, lr=0.1, alpha=0, weight_decay=0.1), oc.optim.AdamW(b, lr=0.1, weight_decay=0.1)
    for _ in range(10):
        g = rng.standard_normal(50).astype("float32")
        mix.step(g)
        adamw.step(g)
    assert a.tobytes() == b.tobytes()


def test_ademamix_warms_up_even_towards_a_mean_that_never_forgets():
    """beta3 + 1e-8, as the authors write it, is above 1 there: a mean of positive gradients must stay within them."""
    for steps_of_warmup in (10, 10**7):
        opt = oc.optim.AdEMAMix(np.ones(3), lr=0.1, betas=(0.9, 0.999, 1 - 1e-9), beta3_warmup=steps_of_warmup)
        for _ in range(20):
            opt.step(np.ones(3))
            slow = entry(opt)["exp_avg_slow"]
            assert (slow >= 0).all()
            assert (slow <= 1).all()


def test_radam_is_momentum_until_its_second_moment_is_trusted():
    """beta2 = 0.999: rho_t passes 5 at the sixth step, so that five steps do not see the size of eps."""
    ends = []
    for eps in (1e-8, 10.0):
        theta = np.ones(3)
        opt = oc.optim.RAdam(theta, lr=0.1, eps=eps)
        steps(opt, [np.full(3, 0.5)] * 5)
        ends.append(theta.copy())
        opt.step(np.full(3, 0.5))
        ends.append(theta.copy())
    assert np.array_equal(ends[0], ends[2])
    np.testing.assert_allclose(ends[0], 1 - 5 * 0.1 * 0.5, rtol=1e-14)
    assert not np.array_equal(ends[1], ends[3])


# --------------------------------------------------------------------------------------------------- layerwise rules


def one_step(rule, p, g, **options):
    theta = p.copy()
    rule(theta, **options).step(g)
    return theta


@pytest.mark.parametrize("size", [1e30, 1e-30])
@pytest.mark.parametrize("steepness", [1e30, 1.0, 1e-30])
@pytest.mark.parametrize(("rule", "wanted", "options"), [
    (oc.optim.LAMB, reference.lamb, {"weight_decay": 0.0, "eps": 1e-6}),
    (oc.optim.LAMB, reference.lamb, {"weight_decay": 0.1}), (oc.optim.LARS, reference.lars, {"trust_coefficient": 0.1}),
    (oc.optim.Adafactor, reference.adafactor, {"eps": (1e-7, 1e-3)}), (oc.optim.Muon, reference.muon, {"eps": 0.0})])
def test_norms_neither_overflow_nor_vanish(rule, wanted, options, size, steepness):
    """Beside the same rule in double, where none of these numbers is extreme."""
    if rule in (oc.optim.LAMB, oc.optim.Adafactor):
        steepness = min(steepness, 1e15)  # above 1e19 their second moment is beyond float32, as Adam's is
    rng = np.random.default_rng(20)
    p, g = ((scale * rng.standard_normal((40, 500))).astype("float32") for scale in (size, steepness))
    got = one_step(rule, p, g, lr=0.1, **options)
    exact, _ = wanted(p.astype(float), [g.astype(float)], {"lr": 0.1, **options})
    moved = np.abs(exact - p).max()
    # Half an ulp of theta, and 32 roundings of the update (rule_cases.py), which may be sums.
    np.testing.assert_allclose(got, exact, rtol=1.2e-7, atol=32 * 1.2e-7 * moved)


@pytest.mark.parametrize("size", [1e200, 1e-200])
@pytest.mark.parametrize("rule", [oc.optim.LAMB, oc.optim.LARS, oc.optim.Adafactor, oc.optim.Muon])
def test_norms_of_any_double(rule, size):
    """Squares of these are out of double's range: beside the same step with everything scaled by a power of two."""
    rng = np.random.default_rng(21)
    power = 2.0 ** round(np.log2(size))
    p, g = rng.standard_normal((30, 40)), rng.standard_normal((30, 40))
    if rule is oc.optim.LARS:
        scaled = one_step(rule, power * p, power * g, lr=0.1, trust_coefficient=0.1)
        plain = one_step(rule, p, g, lr=0.1, trust_coefficient=0.1)
    elif rule is oc.optim.Muon:  # theta does not come into the direction, the size of g does not
        scaled, plain = one_step(rule, p, power * g, lr=0.1, eps=0.0), one_step(rule, p, g, lr=0.1, eps=0.0)
        power = 1.0
    else:
        options = {"eps": (None, 0.0)} if rule is oc.optim.Adafactor else {"weight_decay": 0.0}
        scaled, plain = (one_step(rule, x, g, lr=0.1, **options) for x in (power * p, p))
    np.testing.assert_allclose(scaled / power, plain, rtol=1e-14)  # the same roundings but for those of the norm


def test_a_layer_of_norm_0_has_the_ratio_1():
    g = np.array([3.0, -4.0])
    start = one_step(oc.optim.LAMB, np.zeros(2), g, lr=0.1, eps=0.0)
    np.testing.assert_allclose(start, [-0.1, 0.1], rtol=1e-14)  # Adam's first step
    assert np.array_equal(one_step(oc.optim.LAMB, g, np.zeros(2), lr=0.1, weight_decay=0.0), g)
    np.testing.assert_allclose(one_step(oc.optim.LARS, np.zeros(2), g, lr=0.5), -0.5 * g, rtol=1e-14)
    decayed = one_step(oc.optim.LARS, g, np.zeros(2), lr=0.5, weight_decay=0.1)
    np.testing.assert_allclose(decayed, g - 0.5 * 0.1 * g, rtol=1e-14)


@pytest.mark.parametrize(("rule", "options"), [
    (oc.optim.LAMB, {"weight_decay": 0.1}), (oc.optim.LARS, {"weight_decay": 0.1}), (oc.optim.Adafactor, {}),
    (oc.optim.Muon, {"adjust_lr_fn": "match_rms_adamw"})])
def test_a_transposed_matrix_takes_the_transposed_step(rule, options):
    rng = np.random.default_rng(22)
    p, grads = rng.standard_normal((60, 35)), [rng.standard_normal((60, 35)) for _ in range(5)]
    upright, lying = p.copy(), p.T.copy()
    steps(rule(upright, lr=0.1, **options), grads)
    steps(rule(lying, lr=0.1, **options), [g.T.copy() for g in grads])
    np.testing.assert_allclose(lying.T, upright, rtol=1e-12, atol=1e-12)  # 5 steps; sums in another order


@pytest.mark.parametrize("shape", [
    (6, 9, 5), (3, 4, 5, 6), (2, 1, 7), (2, 7, 1), (300, 3, 3), (2, 200, 90), (2, 3, 9000)])
def test_adafactor_takes_a_stack_of_matrices(shape):
    """One update for the stack: its RMS is common, its factors are each matrix's own."""
    rng = np.random.default_rng(23)
    size = np.arange(1, shape[0] + 1).reshape(-1, *[1] * (len(shape) - 1))  # of each matrix
    p, grads = rng.standard_normal(shape), [size * rng.standard_normal(shape) for _ in range(3)]
    theta = torch.from_numpy(p.copy()).requires_grad_()
    opt, peer = oc.optim.Adafactor(p, lr=0.1), torch.optim.Adafactor([theta], lr=0.1)
    for g in grads:
        opt.step(g)
        theta.grad = torch.from_numpy(g)
        peer.step()
    np.testing.assert_allclose(p, theta.detach().numpy(), rtol=1e-12, atol=1e-12)  # 3 steps of sizes about 1
    for key in ("row_var", "col_var"):
        assert entry(opt)[key].shape == tuple(peer.state[theta][key].shape)
        np.testing.assert_allclose(entry(opt)[key], peer.state[theta][key].numpy(), rtol=1e-13)


def test_adafactor_keeps_vectors_and_matrices_apart():
    params = {"w": np.ones((3, 4)), "b": np.ones(4), "s": np.ones(())}
    opt = oc.optim.Adafactor(params, lr=0.1)
    opt.step({k: np.full_like(v, 0.5) for k, v in params.items()})
    assert [sorted(entry(opt, i)) for i in range(3)] == [["col_var", "row_var", "step"], *2 * [["step", "variance"]]]
    state = opt.state_dict()
    state["state"][0]["variance"] = np.ones(7)  # of no meaning for a matrix, as any unknown key
    opt.load_state_dict(state)
    assert "variance" not in entry(opt)


def test_adafactors_eps_is_of_each_dtype():
    """With gradients of 0, u = 0/eps = 0 where eps > 0; eps 0 leaves it to IEEE."""
    for dtype in ("float32", "float64"):
        tiny = np.full(3, np.finfo(dtype).eps / 8, dtype)
        theta = one_step(oc.optim.Adafactor, np.ones(3, dtype), tiny, lr=0.1)
        np.testing.assert_allclose(theta, 1 - 0.1 / 8, rtol=4 * np.finfo(dtype).eps)  # sigma is eps, not 1/8 of it
    assert np.isnan(one_step(oc.optim.Adafactor, np.ones(3), np.zeros(3), eps=(0.0, 1e-3))).all()


@pytest.mark.parametrize(("eps", "error"), [
    (1e-3, TypeError), ((1e-3,), ValueError), ((-1e-3, 1e-3), ValueError), ((None, None), TypeError),
    (("x", 1e-3), TypeError)])
def test_adafactors_eps_is_a_pair(eps, error):
    with pytest.raises(error, match="eps"):
        oc.optim.Adafactor(np.ones(3), eps=eps)


def test_muon_orthogonalises():
    """The update has the singular vectors of the gradient, and singular values between 0.68 and 1.21."""
    g = np.random.default_rng(24).standard_normal((30, 50))
    update = -one_step(oc.optim.Muon, np.zeros((30, 50)), g, lr=1.0)
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    assert s.min() / np.linalg.norm(s) > 0.003
    turned = u.T @ update @ vt.T
    np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-12)
    assert np.diag(turned).min() > 0.68
    assert np.diag(turned).max() < 1.21


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (257, 1030), (400, 400)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_muon_of_sides_whose_products_are_cut(shape, dtype):
    """Panels of a symmetric product are computed on one side of the diagonal and copied to the other."""
    rng = np.random.default_rng(27)
    p, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    exact, _ = reference.muon(p.astype(float), [g.astype(float)], {"lr": 0.1})
    moved = np.abs(exact - p).max()
    # 32 roundings of an update, as in rule_cases.py, times the few that a sum of up to 1,030 products adds.
    np.testing.assert_allclose(one_step(oc.optim.Muon, p, g, lr=0.1), exact, rtol=np.finfo(dtype).eps,
                               atol=100 * np.finfo(dtype).eps * moved)


def test_muon_beside_torchs_bfloat16():
    """bfloat16 rounds by 2^-9 = 0.002 in each of five steps of three products; the steps amplify what came before."""
    rng = np.random.default_rng(25)
    for shape in ((32, 64), (64, 32), (100, 100)):
        p, g = (rng.standard_normal(shape).astype("float32") for _ in range(2))
        theta = torch.from_numpy(p.copy()).requires_grad_()
        theta.grad = torch.from_numpy(g)
        torch.optim.Muon([theta], lr=1.0, weight_decay=0.0).step()
        ours, torchs = p - one_step(oc.optim.Muon, p, g, lr=1.0, weight_decay=0.0), p - theta.detach().numpy()
        assert np.linalg.norm(ours - torchs) < 25 * 2**-9 * np.linalg.norm(torchs)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_muon_takes_matrices_only(shape):
    opt = oc.optim.Muon({"w": np.ones((2, 3))}, lr=0.1)
    with pytest.raises(ValueError, match=r"b: expected a matrix.*got shape \("):
        opt.add_param_group({"params": {"v": np.ones((2, 2)), "b": np.ones(shape)}})
    opt.step({"w": np.ones((2, 3))})
    assert len(opt.param_groups) == 1
    with pytest.raises(ValueError, match="expected a matrix"):
        oc.optim.Muon(np.ones(shape))


def test_bias_corrections_of_lamb_at_large_step_counts():
    """m/sigma = 1 whatever the step: with a right correction theta moves by lr times its own size."""
    for bias_correction in (True, False):
        p = np.ones(4)
        opt = oc.optim.LAMB(p, lr=0.1, weight_decay=0.0, eps=0.0, bias_correction=bias_correction)
        state = opt.state_dict()
        state["state"][0].update(step=10**9, exp_avg=np.full(4, 2.0), exp_avg_sq=np.full(4, 4.0))
        opt.load_state_dict(state)
        opt.step(np.full(4, 2.0))
        np.testing.assert_allclose(p, 0.9, rtol=1e-14)


def test_adafactor_forgets_slowly_at_large_step_counts():
    """t^-0.8 = 6e-8 of the new, less than half an ulp of 1 in float32: a second moment of 0 must not stay one."""
    p = np.ones((2, 3), "float32")
    opt = oc.optim.Adafactor(p, lr=0.1)
    state = opt.state_dict()
    state["state"][0].update(step=10**9)
    opt.load_state_dict(state)
    opt.step(np.full((2, 3), 2.0, "float32"))
    new = (10**9 + 1) ** -0.8
    np.testing.assert_allclose(entry(opt)["row_var"], 4 * new, rtol=1.2e-7)
    # u = 2/sqrt(4 new) is clipped to RMS 1; the step size is 1/sqrt(t)
    np.testing.assert_allclose(p, 1 - 10**-4.5, rtol=1.2e-7)


def test_lars_takes_the_rate_into_its_momentum():
    """The paper's form: a rate of 0 stops what is added, not what is under way."""
    theta = np.array([3.0, 4.0])
    opt = oc.optim.LARS(theta, lr=1.0, momentum=0.5, weight_decay=0.0, trust_coefficient=0.1)
    opt.step(np.array([0.0, 2.0]))
    np.testing.assert_allclose(theta, [3.0, 3.5], rtol=1e-14)
    opt.param_groups[0]["lr"] = 0.0
    opt.step(np.array([0.0, 2.0]))
    np.testing.assert_allclose(theta, [3.0, 3.25], rtol=1e-14)


@pytest.mark.parametrize("rule", [oc.optim.LAMB, oc.optim.LARS, oc.optim.Adafactor, oc.optim.Muon])
def test_layers_of_mixed_dtypes_and_ages(rule):
    """Neighbours share constants, never a layer's factor; dtypes and skipped layers keep apart."""
    rng = np.random.default_rng(26)
    params = [rng.standard_normal((5, 6)).astype(d) * s for d, s in (("float32", 1), ("float64", 9), ("float64", 0.1),
                                                                     ("float32", 3), ("float32", 0.5))]
    copies = [p.copy() for p in params]
    together, apart = rule(params, lr=0.1), [rule(p, lr=0.1) for p in copies]
    for k in range(4):
        grads = [rng.standard_normal((5, 6)).astype(p.dtype) for p in params]
        grads[k % 3] = grads[-1 - k % 2] = None
        together.step(grads)
        for one, g in zip(apart, grads, strict=True):
            one.step([g])
    for p, copy in zip(params, copies, strict=True):
        assert p.tobytes() == copy.tobytes()
