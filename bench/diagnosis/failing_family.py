"""Failing trainings by cause: every family draws its parameters, builds a training, and checks it to be what it claims.

A family is a function of a generator that returns a `State`, or None where this draw is no clear case. Families marked
``held_out`` are drawn for the held-out half only, those marked "fresh" for the fresh set, with new draws of these.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

FAMILIES = []
_SETS = ("tuning", "held-out", "fresh")


@dataclass(frozen=True)
class Case:
    """A training that is known to fail for a cause."""

    cause: str
    family: str
    seed: tuple
    state: Any


@dataclass(frozen=True)
class Family:
    """A way to make trainings that fail for a cause."""

    cause: str
    make: Any
    held_out: bool | str

    def case(self, seed, tries=12):
        """The first draw that passes its check; None if none does."""
        for attempt in range(tries):
            with np.errstate(all="ignore"):
                state = self.make(np.random.default_rng([*seed, attempt]))
            if state is not None:
                return Case(self.cause, self.make.__name__, (*seed, attempt), state)
        return None


def family(cause, held_out=False):
    """Register a family."""
    def add(make):
        FAMILIES.append(Family(cause, make, held_out))
        return make
    return add


def cases(half, per_family, only=None):
    """Yield the cases of a set, "tuning", "held-out" or "fresh"; of one family or cause if `only` names it."""
    takes = {"tuning": (False,), "held-out": (False, True), "fresh": (True, "fresh")}[half]
    for number, f in enumerate(FAMILIES):
        if f.held_out not in takes or only not in (None, f.cause, f.make.__name__):
            continue
        for k in range(per_family):
            case = f.case(([*_SETS].index(half), number, k))
            if case is not None:
                yield case
