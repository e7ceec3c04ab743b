"""optax under jax.jit, parameters and state donated."""

from functools import partial
from itertools import repeat

import jax
import numpy as np
import optax

VERSION = f"optax {optax.__version__}, JAX {jax.__version__}"


def transformation(work):
    o = work.options
    b1, b2 = o.get("betas", (None, None))
    rule = {
        "Adam": lambda: optax.adam(o["lr"], b1, b2, o["eps"]),
        "AdamW": lambda: optax.adamw(o["lr"], b1, b2, o["eps"], weight_decay=o["weight_decay"]),
        "SGD": lambda: optax.sgd(o["lr"], o["momentum"]),
        # Its eps stands under the root.
        "Adagrad": lambda: optax.adagrad(o["lr"], initial_accumulator_value=0.0, eps=o["eps"] ** 2),
        "RMSprop": lambda: optax.rmsprop(o["lr"], o["alpha"], o["eps"], eps_in_sqrt=False),
        "Lion": lambda: optax.lion(o["lr"], b1, b2, weight_decay=o["weight_decay"]),
    }[work.rule]()
    return optax.chain(optax.clip_by_global_norm(work.clip_norm), rule) if work.clip_norm else rule


def prepare(work, variant):
    params, grads = ([jax.numpy.array(a, copy=True) for a in arrays] for arrays in work.data())
    rule = transformation(work)
    state = rule.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = rule.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def run(count):
        nonlocal params, state
        for _ in repeat(None, count):
            params, state = step(params, state, grads)
        jax.block_until_ready(params)

    return run, lambda: [np.asarray(p) for p in params]
