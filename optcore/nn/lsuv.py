"""Layer-sequential unit variance: an initialisation that looks at data."""

import numpy as np

from optcore.nn import init, passes
from optcore.nn.sequential import Sequential
from optcore.process import one_pool


def lsuv_(net, x, tol=0.1, max_rounds=10, seed=0):
    """Initialise a network in place so that each layer of weights puts out unit variance on x.

    Each layer's weights are drawn orthogonal and its bias is set to 0; then, from the input to the output, they are
    divided by the deviation of what the layer puts out for x, until its variance is within `tol` of 1 (Mishkin and
    Matas 2016).
    Norms, and layers within a residual block, are left as they are.

    Parameters
    ----------
    net : Sequential
    x : array [N, ...]
        A batch of inputs, in the network's dtype.
    tol : float
        Of the variance.
    max_rounds : int
        Divisions of a layer, at most.
    seed : int
        Of the orthogonal weights.

    Returns
    -------
    list of float
        The variance that each layer of weights puts out at the end, from the input on.

    Raises
    ------
    TypeError, ValueError
        A network or a batch that does not fit; a layer whose output does not vary over x. Nothing has been changed.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> x = np.random.default_rng(0).standard_normal((200, 30)).astype("float32")
    >>> net = oc.nn.Sequential(oc.nn.Linear(30, 40), oc.nn.Tanh(), oc.nn.Linear(40, 5))
    >>> all(abs(v - 1) < 0.1 for v in oc.nn.lsuv_(net, x))
    True
    """
    if not isinstance(net, Sequential):
        raise TypeError(f"net: expected an optcore.nn network, got {type(net).__name__}")
    passes.check_input(net.program, x, net.dtype)
    if len(x) == 0:
        raise ValueError("x: expected at least one example, got none")
    rng, theta = np.random.default_rng(seed), net.theta.copy()
    layers = [i for i, op in enumerate(net.program.ops)
              if "program" not in op.options and any(len(p.shape) > 1 for p in op.params.values())]
    for i in layers:
        for p in net.program.ops[i].params.values():
            scheme = "orthogonal" if len(p.shape) > 1 else "zeros"
            p.view(theta)[...] = init.draw(scheme, rng, p.shape, p.fan_in, p.fan_out)
    variances = [_scaled(net, theta, x, i, tol, max_rounds) for i in layers]
    net.theta = theta
    return variances


def _scaled(net, theta, x, i, tol, max_rounds):
    op = net.program.ops[i]
    weight = next(p.view(theta) for p in op.params.values() if len(p.shape) > 1)
    for rounds in range(max_rounds + 1):
        with one_pool:
            y = passes.forward(net.program, theta, net.buffers, x, training=True)[i].y
        variance = float(np.var(y, dtype=np.float64))
        if not (np.isfinite(variance) and variance > 0):
            raise ValueError(f"x: layer {op.label} puts out a variance of {variance} on it, which no factor makes 1")
        if abs(variance - 1) <= tol or rounds == max_rounds:
            return variance
        weight /= np.sqrt(variance)
