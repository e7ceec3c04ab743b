"""Counterfactual runs: copies of theta and of the optimizer, stepped as training would, or otherwise."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

_FAR = 1e6  # a run ends where its loss has risen to so many times the first step's promise above its start


class Secant(NamedTuple):
    """What the last two steps of a run met.

    The curvature along the last one, d'(g_1 - g_0) / d'Pd, from the gradients at its ends; the cosine of the two; how
    much lower the loss is in the middle of the last one than at its ends in the mean.
    """

    curvature: float
    cosine: float
    middle: float


@dataclass(frozen=True)
class Run:
    """What a copy did.

    Attributes
    ----------
    losses : array [k + 1]
        Over the examples of the analysis: before the first step, and after each. Of a run on mini-batches, only at
        its start and `at` the places where it was looked at.
    at : array [k + 1]
        The number of steps behind each loss.
    theta : array [n]
        Where it ended.
    optimizer : rule
        The copy.
    cosine : float
        Between the gradients at the start and at the end, as the preconditioner measures; NaN for mini-batches.
    end : float
        The loss at the end: the median of the last fifth, on mini-batches the mean of the second half; infinite for
        a run that left all bounds.
    secant : Secant or None
        What the last two steps met; None on mini-batches, and for fewer steps.
    """

    losses: np.ndarray
    at: np.ndarray
    theta: np.ndarray
    optimizer: Any
    cosine: float
    end: float
    secant: Any = None

    @property
    def finite(self):
        """Whether the run stayed within bounds."""
        return math.isfinite(self.end)

    @property
    def gain(self):
        """How much lower the end is than the start."""
        return float(self.losses[0]) - self.end


def full(obj, theta, rule, steps, *, factor=1.0, rows=None, scale=None, optimizer=None):
    """Run without noise: each step takes the gradient over all examples of the analysis.

    Parameters
    ----------
    obj : Objective
    theta : array [n]
        Not changed.
    rule : Rule
    steps : int
    factor : float
        Of the rate.
    rows : int array or None
        The examples of the analysis.
    scale : array [n], optional
        Diagonal of P, for the cosine.
    optimizer : rule, optional
        A copy that goes on, over ``theta`` itself, in place of a new one.
    """
    theta = theta.copy()
    mover = rule.copy(theta, factor)
    if optimizer is not None:
        mover = _go_on(rule, optimizer, theta, factor)
    losses, first, grad, last = [], None, None, []
    with np.errstate(all="ignore"):
        for step in range(steps + 1):
            loss, grad = obj.loss_and_grad(theta, rows)
            losses.append(loss)
            if first is None:
                first, wide = grad.astype(np.float64), grad.astype(np.float64)
                far = loss + _FAR * max(abs(loss), rule.effective_lr * float(first @ first))
            if not (math.isfinite(loss) and np.isfinite(grad).all()) or loss > far:
                return Run(np.array(losses), np.arange(len(losses)), theta, mover, math.nan, math.inf)
            if step >= steps - 2:
                last.append((theta.astype(np.float64), grad.astype(np.float64)))
            if step < steps:
                mover.step(rule.split(grad))
        wide = grad.astype(np.float64)
        metric = 1.0 if scale is None else 1 / scale
        size = math.sqrt(float(wide @ (metric * wide)) * float(first @ (metric * first)))
        cosine = float(first @ (metric * wide)) / size if size > 0 else math.nan
        secant = _secant(obj, rows, last, losses, scale) if steps > 1 else None
    end = float(np.median(losses[-max(1, steps // 5):]))
    return Run(np.array(losses), np.arange(steps + 1), theta, mover, cosine, end, secant)


def _secant(obj, rows, last, losses, scale):
    """The Secant of the last three places, (theta, gradient) each; None where the last step moved nothing."""
    (a, _), (b, g), (c, h) = last
    before, step = b - a, c - b
    size = float(step @ (step if scale is None else scale * step))
    if not size > 0:
        return None
    lengths = float(np.linalg.norm(before) * np.linalg.norm(step))
    middle = obj.loss((0.5 * (b + c)).astype(obj.dtype), rows)
    return Secant(float(step @ (h - g)) / size, float(before @ step) / lengths if lengths > 0 else math.nan,
                  0.5 * (losses[-2] + losses[-1]) - middle)


def _go_on(rule, optimizer, theta, factor):
    """A copy of a copy, over another array, at the rate that a factor gives."""
    mover = rule.copy(theta, factor)
    rates = [g["lr"] for g in mover.param_groups]
    mover.load_state_dict(optimizer.state_dict())
    for group, lr in zip(mover.param_groups, rates, strict=True):
        group["lr"] = lr
    return mover


def noisy(obj, theta, rule, steps, batch_size, rng, *, rows=None, looks=10):
    """Run on mini-batches; the loss over the examples of the analysis is taken at `looks` places of the second half."""
    theta = theta.copy()
    at = np.unique(np.r_[0, np.linspace(0.5 * steps, steps, looks).astype(int)])
    mover = rule.copy(theta)
    losses = path(obj, theta, rule, mover, at, batch_size, rng, rows)
    end = float(np.mean(losses[1:])) if len(losses) == len(at) else math.inf
    return Run(losses, at[:len(losses)], theta, mover, math.nan, end if math.isfinite(end) else math.inf)


def path(obj, theta, rule, mover, at, batch_size=None, rng=None, rows=None):
    """Step a copy, in place; return the losses over the examples of the analysis after `at` steps each.

    With a batch size on mini-batches, drawn as in training: without replacement until all have been seen. It ends where
    a loss or gradient is not finite, with fewer losses.
    """
    losses, order = [], iter(())
    with np.errstate(all="ignore"):
        for step in range(int(at[-1]) + 1):
            if step == at[len(losses)]:
                losses.append(obj.loss(theta, rows))
                if len(losses) == len(at):
                    break
            batch = rows
            if batch_size is not None:
                batch = next(order, None)
                if batch is None:
                    order = batches(obj.n_examples, batch_size, rng)
                    batch = next(order)
            loss, grad = obj.loss_and_grad(theta, batch)
            if not (math.isfinite(loss) and np.isfinite(grad).all()):
                break
            mover.step(rule.split(grad))
    return np.array(losses)


def batches(n, size, rng):
    """Yield batches of one epoch in a new order; a rest of fewer than size examples is left out."""
    order = rng.permutation(n)
    for start in range(0, n - size + 1, size):
        yield order[start:start + size]
