"""The formats that arrays are kept in: bfloat16 and float16 bit for bit, 8-bit codes from their definition."""

import ml_dtypes
import numpy as np
import pytest

from optcore.optim import storage

BF16 = ml_dtypes.bfloat16
ALL = np.arange(1 << 16, dtype=np.uint16)
BLOCK = 256
#: The largest finite float16; what a finite value beyond it becomes.
TOP = 65504


def edges():
    """Every bfloat16 and float16, the numbers halfway between neighbours, and what lies next to either: as float32."""
    with np.errstate(invalid="ignore"):
        exact = np.concatenate([ALL.view(BF16).astype("float32"), ALL.view("float16").astype("float32")])
        bits = exact.view("uint32")
        steps = (0x7fff, 0x8000, 0x8001, 0xfff, 0x1000, 0x1001, 1, -1 % 2**32)
        near = np.concatenate([bits + np.uint32(d) for d in steps])
        halves = [np.float32(k + h) * np.float32(2.0**-24) for k in range(40) for h in (0.25, 0.5, 0.75)]  # subnormal
    return np.concatenate([exact, near.view("float32"), np.array(halves, "float32")])


def anything():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**32, 200_000, dtype=np.uint32).view("float32")


def encode(x, kind, key=0):
    out = np.empty(x.shape, storage.DTYPES[kind])
    scale = storage.scales(x.shape) if kind in storage.CODES else None
    storage.put(x, out, kind, scale, key)
    return out, scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "like"), [("bfloat16", BF16), ("float16", np.float16)])
def test_every_code_is_read_as_its_definition_says(kind, like, dtype):
    codes = ALL.view(storage.DTYPES[kind])
    got = storage.values(codes, kind, None, dtype)
    with np.errstate(invalid="ignore"):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, ALL.view(like).astype(dtype))  # NaN equal to NaN
        finite = ~np.isnan(got)
        assert np.array_equal(np.signbit(got[finite]), np.signbit(ALL.view(like).astype("float32")[finite]))


def wanted(x, kind):
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "bfloat16":
            return x.astype(BF16).view("uint16")
        return np.where(np.isfinite(x), np.clip(x, -TOP, TOP), x).astype("float16").view("uint16")


@pytest.mark.parametrize("numbers", [edges, anything])
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_float32_rounds_to_nearest_bit_for_bit(kind, numbers):
    x = numbers()
    got = encode(x, kind)[0].view("uint16")
    nan = np.isnan(x)
    assert nan.any()
    np.testing.assert_array_equal(got[~nan], wanted(x[~nan], kind))
    with np.errstate(invalid="ignore"):
        assert np.isnan(got[nan].view(BF16 if kind == "bfloat16" else "float16").astype("float32")).all()


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_float64_rounds_by_way_of_float32(kind):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(50_000) * 10.0 ** rng.uniform(-30, 30, 50_000)
    np.testing.assert_array_equal(encode(x, kind)[0].view("uint16"), wanted(x.astype("float32"), kind))


def test_float16_keeps_finite_values_finite():
    x = np.array([65504, 65519.996, 65520, 1e30, 3.4e38, np.inf], "float32")
    assert encode(np.concatenate([x, -x]), "float16")[0].tolist() == [TOP] * 5 + [np.inf] + [-TOP] * 5 + [-np.inf]


# ------------------------------------------------------------------------------------------------- 8-bit codes
# By definition (docs/storage.md): exponent e and three bits f of the mantissa stand for (1 + f/8) 2^(e - E) - 2^-E, of
# the scale; E = 31 for unsigned codes, 15 for signed ones, whose top bit is the sign.

def table(kind):
    bits, top = (255, 31) if kind == "unsigned" else (127, 15)
    c = np.arange(bits + 1)
    size = (1 + c % 8 / 8) * 2.0 ** (c // 8 - top) - 2.0**-top
    return size if kind == "unsigned" else np.concatenate([size, -size])


def spacing(x, scale, kind):
    """The distance of the codes around x."""
    base = 2.0 ** (-31 if kind == "unsigned" else -15)
    return scale * 2.0 ** (np.floor(np.log2(np.abs(x) / scale + base)) - 3)


def kept(x, kind, key=0):
    """What is read again of numbers that were kept in codes."""
    codes, scale = encode(x, kind, key)
    return storage.values(codes, kind, scale, "float64")


def spread(rng, kind, n=4 * BLOCK):
    """Numbers over all sizes that the codes of a block can hold, and beyond."""
    x = 10.0 ** rng.uniform(-12 if kind == "unsigned" else -6, 0, n)
    x = (x if kind == "unsigned" else x * rng.choice([-1, 1], n)).astype("float32")
    return x * np.float32(10.0) ** np.repeat(rng.uniform(-20, 20, n // BLOCK), BLOCK).astype("float32")


@pytest.mark.parametrize("size", [2.0**-90, 0.125, 1.0, 2.0**127])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", storage.CODES)
def test_codes_mean_what_their_definition_says(kind, dtype, size):
    codes, scale = np.arange(256, dtype=np.uint8), np.array([size], "float32")
    got = storage.values(codes, kind, scale, dtype)
    # The difference to the base rounds once, in float32.
    np.testing.assert_allclose(got, table(kind) * size, rtol=2.0**-24, atol=0)
    sizes = np.abs(table(kind))[:128] if kind == "signed" else table(kind)
    assert sizes[0] == 0
    assert np.all(np.diff(sizes) > 0)
    np.testing.assert_array_equal(np.diff(sizes[:9]), np.diff(sizes[:9])[0])  # evenly spaced next to zero
    large = sizes > 100 * sizes[8]
    assert np.max(np.diff(sizes[large]) / sizes[large][:-1]) <= 1 / 8 * 1.01  # the base is less than a hundredth


@pytest.mark.parametrize("kind", storage.CODES)
def test_a_code_is_one_of_the_two_around_the_number(kind):
    x = spread(np.random.default_rng(2), kind)
    codes, scale = encode(x, kind, key=5)
    got = storage.values(codes, kind, scale, "float64")
    blocks = np.repeat(scale.astype("float64"), BLOCK)
    largest = np.abs(x).reshape(-1, BLOCK).max(axis=1)
    assert np.array_equal(scale, 2.0 ** (np.floor(np.log2(largest.astype("float64"))) + 1)), "the power of two above it"
    error = np.abs(got - x)
    # The sum with the base rounds to a float32; products with a power of two are exact.
    assert np.all(error <= spacing(x, blocks, kind) * (1 + 2.0**-20))
    base = 2.0 ** (-31 if kind == "unsigned" else -15)
    assert np.all(error <= (np.abs(x) + 2 * base * np.repeat(largest, BLOCK)) / 8 * (1 + 2.0**-20)), "the docs' bound"
    assert np.mean(error > 0.1 * spacing(x, blocks, kind)) > 0.5, "or the bound is too wide to say anything"
    if kind == "signed":
        assert np.array_equal(np.sign(got[got != 0]), np.sign(x[got != 0]))
    else:
        assert np.all(got > 0), "sigma divides: what is not zero must not become it"


@pytest.mark.parametrize("kind", storage.CODES)
def test_zeros_are_exact(kind):
    x = np.zeros(3 * BLOCK, "float32")
    x[BLOCK::7] = 1e30
    codes, scale = encode(x, kind)
    got = storage.values(codes, kind, scale, "float64")
    assert scale[0] == 0
    assert np.all(got[:BLOCK] == 0)
    # Beside what is positive the smallest unsigned code stands for 0 too, so that sigma is 0 in blocks of zeros alone.
    assert set(got[BLOCK:][x[BLOCK:] == 0]) == ({0} if kind == "signed" else {2.0**-34 * float(scale[1])})
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize("n", [1, 7, 8, 31, 32, 33, 63, 64, 65, 130, BLOCK - 1, BLOCK])
@pytest.mark.parametrize("kind", storage.CODES)
def test_an_element_has_the_same_code_in_a_vector_and_behind_the_last(kind, n):
    """Whole vectors of codes have loops of their own: a shorter array is the beginning of a longer one."""
    x = spread(np.random.default_rng(4), kind, BLOCK)
    x[0] = np.abs(x).max()  # either has the same scale
    codes, scale = encode(x, kind, key=9)
    shorter, same = encode(x[:n], kind, key=9)
    assert same[0] == scale[0]
    assert np.array_equal(shorter, codes[:n])
    got = storage.values(codes, kind, scale, "float32")
    assert np.array_equal(storage.values(shorter, kind, same, "float32"), got[:n])


@pytest.mark.parametrize("kind", storage.CODES)
def test_float64_has_the_codes_of_float32(kind):
    x = spread(np.random.default_rng(5), kind)
    one, other = encode(x, kind, key=3), encode(x.astype("float64"), kind, key=3)
    assert one[0].tobytes() == other[0].tobytes()
    assert one[1].tobytes() == other[1].tobytes()


def test_the_smallest_numbers_stay_positive():
    got = kept(np.full(BLOCK, 1e-45, "float32"), "unsigned")
    assert np.isfinite(got).all()
    assert (got > 0).all()


def test_what_is_too_small_beside_the_largest_stays_positive():
    x = np.full(BLOCK, 1e-42, "float32")
    x[7] = 1e38  # the share of the others, 1e-80, is no float32
    assert (kept(x, "unsigned") > 0).all()


@pytest.mark.parametrize("share", [2.0**-24, 2.0**-16, 2.0**-15, 2.0**-14])
@pytest.mark.parametrize("kind", storage.CODES)
def test_the_largest_sizes_need_no_clamp(kind, share):
    x = np.full(50 * BLOCK, np.float32(1 - share) * np.float32(1024))
    codes, scale = encode(x, kind)
    assert np.all(scale == 1024)
    # Below 1 - 2^-E the upper neighbour has e = E and f = 0, from there on f = 1, seven codes before the last.
    top = 8 * (31 if kind == "unsigned" else 15) + 1
    assert set(codes) <= {top - 2, top - 1, top}
    # Up with a probability below 2^-11, a bound for the mean: so many spacings of 1/8, or 1/16 below 1.
    assert abs(storage.values(codes, kind, scale, "float64").mean() / float(x[0]) - 1) <= 2.0**-14 + 2.0**-12


@pytest.mark.parametrize("kind", storage.CODES)
def test_from_2_to_the_127_on_a_block_counts_as_infinite(kind):
    assert not np.isfinite(kept(np.full(3, 2.0**127, "float32"), kind)).any()
    np.testing.assert_allclose(kept(np.full(3, 2.0**126.9, "float32"), kind), 2.0**126.9, rtol=1 / 8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", storage.CODES)
def test_what_is_not_finite_takes_its_block_with_it_and_no_other(kind, bad):
    x = np.ones(3 * BLOCK, "float32")
    x[BLOCK + 3] = bad
    got = kept(x, kind).reshape(3, BLOCK)
    assert not np.isfinite(got[1]).any()
    np.testing.assert_allclose(got[[0, 2]], 1, rtol=1 / 8)


@pytest.mark.parametrize("kind", storage.CODES)
def test_random_rounding_is_right_on_average(kind):
    x = spread(np.random.default_rng(3), kind, BLOCK)
    x = np.where(np.abs(x) > 1e-9 * np.abs(x).max(), x, np.abs(x).max())  # the smallest code stands in for less
    draws = 4000
    total = np.zeros(BLOCK)
    for key in range(draws):
        total += kept(x, kind, key)
    scale = float(encode(x, kind)[1][0])
    # A number between two codes has at most a quarter of the square of their distance as variance. 4.5 deviations: one
    # in 600 of such tests of 256 numbers each would fail, had the seed not been fixed. 16 random bits add 2^-17.
    bound = spacing(x, scale, kind) * (4.5 * 0.5 / np.sqrt(draws) + 2.0**-16) + 4 * 2.0**-24 * np.abs(x)
    assert np.all(np.abs(total / draws - x) <= bound)


@pytest.mark.parametrize("stride", [1, 2, 3, 16])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_neighbours_round_evenly_whatever_the_key(share, stride):
    low, high = np.abs(table("unsigned"))[[200, 201]]
    x = np.full(BLOCK, low + share * (high - low), "float32")
    x[0] = 0.75  # the scale is 1
    ups = np.array([np.sum(kept(x, "unsigned", key)[stride::stride] > x[1]) for key in range(300)])
    # Of the 256 numbers, and of 2^k of them on a stride that divides 256, one lies in each 256th or 2^kth part: but for
    # the one that is left out, off by 1 at most. On another stride a share is made of up to eight such parts, each of
    # which is off by about 1. Independent numbers would be off by up to 25 of 256, 12 of 85, 6 of 16.
    n = len(x[stride::stride])
    assert np.all(np.abs(ups - share * n) <= (8 if stride == 3 else 2))
    assert len(set(ups)) > 1, "the start is random"


def test_no_two_arrays_blocks_or_streams_share_their_numbers():
    x = np.full(64 * BLOCK, 1 / 3, "float32")
    codes = [encode(x, "signed", key)[0].reshape(-1, BLOCK) for key in range(8)]
    rows = np.concatenate(codes)
    # A block's pattern says where its numbers start, to about a part in 256: few of 512 blocks have the same twice.
    same = sum(np.array_equal(rows[i], rows[j]) for i in range(len(rows)) for j in range(i))
    assert same < 3 * len(rows) ** 2 / 2 / BLOCK
    assert len({row.tobytes() for row in rows}) > BLOCK // 4
