"""Wrappers of half-precision parameters: as over float32 where there are masters, else written out in NumPy."""

import ml_dtypes
import numpy as np
import pytest
from wrapper_cases import LARGE, WRAPPERS, bits

import optcore as oc

BF16 = ml_dtypes.bfloat16
KINDS = {"bfloat16": BF16, "float16": np.float16, "uint16": BF16}     # uint16: bfloat16 without its dtype

kinds = pytest.mark.parametrize("kind", KINDS)


def as_given(values, kind):
    """Half-precision numbers as a user has them."""
    half = values.astype(KINDS[kind])
    return half.view(np.uint16) if kind == "uint16" else half


def numbers(a, kind):
    return (a.view(BF16) if kind == "uint16" else a).astype("float32")


def problem(kind, n=300, steps=8, seed=5):
    rng = np.random.default_rng(seed)
    return as_given(rng.standard_normal(n), kind), [as_given(rng.standard_normal(n), kind) for _ in range(steps)]


def rule(theta, kind, **options):
    """With `lr` large enough for every step to move half-precision numbers."""
    return oc.optim.Adam(theta, lr=0.05, uint16_as="bfloat16" if kind == "uint16" else None, **options)


def walk(opt, g):
    opt.step(g) if opt._takes_arrays else opt.step(lambda: g)


@kinds
@pytest.mark.parametrize("name", WRAPPERS)
def test_over_masters_a_wrapper_does_what_it_does_over_float32(name, kind):
    theta, grads = problem(kind)
    wide = numbers(theta, kind)
    opt, twin = WRAPPERS[name](rule(theta, kind, master_weights=True)), WRAPPERS[name](rule(wide, kind))
    for g in grads:
        walk(opt, g)
        walk(twin, numbers(g, kind))
    assert bits(opt._rule.state_dict()["state"][0]["master"]) == bits(wide)
    assert bits(theta) == bits(as_given(wide, kind)), "the parameter is the master, rounded"
    for mine, others in ((opt, twin), (opt.opt, twin.opt)):
        if isinstance(mine, oc.optim.EMA):
            assert bits(mine.average["params"]) == bits(others.average["params"])
            with mine.applied():
                assert bits(theta) == bits(as_given(others.average["params"], kind))
            assert bits(theta) == bits(as_given(wide, kind))


@kinds
@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("options", [{}, {"master_weights": True}])
def test_continues_from_a_checkpoint_bit_for_bit(name, kind, options, tmp_path):
    first, grads = problem(kind)
    whole, second = first.copy(), first.copy()
    one, two, three = (WRAPPERS[name](rule(theta, kind, **options)) for theta in (whole, first, second))
    for g in grads:
        walk(one, g)
    for g in grads[:5]:
        walk(two, g)
    oc.checkpoint.save(tmp_path / "c.safetensors", {"opt": two.state_dict(), "bits": first.view("uint16")})
    saved = oc.checkpoint.load(tmp_path / "c.safetensors")
    walk(three, grads[0])
    second.view("uint16")[...] = saved["bits"]
    three.load_state_dict(saved["opt"])
    for g in grads[5:]:
        walk(three, g)
    assert bits([second.view("uint16"), three.state_dict()]) == bits([whole.view("uint16"), one.state_dict()])


@kinds
def test_the_mean_of_gradients_is_one_of_float32(kind):
    theta, grads = problem(kind, steps=3)
    twin = theta.copy()
    opt, plain = oc.optim.MultiSteps(rule(theta, kind), 3), rule(twin, kind)
    for g in grads:
        opt.step(g)
    a, b, c = (numbers(g, kind) for g in grads)
    plain.step(((a + b) + c) / np.float32(3))
    assert bits(theta) == bits(twin)


@kinds
def test_lookahead_keeps_slow_weights_in_float32(kind):
    theta, grads = problem(kind, LARGE, steps=6)
    fast, slow = theta.copy(), numbers(theta, kind)
    opt, plain = oc.optim.Lookahead(rule(theta, kind), k=2, alpha=0.3), rule(fast, kind)
    for step, g in enumerate(grads, 1):
        opt.step(g)
        plain.step(g)
        if step % 2 == 0:
            slow += np.float32(0.3) * (numbers(fast, kind) - slow)
            fast[...] = as_given(slow, kind)
        assert bits(theta) == bits(fast), step
    assert bits(opt.state_dict()["slow"][0]) == bits(slow)


@kinds
@pytest.mark.parametrize("over_rule", [True, False])
def test_an_average_moves_by_less_than_half_precision_shows(kind, over_rule):
    theta, grads = problem(kind, LARGE, steps=20)
    inner = rule(theta, kind)
    opt = oc.optim.EMA(inner, 0.99) if over_rule else oc.optim.EMA(
        theta, 0.99, uint16_as="bfloat16" if kind == "uint16" else None)
    average = None
    for g in grads:
        if over_rule:
            opt.step(g)
        else:
            inner.step(g)
            opt.update()
        x = numbers(theta, kind).astype("float64")
        average = x if average is None else average + 0.01 * (x - average)
    # twenty updates, three float32 roundings each, of numbers up to 6
    assert np.abs(opt.average["params"] - average).max() <= 60 * 2.0**-24 * 6
    assert np.any(as_given(average, kind) != theta)
    before, held = bits(theta), bits(np.array(opt.average["params"]))
    with opt.applied():
        assert bits(theta) == bits(as_given(opt.average["params"], kind))
        theta.view("uint16")[:3] = 0
    assert (bits(theta), bits(np.array(opt.average["params"]))) == (before, held)


@kinds
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("options", [{}, {"master_weights": True}])
def test_sam_moves_to_the_rounded_point_and_back_to_the_very_bits(kind, adaptive, options):
    theta, (g, second) = problem(kind, LARGE, steps=2)
    before, twin = bits(theta), theta.copy()
    opt, plain = oc.optim.SAM(rule(theta, kind, **options), 30.0, adaptive), rule(twin, kind, **options)
    opt.first_step(g)
    x, dx = numbers(twin, kind).astype("float64"), numbers(g, kind).astype("float64")
    scale = 30.0 / np.linalg.norm(x * dx if adaptive else dx)
    exact = x + scale * dx * (x**2 if adaptive else 1)
    # rounded to float32, then to half precision: half a spacing and a little, relative; float16 has an absolute one too
    rounding = {"float16": 2.0**-11}.get(kind, 2.0**-8)
    assert np.all(np.abs(numbers(theta, kind) - exact) <= 1.001 * rounding * np.abs(exact) + 2.0**-25)
    assert np.count_nonzero(theta != twin) > LARGE / 2
    opt.restore()
    assert bits(theta) == before
    opt.first_step(g)
    opt.second_step(second)
    plain.step(second)
    assert bits(theta) == bits(twin)


def test_a_rule_of_whole_layers_under_lookahead():
    rng = np.random.default_rng(8)
    theta = rng.standard_normal((20, 30)).astype(BF16)
    wide = theta.astype("float32")
    opt = oc.optim.Lookahead(oc.optim.LAMB([theta], lr=0.1, master_weights=True), k=2)
    twin = oc.optim.Lookahead(oc.optim.LAMB([wide], lr=0.1), k=2)
    for _ in range(4):
        g = rng.standard_normal((20, 30)).astype("float32")
        opt.step([g])
        twin.step([g])
    assert np.array_equal(theta, wide.astype(BF16))


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("theta", [np.ones(()), np.ones((0, 3)), np.ones(1)])
def test_arrays_without_dimensions_or_elements(name, theta):
    half = theta.astype(BF16)
    opt = WRAPPERS[name](oc.optim.SGD([half], lr=0.5))
    for _ in range(12):
        walk(opt, [np.ones_like(half)])
    assert half.shape == theta.shape
    assert not np.any(half == 1)


@pytest.mark.parametrize("name", WRAPPERS)
def test_uint16_gradients_of_float32_parameters(name):
    theta, twin = np.ones(5, "float32"), np.ones(5, "float32")
    opt = WRAPPERS[name](oc.optim.SGD(theta, lr=0.25, uint16_as="float16", nonfinite="raise"))
    other = WRAPPERS[name](oc.optim.SGD(twin, lr=0.25, nonfinite="raise"))
    g = np.array([1, -2, 0.5, 3, 0.1], "float16")
    for _ in range(6):
        walk(opt, g.view("uint16"))
        walk(other, g)
    assert bits(theta) == bits(twin)
    with pytest.raises(FloatingPointError, match="gradient of params: expected finite"):
        walk(opt, np.array([1, np.inf, 1, 1, 1], "float16").view("uint16"))


def test_uint16_without_a_word_is_refused():
    for build in (oc.optim.EMA, lambda a: oc.optim.EMA(oc.optim.SGD(a))):
        with pytest.raises(TypeError, match=r"^params: expected dtype .*uint16_as"):
            build(np.zeros(3, "uint16"))
    opt = oc.optim.MultiSteps(oc.optim.SGD(np.zeros(3, "float32")), 2)
    with pytest.raises(TypeError, match=r"^gradient of params: expected dtype .*uint16_as"):
        opt.step(np.zeros(3, "uint16"))
    with pytest.raises(ValueError, match=r"^uint16_as: expected None over a rule"):
        oc.optim.EMA(oc.optim.SGD(np.zeros(3)), uint16_as="bfloat16")
