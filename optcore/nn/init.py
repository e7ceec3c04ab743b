"""Initial values of parameters, by name.

A scheme draws in double, whatever the dtype of the network, so that a float32 and a float64 network of one
seed start at the same point up to rounding.

=================== ================================================================================
name                weights of a layer with n_in inputs and n_out outputs
=================== ================================================================================
``fan_in_uniform``  U(-b, b), b = 1/sqrt(n_in): PyTorch's default for Linear (LeCun et al. 1998)
``kaiming_uniform`` U(-b, b), b = sqrt(6/n_in): variance 2/n_in, for ReLU (He et al. 2015)
``kaiming_normal``  N(0, 2/n_in)
``xavier_uniform``  U(-b, b), b = sqrt(6/(n_in + n_out)) (Glorot and Bengio 2010)
``xavier_normal``   N(0, 2/(n_in + n_out))
``lecun_uniform``   U(-b, b), b = sqrt(3/n_in): variance 1/n_in
``lecun_normal``    N(0, 1/n_in)
``orthogonal``      orthonormal rows or columns, whichever are fewer, evenly distributed (Saxe et al. 2014)
``zeros``, ``ones`` constants
=================== ================================================================================
"""

import math

import numpy as np

from optcore.checks import one_of

__all__ = ["draw", "names"]


def _uniform(variance):
    """U(-b, b) of this variance: b = sqrt(3 * variance)."""
    def draw(rng, shape, fan_in, fan_out):
        bound = math.sqrt(3 * variance(fan_in, fan_out))
        return rng.uniform(-bound, bound, shape)
    return draw


def _normal(variance):
    return lambda rng, shape, fan_in, fan_out: rng.normal(0, math.sqrt(variance(fan_in, fan_out)), shape)


def _orthogonal(rng, shape, fan_in, fan_out):
    """Q of a Gaussian matrix, its columns' signs those that make R's diagonal positive: else they are not even."""
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.ascontiguousarray(q if rows >= columns else q.T).reshape(shape)


SCHEMES = {
    "fan_in_uniform": _uniform(lambda n_in, n_out: 1 / (3 * n_in)),
    "kaiming_uniform": _uniform(lambda n_in, n_out: 2 / n_in),
    "kaiming_normal": _normal(lambda n_in, n_out: 2 / n_in),
    "xavier_uniform": _uniform(lambda n_in, n_out: 2 / (n_in + n_out)),
    "xavier_normal": _normal(lambda n_in, n_out: 2 / (n_in + n_out)),
    "lecun_uniform": _uniform(lambda n_in, n_out: 1 / n_in),
    "lecun_normal": _normal(lambda n_in, n_out: 1 / n_in),
    "orthogonal": _orthogonal,
    "zeros": lambda rng, shape, fan_in, fan_out: np.zeros(shape),
    "ones": lambda rng, shape, fan_in, fan_out: np.ones(shape),
}


def names():
    """Return the names of the schemes.

    Returns
    -------
    list of str

    Examples
    --------
    >>> import optcore as oc
    >>> "xavier_normal" in oc.nn.init.names()
    True
    """
    return list(SCHEMES)


def draw(scheme, rng, shape, fan_in, fan_out):
    """Draw initial values.

    Parameters
    ----------
    scheme : str
        One of `names()`.
    rng : numpy.random.Generator
    shape : tuple of int
    fan_in, fan_out : int
        Inputs that one output sums over, and outputs that one input reaches.

    Returns
    -------
    ndarray of float64
        Of shape `shape`.

    Raises
    ------
    TypeError, ValueError
        Not a string; an unknown scheme.

    Examples
    --------
    >>> import numpy as np
    >>> import optcore as oc
    >>> w = oc.nn.init.draw("xavier_uniform", np.random.default_rng(0), (3, 5), 5, 3)
    >>> w.shape, bool(abs(w).max() <= (6 / 8) ** 0.5)
    ((3, 5), True)
    """
    return SCHEMES[one_of("init", scheme, SCHEMES)](rng, shape, fan_in, fan_out)
