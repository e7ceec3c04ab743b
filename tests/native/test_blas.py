"""Matrix products: values against long double, the cut into panels, edges and errors."""

import threading

import numpy as np
import pytest

import optcore as oc
from optcore._native.blas import core_type, matmul, use_small_kernels
from optcore.process import one_pool

# Whole, in large panels, in panels for small kernels, sums too long for those.
SHAPES = [(1, 1, 1), (3, 5, 7), (17, 1, 9), (1, 33, 64), (64, 1, 1), (130, 131, 257), (129, 300, 200), (45, 333, 130),
          (1, 500, 900), (70, 7, 600), (40, 50, 1953), (40, 50, 1954), (20, 30, 9000),
          # a^T with few rows: every height of a tile, whole lines of columns and not, several stretches of the sums.
          (1, 16, 300), (2, 35, 256), (4, 8, 257), (5, 64, 513), (6, 70, 100), (10, 128, 1000), (24, 47, 900),
          (12, 15, 200), (24, 8, 130), (12, 40, 128), (13, 40, 128), (11, 9, 1500),
          # a is turned: one panel, several in strips, the longest sums of either dtype and those beyond.
          (16, 32, 32), (48, 300, 100), (80, 130, 512), (16, 33, 513), (32, 70, 1024), (32, 70, 1025)]
TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


@pytest.fixture(params=[True, False], ids=["small kernels", "large panels"])
def cut(request):
    """Both ways to cut a product, whichever BLAS is there."""
    before = use_small_kernels(request.param)
    yield
    use_small_kernels(before)


def operands(rng, m, n, k, ta, tb, dtype):
    a = rng.standard_normal((k, m) if ta else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if tb else (k, n)).astype(dtype)
    return a, b, a.T if ta else a, b.T if tb else b


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("cut")
def test_values(shape, ta, tb, dtype):
    m, n, k = shape
    rng = np.random.default_rng(1)
    a, b, x, y = operands(rng, m, n, k, ta, tb, dtype)
    start = rng.standard_normal((m, n)).astype(dtype)
    out, total = np.full((m, n), np.nan, dtype), start.copy()
    with one_pool:
        matmul(a, b, out, transpose_a=ta, transpose_b=tb)
        matmul(a, b, total, transpose_a=ta, transpose_b=tb, accumulate=True)
    wide = np.float64 if dtype == "float32" else np.longdouble
    x, y = x.astype(wide), y.astype(wide)
    exact, size = x @ y, abs(x) @ abs(y)
    # The bound of any order of summation, Higham 2002, section 3.1: (k + 2) eps sum |a||b|.
    eps = np.finfo(dtype).eps
    assert (abs(out - exact) <= (k + 2) * eps * size).all()
    assert (abs(total - (exact + start)) <= (k + 3) * eps * (size + abs(start))).all()


def test_the_core_type_is_that_of_openblas():
    """As threadpoolctl, another way to it, has it."""
    with one_pool:
        types = {b["core_type"] for b in oc.show_config()["blas"] if b["library"] == "openblas"}
    assert core_type() in types or (core_type() is None and not types)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (0, 0, 0), (0, 4, 0)])
def test_empty_outputs(shape):
    m, n, k = shape
    matmul(np.empty((m, k)), np.empty((k, n)), np.empty((m, n)))


def test_an_empty_sum_is_zero():
    a, b = np.empty((3, 0)), np.empty((0, 4))
    out = np.full((3, 4), np.nan)
    matmul(a, b, out)
    assert np.array_equal(out, np.zeros((3, 4)))
    out[...] = 5
    matmul(a, b, out, accumulate=True)
    assert np.array_equal(out, np.full((3, 4), 5.0))


def test_what_is_replaced_is_not_read():
    out = np.full((70, 90), np.nan)
    matmul(np.ones((70, 2)), np.ones((2, 90)), out)
    assert np.array_equal(out, np.full((70, 90), 2.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize("shape", [(333, 290, 611), (200, 290, 311), (40, 500, 130), (144, 290, 200), (10, 797, 1500)])
@pytest.mark.usefixtures("cut")
def test_threads_do_not_change_bits(shape, ta, tb, dtype):
    a, b, _, _ = operands(np.random.default_rng(2), *shape, ta, tb, dtype)
    outs = []
    for n in (1, 2, 3, 7):
        outs.append(np.empty(shape[:2], dtype))
        with one_pool, oc.threads(n):
            matmul(a, b, outs[-1], ta, tb)
    assert all(np.array_equal(outs[0], o) for o in outs[1:])


STRETCH = 64  # terms that the kernel for few rows sums before it adds them to the result
LONG_STRETCH = 512  # and that for a b^T


def summed_in_stretches(a, b, total):
    """a^T b, term by term, each stretch on its own and then added to `total`, if that is not None."""
    for begin in range(0, len(a), STRETCH):
        terms = a[begin:begin + STRETCH, :, None] * b[begin:begin + STRETCH, None, :]
        part = np.zeros_like(terms[0])
        for term in terms:
            part = part + term
        total = part if total is None else total + part
    return total


def folded(a, b, total):
    """a b^T by the kernel for few rows: in stretches, the elements of half a line apart and then folded."""
    half = 32 // a.itemsize
    for begin in range(0, a.shape[1], LONG_STRETCH):
        terms = a[:, None, begin:begin + LONG_STRETCH] * b[None, :, begin:begin + LONG_STRETCH]
        whole = terms.shape[2] // half * half
        part = np.zeros((*terms.shape[:2], half), a.dtype)
        for p in range(0, whole, half):
            part = part + terms[:, :, p:p + half]
        while part.shape[2] > 1:
            part = part[:, :, :part.shape[2] // 2] + part[:, :, part.shape[2] // 2:]
        part = part[:, :, 0]
        for p in range(whole, terms.shape[2]):
            part = part + terms[:, :, p]
        total = part if total is None else total + part
    return total


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 16, 128), (3, 33, 130), (4, 8, 512), (5, 1, 1100), (6, 17, 135), (7, 30, 200),
                                   (10, 127, 1000), (12, 9, 513)])
def test_few_rows_of_the_other_forms_to_the_bit(shape, dtype):
    m, n, k = shape
    if dtype == "float64":
        m = min(m, 6)
    rng = np.random.default_rng(5)
    before = use_small_kernels(False)
    try:
        for offset in range(2):
            a, c, b, d = (np.empty(offset + k * side, dtype)[offset:].reshape(side, k) for side in (m, m, n, n))
            for x in (a, b, c, d):
                x[...] = rng.standard_normal(x.shape)
            room = np.full(offset + m * n + 1, 7, dtype)
            out = room[offset:-1].reshape(m, n)
            with one_pool:
                matmul(a, b, out, transpose_b=True, plus=(c, d))
                np.testing.assert_array_equal(out, folded(c, d, folded(a, b, None)), strict=True)
                if out.itemsize * n >= 32:
                    b, d = b.T.copy(), d.T.copy()
                    matmul(a, b, out, plus=(c, d))
                    np.testing.assert_array_equal(out, summed_in_stretches(c.T, d, summed_in_stretches(a.T, b, None)))
            assert (room[:offset] == 7).all()
            assert room[-1] == 7
    finally:
        use_small_kernels(before)


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize("shape", [(3, 5, 7), (10, 128, 1000), (130, 131, 257), (4, 3, 0)])
@pytest.mark.usefixtures("cut")
def test_the_sum_of_two_products_is_two_calls(shape, ta, tb):
    m, n, k = shape
    rng = np.random.default_rng(6)
    a, b, *_ = operands(rng, m, n, k, ta, tb, "float32")
    c, d, *_ = operands(rng, m, n, k + 2, ta, tb, "float32")  # of any length
    found, expected = np.ones((2, m, n), "float32")
    with one_pool:
        for accumulate in (False, True):
            matmul(a, b, found, ta, tb, accumulate, plus=(c, d))
            matmul(a, b, expected, ta, tb, accumulate)
            matmul(c, d, expected, ta, tb, True)
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 16, 64), (3, 33, 65), (4, 8, 7), (5, 100, 128), (6, 17, 129),
                                   (7, 31, 200), (10, 784, 100), (11, 13, 64), (12, 48, 300)])
def test_few_rows_to_the_bit(shape, dtype):
    """Wherever the arrays begin; NaN and infinity stay in their rows and columns, and nothing else is written."""
    m, n, k = shape
    rng = np.random.default_rng(4)
    before = use_small_kernels(False)
    try:
        for offset in range(4):
            a, b = (np.empty(offset + k * side, dtype)[offset:].reshape(k, side) for side in (m, n))
            room = np.full(offset + m * n + 1, 7, dtype)
            out = room[offset:-1].reshape(m, n)
            a[...], b[...] = rng.standard_normal(a.shape), rng.standard_normal(b.shape)
            if offset:
                a[k // 2, m - 1], b[0, n // 2], b[k - 1, 0] = 0, np.inf, np.nan
            with one_pool, np.errstate(invalid="ignore"):
                matmul(a, b, out, transpose_a=True)
                expected = summed_in_stretches(a, b, None)
                np.testing.assert_array_equal(out, expected, strict=True)
                matmul(a, b, out, transpose_a=True, accumulate=True)
                np.testing.assert_array_equal(out, summed_in_stretches(a, b, expected), strict=True)
            assert (room[:offset] == 7).all()
            assert room[-1] == 7
    finally:
        use_small_kernels(before)


def test_python_threads_at_once():
    """The GIL is released, and nothing is shared between calls."""
    rng = np.random.default_rng(3)
    pairs = [operands(rng, 200, 210, 190, False, False, "float64")[:2] for _ in range(4)]
    outs = [np.empty((200, 210)) for _ in pairs]
    with one_pool:
        expected = [np.empty((200, 210)) for _ in pairs]
        for (a, b), e in zip(pairs, expected, strict=True):
            matmul(a, b, e)
        workers = [threading.Thread(target=lambda a=a, b=b, o=o: [matmul(a, b, o) for _ in range(20)])
                   for (a, b), o in zip(pairs, outs, strict=True)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
    assert all(np.array_equal(o, e) for o, e in zip(outs, expected, strict=True))


A, B = np.ones((3, 4)), np.ones((4, 5))
FROZEN = np.ones((3, 5))
FROZEN.flags.writeable = False
SHARED = np.ones(40)


@pytest.mark.parametrize(("a", "b", "out", "options", "error", "message"), [
    ([[1.0]], B, np.ones((1, 5)), {}, TypeError, "a: expected a NumPy array, got list"),
    (A.astype(int), B, np.ones((3, 5)), {}, TypeError, "a: expected dtype float32 or float64, got int64"),
    (A, B.astype("f4"), np.ones((3, 5)), {}, TypeError, "b: expected the dtype of a, float64, got float32"),
    (A, B, np.ones((3, 5), "f4"), {}, TypeError, "out: expected the dtype of a"),
    (A, B.astype(">f8"), np.ones((3, 5)), {}, TypeError, "b: expected native byte order"),
    (A, np.ones(4), np.ones((3, 1)), {}, ValueError, r"b: expected 2 dimensions, got shape \(4,\)"),
    (A, B.T, np.ones((3, 5)), {}, ValueError, "b: expected a C-contiguous array"),
    (A, np.ones((5, 5)), np.ones((3, 5)), {}, ValueError, "b: expected 4 rows, as many as a has columns"),
    (A, B, np.ones((3, 5)), {"transpose_a": True}, ValueError, "b: expected 3 rows, as many as a has rows"),
    (A, B, np.ones((3, 5)), {"transpose_b": True}, ValueError, "b: expected 4 columns, as many as a has columns"),
    (A, B, np.ones((5, 3)), {}, ValueError, r"out: expected shape \(3, 5\), got \(5, 3\)"),
    (A, B, FROZEN, {}, ValueError, "out: expected a writable array"),
    (SHARED[:12].reshape(3, 4), B, SHARED[11:26].reshape(3, 5), {}, ValueError, "out: .* overlaps a"),
    (A, SHARED[:20].reshape(4, 5), SHARED[19:34].reshape(3, 5), {}, ValueError, "out: .* overlaps b"),
    (np.empty((0, 2**31)), np.empty((2**31, 0)), np.empty((0, 0)), {}, ValueError, "a: .* limit of BLAS"),
    (np.empty((2**31, 0)), np.empty((2**31, 0)), np.empty((0, 0)), {"transpose_a": True}, ValueError,
     "b: .* limit of BLAS"),
    (A, B, np.ones((3, 5)), {"plus": (A, B.T.copy())}, ValueError,
     r"plus\[1\]: expected 4 rows, as many as plus\[0\] has columns"),
    (A, B, np.ones((3, 5)), {"plus": (A,)}, TypeError, "plus: expected a pair of arrays, got"),
    (A, B, np.ones((3, 5)), {"plus": (A[:2], B)}, ValueError, r"out: expected shape \(2, 5\), got \(3, 5\)"),
    (A, B, np.ones((3, 5)), {"plus": (A.astype("f4"), B.astype("f4"))}, TypeError,
     r"out: expected the dtype of plus\[0\]"),
])
def test_errors(a, b, out, options, error, message):
    before = out.copy()
    with pytest.raises(error, match=message):
        matmul(a, b, out, **options)
    assert np.array_equal(out, before)
