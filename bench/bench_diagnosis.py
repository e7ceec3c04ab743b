"""A whole diagnosis in seconds: every quantity, counterfactual runs and mini-batch runs included, imports not.

No other tool gives a verdict to race against, so the targets are times on two cores. The first row is what a user waits
for: the command, from the start of Python to the end, with imports, the picture and the page of the report.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

import optcore as oc

ROWS = {  # name -> (data, widths, batch norm, dtype, rule, options, seconds at most, rounds)
    "digits, the network of the demo": ("digits", (64, 128, 10), True, "float64", "adamw", {"lr": 1e-2}, 3, 5),
    "digits, three layers": ("digits", (64, 128, 64, 10), True, "float32", "sgd", {"lr": 0.05, "momentum": 0.9}, 3, 5),
    "1 M parameters, 10,000 examples": ("noise", (784, 800, 500, 10), False, "float32", "sgd", {"lr": 0.05}, 60, 1),
}
COMMAND = 5  # seconds at most for the command on digits
OVERHEAD, ROUNDS = 0.05, 15  # of the callback at most, of the time of fit; turns of each side


def data(kind, dtype):
    """Examples and classes."""
    if kind == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return (x / 16).astype(dtype), y
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((10_000, 784)).astype(dtype), rng.standard_normal((784, 10))
    return x, (x @ w + 5 * rng.standard_normal((10_000, 10))).argmax(1)


def network(widths, batch_norm, dtype):
    layers = []
    for a, b in pairwise(widths):
        layers += [oc.nn.Linear(a, b), *([oc.nn.BatchNorm(b)] if batch_norm else []), oc.nn.ReLU()]
    return oc.nn.Sequential(*layers[:-2 if batch_norm else -1], dtype=dtype, seed=0)


def measure(name):
    """Train for a while at a constant rate, diagnose; return whether the target was missed."""
    kind, widths, batch_norm, dtype, rule, options, target, rounds = ROWS[name]
    x, y = data(kind, dtype)
    net = network(widths, batch_norm, dtype)
    opt = oc.optim.get(rule)(net.theta, **options)
    history = oc.train.fit(net, x, y, optimizer=opt, epochs=1 if kind == "noise" else 5, batch_size=64, progress=False)
    seconds = []
    for _ in range(rounds):
        obj = oc.nn.objective(net, "cross_entropy", x, y)
        begin = time.perf_counter()
        d = oc.diagnose(obj, net.theta, opt, 64, history)
        seconds.append(time.perf_counter() - begin)
    return report(f"{name}, {net.theta.size:,} parameters, {dtype}, {rule}", seconds, target, d.verdict)


def command():
    """``optcore diagnose`` on the run of the demo, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "digits")
        call = [sys.executable, "-m", "optcore.cli"]
        subprocess.run([*call, "train", "digits", "--out", run, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            out = subprocess.run([*call, "diagnose", run], check=True, capture_output=True, text=True).stdout
            seconds.append(time.perf_counter() - begin)
    verdict = out.split("why did training stop?")[1].split()[0].rstrip(":")
    return report("optcore diagnose of make demo, imports, picture and page included", seconds, COMMAND, verdict)


def callback():
    """The share of a training's time that `oc.train.Diagnose` takes while the loss falls: sides in turn."""
    x, y = data("digits", "float32")
    seconds = {False: [], True: []}
    for _ in range(ROUNDS):
        for watched in seconds:
            net = network((64, 128, 64, 10), True, "float32")
            watch = [oc.train.Diagnose()] if watched else []
            begin = time.perf_counter()
            oc.train.fit(net, x, y, optimizer=oc.optim.SGD(net.theta, lr=0.02), epochs=20, batch_size=16,
                         progress=False, callbacks=watch)
            seconds[watched].append(time.perf_counter() - begin)
            asked = sum(len(w.diagnoses) for w in watch)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    share = statistics.median(ratios) - 1
    missed = share > OVERHEAD
    print(f"{'oc.train.Diagnose at its default, ' + str(asked) + ' diagnoses, share of the time of fit':76s}"
          f"{100 * share:6.2f} % (target {100 * OVERHEAD:.0f}{', MISSED' if missed else ''}), "
          f"ratios {min(ratios):.3f} to {max(ratios):.3f}", flush=True)
    return missed


def report(what, seconds, target, verdict):
    """Print a row: the median of its rounds, so that a first call that warms up counts as little as any other."""
    middle = statistics.median(seconds)
    missed = middle > target
    print(f"{what:76s}{middle:6.2f} s (target {target}{', MISSED' if missed else ''}), most {max(seconds):.2f}; "
          f"{verdict}", flush=True)
    return missed


def main():
    print("\nA whole diagnosis, mini-batches of 64; medians of seconds")
    return command() + callback() + sum(measure(name) for name in ROWS)


if __name__ == "__main__":
    import harness

    harness.require_clean_environment()
    harness.header()
    raise SystemExit(main() > 0)
