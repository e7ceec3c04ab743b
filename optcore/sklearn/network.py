"""What an estimator trains: the network of its parameters, and the update rule over it."""

import math
from dataclasses import dataclass

import numpy as np

from optcore import nn, optim, train

ACTIVATIONS = {"identity": None, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU,
               "gelu": nn.GELU, "silu": nn.SiLU}


@dataclass(frozen=True)
class Shape:
    """A network as scikit-learn describes it: widths of its layers, and what comes after each hidden one."""

    units: tuple
    activation: str
    batch_norm: bool
    dtype: str

    def network(self):
        """Return the network, its parameters all zero."""
        layers, activation = [], ACTIVATIONS[self.activation]
        for i, (n_in, n_out) in enumerate(zip(self.units[:-1], self.units[1:], strict=True)):
            layers.append(nn.Linear(n_in, n_out, init="zeros"))
            if i < len(self.units) - 2:
                layers += [nn.BatchNorm(n_out)] if self.batch_norm else []
                layers += [activation()] if activation else []
        return nn.Sequential(*layers, dtype=self.dtype)

    def draw(self, net, rng):
        """Start it as scikit-learn does: with the same `rng`, a RandomState, at the same numbers.

        Weights and intercepts are U(-b, b) with b = sqrt(6/(n_in + n_out)), or sqrt(2/(n_in + n_out)) for "logistic"
        (Glorot and Bengio 2010).
        """
        factor = 2 if self.activation == "logistic" else 6
        for coef, intercept in zip(coefs(net), intercepts(net), strict=True):
            bound = math.sqrt(factor / sum(coef.shape))
            coef[...] = rng.uniform(-bound, bound, coef.shape)
            intercept[...] = rng.uniform(-bound, bound, intercept.shape)


def _of_linear(net, key):
    return [op.params[key].view(net.theta) for op in net.program.ops if op.name == "linear"]


def coefs(net):
    """Return the weights as views [n_in, n_out]."""
    return [w.T for w in _of_linear(net, "weight")]


def intercepts(net):
    """Return the intercepts as views."""
    return _of_linear(net, "bias")


def optimizer(est, net):
    """Return the update rule that an estimator's parameters name, over a network."""
    if callable(est.solver):
        found = est.solver(net)
        if not isinstance(found, optim.Optimizer | optim.Wrapper):
            raise TypeError(f"solver: expected a function that returns an optimizer of optcore.optim, got "
                            f"{type(found).__name__} from it")
        return found
    rule, options = optim.get(est.solver), {"lr": est.learning_rate_init if est.schedule is None else est.schedule}
    if est.solver == "sgd":
        options |= {"momentum": est.momentum, "nesterov": est.nesterovs_momentum and est.momentum > 0}
    elif est.solver == "adam":
        options |= {"betas": (est.beta_1, est.beta_2), "eps": est.epsilon}
    return rule(train.arrays_for(rule, net), clip_norm=est.clip_norm, **options)


def as_arrays(opt):
    """Return a rule's state, to pickle: None for no rule."""
    return None if opt is None else opt.state_dict()


def real_numbers(X, dtype):
    """Return X, dense or sparse, as a dense C-contiguous array."""
    return np.ascontiguousarray(X.toarray() if hasattr(X, "toarray") else X, dtype)
