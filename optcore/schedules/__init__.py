"""Schedules: pure functions of the step, counted from 0, for a learning rate or any other coefficient.

A schedule is a small immutable value: it compares by its parameters, hashes, and its ``repr`` builds it
again. Anything callable as ``step -> float`` may stand where a schedule is expected; a number stands for a
constant. ``ReduceOnPlateau`` is the exception: it remembers the metrics that it was told.
"""

from optcore.schedules.decays import (
    constant,
    cosine_decay,
    cosine_restarts,
    exponential_decay,
    inverse_sqrt,
    inverse_time_decay,
    linear,
    polynomial_decay,
    step_decay,
)
from optcore.schedules.phases import join, one_cycle, warmup, warmup_stable_decay
from optcore.schedules.plateau import ReduceOnPlateau

__all__ = ["ReduceOnPlateau", "constant", "cosine_decay", "cosine_restarts", "exponential_decay", "inverse_sqrt",
           "inverse_time_decay", "join", "linear", "one_cycle", "polynomial_decay", "step_decay", "warmup",
           "warmup_stable_decay"]


def memories(schedule):
    """Return what has to be saved of a schedule: every part of it that remembers something.

    Parameters
    ----------
    schedule : callable or number

    Returns
    -------
    list
        Objects with ``state_dict`` and ``load_state_dict``; empty for a pure function of the step.

    Examples
    --------
    >>> from optcore.schedules import ReduceOnPlateau, join, memories, warmup
    >>> plateau = ReduceOnPlateau(0.1)
    >>> memories(join([0.2, warmup(plateau, steps=10)], boundaries=[50])) == [plateau]
    True
    """
    if hasattr(schedule, "state_dict") and hasattr(schedule, "load_state_dict"):
        return [schedule]
    inner = {warmup: lambda: [schedule.schedule], join: lambda: schedule.schedules}.get(type(schedule), list)()
    return [m for part in inner for m in memories(part)]
