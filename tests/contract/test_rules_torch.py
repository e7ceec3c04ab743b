"""The rules that PyTorch has, beside it: one step, many, from its state and back."""

import contextlib
import inspect

import numpy as np
import pytest
import torch
from rule_cases import CASES, run

import optcore as oc

pytestmark = pytest.mark.usefixtures("muon_in_the_dtype_of_its_parameters")
PEERS = {name: case for name, case in CASES.items() if case.torch}
peers = pytest.mark.parametrize("case", PEERS.values(), ids=PEERS)


@contextlib.contextmanager
def torch_scalars(dtype):
    """PyTorch keeps the scalars of a state (NAdam's mu_product) in its default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def to_torch(tree):
    if isinstance(tree, dict):
        return {k: to_torch(v) for k, v in tree.items()}
    return torch.from_numpy(tree) if isinstance(tree, np.ndarray) else tree


@peers
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-3)])
def test_follows_torch(case, seed, dtype, tolerance):
    # float32: PyTorch's own v is off by up to 3e-5 (its 1 - beta2 in float32), and lr 0.1 acts on that 50 times.
    rng = np.random.default_rng(100 + seed)
    options = case.draw(rng, for_torch=True)
    p, grads = case.problem(rng, int(rng.integers(1, 300)), dtype)
    got, _ = run(case, p, grads, options)
    theta = torch.from_numpy(p.copy()).requires_grad_()
    peer = case.torch([theta], **options)
    with torch_scalars(dtype):
        for g in grads:
            theta.grad = torch.from_numpy(g)
            peer.step()
    np.testing.assert_allclose(got, theta.detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=str(options))


@peers
@pytest.mark.parametrize("seed", range(4))
def test_a_run_continues_on_either_side(case, seed):
    with torch_scalars("float64"):
        continue_on_either_side(case, seed)


def continue_on_either_side(case, seed):
    rng = np.random.default_rng(200 + seed)
    options = case.draw(rng, for_torch=True)
    p, grads = case.problem(rng, 37, "float64")
    whole, _ = run(case, p, grads, options)

    half, ours = run(case, p, grads[:20], options)  # ours, then torch
    theta = torch.from_numpy(half.copy()).requires_grad_()
    peer = case.torch([theta], **options)
    peer.load_state_dict(to_torch(ours.state_dict()))
    for g in grads[20:]:
        theta.grad = torch.from_numpy(g)
        peer.step()
    np.testing.assert_allclose(theta.detach().numpy(), whole, rtol=1e-11, atol=1e-11)

    theta = torch.from_numpy(p.copy()).requires_grad_()  # torch, then ours
    peer = case.torch([theta], **options)
    for g in grads[:20]:
        theta.grad = torch.from_numpy(g)
        peer.step()
    half = theta.detach().numpy().copy()
    ours = case.rule(half, **options)
    ours.load_state_dict(peer.state_dict())
    for g in grads[20:]:
        case.step(ours, g)
    np.testing.assert_allclose(half, whole, rtol=1e-11, atol=1e-11)


@peers
def test_large_step_counts(case):
    """The ten-to-the-ninth step, beside PyTorch's from the same state."""
    rng = np.random.default_rng(17)
    options = case.draw(rng, for_torch=True)
    p, grads = case.problem(rng, 20, "float64", steps=4)
    half, opt = run(case, p, grads[:3], options)
    state = opt.state_dict()
    state["state"][0]["step"] = 10**9
    opt.load_state_dict(state)
    with torch_scalars("float64"):
        theta = torch.from_numpy(half.copy()).requires_grad_()
        peer = case.torch([theta], **options)
        peer.load_state_dict(to_torch(opt.state_dict()))
        theta.grad = torch.from_numpy(grads[3])
        peer.step()
    opt.step(grads[3])
    assert opt.state_dict()["state"][0]["step"] == 10**9 + 1
    np.testing.assert_allclose(half, theta.detach().numpy(), rtol=1e-13, atol=1e-15)  # one step of a few roundings


@peers
def test_signatures_are_those_of_torch(case):
    """Names, defaults and order; what PyTorch has for its devices and we for the lecture is left out."""
    left_out = {"self", "params", "foreach", "capturable", "differentiable", "fused", *case.lecture}
    wanted = {k: v.default for k, v in inspect.signature(case.torch.__init__).parameters.items() if k not in left_out}
    got = {k: v for k, v in case.rule.rule.options.items() if k not in left_out}
    assert got == wanted
    positional = [k for k in wanted if k not in ("maximize", "decoupled_weight_decay")]
    assert [k for k in got if k in positional] == positional


def test_options_that_appear_in_mid_run_bring_their_state():
    rng = np.random.default_rng(15)
    p, grads = CASES["sgd"].problem(rng, 10, "float64", steps=6)
    theta = torch.from_numpy(p.copy()).requires_grad_()
    opt, peer = oc.optim.SGD(p, lr=0.1), torch.optim.SGD([theta], lr=0.1)
    for k, g in enumerate(grads):
        if k == 3:
            for group in (opt.param_groups[0], peer.param_groups[0]):
                group["momentum"], group["dampening"] = 0.9, 0.4
        opt.step(g)
        theta.grad = torch.from_numpy(g)
        peer.step()
    np.testing.assert_allclose(p, theta.detach().numpy(), rtol=1e-13)
