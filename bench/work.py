"""What the sides of a race do: a rule over a list of tensors, with the same options and data for all of them."""

import math
from dataclasses import dataclass

import numpy as np

LINE = 64  # bytes of a cache line
NUMPY_OFFSET = 16  # where NumPy's large arrays begin in their line: behind malloc's header

# Under torch.optim's names; each side translates them.
OPTIONS = {
    "Adam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8},
    "AdamW": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "Adagrad": {"lr": 1e-3, "eps": 1e-10},
    "RMSprop": {"lr": 1e-3, "alpha": 0.99, "eps": 1e-8},
    "Lion": {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 1e-2},
}
STATES = {"Adam": 2, "AdamW": 2, "SGD": 1, "Adagrad": 1, "RMSprop": 1, "Lion": 1}


@dataclass(frozen=True)
class Storage:
    """The dtype of parameters and gradients, that of the state (None: the same), and the bytes of an element."""

    dtype: str = "float32"
    state_dtype: str | None = None
    size: int = 4
    state_size: int = 4


FLOAT32 = Storage()
BFLOAT16_STATES = Storage(state_dtype="bfloat16", state_size=2)
BFLOAT16 = Storage(dtype="bfloat16", size=2, state_size=2)
INT8_STATES = Storage(state_dtype="int8", state_size=1)  # the scales of the blocks are left out


@dataclass(frozen=True)
class Work:
    """One step of ``rule`` over tensors of ``shapes``, the gradients clipped to ``clip_norm`` where one is given."""

    rule: str
    shapes: tuple
    clip_norm: float | None = None
    storage: Storage = FLOAT32

    @property
    def options(self):
        return OPTIONS[self.rule]

    @property
    def size(self):
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def bytes_each(self):
        """Bytes that a step moves for a parameter.

        Read p, g and the state, write p and the state: 28 for Adam, 20 for a rule with one state array. Clipping reads
        g once more.
        """
        s = self.storage
        return (4 if self.clip_norm else 3) * s.size + 2 * STATES[self.rule] * s.state_size

    def data(self, offset=NUMPY_OFFSET):
        """Parameters and gradients, the same for every side; each array begins ``offset`` bytes into a cache line."""
        rng = np.random.default_rng(0)
        return [[_filled(shape, self.storage.dtype, offset, block) for shape in self.shapes]
                for block in rng.standard_normal((2, 1 << 16), dtype=np.float32)]


@dataclass(frozen=True)
class Logits:
    """Logits [n, classes] and the right classes, the same for every side."""

    n: int
    classes: int

    def data(self):
        rng = np.random.default_rng(0)
        return rng.standard_normal((self.n, self.classes), dtype=np.float32), rng.integers(0, self.classes, self.n)


@dataclass(frozen=True)
class Norm:
    """A norm's forward pass, or that and its backward pass, in training; with a ReLU after it, in one pass or apart."""

    name: str
    shape: tuple
    axis: int = 1
    groups: int | None = None
    backward: bool = False
    relu: str | None = None  # "fused" or "apart"

    @property
    def bytes_each(self):
        """Read x and write y; read dy and x and write dx."""
        return 20 if self.backward else 8

    @property
    def axes(self):
        """The axes over which batch norm takes its statistics."""
        return tuple(i for i in range(len(self.shape)) if i != self.axis % len(self.shape))

    def along(self, c):
        """An array [C] as it meets x."""
        return c.reshape([-1 if i == self.axis % len(self.shape) else 1 for i in range(len(self.shape))])

    def data(self):
        """Return x and dy, weight and bias."""
        rng = np.random.default_rng(0)
        return (*rng.standard_normal((2, *self.shape), dtype=np.float32),
                *rng.standard_normal((2, self.shape[self.axis]), dtype=np.float32))

    def __str__(self):
        groups = f", {self.groups} groups" if self.name == "group_norm" else ""
        last = " channels last" if self.axis == -1 and len(self.shape) > 2 else ""
        return "x".join(map(str, self.shape)) + groups + last


@dataclass(frozen=True)
class Training:
    """Steps of Adam on linear layers with ReLU between them: the same batches and start for every side."""

    sizes: tuple
    batch: int
    batches: int
    batch_norm: bool = False
    lr: float = 1e-3

    def data(self):
        """Return X [batches*batch, sizes[0]] and y."""
        rng = np.random.default_rng(0)
        n = self.batches * self.batch
        return rng.standard_normal((n, self.sizes[0]), dtype=np.float32), rng.integers(0, self.sizes[-1], n)

    def start(self):
        """Return (weight [out, in], bias [out]) of each layer: He et al. (2015), and zeros."""
        rng = np.random.default_rng(1)
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        return [((rng.standard_normal((o, i)) * math.sqrt(2 / i)).astype(np.float32), np.zeros(o, np.float32))
                for i, o in pairs]


@dataclass(frozen=True)
class LeNet:
    """Steps of Adam on the convolution network of LeCun et al. (1998), with ReLU and the largest of each window."""

    batch: int
    batches: int
    lr: float = 1e-3

    def data(self):
        """Return X [batches*batch, 1, 28, 28] and y."""
        rng = np.random.default_rng(0)
        n = self.batches * self.batch
        return rng.standard_normal((n, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, n)

    def start(self):
        """Return (weight, bias) of the two convolutions and three linear layers: He et al. (2015), and zeros."""
        rng = np.random.default_rng(1)
        shapes = (6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)
        return [((rng.standard_normal(s) * math.sqrt(2 / math.prod(s[1:]))).astype(np.float32),
                 np.zeros(s[0], np.float32)) for s in shapes]


def array_at(shape, dtype, offset):
    """Zeros that begin ``offset`` bytes into a cache line."""
    room = np.zeros(math.prod(shape) * np.dtype(dtype).itemsize + LINE, np.uint8)
    return np.ndarray(shape, dtype, room, (offset - room.ctypes.data) % LINE)


def _filled(shape, dtype, offset, block):
    """An array filled with ``block``, again and again: 64 M random numbers would take longer than the race."""
    array = array_at(shape, _dtype(dtype), offset)
    flat = array.reshape(-1)
    for begin in range(0, flat.size, block.size):
        flat[begin:begin + block.size] = block[:flat.size - begin]
    return array


def _dtype(name):
    if name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return name


def resnet50():
    """The shapes of ResNet-50's 161 parameter tensors (He et al. 2016, table 1)."""
    shapes = []

    def convolution(outputs, inputs, side):
        """A convolution without bias and the weight and bias of the batch norm after it."""
        shapes.extend([(outputs, inputs, side, side), (outputs,), (outputs,)])

    convolution(64, 3, 7)
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolution(width, channels, 1)
            convolution(width, width, 3)
            convolution(4 * width, width, 1)
            if block == 0:  # the shortcut changes the number of channels
                convolution(4 * width, channels, 1)
            channels = 4 * width
    return (*shapes, (1000, channels), (1000,))


@dataclass(frozen=True)
class Fit:
    """A whole fit of scikit-learn's digits or of synthetic rows [100000, 50], at default settings but the passes."""

    name: str
    max_iter: int

    def data(self):
        """X, y to fit; X, y to test."""
        from sklearn.datasets import load_digits, make_classification

        if self.name == "digits":
            X, y = load_digits(return_X_y=True)
            return X / 16, y, X / 16, y
        X, y = make_classification(125_000, 50, n_informative=20, random_state=0)
        return X[:100_000], y[:100_000], X[100_000:], y[100_000:]
