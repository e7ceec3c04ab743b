"""``optcore bench``: how fast this build is on this machine, in half a minute."""

import time

import numpy as np

from optcore import norm, optim, process
from optcore.cli.common import add_json, command, positive, print_json, status

_EXAMPLE = """\
example:
  optcore bench
  OPTCORE_NUM_THREADS=1 optcore bench --json | jq '.rows[].ratios'
"""
_ADAMW = (67_108_864, 1_048_576, 1_000)
_NORM = ((4096, 512), (32, 64, 56, 56))
_ASLEEP = 0.05  # seconds after which OpenMP's pools do not spin any more
_BYTES_ADAMW, _BYTES_NORM, _BYTES_COPY = 28, 8, 8  # of an element: what has to be read and written


def add(commands):
    """Add the command to the parser."""
    p = command(commands, "bench", _run, "measure this build against NumPy, and PyTorch if installed", _EXAMPLE)
    p.add_argument("--rounds", type=positive, default=5, help="turns that each side gets (default: 5)")
    add_json(p)


def _run(arguments):
    rows = []
    with status() as say:
        say("copy")
        limit = _copy_speed(arguments.rounds)
        for n in _ADAMW:
            say(f"AdamW, {n:,} parameters")
            rows.append(_row(f"AdamW, {n:,}", n * _BYTES_ADAMW, _adamw(n), arguments.rounds, limit))
        for shape in _NORM:
            name = "x".join(map(str, shape))
            say(f"batch norm, {name}")
            rows.append(_row(f"batch norm, {name}", int(np.prod(shape)) * _BYTES_NORM, _batch_norm(shape),
                             arguments.rounds, limit))
    if arguments.json:
        print_json({"threads": process.get_num_threads(), "isa": process.show_config()["isa"], "copy_gb_s": limit,
                    "rows": rows})
        return
    print(f"float32, {process.get_num_threads()} threads, level {process.show_config()['isa']}; "
          f"NumPy's copy on one thread moves {limit:.1f} GB/s\n"
          f"sides in turn in one process, {arguments.rounds} rounds, medians of the ratios\n")
    for row in rows:
        peers = ", ".join(f"{ratio:6.2f}x {name}" for name, ratio in row["ratios"].items())
        print(f"{row['work']:28s}{1e6 * row['seconds']:12.1f} us {row['gb_s']:7.1f} GB/s, "
              f"{row['of_copy']:5.2f} of a copy; {peers}")


def _row(work, size, sides, rounds, limit):
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            times[name].append(_seconds(call))
    ours = times.pop("optcore")
    seconds = float(np.median(ours))
    return {"work": work, "seconds": seconds, "gb_s": size / seconds / 1e9, "of_copy": size / seconds / 1e9 / limit,
            "ratios": {name: float(np.median(np.divide(t, ours))) for name, t in times.items()}}


def _seconds(call, least=0.05):
    """Seconds of a call: of enough calls to last, after one to warm up, the thread pool of the side before asleep."""
    time.sleep(_ASLEEP)
    call()
    begin = time.perf_counter()
    call()
    once = time.perf_counter() - begin
    count = max(1, min(10_000, int(least / max(once, 1e-9))))
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


def _copy_speed(rounds):
    a = np.ones(32_000_000, np.float32)
    b = np.ones_like(a)
    return _BYTES_COPY * a.size / min(_seconds(lambda: np.copyto(b, a)) for _ in range(rounds)) / 1e9


def _adamw(n):
    rng = np.random.default_rng(0)
    g = rng.standard_normal(n, dtype=np.float32)
    p = np.zeros(n, np.float32)
    opt = optim.AdamW(p)
    sides = {"optcore": lambda: opt.step(g), "NumPy": _numpy_adamw(np.zeros(n, np.float32), g)}
    torch = _torch()
    if torch:
        t = torch.zeros(n)
        t.grad = torch.from_numpy(g)
        rule = torch.optim.AdamW([t], fused=True)
        sides["PyTorch fused"] = rule.step
    return sides


def _numpy_adamw(p, g):
    m, v, step = np.zeros_like(p), np.zeros_like(p), 0

    def call():
        nonlocal step
        step += 1
        m[...] = 0.9 * m + np.float32(0.1) * g
        v[...] = 0.999 * v + np.float32(0.001) * g * g
        root = np.sqrt(v / np.float32(1 - 0.999**step)) + np.float32(1e-8)
        p[...] = p * np.float32(1 - 1e-5) - np.float32(1e-3 / (1 - 0.9**step)) * m / root

    return call


def _batch_norm(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32)
    w, b = np.ones((2, shape[1]), np.float32)
    y, axes = np.empty_like(x), (0, *range(2, len(shape)))
    each = (1, -1) + (1,) * (len(shape) - 2)

    def in_numpy():
        s = w / np.sqrt(x.var(axes) + np.float32(1e-5))
        return (x - x.mean(axes).reshape(each)) * s.reshape(each) + b.reshape(each)

    sides = {"optcore": lambda: norm.batch_norm(x, w, b, training=True, out=y), "NumPy": in_numpy}
    torch = _torch()
    if torch:
        tx, tw, tb = map(torch.from_numpy, (x, w, b))
        sides["PyTorch"] = lambda: torch.nn.functional.batch_norm(tx, None, None, tw, tb, True)
    return sides


def _torch():
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(process.get_num_threads())
    return torch
