"""The state of several groups, options included, to PyTorch's optimizer of the same name and back."""

import numpy as np
import pytest
import torch
from rule_cases import CASES
from test_rules_torch import PEERS, to_torch, torch_scalars
from test_storage import DTYPES, by_rule, numbers, states, takes

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


#: dtype of the parameter, options: every way to keep a state
KEPT = [("float32", {"state_dtype": s}) for s in ("float32", "float64", "bfloat16", "float16", "int8")]
KEPT += [("float64", {"state_dtype": s}) for s in (None, "float32", "bfloat16", "float16")]
KEPT += [(p, o) for p in ("bfloat16", "float16") for o in ({}, {"state_dtype": "float32"}, {"state_dtype": "int8"})]
KEPT += [("bfloat16", {"master_weights": True, "ema_decay": 0.5}), ("bfloat16", {"compensated": True})]


def fits(case, row):
    options = row[1]
    return case.torch and takes(case, row[0], options.get("state_dtype"), options.get("master_weights", False),
                                options.get("compensated", False))


def as_tensors(state):
    """As the docstring of `state_dict` says."""
    return {**state, "state": {i: {key: torch.as_tensor(value) for key, value in entry.items()}
                               for i, entry in state["state"].items()}}


@pytest.mark.parametrize(("case", "row"), by_rule(KEPT, fits))
def test_a_state_means_the_same_to_torch_however_it_is_kept(case, row):
    dtype, options = row
    rng = np.random.default_rng(51)
    known = case.known(lr=0.01, momentum=0.9)
    theta = case.normal(rng, 600).astype(DTYPES[dtype])
    ours = case.rule(theta, **known, **options)
    for _ in range(3):
        ours.step(case.normal(rng, 600, "float32"))
    # PyTorch keeps a state in the dtype of its parameter: in float64 it holds all of ours.
    tensor = torch.zeros(theta.shape, dtype=torch.float64, requires_grad=True)
    peer = case.torch([tensor])
    peer.load_state_dict(as_tensors(ours.state_dict(portable=True)))
    theirs, slots = peer.state_dict()["state"][0], [s for s in case.rule.rule.slots if s.key in states(ours)]
    assert slots or case.rule is oc.optim.SGD
    for slot in slots:
        # Exact, but for codes: a code times its scale is rounded to float32.
        np.testing.assert_allclose(theirs[slot.key].numpy(), numbers(ours, slot.key, slot.codes),
                                   rtol=2.0**-23 if states(ours)[slot.key].dtype == np.uint8 else 0)
    assert float(theirs.get("step", 3)) == 3
    assert not {"master", "compensation", "ema"} & set(theirs)

    again = case.rule(theta.copy(), **options)
    again.load_state_dict(peer.state_dict())
    for slot in slots:
        if states(ours)[slot.key].dtype != np.uint8:    # whose scale is a quotient of what is read
            assert states(again)[slot.key].tobytes() == states(ours)[slot.key].tobytes()
        else:
            exact = numbers(ours, slot.key, slot.codes)
            # one code further at most, the scale being rounded anew
            np.testing.assert_allclose(numbers(again, slot.key, slot.codes), exact, rtol=2.0**-3,
                                       atol=2.0**-14 * np.abs(exact).max())
    assert type(again.param_groups[0]["lr"]) is float


@pytest.mark.parametrize("options", [{}, {"state_dtype": "int8"}, {"state_dtype": "float32"}, {"master_weights": True}])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_states_of_half_precision_come_from_torch_as_they_are(dtype, options):
    rng = np.random.default_rng(52)
    tensor = torch.as_tensor(rng.standard_normal(600)).to(getattr(torch, dtype)).requires_grad_()
    peer = torch.optim.AdamW([tensor], lr=torch.tensor(0.01), foreach=False)
    for _ in range(3):
        tensor.grad = torch.as_tensor(rng.standard_normal(600)).to(tensor.dtype)
        peer.step()
    theta = tensor.detach().float().numpy().astype(DTYPES[dtype])
    opt = oc.optim.AdamW(theta, **options)
    opt.load_state_dict(peer.state_dict())
    assert opt.param_groups[0]["lr"] == float(torch.tensor(0.01))
    assert type(opt.param_groups[0]["lr"]) is float
    for slot in opt.rule.slots[:2]:
        exact = peer.state_dict()["state"][0][slot.key].double().numpy()
        unit = 2.0**-3 if "int8" in options.values() else 0  # any other holds them
        np.testing.assert_allclose(numbers(opt, slot.key, slot.codes), exact, rtol=unit,
                                   atol=unit * 2.0**-11 * np.abs(exact).max())
    back = torch.optim.AdamW([tensor])
    back.load_state_dict(as_tensors(opt.state_dict(portable=True)))
    if "int8" not in options.values():
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(back.state[tensor][key], peer.state[tensor][key])
            assert back.state[tensor][key].dtype == tensor.dtype


def test_a_state_with_an_unknown_tensor_names_it():
    opt = oc.optim.AdamW(np.ones(3, "float32"))
    opt.step(np.ones(3, "float32"))
    state = opt.state_dict()
    state["state"][0]["exp_avg"] = torch.ones(3, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"state\[0\]\['exp_avg'\]: expected float32.*got complex64"):
        opt.load_state_dict(state)
