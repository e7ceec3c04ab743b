"""Penalties of no weights, of spans within a block, and of spans that are cut into several."""

import numpy as np

from optcore._native.penalty import Penalty

SPANS = {"none": [], "small": [(0, 1), (3, 20), (20, 57)], "blocks": [(5, 8197), (8197, 8198), (9000, 200_003)]}


def cases(rng):
    for dtype in ("float32", "float64"):
        for name, spans in SPANS.items():
            w, g = (rng.standard_normal(200_010).astype(dtype) for _ in range(2))
            w[::7] = 0
            p = Penalty(spans, 0.01, 0.3)
            values = [p.value(w), p.add_gradient(w, g)]
            p.add_product(w, g)
            yield f"{dtype} {name}", [np.array(values), g]
