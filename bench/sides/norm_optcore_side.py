"""optcore's norms, called as a user calls them."""

import harness
import numpy as np

import optcore as oc
from optcore import functional, norm

VERSION = oc.__version__


def prepare(work, variant):
    x, dy, w, b = work.data()
    call, backward = getattr(norm, work.name), getattr(norm, f"{work.name}_backward")
    args, options = _arguments(work, w, b)
    apart = work.relu == "apart"

    def forward():
        y, saved = call(x, *args, **options)
        return functional.relu(y) if apart else y, saved

    def both():
        y, saved = forward()
        return backward(functional.relu_backward(dy, y) if apart else dy, x, w, saved)

    if work.backward:
        return harness.repeated(both), lambda: [gradient for gradient in both() if gradient is not None]
    return harness.repeated(forward), lambda: forward()[:1]


def _arguments(work, w, b):
    if work.name == "rms_norm":
        return [w], {}
    if work.name == "layer_norm":
        return [w, b], {}
    options = {"channel_axis": work.axis}
    if work.name == "batch_norm":
        buffers = [np.zeros(w.size, np.float32), np.ones(w.size, np.float32)]
        options |= {"training": True} | ({"activation": "relu"} if work.relu == "fused" else {})
        return [w, b, *buffers], options
    return [work.groups, w, b] if work.name == "group_norm" else [w, b], options
