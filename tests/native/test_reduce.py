"""Reductions against exact rational sums; ranges where squares leave the exponent range; special values; errors."""

import math
from fractions import Fraction

import numpy as np
import pytest

from optcore._native import reduce

DTYPES = ("float32", "float64")
SIZES = (0, 1, 15, 16, 17, 300, 8191, 8193, 20_000)


def exact_sum(terms):
    return float(sum(terms, Fraction(0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_sums_against_exact_ones(n, dtype):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, n)).astype(dtype)
    squares = exact_sum(Fraction(float(a)) ** 2 for a in x)
    product = exact_sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True))
    # In double an element passes n/16 + 4 + log2(blocks) roundings, at most 550 here; they add up like sqrt(550)*2^-53.
    assert reduce.sum_squares(x) == pytest.approx(squares, rel=1e-14)
    assert reduce.norm(x) == pytest.approx(math.sqrt(squares), rel=1e-14)
    assert reduce.dot(x, y) == pytest.approx(product, abs=1e-14 * (squares + 1))
    assert reduce.abs_max(x) == (np.abs(x).max() if n else 0)
    assert reduce.count_nonfinite(x) == 0


@pytest.mark.parametrize(("dtype", "scale"), [
    ("float32", 1e20), ("float32", 1e-25), ("float32", 1e-44), ("float64", 1e200), ("float64", 1e-200),
    ("float64", 1e-310), ("float64", 1e-160), ("float64", 1e307),
])
def test_norm_neither_overflows_nor_underflows(dtype, scale):
    x = (np.random.default_rng(1).uniform(-1, 1, 777) * scale).astype(dtype)
    expected = float(np.sqrt(np.sum(np.asarray(x, np.longdouble) ** 2)))  # 15 bits of exponent
    assert reduce.norm(x) == pytest.approx(expected, rel=1e-14)


def test_norm_at_the_ends_of_the_range():
    largest, smallest = np.finfo("f8").max, np.finfo("f8").smallest_subnormal
    assert reduce.norm(np.array([largest])) == largest
    assert reduce.norm(np.array([largest, largest])) == math.inf
    assert reduce.norm(np.array([3 * smallest, 4 * smallest])) == 5 * smallest
    assert reduce.norm(np.array([1e-300, 1e300])) == 1e300
    assert reduce.norm(np.zeros(5)) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 7, 16, 299, 8192, 20_000])
def test_special_values_anywhere(dtype, place):
    x = np.ones(20_001, dtype)
    x[place] = -np.inf
    assert reduce.abs_max(x) == reduce.norm(x) == math.inf
    assert reduce.count_nonfinite(x) == 1
    x[0 if place else 5] = np.nan
    assert math.isnan(reduce.abs_max(x))
    assert math.isnan(reduce.norm(x))
    assert math.isnan(reduce.sum_squares(x))
    assert reduce.count_nonfinite(x) == 2


def test_subnormals_are_kept():
    tiny = np.finfo("f4").smallest_subnormal
    assert reduce.abs_max(np.array([0, -tiny], "f4")) == float(tiny)
    assert reduce.sum_squares(np.array([tiny], "f4")) == float(tiny) ** 2


def test_any_shape_and_errors():
    x = np.ones((3, 4, 5))
    assert reduce.sum_squares(x) == reduce.dot(x, x) == 60
    with pytest.raises(ValueError, match="x: expected a C-contiguous array"):
        reduce.norm(x[:, ::2])
    with pytest.raises(TypeError, match="x: expected dtype float32 or float64"):
        reduce.abs_max(np.ones(3, "i8"))
    with pytest.raises(TypeError, match="x: expected a NumPy array"):
        reduce.count_nonfinite([1.0])
    with pytest.raises(ValueError, match="y: expected the shape of x"):
        reduce.dot(x, np.ones(60))
    with pytest.raises(TypeError, match="y: expected the dtype of x"):
        reduce.dot(x, x.astype("f4"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_projections_on_rows(n, dtype):
    rng = np.random.default_rng(n)
    rows, x = rng.standard_normal((5, n)).astype(dtype), rng.standard_normal(n).astype(dtype)
    exact = rows.astype(np.longdouble) @ x.astype(np.longdouble)
    found = reduce.components(rows, x)
    np.testing.assert_allclose(found, exact.astype(float), atol=1e-14 * (n + 1))  # as for dot
    assert np.array_equal(found, [reduce.dot(row, x) for row in rows])  # four rows side by side, and one
    rest = x.copy()
    reduce.subtract_rows(rows, found, rest)
    eps, size = np.finfo(dtype).eps, np.abs(x) + np.abs(found) @ np.abs(rows)
    # Each of five multiples passes three roundings, of the factor, the product and the difference.
    assert (np.abs(rest - (x - found @ rows.astype(float))) <= 8 * eps * size).all()
    assert reduce.components(rows[:0], x).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", [0, 1, 7, 8, 21])
@pytest.mark.parametrize("fresh", [1, 2])
def test_a_sweep_subtracts_and_projects(n, dtype, m, fresh):
    rng = np.random.default_rng(n)
    rows, begin = rng.standard_normal((m, n)).astype(dtype), rng.standard_normal((2 + fresh, n)).astype(dtype)
    rows[1::2, ::2] = 0  # neighbours share every other element: components feel the order in which rows are met
    factors, left = rng.standard_normal((2 + fresh, m)), begin.copy()
    found = reduce.sweep(rows, factors, left)
    eps, wide = np.finfo(dtype).eps, rows.astype(float)
    size = np.abs(begin) + np.abs(factors) @ np.abs(wide)
    # Of m multiples each passes three roundings, of the factor, the product and the difference.
    assert (np.abs(left - (begin - factors @ wide)) <= 2 * (m + 3) * eps * size).all()
    assert found.shape == (fresh, m)
    for start in range(0, m - m % 4, 4):
        seen = begin - factors[:, :start + 4] @ wide[:start + 4]
        # Beside that a lane of a block adds up to 8192 / 16 terms in the dtype.
        bound = (2 * (m + 3) + min(n, 8192) / 16 + 2) * eps * (size @ np.abs(wide[start:start + 4]).T)
        assert (np.abs(found[:, start:start + 4] - (seen @ wide[start:start + 4].T)[2:]) <= bound[2:]).all()
    if m % 4:  # the last row has met all the others
        within = 0 if dtype == "float64" else (min(n, 8192) / 16 + 2) * eps * (np.abs(left[2:]) @ np.abs(wide[-1]))
        assert (np.abs(found[:, -1] - [reduce.dot(rows[-1], x) for x in left[2:]]) <= within).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", [1, 2])
def test_a_recurrence_is_its_three_terms(n, dtype, m):
    """To the bit what the steps give one by one; the row is longer than the product, and the rest of it stays."""
    rng = np.random.default_rng(n)
    rows, product = rng.standard_normal((m, n + 5)).astype(dtype), rng.standard_normal(n).astype(dtype)
    x = np.full(n + 5, 7, dtype)
    alpha, norm = reduce.recur(rows, 0.3, product, x)
    assert alpha == reduce.dot(rows[-1, :n], product)
    expected = product.copy()
    reduce.subtract_rows(np.ascontiguousarray(rows[:, :n]), np.array([0.3, alpha][-m:]), expected)
    np.testing.assert_array_equal(x[:n], expected)
    assert (x[n:] == 7).all()
    assert norm == reduce.norm(expected)


def test_errors_of_a_recurrence():
    rows, product, x = np.ones((2, 9)), np.ones(8), np.full(9, 7.0)
    for arguments, message in (((np.ones((3, 9)), 0, product, x), "rows: expected one or two, got 3"),
                               ((rows[:0], 0, product, x), "rows: expected one or two, got 0"),
                               ((rows, 0, np.ones(10), x), "product: expected at most 9 numbers"),
                               ((rows, 0, product[None], x), "product: expected at most 9 numbers"),
                               ((rows, 0, product, rows[1]), "x: .*overlaps rows"),
                               ((rows, 0, x[:8], x), "x: .*overlaps product")):
        with pytest.raises(ValueError, match=message):
            reduce.recur(*arguments)
    with pytest.raises(TypeError, match="product: expected the dtype of x"):
        reduce.recur(rows, 0, product.astype("f4"), x)
    assert (x == 7).all()
    assert (rows == 1).all()


def test_errors_of_projections():
    rows, x = np.ones((2, 9)), np.ones(9)
    three, factors = np.ones((3, 9)), np.ones((3, 2))
    for arguments, message in (((rows, np.ones((3, 3)), three), "factors: expected shape"),
                               ((rows, factors, np.ones((3, 8))), "rows: expected shape"),
                               ((rows, factors, x), "vectors: expected 2 dimensions"),
                               ((rows, factors, np.ones((2, 9))), "vectors: expected three or four"),
                               ((rows, factors, np.ones((5, 9))), "vectors: expected three or four"),
                               ((three[:2], factors, three), "vectors: .*overlaps rows")):
        with pytest.raises(ValueError, match=message):
            reduce.sweep(*arguments)
    for arguments, message in (((rows, factors.astype("f4"), three), "factors: expected float64"),
                               ((rows, factors, three.astype("f4")), "rows: expected the dtype of vectors")):
        with pytest.raises(TypeError, match=message):
            reduce.sweep(*arguments)
    assert (three == 1).all()
    for bad in (rows[:, :8].copy(), x):
        with pytest.raises(ValueError, match="rows: expected shape"):
            reduce.components(bad, x)
    with pytest.raises(TypeError, match="rows: expected the dtype of x"):
        reduce.components(rows.astype("f4"), x)
    with pytest.raises(ValueError, match="factors: expected shape"):
        reduce.subtract_rows(rows, np.ones(3), x)
    with pytest.raises(TypeError, match="factors: expected float64"):
        reduce.subtract_rows(rows, np.ones(2, "f4"), x)
    with pytest.raises(ValueError, match="overlaps rows"):
        reduce.subtract_rows(rows, np.ones(2), rows[1])
    assert (rows == 1).all()
    assert (x == 1).all()
