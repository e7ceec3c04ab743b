"""optcore, called as a user calls it; over the arrays that it was given last, as variant "loop", the plain loop; and as
"move" what moves the same bytes and does no more."""

from functools import partial

import harness
from sides import loop_side

import optcore as oc

VERSION = oc.__version__
_last = None


def prepare(work, variant):
    global _last
    if variant in ("loop", "move"):
        return loop_side.over(work, *_last, name="move" if variant == "move" else None), None
    params, grads = work.data()
    opt = getattr(oc.optim, work.rule)(_given(params), **work.options, clip_norm=work.clip_norm,
                                       state_dtype=work.storage.state_dtype)
    states = [list(each) for each in zip(*(state.values() for state in opt._state), strict=True)
              if each[0].size == params[0].size]  # no scales
    _last = params, grads, states[0], states[-1]
    return harness.repeated(partial(opt.step, _given(grads))), lambda: params


def forget():
    global _last
    _last = None


def _given(arrays):
    return arrays[0] if len(arrays) == 1 else arrays
