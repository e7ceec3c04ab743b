"""JAX's training step: loss, gradient and optax's Adam under one jit, parameters and state donated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

VERSION = f"optax {optax.__version__}, JAX {jax.__version__}"


def loss_of(params, running, x, target):
    for i, layer in enumerate(params):
        x = x @ layer["weight"].T + layer["bias"]
        if "scale" in layer:
            mean, var = x.mean(0), x.var(0)
            x = (x - mean) * jax.lax.rsqrt(var + 1e-5) * layer["scale"] + layer["shift"]
            n = x.shape[0]
            moved = [0.9 * old + 0.1 * new for old, new in zip(running[i], (mean, var * n / (n - 1)), strict=True)]
            running = [*running[:i], moved, *running[i + 1:]]
        x = jax.nn.relu(x) if i + 1 < len(params) else x
    return optax.softmax_cross_entropy_with_integer_labels(x, target).mean(), running


def parameters(work):
    params = [{"weight": jnp.asarray(weight), "bias": jnp.asarray(bias)} for weight, bias in work.start()]
    running = []
    if work.batch_norm:
        for layer in params[:-1]:
            layer |= {"scale": jnp.ones_like(layer["bias"]), "shift": jnp.zeros_like(layer["bias"])}
            running.append([jnp.zeros_like(layer["bias"]), jnp.ones_like(layer["bias"])])
    return params, running


def prepare(work, variant):
    rule = optax.adam(work.lr)
    params, running = parameters(work)
    state = rule.init(params)
    X, y = work.data()
    batches = [(jnp.asarray(x), jnp.asarray(t)) for x, t in
               zip(np.split(X, work.batches), np.split(y, work.batches), strict=True)]

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, running, state, x, target):
        (_, running), grads = jax.value_and_grad(loss_of, has_aux=True)(params, running, x, target)
        updates, state = rule.update(grads, state, params)
        return optax.apply_updates(params, updates), running, state

    def run(count):
        nonlocal params, running, state
        for i in range(count):
            params, running, state = step(params, running, state, *batches[i % len(batches)])
        jax.block_until_ready(params)

    names = ("weight", "bias", "scale", "shift")
    return run, lambda: [np.asarray(layer[k]) for layer in params for k in names if k in layer]
