"""The operators that PyTorch's norms reach, without their Python.

PyTorch has no operator for the backward pass of RMS norm on a CPU: autograd, with its graph. Channels last is a memory
format; a ReLU writes a new array, as torch.relu does.
"""

import harness
import torch

import optcore as oc

VERSION = f"PyTorch {torch.__version__}"
torch.set_num_threads(oc.get_num_threads())
aten, functional = torch.ops.aten, torch.nn.functional
ALL = [True, True, True]


def prepare(work, variant):
    x, dy, w, b = map(torch.from_numpy, work.data())
    last = work.axis == -1 and work.name not in ("layer_norm", "rms_norm")
    if last:
        x, dy = x.movedim(-1, 1), dy.movedim(-1, 1)
    forward, backward = {"batch_norm": _batch, "layer_norm": _layer, "rms_norm": _rms}.get(work.name, _group)(
        work, x, w, b)

    def relu(saved):
        return aten.relu(saved[0]), *saved[1:]

    def both():
        saved = forward()
        if work.relu:
            saved = relu(saved)
            return backward(aten.threshold_backward(dy, saved[0], 0), *saved[1:])
        return backward(dy, *saved[1:])

    def back_to_numpy(arrays):
        first, *rest = (a.detach() for a in arrays)
        return [first.movedim(1, -1) if last else first, *rest]

    if work.backward:
        return harness.repeated(both), lambda: back_to_numpy(both())
    step = (lambda: relu(forward())) if work.relu else forward
    return harness.repeated(step), lambda: back_to_numpy(step()[:1])


def _batch(work, x, w, b):
    mean, var = torch.zeros_like(w), torch.ones_like(w)
    return (lambda: aten.native_batch_norm(x, w, b, mean, var, True, 0.1, 1e-5),
            lambda dy, m, s: aten.native_batch_norm_backward(dy, x, w, mean, var, m, s, True, 1e-5, ALL))


def _layer(work, x, w, b):
    shape = w.shape
    return (lambda: aten.native_layer_norm(x, shape, w, b, 1e-5),
            lambda dy, m, s: aten.native_layer_norm_backward(dy, x, shape, m, s, w, b, ALL))


def _rms(work, x, w, b):
    if not work.backward:
        return lambda: (functional.rms_norm(x, w.shape, w, 1e-5),), None

    def forward():
        leaves = x.detach().requires_grad_(), w.detach().requires_grad_()
        return None, functional.rms_norm(leaves[0], w.shape, leaves[1], 1e-5), leaves

    def backward(dy, y, leaves):
        y.backward(dy)
        return [leaf.grad for leaf in leaves]

    return forward, backward


def _group(work, x, w, b):
    n, c = x.shape[:2]
    each, groups = x.numel() // (n * c), work.groups
    return (lambda: aten.native_group_norm(x, w, b, n, c, each, groups, 1e-5),
            lambda dy, m, s: aten.native_group_norm_backward(dy, x, m, s, w, n, c, each, groups, ALL))
