"""Weight norm over both forms of the partition, and spectral norm, for the same-bits test."""


from optcore import norm
from optcore.process import one_pool

SHAPES = [((300, 700), 0), ((300, 700), 1), ((40, 30, 3, 3), 0), ((40, 30, 3, 3), 2), ((50001,), 0), ((90, 700), None)]


def cases(rng):
    for dtype in ("float32", "float64"):
        for shape, dim in SHAPES:
            v, dw, rv, rdw = rng.standard_normal((4, *shape)).astype(dtype)
            g, rg = rng.standard_normal((2, 1 if dim is None else shape[dim])).astype(dtype)
            w, saved = norm.weight_norm(v, g, dim)
            yield f"weight {dtype} {shape} {dim}", [w, saved.norm, *norm.weight_norm_backward(dw, v, g, saved)]
            rw, rsaved = norm.weight_norm_jvp(v, g, saved, rv, rg)
            yield f"weight jvp {dtype} {shape} {dim}", [
                rw, rsaved.norm, *norm.weight_norm_backward_jvp(dw, v, g, saved, rdw, rv, rg, rsaved)]
        weight, dw = rng.standard_normal((2, 300, 700)).astype(dtype)
        u, v = rng.standard_normal(300).astype(dtype), rng.standard_normal(700).astype(dtype)
        with one_pool:
            w, saved = norm.spectral_norm(weight, u, v, n_power_iterations=3, training=True)
            yield f"spectral {dtype}", [w, u, v, norm.spectral_norm_backward(dw, weight, saved)]
