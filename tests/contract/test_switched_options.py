"""Options that take an array for the state, switched on between two steps; memory that changes its dtype."""

import numpy as np
import pytest

import optcore as oc

OPTIONS = [("SGD", "momentum", 0.9), ("RMSprop", "momentum", 0.9), ("RMSprop", "centered", True),
           ("Adam", "amsgrad", True), ("AdamW", "amsgrad", True)]
KEPT = [(dtype, kept) for dtype in ("float32", "float64")
        for kept in ({}, {"state_dtype": "bfloat16"}, {"state_dtype": "int8"}, {"ema_decay": 0.9}, {"clip_norm": 0.5})
        if (dtype, kept) != ("float64", {"state_dtype": "int8"})]  # codes hold float32


def moved(opt, params, grads):
    before = [p.copy() for p in params]
    opt.step(grads)
    return [not np.array_equal(p, q) for p, q in zip(params, before, strict=True)]


@pytest.mark.parametrize(("dtype", "kept"), KEPT, ids=str)
@pytest.mark.parametrize(("name", "key", "value"), OPTIONS)
@pytest.mark.parametrize(("count", "size"), [(1, 50), (3, 700), (300, 7)])
def test_a_state_array_that_an_option_takes_between_steps(name, key, value, dtype, kept, count, size):
    """The step is that of an optimizer that had the option, and zeros for the array, from the first."""
    rng = np.random.default_rng(5)
    params = [rng.standard_normal(size).astype(dtype) for _ in range(count)]
    grads = [None if i == 1 else rng.standard_normal(size).astype(dtype) for i in range(count)]
    make = getattr(oc.optim, name)
    opt = make(params, lr=0.01, **kept)
    for _ in range(3):
        opt.step(grads)
    opt.param_groups[0][key] = value
    copies, state = [p.copy() for p in params], opt.state_dict()
    other = make(copies, **{k: v for k, v in opt.param_groups[0].items() if k != "params"}, **kept)
    for each in state["state"].values():
        each.update({s.key: np.zeros(size, "float32") for s in opt.rule.slots
                     if s.when == key and s.key not in each and not s.restarts})
        if any(s.restarts for s in opt.rule.slots):
            each["step"] = 0  # a momentum that begins takes the first gradient as it is
    other.load_state_dict(state)
    opt.step(grads)
    other.step(grads)
    assert [p.tobytes() for p in params] == [p.tobytes() for p in copies]


def test_a_group_that_keeps_its_options_takes_its_step_too():
    params = [np.ones(8), np.ones(8)]
    opt = oc.optim.SGD([{"params": params[0]}, {"params": params[1]}], lr=0.1)
    opt.step([np.ones(8)] * 2)
    opt.param_groups[0]["momentum"] = 0.9
    assert moved(opt, params, [np.ones(8)] * 2) == [True, True]
    assert opt.steps == 2


def test_a_gradient_that_is_not_finite_is_seen_when_an_option_is_switched_on():
    p = np.ones(8, "float32")
    opt = oc.optim.Adam(p, lr=0.1, nonfinite="raise")
    opt.step(np.ones(8, "float32"))
    opt.param_groups[0]["amsgrad"] = True
    before = p.tobytes()
    with pytest.raises(FloatingPointError, match="gradient of params"):
        opt.step(np.full(8, np.nan, "float32"))
    assert (p.tobytes(), opt.steps) == (before, 1)


def test_a_fit_goes_on_with_an_option_that_was_switched_on():
    """A network takes its steps without Python between gradient and update."""
    X, y = np.random.default_rng(0).standard_normal((64, 5), "float32"), np.arange(64) % 3

    def theta(switch):
        net = oc.nn.Sequential(oc.nn.Linear(5, 8), oc.nn.ReLU(), oc.nn.Linear(8, 3), seed=1)
        opt = oc.optim.SGD(net.theta, lr=0.1, momentum=0.0 if switch else 0.9)
        for epoch in range(2):
            before = net.theta.copy()
            oc.train.fit(net, X, y, optimizer=opt, epochs=1, batch_size=64, progress=False)
            assert not np.array_equal(net.theta, before)
            if epoch == 0:
                opt.param_groups[0]["momentum"] = 0.9
        return net.theta

    assert not np.array_equal(theta(True), theta(False))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_longer_dtype_at_the_address_of_a_gradient_is_looked_at_again(dtype):
    n, memory = 64, np.zeros(4096, np.uint8)
    p = memory[2 * n:2 * n + n * np.dtype(dtype).itemsize].view(dtype)
    opt = oc.optim.SGD(p, lr=0.1)
    opt.step(memory[:2 * n].view("float16"))  # up to the parameter
    with pytest.raises(ValueError, match="overlaps params"):
        opt.step(memory[:4 * n].view("float32"))
