"""A step over many or long tensors: several threads look at them, memory is asked ahead, pieces change hands."""

import sys
import threading

import numpy as np
import pytest

import optcore as oc


@pytest.mark.parametrize("at", [0, 149, 150, 299])
@pytest.mark.parametrize(("change", "message"), [
    (lambda p, g, i: p[i].resize(100, refcheck=False), "given at construction"),
    (lambda p, g, i: setattr(p[i].flags, "writeable", False), "given at construction"),
    (lambda p, g, i: g[i].resize(299, refcheck=False), r"shape .*got \(299,\)"),
    (lambda p, g, i: g.__setitem__(i, g[i].astype(int)), "got int64"),
    (lambda p, g, i: g.__setitem__(i, p[i]), "overlaps"),
])
def test_one_bad_array_among_many(at, change, message):
    """They are looked at by several threads."""
    p, g = ([np.full(300, value, "float32") for _ in range(300)] for value in (1, 2))
    opt = oc.optim.AdamW(p, lr=0.1)
    with oc.threads(3):
        opt.step(g)
        opt.step(g)  # as before
        change(p, g, at)
        before = [x.tobytes() for x in p]
        with pytest.raises((TypeError, ValueError), match=message) as raised:
            opt.step(g)
    assert f"params[{at}]" in str(raised.value)
    assert [x.tobytes() for x in p] == before
    assert opt.steps == 2


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop"])
@pytest.mark.parametrize("dtype", [None, "bfloat16", "int8"])
def test_bits_do_not_follow_how_many_tensors_there_are(name, dtype):
    """Memory is asked ahead for many."""
    rng = np.random.default_rng(21)
    sizes = [1001] * 800
    arrays = [[rng.standard_normal(n, dtype="float32") for n in sizes] for _ in range(2)]
    options = {"momentum": 0.9} if name == "SGD" else {}
    ends = []
    for count in (800, 40):
        p, g = [x.copy() for x in arrays[0][:count]], arrays[1][:count]
        opt = getattr(oc.optim, name)(p, lr=0.1, state_dtype=dtype, **options)
        for _ in range(3):
            opt.step(g)
        ends.append([x.tobytes() for x in p[:40]])
    assert ends[0] == ends[1]


def test_a_list_that_a_schedule_empties_during_the_step():
    """Gradients of many tensors, known from the last step, are not held where no Python can run; here it can."""
    p, expected = [[np.ones(1000, "float32") for _ in range(300)] for _ in range(2)]
    grads, in_their_place = [], []

    def emptied(step):
        grads.clear()
        in_their_place.extend(np.full(1000, np.nan, "float32") for _ in range(300))
        return 0.5

    opt = oc.optim.SGD(p, lr=0.5)
    grads += [np.full(1000, k, "float32") for k in range(300)]
    for lr in (0.5, 0.5, emptied):
        opt.param_groups[0]["lr"] = lr
        with oc.threads(2):
            opt.step(grads)
        for k, x in enumerate(expected):
            x -= 0.5 * k
    assert all(np.array_equal(a, b) for a, b in zip(p, expected, strict=True))


@pytest.mark.parametrize("threads", [2, 3, 5, 70])
def test_every_piece_is_done_once(threads):
    """Threads take pieces from each other: 70 on fewer cores what late ones have left; some have no share."""
    rng = np.random.default_rng(22)
    sizes = [3_000_001, 0, 1, 500_000, *[1001] * 1500, 257, 1_200_000]
    start, g = [[rng.standard_normal(n, dtype="float32") for n in sizes] for _ in range(2)]
    g[3] = None
    ends = []
    for count in (1, threads):
        p = [x.copy() for x in start]
        opt = oc.optim.SGD(p, lr=0.1, clip_norm=1.0)
        with oc.threads(count):
            for _ in range(3):
                opt.step(g)
        ends.append((opt.last_grad_norm, [x.tobytes() for x in p]))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(("name", "options"), [
    ("SGD", {"momentum": 0.9}), ("AdamW", {}), ("NAdam", {}), ("ASGD", {"t0": 1}), ("LAMB", {}),
    ("Adam", {"state_dtype": "int8"}),
])
def test_each_tensor_has_its_own_history(name, options):
    """Neighbours share coefficients as long as their histories are alike, whoever gets no gradient when, whoever comes
    later; an optimizer that moves one tensor alone cannot share."""
    rng = np.random.default_rng(23)
    start, g = (rng.standard_normal((6, 40)).astype("float32") for _ in range(2))
    given = [{0, 1, 2}, {0, 1, 2}, {0, 2}, {0, 2}, {0, 1, 2}, {1}, {*range(6)}, {*range(6)}, {5}, {0, 3, 4}]
    rule = getattr(oc.optim, name)
    together, apart = start.copy(), start.copy()
    opt = rule(list(together[:3]), lr=0.1, seed=3, **options)
    unmoved = [[np.empty(1, "float32") for _ in range(i)] for i in range(6)]  # rounding depends on the place
    alone = [rule([*unmoved[i], p], lr=0.1, seed=3, **options) for i, p in enumerate(apart)]
    for step, those in enumerate(given):
        if step == 6:
            opt.add_param_group({"params": list(together[3:]), "lr": 0.2})
            for other in alone[3:]:
                other.param_groups[0]["lr"] = 0.2
        opt.step([g[i] if i in those else None for i in range(3 if step < 6 else 6)])
        for i in those:
            alone[i].step([None] * i + [g[i]])
        if step in (3, 8):
            saved, here = opt.state_dict(), together.copy()
            opt.step(list(g[:len(saved["state"])]))
            together[...] = here
            opt.load_state_dict(saved)  # back before that step
            counts = [entry["step"] for entry in saved["state"].values()]
            assert counts == [sum(i in before for before in given[:step + 1]) for i in range(len(counts))]
    entries = opt.state_dict()["state"]
    assert [entries[i]["step"] for i in range(6)] == [other.steps for other in alone]
    assert together.tobytes() == apart.tobytes()


def test_a_reader_beside_steps_changes_nothing():
    """Whoever saves the state from another thread may find a step half done, but does not disturb it."""
    p = [np.zeros(8, "float32") for _ in range(3000)]
    opt = oc.optim.SGD([{"params": p[i::50], "lr": float(i + 1)} for i in range(50)], lr=1.0)
    grads = [np.ones(8, "float32") for _ in range(3000)]
    done, before = threading.Event(), sys.getswitchinterval()

    def read():
        while not done.is_set():
            opt.state_dict()

    reader = threading.Thread(target=read)
    sys.setswitchinterval(1e-6)
    reader.start()
    try:
        for step in range(200):
            opt.step([grads[0] if step % 2 else None, *grads[1:]])
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(before)
    taken = [opt._get_step(i) for i in range(3000)]
    assert taken == [100] + [200] * 2999
    order = [x for i in range(50) for x in p[i::50]]
    assert [x[0] for x in order] == [-(i // 60 + 1.0) * n for i, n in enumerate(taken)]
