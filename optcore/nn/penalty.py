"""Penalties of the weights: l1 * sum |w| + l2/2 * sum w^2, a term of the loss.

The sums are over the weights, not over biases and the parameters of norms (`Program.weights`). Unlike a rule's weight
decay, a penalty is part of what is minimised: it passes through momentum, second moments and clipping as the rest of
the gradient does. |w| has the subgradient 0 at 0, and no curvature: the Hessian of the penalty is l2 for each weight,
exactly wherever no weight is 0.
"""

from optcore._native.penalty import Penalty
from optcore.checks import number


def penalty_of(program, l1, l2):
    """Return the penalty of a network's weights, None where both coefficients are 0.

    Parameters
    ----------
    program : Program
    l1, l2 : float
        Finite and at least 0.

    Returns
    -------
    Penalty or None

    Raises
    ------
    TypeError, ValueError
        A coefficient is no such number.

    Examples
    --------
    >>> import numpy as np
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(2, 1), dtype="float64")
    >>> penalty_of(net.program, l1=1.0, l2=0.5).value(np.array([3.0, -2.0, 100.0]))  # |3| + |-2| + (9 + 4)/4
    8.25
    """
    l1, l2 = number("l1", l1), number("l2", l2)
    return Penalty(program.weights, l1, l2) if l1 or l2 else None
