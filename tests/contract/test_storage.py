"""How arrays are kept, for every rule: against float64, what may not change a bit, what survives a checkpoint."""

import ml_dtypes
import numpy as np
import pytest
import reference
from rule_cases import CASES

import optcore as oc
from optcore.optim import storage

BF16 = ml_dtypes.bfloat16
DTYPES = {"float32": np.float32, "float64": np.float64, "bfloat16": BF16, "float16": np.float16}
#: Rounding, relative: half the spacing of a format above a power of two; of codes, rounded at random, all of it.
ROUNDING = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8, "float16": 2.0**-11, "int8": 2.0**-3}

rules = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def takes(case, parameter="float32", state=None, master=False, compensated=False):
    """Whether the rule can be kept so."""
    if case.layerwise:
        return not compensated and state is None and (parameter in ("float32", "float64") or master)
    return state != "int8" or (parameter != "float64" and any(s.codes for s in case.rule.rule.slots))


def by_rule(rows, fits):
    """pytest's parameters: every rule with every row that fits it."""
    return [pytest.param(case, row, id=f"{name}-{i}") for name, case in CASES.items() for i, row in enumerate(rows)
            if fits(case, row)]


def gradients(rng, case, n, dtype, steps):
    """Of sizes about 1, each element with a sign that stays: no moving mean cancels."""
    signs = rng.choice([-1.0, 1.0], n)
    return [case.shaped((signs * rng.uniform(0.5, 1.5, n)).astype(DTYPES[dtype])) for _ in range(steps)]


def options_of(case, every=False):
    """What makes the rule move by more than a rounding; with ``every`` also what is off or 0 by default."""
    eps = {} if "eps" in case.own else {"eps": 1e-3}   # float16 holds no 1e-8
    more = {"weight_decay": 0.02, "maximize": True, "amsgrad": True, "centered": True, "nesterov": True}
    return case.known(lr=0.05, momentum=0.9, **eps, **(more if every else {}))


def step(case, opt, g):
    """A step; Sophia's estimates in float64, so that they round as little as the reference's."""
    if hasattr(opt, "update_hessian"):
        opt.update_hessian(reference.sophia_estimate(g.astype("float64")))
    opt.step(g)


def states(opt, i=0):
    return {k: v for k, v in opt.state_dict()["state"][i].items() if isinstance(v, np.ndarray)}


def numbers(opt, key, codes=None):
    """The numbers of a state array, in float64, read as docs/storage.md says."""
    kept = states(opt)
    array = kept[key]
    if array.dtype != np.uint8:
        return (array.view(BF16) if array.dtype == np.uint16 else array).astype("float64")
    size = array.astype(int) & (127 if codes == "signed" else 255)
    top = 15 if codes == "signed" else 31
    size = (1 + size % 8 / 8) * 2.0 ** (size // 8 - top) - 2.0**-top
    sign = np.where(array > 127, -1, 1) if codes == "signed" else 1
    return sign * size * np.repeat(kept[key + "_scale"].astype("float64"), 256)[:array.size].reshape(array.shape)


def all_bytes(opt):
    arrays = [a for g in opt.param_groups for a in g["params"]]
    arrays += [a for i in range(len(arrays)) for a in states(opt, i).values()]
    return [a.tobytes() for a in arrays]


# ------------------------------------------------------------------------------------------------------- accuracy

MIXES = [("float32", "bfloat16", "bfloat16"), ("float32", "float16", "float16"), ("bfloat16", "bfloat16", None),
         ("float16", "float16", None), ("bfloat16", "float32", "float32"), ("float64", "bfloat16", "float32"),
         ("float64", "float32", "bfloat16"), ("float32", "float64", "int8"), ("bfloat16", "float16", "int8"),
         ("float32", "float32", "float64"), ("float16", "bfloat16", "bfloat16")]


@pytest.mark.parametrize("every", [False, True], ids=["", "every option"])
@pytest.mark.parametrize(("case", "mix"), by_rule(MIXES, lambda case, mix: not case.layerwise
                                                  and takes(case, mix[0], mix[2])))
def test_every_mix_follows_the_paper(case, mix, every):
    parameter, gradient, state = mix
    rng, steps, n = np.random.default_rng(31), 2 if state == "int8" else 5, 1544  # three blocks of a step and some more
    p = rng.uniform(0.5, 2, n).astype(DTYPES[parameter])
    grads, options = gradients(rng, case, n, gradient, steps), options_of(case, every)
    got = p.copy()
    opt = case.rule(got, state_dtype=state, **options)
    for g in grads:
        step(case, opt, g)
    wide = [g.astype("float64") for g in grads]
    path = [p.astype("float64")]
    path += [case.reference(path[0], wide[:k + 1], options)[0] for k in range(steps)]
    moved = np.abs(np.diff(path, axis=0)).sum(axis=0)
    kept, largest = ROUNDING[state or parameter], np.abs(path).max(axis=0)
    # A state is a mean of numbers of one sign: its relative error grows by one rounding a step. An update is a product
    # or quotient of two of them or their roots, so it errs by twice as much at most; theta rounds once in each step.
    tolerance = 2 * steps * (kept + 8 * ROUNDING["float32"]) * moved + steps * ROUNDING[parameter] * largest
    if any(s.key == "z" for s in case.rule.rule.slots):  # theta moves towards z, which is of its size
        tolerance += steps * kept * largest
    error = np.abs(got.astype("float64") - path[-1])
    assert np.all(error <= tolerance), (error / tolerance).max()
    assert np.all(moved > 2 * tolerance) or kept + ROUNDING[parameter] > 2.0**-10, "a bound that no error could break"


@rules
@pytest.mark.parametrize(("gradient", "parameter"), [("bfloat16", "float32"), ("float16", "float32"),
                                                     ("float32", "float64"), ("bfloat16", "float64")])
def test_of_a_gradient_only_its_values_count(case, gradient, parameter):
    rng = np.random.default_rng(32)
    p = case.normal(rng, 700, parameter)
    grads = [case.normal(rng, 700, "float32").astype(DTYPES[gradient]) for _ in range(4)]
    a, b = p.copy(), p.copy()
    narrow, wide = (case.rule(x, clip_norm=3.0, **case.known(lr=0.1)) for x in (a, b))
    for g in grads:
        step(case, narrow, g)
        step(case, wide, g.astype(parameter))
    assert a.tobytes() == b.tobytes()
    assert all_bytes(narrow) == all_bytes(wide)
    assert narrow.last_grad_norm == wide.last_grad_norm


# ---------------------------------------------------------------------------------- what stands beside a parameter

@rules
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_follows_the_parameter_changes_no_bit_of_it(case, dtype):
    rng, decay, steps = np.random.default_rng(33), 0.9, 6
    p, grads = case.problem(rng, 1300, dtype, steps)
    plain, followed, bare = p.copy(), p.copy(), p.copy()
    other = np.zeros_like(p, "float16")
    a, c = case.rule(plain, lr=0.05), case.rule(bare, lr=0.05, master_weights=True)
    b = case.rule(followed, lr=0.05, ema_decay=decay)
    b.copy_to(other)
    average, size = p.astype("float64"), 0.0
    for g in grads:
        for opt in (a, b, c):
            case.step(opt, g)
        average = decay * average + (1 - decay) * plain
        size = max(size, np.abs(plain).max(initial=0))
    ema = states(b)["ema"]
    assert plain.tobytes() == followed.tobytes() == bare.tobytes()
    assert all_bytes(a) == all_bytes(c), "a float32 parameter needs no master"
    assert all(v.tobytes() == states(b)[k].tobytes() for k, v in states(a).items())
    assert np.array_equal(other, plain.astype("float32").astype("float16"))
    # Three roundings a step, of numbers of this size.
    np.testing.assert_allclose(ema, average, rtol=0, atol=3 * steps * ROUNDING[dtype] * size)


@rules
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_a_master_trains_as_float32_does(case, kind):
    rng = np.random.default_rng(34)
    half = case.normal(rng, 1100).astype(DTYPES[kind])
    wide = half.astype("float32")
    a, b = case.rule(half, lr=0.01, master_weights=True), case.rule(wide, lr=0.01)
    for _ in range(5):
        g = case.normal(rng, 1100).astype(DTYPES[kind])
        case.step(a, g)
        case.step(b, g)
    kept = states(a)
    assert kept.pop("master").tobytes() == wide.tobytes()
    assert {k: v.tobytes() for k, v in kept.items()} == {k: v.tobytes() for k, v in states(b).items()}
    assert np.array_equal(half, wide.astype(DTYPES[kind]))


@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16", "float16"])
def test_copies_of_every_dtype_are_the_rounded_parameter_until_they_end(kind):
    rng = np.random.default_rng(35)
    params = {"w": rng.standard_normal((30, 41)).astype("float32"), "b": np.asarray(rng.standard_normal(()), "float32")}
    copy = np.zeros((30, 41), DTYPES[kind])
    opt = oc.optim.AdamW(params, lr=0.1)
    opt.copy_to({"w": copy, "b": None})
    opt.step({k: rng.standard_normal(v.shape).astype("float32") for k, v in params.items()} | {"b": None})
    assert np.array_equal(copy, params["w"].astype(DTYPES[kind]))
    opt.copy_to(None)
    before = copy.tobytes()
    opt.step({k: np.ones_like(v) for k, v in params.items()})
    assert copy.tobytes() == before
    bits = np.zeros((30, 41), "uint16")
    named = oc.optim.AdamW(params, uint16_as="bfloat16")
    named.copy_to([bits, None])
    named.step({k: np.ones_like(v) for k, v in params.items()})
    assert np.array_equal(bits.view(BF16), params["w"].astype(BF16))


@pytest.mark.parametrize("rule", [oc.optim.ScheduleFreeSGD, oc.optim.ScheduleFreeAdamW])
@pytest.mark.parametrize("options", [{}, {"master_weights": True}, {"compensated": True}])
def test_eval_and_train_move_what_follows_theta(rule, options):
    rng = np.random.default_rng(36)
    theta = rng.standard_normal(700).astype(BF16)
    exact = theta.astype("float32")
    opt, reference = rule(theta, lr=0.05, state_dtype="float32", **options), rule(exact, lr=0.05)
    copy = np.zeros(700, BF16)
    if not options.get("master_weights"):
        opt.copy_to(copy)
    for _ in range(4):
        g = rng.standard_normal(700).astype(BF16)
        opt.step(g)
        reference.step(g)
    for turn in ("eval", "train"):
        getattr(opt, turn)()
        getattr(reference, turn)()
        # Four steps and two turns round once each, by 2^-8 of a number; with a master or pair it rounds once in all.
        roundings = 1.01 if options else 6
        assert np.all(np.abs(theta.astype("float64") - exact) <= roundings * 2.0**-8 * np.abs(exact).clip(1))
        if not options.get("master_weights"):
            assert np.array_equal(copy, theta), "copies are rounded as theta is"


# ---------------------------------------------------------------------------------------------- small updates add up

def test_compensated_float32_is_as_exact_as_its_pair():
    steps, lr = 100_000, 3e-9
    g = np.full(3, 1 / 3, "float32")
    pair, plain = np.ones(3, "float32"), np.ones(3, "float32")
    a, b = oc.optim.SGD(pair, lr=lr, compensated=True), oc.optim.SGD(plain, lr=lr)
    for _ in range(steps):
        a.step(g)
        b.step(g)
    exact = 1 - steps * lr * float(g[0])
    # Below 1 a float32 keeps up to 2^-25 back, and that is kept to 2^-24 of itself; the sum in double rounds to 2^-54.
    bound = steps * (2.0**-50 + 2.0**-53)
    assert np.all(np.abs(pair.astype("float64") + states(a)["compensation"] - exact) <= bound)
    assert np.all(plain == 1), "each update is less than half a unit in the last place"
    assert bound < 1e-5 * (1 - exact)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_compensated_half_precision_does_not_stand_still(kind):
    steps, lr = 1000, 1e-4
    g, pair, plain = np.ones(300, DTYPES[kind]), np.ones(300, DTYPES[kind]), np.ones(300, DTYPES[kind])
    a, b = oc.optim.SGD(pair, lr=lr, compensated=True), oc.optim.SGD(plain, lr=lr)
    for _ in range(steps):
        a.step(g)
        b.step(g)
    low = states(a)["compensation"].view(DTYPES[kind]).astype("float64")
    unit = ROUNDING[kind] / 2  # half a spacing below 1: what is kept back at most; kept itself to this share of it
    assert np.all(np.abs(pair.astype("float64") + low - (1 - steps * lr)) <= steps * unit * 2 * unit)
    assert np.all(np.abs(low) <= unit)
    assert np.all(plain == 1)


def test_random_rounding_of_parameters_is_right_on_average():
    steps, lr, n = 1000, 1e-4, 4096
    theta, g = np.ones(n, BF16), np.ones(n, BF16)
    opt = oc.optim.SGD(theta, lr=lr, stochastic_rounding=True, seed=3)
    for _ in range(steps):
        opt.step(g)
    # A step of lr is rounded to a whole unit of 2^-8 with the probability lr * 2^8: variance lr * 2^-8 at most; what is
    # below the quantum of 16 random bits, 2^-16 of the unit, may be missed.
    deviation = np.sqrt(steps * lr * 2.0**-8 / n)
    mean = float(np.mean(theta.astype("float64")))
    assert abs(mean - (1 - steps * lr)) <= 4 * deviation + steps * 2.0**-24
    assert 0.5 < np.std(theta.astype("float64")) / np.sqrt(steps * lr * 2.0**-8) < 1.1, "elements do not move together"


def train_at_random(seed, n=1000):
    rng = np.random.default_rng(37)
    theta = rng.standard_normal(n).astype(BF16)
    opt = oc.optim.Adam(theta, lr=1e-3, state_dtype="int8", stochastic_rounding=True, seed=seed)
    for _ in range(5):
        opt.step(rng.standard_normal(n).astype(BF16))
    return all_bytes(opt)


def test_random_rounding_follows_its_seed_alone():
    assert train_at_random(1) == train_at_random(1)
    assert train_at_random(1)[0] != train_at_random(2)[0]


def test_eight_bit_states_do_not_stall():
    """v of Adam at beta2 = 0.999, from 1/2 down to g^2 = 0.01 in 20,000 steps, beside one that sets the scale."""
    n, steps, beta, start, small = 4096, 20_000, 0.999, 0.5, 0.1
    g = np.full(n, small, "float32")
    g[::256] = 1.0
    v = np.where(g == 1, 1, start).astype("float32")
    opt = oc.optim.Adam(np.zeros(n, "float32"), betas=(0.0, beta), state_dtype="int8", seed=1)
    begun = opt.state_dict()
    opt.load_state_dict({**begun, "state": {0: {"step": 1, "exp_avg": np.zeros(n, "float32"), "exp_avg_sq": v}}})
    rest = g != 1
    quantised = start

    def nearest(x):
        codes = (1 + np.arange(8) / 8) * 2.0 ** np.arange(-31, 1)[:, None] - 2.0**-31
        return 2 * codes.flat[np.abs(codes - x / 2).argmin()]  # the scale of a block whose largest is 1 is 2

    for k in range(1, steps + 1):
        opt.step(g)
        if k <= 100:
            quantised = nearest(beta * quantised + (1 - beta) * small**2)
        if k in (100, 1000, steps):
            kept = opt.state_dict()["state"][0]
            got = storage.values(kept["exp_avg_sq"], "unsigned", kept["exp_avg_sq_scale"], "float64")[rest]
            exact = small**2 + (start - small**2) * beta**k
            assert abs(got.mean() - exact) <= 4.5 * got.std() / np.sqrt(got.size), k
            assert 0 < got.std() < 0.35 * exact, "or the mean would say nothing"
    assert abs(quantised - start) < 1e-8, "1/2 is a code, up to the base; rounded to nearest, v never leaves it"
    assert nearest(beta * quantised + (1 - beta) * small**2) == quantised
