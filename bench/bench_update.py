"""Steps of the update rules against PyTorch (fused, foreach), optax, numba, NumPy, and a plain C loop.

GB/s counts what a step has to move (``Work.bytes_each``). "of the loop" is the plain loop's time over optcore's, the
loop running over as many parameters without a call between its steps: what the machine allows. Of one tensor it goes
over optcore's own arrays; of several, over one flat array that begins where optcore's do in a cache line. "aligned" is
the same on arrays that begin a line, "apart" on arrays as many and as small as the tensors. Where gradients are
clipped, it takes their norm by a sum in double, as optcore does.

Where in memory large arrays come to lie decides a tenth of the time. So their sides are made ready several times, and
the ratios are medians over all of these.

Peers run as they come. PyTorch's foreach rules have temporaries, for which the kernel gives fresh pages at every step;
"kept" is PyTorch with an allocator that keeps them (GLIBC_TUNABLES). Where it makes a difference both are shown.

A target is what is to be reached; a floor, beside a higher target, is what has been reached before. Beside a
target that is missed stands what the loop would reach: the limit of this run. Beside a storage stand the share of the
bytes; what it takes to move them, in optcore's own arrays, with an operation each; that of a plain loop over arrays
kept so, with no more than rounding to nearest, of 8 bits to multiples of the largest of 256; and what a step takes in
cache, arithmetic that has to fit into the target whatever memory does.

    python bench/bench_update.py [WORD ...]    # the rows whose title or number of parameters has one of the words;
                                               # "storages" for AdamW in other storages
"""

import importlib.util
import statistics
import sys
from dataclasses import dataclass, field

import harness
import workers
from work import BFLOAT16, BFLOAT16_STATES, FLOAT32, INT8_STATES, Work, resnet50

import optcore as oc

WORKERS = {name: (name, None) for name in ("optcore", "loop", "torch", "optax", "numba", "numpy")}
WORKERS["torch, kept"] = ("torch", workers.PAGES_KEPT)
DEEPSPEED = importlib.util.find_spec("deepspeed") is not None  # no requirement of the bench: install it to see it raced
if DEEPSPEED:
    WORKERS["deepspeed"] = ("deepspeed", None)
FUSED = ("Adam", "AdamW", "SGD", "Adagrad")  # the rules that PyTorch has fused for CPUs
LOOP, ALIGNED, APART = LOOPS = "loop", "aligned", "apart"
CLOSE = ("optcore", *LOOPS, "fused", "fused kept")
# What three steps from the same start may differ by: parameters up to 5 in size, each step rounded to half of
# 4.8e-7 on either side, and the update itself, up to 3e-3, to some 1e-6 of its size.
TOLERANCE = 2e-6
SLOW = 1 << 22  # parameters: from here on a step leaves the caches
PLACEMENTS = 3


@dataclass(frozen=True)
class Row:
    """Work, and what is to be reached: side -> times faster, or share of the loop; ``microseconds`` a step at most."""

    title: str
    work: Work
    targets: dict
    floors: dict = field(default_factory=dict)
    microseconds: float | None = None
    kept: str | None = None  # the side that is shown with kept pages too
    apart: bool = False      # tensors of one size, over which the loop goes too


def flat(rule, size, clip_norm=None):
    return Work(rule, ((size,),), clip_norm)


MANY = ((1000,),) * 1000
ROWS = [
    Row("AdamW", flat("AdamW", 64 << 20), {LOOP: 0.98, "fused": 1.0}, {LOOP: 0.95, "fused": 0.97}),
    *(Row(rule, flat(rule, 64 << 20), {LOOP: 0.98, "fused": 1.0}) for rule in ("Adam", "SGD", "Adagrad")),
    *(Row(rule, flat(rule, 64 << 20), {LOOP: 0.98, "foreach": 6.0}, kept="foreach") for rule in ("RMSprop", "Lion")),
    Row("AdamW", flat("AdamW", 1 << 20), {"fused": 1.8}, {"fused": 1.6}),
    Row("AdamW", flat("AdamW", 1 << 16), {"fused": 6.0}, {"fused": 4.0}),
    Row("AdamW", flat("AdamW", 1000), {"fused": 60.0}, {"fused": 40.0}, microseconds=1.0),
    Row("AdamW, 1,000 tensors", Work("AdamW", MANY), {"fused": 40.0, "deepspeed": 40.0}, {"fused": 25.0}, apart=True),
    Row("AdamW, ResNet-50, 161 tensors", Work("AdamW", resnet50()), {"fused": 1.2}, kept="fused"),
    Row("clip + AdamW, ResNet-50, 161 tensors", Work("AdamW", resnet50(), 1.0), {"fused": 1.5}, kept="fused"),
    Row("clip + AdamW, 1,000 tensors", Work("AdamW", MANY, 1.0), {"fused": 50.0}, apart=True),
]
# Of AdamW at 64 M: the storage, the largest share of the float32 time, the least times PyTorch fused.
STORAGES = [("states bfloat16", BFLOAT16_STATES, 0.73, None), ("all bfloat16", BFLOAT16, 0.55, None),
            ("states 8-bit", INT8_STATES, 0.62, 1.6)]
IN_CACHE = 1 << 13, 1 << 14  # parameters of steps of one thread, whose difference is time of elements alone


def peers(row):
    """Name -> worker and variant of every side beside optcore."""
    one = len(row.work.shapes) == 1
    found = {LOOP: ("optcore", "loop") if one else ("loop", "as NumPy's"), ALIGNED: ("loop", "aligned")}
    if row.apart:
        found[APART] = ("loop", "apart")
    if row.work.rule in FUSED:
        found["fused"] = ("torch", "fused")
    found["foreach"] = ("torch", "foreach")
    if row.kept:
        found[f"{row.kept} kept"] = ("torch, kept", row.kept)
    if DEEPSPEED and "deepspeed" in row.targets:
        found["deepspeed"] = ("deepspeed", None)
    return found | {name: (name, None) for name in ("optax", "numba", "numpy")}


def race(pool, row):
    """Return optcore's seconds a step and every side's ratio to it.

    The close sides have races of their own with more rounds: there a ratio is to be known to a hundredth, and the slow
    ones would take most of the time.
    """
    slow = row.work.size > SLOW
    seconds, rounds = (0.1, [5] * PLACEMENTS) if slow else (0.05, [11])
    every = {"optcore": ("optcore", None)} | peers(row)
    far = placed(pool, row.work, every, 5, seconds)
    close = {name: [] for name in every if name in CLOSE}
    for count in rounds:
        for name, times in placed(pool, row.work, {name: every[name] for name in close}, count, seconds).items():
            close[name] += times
    ratios = {name: harness.ratio(close if name in close else far, name) for name in far if name != "optcore"}
    return harness.median(close, "optcore"), ratios


def placed(pool, work, sides, rounds, seconds):
    """The times of sides (worker and variant by name) on arrays made for this race."""
    with workers.Sides(pool) as ready:
        for name, (worker, variant) in sides.items():
            ready.add(name, worker, work, variant)
        check_agreement(ready.results)
        return ready.race(rounds, seconds)


def check_agreement(results):
    """Every side has to do the same work. The loop, whose parameters lie end to end, shows the first tensor's alone."""
    ours = results["optcore"]
    for name, theirs in results.items():
        if theirs is None:  # it has optcore's arrays
            continue
        both = min(ours.size, theirs.size)
        apart = abs(ours[:both] - theirs[:both]).max()
        if not apart <= TOLERANCE:
            raise AssertionError(f"{name}: its parameters differ from optcore's by {apart:.1e} after "
                                 f"{workers.FIRST_STEPS} steps, more than {TOLERANCE}")


def report(row, seconds, ratios):
    """Print a row; return how many targets and floors it misses."""
    time = f"{seconds * 1e6:9.2f} us"
    missed = 0
    if row.microseconds:
        slow = seconds * 1e6 >= row.microseconds
        missed += slow
        time += f" (target {row.microseconds} us{', MISSED' if slow else ''})"
    shown = {}
    for name, value in ratios.items():
        unit = "" if name in LOOPS else "x"
        shown[name], misses = judged(value, row.targets.get(name), row.floors.get(name), unit)
        if misses and name not in LOOPS:
            limit = ratios[APART] if row.apart else min(ratios[LOOP], ratios[ALIGNED])
            shown[name] += f" where the loop has {value / limit:.2f}x"
        missed += misses
    loops = [f"{shown.pop(name)} {'of the loop' if name == LOOP else name}" for name in LOOPS if name in shown]
    print(f"{row.title}, {row.work.size:,}: {time}, {speed(row.work, seconds)}; {', '.join(loops)}\n    against "
          + ", ".join(f"{name} {value}" for name, value in shown.items()), flush=True)
    return missed


def speed(work, seconds):
    return f"{work.bytes_each * work.size / seconds / 1e9:.1f} GB/s at {work.bytes_each} bytes"


def judged(value, target, floor, unit):
    """A ratio with its target and floor, and how many of them it misses."""
    bounds = {name: bound for name, bound in (("target", target), ("floor", floor)) if bound is not None}
    missed = [name for name, bound in bounds.items() if value < bound]
    said = "; ".join(f"{name} {bound:g}{unit}{', MISSED' if name in missed else ''}" for name, bound in bounds.items())
    return f"{value:.2f}{unit}" + (f" ({said})" if said else ""), len(missed)


def measure_storages(pool):
    """AdamW at 64 M in other storages, as shares of the float32 time of the same run; return the misses."""
    size = 64 << 20
    plain = flat("AdamW", size)
    works = {title: Work("AdamW", ((size,),), storage=storage) for title, storage, *_ in STORAGES}
    with workers.Sides(pool) as sides:
        sides.add("optcore", "optcore", plain)
        sides.add("fused", "torch", plain, "fused")
        sides.add("fused, all bfloat16", "torch", works["all bfloat16"], "fused")
        failed = {title: error for title, work in works.items() if (error := refusal(sides, title, work))}
        for title, work in works.items():
            sides.add(f"loop, {title}", "loop", work, "as NumPy's")
        times = sides.race(9, 0.1)
        cached = {title: in_cache(sides, storage) for title, storage, *_ in STORAGES if title not in failed}
        plain_cached = in_cache(sides, FLOAT32)
    print(f"AdamW, {size:,}, other storages: float32 {harness.median(times, 'optcore') * 1e6:.2f} us, PyTorch fused "
          f"{harness.ratio(times, 'fused'):.2f}x of that, all bfloat16 "
          f"{harness.ratio(times, 'fused, all bfloat16'):.2f}x", flush=True)
    print(f"    in cache the float32 step takes one thread {plain_cached * 1e9:.2f} ns an element")
    return sum(report_storage(times, works[title], plain, failed.get(title) or cached[title], title, most, least)
               for title, _, most, least in STORAGES)


def in_cache(sides, storage):
    """Seconds that one thread's step of AdamW takes an element where memory has no part in it."""
    few, many = (f"{storage}, {size}" for size in IN_CACHE)
    for name, size in zip((few, many), IN_CACHE, strict=True):
        sides.add(name, "optcore", Work("AdamW", ((size,),), storage=storage))
    times = sides.race(7, 0.02, (few, many))
    return (harness.median(times, many) - harness.median(times, few)) / (IN_CACHE[1] - IN_CACHE[0])


def refusal(sides, title, work):
    """Add optcore's side, and what moves its bytes; return the error of a storage that it does not have."""
    try:
        sides.add(title, "optcore", work)
        sides.add(f"move, {title}", "optcore", work, "move")
    except workers.SideError as error:
        return error


def report_storage(times, work, plain, cached, title, most, least):
    """Print a storage; return how many targets it misses. ``cached`` is what `in_cache` returned, or the error."""
    if not isinstance(cached, float):
        print(f"    {title}: target {most} of the float32 time, MISSED: {cached}", flush=True)
        return 1

    def share_of(name):
        return statistics.median(a / b for a, b in zip(times[name], times["optcore"], strict=True))

    share, loop, move = (share_of(name) for name in (title, f"loop, {title}", f"move, {title}"))
    against, missed = judged(harness.ratio(times, "fused", title), least, None, "x")
    seconds = harness.median(times, title)
    allowed = most * harness.median(times, "optcore") * oc.get_num_threads() / work.size
    beyond = ": arithmetic alone is beyond it" if cached > allowed else ""
    limit = (f"moving its bytes alone takes {move:.3f}" + (", more than the target" if move > most else "")
             + f", a plain loop {loop:.3f}")
    print(f"    {title}: {seconds * 1e6:.2f} us, {speed(work, seconds)}; {share:.3f} of the float32 time (target {most}"
          f"{', MISSED' if share > most else ''}; the bytes allow {work.bytes_each / plain.bytes_each:.2f}), fused "
          f"{against}\n        {limit}; in cache one thread takes {cached * 1e9:.2f} ns an element, the target leaves "
          f"{allowed * 1e9:.2f}{beyond}",
          flush=True)
    return missed + (share > most)


def main(words=()):
    rows = [row for row in ROWS if not words or any(word in f"{row.title}, {row.work.size:,}" for word in words)]
    threads = oc.get_num_threads()
    pool = {name: workers.Worker(module, threads, tunables) for name, (module, tunables) in WORKERS.items()}
    versions = {name: worker.ask("version") for name, worker in pool.items()}
    print("\nUpdate rules, float32, against " + ", ".join(
        versions[name] for name in versions if name not in ("optcore", "loop", "torch, kept"))
        + f", a plain C loop ({versions['loop']})" + ("" if DEEPSPEED else "; DeepSpeed is not installed"))
    missed = sum(report(row, *race(pool, row)) for row in rows)
    if not words or "storages" in words:
        missed += measure_storages(pool)
    waiting = max(worker.ask("waiting_share") for worker in pool.values())
    print(f"while others were timed, a side used at most {waiting:.2%} of a CPU")
    for worker in pool.values():
        worker.close()
    return missed


if __name__ == "__main__":
    harness.require_clean_environment()
    harness.header()
    raise SystemExit(main(sys.argv[1:]) > 0)
