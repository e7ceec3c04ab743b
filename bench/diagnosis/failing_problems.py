"""The losses that the failing trainings are made of: closed forms in NumPy, and networks on the digits."""

from functools import cache
from itertools import pairwise

import numpy as np

import optcore as oc


def rotation(rng, n):
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def _objective(loss, grad, hvp, theta0, dtype):
    return oc.Objective(loss, grad, hvp, theta0=np.asarray(theta0, dtype))


def separable(rng, f, df, ddf, n, dtype, theta0, turn=True):
    """Sum of functions of the rotated coordinates: f, f', f'' take and return arrays [n]."""
    q = rotation(rng, n) if turn else np.eye(n)

    def loss(t):
        return float(np.sum(f(q @ t.astype(float))))

    def grad(t):
        return q.T @ df(q @ t.astype(float))

    def hvp(t, v):
        return q.T @ (ddf(q @ t.astype(float)) * (q @ v))

    return _objective(loss, grad, hvp, q.T @ np.asarray(theta0, float), dtype), q


def quadratic(rng, values, dtype="float64", shift=0.0):
    """1/2 sum l_i u_i^2 + shift in rotated coordinates u."""
    values = np.asarray(values, float)
    return separable(rng, lambda u: 0.5 * values * u**2 + shift / values.size, lambda u: values * u,
                     lambda u: values + 0 * u, values.size, dtype, rng.standard_normal(values.size))[0]


def log_cosh_valley(rng, walls, floor, width, dtype="float64"):
    """Walls w s^2 log cosh(u/s), whose slope saturates at w s, beside a floor 1/2 b u^2."""
    walls, floor = np.asarray(walls, float), np.asarray(floor, float)
    k, n = walls.size, walls.size + floor.size

    def f(u):
        a = np.abs(u[:k] / width)
        return np.r_[walls * width**2 * (a + np.log1p(np.exp(-2 * a)) - np.log(2)), 0.5 * floor * u[k:] ** 2]

    def df(u):
        return np.r_[walls * width * np.tanh(u[:k] / width), floor * u[k:]]

    def ddf(u):
        return np.r_[walls / np.cosh(np.minimum(np.abs(u[:k] / width), 300)) ** 2, floor]

    start = np.r_[width * rng.standard_normal(k), 3 * rng.standard_normal(n - k)]
    return separable(rng, f, df, ddf, n, dtype, start)[0]


def square_root_valley(rng, walls, floor, width, dtype="float64"):
    """As `log_cosh_valley`, with walls w s (sqrt(s^2 + u^2) - s)."""
    walls, floor = np.asarray(walls, float), np.asarray(floor, float)
    k, n = walls.size, walls.size + floor.size

    def root(u):
        return np.sqrt(width**2 + u[:k] ** 2)

    return separable(rng, lambda u: np.r_[walls * width * (root(u) - width), 0.5 * floor * u[k:] ** 2],
                     lambda u: np.r_[walls * width * u[:k] / root(u), floor * u[k:]],
                     lambda u: np.r_[walls * width**3 / root(u) ** 3, floor], n, dtype,
                     np.r_[width * rng.standard_normal(k), 3 * rng.standard_normal(n - k)])[0]


def rounded_power_valley(rng, walls, floor, width, dtype="float64"):
    """As `log_cosh_valley`, with walls w 2/3 s^2 ((1 + u^2/s^2)^(3/4) - 1)."""
    walls, floor = np.asarray(walls, float), np.asarray(floor, float)
    k, n = walls.size, walls.size + floor.size

    def inner(u):
        return 1 + (u[:k] / width) ** 2

    return separable(rng, lambda u: np.r_[walls * width**2 * 2 / 3 * (inner(u) ** 0.75 - 1), 0.5 * floor * u[k:] ** 2],
                     lambda u: np.r_[walls * u[:k] * inner(u) ** -0.25, floor * u[k:]],
                     lambda u: np.r_[walls * (inner(u) - 0.5 * (u[:k] / width) ** 2) * inner(u) ** -1.25, floor],
                     n, dtype, np.r_[width * rng.standard_normal(k), 3 * rng.standard_normal(n - k)])[0]


def power(rng, n, p, dtype="float64"):
    """Sum of c |u|^p: no second order at zero for p > 2."""
    c = rng.uniform(0.5, 2, n)
    return separable(rng, lambda u: c * np.abs(u) ** p, lambda u: c * p * np.sign(u) * np.abs(u) ** (p - 1),
                     lambda u: c * p * (p - 1) * np.abs(u) ** (p - 2), n, dtype, rng.standard_normal(n))[0]


def monkey_saddle(rng, scale=1.0):
    """c (x^3 - 3 x y^2), rotated."""
    q = rotation(rng, 2)

    def loss(t):
        x, y = q @ t
        return scale * (x**3 - 3 * x * y**2)

    def grad(t):
        x, y = q @ t
        return scale * q.T @ np.array([3 * x**2 - 3 * y**2, -6 * x * y])

    def hvp(t, v):
        x, y = q @ t
        a, b = q @ v
        return scale * q.T @ np.array([6 * x * a - 6 * y * b, -6 * y * a - 6 * x * b])

    return _objective(loss, grad, hvp, rng.standard_normal(2), "float64")


def bump(rng, n, sign, dtype="float64", kind="gauss"):
    """-sign exp(-|t|^2/2) + 1, or with 1/(1 + |t|^2/2): a well for sign 1, a hill for -1."""
    scale = rng.uniform(0.5, 2)

    def parts(t):
        r2 = float(np.sum((t.astype(float) / scale) ** 2))
        if kind == "gauss":
            e = np.exp(-0.5 * r2)
            return e, -e, e
        if kind == "secant":  # 1 / cosh r = exp(-r) 2 / (1 + exp(-2 r)), by w = r^2 as the others
            r = max(np.sqrt(r2), 1e-8)
            b, tanh = 1 / np.cosh(min(r, 700.0)), np.tanh(r)
            return b, -b * tanh / r, b * (tanh**2 - 1 / np.cosh(min(r, 300.0)) ** 2) / r2 + b * tanh / r**3
        b = 1 / (1 + 0.5 * r2)
        return b, -b**2, 2 * b**3

    def loss(t):
        return 1 - sign * parts(t)[0]

    def grad(t):
        return -sign * parts(t)[1] * t / scale**2

    def hvp(t, v):
        _, first, second = parts(t)
        return -sign * (first * v / scale**2 + second * (t @ v) * t / scale**4)

    return _objective(loss, grad, hvp, scale * rng.standard_normal(n), dtype)


def chain(depth, height=1.0, dtype="float64"):
    """h (1 - w_1 ... w_depth)^2: the linear network of one unit a layer."""
    def others(t):
        return np.array([np.prod(np.delete(t, i)) for i in range(depth)])

    def loss(t):
        return height * float((1 - np.prod(t.astype(float))) ** 2)

    def grad(t):
        t = t.astype(float)
        return -2 * height * (1 - np.prod(t)) * others(t)

    def hvp(t, v):
        t, o = t.astype(float), others(t.astype(float))
        move = np.zeros(depth)
        for i in range(depth):
            for j in range(depth):
                if i != j:
                    move[i] += np.prod(np.delete(t, [i, j])) * v[j]
        return 2 * height * ((o @ v) * o - (1 - np.prod(t)) * move)

    return _objective(loss, grad, hvp, np.full(depth, 0.5), dtype)


def factorization(rng, n=4, rank=2, dtype="float64"):
    """1/2 |A B' - M|^2 for A, B [n, rank], M of full rank."""
    target = rng.standard_normal((n, n))
    size = n * rank

    def split(t):
        return t[:size].reshape(n, rank).astype(float), t[size:].reshape(n, rank).astype(float)

    def loss(t):
        a, b = split(t)
        return 0.5 * float(np.sum((a @ b.T - target) ** 2))

    def grad(t):
        a, b = split(t)
        r = a @ b.T - target
        return np.r_[(r @ b).ravel(), (r.T @ a).ravel()]

    def hvp(t, v):
        (a, b), (da, db) = split(t), split(v)
        r, dr = a @ b.T - target, da @ b.T + a @ db.T
        return np.r_[(dr @ b + r @ db).ravel(), (dr.T @ a + r.T @ da).ravel()]

    return _objective(loss, grad, hvp, 0.5 * rng.standard_normal(2 * size), dtype)


def rosenbrock(a=100.0, dtype="float64"):
    """(1 - x)^2 + a (y - x^2)^2."""
    return _objective(lambda t: float((1 - t[0]) ** 2 + a * (t[1] - t[0] ** 2) ** 2),
                      lambda t: np.array([-2 * (1 - t[0]) - 4 * a * t[0] * (t[1] - t[0] ** 2),
                                          2 * a * (t[1] - t[0] ** 2)]),
                      lambda t, v: np.array([(2 - 4 * a * t[1] + 12 * a * t[0] ** 2) * v[0] - 4 * a * t[0] * v[1],
                                             -4 * a * t[0] * v[0] + 2 * a * v[1]]), np.array([-1.2, 1.0]), dtype)


def styblinski_tang(n, dtype="float64"):
    """Sum of (x^4 - 16 x^2 + 5 x) / 2."""
    return _objective(lambda t: float(np.sum(t**4 - 16 * t**2 + 5 * t) / 2), lambda t: (4 * t**3 - 32 * t + 5) / 2,
                      lambda t, v: (6 * t**2 - 16) * v, np.zeros(n), dtype)


def himmelblau(dtype="float64"):
    """(x^2 + y - 11)^2 + (x + y^2 - 7)^2."""
    def parts(t):
        x, y = t.astype(float)
        return x, y, x**2 + y - 11, x + y**2 - 7

    def grad(t):
        x, y, p, q = parts(t)
        return np.array([4 * x * p + 2 * q, 2 * p + 4 * y * q])

    def hvp(t, v):
        x, y, p, q = parts(t)
        off = 4 * x + 4 * y
        return np.array([(8 * x**2 + 4 * p + 2) * v[0] + off * v[1], off * v[0] + (2 + 8 * y**2 + 4 * q) * v[1]])

    return _objective(lambda t: float(parts(t)[2] ** 2 + parts(t)[3] ** 2), grad, hvp, np.array([0.0, 0.0]), dtype)


def over_examples(x, y, phi, dphi, ddphi, theta0, ridge=0.0, dtype="float64"):
    """Mean of phi(x_i . t, y_i) + ridge/2 |t|^2 over examples x [N, d]; dphi and ddphi by the first argument."""
    def rows(batch):
        return (x, y) if batch is None else (x[batch], y[batch])

    def loss(t, batch=None):
        t = t.astype(float)
        xb, yb = rows(batch)
        return float(np.mean(phi(xb @ t, yb)) + 0.5 * ridge * t @ t)

    def grad(t, batch=None):
        t = t.astype(float)
        xb, yb = rows(batch)
        return xb.T @ dphi(xb @ t, yb) / len(xb) + ridge * t

    def hvp(t, v, batch=None):
        t, v = t.astype(float), v.astype(float)
        xb, yb = rows(batch)
        return xb.T @ (ddphi(xb @ t, yb) * (xb @ v)) / len(xb) + ridge * v

    return oc.Objective(loss, grad, hvp, theta0=np.asarray(theta0, dtype), n_examples=len(x))


def regression(rng, examples, d, noise, condition=10.0, kind="squares", dtype="float64"):
    """Least squares, or Huber's error with delta 1, on Gaussian features of different scale."""
    x = rng.standard_normal((examples, d)) * np.geomspace(1, condition**-0.5, d)
    y = x @ rng.standard_normal(d) + noise * rng.standard_normal(examples)
    theta0 = 3 * rng.standard_normal(d)
    if kind == "squares":
        return over_examples(x, y, lambda z, y: 0.5 * (z - y) ** 2, lambda z, y: z - y, lambda z, y: np.ones_like(z),
                             theta0, dtype=dtype)
    return over_examples(
        x, y, lambda z, y: np.where(np.abs(z - y) < 1, 0.5 * (z - y) ** 2, np.abs(z - y) - 0.5),
        lambda z, y: np.clip(z - y, -1, 1), lambda z, y: (np.abs(z - y) < 1) * 1.0, theta0, dtype=dtype)


def logistic(rng, examples, d, ridge=1e-2, dtype="float64"):
    """Logistic regression with labels that no plane separates."""
    x = rng.standard_normal((examples, d)) * np.geomspace(2, 0.3, d)
    y = np.where(x @ rng.standard_normal(d) + rng.standard_normal(examples) > 0, 1.0, -1.0)

    def p(z, y):
        return 0.5 * (1 - np.tanh(0.5 * z * y))

    return over_examples(x, y, lambda z, y: np.logaddexp(0, -z * y), lambda z, y: -y * p(z, y),
                         lambda z, y: p(z, y) * (1 - p(z, y)), rng.standard_normal(d), ridge, dtype)


@cache
def _digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16.0, y


def digits(rng, examples, dtype="float64", center=True):
    """A random part of the digits: X [N, 64], labels [N]."""
    x, y = _digits()
    rows = rng.choice(len(x), examples, replace=False)
    return np.ascontiguousarray((x[rows] - 0.3 * center).astype(dtype)), y[rows].astype(np.int64)


ACTIVATIONS = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "ReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU"}


def network(rng, widths, activation=None, *, norm=None, gain=1.0, dtype="float64", last=None):
    """A network through these widths; its weights are Gaussian with deviation gain / sqrt(fan in), its biases zero."""
    layers = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers.append(oc.nn.Linear(a, b))
        if i < len(widths) - 2:
            if norm:
                layers.append(getattr(oc.nn, norm)(b))
            if activation:
                layers.append(getattr(oc.nn, ACTIVATIONS[activation])())
    if last:
        layers.append(getattr(oc.nn, ACTIVATIONS[last])())
    net = oc.nn.Sequential(*layers, dtype=dtype)
    for name, view in net.parameters.items():
        if view.ndim > 1:
            view[...] = gain / np.sqrt(view.shape[1]) * rng.standard_normal(view.shape)
        elif name.endswith("bias"):
            view[...] = 0
    return net


def one_hot(y, k=10):
    """Targets [N, k]."""
    return np.eye(k)[y]
