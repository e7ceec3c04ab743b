"""optcore, called as a user calls it."""

from functools import partial

import harness

import optcore as oc

VERSION = oc.__version__


def prepare(work, variant):
    params, grads = work.data()
    opt = getattr(oc.optim, work.rule)(_given(params), **work.options, clip_norm=work.clip_norm,
                                       state_dtype=work.storage.state_dtype)
    return harness.repeated(partial(opt.step, _given(grads))), lambda: params


def _given(arrays):
    return arrays[0] if len(arrays) == 1 else arrays
