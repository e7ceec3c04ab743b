"""Steps over arrays of every storage, with what follows the parameters: sizes around blocks, many tensors and one."""

import numpy as np

import optcore as oc

OPTIONS = [("float32", {"state_dtype": "int8"}), ("float32", {"state_dtype": "bfloat16", "ema_decay": 0.9}),
           ("bits", {"stochastic_rounding": True, "state_dtype": "int8"}), ("bits", {"compensated": True}),
           ("bits", {"master_weights": True, "clip_norm": 1.0}), ("float16", {"state_dtype": "float64"}),
           ("float32", {"compensated": True}), ("float64", {"state_dtype": "float16", "ema_decay": 0.5})]
RULES = ("sgd", "adamw", "lion", "rmsprop", "adagrad", "schedulefreeadamw")
SIZES = [(1, 7, 0, 255, 257, 511, 513, 16385), (100_003,), (1000,) * 40]


def bits(x):
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def kept(x, kind):
    return bits(x) if kind == "bits" else x.astype(kind)


def cases(rng):
    for sizes in SIZES:
        start = [rng.standard_normal(n).astype("float32") for n in sizes]
        grads = [[bits(rng.standard_normal(n).astype("float32")) for n in sizes] for _ in range(3)]
        for kind, options in OPTIONS:
            for rule in RULES:
                if rule == "schedulefreeadamw" and options.get("state_dtype") == "int8":
                    continue
                p = [kept(x, kind) for x in start]
                extra = {"momentum": 0.9} if rule in ("sgd", "rmsprop") else {}
                opt = oc.optim.get(rule)(p, lr=0.01, uint16_as="bfloat16", seed=5, **extra, **options)
                copies = [np.zeros(n, "float16") for n in sizes]
                if not options.get("master_weights"):
                    opt.copy_to(copies)
                for g in grads:
                    opt.step(g)
                opt.eval()
                state = opt.state_dict()["state"]
                arrays = [np.asarray(a) for i in state for a in state[i].values()]
                norm = np.float64(opt.last_grad_norm or 0)
                yield f"{rule} {kind} {options} {len(sizes)} tensors", [*p, *copies, *arrays, norm]
