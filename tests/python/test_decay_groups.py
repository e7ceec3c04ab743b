"""Parameter groups from names and shapes."""

import copy

import numpy as np
import pytest
from wrapper_cases import bits, noise

import optcore as oc


def test_decay_groups_of_a_network():
    net = oc.nn.Sequential(oc.nn.Linear(6, 5), oc.nn.BatchNorm(5), oc.nn.ReLU(), oc.nn.Linear(5, 3))
    groups = oc.optim.decay_groups(net.parameters, 0.25)
    assert [list(g["params"]) for g in groups] == [["0.weight", "3.weight"],
                                                   ["0.bias", "1.weight", "1.bias", "3.bias"]]
    assert [g["weight_decay"] for g in groups] == [0.25, 0.0]
    before = {k: a.copy() for k, a in net.parameters.items()}
    opt = oc.optim.AdamW(groups, lr=0.5)
    opt.step({k: np.zeros_like(a) for k, a in net.parameters.items()})      # decay alone: theta (1 - lr wd)
    for k, a in net.parameters.items():
        shrunk = before[k] * np.float32(1 - 0.5 * 0.25) if k in ("0.weight", "3.weight") else before[k]
        assert np.array_equal(a, shrunk), k
    for g in groups:
        assert all(np.shares_memory(a, net.theta) for a in g["params"].values())


@pytest.mark.parametrize("rule", [n for n in oc.optim.names() if "weight_decay" in oc.optim.get(n).rule.options])
def test_decay_groups_serve_every_rule_that_decays(rule):
    params = {"w": np.ones((3, 4)), "w.bias": np.ones((1, 4))}
    twin = copy.deepcopy(params)
    opt = oc.optim.get(rule)(oc.optim.decay_groups(params, 0.1), lr=0.01)
    plain = oc.optim.get(rule)([{"params": [twin["w"]], "weight_decay": 0.1},
                                {"params": [twin["w.bias"]], "weight_decay": 0.0}], lr=0.01)
    for seed in range(3):
        grads = noise(params, seed)
        opt.step(grads)
        plain.step(list(grads.values()))
    assert bits(params) == bits(twin)


@pytest.mark.parametrize(("name", "shape", "excluded"), [
    ("0.weight", (3, 4), False), ("0.bias", (3,), True), ("0.weight", (3,), True), ("scale", (), True),
    ("fc.bias", (1, 4), True), ("in_proj_bias", (1, 4), True), ("relative_position_bias_table", (9, 2), False),
    ("norm.weight", (3, 4), True), ("encoder.layer_norm.weight", (3, 4), True), ("LayerNorm_0/scale", (3, 4), True),
    ("BatchNorm1.g", (1, 4, 1, 1), True), ("bn1.weight", (1, 4), True), ("h.0.ln_1.weight", (1, 4), True),
    ("ln_f.weight", (1, 4), True), ("layer_normalization/gamma", (1, 4), True), ("rmsnorm.w", (1, 4), True),
    ("normal.weight", (3, 4), False), ("inline.weight", (3, 4), False), ("biased.weight", (3, 4), False),
    ("embedding.weight", (3, 4), False), ("lnet.weight", (3, 4), False),
    ("gn1.weight", (1, 4), True), ("block.rms.scale", (1, 4), True), ("norms.0.weight", (1, 4), True),
    ("sign.weight", (3, 4), False), ("terms.weight", (3, 4), False), ("enormous.weight", (3, 4), False),
])
def test_what_is_a_bias_or_norm(name, shape, excluded):
    assert oc.optim.is_bias_or_norm(name, np.zeros(shape)) is excluded


def test_decay_groups_by_a_rule_of_ones_own():
    params = {"embed.weight": np.ones((3, 2)), "fc.weight": np.ones((3, 2)), "fc.bias": np.ones(3)}

    def exclude(name, a):
        return "embed" in name or oc.optim.is_bias_or_norm(name, a)

    schedule = oc.schedules.linear(0.1, 0.0, 10)
    groups = oc.optim.decay_groups(params, schedule, exclude)
    assert [list(g["params"]) for g in groups] == [["fc.weight"], ["embed.weight", "fc.bias"]]
    assert [g["weight_decay"] for g in groups] == [schedule, 0.0]
    assert oc.optim.decay_groups(params, 0.1, lambda name, a: True) == [{"params": params, "weight_decay": 0.0}]
    assert oc.optim.decay_groups(params, 0.1, lambda name, a: False) == [{"params": params, "weight_decay": 0.1}]


def test_decay_groups_of_a_sequence_or_array():
    w, b = np.ones((2, 2)), np.ones(2)
    assert [list(g["params"]) for g in oc.optim.decay_groups([b, w], 0.1)] == [["params[1]"], ["params[0]"]]
    assert oc.optim.decay_groups(w, 0.1)[0]["params"]["params"] is w
    with pytest.raises(TypeError, match=r"^params\[1\]: expected a NumPy array, got list"):
        oc.optim.decay_groups([w, [1.0]], 0.1)
    with pytest.raises(TypeError, match=r"^params: expected arrays, got group dicts"):
        oc.optim.decay_groups([{"params": w}], 0.1)
    with pytest.raises(TypeError, match=r"^exclude: expected a callable"):
        oc.optim.decay_groups([w], 0.1, "bias")


@pytest.mark.parametrize(("bad", "error"), [(-0.1, ValueError), ("x", TypeError), (np.nan, ValueError)])
def test_decay_groups_check_the_decay(bad, error):
    with pytest.raises(error, match="weight_decay: expected"):
        oc.optim.decay_groups({"w": np.ones((2, 2))}, bad)
