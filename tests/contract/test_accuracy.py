"""The bounds that docs/accuracy.md states hold, for each rule, from the first step to the ten-to-the-ninth."""

import accuracy
import numpy as np
import pytest

import optcore as oc

rules = pytest.mark.parametrize("name", accuracy.ROWS)


def stated():
    """Rule -> the bound in the page's table."""
    lines = [line.split("|")[1:-1] for line in accuracy.PAGE.read_text().splitlines() if "| optcore |" in line]
    return {cells[0].strip(): float(cells[-1]) for cells in lines}


def test_the_page_has_every_rule_with_its_bound():
    assert {accuracy.rule_of(name) for name in accuracy.ROWS} == {oc.optim.get(name) for name in oc.optim.names()}
    assert stated() == {name: row.bound for name, row in accuracy.ROWS.items()}


@rules
@pytest.mark.parametrize("t", [1, 1000, 10**9])
def test_the_update_is_within_its_bound(name, t):
    found = accuracy.measure(name, t, bare=True, cancel=False, size=20_000)["optcore"]
    assert found.max() <= stated()[name]


@rules
@pytest.mark.parametrize("t", [1, 1000])
def test_the_parameter_takes_one_rounding_more(name, t):
    found = accuracy.measure(name, t, bare=False, cancel=False, size=20_000)["optcore"]
    assert found.max() <= stated()[name] + 1


def test_ulps_are_those_of_the_binade():
    """On both sides of a power of two, and among the subnormal numbers."""
    x = np.array([1.0, 1 - 2.0**-25, 1.75, 2.0**-130], np.longdouble)
    ulp = np.array([2.0**-23, 2.0**-24, 2.0**-23, 2.0**-149], np.longdouble)
    assert np.array_equal(accuracy.errors(np.zeros(4, np.float32), x, x), x / ulp)
