"""Column sums and turned arrays: values, edges, errors."""

import math

import numpy as np
import pytest

from optcore._native.dense import column_sums, turned


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 1), (33, 128), (257, 129), (1638, 10), (1639, 10), (2, 17_000)])
def test_column_sums(shape, dtype):
    x = (1 + np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    out = np.full(shape[1], np.nan, dtype)
    column_sums(x, out)
    exact = np.array([math.fsum(c) for c in x.T.astype(float)])
    # Double sums rounded once to float32: half an ulp. In double the bound of any order, N eps sum |x|.
    bound = np.abs(np.spacing(exact.astype("f4"))) if dtype == "float32" else len(x) * 2.3e-16 * abs(x).sum(axis=0)
    assert (abs(out - exact) <= bound).all()


def test_empty():
    out = np.full(3, np.nan)
    column_sums(np.empty((0, 3)), out)
    assert np.array_equal(out, np.zeros(3))
    column_sums(np.empty((4, 0)), np.empty(0))


@pytest.mark.parametrize(("x", "out", "error", "message"), [
    (np.ones((3, 2)), np.ones(3), ValueError, r"out: expected shape \(2,\)"),
    (np.ones((3, 2)), np.ones(2, "f4"), TypeError, "out: expected the dtype of x"),
    (np.ones(3), np.ones(3), ValueError, "x: expected 2 dimensions"),
    (np.ones((3, 2)).T, np.ones(3), ValueError, "x: expected a C-contiguous array"),
    (np.ones((3, 2), int), np.ones(2), TypeError, "x: expected dtype float32 or float64"),
    ([[1.0]], np.ones(1), TypeError, "x: expected a NumPy array"),
])
def test_errors(x, out, error, message):
    with pytest.raises(error, match=message):
        column_sums(x, out)
    assert (out == 1).all()


def test_overlap():
    x = np.ones((3, 2))
    with pytest.raises(ValueError, match="overlaps x"):
        column_sums(x, x[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (10, 40), (40, 10), (16, 16), (33, 47), (1000, 129)])
def test_turned(shape, dtype):
    x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    found = turned(x)
    np.testing.assert_array_equal(found, x.T, strict=True)
    assert found.flags.c_contiguous
    assert not np.shares_memory(found, x)


@pytest.mark.parametrize(("x", "error", "message"), [
    (np.ones(3), ValueError, "x: expected 2 dimensions"),
    (np.ones((3, 2)).T, ValueError, "x: expected a C-contiguous array"),
    (np.ones((3, 2), int), TypeError, "x: expected dtype float32 or float64"),
])
def test_errors_of_turned(x, error, message):
    with pytest.raises(error, match=message):
        turned(x)
