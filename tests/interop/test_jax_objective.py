"""JAX functions as objectives, in a process of its own: JAX forbids what other tests do afterwards (fork)."""

import subprocess
import sys

CODE = """
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optcore as oc

rng = np.random.default_rng(0)
x, y = rng.standard_normal((17, 3)), rng.standard_normal((17, 2))
params = {"w": rng.standard_normal((3, 4)), "v": rng.standard_normal((4, 2))}

def loss(p, x, y):
    return jnp.mean((jnp.tanh(x @ p["w"]) @ p["v"] - y) ** 2)

whole, parts = (oc.jax.objective(loss, params, x, y, batch_size=size) for size in (None, 5))
theta = whole.theta0 + 0.1
flat = lambda t: loss({"v": t[:8].reshape(4, 2), "w": t[8:].reshape(3, 4)}, x, y)  # in the order of the keys
H = jax.hessian(flat)(theta)
v = rng.standard_normal(20)
for obj in (whole, parts):
    # float64 sums of some tens of terms of order one.
    np.testing.assert_allclose(obj.loss(theta), flat(theta), rtol=1e-13)
    np.testing.assert_allclose(obj.loss_and_grad(theta)[1], jax.grad(flat)(theta), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(obj.hvp(theta, v), H @ v, rtol=1e-10, atol=1e-12)
np.testing.assert_allclose(oc.curvature.eigenpairs(oc.curvature.Hessian(whole, theta), 3).values,
                           np.linalg.eigvalsh(H)[-3:], rtol=1e-9)
# Memory is shared both ways: JAX works on theta, the vector and, where they begin at 64 bytes, the examples.
calls, product_of = [], whole._product_of

def spy(*arguments):
    calls.append((arguments, product_of(*arguments)))
    return calls[-1][1]

def aligned(a):
    room = np.empty(a.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start:start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[:] = a
    return copy

theta, v, x, y = whole.check_theta(theta), whole.check_vector("v", v), aligned(x), aligned(y)
whole = oc.jax.objective(loss, params, x, y)
whole._product_of = spy
_, grad, state = whole._evaluate(theta, slice(None))
product, = whole._products(state, [v], "hvp")
for taken, ours in zip(calls[0][0], (theta, v, x, y), strict=True):
    assert taken.unsafe_buffer_pointer() == ours.ctypes.data
assert np.shares_memory(product, np.asarray(calls[0][1]))
assert np.shares_memory(whole.hvp(theta, v), np.asarray(calls[1][1]))
for call in (lambda: oc.jax.objective(loss, params, x), lambda: whole.gauss_newton(theta, v),
             lambda: oc.jax.objective(3, params)):
    try:
        call()
    except TypeError as error:
        print(str(error).split(":")[0])
"""


def test_jax():
    run = subprocess.run([sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[:3] == ["X, y", "obj", "loss_fn"]
