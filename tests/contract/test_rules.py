"""One contract for every rule: against references, over options, sizes, structures; and what a step may never do."""

import importlib.util
import itertools
import re
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from rule_cases import CASES, STEPS, run

import optcore as oc

rules = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@rules
@pytest.mark.parametrize("seed", range(12))
def test_follows_the_paper(case, seed):
    rng = np.random.default_rng(seed)
    options = case.draw(rng)
    p, grads = case.problem(rng, int(rng.integers(1, 300)), "float64")
    got, opt = run(case, p, grads, options)
    wanted, state = case.reference(p, grads, options)
    # 50 steps of about ten roundings each, in the same precision; sizes are about 1.
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11, err_msg=str(options))
    slots = opt.state_dict()["state"][0]
    assert slots.pop("step") == STEPS
    assert set(slots) == set(state)
    for key, value in state.items():
        np.testing.assert_allclose(slots[key], value, rtol=1e-11, atol=1e-12, err_msg=key)


@rules
@pytest.mark.parametrize("seed", range(6))
def test_one_float32_step_against_long_double(case, seed):
    rng = np.random.default_rng(300 + seed)
    options = case.draw(rng)
    p, grads = case.problem(rng, 200, "float32", steps=1)
    got, _ = run(case, p, grads, options)
    wanted, _ = case.reference(p.astype(np.longdouble), [grads[0].astype(np.longdouble)], options)
    scale = np.maximum(np.abs(p), np.abs(wanted)).astype(np.float32)  # an update may cancel p: ulps of the larger
    ulps = np.abs(got - wanted) / np.spacing(scale)
    # lr/sigma reaches 0.1/1e-3 * |g|: a rounding of the update then weighs as much as its size against p.
    # An element of a matrix product is a sum that may cancel: its error is in ulps of the largest update.
    moved = np.abs(wanted - p)
    size = np.maximum(1, (np.max(moved) if case.products else moved) / np.abs(scale))
    assert np.max(ulps / size) <= case.one_step_ulp, options


@rules
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sizes_splits_and_structures_give_the_same_bits(case, dtype):
    """An array's result depends on nothing but its own history, not on neighbours, container or group; nor does an
    element's, unless the rule is layerwise: then not on length either."""
    rng = np.random.default_rng(5)
    options = case.draw(rng)
    p, grads = rng.standard_normal(301).astype(dtype), [rng.standard_normal(301).astype(dtype) for _ in range(3)]
    cuts = [0, 0, 1, 3, 10, 64, 65, 200, 301]

    def cut(x):
        return [case.shaped(x[a:b].copy()) for a, b in itertools.pairwise(cuts)]

    pieces, parts = cut(p), list(zip(*map(cut, grads), strict=True))
    alone = b"".join(run(case, x, g, options)[0].tobytes() for x, g in zip(pieces, parts, strict=True))
    if not case.layerwise:
        assert run(case, p, grads, options)[0].tobytes() == alone
    forms = {
        "list": ([x.copy() for x in pieces], lambda g: g),
        "tuple": (tuple(x.copy() for x in pieces), tuple),
        "mapping": ({f"w{i}": x.copy() for i, x in enumerate(pieces)},
                    lambda g: {f"w{i}": x for i, x in reversed(list(enumerate(g)))}),
        "groups": ([{"params": [x.copy() for x in pieces[:3]]}, {"params": [x.copy() for x in pieces[3:]]}],
                   lambda g: g),
    }
    for name, (params, wrap) in forms.items():
        opt = case.rule(params, **options)
        for g in grads:
            case.step(opt, wrap(cut(g)))
        assert b"".join(x.tobytes() for group in opt.param_groups for x in group["params"]) == alone, name


@rules
def test_shapes(case):
    rng, options = np.random.default_rng(4), {"lr": 0.1}
    for shape in case.shapes:
        p, g = (np.asarray(rng.standard_normal(shape)) for _ in range(2))
        got, flat = p.copy(), p.flatten()
        case.rule(got, **options).step(g)
        if case.layerwise:
            wanted, _ = case.reference(p, [g], options)
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)  # some hundred roundings of sizes about 1
        else:
            case.rule(flat, **options).step(g.flatten())
            assert got.tobytes() == flat.tobytes()


@rules
def test_none_skips_and_zero_does_not(case):
    rng = np.random.default_rng(7)
    options = {**case.draw(rng), "lr": 0.1}
    if "momentum" in options:
        options["momentum"] = 0.9
    a, b = case.normal(rng, 50), case.normal(rng, 50)
    a0, b0 = a.copy(), b.copy()
    opt = case.rule([a, b], **options)
    g = [case.normal(rng, 50) for _ in range(4)]
    case.step(opt, [g[0], None])
    assert b.tobytes() == b0.tobytes()
    assert opt.state_dict()["state"][1]["step"] == 0
    case.step(opt, [g[1], g[2]])
    alone = b0.copy()
    case.step(case.rule(alone, **options), g[2])
    assert b.tobytes() == alone.tobytes(), "a skipped parameter starts with its own first step"
    before = a.copy()
    case.step(opt, [case.full(50, 0.0), None])
    wanted, _ = case.reference(a0, [g[0], g[1], case.full(50, 0.0)], options)
    np.testing.assert_allclose(a, wanted, rtol=1e-12, atol=1e-12)
    if options.get("momentum") or "betas" in options:
        assert not np.array_equal(a, before)


@rules
def test_maximize_is_the_negated_gradient(case):
    rng = np.random.default_rng(8)
    options = {**case.draw(rng), "maximize": False}
    p, grads = case.problem(rng, 100, "float32", steps=5)
    down, _ = run(case, p, [-g for g in grads], options)
    up, _ = run(case, p, grads, {**options, "maximize": True})
    assert up.tobytes() == down.tobytes()


@rules
def test_groups_have_options_of_their_own(case):
    rng = np.random.default_rng(9)
    a, b, ga, gb = (case.normal(rng, n) for n in (40, 30, 40, 30))
    alone = [a.copy(), b.copy()]
    own = case.known(lr=0.5, weight_decay=0.3)
    opt = case.rule([{"params": a}, {"params": [b], **own}], lr=0.1)
    other = [case.rule(alone[0], lr=0.1), case.rule(alone[1], **own)]
    for _ in range(3):
        opt.step([ga, gb])
        other[0].step(ga)
        other[1].step(gb)
    opt.param_groups[1]["lr"] = 0.25  # changed between steps
    other[1].param_groups[0]["lr"] = 0.25
    opt.step([ga, gb])
    other[0].step(ga)
    other[1].step(gb)
    assert a.tobytes() == alone[0].tobytes()
    assert b.tobytes() == alone[1].tobytes()
    c = case.full(3)
    opt.add_param_group({"params": {"late": c}, "lr": 1.0})
    opt.step([None, None, case.full(3)])
    assert not np.array_equal(c, case.full(3))


@rules
def test_schedules_are_read_before_each_step(case):
    rng = np.random.default_rng(10)
    p, grads = case.problem(rng, 20, "float64", steps=5)
    rates, seen = [0.5, 0.4, 0.3, 0.2, 0.1, 0.05], []

    def schedule(step):
        seen.append(step)
        return rates[step]

    q, by_hand = p.copy(), p.copy()
    opt, manual = case.rule(q, lr=schedule), case.rule(by_hand, lr=rates[0])
    for k, g in enumerate(grads):
        opt.step(g)
        manual.param_groups[0]["lr"] = rates[k]
        manual.step(g)
    assert q.tobytes() == by_hand.tobytes()
    assert sorted(set(seen)) == [0, 1, 2, 3, 4]
    assert opt.state_dict()["param_groups"][0]["lr"] == rates[5]


@rules
def test_state_round_trip_continues_with_the_same_bits(case):
    rng = np.random.default_rng(11)
    options = case.draw(rng)
    p, grads = case.problem(rng, 77, "float32")
    whole, opt = run(case, p, grads, options)
    half, first = run(case, p, grads[:25], options)
    state = first.state_dict()
    kept = {k: np.array(v, copy=True) for k, v in state["state"][0].items()}
    second = case.rule(half, lr=123.0)
    second.load_state_dict(state)
    for g in grads[25:]:
        case.step(second, g)
    assert half.tobytes() == whole.tobytes()
    for key, value in kept.items():
        assert np.array_equal(state["state"][0][key], value), "a state dict is a snapshot"
    for key, value in opt.state_dict()["state"][0].items():
        assert np.array_equal(second.state_dict()["state"][0][key], value)


@rules
def test_a_checkpoint_continues_with_the_same_bits(case, tmp_path):
    rng = np.random.default_rng(18)
    options = case.draw(rng)
    p, grads = case.problem(rng, 33, "float32", steps=6)
    whole, _ = run(case, p, grads, options)
    half, first = run(case, p, grads[:3], options)
    oc.checkpoint.save(tmp_path / "state.safetensors", first.state_dict())
    second = case.rule(half)
    second.load_state_dict(oc.checkpoint.load(tmp_path / "state.safetensors"))
    for g in grads[3:]:
        case.step(second, g)
    assert half.tobytes() == whole.tobytes()


def digest(opt):
    state = opt.state_dict()
    arrays = [a for g in opt.param_groups for a in g["params"]]
    arrays += [np.asarray(v) for i in sorted(state["state"]) for v in state["state"][i].values()]
    return [a.tobytes() for a in arrays], state["step"], repr(state["param_groups"])


def bad_gradients(case):
    """(what is wrong, gradients of two parameters of 4 elements, error, message)."""
    good = case.full(4, dtype="float32")
    strided = np.ones(8, "float32")[::2]
    odd = np.frombuffer(b"\0" * 17, dtype=np.uint8)[1:].view("float32")
    shape = re.escape(str(good.shape))
    yield "dtype", [good, case.full(4, 1, complex)], TypeError, r"gradient of params\[1\]: expected .*got complex128"
    yield "integers", [good, case.full(4, 1, int)], TypeError, "dtype float32, float64, bfloat16 or float16, got int64"
    yield "bare bits", [good, case.full(4, 1, "uint16")], TypeError, 'or uint16, with uint16_as="bfloat16"'
    yield "byte order", [good, case.full(4, dtype=">f4")], TypeError, "native byte order"
    yield "list", [good, [1.0] * 4], TypeError, "expected a NumPy array, got list"
    yield "shape", [good, np.ones(5, "float32")], ValueError, rf"shape .*{shape}, got \(5,\)"
    yield "rank", [good, np.ones((4, 1, 1), "float32")], ValueError, rf"{shape}, got \(4, 1, 1\)"
    yield "strided", [good, case.shaped(strided)], ValueError, "C-contiguous"
    yield "unaligned", [good, case.shaped(odd)], ValueError, "aligned"
    yield "too few", [good], ValueError, "expected 2 gradients"
    yield "too many", [good] * 3, ValueError, "expected 2 gradients"
    yield "not a sequence", good, TypeError, "expected a sequence or mapping"
    yield "names", {"a": good, "b": good}, ValueError, "expected the names"


@rules
@pytest.mark.parametrize("what", [b[0] for b in bad_gradients(CASES["sgd"])])
def test_bad_gradients_change_nothing(case, what):
    _, grads, error, message = next(b for b in bad_gradients(case) if b[0] == what)
    good = case.full(4, dtype="float32")
    opt = case.rule([good.copy(), good.copy()], lr=0.1)
    opt.step([good] * 2)
    before = digest(opt)
    with pytest.raises(error, match=message):
        opt.step(grads)
    assert digest(opt) == before
    good.flags.writeable = False
    opt.step([good, good])  # a read-only gradient is fine: it is only read


def test_a_refused_gradient_leaves_options_unread():
    """One that is switched on takes a state array and begins to count anew; a failed step may leave neither behind."""
    opt = oc.optim.SGD(np.ones(600, "float32"), lr=0.1)
    for _ in range(5):
        opt.step(np.ones(600, "float32"))
    opt.param_groups[0]["momentum"] = 0.9
    before = digest(opt)
    with pytest.raises(ValueError, match="shape"):
        opt.step(np.ones(3, "float32"))
    assert digest(opt) == before
    assert opt.state_dict()["state"][0] == {"step": 5}


@rules
def test_overlaps_are_refused(case):
    memory = np.ones(20, "float32")
    with pytest.raises(ValueError, match=r"params\[1\] overlaps params\[0\]"):
        case.rule([case.shaped(memory[:10]), case.shaped(memory[5:15])])
    halves = [case.shaped(memory[:10]), case.shaped(memory[10:])]
    opt = case.rule(halves)
    shared = case.full(10, dtype="float32")
    for bad in (halves, [shared, case.shaped(memory[3:13])]):
        before = digest(opt)
        with pytest.raises(ValueError, match="overlaps"):
            opt.step(bad)
        assert digest(opt) == before
    opt.step([shared, shared])  # gradients may share memory with each other
    opt.add_param_group({"params": shared})
    before = digest(opt)
    with pytest.raises(ValueError, match="overlaps"):  # what was a gradient is a parameter now
        opt.step([shared, None, None])
    assert digest(opt) == before


@rules
def test_bad_parameters_are_refused(case):
    readonly = np.ones(4)
    readonly.flags.writeable = False
    for bad, error in [(np.ones(4, int), TypeError), ([1.0, 2.0], TypeError), (np.ones(8)[::2], ValueError),
                       (readonly, ValueError), (np.asfortranarray(np.ones((3, 2))), ValueError),
                       (np.ones(3, ">f8"), TypeError)]:
        with pytest.raises(error, match="params"):
            case.rule(bad)
    opt = case.rule(case.full(3))
    opt.step(case.full(3))
    before = digest(opt)
    with pytest.raises(ValueError, match="expected a C-contiguous array"):
        opt.add_param_group({"params": [case.full(2), np.ones(8)[::2]]})
    with pytest.raises(ValueError, match="expected options of"):
        opt.add_param_group({"params": case.full(2), "learning_rate": 0.1})
    assert digest(opt) == before
    opt.step(case.full(3))


@rules
@pytest.mark.parametrize(("option", "value", "error"), [
    ("lr", -1.0, ValueError), ("lr", float("nan"), ValueError), ("lr", float("inf"), ValueError),
    ("lr", "fast", TypeError), ("weight_decay", -0.1, ValueError), ("eps", -1e-8, ValueError),
    ("betas", (0.9, 1.0), ValueError), ("betas", 0.9, TypeError), ("alpha", -0.5, ValueError),
    ("momentum", -0.9, ValueError), ("maximize", "no", TypeError), ("lr", lambda step: -1.0, ValueError),
    ("rho", -0.1, ValueError), ("etas", (0.5, 0.9), ValueError), ("etas", (0.0, 1.2), ValueError),
    ("step_sizes", (1.0, 0.5), ValueError), ("step_sizes", 1.0, TypeError), ("lambd", -1.0, ValueError),
    ("t0", "soon", TypeError), ("momentum_decay", -1.0, ValueError), ("alpha_warmup", 2.5, TypeError),
    ("beta3_warmup", -1, ValueError), ("warmup_steps", None, TypeError), ("r", -1.0, ValueError),
    ("weight_lr_power", float("inf"), ValueError), ("trust_coefficient", -1.0, ValueError), ("d", 0.5, ValueError),
    ("beta2_decay", 0.1, ValueError), ("beta2_decay", float("-inf"), ValueError), ("ns_steps", 100, ValueError),
    ("ns_steps", 2.5, TypeError), ("ns_coefficients", (1.0, 2.0), ValueError), ("ns_coefficients", 3.0, TypeError),
    ("adjust_lr_fn", "rms", ValueError), ("adjust_lr_fn", 1, TypeError), ("bias_correction", "no", TypeError),
    ("nesterov", 2, TypeError)])
def test_bad_options_change_nothing(case, option, value, error):
    if option not in case.rule.rule.options or option in case.own:
        return
    with pytest.raises(error, match=option):
        case.rule(case.full(3), **{option: value})
    a, b = case.full(3), case.full(3)
    opt = case.rule([{"params": a}, {"params": b}], lr=0.1)
    opt.step([a + 1, b + 1])
    opt.param_groups[1][option] = value
    before = a.tobytes(), b.tobytes()
    with pytest.raises(error, match=option):
        opt.step([a + 1, b + 1])
    assert (a.tobytes(), b.tobytes()) == before, "the first group must wait for the second"


def bad_states(good):
    """(what is wrong, state, error, message) from a good state of two parameters."""
    def entry(**changes):
        return {**good, "state": {**good["state"], 1: {**good["state"][1], **changes}}}

    yield "no dict", [], TypeError, "expected a dict with 'state'"
    yield "keys of JSON", {**good, "state": {"0": good["state"][0], "1": good["state"][1]}}, ValueError, "got .'0'"
    yield "strangers", {**good, "state": {**good["state"], 7: {}}}, ValueError, "expected entries of the parameters"
    yield "no entry", {**good, "state": {0: 3}}, TypeError, "expected a dict"
    for bad in (-5, 2**63 - 1, 2**70, 1.5, "x", None, float("nan")):
        yield f"step {bad}", entry(step=bad), (TypeError, ValueError), r"state\[1\]\['step'\]: expected a"
        yield f"steps {bad}", {**good, "step": bad}, (TypeError, ValueError), r"state\['step'\]: expected a"
    for key, value in good["state"][1].items():
        if isinstance(value, np.ndarray):
            yield f"{key} of another shape", entry(**{key: np.ones(5)}), ValueError, key
            yield f"{key} of a dtype that keeps no state", entry(**{key: value.astype("int64")}), ValueError, key
    yield "a rate below 0", {**good, "param_groups": [{**good["param_groups"][0], "lr": -1.0}]}, ValueError, "lr"


@rules
def test_bad_states_change_nothing(case):
    opt = case.rule([case.full(3), case.full(4)], lr=0.1)
    opt.step([case.full(3), case.full(4)])
    before = digest(opt)
    with pytest.raises(ValueError, match="groups of"):
        opt.load_state_dict(case.rule(case.full(3)).state_dict())
    for what, state, error, message in bad_states(opt.state_dict()):
        with pytest.raises(error, match=message):
            opt.load_state_dict(state)
        assert digest(opt) == before, what
    for slot in case.rule.rule.slots:
        partial = opt.state_dict()
        if slot.key in partial["state"][1] and slot.when is None and not slot.restarts:
            del partial["state"][1][slot.key]
            with pytest.raises(ValueError, match=slot.key):
                opt.load_state_dict(partial)
            assert digest(opt) == before


def test_a_state_whose_options_do_not_fit_together_changes_nothing():
    opt = oc.optim.SGD(np.ones(3), lr=0.1, momentum=0.9)
    opt.step(np.ones(3))
    before, state = digest(opt), opt.state_dict()
    state["param_groups"][0].update(nesterov=True, momentum=0.0)
    with pytest.raises(ValueError, match="nesterov"):
        opt.load_state_dict(state)
    assert digest(opt) == before


@rules
def test_groups_changed_by_hand_are_refused(case):
    a = case.full(3)
    for change in (list.clear, lambda groups: groups.append({"params": []})):
        opt = case.rule(a.copy(), lr=0.1)
        change(opt.param_groups)
        with pytest.raises(ValueError, match="param_groups: expected 1 groups"):
            opt.step(a)
    opt = case.rule(a.copy(), lr=0.1)
    opt.param_groups = []
    with pytest.raises(ValueError, match="param_groups: expected 1 groups"):
        opt.step(a)


@rules
def test_arrays_put_into_a_group_by_hand_are_refused(case):
    """PyTorch would step them; here the arrays are bound, and leaving the new one out in silence would be worse."""
    a = case.full(3)
    for change in (lambda group: group.update(params=[a.copy()]), lambda group: group["params"].append(a.copy()),
                   lambda group: group["params"].clear(), lambda group: group["params"].__setitem__(0, a.copy())):
        theta = a.copy()
        opt = case.rule(theta, lr=0.1)
        change(opt.param_groups[0])
        with pytest.raises(ValueError, match="param_groups"):
            opt.step(a)
        assert np.array_equal(theta, a)


@rules
def test_an_array_that_changed_under_the_optimizer_is_refused(case):
    for change in (lambda p: p.resize(10, refcheck=False), lambda p: setattr(p, "dtype", np.dtype("float32")),
                   lambda p: setattr(p.flags, "writeable", False)):
        p = case.full(1000)
        opt = case.rule(p, lr=0.1)
        with warnings.catch_warnings():  # NumPy announces that dtype is not to be set
            warnings.simplefilter("ignore", DeprecationWarning)
            change(p)
        with pytest.raises(ValueError, match="given at construction"):
            opt.step(np.ones(p.size, p.dtype))


def test_any_mapping_serves_and_its_keys_are_its_own():
    from types import MappingProxyType

    a, b = np.ones(3), np.ones(3)
    opt = oc.optim.SGD(MappingProxyType({0: a, "w": b}), lr=0.5)
    opt.step(MappingProxyType({"w": np.ones(3), 0: np.zeros(3)}))
    assert np.array_equal(a, np.ones(3))
    assert np.array_equal(b, np.full(3, 0.5))
    with pytest.raises(ValueError, match=r"expected the names \[0, 'w'\], got \['0', 'w'\]"):
        opt.step({"0": a, "w": b})
    assert oc.optim.clip_grad_norm_(MappingProxyType({"w": np.array([3.0, 4.0])}), 1.0) == 5.0


def test_a_change_during_a_step_of_another_thread_is_refused():
    theta = np.zeros(20_000_000, "float32")
    opt = oc.optim.Adam(theta)
    grad = np.ones_like(theta)
    opt.step(grad)
    refused, done = [], threading.Event()

    def step():
        with oc.threads(1):
            for _ in range(5):
                opt.step(grad)
        done.set()

    def change():
        try:
            opt.add_param_group({"params": []})  # harmless between two steps
        except RuntimeError as error:
            refused.append(str(error))

    t = threading.Thread(target=step)
    t.start()
    while not (done.is_set() or refused):
        change()
    t.join()
    assert "at work, in another thread or below this call" in refused[0]


def test_a_finite_gradient_whose_norm_is_beyond_double_is_finite():
    p = np.zeros(2)
    oc.optim.SGD(p, lr=1e-308, nonfinite="raise").step(np.full(2, 1.7e308))
    np.testing.assert_allclose(p, -1.7)


@pytest.mark.parametrize(("kwargs", "error", "message"), [
    ({"clip_norm": "1"}, TypeError, "clip_norm"), ({"clip_norm": -1}, ValueError, "clip_norm"),
    ({"clip_value": 0}, ValueError, "clip_value"), ({"lr": None}, TypeError, "lr"), ({"lr": 1j}, TypeError, "lr"),
    ({"state_dtype": "float8"}, ValueError, "state_dtype"), ({"nonfinite": 3}, TypeError, "nonfinite")])
def test_bad_arguments_are_named_at_construction(kwargs, error, message):
    with pytest.raises(error, match=message):
        oc.optim.AdamW(np.ones(3), **kwargs)
    with pytest.raises(TypeError, match="expected one of its rules"):
        oc.optim.Optimizer(np.ones(3))


@rules
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite(case, dtype, bad):
    p, g = ([case.full(n, dtype=dtype) for n in (100, 30000)] for _ in range(2))
    opt = case.rule(p, lr=0.1, nonfinite="raise")
    opt.step(g)
    before = digest(opt)
    g[1].flat[29999] = bad
    with pytest.raises(FloatingPointError, match=r"params\[1\]"):
        opt.step(g)
    assert digest(opt) == before
    opt.nonfinite = "skip"
    opt.step(g)
    assert digest(opt) == before
    assert opt.skipped_steps == 1
    opt.nonfinite = "propagate"
    opt.step(g)
    if case.sign_only and np.isinf(bad):
        assert np.isfinite(p[1]).all()
    else:
        assert not np.isfinite(p[1].flat[29999]) or not all(
            np.isfinite(v).all() for v in opt.state_dict()["state"][1].values())
    assert np.isfinite(p[0]).all()
    with pytest.raises(ValueError, match="nonfinite"):
        opt.nonfinite = "ignore"


@rules
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_by_norm(case, dtype):
    rng = np.random.default_rng(12)
    p, g = ([case.normal(rng, n, dtype) for n in (3, 20000, 0, 511)] for _ in range(2))
    q = [x.copy() for x in p]
    opt = case.rule(p, lr=0.1, clip_norm=0.5)
    opt.step(g)
    norm = np.sqrt(sum(np.sum(x.astype(np.longdouble) ** 2) for x in g))
    assert opt.last_grad_norm == pytest.approx(float(norm), rel=1e-14)  # double sums of exact squares
    scaled = [x * x.dtype.type(0.5 / (float(norm) + 1e-6)) for x in g]
    case.rule(q, lr=0.1).step(scaled)
    for x, y in zip(p, q, strict=True):
        np.testing.assert_allclose(x, y, rtol=4 * np.finfo(dtype).eps)
    loose = case.rule([x.copy() for x in q], lr=0.1, clip_norm=1e9)
    tight = case.rule([x.copy() for x in q], lr=0.1)
    loose.step(g)
    tight.step(g)
    assert digest(loose)[0] == digest(tight)[0], "a norm below the bound changes no bit"
    assert tight.last_grad_norm is None


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e20), ("float32", 1e-25), ("float32", 1e-45),
                                             ("float64", 1e200), ("float64", 1e-200), ("float64", 5e-324)])
def test_the_norm_neither_overflows_nor_vanishes(dtype, size):
    g = np.full(40000, size, dtype)
    opt = oc.optim.SGD(np.zeros(40000, dtype), lr=0.0, nonfinite="raise")
    opt.step(g)
    assert opt.last_grad_norm == pytest.approx(200 * float(g[0]), rel=1e-13)


@rules
def test_clipping_by_value(case):
    rng = np.random.default_rng(13)
    p, g = case.normal(rng, 100), 3 * case.normal(rng, 100)
    q = p.copy()
    case.rule(p, lr=0.1, clip_value=1.0).step(g)
    case.rule(q, lr=0.1).step(np.clip(g, -1, 1))
    assert p.tobytes() == q.tobytes()
    with pytest.raises(ValueError, match="clip_value"):
        case.rule(p, clip_value=-1.0).step(g)


def test_the_lectures_adagrad_and_rmsprop_step_by_the_sign_first():
    g = np.array([3.0, -1e-6, 0.0, 1e10, -7e-15], "float32")
    for opt in (lambda p: oc.optim.Adagrad(p, lr=0.25, eps=0, average=True),
                lambda p: oc.optim.RMSprop(p, lr=0.25, eps=0, warm_start=True)):
        p = np.zeros(5, "float32")
        opt(p).step(g)
        assert np.array_equal(p, -np.float32(0.25) * np.sign(g))


def test_momentum_is_the_weighted_sum_of_all_past_gradients():
    """The lecture's form m_t = mu*m_{t-1} - eta*g, theta += m."""
    rng = np.random.default_rng(14)
    p, grads = CASES["sgd"].problem(rng, 10, "float64", steps=20)
    theta, m = p.copy(), np.zeros(10)
    for g in grads:
        m = 0.9 * m - 0.1 * g
        theta = theta + m
    opt = oc.optim.SGD(p, lr=0.1, momentum=0.9)
    for g in grads:
        opt.step(g)
    np.testing.assert_allclose(p, theta, rtol=1e-12, atol=1e-12)  # 20 steps of a few roundings


def test_mixed_dtypes_in_one_optimizer():
    a, b = np.ones(5, "float32"), np.ones(5, "float64")
    oc.optim.Adam([a, b], lr=0.1).step([a * 2, b * 2])
    assert a.dtype == np.float32
    np.testing.assert_allclose(a, b, rtol=2.0**-21)  # eight roundings of float32 on the way


def test_bias_corrections_hold_at_large_step_counts():
    p = np.ones(3)
    opt = oc.optim.Adam(p, lr=0.1)
    state = opt.state_dict()
    state["state"][0].update(step=10**9, exp_avg=np.full(3, 2.0), exp_avg_sq=np.full(3, 4.0))
    opt.load_state_dict(state)
    opt.step(np.full(3, 2.0))
    assert opt.state_dict()["state"][0]["step"] == 10**9 + 1
    np.testing.assert_allclose(p, 0.9, rtol=1e-9)  # m/sigma = 1; eps 1e-8 against 2


def test_two_optimizers_in_two_threads():
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(16)
    p, grads = CASES["adamw"].problem(rng, 50_000, "float32", steps=10)

    def train(_):
        return run(CASES["adamw"], p, grads, {"lr": 0.01})[0].tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(train, range(8)))) == 1


def test_every_rule_stands_in_every_suite():
    assert {case.rule.__name__.lower() for case in CASES.values()} == set(oc.optim.names())
    compared = set()
    for name in ("update", "layerwise"):
        path = Path(__file__).parents[1] / "native" / "cases" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"bits_of_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        compared |= set(module.OPTIONS)
    assert compared == set(oc.optim.names())


def test_every_rule_stands_in_the_docs_with_its_m_sigma_and_eta():
    page = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    assert all(len(row) == 4 and all(cell.strip() for cell in row) for row in rows)
    stand = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(stand) == sorted({case.rule.__name__ for case in CASES.values()})


def test_names_and_get():
    for name in oc.optim.names():
        assert oc.optim.get(name).__name__.lower() == name
    with pytest.raises(ValueError, match=r"expected one of .*got 'adamx'"):
        oc.optim.get("adamx")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["AdamW", "RMSprop", "Lion", "Rprop"])
def test_a_part_of_a_vector_is_updated_alone(rule, dtype):
    """Of every length and place in a cache line: as within a longer array, and what lies around it stays."""
    longer, gradient = np.ones(40, dtype), np.linspace(-1, 1, 40).astype(dtype)
    getattr(oc.optim, rule)(longer, lr=0.1).step(gradient)
    for n in range(1, 34):
        for begin in (0, 5, 15):
            around = np.full(64, 7, dtype)
            part = around[begin:begin + n]
            part[:] = 1
            getattr(oc.optim, rule)(part, lr=0.1).step(gradient[:n].copy())
            assert np.array_equal(part, longer[:n])
            assert (around[:begin] == 7).all()
            assert (around[begin + n:] == 7).all()
