"""How often `oc.diagnose` is right: over failing trainings whose cause is known.

    python bench/diagnosis/diagnosis_study.py tuning [--each 8] [--family NAME] [--wrong]
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise

import failing_cases
import numpy as np

import optcore as oc


@dataclass
class Answer:
    """What was said of a case."""

    cause: str
    family: str
    seed: tuple
    verdict: str
    confidence: float
    distance: float
    causes: list
    seconds: float


def ask(case, **options):
    """Diagnose a case; the answer, and the Diagnosis."""
    s = case.state
    start = time.perf_counter()
    d = oc.diagnose(s.obj, s.theta, s.optimizer, s.batch_size, s.losses, **options)
    seconds = time.perf_counter() - start
    return Answer(case.cause, case.family, case.seed, d.verdict, d.confidence, d.distance, [c.name for c in d.causes],
                  seconds), d


def answers(half, each, only=None, wrong=False):
    """Ask about every case of a half."""
    for case in failing_cases.cases(half, each, only):
        answer, d = ask(case)
        if wrong and answer.verdict != answer.cause:
            print(f"--- {answer.cause} {answer.family} {answer.seed}\n{d}\n", flush=True)
        yield answer


def confusion(found):
    """Lines: one a cause, how often each verdict was given."""
    names = sorted({a.cause for a in found} | {a.verdict for a in found})
    width = max(map(len, names))
    yield " " * width + "  " + " ".join(f"{n[:8]:>8}" for n in names)
    for cause in names:
        row = Counter(a.verdict for a in found if a.cause == cause)
        if row:
            yield f"{cause:{width}}  " + " ".join(f"{row[n] or '.':>8}" for n in names)


def summary(found):
    """The figures of the promise."""
    right = np.array([a.verdict == a.cause for a in found])
    said = np.array([a.confidence for a in found])
    yield f"{len(found)} cases, right {right.sum()} ({100 * right.mean():.1f} %), " \
          f"undetermined {sum(a.verdict == 'undetermined' != a.cause for a in found)}"
    sure = said >= 0.8
    yield f"confidence >= 0.8: {sure.sum()}, of them wrong {(sure & ~right).sum()} " \
          f"({100 * (sure & ~right).sum() / len(found):.2f} % of all)"
    seconds = [a.seconds for a in found]
    yield f"seconds a case: median {np.median(seconds):.2f}, most {max(seconds):.1f}"


def calibration(found, edges=(0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01)):
    """Lines: cases by confidence, and the share that was right."""
    for low, high in pairwise(edges):
        part = [a for a in found if low <= a.confidence < high and a.verdict != "undetermined"]
        if part:
            right = np.mean([a.verdict == a.cause for a in part])
            mean = np.mean([a.confidence for a in part])
            yield (f"confidence {low:.2f} to {min(high, 1):.2f}: {len(part):4d} cases, mean {mean:.3f}, "
                   f"right {right:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("half", choices=("tuning", "held-out"))
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--family")
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument("--out")
    a = parser.parse_args()
    found = list(answers(a.half, a.each, a.family, a.wrong))
    print(*confusion(found), *summary(found), *calibration(found), sep="\n")
    if a.out:
        with open(a.out, "w") as file:
            json.dump([asdict(x) for x in found], file)


if __name__ == "__main__":
    main()
