"""Mini-batches, standardisation, splits, and reading files."""

import gzip
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from optcore import checkpoint, data

rng0 = np.random.default_rng


# --- batches

@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 200), size=st.one_of(st.none(), st.integers(1, 250)), shuffle=st.booleans(),
       drop=st.booleans(), seed=st.integers(0, 2**32))
def test_batches_cover_every_example_once(n, size, shuffle, drop, seed):
    got = list(data.batches(n, size, shuffle, rng0(seed), drop))
    size = min(size or n, n)
    assert all(b.dtype == np.int64 and b.ndim == 1 for b in got)
    assert [len(b) for b in got[:-1]] == [size] * (len(got) - 1)
    seen = np.concatenate(got).tolist()
    assert len(set(seen)) == len(seen)
    if drop:
        assert len(got) == n // size
        assert len(got[-1]) == size
        assert set(seen) <= set(range(n))
    else:
        assert sorted(seen) == list(range(n))
        assert len(got) == math.ceil(n / size)
    if not shuffle:
        assert seen == list(range(len(seen)))


def test_reshuffled_at_each_call_and_repeatable():
    rng = rng0(5)
    first, second = (np.concatenate(list(data.batches(100, 7, True, rng))) for _ in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(100))
    again = rng0(5)
    for expected in (first, second):
        assert np.array_equal(np.concatenate(list(data.batches(100, 7, True, again))), expected)


def test_the_order_is_drawn_at_the_call():
    # A resumed run draws an epoch's order again from the state before the call, whatever was consumed of it.
    rng = rng0(1)
    iterator = data.batches(10, 2, True, rng)
    state = rng.bit_generator.state
    next(iterator)
    assert rng.bit_generator.state == state


def test_every_order_is_as_likely():
    rng = rng0(0)
    counts = np.zeros((4, 4))
    for _ in range(4000):
        order = np.concatenate(list(data.batches(4, 1, True, rng)))
        counts[np.arange(4), order] += 1
    # chi-square of a 4 x 4 table with 9 degrees of freedom; 33.7 is its 1e-4 quantile, the seed is fixed
    assert ((counts - 1000) ** 2 / 1000).sum() < 33.7


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0, 1, False), ValueError, "n: expected at least 1, got 0"),
    ((10, 0, False), ValueError, "batch_size: expected at least 1, got 0"),
    ((10, 2.0, False), TypeError, "batch_size: expected an integer, got 2.0"),
    ((10, 2, True), TypeError, "rng: expected a numpy.random.Generator"),
    ((10, 2, True, 0), TypeError, "rng: expected a numpy.random.Generator"),
])
def test_batches_refuse_at_the_call(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        data.batches(*arguments)


# --- standardize

def exact_statistics(column):
    """Mean and deviation with exact sums (math.fsum), one rounding at the end."""
    mean = math.fsum(column) / len(column)
    return mean, math.sqrt(math.fsum((float(x) - mean) ** 2 for x in column) / len(column))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (1e5, 0.1), (-1e-20, 1e-22), (1e30, 1e24)])
def test_statistics_are_exact(dtype, mean, deviation):
    X = (mean + deviation * rng0(2).standard_normal((10_000, 3))).astype(dtype)
    Z, m, s = data.standardize(X)
    assert Z.dtype == dtype
    for c in range(3):
        true_mean, true_deviation = exact_statistics(X[:, c].tolist())
        # relative to the deviation: the mean itself can be stored no better than eps * |mean|
        assert abs(m[c] - true_mean) <= 2e-16 * abs(true_mean) + 1e-15 * true_deviation
        assert s[c] == pytest.approx(true_deviation, rel=1e-11)     # d = x - mean keeps 1e-16 * 1e6 of itself
    # What float32 storage of Z allows: half an ulp of values up to 4 for each element, averaged.
    tolerance = 1e-7 if dtype == np.float32 else 1e-10
    assert abs(Z.mean(axis=0, dtype=np.float64)).max() < tolerance
    assert abs(Z.std(axis=0, dtype=np.float64) - 1).max() < tolerance


def test_constant_columns_become_zero():
    X = np.full((1000, 2), 0.1)
    X[:, 1] = 1e17
    Z, mean, std = data.standardize(X)
    assert (std == 0).all()
    assert mean.tolist() == [0.1, 1e17]
    assert (Z == 0).all()
    Zv, _, _ = data.standardize(np.array([[0.6, 1e17]]), mean, std)
    assert Zv.tolist() == [[0.5, 0.0]]


def test_fitted_on_the_training_part_only():
    X, Xv = rng0(0).standard_normal((50, 4)) * 3 + 2, rng0(1).standard_normal((20, 4))
    before = X.copy(), Xv.copy()
    _, mean, std = data.standardize(X)
    Zv, m, s = data.standardize(Xv, mean, std)
    assert np.array_equal(Zv, (Xv - mean) / std)
    assert np.array_equal(m, mean)
    assert np.array_equal(s, std)
    assert np.array_equal(X, before[0])
    assert np.array_equal(Xv, before[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.float16])
def test_other_numbers_become_double(dtype):
    X = rng0(0).integers(0, 2, (30, 2)).astype(dtype)
    Z, _, _ = data.standardize(X)
    assert Z.dtype == np.float64
    expected = (X - X.mean(0, dtype=float)) / X.std(0, dtype=float)
    assert abs(Z - expected).max() < 1e-12      # a few roundings of values up to about 10


def test_images_keep_their_shape_and_layout_is_free():
    X = np.asfortranarray(rng0(0).standard_normal((9, 4, 5)))
    Z, mean, _ = data.standardize(X)
    assert Z.shape == (9, 4, 5)
    assert mean.shape == (4, 5)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((np.array([["a"]]),), TypeError, "X: expected real numbers"),
    ((np.array([[1j]]),), TypeError, "X: expected real numbers"),
    ((np.zeros((0, 3)),), ValueError, "X: expected at least one row"),
    ((np.array([[1.0, 1.0], [2.0, np.nan]]),), ValueError, r"X: expected finite values, .* column \[1\]"),
    ((np.array([[1.0], [np.inf]]),), ValueError, r"X: expected finite values, .* column \[0\]"),
    ((np.zeros((3, 2)), np.zeros(2)), ValueError, "std: expected"),
    ((np.zeros((3, 2)), np.zeros(3), np.ones(2)), ValueError, r"mean: expected shape \(2,\), got \(3,\)"),
    ((np.zeros((3, 2)), np.zeros(2), -np.ones(2)), ValueError, "std: expected finite values >= 0"),
])
def test_standardize_refuses(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        data.standardize(*arguments)


# --- split

@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 300), fraction=st.floats(0.01, 0.99), classes=st.integers(1, 12),
       seed=st.integers(0, 99))
def test_split_is_a_stratified_partition(n, fraction, classes, seed):
    labels = rng0(seed).integers(0, classes, n)
    kept, held = data.split(n, fraction, rng0(seed), labels)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(n))
    assert len(held) == min(max(round(n * fraction), 1), n - 1)
    for c in range(classes):
        in_class = (labels == c).sum()
        assert abs((labels[held] == c).sum() - in_class * len(held) / n) < 1      # largest remainder


def test_split_is_random_and_repeatable():
    a = [data.split(50, 0.2, rng0(s))[1].tolist() for s in (0, 0, 1)]
    assert a[0] == a[1] != a[2]


@pytest.mark.parametrize(("arguments", "error"), [
    ((10, 0.0, rng0(0)), ValueError), ((10, 1.0, rng0(0)), ValueError), ((1, 0.5, rng0(0)), ValueError),
    ((10, "0.5", rng0(0)), TypeError), ((10, 0.5, 0), TypeError), ((10, 0.5, rng0(0), [1, 2]), ValueError),
])
def test_split_refuses(arguments, error):
    with pytest.raises(error):
        data.split(*arguments)


# --- load

def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_digits_are_the_real_thing():
    digits = data.load("digits")
    assert digits.X.shape == (1797, 64)
    assert digits.X.min() == 0
    assert digits.X.max() == 16
    # the counts that UCI states for its test part
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.classes == tuple("0123456789")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_a_header_and_names_as_classes(tmp_path, delimiter):
    lines = [["width", "height", "kind"], ["1", "2.5", "cat"], ["3e0", "-4", "ant"], ["5", "6", "cat"]]
    d = data.load(write(tmp_path, "\ufeff" + "\n".join(map(delimiter.join, lines)) + "\n\n"))
    assert d.X.tolist() == [[1.0, 2.5], [3.0, -4.0], [5.0, 6.0]]
    assert d.classes == ("ant", "cat")
    assert d.y.tolist() == [1, 0, 1]
    assert d.y.dtype == np.int64
    assert d.features == ("width", "height")


def test_csv_numbers_as_classes_or_values(tmp_path):
    whole = write(tmp_path, "1,2,7\n3,4,5\n5,6,7\n")
    d = data.load(whole)
    assert (d.classes, d.y.tolist(), d.features) == (("5", "7"), [1, 0, 1], None)
    assert data.load(whole, task="regression").y.tolist() == [[7.0], [5.0], [7.0]]
    d = data.load(write(tmp_path, "1,2,7.5\n3,4,5\n"))
    assert d.classes is None
    assert d.y.tolist() == [[7.5], [5.0]]


def test_numbers_that_no_int64_holds_are_classes_too(tmp_path):
    """Cast to int64 they would all be one."""
    y = np.array([1e300, -2e300, 3.0])
    np.savez(tmp_path / "a.npz", X=np.eye(3), y=y)
    d = data.load(tmp_path / "a.npz")
    assert [float(d.classes[i]) for i in d.y] == y.tolist()
    np.savez(tmp_path / "a.npz", X=np.eye(2), y=np.array([2**63 + 2, 2**63], np.uint64))
    assert data.load(tmp_path / "a.npz").classes == (str(2**63), str(2**63 + 2))


@pytest.mark.parametrize(("text", "line"), [("\n\r\na;b;c\n1;2;x\n3;4;y\n", 5), ("a;b;c\n1;2;x\n   \n3;4;y\n \n", 4)])
def test_blank_lines_of_a_table_say_nothing(tmp_path, text, line):
    d = data.load(write(tmp_path, text))
    assert (d.X.tolist(), d.classes, d.features) == ([[1, 2], [3, 4]], ("x", "y"), ("a", "b"))
    with pytest.raises(ValueError, match=f":{line}: column 2"):
        data.load(write(tmp_path, text.replace("4", "")))


def test_npz(tmp_path):
    X, y = rng0(0).integers(0, 255, (6, 2, 3), dtype=np.uint8), np.array([3, 1, 3, 1, 1, 3], dtype=np.uint8)
    np.savez(tmp_path / "a.npz", X=X, y=y)
    d = data.load(tmp_path / "a.npz")
    assert np.array_equal(d.X, X.reshape(6, 6))
    assert (d.y.tolist(), d.classes) == ([1, 0, 1, 0, 0, 1], ("1", "3"))


@pytest.mark.parametrize(("text", "message"), [
    ("a,b,c\n1,2,x\n1,oops,y\n", r":3: column 2 \(b\): expected a finite number, got 'oops'"),
    ("1,2,x\n1,,y\n", ":2: column 2: missing value: expected a finite number, got ''"),
    ("1,2,x\n1,nan,y\n", ":2: column 2: missing value: expected a finite number, got 'nan'"),
    ("1,2,x\n1,2,3,y\n", ":2: expected 3 columns, got 4"),
    ("1,2,inf\n1,2,3\n", ":1: column 3: expected a finite target, got 'inf'"),
    ("a,b,c\n1,2,x\n\n1,2,NA\n", r":4: column 3 \(c\): missing value: expected a target, got 'NA'"),
    ("1,2,x\n1,?,y\n", r":2: column 2: missing value: expected a finite number, got '\?'"),
    ("1,2,x\n1,2,x\n", ": expected at least 2 classes, got only x"),
    ("1,2,x\n", ": expected at least 2 examples, got 1"),
    ("a,b\n", ": expected rows of numbers"),
    ("", ": expected rows of numbers"),
])
def test_csv_errors_name_the_place(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=f"^{path}{message}"):
        data.load(path)


def test_regression_needs_numbers(tmp_path):
    with pytest.raises(ValueError, match="regression needs numbers"):
        data.load(write(tmp_path, "1,x\n2,y\n"), task="regression")


def test_npz_errors(tmp_path):
    path = tmp_path / "a.npz"
    good = {"X": np.zeros((3, 2)), "y": np.arange(3)}
    for change, message in [({"y": np.arange(4)}, "y: expected shape"),
                            ({"X": np.zeros(3)}, "X: expected numbers"),
                            ({"X": np.zeros((3, 0))}, r"X: expected .* D at least 1, got float64 of shape \(3, 0\)"),
                            ({"X": np.full((3, 2), np.nan)}, r"X\[0, 0\]: expected a finite number"),
                            ({"X": np.array([[None] * 2] * 3)}, "not a readable .npz file without pickles")]:
        np.savez(path, **{**good, **change})
        with pytest.raises(ValueError, match=message):
            data.load(path)
    np.savez(path, X=good["X"])
    with pytest.raises(ValueError, match=r"expected arrays X and y, got X$"):
        data.load(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="not a readable"):
        data.load(path)


def test_unknown_sources(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        data.load(tmp_path / "missing.csv")
    with pytest.raises(ValueError, match="expected 'digits' or"):
        data.load("letters")
    with pytest.raises(ValueError, match=r"^task: expected"):
        data.load("digits", task="clustering")
    table = write(tmp_path, "1,2,x\n3,4,y\n")
    with pytest.raises(TypeError, match=r"^target: expected a name, an index or a path, got 1.5"):
        data.load(table, target=1.5)
    with pytest.raises(TypeError, match=r"^header: expected True or False, got 1"):
        data.load(table, header=1)
    np.save(tmp_path / "X.npy", np.eye(2))
    with pytest.raises(TypeError, match=r"^target: expected a path, got int"):
        data.load(tmp_path / "X.npy", target=1)


def test_binary_and_one_column_csv(tmp_path):
    path = tmp_path / "b.csv"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match=f"^{path}: not a readable CSV"):
        data.load(path)
    with pytest.raises(ValueError, match=":1: expected at least 2 columns"):
        data.load(write(tmp_path, "a\n1\n2\n"))


# --- the target's column, missing values, headers

@pytest.mark.parametrize(("target", "classes"), [("kind", ("ant", "cat")), (1, ("ant", "cat")), ("-2", ("ant", "cat"))])
def test_target_by_name_or_index(tmp_path, target, classes):
    d = data.load(write(tmp_path, "width,kind,height\n1,cat,2\n3,ant,4\n"), target=target)
    assert d.X.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert (d.classes, d.y.tolist(), d.features) == (classes, [1, 0], ("width", "height"))


@pytest.mark.parametrize(("text", "options", "message"), [
    ("a,b,c\n1,2,x\n", {"target": "d"}, ": target: expected one of a, b, c, got 'd'"),
    ("1,2,x\n3,4,y\n", {"target": "c"}, ": target: the file has no header, expected an index, got 'c'"),
    ("1,2,x\n3,4,y\n", {"target": 3}, ": target: expected an index from -3 to 2, got 3"),
    ("a,a,x\n3,4,y\n", {"target": "a"}, ": target: expected a name that stands once, 'a' stands 2 times"),
    ("k,1,x\nl,4,y\n", {"header": False}, ":1: column 1: expected a finite number, got 'k'"),
    ("x,1,\ny,4,5\n", {"target": 0}, ":1: column 3: missing value: expected a finite number, got ''"),
])
def test_wrong_targets_name_the_place(tmp_path, text, options, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=f"^{path}{message}"):
        data.load(path, **options)


def test_a_header_of_numbers_has_to_be_told(tmp_path):
    path = write(tmp_path, "1990,1991,kind\n1,2,a\n3,4,b\n")
    assert data.load(path, header=True).features == ("1990", "1991")
    assert data.load(path).classes == ("a", "b", "kind")


# --- IDX, as on the page of MNIST

def idx(array, code):
    """The bytes of an array: 0, 0, the type, the number of dimensions, each as a big-endian int32, the data."""
    head = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_as_mnist(tmp_path, ending):
    X, y = rng0(0).integers(0, 256, (7, 4, 3), dtype=np.uint8), np.array([3, 9, 3, 3, 9, 9, 3], dtype=np.uint8)
    for name, raw in (("train-images-idx3-ubyte", idx(X, 8)), ("train-labels-idx1-ubyte", idx(y, 8))):
        (tmp_path / (name + ending)).write_bytes(gzip.compress(raw) if ending else raw)
    d = data.load(tmp_path / f"train-images-idx3-ubyte{ending}")
    assert d.X.dtype == np.uint8
    assert np.array_equal(d.X, X.reshape(7, 12))
    assert (d.classes, d.y.tolist()) == (("3", "9"), [0, 1, 0, 0, 1, 1, 0])


@pytest.mark.parametrize(("dtype", "code"), [("u1", 8), ("i1", 9), ("i2", 11), ("i4", 12), ("f4", 13), ("f8", 14)])
def test_idx_of_every_type(tmp_path, dtype, code):
    a = rng0(0).standard_normal((3, 2)).astype(dtype) * np.array(50, dtype)
    (tmp_path / "a.idx").write_bytes(idx(a, code))
    back = data.read_idx(tmp_path / "a.idx")
    assert back.dtype == np.dtype(dtype)
    assert np.array_equal(back, a)


@pytest.mark.parametrize(("change", "message"), [
    (lambda raw: raw[:-1], r"expected 26 bytes for shape \[7, 2\], got 25"), (lambda raw: raw[:6], "expected .* got 6"),
    (lambda raw: raw + b"0", "expected 26 bytes .*, got 27"), (lambda raw: b"", "not an IDX file"),
    (lambda raw: b"\0\0\x07" + raw[3:], "not an IDX file: .*, got 00 00 07"),
    (lambda raw: b"PK" + raw[2:], "not an IDX file: expected 0, 0 and a type of 0x8, .*, got 50 4b 08")])
def test_idx_that_is_none(tmp_path, change, message):
    path = tmp_path / "a.idx2-x"
    path.write_bytes(change(idx(np.zeros((7, 2), "u1"), 8)))
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        data.read_idx(path)
    whole = gzip.compress(idx(np.zeros((7, 2), "u1"), 8))
    for raw in (whole[:-9], b"no gzip"):
        (tmp_path / "a.idx.gz").write_bytes(raw)
        with pytest.raises(ValueError, match="not a whole gzip file"):
            data.read_idx(tmp_path / "a.idx.gz")


def test_npy_is_mapped(tmp_path):
    X, y = rng0(0).integers(0, 9, (8, 2, 3)), np.array(list("abababab"))
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    d = data.load(tmp_path / "X.npy", target=tmp_path / "y.npy")
    assert isinstance(d.X, np.memmap)
    assert np.array_equal(d.X, X.reshape(8, 6))
    assert d.classes == ("a", "b")
    with pytest.raises(ValueError, match=r"X\.npy: target: expected the \.npy file"):
        data.load(tmp_path / "X.npy")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*z"):
        data.load(tmp_path / "X.npy", target=tmp_path / "z.npy")


# --- the order, whatever NumPy's version

def test_the_order_is_that_of_raw_numbers():
    """PCG64's stream is O'Neill's, its seeding NumPy's SeedSequence: both are promised to stay. By hand from the paper:
    the state is a 128-bit LCG, each output the xor of its halves, rotated by its top 6 bits."""
    seed, increment = np.random.SeedSequence(7), None
    words = [int(w) for w in seed.generate_state(4, np.uint64)]
    mask, multiplier = 2**128 - 1, 0x2360ed051fc65da44385df649fccf645
    increment = ((words[2] << 64 | words[3]) << 1 | 1) & mask
    state = ((increment + (words[0] << 64 | words[1])) * multiplier + increment) & mask
    raw = []
    for _ in range(20):
        state = (state * multiplier + increment) & mask
        x, r = (state >> 64 ^ state) & 2**64 - 1, state >> 122
        raw.append((x >> r | x << (64 - r)) & 2**64 - 1)
    order = sorted(range(20), key=raw.__getitem__)
    assert data.shuffled(20, rng0(np.random.SeedSequence(7))).tolist() == order
    assert np.concatenate(list(data.batches(20, 6, rng=rng0(np.random.SeedSequence(7))))).tolist() == order


def test_numbers_that_are_alike_keep_their_order():
    class Small(np.random.PCG64):
        def random_raw(self, n):
            return np.array([3, 1, 3, 1, 2] * (n // 5), dtype=np.uint64)

    order = data.shuffled(5000, np.random.Generator(Small()))
    assert order.tolist() == sorted(range(5000), key=lambda i: ([3, 1, 3, 1, 2][i % 5], i))


def test_batches_of_a_part():
    rows = np.array([3, 5, 8, 9, 12])
    got = list(data.batches(5, 2, rng=rng0(1), rows=rows))
    assert [b.tolist() for b in got] == [rows[b].tolist() for b in data.batches(5, 2, rng=rng0(1))]


# --- standardising in one pass, rows where they are

def test_standardizer_goes_and_comes_back():
    X = rng0(0).standard_normal((9000, 3)) * [1, 1e-3, 1e5] + [0, 5, -1e6]
    rows = np.arange(5000)
    scaler = data.Standardizer().fit(X, rows)
    for c in range(3):
        mean, deviation = exact_statistics(X[:5000, c].tolist())
        assert scaler.mean[c] == pytest.approx(mean, rel=1e-15, abs=1e-15)
        assert scaler.std[c] == pytest.approx(deviation, rel=1e-11)
    np.testing.assert_allclose(scaler.inverse(scaler.transform(X)), X, rtol=1e-14, atol=1e-14)     # three roundings
    assert scaler.transform(X, "float32").dtype == np.float32
    other = data.Standardizer(per_column=False)
    other.load_state_dict(scaler.state_dict())
    assert np.array_equal(other.transform(X), scaler.transform(X))
    whole = data.Standardizer(per_column=False).fit(X)
    np.testing.assert_allclose([whole.mean, whole.std], [X.mean(), X.std()], rtol=1e-12)


def test_standardizer_is_saved_with_a_run(tmp_path):
    scaler = data.Standardizer().fit(np.array([[1.0, 2.0], [3.0, 2.0]]))
    checkpoint.save(tmp_path / "s", scaler.state_dict())
    other = data.Standardizer()
    other.load_state_dict(checkpoint.load(tmp_path / "s"))
    assert other.mean.tobytes() == scaler.mean.tobytes()
    with pytest.raises(ValueError, match=r"^state: expected"):
        other.load_state_dict({"mean": 0})
    with pytest.raises(ValueError, match="got one without statistics"):
        data.Standardizer().transform(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"^X: expected rows of shape \(2,\), got \(3,\)"):
        scaler.transform(np.zeros((2, 3)))


def test_rows_are_the_scaled_array():
    X = rng0(0).integers(0, 256, (50, 4), dtype=np.uint8)
    kept = np.arange(0, 50, 2)
    scaler = data.Standardizer().fit(X, kept)
    rows, expected = data.Rows(X, scaler, rows=kept), scaler.transform(X, "float32")[kept]
    assert (len(rows), rows.shape, rows.dtype) == (25, (25, 4), np.float32)
    for index in (slice(3, 9), np.array([7, 1, 7]), slice(None)):
        assert np.array_equal(rows[index], expected[index])
    assert np.array_equal(np.asarray(rows), expected)
    for wrong in ([[1.0]], np.array([["a"]])):
        with pytest.raises(TypeError, match=r"^X: expected a"):
            data.Rows(wrong)
    with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64"):
        data.Rows(X, dtype="int8")
    with pytest.raises(ValueError, match=r"^scaler: expected one that was fitted"):
        data.Rows(X, data.Standardizer())
    with pytest.raises(TypeError, match=r"^scaler: expected a Standardizer, got int"):
        data.Rows(X, 3)
    with pytest.raises(ValueError, match=rf"^rows: expected indices from 0 to {len(X) - 1}, got 0 to {len(X)}"):
        data.Rows(X, rows=[0, len(X)])


# --- class weights

def test_balanced_is_scikit_learn_s():
    y = rng0(0).choice(5, 200, p=[0.5, 0.3, 0.1, 0.08, 0.02])
    theirs = compute_class_weight("balanced", classes=np.arange(5), y=y)
    np.testing.assert_allclose(data.class_weights("balanced", y, 5), theirs, rtol=1e-15)
    y = np.array([0, 0, 2])
    theirs = compute_class_weight("balanced", classes=np.array([0, 2]), y=y)      # K is of those that occur
    np.testing.assert_allclose(data.class_weights("balanced", y, 4)[[0, 2]], theirs, rtol=1e-15)
    assert data.class_weights([1, 2, 3], y, 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("weight", "error", "message"), [
    ("even", ValueError, "expected 'balanced'"), ({5: 1.0}, ValueError, "class indices from 0 to 2 as keys, got 5"),
    ([1, 2], ValueError, "expected 3 weights"), ([1, -1, 1], ValueError, "finite numbers >= 0"),
    ({0: "a"}, TypeError, "expected numbers"), ([0, 0, 0], ValueError, "not all 0")])
def test_class_weights_refuse(weight, error, message):
    with pytest.raises(error, match=f"^class_weight: .*{message}"):
        data.class_weights(weight, np.array([0, 1]), 3)


@pytest.mark.parametrize(("y", "error", "message"), [
    ([0, 3], ValueError, "expected indices from 0 to 2, got 0 to 3"), ([-1], ValueError, "got -1 to -1"),
    ([0.0], TypeError, "got float64"), ([], ValueError, "non-empty")])
def test_balanced_refuses_what_are_no_classes(y, error, message):
    with pytest.raises(error, match=f"^y: .*{message}"):
        data.class_weights("balanced", y, 3)
