"""Measure the error of one step of every rule and write the tables of docs/accuracy.md: `make accuracy`.

The exact steps below are written from the papers (and PyTorch's notes where its form differs), in long double; they
share nothing with the library.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import optcore as oc

PAGE = Path(__file__).resolve().parent / "accuracy.md"
LONG = np.longdouble
SIZE = 100_000
LATER = 1000
SIDE = 80  # rows of a matrix


def _mean(beta, old, new):
    return LONG(beta) * old + (1 - LONG(beta)) * new


def _correction(beta, t):
    return 1 - LONG(beta) ** t


def sgd(p, g, s, t, o):
    """Sutskever et al. 2013; the first buffer is g."""
    return -LONG(o["lr"]) * (g if t == 1 else LONG(o["momentum"]) * s["momentum_buffer"] + g)


def adagrad(p, g, s, t, o):
    """Duchi et al. 2011."""
    return -LONG(o["lr"]) * g / (np.sqrt(s["sum"] + g * g) + LONG(o["eps"]))


def rmsprop(p, g, s, t, o):
    """Tieleman and Hinton 2012."""
    return -LONG(o["lr"]) * g / (np.sqrt(_mean(o["alpha"], s["square_avg"], g * g)) + LONG(o["eps"]))


def adadelta(p, g, s, t, o):
    """Zeiler 2012."""
    eps = LONG(o["eps"])
    return -LONG(o["lr"]) * np.sqrt(s["acc_delta"] + eps) / np.sqrt(_mean(o["rho"], s["square_avg"], g * g) + eps) * g


def _root(g, s, t, o):
    v = _mean(o["betas"][1], s["exp_avg_sq"], g * g)
    return np.sqrt(v / _correction(o["betas"][1], t)) + LONG(o["eps"])


def adam(p, g, s, t, o):
    """Kingma and Ba 2015; with decay, Loshchilov and Hutter 2019."""
    m_hat = _mean(o["betas"][0], s["exp_avg"], g) / _correction(o["betas"][0], t)
    return -LONG(o["lr"]) * (LONG(o["weight_decay"]) * p + m_hat / _root(g, s, t, o))


def adamax(p, g, s, t, o):
    """Kingma and Ba 2015, section 7.1, eps inside the maximum as in PyTorch's note."""
    b1, b2 = o["betas"]
    u = np.maximum(LONG(b2) * s["exp_inf"], np.abs(g) + LONG(o["eps"]))
    return -LONG(o["lr"]) * _mean(b1, s["exp_avg"], g) / _correction(b1, t) / u


def nadam(p, g, s, t, o):
    """Dozat 2016."""
    b1, psi = LONG(o["betas"][0]), LONG(o["momentum_decay"])
    mu, mu_next = (b1 * (1 - LONG("0.5") * LONG("0.96") ** (k * psi)) for k in (t, t + 1))
    product = LONG(s["mu_product"]) * mu
    m_hat = mu_next * _mean(b1, s["exp_avg"], g) / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
    return -LONG(o["lr"]) * m_hat / _root(g, s, t, o)


def radam(p, g, s, t, o):
    """Liu et al. 2020, eps beside the uncorrected root as in PyTorch's note."""
    b1, b2 = (LONG(b) for b in o["betas"])
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    step = _mean(b1, s["exp_avg"], g) / (1 - b1**t)
    if length > 5:
        r = np.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        step = step * r * np.sqrt(1 - b2**t) / (np.sqrt(_mean(b2, s["exp_avg_sq"], g * g)) + LONG(o["eps"]))
    return -LONG(o["lr"]) * step


def ademamix(p, g, s, t, o):
    """Pagliardini et al. 2024, without warm-ups."""
    b1, _, b3 = o["betas"]
    m = _mean(b1, s["exp_avg_fast"], g) / _correction(b1, t) + LONG(o["alpha"]) * _mean(b3, s["exp_avg_slow"], g)
    return -LONG(o["lr"]) * m / _root(g, s, t, o)


def rprop(p, g, s, t, o):
    """Riedmiller and Braun 1993, without backtracking."""
    (down, up), (low, high) = o["etas"], o["step_sizes"]
    agree = np.sign(g) * np.sign(s["prev"])
    size = s["step_size"] if t > 1 else np.full_like(g, LONG(o["lr"]))
    size = np.clip(size * np.select([agree > 0, agree < 0], [LONG(up), LONG(down)], LONG(1)), LONG(low), LONG(high))
    return np.where(agree < 0, 0, -size * np.sign(g))


def lion(p, g, s, t, o):
    """Chen et al. 2023."""
    return -LONG(o["lr"]) * np.sign(_mean(o["betas"][0], s["exp_avg"], g))


def sophia(p, g, s, t, o):
    """Liu et al. 2023, algorithm 3, sigma = max(rho*h, 0) + eps as in the authors' code."""
    sigma = np.maximum(LONG(o["rho"]) * s["hessian"], 0) + LONG(o["eps"])
    step = np.clip(_mean(o["betas"][0], s["exp_avg"], g) / sigma, -1, 1)
    return -LONG(o["lr"]) * (step + LONG(o["weight_decay"]) * p)


def asgd(p, g, s, t, o):
    """Polyak and Juditsky 1992, in PyTorch's form."""
    return -LONG(o["lr"] if t == 1 else s["eta"]) * (LONG(o["lambd"]) * p + g)


def _schedule_free(p, z, step, s, t, lr, beta):
    """Defazio et al. 2024, equations (3) to (5), with x = (y - (1-beta) z) / beta."""
    beta, lr = LONG(beta), LONG(lr)
    weight = max(lr, LONG(s["lr_max"])) ** 2
    share = weight / (LONG(s["weight_sum"]) + weight)
    x = (p - (1 - beta) * z) / beta
    new_z = z - lr * step
    new_x = (1 - share) * x + share * new_z
    return beta * new_x + (1 - beta) * new_z - p


def schedulefreesgd(p, g, s, t, o):
    """Schedule-free SGD."""
    return _schedule_free(p, p if t == 1 else s["z"], g, s, t, o["lr"], o["momentum"])


def schedulefreeadamw(p, g, s, t, o):
    """Schedule-free AdamW."""
    return _schedule_free(p, p if t == 1 else s["z"], g / _root(g, s, t, o), s, t, o["lr"], o["betas"][0])


def _norm(x):
    return np.sqrt(np.sum(x * x))


def lamb(p, g, s, t, o):
    """You et al. 2020, algorithm 2; the ratio of the norms is 1 where theta is 0."""
    m_hat = _mean(o["betas"][0], s["exp_avg"], g) / _correction(o["betas"][0], t)
    u = m_hat / _root(g, s, t, o) + LONG(o["weight_decay"]) * p
    return -LONG(o["lr"]) * (_norm(p) / _norm(u) if p.any() else 1) * u


def lars(p, g, s, t, o):
    """You et al. 2017, algorithm 1; the local rate is 1 where theta is 0."""
    decay, size = LONG(o["weight_decay"]), _norm(p)
    local = LONG(o["trust_coefficient"]) * size / (_norm(g) + decay * size) if p.any() else 1
    return -(LONG(o["momentum"]) * s["momentum_buffer"] + LONG(o["lr"]) * local * (g + decay * p))


def adafactor(p, g, s, t, o):
    """Shazeer and Stern 2018, algorithms 4 and 5; eps and lr as in PyTorch's note."""
    past, least, root_n = 1 - LONG(t) ** LONG(o["beta2_decay"]), np.finfo(np.float32).eps, np.sqrt(LONG(p.size))
    if p.ndim == 1:
        v = _mean(past, s["variance"], g * g)
    else:
        rows = _mean(past, s["row_var"], np.mean(g * g, -1, keepdims=True))
        columns = _mean(past, s["col_var"], np.mean(g * g, -2, keepdims=True))
        v = rows * columns / np.mean(rows)
    u = g / np.maximum(np.sqrt(v), least)
    size = max(LONG(o["eps"][1]), _norm(p) / root_n) / max(1, _norm(u) / root_n / LONG(o["d"]))
    return -min(LONG(o["lr"]), 1 / np.sqrt(LONG(t))) * size * u


def muon(p, g, s, t, o):
    """Jordan et al. 2024, with the momentum of PyTorch's note, for a matrix that is not tall."""
    a, b, c = (LONG(x) for x in o["ns_coefficients"])
    x = _mean(o["momentum"], _mean(o["momentum"], s["momentum_buffer"], g), g)
    x = x / _norm(x)
    for _ in range(o["ns_steps"]):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return -LONG(o["lr"]) * (LONG(o["weight_decay"]) * p + x)


# ------------------------------------------------------------------------------------------------------------ the rules


@dataclass(frozen=True)
class Row:
    """A form of a rule: its exact step, a bound in ulp, PyTorch's forms of it, the options beside the defaults.

    ``matrix`` gives it one of ``SIDE`` rows (a vector otherwise); ``products`` says that an element of the update is a
    sum over others, which may cancel, so that its error is counted in ulps of the largest.
    """

    exact: object
    bound: float
    torch: object = None
    forms: tuple = ("single", "foreach")
    options: dict = field(default_factory=dict)
    matrix: bool = False
    products: bool = False


_FUSED = ("single", "foreach", "fused")
FORMS = {"single": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}, "bfloat16": {}}

# The bound of an update: the roundings on the worst way from what is given to it, none more than an ulp. The rounding
# of a constant to float32 is one; a square root halves what is under it.
MEAN = 4              # keep*x + (rest*x + add*y): of add, the product, two sums
ROOT = (1 + MEAN) / 2 + 1
SIGMA = ROOT + 1      # plus eps; the bias correction is in eta
ETA = 2               # its own, and the product with it
# A norm of rounded numbers is off by no more than the worst of them.
LAMB = MEAN + 2 + SIGMA + 1 + 1       # of u: m with its correction, the quotient, the decay
FACTORED = (1 + 1) / 2 + 1 + 1 / 2 + 1 + 1 + 1  # of u: roots of the row's share and the column, product, quotient
# No worst case: a sum of k terms has k roundings of half an ulp that, taken as independent, add up to sqrt(k)/2 (Higham
# and Mary 2019). Each of five steps has one such product with k = the columns, two with k = the rows. What is off
# before a step stays off by its share: where singular values grow, errors grow with them.
STEPS = 5 * ((SIZE // SIDE) ** 0.5 + 2 * SIDE**0.5) / 2
ROWS = {
    "SGD": Row(sgd, 3 + ETA, torch.optim.SGD, _FUSED, {"momentum": 0.9}),
    "Adagrad": Row(adagrad, 2 / 2 + 1 + 1 + 1 + ETA, torch.optim.Adagrad, _FUSED),
    "RMSprop": Row(rmsprop, ROOT + 1 + 1 + ETA, torch.optim.RMSprop),
    "Adadelta": Row(adadelta, 2 / 2 + 1 + (2 + MEAN) / 2 + 1 + 2 + ETA, torch.optim.Adadelta),
    "Adam": Row(adam, MEAN + ETA + SIGMA + 2, torch.optim.Adam, _FUSED),
    "AdamW": Row(adam, MEAN + ETA + SIGMA + 2, torch.optim.AdamW, _FUSED),
    "Adamax": Row(adamax, MEAN + ETA + 2 + 1, torch.optim.Adamax),
    "NAdam": Row(nadam, MEAN + ETA + 1 + SIGMA + 2, torch.optim.NAdam),
    "RAdam": Row(radam, MEAN + ETA + SIGMA + 2, torch.optim.RAdam),
    "AdEMAMix": Row(ademamix, MEAN + ETA + 1 + SIGMA + 2),
    "Rprop": Row(rprop, 3, torch.optim.Rprop),
    "Lion": Row(lion, 2),
    "Sophia": Row(sophia, MEAN + 3 + 1 + ETA + 1),
    "ASGD": Row(asgd, ETA + 1, torch.optim.ASGD),
    "ScheduleFreeSGD": Row(schedulefreesgd, 1 + ETA + MEAN),
    "ScheduleFreeAdamW": Row(schedulefreeadamw, SIGMA + 2 + ETA + MEAN),
    "LAMB": Row(lamb, LAMB + LAMB + ETA),
    "LARS": Row(lars, 3 + ETA + 1),
    "Adafactor": Row(adafactor, FACTORED + FACTORED + ETA, torch.optim.Adafactor, matrix=True),
    "Adafactor, vector": Row(adafactor, 2 * (ROOT + 1) + ETA, torch.optim.Adafactor),
    "Muon": Row(muon, round(2 * MEAN + 1 + STEPS + ETA), torch.optim.Muon, ("bfloat16",), matrix=True, products=True),
}

SIGNED = ("momentum_buffer", "exp_avg", "exp_avg_fast", "exp_avg_slow", "prev")
SCALARS = {"mu_product": (1.0, 2.0**-20), "eta": (None, 2.0**-7), "mu": (1.0, 1.0), "weight_sum": (0.0, 2.0**-6),
           "lr_max": (-1.0, 2.0**-8)}


def rule_of(name):
    """The class of a row of the table."""
    return oc.optim.get(name.split(",")[0].lower())


def options_of(name):
    """Every option of a rule, the row's in place of the defaults."""
    return {**rule_of(name).rule.options, **ROWS[name].options}


def state_before(name, rng, g, p, t, cancel):
    """The state that step t meets: zeros before the first; else float32 values of the size that gradients of 1 leave.

    Means of gradients have the gradient's sign, or with ``cancel`` any.
    """
    rule, options, state = rule_of(name).rule, options_of(name), {}
    for slot in rule.slots:
        shape = slot.shape(g.shape)
        if shape is None or (slot.when is not None and not options[slot.when]):
            continue
        draw = np.abs(rng.standard_normal(shape)) + 0.1
        if t == 1:
            draw = np.zeros(shape)
        elif slot.key in SIGNED:
            draw = 0.3 * draw * (rng.choice([-1, 1], shape) if cancel else np.sign(g))
        elif slot.key == "acc_delta":
            draw = 1e-5 * draw
        elif slot.key == "step_size":
            draw = 1e-2 * draw
        elif slot.key == "z":
            draw = p - 0.01 * draw * np.sign(g) * (p != 0)
        elif slot.key == "sum":
            draw = t * draw
        state[slot.key] = draw.astype(np.float32)
    for scalar in rule.scalars:
        first, later = SCALARS[scalar.key]
        state[scalar.key] = later if t > 1 else options["lr"] if first is None else first
    return state


def ours(name, p, g, state, t):
    """Theta after step t of optcore."""
    theta = p.copy()
    opt = rule_of(name)(theta, **ROWS[name].options)
    if t > 1:
        groups = opt.state_dict()["param_groups"]
        opt.load_state_dict({"state": {0: {"step": t - 1, **state}}, "param_groups": groups, "step": t - 1})
    opt.step(g)
    return theta


def theirs(name, form, p, g, state, t):
    """Theta after step t of PyTorch."""
    theta = torch.from_numpy(p.copy()).requires_grad_()
    peer = ROWS[name].torch([theta], **ROWS[name].options, **FORMS[form])
    if t > 1:
        entry = {k: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else torch.tensor(v)
                 for k, v in {"step": float(t - 1), **state}.items()}
        peer.load_state_dict({"state": {0: entry}, "param_groups": peer.state_dict()["param_groups"]})
    theta.grad = torch.from_numpy(g)
    peer.step()
    return theta.detach().numpy()


def errors(got, exact, largest):
    """The error in ulps: the distance of neighbouring float32 numbers in the binade of ``largest``, all long double."""
    exponent = np.frexp(largest)[1] - 1
    return np.abs(got.astype(LONG) - exact) / np.ldexp(LONG(1), np.maximum(exponent, -126) - 23)


CASES = {  # heading -> (step, whether theta is 0 so that the new theta is the update, whether the means may cancel)
    "update, t = 1": (1, True, False),
    "update, t = 1000": (LATER, True, False),
    "update, t = 1000, signs mixed": (LATER, True, True),
    "theta, t = 1": (1, False, False),
    "theta, t = 1000": (LATER, False, False),
}


def measure(name, t, bare, cancel, forms=("optcore",), size=SIZE):
    """Errors in ulp of step t: form -> array."""
    rng, row = np.random.default_rng(0), ROWS[name]
    g = (rng.choice([-1, 1], size) * (np.abs(rng.standard_normal(size)) + 0.01)).astype(np.float32)
    p = np.zeros(size, np.float32) if bare else rng.standard_normal(size).astype(np.float32)
    if row.matrix:
        g, p = g.reshape(SIDE, -1), p.reshape(SIDE, -1)
    state = state_before(name, rng, g, p, t, cancel)
    long = {k: v.astype(LONG) if isinstance(v, np.ndarray) else v for k, v in state.items()}
    update = row.exact(p.astype(LONG), g.astype(LONG), long, t, options_of(name))
    exact = p.astype(LONG) + update
    size = np.max(np.abs(update)) if row.products else np.abs(update)
    largest = np.maximum(np.maximum(np.abs(p), size), np.abs(exact))
    got = {form: ours(name, p, g, state, t) if form == "optcore" else theirs(name, form, p, g, state, t)
           for form in forms}
    return {form: errors(theta, exact, largest) for form, theta in got.items()}


def table():
    """The table, in Markdown."""
    lines = ["| rule | by | " + " | ".join(CASES) + " | bound |", "| --- | --- |" + " --- |" * (len(CASES) + 1)]
    for name, row in ROWS.items():
        forms = ("optcore", *(row.forms if row.torch else ()))
        columns = [measure(name, *case, forms) for case in CASES.values()]
        for form in forms:
            cells = [f"{np.quantile(c[form], 0.999):.1f} / {c[form].max():.1f}" for c in columns]
            who = "optcore" if form == "optcore" else f"PyTorch {form}"
            bound = f"{row.bound:g}" if form == "optcore" else ""
            lines.append(f"| {name if form == 'optcore' else ''} | {who} | " + " | ".join(cells) + f" | {bound} |")
    return "\n".join(lines)


def main():
    """Write the table between the markers of the page."""
    text = PAGE.read_text()
    begin, end = "<!-- table: make accuracy -->\n", "<!-- end of table -->"
    before, rest = text.split(begin)
    PAGE.write_text(f"{before}{begin}{table()}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(table())
    else:
        main()
