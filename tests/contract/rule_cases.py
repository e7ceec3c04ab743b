"""What the contract suite knows of each rule: registering a row here is all that a new rule needs; how it runs one."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import reference
import torch

import optcore as oc


def _step(opt, grads):
    opt.step(grads)


def _feed_and_step(opt, grads):
    """A step of Sophia with an estimate of the Hessian before it."""
    estimates = grads
    if isinstance(grads, dict):
        estimates = {k: reference.sophia_estimate(g) for k, g in grads.items()}
    elif isinstance(grads, (list, tuple)):
        estimates = [reference.sophia_estimate(g) for g in grads]
    else:
        estimates = reference.sophia_estimate(grads)
    opt.update_hessian(estimates)
    opt.step(grads)


def _vector(n):
    return (n,)


def _wide(n):
    """The matrix of n elements that is nearest to a square."""
    rows = max((r for r in range(1, math.isqrt(n) + 1) if n % r == 0), default=0)
    return rows, n // rows if rows else 1


def _tall(n):
    return _wide(n)[::-1]


@dataclass(frozen=True)
class Case:
    rule: type
    reference: Any
    torch: Any                 # the class of torch.optim, or None
    options: dict              # name -> the values to draw from
    lecture: tuple = ()        # options that PyTorch does not have
    one_step_ulp: float = 4.0  # at most eight roundings of half an ulp each on the way to an element
    step: Any = _step          # how the suite takes a step
    sign_only: bool = False    # infinity is a sign like any other
    products: bool = False     # an element of the update is a sum over others
    layerwise: bool = False    # an element's result depends on its whole array
    shape: Any = _vector       # the shape in which the suite gives the rule n elements
    shapes: tuple = ((), (0,), (3, 0, 2), (1,), (2, 3, 4))  # some that the rule takes
    own: tuple = ()            # options that do not mean what other rules mean by their name

    def draw(self, rng, *, for_torch=False):
        o = {k: v[rng.integers(len(v))] for k, v in self.options.items() if not (for_torch and k in self.lecture)}
        if o.get("nesterov") and (not o["momentum"] or o.get("dampening")):
            o["nesterov"] = False
        return o

    def shaped(self, array):
        """A view of a flat array as the rule takes it."""
        return array.reshape(self.shape(array.size))

    def full(self, n, value=1.0, dtype="float64"):
        return np.full(self.shape(n), value, dtype)

    def normal(self, rng, n, dtype="float64"):
        return rng.standard_normal(self.shape(n)).astype(dtype)

    def problem(self, rng, n, dtype, steps=50):
        return self.normal(rng, n, dtype), [self.normal(rng, n, dtype) for _ in range(steps)]

    def known(self, **options):
        """Those of the options that the rule has, with the meaning that other rules give them."""
        return {k: v for k, v in options.items() if k in self.rule.rule.options and k not in self.own}


_FLAG = (False, True)
_DECAY = (0.0, 0.02)
_ADAFACTOR = {
    "lr": (0.1, 1e-3), "beta2_decay": (-0.8, -0.3), "eps": ((None, 1e-3), (1e-3, 0.5)), "d": (1.0, 2.0),
    "weight_decay": _DECAY, "maximize": _FLAG}
_MUON = {
    "lr": (0.1, 1e-3), "weight_decay": (0.1, 0.0), "momentum": (0.95, 0.5), "nesterov": _FLAG,
    "ns_coefficients": ((3.4445, -4.775, 2.0315), (2.0, -1.5, 0.5)), "eps": (1e-7, 1e-3), "ns_steps": (5, 2, 0),
    "adjust_lr_fn": (None, "original", "match_rms_adamw"), "maximize": _FLAG}
_MATRICES = ((0, 1), (3, 0), (1, 1), (1, 7), (7, 1), (2, 3), (4, 3), (5, 5))

CASES = {
    "sgd": Case(oc.optim.SGD, reference.sgd, torch.optim.SGD, {
        "lr": (0.1, 1e-3), "momentum": (0.0, 0.9, 0.5), "dampening": (0.0, 0.0, 0.3), "weight_decay": _DECAY,
        "nesterov": _FLAG, "maximize": _FLAG}),
    "adagrad": Case(oc.optim.Adagrad, reference.adagrad, torch.optim.Adagrad, {
        "lr": (0.1, 1e-3), "lr_decay": (0.0, 0.01), "weight_decay": _DECAY, "eps": (1e-10, 1e-3),
        "initial_accumulator_value": (0.0, 0.5), "maximize": _FLAG, "average": _FLAG}, lecture=("average",)),
    "rmsprop": Case(oc.optim.RMSprop, reference.rmsprop, torch.optim.RMSprop, {
        "lr": (0.01, 1e-3), "alpha": (0.99, 0.9, 0.3, 0.0), "eps": (1e-8, 1e-3), "weight_decay": _DECAY,
        "momentum": (0.0, 0.9), "centered": (False,), "maximize": _FLAG, "warm_start": _FLAG},
        lecture=("warm_start",)),
    # Apart: s - a^2 cancels while a follows s closely, so this form alone keeps alpha near 1 and eps away from 0.
    "rmsprop_centered": Case(oc.optim.RMSprop, reference.rmsprop, torch.optim.RMSprop, {
        "lr": (0.01,), "alpha": (0.99, 0.9), "eps": (1e-3,), "weight_decay": _DECAY, "momentum": (0.0, 0.9),
        "centered": (True,), "maximize": _FLAG}, lecture=("warm_start",), one_step_ulp=8.0),
    "adam": Case(oc.optim.Adam, reference.adam, torch.optim.Adam, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.3)), "eps": (1e-8, 1e-3),
        "weight_decay": _DECAY, "amsgrad": _FLAG, "maximize": _FLAG, "decoupled_weight_decay": _FLAG}),
    "adamw": Case(oc.optim.AdamW, reference.adamw, torch.optim.AdamW, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.3)), "eps": (1e-8, 1e-3),
        "weight_decay": (0.0, 0.02, 0.5), "amsgrad": _FLAG, "maximize": _FLAG}),
    "adadelta": Case(oc.optim.Adadelta, reference.adadelta, torch.optim.Adadelta, {
        "lr": (1.0, 0.1), "rho": (0.9, 0.5, 0.99), "eps": (1e-6, 1e-3), "weight_decay": _DECAY, "maximize": _FLAG}),
    "adamax": Case(oc.optim.Adamax, reference.adamax, torch.optim.Adamax, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.3)), "eps": (1e-8, 1e-3),
        "weight_decay": _DECAY, "maximize": _FLAG}),
    "nadam": Case(oc.optim.NAdam, reference.nadam, torch.optim.NAdam, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999), (0.5, 0.9), (0.3, 0.3)), "eps": (1e-8, 1e-3),
        "weight_decay": _DECAY, "momentum_decay": (4e-3, 0.0, 0.5), "decoupled_weight_decay": _FLAG,
        "maximize": _FLAG}),
    # betas[1] from "never adaptive" (rho_t stays below 5) over "from the first steps on" to PyTorch's default.
    "radam": Case(oc.optim.RAdam, reference.radam, torch.optim.RAdam, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999), (0.5, 0.9), (0.3, 0.3)), "eps": (1e-8, 1e-3),
        "weight_decay": _DECAY, "decoupled_weight_decay": _FLAG, "maximize": _FLAG}),
    "ademamix": Case(oc.optim.AdEMAMix, reference.ademamix, None, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999, 0.9999), (0.5, 0.9, 0.99), (0.0, 0.3, 0.6)), "alpha": (2.0, 5.0),
        "beta3_warmup": (None, 20, 1000), "alpha_warmup": (None, 30, 1000), "eps": (1e-8, 1e-3),
        "weight_decay": _DECAY, "maximize": _FLAG}),
    "rprop": Case(oc.optim.Rprop, reference.rprop, torch.optim.Rprop, {
        "lr": (0.01, 0.1), "etas": ((0.5, 1.2), (0.9, 1.01)), "step_sizes": ((1e-6, 50.0), (5e-3, 0.05)),
        "maximize": _FLAG}, sign_only=True),
    "lion": Case(oc.optim.Lion, reference.lion, None, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.99), (0.5, 0.9), (0.95, 0.3)), "weight_decay": (0.0, 0.02, 0.5),
        "maximize": _FLAG}),
    "sophia": Case(oc.optim.Sophia, reference.sophia, None, {
        "lr": (0.1, 1e-3), "betas": ((0.965, 0.99), (0.5, 0.9), (0.3, 0.3)), "rho": (0.04, 0.5, 3.0),
        "weight_decay": (0.0, 0.02, 0.5), "eps": (1e-15, 1e-3), "maximize": _FLAG}, step=_feed_and_step),
    "asgd": Case(oc.optim.ASGD, reference.asgd, torch.optim.ASGD, {
        "lr": (0.1, 1e-3), "lambd": (1e-4, 0.05), "alpha": (0.75, 0.3), "t0": (1e6, 3.0, 0.0), "weight_decay": _DECAY,
        "maximize": _FLAG}),
    "schedulefreesgd": Case(oc.optim.ScheduleFreeSGD, reference.schedulefreesgd, None, {
        "lr": (0.5, 1e-2), "momentum": (0.9, 0.5), "weight_decay": _DECAY, "warmup_steps": (0, 10, 1000),
        "r": (0.0, 1.5), "weight_lr_power": (2.0, 0.0), "maximize": _FLAG}),
    "schedulefreeadamw": Case(oc.optim.ScheduleFreeAdamW, reference.schedulefreeadamw, None, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999), (0.5, 0.9), (0.3, 0.0)), "eps": (1e-8, 1e-3),
        "weight_decay": _DECAY, "warmup_steps": (0, 10, 1000), "r": (0.0, 1.5), "weight_lr_power": (2.0, 0.0),
        "maximize": _FLAG}),
    "lamb": Case(oc.optim.LAMB, reference.lamb, None, {
        "lr": (0.1, 1e-3), "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.3)), "eps": (1e-6, 1e-3),
        "weight_decay": (0.0, 0.02, 0.5), "bias_correction": _FLAG, "maximize": _FLAG}, layerwise=True),
    "lars": Case(oc.optim.LARS, reference.lars, None, {
        "lr": (1.0, 0.1), "momentum": (0.9, 0.5, 0.0), "weight_decay": _DECAY, "trust_coefficient": (0.001, 0.1),
        "eps": (0.0, 1e-3), "nesterov": _FLAG, "maximize": _FLAG}, layerwise=True),
    "adafactor": Case(oc.optim.Adafactor, reference.adafactor, torch.optim.Adafactor, _ADAFACTOR, layerwise=True,
                      own=("eps",)),
    "adafactor_wide": Case(oc.optim.Adafactor, reference.adafactor, torch.optim.Adafactor, _ADAFACTOR, layerwise=True,
                           own=("eps",), shape=_wide),
    # Five steps of the iteration: what one rounds, each of the next amplifies by up to a = 3.4.
    "muon": Case(oc.optim.Muon, reference.muon, torch.optim.Muon, _MUON, lecture=("maximize",), one_step_ulp=32.0,
                 products=True, layerwise=True, shape=_wide, shapes=_MATRICES),
    "muon_tall": Case(oc.optim.Muon, reference.muon, torch.optim.Muon, _MUON, lecture=("maximize",), one_step_ulp=32.0,
                      products=True, layerwise=True, shape=_tall, shapes=_MATRICES),
}

STEPS = 50


def run(case, p, grads, options):
    p = p.copy()
    opt = case.rule(p, **options)
    for g in grads:
        case.step(opt, g)
    return p, opt
