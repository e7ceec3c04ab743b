"""How often `oc.diagnose` is right: over failing trainings whose cause is known.

    python bench/diagnosis/diagnosis_study.py                     # both halves; writes the tables of docs/diagnosis.md
    python bench/diagnosis/diagnosis_study.py tuning --wrong      # one half, with its wrong diagnoses
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import failing_cases
import numpy as np

import optcore as oc

_SETS = ("tuning", "held-out", "fresh")
_MARKER = "<!-- what follows is written by make diagnosis-study -->"


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


def fitted(found, edges=(0.0, 0.15, 0.3, 0.6, 0.999, 1.001)):
    """The table of `optcore.diagnosis.calibration`: (distance, confidence), never falling.

    Cases of one family are right or wrong together, so a family counts once, by its share of right verdicts; Laplace's
    rule of succession, (right + 1) / (families + 2), is what that says of a new family.
    """
    table = []
    for low, high in pairwise(edges):
        shares = {}
        for a in found:
            if low <= a.distance < high and a.verdict != "undetermined":
                shares.setdefault(a.family, []).append(a.verdict == a.cause)
        table.append([low, (sum(np.mean(s) for s in shares.values()) + 1) / (len(shares) + 2), len(shares)])
    while any(b[1] < a[1] for a, b in pairwise(table)):  # pool adjacent violators
        i = next(i for i, (a, b) in enumerate(pairwise(table)) if b[1] < a[1])
        pooled = (table[i][1] * table[i][2] + table[i + 1][1] * table[i + 1][2]) / (table[i][2] + table[i + 1][2])
        table[i][1] = table[i + 1][1] = pooled
    return [(low, round(float(value), 3)) for low, value, _ in table]


def tables(everything):
    """The part of docs/diagnosis.md that figures are in, from set -> answers."""
    names = {"tuning": "The tuning half", "held-out": "The held-out half", "fresh": "The fresh set"}
    for half, found in everything.items():
        name = names[half]
        families = {a.family for a in found}
        yield f"### {name}: {len(found)} cases of {len(families)} families"
        yield "```"
        yield from confusion(found)
        yield ""
        yield from summary(found)
        yield from calibration(found)
        yield "```"
        yield ""
    yield "Share of right verdicts in the tuning half by distance, from there on: " + ", ".join(
        f"{distance:g}: {value:g}" for distance, value in fitted(everything["tuning"])) + "."


def write_page(lines):
    """Put the tables into docs/diagnosis.md, after its marker."""
    page = Path(__file__).resolve().parents[2] / "docs" / "diagnosis.md"
    head, marker, _ = page.read_text().partition(_MARKER)
    page.write_text(head + marker + "\n".join(["", *lines, ""]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("half", nargs="?", choices=_SETS, help="all three, and docs/diagnosis.md, if none")
    parser.add_argument("--each", type=int, default=8, help="cases of a family")
    parser.add_argument("--family", help="only this family, or the families of this cause")
    parser.add_argument("--wrong", action="store_true", help="print the wrong diagnoses in full")
    parser.add_argument("--out", help="write every answer as JSON")
    a = parser.parse_args()
    halves = [a.half] if a.half else _SETS
    found = {half: list(answers(half, a.each, a.family, a.wrong)) for half in halves}
    for half, part in found.items():
        print(half, *confusion(part), *summary(part), *calibration(part), f"fitted: {fitted(part)}", "", sep="\n")
    if a.out:
        Path(a.out).write_text(json.dumps({half: [asdict(x) for x in part] for half, part in found.items()}))
    if not a.half and not a.family:
        write_page(tables(found))


if __name__ == "__main__":
    main()
