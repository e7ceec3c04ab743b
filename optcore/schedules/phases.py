"""Schedules in phases: a rise, a plateau, a fall; and what puts schedules one after another."""

import itertools
import math

from optcore.checks import flag, integer, number, one_of
from optcore.schedules.decays import constant
from optcore.schedules.value import checked_step, put, value


def as_schedule(name, s):
    """Return s if it is callable, else a constant of the number s."""
    return s if callable(s) else constant(number(name, s))


_ANNEAL = {"cos": lambda t: 0.5 * (1.0 - math.cos(math.pi * t)), "linear": lambda t: t}


@value
class one_cycle:
    """Rise from lr / div_factor to lr, then fall far below the start, all in one run.

    Parameters
    ----------
    lr : float
        The largest value.
    steps : int
        Length of the cycle; the last value, lr / div_factor / final_div_factor, is that of the step
        ``steps - 1`` and of all later ones.
    pct_start : float
        Share of the cycle that rises: the peak is at step pct_start * steps - 1. At most 0.5 with three phases.
    anneal_strategy : {"cos", "linear"}
        How each phase goes from its first value to its last.
    div_factor, final_div_factor : float
        The largest value over the first; the first over the last.
    three_phase : bool
        Fall to the first value in as many steps as the rise took, then to the last one.

    Notes
    -----
    Smith and Topin (2018) in the form of PyTorch's ``OneCycleLR``, for the learning rate alone. That one stops
    with an error after the cycle and where the rise ends at step 0; this one stays, and starts at the peak.

    Examples
    --------
    >>> from optcore.schedules import one_cycle
    >>> s = one_cycle(1.0, steps=11, pct_start=5 / 11, anneal_strategy="linear", div_factor=4, final_div_factor=1)
    >>> [round(s(t), 12) for t in (0, 2, 4, 7, 10, 11)]
    [0.25, 0.625, 1.0, 0.625, 0.25, 0.25]
    """

    lr: float
    steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self):
        three_phase = flag("three_phase", self.three_phase)
        put(self, lr=number("lr", self.lr), steps=integer("steps", self.steps),
            pct_start=number("pct_start", self.pct_start, 0.0, 0.5 if three_phase else 1.0),
            anneal_strategy=one_of("anneal_strategy", self.anneal_strategy, tuple(_ANNEAL)),
            div_factor=number("div_factor", self.div_factor, open_low=True),
            final_div_factor=number("final_div_factor", self.final_div_factor, open_low=True),
            three_phase=three_phase)

    def __call__(self, step):
        """Return the value at a step."""
        last = self.steps - 1
        step = min(checked_step(step), last)
        first, rise = self.lr / self.div_factor, self.pct_start * self.steps - 1.0
        knots = [(0.0, first), (rise, self.lr), (last, first / self.final_div_factor)]
        if self.three_phase:
            knots.insert(2, (2.0 * self.pct_start * self.steps - 2.0, first))
        for (begin, a), (end, b) in itertools.pairwise(knots):
            if step <= end:
                t = _ANNEAL[self.anneal_strategy]((step - begin) / (end - begin)) if end > begin else 1.0
                return a * (1.0 - t) + b * t        # exact at both ends
        return knots[-1][1]


_FALL = {"linear": lambda t: 1.0 - t, "cos": lambda t: 0.5 * (1.0 + math.cos(math.pi * t)),
         "sqrt": lambda t: 1.0 - math.sqrt(t)}


@value
class warmup_stable_decay:
    """Rise in a straight line to lr, stay there, and fall to end in the last steps (WSD).

    With t the share of the fall that is over, the fall is end + (lr - end) * f(t), where f is 1 - t ("linear"),
    (1 + cos(pi * t)) / 2 ("cos") or 1 - sqrt(t) ("sqrt").

    Parameters
    ----------
    lr : float
        Value between rise and fall.
    steps : int
        Number of steps to reach `end`, after which it stays.
    warmup_steps : int
        Length of the rise; 0 for none.
    decay_steps : int
        Length of the fall; with the rise at most `steps`.
    start, end : float
        Value at step 0 of the rise, and from `steps` on.
    decay : {"linear", "cos", "sqrt"}
        Form of the fall.

    Notes
    -----
    Hu et al. (2024), MiniCPM; the "sqrt" form is that of Hägele et al. (2024). Until the fall nothing depends
    on `steps`: a run can be made longer and fall again from a checkpoint.

    Examples
    --------
    >>> from optcore.schedules import warmup_stable_decay
    >>> s = warmup_stable_decay(1.0, steps=100, warmup_steps=10, decay_steps=20)
    >>> s(0), s(5), s(10), s(80), s(90), s(100)
    (0.0, 0.5, 1.0, 1.0, 0.5, 0.0)
    """

    lr: float
    steps: int
    warmup_steps: int
    decay_steps: int
    start: float = 0.0
    end: float = 0.0
    decay: str = "linear"

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), steps=integer("steps", self.steps),
            warmup_steps=integer("warmup_steps", self.warmup_steps, 0),
            decay_steps=integer("decay_steps", self.decay_steps), start=number("start", self.start),
            end=number("end", self.end), decay=one_of("decay", self.decay, tuple(_FALL)))
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError(f"steps: expected at least warmup_steps + decay_steps, "
                             f"{self.warmup_steps + self.decay_steps}, got {self.steps}")

    def __call__(self, step):
        """Return the value at a step."""
        if checked_step(step) < self.warmup_steps:
            t = step / self.warmup_steps
            return self.start * (1.0 - t) + self.lr * t
        t = min(max(step - (self.steps - self.decay_steps), 0), self.decay_steps) / self.decay_steps
        return self.end + (self.lr - self.end) * _FALL[self.decay](t) if t else self.lr


@value
class warmup:
    """Rise in a straight line from start to the schedule's first value, then follow it from its step 0.

    Parameters
    ----------
    schedule : callable or float
        What follows; it sees ``step - steps``.
    steps : int
        Length of the rise.
    start : float
        Value at step 0. With 0 the first update only fills the averages of an adaptive rule.

    Examples
    --------
    >>> from optcore.schedules import cosine_decay, warmup
    >>> s = warmup(cosine_decay(1.0, steps=100), steps=4)
    >>> s(0), s(1), s(4), round(s(54), 12)
    (0.0, 0.25, 1.0, 0.5)
    """

    schedule: object
    steps: int
    start: float = 0.0

    def __post_init__(self):
        put(self, schedule=as_schedule("schedule", self.schedule), steps=integer("steps", self.steps),
             start=number("start", self.start))

    def __call__(self, step):
        """Return the value at a step."""
        if checked_step(step) >= self.steps:
            return self.schedule(step - self.steps)
        t = step / self.steps
        return self.start * (1.0 - t) + self.schedule(0) * t


@value
class join:
    """Follow one schedule after another, each from its own step 0.

    Parameters
    ----------
    schedules : sequence of callables or floats
        At least one.
    boundaries : sequence of int
        Steps at which the second, third, ... schedule begins: ascending, one less than there are schedules.

    Notes
    -----
    PyTorch's ``SequentialLR``, optax's ``join_schedules``.

    Examples
    --------
    >>> from optcore.schedules import join, linear
    >>> s = join([0.1, linear(1.0, 0.0, steps=10)], boundaries=[5])
    >>> s(4), s(5), s(10)
    (0.1, 1.0, 0.5)
    """

    schedules: tuple
    boundaries: tuple

    def __post_init__(self):
        for name in ("schedules", "boundaries"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise TypeError(f"{name}: expected a list or tuple, got {getattr(self, name)!r}")
        schedules = tuple(as_schedule(f"schedules[{i}]", s) for i, s in enumerate(self.schedules))
        boundaries = tuple(integer(f"boundaries[{i}]", b) for i, b in enumerate(self.boundaries))
        if len(schedules) != len(boundaries) + 1:
            raise ValueError(f"boundaries: expected one less than the {len(schedules)} schedules, "
                             f"got {len(boundaries)}")
        if any(a >= b for a, b in itertools.pairwise(boundaries)):
            raise ValueError(f"boundaries: expected ascending steps, got {list(boundaries)}")
        put(self, schedules=schedules, boundaries=boundaries)

    def __call__(self, step):
        """Return the value at a step."""
        checked_step(step)
        begin = 0
        for schedule, boundary in zip(self.schedules, self.boundaries, strict=False):
            if step < boundary:
                return schedule(step - begin)
            begin = boundary
        return self.schedules[-1](step - begin)
