"""The families of failing trainings, `failing_family.FAMILIES`: importing this module adds them."""

from importlib import import_module

from failing_family import FAMILIES, cases

__all__ = ["FAMILIES", "cases"]

# The number of a family is a part of its seeds: the order of these is kept, and what is new goes to the end.
for _name in ("layers", "points", "rates", "held_out", "fresh", "saturated"):
    import_module(f"failing_{_name}")
