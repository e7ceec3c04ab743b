"""More than 2**31 elements: every index is right where 32 bits would not hold it."""

import math

import numpy as np
import pytest
from mirrors import WINDOW, mirrored

import optcore as oc
from optcore._native import reduce

N = 2**31 + 3 * 4096 + 5
# the ends, and where an element number or a byte offset leaves 31 or 32 bits
MARKS = [0, 2**29, 2**30, 2**31 - 1, 2**31, N - 1]


@pytest.fixture(scope="module")
def marked():
    """Zeros, but for 1, 2, 3, ... at the marks."""
    x = mirrored(N, own=MARKS)
    x[MARKS] = np.arange(1, len(MARKS) + 1)
    return x


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_reaches_every_element_once(threads):
    p, g = mirrored(N, own=MARKS), mirrored(N, own=MARKS)
    g[:WINDOW // 4] = 1         # and so everywhere, but on the pages of the marks
    g[MARKS] = np.arange(2, len(MARKS) + 2)
    opt = oc.optim.SGD(p, lr=0.5)
    with oc.threads(threads):
        opt.step(g)
    assert np.array_equal(p[MARKS], -0.5 * g[MARKS])
    if threads == 1:            # two would write to the same memory at once
        place = 5000            # on no page of a mark, and in so many windows:
        assert p[place] == -0.5 * math.ceil((N - place) / (WINDOW // 4))


@pytest.mark.parametrize("threads", [1, 2])
def test_reductions_see_the_ends(marked, threads):
    squares = sum(k * k for k in range(1, len(MARKS) + 1))
    with oc.threads(threads):
        assert reduce.sum_squares(marked) == squares
        assert reduce.dot(marked, marked) == squares
        assert reduce.norm(marked) == math.sqrt(squares)
        assert reduce.abs_max(marked) == len(MARKS)
        assert reduce.count_nonfinite(marked) == 0


def test_the_norm_and_the_check_of_a_step_see_the_ends(marked):
    p = mirrored(N, own=MARKS)
    opt = oc.optim.SGD({"w": p}, lr=1.0, nonfinite="raise")
    opt.step({"w": marked})
    assert opt.last_grad_norm == math.sqrt(sum(k * k for k in range(1, len(MARKS) + 1)))
    assert np.array_equal(p[MARKS], -marked[MARKS])
    last = marked[-1]
    try:
        for bad in (np.nan, np.inf):
            marked[-1] = bad
            with pytest.raises(FloatingPointError, match="gradient of w"):
                opt.step({"w": marked})
            assert reduce.count_nonfinite(marked) == 1
    finally:
        marked[-1] = last
    assert np.array_equal(p[MARKS], -marked[MARKS])


def test_element_wise_functions_in_place(marked):
    x = mirrored(N, own=MARKS)
    x[MARKS] = [-1, 2, -3, 4, -5, 6]
    oc.functional.relu(x, out=x)
    assert x[MARKS].tolist() == [0, 2, 0, 4, 0, 6]


def test_softmax_of_many_rows():
    rows = N // 3
    z = mirrored((rows, 3), own=[0, 2**31 - 1, 2**31, -3, -1])     # a row may lie on two pages
    for row in (0, 2**31 // 3, rows - 1):
        z[row] = [0, math.log(2), math.log(5)]
    oc.functional.softmax(z, out=z)
    for row in (0, 2**31 // 3, rows - 1):
        np.testing.assert_allclose(z[row], [1 / 8, 2 / 8, 5 / 8], rtol=1e-6)       # float32


@pytest.mark.parametrize("channel_axis", [1, -1])
def test_batch_norm_of_many_values(channel_axis):
    """Two channels, zeros but for one value at the end of each: the mean is that over their number."""
    count = N // 2
    shape = (2, 2, count // 2) if channel_axis == 1 else (2, count // 2, 2)
    ends = [-1, -1 - count // 2] if channel_axis == 1 else [-1, -2]
    x, y = (mirrored(shape, own=ends) for _ in range(2))
    x.reshape(-1)[ends] = 2.0**20
    mean, var = np.zeros(2, "float32"), np.zeros(2, "float32")
    oc.norm.batch_norm(x, None, None, mean, var, training=True, momentum=1.0, channel_axis=channel_axis, out=y)
    values = count // 2 * 2
    np.testing.assert_allclose(mean, 2.0**20 / values, rtol=1e-6)      # float32
    np.testing.assert_allclose(var, 2.0**40 / values, rtol=1e-6)
    expected = (2.0**20 - 2.0**20 / values) / math.sqrt(2.0**40 / values + 1e-5)
    np.testing.assert_allclose(y.reshape(-1)[ends], expected, rtol=1e-6)
