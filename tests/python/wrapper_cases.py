"""What the tests of wrappers share: parameters, gradients good and bad, stacks of wrappers, comparison by bits."""

import math

import numpy as np
import pytest

import optcore as oc

SHAPES = {"w": (3, 4), "b": (4,), "s": (), "none": (0,)}
LARGE = 40_000      # three blocks of the arithmetic in place, the last one ragged


def start(dtype="float64", seed=1, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {k: np.asarray(rng.standard_normal(shape), dtype=dtype) for k, shape in shapes.items()}


def gradient(params):
    """Of a smooth function without symmetries."""
    return {k: np.asarray(0.3 * a + np.sin(2 * a) + 0.1, dtype=a.dtype) for k, a in params.items()}


def noise(params, seed):
    rng = np.random.default_rng(seed)
    return {k: np.asarray(rng.standard_normal(a.shape), dtype=a.dtype) for k, a in params.items()}


def bits(tree):
    """A tree of arrays and numbers with the arrays' bytes in their place: == compares bits."""
    if isinstance(tree, dict):
        return {k: bits(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [bits(v) for v in tree]
    return (tree.shape, tree.dtype.str, tree.tobytes()) if isinstance(tree, np.ndarray) else tree


def everything(opt, params):
    return bits([opt.state_dict(), params, opt.steps, opt.skipped_steps])


WRAPPERS = {
    "MultiSteps": lambda opt: oc.optim.MultiSteps(opt, 3),
    "Lookahead": lambda opt: oc.optim.Lookahead(opt, 4, 0.3),
    "EMA": lambda opt: oc.optim.EMA(opt, 0.9, debias=True),
    "EMA of Lookahead of MultiSteps":
        lambda opt: oc.optim.EMA(oc.optim.Lookahead(oc.optim.MultiSteps(opt, 2), 3), 0.8),
    "MultiSteps of EMA": lambda opt: oc.optim.MultiSteps(oc.optim.EMA(opt, 0.9), 2),
    "SAM": lambda opt: oc.optim.SAM(opt, 0.1),
    "SAM of Lookahead": lambda opt: oc.optim.SAM(oc.optim.Lookahead(opt, 2), 0.1, adaptive=True),
    "Lookahead of SAM": lambda opt: oc.optim.Lookahead(oc.optim.SAM(opt, 0.1), 3),
}
BY_GRADIENTS = [name for name in WRAPPERS if "SAM" not in name]


def move(opt, params, seed):
    """One call of step with noisy gradients, whatever the wrapper takes."""
    def noisy():
        return {k: np.asarray(g + n) for (k, g), n in zip(gradient(params).items(), noise(params, seed).values(),
                                                          strict=True)}

    opt.step(noisy if not opt._takes_arrays else noisy())
SPECIAL = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, -1e-40, 1.0]


def bad_gradients():
    good = gradient(start())
    yield "shape", {**good, "b": np.zeros(5)}, ValueError, "gradient of b: expected the shape"
    yield "dtype", {**good, "b": np.zeros(4, complex)}, TypeError, "gradient of b: expected (the )?dtype"
    yield "byte order", {**good, "b": np.zeros(4, ">f8")}, TypeError, "gradient of b: expected"
    yield "layout", {**good, "w": np.zeros((4, 3)).T}, ValueError, "gradient of w: expected a C-contiguous"
    yield "list", {**good, "s": [1.0]}, TypeError, "gradient of s: expected a NumPy array"
    yield "name", {"w": good["w"]}, ValueError, "grads: expected the names"
    yield "number", [good["w"]], ValueError, "grads: expected 4 gradients"
    yield "bare", good["w"], TypeError, "grads: expected a sequence or mapping"
    yield "NaN", {**good, "b": np.array([1, math.nan, 1, 1])}, FloatingPointError, "gradient of b: expected finite"
    yield "infinity", {**good, "s": np.array(math.inf)}, FloatingPointError, "gradient of s: expected finite"


BAD_GRADIENTS = pytest.mark.parametrize(("what", "bad", "error", "message"), list(bad_gradients()),
                                        ids=[case[0] for case in bad_gradients()])
