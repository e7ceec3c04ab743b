"""The state of several groups, options included, to PyTorch's optimizer of the same name and back."""

import numpy as np
import pytest
import torch
from rule_cases import CASES
from test_rules_torch import PEERS, to_torch, torch_scalars

import optcore as oc

pytestmark = pytest.mark.usefixtures("muon_in_the_dtype_of_its_parameters")
peers = pytest.mark.parametrize("case", PEERS.values(), ids=PEERS)
SHAPES = {  # of four arrays that both sides take: PyTorch's Adafactor divides by the size of an array
    oc.optim.Adafactor: [(3, 4), (), (5,), (2, 3, 4)], oc.optim.Muon: [(3, 4), (1, 1), (5, 2), (0, 3)]}
ANY = [(3, 4), (), (5,), (0,)]


def start(case, dtype, seed):
    """Arrays, options of two groups, and gradients of ten steps; the third array has none in the first four."""
    rng, shapes = np.random.default_rng(seed), SHAPES.get(case.rule, ANY)
    arrays = [np.asarray(rng.standard_normal(s), dtype) for s in shapes]
    grads = [[np.asarray(rng.standard_normal(s), dtype) for s in shapes] for _ in range(10)]
    for g in grads[:4]:
        g[2] = None
    options = [case.draw(rng, for_torch=True) for _ in range(2)]
    # PyTorch takes this one from its constructor, for every group
    options[1].update({k: v for k, v in options[0].items() if k == "initial_accumulator_value"})
    return arrays, options, grads


def ours_over(case, arrays, options):
    return case.rule([{"params": arrays[:2], **options[0]}, {"params": arrays[2:], **options[1]}])


def theirs_over(case, tensors, options):
    first = {k: v for k, v in options[0].items() if k == "initial_accumulator_value"}
    return case.torch([{"params": tensors[:2], **options[0]}, {"params": tensors[2:], **options[1]}], **first)


def tensors_of(arrays):
    return [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]


def step_theirs(peer, tensors, grads):
    for t, g in zip(tensors, grads, strict=True):
        t.grad = None if g is None else torch.from_numpy(g)
    peer.step()


@peers
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-4)])
def test_groups_and_their_options_go_over_and_back(case, seed, dtype, tolerance):
    # tolerance: ten steps of about ten roundings; float32 as in test_follows_torch, but for ten steps
    with torch_scalars(dtype):
        arrays, options, grads = start(case, dtype, 400 + seed)
        known = options[0].keys()
        tensors, ours = tensors_of(arrays), ours_over(case, arrays, options)
        whole = theirs_over(case, tensors, options)
        for g in grads[:3]:
            ours.step(g)
            step_theirs(whole, tensors, g)

        # ours, into an optimizer of PyTorch that was built with its defaults
        copies = tensors_of(arrays)
        peer = theirs_over(case, copies, [{}, {}])
        peer.load_state_dict(to_torch(ours.state_dict()))
        for group, wanted in zip(peer.param_groups, options, strict=True):
            assert {k: group[k] for k in known} == wanted
        for g in grads[3:7]:
            ours.step(g)
            step_theirs(whole, tensors, g)
            step_theirs(peer, copies, g)

        # and PyTorch's, into one of ours that was built with its defaults
        arrays = [t.detach().numpy().copy() for t in copies]
        again = ours_over(case, arrays, [{}, {}])
        again.load_state_dict(peer.state_dict())
        for group, wanted in zip(again.param_groups, options, strict=True):
            assert {k: group[k] for k in known} == wanted
        for g in grads[7:]:
            again.step(g)
            step_theirs(whole, tensors, g)
    for a, t in zip(arrays, tensors, strict=True):
        np.testing.assert_allclose(a, t.detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=str(options))


@peers
def test_what_never_had_a_gradient_begins_there_as_it_would_here(case):
    """The rate is another by the time of its first gradient; dampening, first sizes and averages depend on it."""
    options = {**case.known(lr=0.1, momentum=0.9, dampening=0.4)}
    with torch_scalars("float64"):
        arrays = [case.full(3), case.full(2)]
        ours = case.rule(arrays, **options)
        ours.step([case.full(3, 0.5), None])
        ours.param_groups[0]["lr"] = 0.05
        tensors = tensors_of(arrays)
        peer = case.torch(tensors)
        peer.load_state_dict(to_torch(ours.state_dict()))
        for _ in range(3):
            g = [case.full(3, 0.5), case.full(2, -0.25)]
            ours.step(g)
            step_theirs(peer, tensors, g)
    for a, t in zip(arrays, tensors, strict=True):
        np.testing.assert_allclose(a, t.detach().numpy(), rtol=1e-13)      # three steps of a few roundings


def test_every_rule_of_torch_is_a_peer():
    """Those that the library has under the same name."""
    here = {case.rule.__name__ for case in CASES.values()}
    assert {case.torch.__name__ for case in PEERS.values()} == {n for n in here if hasattr(torch.optim, n)}
