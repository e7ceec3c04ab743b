"""The memory that docs/curvature.md states: `memory` bytes for bases, and so many vectors of n doubles on top."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse.linalg as sla

import optcore as oc

N = 20_000
VALUES = np.r_[np.random.default_rng(0).uniform(-1, 1, N - 4), [2.0, 3.0, 4.0, -5.0]]
CALLS = {  # name -> (call, vectors of n doubles on top)
    "eigenpairs": (lambda H, memory: oc.curvature.eigenpairs(H, 3, tol=1e-3, memory=memory), 24 + 3 * 3),
    "extremes": (lambda H, memory: oc.curvature.extremes(H, max_products=60, memory=memory), 12),
    "spectral_density": (lambda H, memory: oc.curvature.spectral_density(H, 2, 60, memory=memory), 12),
    "trace": (lambda H, memory: oc.curvature.trace(H, 180, memory=memory), 12),
    "frobenius_norm": (lambda H, memory: oc.curvature.frobenius_norm(H, 180, memory=memory), 12),
    "diagonal": (lambda H, memory: oc.curvature.diagonal(H, 10), 12),
}


def operator(dtype):
    values = VALUES.astype(dtype)
    H = sla.LinearOperator((N, N), lambda v: values * v.reshape(-1).astype(dtype), dtype=dtype)
    H.product_dtype = np.dtype(dtype)
    return H


def peak(call, *arguments):
    """The most bytes that arrays took meanwhile."""
    oc.curvature.eigenpairs(np.diag(np.arange(70.0)), 1)  # what is imported at the first call is no array
    tracemalloc.start()
    try:
        call(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vectors", [6, 20, 500])
@pytest.mark.parametrize("name", CALLS)
def test_the_stated_bound_holds(name, vectors, dtype):
    call, beside = CALLS[name]
    memory = 8 * N * vectors
    assert peak(call, operator(dtype), memory) <= memory + 8 * N * beside


@pytest.mark.parametrize("vectors", [70, 500])
def test_the_stated_bound_holds_for_probes_at_once(vectors):
    H, memory = operator("float32"), 8 * N * vectors
    H.concurrent = True
    call = CALLS["spectral_density"][0]
    with oc.threads(3):
        assert peak(call, H, memory) <= memory + 8 * N * 3 * 12


def test_a_limit_of_infinity_is_none():
    H = operator("float64")
    assert oc.curvature.spectral_density(H, 1, 30, memory=float("inf")).steps == 30
    for bad in (float("nan"), 0, "4 GiB", True):
        with pytest.raises(ValueError, match="memory: expected a positive number of bytes"):
            oc.curvature.spectral_density(H, 1, 30, memory=bad)
