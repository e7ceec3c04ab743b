"""The moving average of the weights against torch.optim.swa_utils and exact sums."""

import math

import numpy as np
import pytest
import torch
from wrapper_cases import LARGE, SPECIAL, bits, noise

import optcore as oc


def test_ema_of_a_group_that_comes_later():
    a, b = np.array([8.0]), np.array([8.0])
    ema = oc.optim.EMA(oc.optim.SGD([a], lr=1.0), 0.75)
    ema.step([np.zeros(1)])
    ema.add_param_group({"params": [b]})
    ema.step([None, np.array([4.0])])
    assert {k: v[0] for k, v in ema.average.items()} == {"params[0]": 8.0, "params[1]": 7.0}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [0.9, 0.999, 0.3])
def test_ema_against_averaged_model(decay, dtype):
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = torch.nn.Linear(300, 100, dtype=getattr(torch, dtype))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    params = {k: p.detach().numpy().copy() for k, p in model.named_parameters()}
    over_rule = oc.optim.EMA(oc.optim.SGD(params, lr=0.5), decay)
    over_arrays = oc.optim.EMA(params, decay)
    for step in range(20):
        over_rule.step(noise(params, step))
        over_arrays.update()
        with torch.no_grad():
            for k, p in model.named_parameters():
                p.copy_(torch.tensor(params[k]))
        averaged.update_parameters(model)
    for k, p in averaged.module.named_parameters():
        assert bits(over_rule.average[k]) == bits(over_arrays.average[k])
        # 20 updates, a few roundings each, of weights of about 3
        assert np.allclose(over_rule.average[k], p.detach().numpy(), rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 1 - 1e-9])
def test_ema_debias_weighs_by_age(decay):
    """The average is the sum of d**(t - i) theta_i over the sum of d**(t - i), as fsum has it."""
    theta, history = np.zeros(3), []
    ema = oc.optim.EMA(theta, decay, debias=True)
    rng = np.random.default_rng(4)
    for t in range(1, 61):
        theta[...] = rng.standard_normal(3)
        history.append(theta.copy())
        ema.update()
        weights = [decay ** (t - i) for i in range(1, t + 1)]
        exact = [math.fsum(w * h[j] for w, h in zip(weights, history, strict=True)) / math.fsum(weights)
                 for j in range(3)]
        # sixty updates of a few roundings of numbers of about 1
        assert ema.average["params"] == pytest.approx(exact, rel=0, abs=1e-14)
    assert ema.updates == 60


def test_ema_without_debias_keeps_the_first():
    theta = np.array([7.0])
    ema = oc.optim.EMA(theta, 0.75)
    assert ema.average["params"][0] == 7.0
    theta[0] = 1.0
    ema.update()
    assert ema.average["params"][0] == 1.0        # the first update copies
    theta[0] = 5.0
    ema.update()
    assert ema.average["params"][0] == 2.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ema_applied_exchanges_bit_for_bit(dtype):
    theta = np.resize(np.array(SPECIAL, dtype=dtype), LARGE)
    theta.view(f"u{theta.itemsize}")[2] += 12345        # a NaN with a payload
    ema = oc.optim.EMA([theta, np.zeros(0, dtype), np.array(1, dtype)], 0.5)
    ema.update()
    theta[::3] = 2
    ema.update()
    here, there = bits(theta.copy()), bits(np.array(ema.average["params[0]"]))
    with ema.applied():
        assert bits(theta) == there
        assert bits(np.array(ema.average["params[0]"])) == here
    assert bits(theta) == here
    assert bits(np.array(ema.average["params[0]"])) == there
    assert here != there


def test_ema_applied_guards_and_comes_back_after_an_error():
    theta = np.zeros(2)
    ema = oc.optim.EMA(oc.optim.SGD(theta, lr=1.0), 0.5)
    for g in (1.0, 2.0):
        ema.step(np.full(2, g))
    state = ema.state_dict()
    for call in (lambda: ema.step(np.ones(2)), ema.update, ema.state_dict, lambda: ema.load_state_dict(state),
                 lambda: ema.applied().__enter__(), ema.eval, ema.train,
                 lambda: ema.add_param_group({"params": np.zeros(2)})):
        with ema.applied():
            assert theta[0] == -2.0
            with pytest.raises(RuntimeError, match=r"within `with ema.applied"):
                call()
        assert theta[0] == -3.0
    with pytest.raises(ZeroDivisionError), ema.applied():
        1 / 0       # noqa: B018
    assert theta[0] == -3.0
    theta.flags.writeable = False
    with pytest.raises(ValueError, match=r"^params: expected a writable array"), ema.applied():
        pass
    theta.flags.writeable = True
    assert bits(ema.state_dict()) == bits(state)


def test_ema_averages_steps_that_moved():
    theta = np.zeros(1)
    ema = oc.optim.EMA(oc.optim.MultiSteps(oc.optim.SGD(theta, lr=1.0, nonfinite="skip"), 2), 0.5)
    for g in (1.0, math.nan, 3.0, 5.0):
        ema.step(np.array([g]))
    assert (ema.updates, ema.average["params"][0]) == (1, -2.0)


def test_ema_over_arrays():
    net = oc.nn.Sequential(oc.nn.Linear(3, 2), oc.nn.BatchNorm(2))
    buffers = {k: b for k, b in net.buffers.items() if b.dtype.kind == "f"}
    ema = oc.optim.EMA({**net.parameters, **buffers}, 0.9)
    assert set(ema.average) == {*net.parameters, *buffers}
    with pytest.raises(ValueError, match="read-only"):
        ema.average["0.weight"][...] = 0
    with pytest.raises(TypeError, match=r"^step: expected an EMA over a rule"):
        ema.step(None)
    for of_a_rule in (lambda: ema.steps, lambda: ema.param_groups, lambda: ema.nonfinite, ema.eval, ema.train,
                      lambda: ema.add_param_group({"params": np.zeros(2)})):
        with pytest.raises(TypeError, match=r"^EMA: expected one over a rule, but this one is over arrays"):
            of_a_rule()
    assert repr(ema).startswith("EMA (decay=0.9, debias=False) of ")
    net.theta[...] = 3
    ema.update()
    state = ema.state_dict()
    net.theta[...] = 5
    ema.update()
    ema.load_state_dict(state)
    assert ema.updates == 1
    with ema.applied():
        assert np.all(net.theta == 3)
    assert np.all(net.theta == 5)
    with pytest.raises(ValueError, match=r"^state\['average'\]: expected arrays for"):
        ema.load_state_dict({**state, "average": {}})
