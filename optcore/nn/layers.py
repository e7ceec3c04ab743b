"""Layers: small specifications that become operations of a program."""

import math
from dataclasses import MISSING, dataclass, fields

from optcore.checks import flag, integer, number, one_of
from optcore.nn.init import SCHEMES
from optcore.nn.program import Buffer, Op, Parameter


def put(layer, **values):
    """Put checked values into a frozen layer."""
    for name, value in values.items():
        object.__setattr__(layer, name, value)


class Layer:
    """Base of all layers: says which input it takes, and becomes an operation."""

    input_shape = None
    """Shape of one example, or None where the layer takes any."""

    takes_images = False
    """Whether what comes after it in a network does not tell the shape of an example."""

    def fits(self, shape):
        """Return whether the layer takes examples of this shape.

        Parameters
        ----------
        shape : tuple of int
            Of one example.

        Returns
        -------
        bool
        """
        return self.input_shape is None or shape == self.input_shape

    def expected(self):
        """Return what shapes the layer takes, for an error.

        Returns
        -------
        str
        """
        return str(self.input_shape)

    def text(self):
        """Return the layer as one would type it: what is at its default is left out.

        Returns
        -------
        str
        """
        changed = [(f, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        values = [f"{v!r}" if f.default is MISSING else f"{f.name}={v!r}" for f, v in changed]
        return f"{type(self).__name__}({', '.join(values)})"

    def plan(self, label, shape, start):
        """Return the operation that the layer becomes in a network.

        Parameters
        ----------
        label : str
            The layer's place in the network, before the names of its parameters: "2" for "2.weight".
        shape : tuple of int
            Of one example.
        start : int
            Where its parameters begin in theta.

        Returns
        -------
        optcore.nn.program.Op
        """
        name = type(self).__name__.lower()
        return Op(name, label, shape, shape)


def first_shape(layers):
    """Return the shape of one example that the first of the layers to say one takes, or None."""
    for layer in layers:
        if layer.input_shape is not None or layer.takes_images:
            return layer.input_shape
    return None


def chain(layers, shape, start, prefix=""):
    """Return the operations of layers one after the other.

    Parameters
    ----------
    layers : sequence of Layer
    shape : tuple of int
        Of one example.
    start : int
        Where their parameters begin in theta.
    prefix : str
        Of their labels.

    Returns
    -------
    list of Op

    Raises
    ------
    ValueError
        A layer does not take what the one before it gives.
    """
    ops = []
    for i, layer in enumerate(layers):
        if not layer.fits(shape):
            source = f"layer {prefix}{i - 1}, {layers[i - 1].text()}," if i else "input_shape"
            raise ValueError(f"layers: layer {prefix}{i}, {layer.text()}, expected examples of shape "
                             f"{layer.expected()}, got {shape} from {source}".rstrip(","))
        ops.append(layer.plan(f"{prefix}{i}", shape, start))
        start += ops[-1].size
        shape = ops[-1].out_shape
    return ops


@dataclass(frozen=True)
class Linear(Layer):
    """Affine map ``y = x @ weight.T + bias`` of each example.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    init : str
        Scheme of the weight, see `optcore.nn.init`. With the default one, PyTorch's, the bias
        starts as U(-b, b) too, b = 1/sqrt(in_features); with every other it starts at zero.

    Notes
    -----
    Parameters: ``weight`` [out_features, in_features] (PyTorch's layout), ``bias`` [out_features].

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.Sequential(oc.nn.Linear(3, 2)).parameters["0.weight"].shape
    (2, 3)
    """

    in_features: int
    out_features: int
    bias: bool = True
    init: str = "fan_in_uniform"

    def __post_init__(self):
        put(self, in_features=integer("in_features", self.in_features),
             out_features=integer("out_features", self.out_features),
             bias=flag("bias", self.bias), init=one_of("init", self.init, SCHEMES))

    @property
    def input_shape(self):
        """Shape of one example."""
        return (self.in_features,)

    def plan(self, label, shape, start):
        """Return the operation."""
        fans = self.in_features, self.out_features
        weight = Parameter(f"{label}.weight", (self.out_features, self.in_features), start, self.init, *fans)
        params = {"weight": weight}
        if self.bias:
            scheme = self.init if self.init == "fan_in_uniform" else "zeros"
            params["bias"] = Parameter(f"{label}.bias", (self.out_features,), weight.stop, scheme, *fans)
        return Op("linear", label, shape, (self.out_features,), params)


@dataclass(frozen=True)
class ReLU(Layer):
    """Rectifier, max(x, 0); its derivative at 0 is 0.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.ReLU(), input_shape=(3,), dtype="float64")
    >>> net.predict(np.array([[-1.0, 0.0, 2.0]]))
    array([[0., 0., 2.]])
    """


@dataclass(frozen=True)
class ELU(Layer):
    """Exponential linear unit: x where x > 0, else alpha*(exp(x) - 1) (Clevert et al. 2016).

    Parameters
    ----------
    alpha : float
        At least 0.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.ELU(), input_shape=(2,), dtype="float64")
    >>> net.predict(np.array([[-1.0, 2.0]])).round(3)   # exp(-1) - 1
    array([[-0.632,  2.   ]])
    """

    alpha: float = 1.0

    def __post_init__(self):
        put(self, alpha=number("alpha", self.alpha))

    def plan(self, label, shape, start):
        """Return the operation."""
        return Op("elu", label, shape, shape, options={"alpha": self.alpha})


@dataclass(frozen=True)
class Sigmoid(Layer):
    """Logistic function, 1/(1 + exp(-x)).

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Sigmoid(), input_shape=(2,), dtype="float64")
    >>> net.predict(np.array([[0.0, np.log(3)]])).round(3)
    array([[0.5 , 0.75]])
    """


@dataclass(frozen=True)
class Tanh(Layer):
    """Hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Tanh(), input_shape=(2,), dtype="float64")
    >>> net.predict(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 0.762]])
    """


@dataclass(frozen=True)
class GELU(Layer):
    """Gaussian error linear unit, x*Phi(x); see `optcore.functional.gelu`.

    Parameters
    ----------
    approximate : {"none", "tanh"}

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.GELU(), input_shape=(2,), dtype="float64")
    >>> net.predict(np.array([[0.0, 1.0]])).round(3)    # Phi(1) is 0.841
    array([[0.   , 0.841]])
    """

    approximate: str = "none"

    def __post_init__(self):
        one_of("approximate", self.approximate, ("none", "tanh"))

    def plan(self, label, shape, start):
        """Return the operation."""
        return Op("gelu" if self.approximate == "none" else "gelu_tanh", label, shape, shape)


@dataclass(frozen=True)
class SiLU(Layer):
    """Sigmoid linear unit (swish), x/(1 + exp(-x)); see `optcore.functional.silu`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.SiLU(), input_shape=(2,), dtype="float64")
    >>> net.predict(np.array([[0.0, 1.0]])).round(3)
    array([[0.   , 0.731]])
    """


@dataclass(frozen=True)
class Flatten(Layer):
    """Each example as one row: [N, ...] to [N, values].

    As the first layer it takes examples of any shape with the number of values that the next layer asks for.

    Examples
    --------
    >>> import numpy as np
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Flatten(), oc.nn.Linear(64, 10))
    >>> net.forward(np.zeros((5, 8, 8), "float32")).shape
    (5, 10)
    """

    def plan(self, label, shape, start):
        """Return the operation."""
        return Op("flatten", label, shape, (math.prod(shape),))


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, zero for each value with probability p, the others divided by 1 - p (Srivastava et al. 2014).

    In evaluation the layer does nothing.

    Parameters
    ----------
    p : float
        From 0 to 1.

    Notes
    -----
    Which values are zero is a function of the network's seed, the layer, the number of training passes so far and the
    place in the batch: the same on any number of threads, and in a run that a checkpoint resumes. Two buffers hold what
    it is computed from, ``seed`` and ``num_passes``, int64. An objective's passes do not count.

    Examples
    --------
    >>> import numpy as np
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Dropout(0.5), oc.nn.Linear(3, 1), input_shape=(3,))
    >>> bool((net.predict(np.ones((4, 3), "float32")) == net.predict(np.ones((4, 3), "float32"))).all())
    True
    """

    p: float = 0.5

    def __post_init__(self):
        put(self, p=number("p", self.p, high=1.0))

    def plan(self, label, shape, start):
        """Return the operation."""
        buffers = {"seed": Buffer(f"{label}.seed", (), None, "int64"),
                   "num_passes": Buffer(f"{label}.num_passes", (), 0, "int64")}
        return Op("dropout", label, shape, shape, buffers=buffers, options={"p": self.p})
