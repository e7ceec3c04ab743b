"""A network of layers in a row, over one flat vector."""

import contextlib
from types import MappingProxyType

import numpy as np

from optcore.checks import flag, float_dtype
from optcore.nn import arguments, losses, passes
from optcore.nn.compiled import Compiled, loss_form
from optcore.nn.init import draw
from optcore.nn.layers import Flatten, Layer, chain, first_shape
from optcore.nn.penalty import penalty_of
from optcore.nn.program import Program
from optcore.process import one_pool

_CHUNK = 4096  # examples of one piece of `predict`: its activations are all that it holds


def plan(layers, input_shape=None):
    """Turn layers into a program.

    Parameters
    ----------
    layers : sequence of Layer
    input_shape : tuple of int, optional
        Shape of one example; taken from the first layer that says one where it is not given.

    Returns
    -------
    Program

    Raises
    ------
    TypeError, ValueError
        Something that is not a layer; layers that do not fit together; an input shape that nothing says.

    Examples
    --------
    >>> import optcore as oc
    >>> program = plan([oc.nn.Linear(4, 3), oc.nn.ReLU(), oc.nn.Linear(3, 2)])
    >>> program.size, program.in_shape, program.out_shape
    (23, (4,), (2,))
    """
    if not layers:
        raise ValueError("layers: expected at least one layer, got none")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers: expected layers of optcore.nn, such as ReLU(), got {layer!r}")
    shape = first_shape(layers) if input_shape is None else arguments.shape("input_shape", input_shape)
    if shape is None:
        raise ValueError("input_shape: expected the shape of one example, for no layer says it, got None")
    ops = chain(layers, shape, 0)
    return Program(tuple(ops), any_shape=input_shape is None and isinstance(layers[0], Flatten))


class Sequential:
    """Layers applied one after the other, their parameters in one flat vector.

    Parameters
    ----------
    *layers : Layer
    dtype : {"float32", "float64"}
        Of parameters, inputs and outputs.
    seed : int, sequence of int or numpy.random.Generator
        Of the initial values, drawn layer by layer.
    input_shape : tuple of int, optional
        Shape of one example, where the first layers do not say it.

    Attributes
    ----------
    program : optcore.nn.program.Program
        The network as data.
    layers : tuple of Layer
    dtype : numpy.dtype
    compiled : optcore.nn.compiled.Compiled
        The network bound to memory, for whoever runs many steps.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.nn import BatchNorm, Linear, ReLU, Sequential
    >>> net = Sequential(Linear(64, 128), BatchNorm(128), ReLU(), Linear(128, 10))
    >>> net.theta.shape, net.parameters["3.weight"].shape
    ((9866,), (10, 128))
    >>> net.forward(np.zeros((5, 64), "float32")).shape
    (5, 10)
    """

    def __init__(self, *layers, dtype="float32", seed=0, input_shape=None):
        self.dtype = float_dtype("dtype", dtype)
        self.layers = layers
        self.program = plan(layers, input_shape)
        self._theta = np.empty(self.program.size, self.dtype)
        rng = _generator(seed)
        for p in self.program.parameters():
            p.view(self._theta)[...] = draw(p.init, rng, p.shape, p.fan_in, p.fan_out)
        self._buffers = {b.name: np.full(b.shape, b.fill if b.fill is not None else rng.integers(2**63),
                                         b.dtype or self.dtype) for b in self.program.buffers()}
        self.compiled = Compiled(self.program, self._theta, self._buffers)

    @property
    def theta(self):
        """The parameters, one flat vector [n]; the storage itself. Assigning copies values in.

        Raises
        ------
        TypeError, ValueError
            On assignment: not an array of float32 or float64, not of shape [n].
        """
        return self._theta

    @theta.setter
    def theta(self, value):
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            got = getattr(value, "dtype", type(value).__name__)
            raise TypeError(f"theta: expected a NumPy array of floats, got {got}")
        if value.shape != self._theta.shape:
            raise ValueError(f"theta: expected shape {self._theta.shape}, got {value.shape}")
        self._theta[...] = value

    @property
    def parameters(self):
        """Mapping of name ("0.weight") to view into `theta`: the values can change, the mapping cannot."""
        return MappingProxyType({p.name: p.view(self._theta) for p in self.program.parameters()})

    @property
    def buffers(self):
        """Mapping of name ("1.running_mean") to array: the values can change, the mapping cannot."""
        return MappingProxyType(self._buffers)

    def forward(self, x, training=False):
        """Compute the outputs.

        Parameters
        ----------
        x : ndarray [N, ...]
            In the dtype of the network, C-contiguous.
        training : bool
            Normalise with the statistics of x and move the running ones; else use the running ones.

        Returns
        -------
        ndarray [N, ...]
            The outputs of the last layer; with a cross-entropy loss, the logits.

        Raises
        ------
        TypeError, ValueError
            x is of another dtype or shape; in training, fewer than 2 values for each channel of a batch norm.

        Examples
        --------
        >>> import numpy as np
        >>> import optcore as oc
        >>> net = oc.nn.Sequential(oc.nn.Linear(3, 2, init="zeros"))
        >>> net.forward(np.ones((1, 3), "float32"))
        array([[0., 0.]], dtype=float32)
        """
        passes.check_input(self.program, x, self.dtype)
        training = flag("training", training)
        if not training:
            return self._outputs(x)
        with one_pool, self._network(len(x), True) as network:
            if network:
                out = np.empty((len(x), *self.program.out_shape), self.dtype)
                network.output(x, out)
                return out
            with self._restored_on_error():
                return passes.forward(self.program, self._theta, self._buffers, x, training=True,
                                      update_running=True)[-1].y

    def predict(self, x):
        """Compute the outputs in evaluation mode, a few thousand examples at a time.

        As `forward`, for any number of examples: the activations in between are held for one piece only. A
        network does not know what its outputs mean; for logits, ``net.predict(x).argmax(axis=1)`` is the
        predicted class.

        Parameters
        ----------
        x : ndarray [N, ...]
            In the dtype of the network, C-contiguous.

        Returns
        -------
        ndarray [N, ...]

        Raises
        ------
        TypeError, ValueError
            x is of another dtype or shape.

        Examples
        --------
        >>> import numpy as np
        >>> import optcore as oc
        >>> net = oc.nn.Sequential(oc.nn.Linear(3, 2), oc.nn.ReLU())
        >>> net.predict(np.ones((10000, 3), "float32")).shape
        (10000, 2)
        """
        passes.check_input(self.program, x, self.dtype)
        return self._outputs(x)

    def _outputs(self, x):
        out = np.empty((len(x), *self.program.out_shape), self.dtype)
        with one_pool, self._network(min(len(x), _CHUNK), False) as network:
            for i in range(0, len(x), _CHUNK):
                if network:
                    network.output(x[i:i + _CHUNK], out[i:i + _CHUNK])
                else:
                    out[i:i + _CHUNK] = passes.output(self.program, self._theta, self._buffers, x[i:i + _CHUNK])
        return out

    @contextlib.contextmanager
    def _network(self, rows, training):
        """Lend the compiled network for so many examples; None where there is none."""
        network = self.compiled.take(rows, training)
        try:
            yield network
        finally:
            if network is not None:
                self.compiled.give(network, training)

    def loss_and_grad(self, x, target, loss="cross_entropy", grad=None, sample_weight=None, *, l1=0.0,
                      l2=0.0):
        """One training evaluation: forward, loss, backward; moves the running statistics of batch norm.

        Parameters
        ----------
        x : ndarray [N, ...]
            In the dtype of the network, C-contiguous, N >= 1.
        target : ndarray
            For "cross_entropy" int64 class indices [N] or probabilities [N, K]; for the others values of the
            outputs' shape.
        loss : {"cross_entropy", "mse", "bce", "huber"} or loss
            A name, or an object with options such as ``CrossEntropy(label_smoothing=0.1)``. Cross-entropy is the mean
            over the batch, the others are means over all elements.
        grad : ndarray [n]
            Needed, such as ``np.empty_like(net.theta)``, and written: the gradient with respect to `theta`.
        sample_weight : array_like [N], optional
            Weights of the examples, finite and at least 0: the loss is their weighted mean.
        l1, l2 : float
            Of the penalty l1*sum |w| + l2/2*sum w^2 of the weights (not of biases and norms), a term of the loss;
            finite and at least 0. The slope of |w| at 0 is 0.

        Returns
        -------
        float
            The loss, penalty included.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit; nothing has been changed then.

        Examples
        --------
        >>> import numpy as np
        >>> import optcore as oc
        >>> net = oc.nn.Sequential(oc.nn.Linear(3, 2, init="zeros"))
        >>> grad = np.empty_like(net.theta)
        >>> round(net.loss_and_grad(np.ones((4, 3), "float32"), np.array([0, 1, 1, 0]), grad=grad), 4)
        0.6931
        """
        row = losses.find(loss)
        passes.check_input(self.program, x, self.dtype)
        losses.check(row, target, len(x), self.program.out_shape, self.dtype)
        weight = losses.check_weights(sample_weight, x, row.own_weights(target))
        _check_grad(grad, self._theta, x, target)
        form, penalty = loss_form(row), penalty_of(self.program, l1, l2)
        with one_pool, self._network(len(x) if form else 0, True) as network:
            if network:
                return network.loss_and_grad(x, target, form, grad, weight, penalty)
            return self._loss_and_grad(x, target, row, grad, weight, penalty)

    def _loss_and_grad(self, x, target, row, grad, weight, penalty):
        """The Python passes: for what has no compiled form, and the reference of what has."""
        with self._restored_on_error():
            records = passes.forward(self.program, self._theta, self._buffers, x, training=True,
                                     update_running=True)
            value, dy = row.value(records[-1].y, target, **losses.given(weight))
            passes.backward(self.program, records, dy, grad)
        return value if penalty is None else value + penalty.add_gradient(self._theta, grad)

    @contextlib.contextmanager
    def _restored_on_error(self):
        """Put the buffers back if the block fails: one layer may have moved its own before another raised."""
        before = {name: b.copy() for name, b in self._buffers.items()}
        try:
            yield
        except BaseException:
            for name, b in self._buffers.items():
                b[...] = before[name]
            raise

    def summary(self):
        """Return a table of the layers, their output shapes and numbers of parameters.

        Returns
        -------
        str

        Examples
        --------
        >>> import optcore as oc
        >>> print(oc.nn.Sequential(oc.nn.Linear(4, 3), oc.nn.ReLU(), oc.nn.Linear(3, 2)).summary())
        layer                                                    output        parameters
        0  Linear(4, 3)                                          [N, 3]                15
        1  ReLU()                                                [N, 3]                 0
        2  Linear(3, 2)                                          [N, 2]                 8
        23 parameters, float32
        """
        rows = [(op.label, layer.text(), _shape(op.out_shape), op.size)
                for layer, op in zip(self.layers, self.program.ops, strict=True)]
        lines = [f"{'layer':<57}{'output':<14}{'parameters':>10}"]
        lines += [f"{label:<3}{text:<54}{shape:<14}{size:>10,}" for label, text, shape, size in rows]
        return "\n".join([*lines, f"{self.program.size:,} parameters, {self.dtype}"])

    def __repr__(self):
        layers = "".join(f"    {layer.text()},\n" for layer in self.layers)
        return f"Sequential(\n{layers}    dtype={self.dtype.name!r},\n)  # {self.program.size:,} parameters"


def _generator(seed):
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed: expected integers of at least 0 or a numpy.random.Generator, got {seed!r}") from error


def _shape(shape):
    return f"[{', '.join(['N', *map(str, shape)])}]"


def _check_grad(grad, theta, x, target):
    if not isinstance(grad, np.ndarray):
        raise TypeError("grad: expected a NumPy array to write into, such as np.empty_like(net.theta), got "
                        f"{type(grad).__name__}")
    if grad.dtype != theta.dtype:
        raise TypeError(f"grad: expected dtype {theta.dtype}, that of theta, got {grad.dtype}")
    if grad.shape != theta.shape:
        raise ValueError(f"grad: expected shape {theta.shape}, got {grad.shape}")
    if not (grad.flags.c_contiguous and grad.flags.writeable):
        raise ValueError("grad: expected a writable, contiguous array")
    for name, other in (("theta", theta), ("x", x), ("target", target)):
        if np.may_share_memory(grad, other):
            raise ValueError(f"grad: expected memory of its own, got an array that overlaps {name}")
