"""Networks whose layers a large rate has saturated: the layers look like the cause, and the rate is."""

import failing_checks as check
import failing_states as make
import numpy as np
from failing_checks import advance, begin
from failing_family import family


def _saturated(state, activation, widths):
    """The largest share of slopes, over the layers, that are below a hundredth of the steepest: by hand."""
    slopes = make.layer_facts(state.obj, widths, activation, state.obj._x, state.obj._y, state.theta)[2]
    return max(float(np.mean(s < 0.01 * {"tanh": 1, "sigmoid": 0.25}[activation])) for s in slopes)


def _by_the_rate(rng, activation, rates):
    """Trained with SGD; at a thirtieth of the rate, from the same start, no layer saturates and the loss is lower."""
    hidden = (int(rng.integers(12, 25)),) * int(rng.integers(1, 4))
    obj = make.digits_objective(rng, hidden, activation, gain=1.0)
    batch, options, lr = int(rng.choice([32, 1000])), make.plain_options(rng), 10 ** rng.uniform(*rates)
    steps, seed = int(rng.integers(60, 400)), int(rng.integers(2**31))
    state, gentle = (advance(begin(obj, "sgd", batch, lr=rate, **options), steps, np.random.default_rng(seed))
                     for rate in (lr, lr / 30))
    if not np.isfinite(state.losses).all():
        return None
    widths = (64, *hidden, 10)
    by_rate = (_saturated(state, activation, widths) > 0.5 > 0.2 > _saturated(gentle, activation, widths)
               and gentle.losses[-1] < 0.5 * state.losses[-1])
    return make.clear(by_rate and check.held_up(state), state)


@family("lr_too_large", held_out="fresh")
def tanh_layers_that_the_rate_saturated(rng):
    return _by_the_rate(rng, "tanh", (-0.3, 0.7))


@family("lr_too_large", held_out="fresh")
def sigmoid_layers_that_the_rate_saturated(rng):
    return _by_the_rate(rng, "sigmoid", (0.5, 1.5))
