"""Layers of images [N, C, H, W]: specifications, as all layers."""

import math
from dataclasses import dataclass

from optcore.checks import flag, integer, one_of
from optcore.nn import arguments
from optcore.nn.init import SCHEMES
from optcore.nn.layers import Layer, put
from optcore.nn.program import Op, Parameter


class _OverWindows(Layer):
    """A layer that slides a window over images."""

    takes_images = True

    @property
    def windows(self):
        """Kernel size, stride and padding, each a pair of rows and columns; raises on what they cannot be."""
        kernel = arguments.pair("kernel_size", self.kernel_size, 1)
        stride = kernel if self.stride is None else arguments.pair("stride", self.stride, 1)
        return kernel, stride, arguments.pair("padding", self.padding, 0)

    def _outputs(self, shape):
        """Number of windows along rows and columns of an image of this shape."""
        return tuple((size + 2 * pad - kernel) // stride + 1
                     for size, kernel, stride, pad in zip(shape[1:], *self.windows, strict=True))

    def fits(self, shape):
        """Return whether the layer takes examples of this shape."""
        return len(shape) == 3 and min(self._outputs(shape)) >= 1

    def expected(self):
        """Return what shapes the layer takes, for an error."""
        kernel, _, padding = self.windows
        h, w = (max(1, size - 2 * pad) for size, pad in zip(kernel, padding, strict=True))
        return f"({getattr(self, 'in_channels', 'channels')}, height >= {h}, width >= {w})"


@dataclass(frozen=True)
class Conv2d(_OverWindows):
    """Convolution of images: ``y[o] = bias[o] + sum_c weight[o, c] * x[c]``, * the cross-correlation.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or pair of int
        Rows and columns of the window; one number stands for both, as in what follows.
    stride : int or pair of int
        From one window to the next.
    padding : int or pair of int
        Rows or columns of zeros on each side.
    bias : bool
    init : str
        Scheme of the weight, see `optcore.nn.init`, with in_channels*kh*kw inputs and out_channels*kh*kw outputs. With
        the default one, PyTorch's, the bias starts as U(-b, b) too, b = 1/sqrt(inputs); with every other at zero.

    Notes
    -----
    Examples are [in_channels, H, W], outputs [out_channels, H', W'], H' = floor((H + 2*padding - kernel)/stride) + 1.
    Parameters: ``weight`` [out_channels, in_channels, kh, kw] (PyTorch's layout), ``bias`` [out_channels].

    Examples
    --------
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.Conv2d(1, 6, 5, padding=2), input_shape=(1, 28, 28))
    >>> net.program.out_shape, net.parameters["0.weight"].shape
    ((6, 28, 28), (6, 1, 5, 5))
    """

    in_channels: int
    out_channels: int
    kernel_size: int | tuple
    stride: int | tuple = 1
    padding: int | tuple = 0
    bias: bool = True
    init: str = "fan_in_uniform"

    def __post_init__(self):
        put(self, in_channels=integer("in_channels", self.in_channels),
            out_channels=integer("out_channels", self.out_channels),
            bias=flag("bias", self.bias), init=one_of("init", self.init, SCHEMES))
        arguments.pair("stride", self.stride, 1)
        _ = self.windows

    def fits(self, shape):
        """Return whether the layer takes examples of this shape."""
        return super().fits(shape) and shape[0] == self.in_channels

    def plan(self, label, shape, start):
        """Return the operation."""
        kernel, stride, padding = self.windows
        places = math.prod(kernel)
        fans = self.in_channels * places, self.out_channels * places
        weight = Parameter(f"{label}.weight", (self.out_channels, self.in_channels, *kernel), start, self.init, *fans)
        params = {"weight": weight}
        if self.bias:
            scheme = self.init if self.init == "fan_in_uniform" else "zeros"
            params["bias"] = Parameter(f"{label}.bias", (self.out_channels,), weight.stop, scheme, *fans)
        return Op("conv2d", label, shape, (self.out_channels, *self._outputs(shape)), params,
                  options={"stride": stride, "padding": padding})


class _Pool(_OverWindows):
    def __post_init__(self):
        kernel, _, padding = self.windows
        if any(2 * pad > size for pad, size in zip(padding, kernel, strict=True)):
            raise ValueError(f"padding: expected at most half of kernel_size, {self.kernel_size}, got {self.padding}")

    def plan(self, label, shape, start):
        """Return the operation."""
        options = dict(zip(("kernel", "stride", "padding"), self.windows, strict=True))
        return Op(self.op, label, shape, (shape[0], *self._outputs(shape)), options=options)


@dataclass(frozen=True)
class MaxPool2d(_Pool):
    """The largest value of each window of each channel.

    Parameters
    ----------
    kernel_size : int or pair of int
        Rows and columns of the window; one number stands for both, as in what follows.
    stride : int or pair of int, optional
        From one window to the next; the kernel's size where it is not given.
    padding : int or pair of int
        Rows or columns on each side, which are never the largest; at most half of the kernel.

    Notes
    -----
    Of equal values the first gets the gradient, row by row, and NaN counts as larger than any: as in PyTorch.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.Sequential(oc.nn.MaxPool2d(2), input_shape=(6, 28, 28)).program.out_shape
    (6, 14, 14)
    """

    kernel_size: int | tuple
    stride: int | tuple | None = None
    padding: int | tuple = 0

    op = "max_pool2d"

@dataclass(frozen=True)
class AvgPool2d(_Pool):
    """The mean of each window of each channel.

    Parameters
    ----------
    kernel_size : int or pair of int
        Rows and columns of the window; one number stands for both, as in what follows.
    stride : int or pair of int, optional
        From one window to the next; the kernel's size where it is not given.
    padding : int or pair of int
        Rows or columns of zeros on each side, which count in the mean, as in PyTorch; at most half of the kernel.

    Examples
    --------
    >>> import numpy as np
    >>> import optcore as oc
    >>> net = oc.nn.Sequential(oc.nn.AvgPool2d(2), input_shape=(1, 2, 2))
    >>> net.forward(np.array([[[[1, 2], [3, 4]]]], "float32")).item()
    2.5
    """

    kernel_size: int | tuple
    stride: int | tuple | None = None
    padding: int | tuple = 0

    op = "avg_pool2d"
