"""The layerwise rules over shapes around the edges of blocks and of the cut of products; many layers and few."""

import numpy as np

import optcore as oc

OPTIONS = {
    "lamb": [{}, {"bias_correction": False, "clip_norm": 1.0}],
    "lars": [{}, {"momentum": 0.0}, {"nesterov": True}],
    "adafactor": [{}, {"weight_decay": 0.1, "eps": (1e-3, 1e-3)}],
    "muon": [{}, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 2}],
}
MATRICES = [[(1, 1), (1, 300), (300, 1), (0, 4), (127, 65), (129, 700), (700, 130)], [(40, 50)] * 30, [(64, 9000)]]
OTHERS = [[(), (7,), (8193,), (200_003,)], [(1000, 3, 3), (2, 3, 65, 130), (2, 8192, 2), (20_000, 5)]]


def cases(rng):
    for dtype in ("float32", "float64"):
        for shapes in MATRICES + OTHERS:
            params = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]
            grads = [[np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes] for _ in range(2)]
            for rule, variants in OPTIONS.items():
                if rule == "muon" and shapes in OTHERS:
                    continue
                for options in variants:
                    p = [x.copy() for x in params]
                    opt = oc.optim.get(rule)(p, lr=0.01, **options)
                    for g in grads:
                        opt.step(g)
                    state = opt.state_dict()["state"]
                    arrays = [np.asarray(a) for i in state for a in state[i].values()]
                    yield f"{rule} {options} {dtype} {shapes}", [*p, *arrays]
