"""optcore, called as a user calls it; and, as variant "loop", the plain loop over the arrays that it was given last."""

from functools import partial

import harness
from sides import loop_side

import optcore as oc

VERSION = oc.__version__
_last = None


def prepare(work, variant):
    global _last
    if variant == "loop":
        return loop_side.over(work, *_last), None
    params, grads = work.data()
    opt = getattr(oc.optim, work.rule)(_given(params), **work.options, clip_norm=work.clip_norm,
                                       state_dtype=work.storage.state_dtype)
    states = [list(each) for each in zip(*(state.values() for state in opt._state), strict=True)]
    _last = params, grads, states[0], states[-1]
    return harness.repeated(partial(opt.step, _given(grads))), lambda: params


def forget():
    global _last
    _last = None


def _given(arrays):
    return arrays[0] if len(arrays) == 1 else arrays
