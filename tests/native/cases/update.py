"""Every rule and option over sizes around block and chunk edges, one tensor and many."""

import numpy as np

import optcore as oc

OPTIONS = {
    "sgd": [{}, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}, {"momentum": 0.9, "nesterov": True}],
    "adagrad": [{}, {"average": True, "eps": 0.0}],
    "rmsprop": [{}, {"centered": True, "momentum": 0.9}, {"warm_start": True}, {"alpha": 0.3}],
    "adam": [{}, {"amsgrad": True, "weight_decay": 0.01}],
    "adamw": [{}, {"amsgrad": True, "clip_norm": 1.0}, {"clip_value": 0.5, "maximize": True}],
    "adadelta": [{}],
    "adamax": [{"weight_decay": 0.01}],
    "nadam": [{}, {"decoupled_weight_decay": True, "weight_decay": 0.01}],
    "radam": [{}, {"betas": (0.9, 0.9)}],
    "ademamix": [{"weight_decay": 0.01, "alpha_warmup": 10, "beta3_warmup": 10}],
    "rprop": [{}],
    "lion": [{"weight_decay": 0.01}],
    "sophia": [{}],
    "asgd": [{"t0": 0}],
    "schedulefreesgd": [{"warmup_steps": 2}],
    "schedulefreeadamw": [{"r": 0.5}],
}
SIZES = [(1, 7, 0, 8191, 8193, 16385), (200_003,), tuple([1000] * 60)]


def cases(rng):
    for dtype in ("float32", "float64"):
        for sizes in SIZES:
            params = [rng.standard_normal(n).astype(dtype) for n in sizes]
            grads = [[rng.standard_normal(n).astype(dtype) for n in sizes] for _ in range(3)]
            if len(sizes) == 1:  # and what is beyond squaring
                grads[1][0][::97] *= np.finfo(dtype).max / 8
            for rule, variants in OPTIONS.items():
                for options in variants:
                    p = [x.copy() for x in params]
                    opt = oc.optim.get(rule)(p, lr=0.01, **options)
                    for g in grads:
                        if rule == "sophia":
                            opt.update_hessian(g)
                        opt.step(g)
                    if rule.startswith("schedulefree"):
                        opt.eval()
                    state = opt.state_dict()["state"]
                    arrays = [a for i in state for a in state[i].values()]
                    norm = np.float64(opt.last_grad_norm or 0)
                    yield f"{rule} {options} {dtype} {len(sizes)} tensors", [*p, *map(np.asarray, arrays), norm]
