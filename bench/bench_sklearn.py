"""A whole ``MLPClassifier().fit``, default settings, against scikit-learn's: each side a process of its own.

Both stop after the same passes, which are printed with the accuracies: on digits of the training set (all of it is
fitted), on the synthetic rows of 25,000 others. The default arithmetic of ``oc.sklearn`` is float32 where that of
scikit-learn is that of X, float64; "float64" is the same with ``dtype="float64"``.
"""

import harness
import workers
from work import Fit

import optcore as oc

OURS, DOUBLE, SKLEARN = "optcore", "float64", "scikit-learn"
MODULES = {OURS: "optcore.sklearn", DOUBLE: "optcore.sklearn", SKLEARN: "sklearn.neural_network"}
ROWS = {"digits [1797, 64]": (Fit("digits", 200), 5), "synthetic [100000, 50]": (Fit("synthetic", 5), 2.5)}


def report(pool, label, work, target):
    """Print a row; return whether it misses its target."""
    with workers.Sides(pool) as sides:
        for name in MODULES:
            sides.add(name, name, work, f"{MODULES[name]} {'float64' if name == DOUBLE else ''}".strip())
        times = sides.race(5, 0.1)
        ended = ", ".join(f"{name} {int(n)} passes, accuracy {accuracy:.4f}"
                          for name, (n, accuracy) in sides.results.items())
    found = harness.ratio(times, SKLEARN)
    print(f"{label:<24}{harness.median(times, OURS) * 1e3:8.1f} ms, scikit-learn {harness.verdict(found, target)}; "
          f"in float64 {harness.ratio(times, SKLEARN, DOUBLE):.2f}x\n{'':<24}{ended}", flush=True)
    return found < target


def main():
    pool = {name: workers.Worker("fit", oc.get_num_threads()) for name in MODULES}
    print(f"\nMLPClassifier().fit against {pool[SKLEARN].ask('version')}")
    missed = sum(report(pool, label, *row) for label, row in ROWS.items())
    for worker in pool.values():
        worker.close()
    return missed


if __name__ == "__main__":
    harness.require_clean_environment()
    harness.header()
    raise SystemExit(main() > 0)
