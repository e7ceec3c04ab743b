"""The update rules in plain NumPy, written from their papers, in the dtype of the parameters that they are given.

Shares nothing with the library: one function a rule, (p, gradients, options) -> (p, state), where ``gradients`` is the
list of the gradients of all steps.
"""

import math

import numpy as np


def _seen(g, p, o, decoupled=False):
    g = -g if o.get("maximize") else g
    if o.get("weight_decay") and not decoupled:
        g = g + o["weight_decay"] * p
    return g


def sgd(p, grads, o):
    """Sutskever et al. 2013; the first buffer is the gradient, as in PyTorch's note on its SGD."""
    mu, b = o.get("momentum", 0), None
    for g in grads:
        g = _seen(g, p, o)
        if mu:
            b = g.copy() if b is None else mu * b + (1 - o.get("dampening", 0)) * g
            g = g + mu * b if o.get("nesterov") else b
        p = p - o["lr"] * g
    return p, {} if b is None else {"momentum_buffer": b}


def adagrad(p, grads, o):
    """Duchi et al. 2011; average: the lecture's root of the mean square."""
    s = np.full_like(p, o.get("initial_accumulator_value", 0))
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o)
        s = s + g * g
        sigma = np.sqrt(s / t if o.get("average") else s) + o.get("eps", 1e-10)
        p = p - o["lr"] / (1 + (t - 1) * o.get("lr_decay", 0)) * g / sigma
    return p, {"sum": s}


def rmsprop(p, grads, o):
    """Tieleman and Hinton 2012; centered: Graves 2013; warm_start: the lecture's sigma_0 = |g_0|."""
    alpha, mu = o.get("alpha", 0.99), o.get("momentum", 0)
    s, a, b = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o)
        s = g * g if t == 1 and o.get("warm_start") else alpha * s + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g
        variance = s - a * a if o.get("centered") else s
        b = mu * b + g / (np.sqrt(variance) + o.get("eps", 1e-8))
        p = p - o["lr"] * b
    state = {"square_avg": s}
    return p, state | ({"momentum_buffer": b} if mu else {}) | ({"grad_avg": a} if o.get("centered") else {})


def _adam(p, grads, o, decoupled):
    one = p.dtype.type(1)
    b1, b2 = (p.dtype.type(b) for b in o.get("betas", (0.9, 0.999)))
    m, v, largest = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o, decoupled)
        m = b1 * m + (one - b1) * g
        v = b2 * v + (one - b2) * g * g
        largest = np.maximum(largest, v)
        m_hat = m / (one - b1**t)
        v_hat = (largest if o.get("amsgrad") else v) / (one - b2**t)
        decay = o["lr"] * o.get("weight_decay", 0) * p if decoupled else 0
        p = p - decay - o["lr"] * m_hat / (np.sqrt(v_hat) + o.get("eps", 1e-8))
    return p, {"exp_avg": m, "exp_avg_sq": v} | ({"max_exp_avg_sq": largest} if o.get("amsgrad") else {})


def adam(p, grads, o):
    """Kingma and Ba 2015, algorithm 1; amsgrad: Reddi et al. 2018 with bias corrections, as in PyTorch."""
    return _adam(p, grads, o, bool(o.get("decoupled_weight_decay")))


def adamw(p, grads, o):
    """Loshchilov and Hutter 2019, algorithm 2."""
    return _adam(p, grads, {"weight_decay": 1e-2, **o}, True)


def adadelta(p, grads, o):
    """Zeiler 2012, algorithm 1, with a learning rate."""
    rho, eps = o.get("rho", 0.9), o.get("eps", 1e-6)
    squares, updates = np.zeros_like(p), np.zeros_like(p)
    for g in grads:
        g = _seen(g, p, o)
        squares = rho * squares + (1 - rho) * g**2
        step = np.sqrt(updates + eps) / np.sqrt(squares + eps) * g
        updates = rho * updates + (1 - rho) * step**2
        p = p - o["lr"] * step
    return p, {"square_avg": squares, "acc_delta": updates}


def adamax(p, grads, o):
    """Kingma and Ba 2015, algorithm 2; eps inside the maximum, as in PyTorch's note."""
    b1, b2 = o.get("betas", (0.9, 0.999))
    m, u = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o)
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + o.get("eps", 1e-8))
        p = p - o["lr"] / (1 - b1**t) * m / u
    return p, {"exp_avg": m, "exp_inf": u}


def nadam(p, grads, o):
    """Dozat 2016, with the warming momentum of its section on the schedule."""
    b1, b2 = o.get("betas", (0.9, 0.999))
    decoupled, psi = o.get("decoupled_weight_decay"), o.get("momentum_decay", 4e-3)
    mu = [b1 * (1 - 0.5 * 0.96 ** (t * psi)) for t in range(1, len(grads) + 2)]
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o, decoupled)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = mu[t] * m / (1 - math.prod(mu[:t + 1])) + (1 - mu[t - 1]) * g / (1 - math.prod(mu[:t]))
        decay = o["lr"] * o.get("weight_decay", 0) * p if decoupled else 0
        p = p - decay - o["lr"] * m_hat / (np.sqrt(v / (1 - b2**t)) + o.get("eps", 1e-8))
    return p, {"exp_avg": m, "exp_avg_sq": v, "mu_product": math.prod(mu[:len(grads)])}


def radam(p, grads, o):
    """Liu et al. 2020, algorithm 2; rho_t against 5 and eps beside the uncorrected root, as in PyTorch's note."""
    b1, b2 = o.get("betas", (0.9, 0.999))
    decoupled = o.get("decoupled_weight_decay")
    longest = 2 / (1 - b2) - 1
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o, decoupled)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        step = m / (1 - b1**t)
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length > 5:
            r = np.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
            step = step * r * np.sqrt(1 - b2**t) / (np.sqrt(v) + o.get("eps", 1e-8))
        decay = o["lr"] * o.get("weight_decay", 0) * p if decoupled else 0
        p = p - decay - o["lr"] * step
    return p, {"exp_avg": m, "exp_avg_sq": v}


def ademamix(p, grads, o):
    """Pagliardini et al. 2024, algorithm 1, and the schedulers of its appendix with the 1e-8 of the authors' code."""
    b1, b2, b3 = o.get("betas", (0.9, 0.999, 0.9999))

    def half_life(beta):
        return math.log(0.5) / math.log(beta + 1e-8) - 1

    fast, slow, v = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o, True)
        mix = min(1, t / (o.get("alpha_warmup") or 1))
        alpha, beta3, warm = mix * o.get("alpha", 2.0), b3, o.get("beta3_warmup") or 0
        if t < warm:
            beta3 = 0.5 ** (1 / ((1 - t / warm) * half_life(b1) + t / warm * half_life(b3) + 1))
        fast = b1 * fast + (1 - b1) * g
        slow = beta3 * slow + (1 - beta3) * g
        v = b2 * v + (1 - b2) * g**2
        step = (fast / (1 - b1**t) + alpha * slow) / (np.sqrt(v / (1 - b2**t)) + o.get("eps", 1e-8))
        p = p - o["lr"] * (step + o.get("weight_decay", 0) * p)
    return p, {"exp_avg_fast": fast, "exp_avg_slow": slow, "exp_avg_sq": v}


def rprop(p, grads, o):
    """Riedmiller and Braun 1993 in the form called iRprop-: a gradient whose sign turned counts as 0."""
    (down, up), (low, high) = o.get("etas", (0.5, 1.2)), o.get("step_sizes", (1e-6, 50))
    size, before = np.full_like(p, o["lr"]), np.zeros_like(p)
    for g in grads:
        g = _seen(g, p, o)
        agree = np.sign(g) * np.sign(before)
        size = np.clip(size * np.select([agree > 0, agree < 0], [up, down], 1.0).astype(p.dtype), low, high)
        before = np.where(agree < 0, 0, g)
        p = p - size * np.sign(before)
    return p, {"prev": before, "step_size": size}


def lion(p, grads, o):
    """Chen et al. 2023, algorithm 2."""
    b1, b2 = o.get("betas", (0.9, 0.99))
    m = np.zeros_like(p)
    for g in grads:
        g = _seen(g, p, o, True)
        step = np.sign(b1 * m + (1 - b1) * g)
        p = p - o["lr"] * (step + o.get("weight_decay", 0) * p)
        m = b2 * m + (1 - b2) * g
    return p, {"exp_avg": m}


def sophia(p, grads, o):
    """Liu et al. 2023, algorithm 3, with sigma = max(rho*h, 0) + eps as the authors' code; the estimate of the Hessian
    that every step is fed is ``sophia_estimate`` of its gradient."""
    b1, b2 = o.get("betas", (0.965, 0.99))
    m, h = np.zeros_like(p), np.zeros_like(p)
    for g in grads:
        h = b2 * h + (1 - b2) * sophia_estimate(g)
        g = _seen(g, p, o, True)
        m = b1 * m + (1 - b1) * g
        step = np.clip(m / (np.maximum(o.get("rho", 0.04) * h, 0) + o.get("eps", 1e-15)), -1, 1)
        p = p - o["lr"] * (step + o.get("weight_decay", 0.1) * p)
    return p, {"exp_avg": m, "hessian": h}


def sophia_estimate(g):
    """Positive for most g, negative for small ones, as Hutchinson's estimate may be."""
    return None if g is None else g * g - g.dtype.type(0.125)


def asgd(p, grads, o):
    """Polyak and Juditsky 1992 with the rates of Xu 2011, in PyTorch's form."""
    lr, lambd, t0 = o["lr"], o.get("lambd", 1e-4), o.get("t0", 1e6)
    average = np.zeros_like(p)

    def eta(t):  # of the step after step t
        return lr / (1 + lambd * lr * t) ** o.get("alpha", 0.75)

    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o)
        p = p - eta(t - 1) * (lambd * p + g)
        average = average + (p - average) / max(1, t - 1 - t0)
    t = len(grads)
    return p, {"ax": average, "eta": eta(t), "mu": 1 / max(1, t - t0)}


def lamb(p, grads, o):
    """You et al. 2020, algorithm 2, with phi the identity; norms of 0 as in the authors' code."""
    b1, b2 = o.get("betas", (0.9, 0.999))
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o, True)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        c1, c2 = (1 - b1**t, 1 - b2**t) if o.get("bias_correction", True) else (1, 1)
        r = (m / c1) / (np.sqrt(v / c2) + o.get("eps", 1e-6)) + o.get("weight_decay", 0.01) * p
        norms = np.sqrt(np.sum(p * p)), np.sqrt(np.sum(r * r))
        p = p - o["lr"] * (norms[0] / norms[1] if min(norms) > 0 else 1) * r
    return p, {"exp_avg": m, "exp_avg_sq": v}


def lars(p, grads, o):
    """You et al. 2017, algorithm 1, with equation (6) and the local rate 1 of the authors' code where a norm is 0."""
    mu, decay, b = o.get("momentum", 0.9), o.get("weight_decay", 5e-4), np.zeros_like(p)
    for g in grads:
        g = _seen(g, p, o, True)
        w, dw = np.sqrt(np.sum(p * p)), np.sqrt(np.sum(g * g))
        local = o.get("trust_coefficient", 1e-3) * w / (dw + decay * w + o.get("eps", 0)) if min(w, dw) > 0 else 1
        step = o["lr"] * local * (g + decay * p)
        b = mu * b + step
        p = p - (mu * b + step if o.get("nesterov") else b)
    return p, {"momentum_buffer": b} if mu else {}


def _rms(x):
    return np.sqrt(np.mean(x * x))


def adafactor(p, grads, o):
    """Shazeer and Stern 2018, algorithms 4 and 5 with means for sums, eps and lr where PyTorch's note puts them."""
    kappa, (e1, e2) = o.get("beta2_decay", -0.8), o.get("eps", (None, 1e-3))
    e1 = np.finfo(p.dtype).eps if e1 is None else e1
    rows = columns = v = 0
    for t, g in enumerate(grads, 1):
        g = _seen(g, p, o, True)
        new = t**kappa
        size = max(e2, _rms(p)) if p.size else 1
        p = p - o["lr"] * o.get("weight_decay", 0) * p
        if p.ndim > 1:
            rows = (1 - new) * rows + new * np.sum(g * g, -1, keepdims=True) / max(1, p.shape[-1])
            columns = (1 - new) * columns + new * np.sum(g * g, -2, keepdims=True) / max(1, p.shape[-2])
            sigma2 = rows * columns / np.maximum(np.sum(rows, -2, keepdims=True) / max(1, p.shape[-2]), e1)
        else:
            sigma2 = v = (1 - new) * v + new * g * g
        u = g / np.maximum(np.sqrt(sigma2), e1)
        p = p - min(o["lr"], t**-0.5) * size / (max(1, _rms(u) / o.get("d", 1)) if p.size else 1) * u
    return p, {"row_var": rows, "col_var": columns} if p.ndim > 1 else {"variance": v}


def muon(p, grads, o):
    """Jordan et al. 2024 with the momentum of PyTorch's note; Liu et al. 2025, equation (4), for match_rms_adamw."""
    mu, (a, b, c) = o.get("momentum", 0.95), o.get("ns_coefficients", (3.4445, -4.775, 2.0315))
    rows, columns = p.shape
    size = 0.2 * max(rows, columns) ** 0.5 if o.get("adjust_lr_fn") == "match_rms_adamw" else max(
        1, rows / columns if columns else 1) ** 0.5
    momentum = np.zeros_like(p)
    for g in grads:
        g = _seen(g, p, o, True)
        momentum = mu * momentum + (1 - mu) * g
        x = mu * momentum + (1 - mu) * g if o.get("nesterov", True) else momentum
        x = x / max(np.sqrt(np.sum(x * x)), o.get("eps", 1e-7))
        for _ in range(o.get("ns_steps", 5)):
            gram = x @ x.T if rows <= columns else x.T @ x
            poly = b * gram + c * gram @ gram
            x = a * x + (poly @ x if rows <= columns else x @ poly)
        p = p - o["lr"] * o.get("weight_decay", 0.1) * p - o["lr"] * size * x
    return p, {"momentum_buffer": momentum}


def _schedule_free(p, grads, o, beta, update):
    """Defazio et al. 2024, equations (3) to (5), with x kept for itself; weights as in the authors' code."""
    x, z, total, largest, warm = p, p, 0.0, -1.0, o.get("warmup_steps", 0)
    for t, g in enumerate(grads, 1):
        y = beta * x + (1 - beta) * z
        lr = o["lr"] * min(1, t / warm) if warm else o["lr"]
        largest = max(largest, lr)
        weight = t ** o.get("r", 0) * largest ** o.get("weight_lr_power", 2)
        total += weight
        g = -g if o.get("maximize") else g
        z = z - lr * (update(t, g) + o.get("weight_decay", 0) * y)
        x = (1 - weight / total) * x + weight / total * z
    return beta * x + (1 - beta) * z, {"z": z, "weight_sum": total, "lr_max": largest}


def schedulefreesgd(p, grads, o):
    return _schedule_free(p, grads, o, o.get("momentum", 0.9), lambda t, g: g)


def schedulefreeadamw(p, grads, o):
    b1, b2 = o.get("betas", (0.9, 0.999))
    state = {"exp_avg_sq": np.zeros_like(p)}

    def update(t, g):
        state["exp_avg_sq"] = b2 * state["exp_avg_sq"] + (1 - b2) * g**2
        return g / (np.sqrt(state["exp_avg_sq"] / (1 - b2**t)) + o.get("eps", 1e-8))

    p, slots = _schedule_free(p, grads, o, b1, update)
    return p, slots | state
