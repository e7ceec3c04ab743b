"""Schedules of one formula: from a constant to warm restarts."""

import math

from optcore.checks import integer, number
from optcore.schedules.value import checked_step, put, scaled, value


@value
class constant:
    """The same value at every step.

    Parameters
    ----------
    value : float
        At least 0.

    Examples
    --------
    >>> constant(0.1)(1000)
    0.1
    """

    value: float

    def __post_init__(self):
        put(self, value=number("value", self.value))

    def __call__(self, step):
        """Return the value at a step."""
        checked_step(step)
        return self.value


@value
class step_decay:
    """Multiply by gamma every step_size steps: lr * gamma**floor(step / step_size).

    Parameters
    ----------
    lr : float
        Value at step 0.
    step_size : int
        Length of one stair.
    gamma : float
        Factor from one stair to the next, > 0.

    Notes
    -----
    PyTorch's ``StepLR``, in closed form.

    Examples
    --------
    >>> s = step_decay(0.5, step_size=10, gamma=0.5)
    >>> s(9), s(10), s(20)
    (0.5, 0.25, 0.125)
    """

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), step_size=integer("step_size", self.step_size),
             gamma=number("gamma", self.gamma, open_low=True))

    def __call__(self, step):
        """Return the value at a step."""
        return scaled(self.lr, self.gamma, checked_step(step) // self.step_size)


@value
class exponential_decay:
    """Multiply by gamma at every step: lr * gamma**(step / steps).

    Parameters
    ----------
    lr : float
        Value at step 0.
    gamma : float
        Factor over `steps` steps, > 0.
    steps : int
        1 gives PyTorch's ``ExponentialLR``.

    Examples
    --------
    >>> exponential_decay(1.0, 0.5)(3), exponential_decay(1.0, 0.25, steps=2)(1)
    (0.125, 0.5)
    """

    lr: float
    gamma: float
    steps: int = 1

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), gamma=number("gamma", self.gamma, open_low=True),
             steps=integer("steps", self.steps))

    def __call__(self, step):
        """Return the value at a step."""
        return scaled(self.lr, self.gamma, checked_step(step) / self.steps)


@value
class inverse_time_decay:
    """Decay with the inverse of time: lr / (1 + rate * step)**power.

    Parameters
    ----------
    lr : float
        Value at step 0.
    rate : float
        Decay per step, >= 0.
    power : float
        > 0. With ``rate=1, power=0.5`` this is lr / sqrt(step + 1); power 1 satisfies the conditions of
        Robbins and Monro (1951): the values sum to infinity, their squares do not.

    Examples
    --------
    >>> inverse_time_decay(1.0, rate=1.0)(3), inverse_time_decay(1.0, 1.0, power=0.5)(3)
    (0.25, 0.5)
    """

    lr: float
    rate: float
    power: float = 1.0

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), rate=number("rate", self.rate),
             power=number("power", self.power, open_low=True))

    def __call__(self, step):
        """Return the value at a step."""
        return self.lr / scaled(1.0, 1.0 + self.rate * checked_step(step), self.power)


@value
class polynomial_decay:
    """Fall from lr to end along a power: end + (lr - end) * (1 - step / steps)**power, then stay at end.

    Parameters
    ----------
    lr : float
        Value at step 0.
    steps : int
        Number of steps to reach `end`.
    power : float
        > 0; 1 is a straight line.
    end : float
        Value from `steps` on.

    Notes
    -----
    PyTorch's ``PolynomialLR`` for ``end=0``.

    Examples
    --------
    >>> s = polynomial_decay(1.0, steps=4, power=2.0)
    >>> s(0), s(2), s(4), s(100)
    (1.0, 0.25, 0.0, 0.0)
    """

    lr: float
    steps: int
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), steps=integer("steps", self.steps),
             power=number("power", self.power, open_low=True), end=number("end", self.end))

    def __call__(self, step):
        """Return the value at a step."""
        left = 1.0 - min(checked_step(step), self.steps) / self.steps
        return self.end + (self.lr - self.end) * left ** self.power


@value
class linear:
    """Go from start to end in a straight line over a number of steps, then stay at end.

    Parameters
    ----------
    start, end : float
        Values at step 0 and from `steps` on; either may be the larger.
    steps : int
        Length of the line.

    Notes
    -----
    PyTorch's ``LinearLR``, with values in place of factors.

    Examples
    --------
    >>> s = linear(0.0, 1.0, steps=4)
    >>> s(0), s(1), s(4), s(9)
    (0.0, 0.25, 1.0, 1.0)
    """

    start: float
    end: float
    steps: int

    def __post_init__(self):
        put(self, start=number("start", self.start), end=number("end", self.end),
             steps=integer("steps", self.steps))

    def __call__(self, step):
        """Return the value at a step."""
        t = min(checked_step(step), self.steps) / self.steps
        return self.start * (1.0 - t) + self.end * t    # exact at both ends; start + (end - start)*t is not


@value
class cosine_decay:
    """Fall from lr to end along half a cosine, then stay at end.

    end + (lr - end) * (1 + cos(pi * step / steps)) / 2.

    Parameters
    ----------
    lr : float
        Value at step 0.
    steps : int
        Number of steps to reach `end`.
    end : float
        Value from `steps` on.

    Notes
    -----
    Loshchilov and Hutter (2017), one period. PyTorch's ``CosineAnnealingLR`` up to ``T_max``, after which
    that one rises again and this one stays.

    Examples
    --------
    >>> s = cosine_decay(1.0, steps=4)
    >>> s(0), round(s(2), 12), s(4), s(5)
    (1.0, 0.5, 0.0, 0.0)
    """

    lr: float
    steps: int
    end: float = 0.0

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), steps=integer("steps", self.steps), end=number("end", self.end))

    def __call__(self, step):
        """Return the value at a step."""
        t = min(checked_step(step), self.steps) / self.steps
        return self.end + (self.lr - self.end) * (0.5 * (1.0 + math.cos(math.pi * t)))


@value
class cosine_restarts:
    """Half a cosine from lr to end, again and again: stochastic gradient descent with warm restarts.

    In period i, of steps * mult**i steps, t steps after its beginning:
    end + (lr - end) * (1 + cos(pi * t / (steps * mult**i))) / 2.

    Parameters
    ----------
    lr : float
        Value at the beginning of each period.
    steps : int
        Length of the first period (T_0).
    mult : int
        Length of a period over that of the one before (T_mult).
    end : float
        Where each period goes to; its last step is one short of it.

    Notes
    -----
    Loshchilov and Hutter (2017), SGDR; PyTorch's ``CosineAnnealingWarmRestarts``. The periods are counted in
    integers, so that every restart is at its step, however late.

    Examples
    --------
    >>> s = cosine_restarts(1.0, steps=2, mult=2)
    >>> [round(s(t), 12) for t in range(7)]         # a period of 2, one of 4, one of 8
    [1.0, 0.5, 1.0, 0.853553390593, 0.5, 0.146446609407, 1.0]
    """

    lr: float
    steps: int
    mult: int = 1
    end: float = 0.0

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), steps=integer("steps", self.steps), mult=integer("mult", self.mult),
            end=number("end", self.end))

    def __call__(self, step):
        """Return the value at a step."""
        t, period = checked_step(step), self.steps
        if self.mult == 1:
            t %= period
        while t >= period:
            t -= period
            period *= self.mult
        return self.end + (self.lr - self.end) * (0.5 * (1.0 + math.cos(math.pi * (t / period))))


@value
class inverse_sqrt:
    """Rise in a straight line to lr, then fall with the inverse square root of time.

    lr * min(n / steps, sqrt(steps / n)) with n = step + 1, for the paper counts from 1.

    Parameters
    ----------
    lr : float
        The largest value, that of the step number `steps`, which is the step ``steps - 1`` from 0.
    steps : int
        Length of the rise; 1 for none.

    Notes
    -----
    Vaswani et al. (2017), eq. 3, known as Noam: d**-0.5 * min(n**-0.5, n * steps**-1.5) is this schedule with
    lr = (d * steps)**-0.5, where d is the width of the model.

    Examples
    --------
    >>> s = inverse_sqrt(1.0, steps=4)
    >>> s(0), s(3), s(15), s(63)
    (0.25, 1.0, 0.5, 0.25)
    """

    lr: float
    steps: int

    def __post_init__(self):
        put(self, lr=number("lr", self.lr), steps=integer("steps", self.steps))

    def __call__(self, step):
        """Return the value at a step."""
        n = checked_step(step) + 1
        return self.lr * (n / self.steps if n < self.steps else math.sqrt(self.steps / n))
