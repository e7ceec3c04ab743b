"""What is kept survives a checkpoint; structures of parameters; what is refused, and changes nothing."""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
import torch
from test_storage import BF16, DTYPES, ROUNDING, all_bytes, by_rule, numbers, rules, states, takes

import optcore as oc

#: dtype of the parameter, options
KEPT = [("float32", {"state_dtype": "int8"}), ("bfloat16", {"state_dtype": "int8", "stochastic_rounding": True}),
        ("bfloat16", {}), ("float16", {"master_weights": True, "ema_decay": 0.9}),
        ("bfloat16", {"compensated": True, "state_dtype": "bfloat16"}), ("float32", {"compensated": True}),
        ("float64", {"state_dtype": "float16"}), ("float16", {"ema_decay": 0.5}), ("float32", {"ema_decay": 0.5})]


def fits(case, row):
    parameter, options = row
    return takes(case, parameter, options.get("state_dtype"), options.get("master_weights", False),
                 options.get("compensated", False))


@pytest.mark.parametrize(("case", "row"), by_rule(KEPT, fits))
def test_a_checkpoint_goes_on_with_the_same_bits(case, row, tmp_path):
    parameter, options = row
    rng = np.random.default_rng(41)
    p, grads = case.normal(rng, 700).astype(DTYPES[parameter]), [case.normal(rng, 700, "float32") for _ in range(6)]
    options = {**options, **case.known(lr=0.01, momentum=0.9)}
    whole, half = p.copy(), p.copy()
    one, first = case.rule(whole, seed=9, **options), case.rule(half, seed=9, **options)
    for g in grads:
        case.step(one, g)
    for g in grads[:3]:
        case.step(first, g)
    oc.checkpoint.save(tmp_path / "state.safetensors", first.state_dict())
    second = case.rule(half, **options)
    second.load_state_dict(oc.checkpoint.load(tmp_path / "state.safetensors"))
    for g in grads[3:]:
        case.step(second, g)
    assert all_bytes(second) == all_bytes(one)


SPLIT = [row for row in KEPT if not (row[1].get("stochastic_rounding") or row[1].get("state_dtype") == "int8")]


@pytest.mark.parametrize(("case", "row"), by_rule(SPLIT, lambda case, row: fits(case, row) and not case.layerwise))
def test_a_split_changes_no_bit_where_no_number_is_random(case, row):
    parameter, options = row
    rng = np.random.default_rng(42)
    p, grads = rng.standard_normal(1300).astype(DTYPES[parameter]), rng.standard_normal((3, 1300)).astype("float32")
    whole, cuts = p.copy(), [0, 1, 1, 256, 700, 1300]
    pieces = [p[a:b].copy() for a, b in pairwise(cuts)]
    one, many = case.rule(whole, lr=0.01, **options), case.rule(pieces, lr=0.01, **options)
    for g in grads:
        case.step(one, g)
        case.step(many, [g[a:b].copy() for a, b in pairwise(cuts)])
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    for key, value in states(one).items():
        assert b"".join(states(many, i)[key].tobytes() for i in range(len(pieces))) == value.tobytes()


STORAGES = ["float32", "float64", "bfloat16", "float16", "int8"]


@pytest.mark.parametrize("source", STORAGES)
@pytest.mark.parametrize(("case", "state"), by_rule(STORAGES, lambda case, state: takes(case, "float32", state)))
def test_any_storage_loads_into_any(case, source, state):
    """Widened exactly, narrowed to the nearest, bit for bit where both are kept alike."""
    if not takes(case, "float32", source):
        source = "float32"
    rng = np.random.default_rng(43)
    options = case.known(lr=0.01, momentum=0.9)
    p = case.normal(rng, 600, "float32")
    first, second = (case.rule(p.copy(), state_dtype=s, **options) for s in (source, state))
    for _ in range(3):
        case.step(first, case.normal(rng, 600, "float32"))
    second.load_state_dict(first.state_dict())
    for slot in case.rule.rule.slots:
        if slot.key not in states(first):
            continue
        exact, got = numbers(first, slot.key, slot.codes), numbers(second, slot.key, slot.codes)
        dtype = states(second)[slot.key].dtype
        if dtype == states(first)[slot.key].dtype:
            assert states(second)[slot.key].tobytes() == states(first)[slot.key].tobytes()
        unit = ROUNDING[{"uint16": "bfloat16", "uint8": "int8"}.get(dtype.name, dtype.name)]
        # Below the base of codes and among subnormals the spacing is a share of the largest, 2^-14 at most; codes are
        # read with two roundings of float32.
        size = np.abs(exact) + np.abs(exact).max() * 2.0**-14 * (unit > 2.0**-23)
        tolerance = 1.001 * unit * size + 2.0**-23 * np.abs(exact) * (source == "int8")
        assert np.all(np.abs(got - exact) <= tolerance + 2.0**-25 * (unit > 2.0**-23))


def test_a_step_sees_the_same_numbers_in_codes_and_out_of_them():
    rng = np.random.default_rng(45)
    codes = rng.integers(0, 256, (2, 600), dtype=np.uint8)
    scale = (2.0 ** rng.integers(-16, -8, (2, 3))).astype("float32")
    entry = {"step": 4, "exp_avg": codes[0], "exp_avg_scale": scale[0],
             "exp_avg_sq": codes[1], "exp_avg_sq_scale": scale[1]}
    theta, g = rng.standard_normal((2, 600)).astype("float32")
    moved = []
    for dtype in ("int8", "float32"):
        p = theta.copy()
        opt = oc.optim.AdamW(p, lr=0.01, state_dtype=dtype)
        kept_in_codes = {**oc.optim.AdamW(p, state_dtype="int8").state_dict(), "step": 4, "state": {0: entry}}
        opt.load_state_dict(kept_in_codes)
        opt.step(g)
        moved.append(p.tobytes())
    assert moved[0] == moved[1]


def test_what_stands_beside_a_parameter_goes_over_too():
    def new(dtype):
        return oc.optim.SGD(np.ones(300, dtype), lr=0.1, ema_decay=0.5)

    one, other = new("float32"), new("float64")
    one.step(np.linspace(-1, 1, 300, dtype="float32"))
    other.load_state_dict(one.state_dict())
    assert np.array_equal(states(other)["ema"], states(one)["ema"].astype("float64"))
    one.load_state_dict(other.state_dict())
    assert states(one)["ema"].tobytes() == states(other)["ema"].astype("float32").tobytes()


@pytest.mark.parametrize("step", [2**53 + 1, 2**63 - 2])
def test_a_large_count_comes_back_as_it_was(step):
    opt = oc.optim.SGD(np.ones(3), momentum=0.9)
    opt.step(np.ones(3))
    state = opt.state_dict()
    state["state"][0]["step"] = state["step"] = step
    opt.load_state_dict(state)
    again = opt.state_dict()
    assert (again["step"], again["state"][0]["step"]) == (step, step)


def test_an_array_of_another_layout_is_taken_over_for_its_numbers():
    opt = oc.optim.SGD(np.ones((2, 3), "float32"), momentum=0.9)
    opt.step(np.ones((2, 3), "float32"))
    given = np.arange(6.0).reshape(3, 2).T
    for array in (given.astype("float32"), given.astype(">f4"), given.astype(">f8")):
        opt.load_state_dict({**opt.state_dict(), "state": {0: {"step": 1, "momentum_buffer": array}}})
        assert np.array_equal(states(opt)["momentum_buffer"], given)


def test_pytorch_states_go_on_in_eight_bits():
    rng = np.random.default_rng(44)
    theta = rng.standard_normal(600).astype("float32")
    tensor = torch.nn.Parameter(torch.as_tensor(theta.copy()))
    theirs = torch.optim.AdamW([tensor], lr=0.01)
    for _ in range(3):
        tensor.grad = torch.as_tensor(rng.standard_normal(600).astype("float32"))
        theirs.step()
    state = theirs.state_dict()
    state["state"] = {i: {k: np.asarray(v) for k, v in entry.items()} for i, entry in state["state"].items()}
    opt = oc.optim.AdamW(theta, state_dtype="int8")
    opt.load_state_dict(state)
    assert opt.state_dict()["state"][0]["step"] == 3
    assert states(opt)["exp_avg"].dtype == np.uint8
    assert opt.param_groups[0]["lr"] == 0.01


# --------------------------------------------------------------------------------------------------------- structure

def test_mixed_dtypes_groups_and_late_parameters_share_an_optimizer():
    arrays = {name: np.ones((2, 300), dtype) for name, dtype in DTYPES.items()}
    opt = oc.optim.AdamW([{"params": {k: arrays[k]}} for k in arrays], lr=0.1, state_dtype=None, ema_decay=0.5)
    gradients = {k: np.full((2, 300), 0.5, "float32") for k in arrays}
    opt.step({**gradients, "float16": None})
    assert np.all(arrays["float16"] == 1)
    late = {"empty": np.zeros((0, 3), BF16), "scalar": np.asarray(1, BF16)}
    opt.add_param_group({"params": late, "lr": 0.5})
    opt.step({**gradients, "empty": np.zeros((0, 3), "float32"), "scalar": np.asarray(2.0)})
    # The first step of Adam is lr * sign(g), of decay 0.01 * lr; rounded to bfloat16.
    assert float(late["scalar"]) == float(BF16(1 - 0.5 * 0.01 - 0.5))
    assert opt.state_dict()["state"][4]["exp_avg"].shape == (0, 3)
    assert [opt.state_dict()["state"][i]["step"] for i in range(6)] == [2, 2, 2, 1, 1, 1]
    for name, unit in ROUNDING.items():
        if name in arrays:
            wanted = 0.9 - 0.001 if name == "float16" else (1 - 0.001 - 0.1) * (1 - 0.001) - 0.1
            np.testing.assert_allclose(arrays[name].astype("float64"), wanted, rtol=2 * unit + 1e-6)


@pytest.mark.parametrize("options", [{"state_dtype": "int8"}, {"master_weights": True}, {"compensated": True}])
def test_empty_and_scalar_arrays(options):
    for shape in ((), (0,), (3, 0, 2), (1,), (2, 3, 4)):
        p = np.ones(shape, BF16)
        opt = oc.optim.AdamW(p, lr=0.5, weight_decay=0, **options)
        opt.step(np.full(shape, 2.0, BF16))
        assert np.all(p == BF16(0.5))
        second = oc.optim.AdamW(p, **options)
        second.load_state_dict(opt.state_dict())
        assert all_bytes(second) == all_bytes(opt)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_norms_of_narrow_gradients(kind):
    rng = np.random.default_rng(45)
    grads = [rng.standard_normal(n).astype(DTYPES[kind]) for n in (3, 20_000, 0, 511)]
    p = [np.zeros(g.shape, DTYPES[kind]) for g in grads]
    opt = oc.optim.SGD(p, lr=1.0, clip_norm=0.5, nonfinite="raise")
    opt.step(grads)
    norm = float(np.sqrt(sum(np.sum(g.astype(np.longdouble) ** 2) for g in grads)))
    assert opt.last_grad_norm == pytest.approx(norm, rel=1e-14)  # double sums of exact squares
    moved = grads[1].astype("float64") * (0.5 / (norm + 1e-6))
    tiny = 2.0**-25 if kind == "float16" else 0                  # half a subnormal
    assert np.all(np.abs(p[1].astype("float64") + moved) <= 1.01 * ROUNDING[kind] * np.abs(moved) + tiny)
    before = all_bytes(opt)
    grads[3][510] = np.inf
    with pytest.raises(FloatingPointError, match=r"params\[3\]"):
        opt.step(grads)
    opt.nonfinite = "skip"
    opt.step(grads)
    assert (all_bytes(opt), opt.skipped_steps) == (before, 1)


# ------------------------------------------------------------------------------------------------------------ errors

def half(n=4):
    return np.ones(n, BF16)


@pytest.mark.parametrize(("kwargs", "error", "message"), [
    ({"state_dtype": "float8"}, ValueError, "state_dtype: expected None or one of"),
    ({"state_dtype": np.float32}, ValueError, "state_dtype: expected None or one of"),
    ({"master_weights": "yes"}, TypeError, "master_weights: expected True or False, got 'yes'"),
    ({"compensated": 1}, TypeError, "compensated: expected True or False, got 1"),
    ({"stochastic_rounding": None}, TypeError, "stochastic_rounding: expected True or False"),
    ({"ema_decay": 1.0}, ValueError, r"ema_decay: expected a number in \[0, 1\), got 1.0"),
    ({"ema_decay": -0.1}, ValueError, "ema_decay"), ({"ema_decay": float("nan")}, ValueError, "ema_decay"),
    ({"ema_decay": True}, TypeError, "ema_decay"), ({"ema_decay": "0.9"}, TypeError, "ema_decay"),
    ({"ema_decay": b"0"}, TypeError, "ema_decay"), ({"ema_decay": np.ones(1)}, TypeError, "ema_decay"),
    ({"uint16_as": "float32"}, ValueError, "uint16_as: expected one of None"),
    ({"seed": 1.0}, TypeError, "seed: expected an integer"), ({"seed": True}, TypeError, "seed"),
    ({"seed": -1}, ValueError, r"seed: expected an integer in \[0, 2\*\*64\)"), ({"seed": 2**64}, ValueError, "seed"),
    ({"master_weights": True, "compensated": True}, ValueError, "expected one of them at most"),
    ({"master_weights": True, "stochastic_rounding": True}, ValueError, "expected one of them at most"),
    ({"compensated": True, "stochastic_rounding": True}, ValueError, "expected one of them at most")])
def test_bad_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        oc.optim.AdamW(half(), **kwargs)


@pytest.mark.parametrize(("rule", "parameter", "kwargs", "message"), [
    (oc.optim.Adamax, np.ones(3, "float32"), {"state_dtype": "int8"}, "state_dtype: .*Adamax.*no 8-bit form"),
    (oc.optim.Adam, np.ones(3), {"state_dtype": "int8"}, "state_dtype: expected one that holds float64 for params"),
    (oc.optim.Adam, np.ones(3), {"compensated": True}, "compensated: expected .* got params of float64"),
    (oc.optim.Adam, np.ones(3, "float32"), {"compensated": True, "state_dtype": "int8"}, "state_dtype"),
    (oc.optim.Adam, np.ones(3, "float16"), {"stochastic_rounding": True}, "stochastic_rounding: .*got params of"),
    (oc.optim.LAMB, half(), {}, "params: expected float32 or float64, or bfloat16 or float16 with master_weights"),
    (oc.optim.LARS, np.ones(3, "float32"), {"compensated": True}, "params: expected float32 or float64"),
    (oc.optim.Adafactor, np.ones(3, "float32"), {"state_dtype": "bfloat16"}, "params: .*states of the same dtype")])
def test_options_that_do_not_fit_are_refused(rule, parameter, kwargs, message):
    with pytest.raises(ValueError, match=message):
        rule(parameter, **kwargs)


def test_a_group_that_does_not_fit_adds_nothing():
    opt = oc.optim.Adam([np.ones(4, "float32")], state_dtype="int8")
    for bad, error in [(np.ones(3), ValueError), (np.ones(3, "uint16"), TypeError)]:
        with pytest.raises(error):
            opt.add_param_group({"params": [np.ones(5, "float32"), bad]})
        assert len(opt.param_groups) == len(opt.state_dict()["state"]) == 1
    opt.step([np.ones(4, "float32")])


def test_bare_bits_need_a_word():
    bits = np.ones(3, "uint16")
    with pytest.raises(TypeError, match=r'params: expected .*or uint16, with uint16_as="bfloat16".*got uint16'):
        oc.optim.SGD(bits)
    a, b = np.ones(3, BF16), np.ones(3, BF16)
    g = np.array([0.5, -1, 2], BF16)
    oc.optim.SGD(a, lr=0.5).step(g)
    oc.optim.SGD(b.view("uint16"), lr=0.5, uint16_as="bfloat16").step(g.view("uint16"))
    assert a.tobytes() == b.tobytes()
    with pytest.raises(TypeError, match="expected dtype"):
        oc.optim.SGD(np.ones(3, ml_dtypes.float8_e4m3fn))


def test_copies_that_cannot_be_are_refused_and_change_nothing():
    w, memory = np.ones(8, "float32"), np.ones(16, "float32")
    opt, good = oc.optim.SGD([w, memory[:8]], lr=1.0), np.zeros(8, "float16")
    opt.copy_to([good, None])
    readonly = np.ones(8, "float16")
    readonly.flags.writeable = False
    for bad, error, message in [
            ([w, None], ValueError, "overlaps"), ([memory[4:12], None], ValueError, "overlaps"),
            ([good, good], ValueError, "overlaps"), ([good], ValueError, "arrays: expected 2, one per parameter, got"),
            ([good, np.ones(7, "float16")], ValueError, r"copy of params\[1\]: expected the shape"),
            ([good, np.ones(8, int)], TypeError, r"copy of params\[1\]: expected dtype"),
            ([good, [1.0] * 8], TypeError, r"copy of params\[1\]: expected a NumPy array"),
            ([good, readonly], ValueError, "writable"),
            ([good, np.ones(16, "float16")[::2]], ValueError, "C-contiguous"),
            ({"w": good}, ValueError, "arrays: expected the names")]:
        with pytest.raises(error, match=message):
            opt.copy_to(bad)
    with pytest.raises(ValueError, match="overlaps"):  # a gradient in the copy's memory
        opt.step([good, np.ones(8, "float32")])
    opt.step([np.ones(8, "float32")] * 2)
    assert np.all(good == 0), "1 - 1, in the copy that was good"
    master = oc.optim.SGD([half(8), half(8)], master_weights=True)
    with pytest.raises(ValueError, match="arrays: expected None for parameters with master_weights"):
        master.copy_to([good, None])
    master.copy_to([None, None])


def bad_states(good):
    """(what is changed, error message) in a state of int8 with an average over a compensated bfloat16 parameter."""
    entry = good["state"][0]
    yield {"exp_avg_scale": None}, "expected the scales 'exp_avg_scale' beside the codes"
    yield {"exp_avg_scale": entry["exp_avg_scale"][:1]}, "exp_avg_scale.*float32 of shape"
    yield {"exp_avg_scale": entry["exp_avg_scale"].astype("float64")}, "exp_avg_scale.*float32 of shape"
    for bad in (1.5, -1.0, np.nan, 2.0**-91):
        scale = np.full_like(entry["exp_avg_sq_scale"], bad)
        yield {"exp_avg_sq_scale": scale}, r"exp_avg_sq_scale.*powers of two from 2\^-90 on, infinity, or 0"
    kinds = r"expected float32, float64, float16, bfloat16 \(also as uint16\)"
    yield {"exp_avg_sq": entry["exp_avg_sq"].astype("int8")}, f"exp_avg_sq.*{kinds} or codes .uint8. of shape"
    yield {"exp_avg": np.zeros(3, "float32")}, f"exp_avg'.*{kinds} or codes .uint8. of shape"
    yield {"ema": entry["ema"].astype("uint8")}, f"ema.*{kinds} of shape"
    yield {"compensation": np.zeros(3, "uint16")}, f"compensation.*{kinds} of shape"


def test_bad_states_change_nothing():
    def new():
        return oc.optim.AdamW(half(600), lr=0.1, state_dtype="int8", compensated=True, ema_decay=0.5, seed=4)

    opt = new()
    opt.step(half(600))
    good, before = opt.state_dict(), all_bytes(opt)
    for changes, message in bad_states(good):
        with pytest.raises(ValueError, match=message):
            opt.load_state_dict({**good, "state": {0: {**good["state"][0], **changes}}})
        assert all_bytes(opt) == before
    for seed in (-1, 2**64, 1.5, True, "x"):
        with pytest.raises((TypeError, ValueError), match=r"^state\['seed'\]: expected an integer"):
            opt.load_state_dict({**good, "seed": seed})
    assert all_bytes(opt) == before


@rules
def test_options_of_storage_are_keywords_of_every_rule(case):
    for name in ("state_dtype", "master_weights", "compensated", "stochastic_rounding", "ema_decay", "uint16_as",
                 "seed"):
        with pytest.raises((TypeError, ValueError), match=name):
            case.rule(case.full(4, dtype="float32"), **{name: "nonsense"})
