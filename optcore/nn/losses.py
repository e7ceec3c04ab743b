"""The losses that close a network: value, adjoint, and the adjoint's derivative."""

from dataclasses import dataclass

import numpy as np

from optcore import functional
from optcore._native.functional import cross_entropy_r
from optcore.checks import array, number, one_of
from optcore.functional.targets import row_weights, smoothing, soft_targets, weighted_binary, weights


class Loss:
    """A loss as data. Frozen: what it computes never changes."""

    classification = False
    """Whether the targets may be classes, and the largest output is the predicted one."""

    def value(self, y, target, gradient=True, sample_weight=None):
        """Return the loss, a mean of the examples, and its gradient.

        Parameters
        ----------
        y : ndarray [N, ...]
            Outputs of the network.
        target : ndarray
            What `check` has passed.
        gradient : bool
            Whether it is asked for.
        sample_weight : ndarray, float64 [N], optional
            Weights of the examples in the mean.

        Returns
        -------
        loss : float
        dy : ndarray like y, or None
            Its gradient with respect to y.
        """
        raise TypeError(f"{type(self).__name__}: a loss needs a method value")

    def curvature(self, y, target, sample_weight=None):
        """Return the second derivative of the loss with respect to y, as a function.

        Parameters
        ----------
        y, target, sample_weight
            As for `value`.

        Returns
        -------
        callable
            From a direction ry, like y, to the derivative of dy along it; it may write into ry.
        """
        raise TypeError(f"{type(self).__name__}: an objective needs a loss with a method curvature")

    def own_weights(self, target):
        """Return what each example counts in the mean by its target.

        Parameters
        ----------
        target : ndarray
            Of N examples.

        Returns
        -------
        float64 [N] or None
            None where all count the same.
        """
        return None

    def check(self, target, n, shape, dtype):
        """Raise unless the targets go with the outputs.

        Parameters
        ----------
        target : ndarray
        n : int
            Number of examples.
        shape : tuple of int
            Of the output for one example.
        dtype : dtype
            Of the network.

        Raises
        ------
        TypeError, ValueError
            Another dtype, shape or range; the message says which was expected.
        """
        if target.dtype != dtype:
            raise TypeError(f"target: expected dtype {dtype}, that of the network, got {target.dtype}")
        if target.shape != (n, *shape):
            raise ValueError(f"target: expected shape {(n, *shape)}, that of the outputs, got {target.shape}")


def _frozen_weights(loss, name):
    """Replace weights of any form by a float, a tuple of floats or None: a loss can be compared and written down."""
    value = getattr(loss, name)
    if value is not None:
        array = weights(value, name)
        if array.ndim > 1:
            raise ValueError(f"{name}: expected a number or one for each output, got shape {array.shape}")
        object.__setattr__(loss, name, tuple(array.tolist()) if array.ndim else float(array))


def _shares(y, sample_weight):
    """What each output counts in a mean of the examples: 1/size, or by their weights; [] or [N, 1, ...]."""
    if sample_weight is None:
        return y.dtype.type(1 / y.size)
    share = sample_weight / (sample_weight.sum() * (y.size // len(y)))
    return share.astype(y.dtype).reshape(-1, *[1] * (y.ndim - 1))


def _check_length(name, value, shape):
    if isinstance(value, tuple) and (len(value),) != shape[-1:]:
        raise ValueError(f"{name}: expected {shape[-1]} values, one for each output, got {len(value)}")


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy, the mean over the examples; see `optcore.functional.cross_entropy`.

    Parameters
    ----------
    label_smoothing : float
        Share of each target that is spread over all classes.
    weight : sequence of float, optional
        One for each class.

    Notes
    -----
    Targets are int64 classes [N] or probabilities [N, K]. The mean of classes that have weights is over the weights in
    the batch, so that an epoch of batches is not exactly the whole: as in PyTorch. Over classes of weight 0 only it is
    undefined: networks refuse such a batch, and `optcore.train.fit` leaves their examples out.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.CrossEntropy(label_smoothing=0.1, weight=[1, 2])
    CrossEntropy(label_smoothing=0.1, weight=(1.0, 2.0))
    """

    label_smoothing: float = 0.0
    weight: tuple | None = None

    classification = True

    def __post_init__(self):
        object.__setattr__(self, "label_smoothing", smoothing(self.label_smoothing))
        _frozen_weights(self, "weight")
        if isinstance(self.weight, float):
            raise ValueError(f"weight: expected one number for each class, got {self.weight}")

    def value(self, y, target, gradient=True, sample_weight=None):
        """Return (loss, dy)."""
        return functional.cross_entropy(y, target, label_smoothing=self.label_smoothing, weight=self.weight,
                                        sample_weight=sample_weight, gradient=gradient)

    def curvature(self, y, target, sample_weight=None):
        """Return the function ry -> R{dy}."""
        p = functional.softmax(y)
        if target.ndim == 1 and self == CrossEntropy() and sample_weight is None:
            return lambda rz: cross_entropy_r(p, rz, rz)
        # dz = w*(p*sum_j q_j - q)/total: a row of weights q that does not sum to 1 scales its row.
        q, total = soft_targets(y, target, self.label_smoothing, self.weight, sample_weight)
        w = np.ones(len(q)) if sample_weight is None else sample_weight
        scale = q.sum(axis=1) * w * (len(q) / (w.sum() if total is None else total))
        scale = scale.astype(q.dtype)[:, None]
        return lambda rz: cross_entropy_r(p, rz, rz) * scale

    def own_weights(self, target):
        """Return the weight of each example's class; None without such weights, and for probabilities."""
        return None if self.weight is None or target.ndim != 1 else np.array(self.weight)[target]

    def check(self, target, n, shape, dtype):
        """Raise unless `target` goes with n outputs of this shape and dtype."""
        if len(shape) != 1:
            raise ValueError(f"loss: cross_entropy takes outputs [N, K], the network gives {['N', *shape]}")
        _check_length("weight", self.weight, shape)
        if target.ndim != 1:
            if target.dtype.kind in "iu":
                raise ValueError(f"target: expected class indices of shape [N], got shape {list(target.shape)}")
            super().check(target, n, shape, dtype)
            return
        if target.dtype != np.int64:
            raise TypeError(f"target: expected int64 class indices [N], got {target.dtype}")
        if target.shape != (n,):
            raise ValueError(f"target: expected {n} class indices, one per example, got {target.shape[0]}")
        if n and not (target.min() >= 0 and target.max() < shape[0]):
            raise ValueError(f"target: expected class indices from 0 to {shape[0] - 1}, "
                             f"got {target.min()} to {target.max()}")


@dataclass(frozen=True)
class MSE(Loss):
    """Squared error, the mean over all outputs; see `optcore.functional.mse`.

    Parameters
    ----------
    scale : float
        Multiplies it: 0.5 for half the squared error, K for the sum over K outputs.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.MSE(scale=0.5)
    MSE(scale=0.5)
    """

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", number("scale", self.scale, open_low=True))

    def value(self, y, target, gradient=True, sample_weight=None):
        """Return (loss, dy)."""
        return functional.mse(y, target, sample_weight=sample_weight, scale=self.scale, gradient=gradient)

    def curvature(self, y, target, sample_weight=None):
        """Return the function ry -> R{dy}."""
        factor = y.dtype.type(2 * self.scale) * _shares(y, sample_weight)
        return lambda ry: ry * factor


@dataclass(frozen=True)
class Huber(Loss):
    """Huber's error, the mean over all outputs; see `optcore.functional.huber`.

    Parameters
    ----------
    delta : float
        Where the parabola ends and the straight line begins.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.Huber(delta=0.5)
    Huber(delta=0.5)
    """

    delta: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "delta", number("delta", self.delta, open_low=True))

    def value(self, y, target, gradient=True, sample_weight=None):
        """Return (loss, dy)."""
        return functional.huber(y, target, self.delta, sample_weight=sample_weight, gradient=gradient)

    def curvature(self, y, target, sample_weight=None):
        """Return the function ry -> R{dy}."""
        factor = (abs(y - target) < self.delta) * _shares(y, sample_weight)
        return lambda ry: ry * factor


@dataclass(frozen=True)
class BCE(Loss):
    """Binary cross-entropy of logits, the mean over all outputs; see `optcore.functional.bce_with_logits`.

    Parameters
    ----------
    weight, pos_weight : float or sequence of float, optional
        Of the outputs, and of their positive targets: one for all, or one for each index of the last dimension.
    scale : float
        Multiplies the loss: K for the sum over K outputs.

    Notes
    -----
    Targets are numbers from 0 to 1, of the shape of the outputs.

    Examples
    --------
    >>> import optcore as oc
    >>> oc.nn.BCE(pos_weight=3)
    BCE(weight=None, pos_weight=3.0, scale=1.0)
    """

    weight: float | tuple | None = None
    pos_weight: float | tuple | None = None
    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", number("scale", self.scale, open_low=True))
        _frozen_weights(self, "weight")
        _frozen_weights(self, "pos_weight")

    def value(self, y, target, gradient=True, sample_weight=None):
        """Return (loss, dy)."""
        return functional.bce_with_logits(y, target, weight=self.weight, pos_weight=self.pos_weight,
                                          sample_weight=sample_weight, scale=self.scale, gradient=gradient)

    def curvature(self, y, target, sample_weight=None):
        """Return the function ry -> R{dy}."""
        factor = functional.sigmoid(y) * functional.sigmoid(-y) * _shares(y, sample_weight) * y.dtype.type(self.scale)
        if self.weight is not None or self.pos_weight is not None:
            factor *= weighted_binary(y, target, self.weight, self.pos_weight)[1]
        return lambda ry: ry * factor

    def check(self, target, n, shape, dtype):
        """Raise unless `target` goes with n outputs of this shape and dtype."""
        super().check(target, n, shape, dtype)
        _check_length("weight", self.weight, shape)
        _check_length("pos_weight", self.pos_weight, shape)
        if n and not (target.min() >= 0 and target.max() <= 1):
            raise ValueError(f"target: expected numbers from 0 to 1, got {target.min()} to {target.max()}")


LOSSES = {"cross_entropy": CrossEntropy(), "mse": MSE(), "bce": BCE(), "huber": Huber()}


def find(loss):
    """Return the loss of this name, or the loss itself.

    Raises
    ------
    TypeError, ValueError
        Neither a loss nor a string; an unknown name.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss: expected a name or a loss such as CrossEntropy(), got {type(loss).__name__}")
    return LOSSES[one_of("loss", loss, LOSSES)]


def given(sample_weight):
    """The argument for `Loss.value` and `Loss.curvature`; none where there are no weights, for losses without them."""
    return {} if sample_weight is None else {"sample_weight": sample_weight}


def check_weights(sample_weight, like, own=None):
    """Return the examples' weights as float64 [N], or None for None; raise where they are not, or all are 0.

    `own` are the `Loss.own_weights` of the targets, which multiply them.
    """
    weight = row_weights(sample_weight, like)
    if weight is not None and not weight.any():
        raise ValueError("sample_weight: expected a positive one among them, got zeros only: their mean is undefined")
    if own is not None and not (own if weight is None else own * weight).any():
        raise ValueError("target: expected an example of a class with a positive weight, got weight 0 for all of them: "
                         "their mean is undefined")
    return weight


def check(loss, target, n, shape, dtype):
    """Raise unless `target` goes with n outputs of this shape and dtype."""
    array("target", target)
    if n == 0:
        raise ValueError("x: expected at least one example, got none: a mean over nothing is undefined")
    loss.check(target, n, shape, dtype)
    if not target.flags.c_contiguous:
        raise ValueError(f"target: expected a C-contiguous array, got strides {target.strides}")
