"""Layers that normalise; `optcore.norm` says what they compute."""

import math
from dataclasses import dataclass

from optcore.checks import flag, integer, number
from optcore.nn import arguments
from optcore.nn.layers import Layer, put
from optcore.nn.program import Buffer, Op, Parameter


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalization of each feature, or of each channel of [N, C, ...]; see `optcore.norm.batch_norm`.

    Parameters
    ----------
    features : int
        Number of features or channels C, the first dimension of an example.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the batch in the running statistics; None for the average over all batches.

    Notes
    -----
    Parameters ``weight`` (ones) and ``bias`` (zeros) [C]; buffers ``running_mean`` (zeros) and
    ``running_var`` (ones) [C], ``num_batches_tracked`` (int64), as in PyTorch.

    Examples
    --------
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Linear(3, 2), oc.nn.BatchNorm(2))
    >>> list(net.buffers)
    ['1.running_mean', '1.running_var', '1.num_batches_tracked']
    """

    features: int
    eps: float = 1e-5
    momentum: float | None = 0.1

    def __post_init__(self):
        put(self, features=integer("features", self.features))
        _positive_eps(self)
        if self.momentum is not None:
            put(self, momentum=number("momentum", self.momentum, high=1.0))

    @property
    def input_shape(self):
        """Shape of one example where nothing else says it."""
        return (self.features,)

    def fits(self, shape):
        """Return whether the layer takes examples of this shape."""
        return len(shape) >= 1 and shape[0] == self.features

    def plan(self, label, shape, start):
        """Return the operation."""
        c = (self.features,)
        params = {"weight": Parameter(f"{label}.weight", c, start, "ones"),
                  "bias": Parameter(f"{label}.bias", c, start + self.features, "zeros")}
        buffers = {"running_mean": Buffer(f"{label}.running_mean", c, 0.0),
                   "running_var": Buffer(f"{label}.running_var", c, 1.0),
                   "num_batches": Buffer(f"{label}.num_batches_tracked", (), 0, "int64")}
        options = {"eps": self.eps, "momentum": self.momentum}
        return Op("batch_norm", label, shape, shape, params, buffers, options)


def _positive_eps(layer):
    put(layer, eps=number("eps", layer.eps, open_low=True))


def _scale_and_shift(label, shape, start, names=("weight", "bias")):
    """Return the parameters of a norm: ones to scale with, zeros to shift by."""
    params = {}
    for name in names:
        params[name] = Parameter(f"{label}.{name}", shape, start, "ones" if name == "weight" else "zeros")
        start = params[name].stop
    return params


class _RowNorm(Layer):
    """A norm of the last dimensions of an example."""

    @property
    def input_shape(self):
        """Shape of one example where nothing else says it."""
        return self.shape

    def fits(self, shape):
        """Return whether the layer takes examples of this shape."""
        return shape[-len(self.shape):] == self.shape

    def _check(self):
        shape = self.shape if isinstance(self.shape, tuple | list) else (self.shape,)
        if not shape:
            raise ValueError("shape: expected at least one dimension, got ()")
        put(self, shape=arguments.shape("shape", shape), affine=flag("affine", self.affine))
        _positive_eps(self)


@dataclass(frozen=True)
class LayerNorm(_RowNorm):
    """Normalization of each example over its last dimensions; see `optcore.norm.layer_norm`.

    Parameters
    ----------
    shape : int or tuple of int
        The last dimensions of an example, which are normalised together.
    eps : float
        Added to the variance.
    affine : bool
        Whether there are parameters: ``weight`` (ones) and ``bias`` (zeros) of this shape.

    Examples
    --------
    >>> import optcore as oc
    >>> list(oc.nn.Sequential(oc.nn.Linear(3, 2), oc.nn.LayerNorm(2)).parameters)
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """

    shape: int | tuple
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self):
        self._check()

    def plan(self, label, shape, start):
        """Return the operation."""
        params = _scale_and_shift(label, self.shape, start) if self.affine else {}
        options = {"eps": self.eps, "ndim": len(self.shape)}
        return Op("layer_norm", label, shape, shape, params, options=options)


@dataclass(frozen=True)
class RMSNorm(_RowNorm):
    """Normalization of each example by its root mean square; see `optcore.norm.rms_norm`.

    Parameters
    ----------
    shape : int or tuple of int
        The last dimensions of an example, which are normalised together.
    eps : float
        Added to the mean square.
    affine : bool
        Whether there is a parameter: ``weight`` (ones) of this shape.

    Examples
    --------
    >>> import optcore as oc
    >>> list(oc.nn.Sequential(oc.nn.Linear(3, 2), oc.nn.RMSNorm(2)).parameters)
    ['0.weight', '0.bias', '1.weight']
    """

    shape: int | tuple
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self):
        self._check()

    def plan(self, label, shape, start):
        """Return the operation."""
        params = _scale_and_shift(label, self.shape, start, ["weight"]) if self.affine else {}
        options = {"eps": self.eps, "ndim": len(self.shape)}
        return Op("rms_norm", label, shape, shape, params, options=options)


@dataclass(frozen=True)
class GroupNorm(Layer):
    """Normalization of each example over groups of its channels [C, ...]; see `optcore.norm.group_norm`.

    Parameters
    ----------
    num_groups : int
        A divisor of `features`.
    features : int
        Number of channels C, the first dimension of an example.
    eps : float
        Added to the variance.
    affine : bool
        Whether there are parameters: ``weight`` (ones) and ``bias`` (zeros) [C].

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.Sequential(oc.nn.GroupNorm(2, 6), input_shape=(6, 4, 4)).program.out_shape
    (6, 4, 4)
    """

    num_groups: int
    features: int
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self):
        put(self, num_groups=integer("num_groups", self.num_groups),
             features=integer("features", self.features), affine=flag("affine", self.affine))
        if self.features % self.num_groups:
            raise ValueError(f"num_groups: expected a divisor of features, {self.features}, got {self.num_groups}")
        _positive_eps(self)

    @property
    def input_shape(self):
        """Shape of one example where nothing else says it."""
        return (self.features,)

    def fits(self, shape):
        """Return whether the layer takes examples of this shape: two values or more in each group."""
        return shape[:1] == (self.features,) and math.prod(shape) > self.num_groups

    def plan(self, label, shape, start):
        """Return the operation."""
        params = _scale_and_shift(label, (self.features,), start) if self.affine else {}
        options = {"eps": self.eps, "num_groups": self.num_groups}
        return Op("group_norm", label, shape, shape, params, options=options)


@dataclass(frozen=True)
class InstanceNorm(Layer):
    """Normalization of each channel of each example [C, ...]; see `optcore.norm.instance_norm`.

    Parameters
    ----------
    features : int
        Number of channels C, the first dimension of an example; there are more dimensions.
    eps : float
        Added to the variance.
    affine : bool
        Whether there are parameters: ``weight`` (ones) and ``bias`` (zeros) [C]; by default none, as in PyTorch.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.Sequential(oc.nn.InstanceNorm(6), input_shape=(6, 4, 4)).program.size
    0
    """

    features: int
    eps: float = 1e-5
    affine: bool = False

    def __post_init__(self):
        put(self, features=integer("features", self.features), affine=flag("affine", self.affine))
        _positive_eps(self)

    @property
    def input_shape(self):
        """None: the number of channels alone does not say the shape of an example."""
        return None

    def fits(self, shape):
        """Return whether the layer takes examples of this shape: two values or more in each channel."""
        return shape[:1] == (self.features,) and math.prod(shape) > self.features

    def plan(self, label, shape, start):
        """Return the operation."""
        params = _scale_and_shift(label, (self.features,), start) if self.affine else {}
        return Op("instance_norm", label, shape, shape, params, options={"eps": self.eps})
