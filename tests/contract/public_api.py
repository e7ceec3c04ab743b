"""What a user may import: the names of the ``__all__`` of the package and of its public modules."""

import importlib
import inspect

import optcore

MODULES = ("optim", "schedules", "norm", "functional", "nn", "nn.init", "curvature", "diagnosis", "landscape",
           "landscape.surfaces", "train", "data", "checkpoint", "plot", "sklearn", "torch", "jax")


def public_objects():
    """Yield (name, object) of each; what is public in two places, twice."""
    yield from ((f"optcore.{name}", getattr(optcore, name)) for name in optcore.__all__ if not name.startswith("_"))
    for module in MODULES:
        members = importlib.import_module(f"optcore.{module}")
        yield from ((f"optcore.{module}.{name}", getattr(members, name)) for name in members.__all__)


def public_classes_and_functions():
    """Yield (name, object) of each that is a class or a function, once."""
    seen = set()
    for name, thing in public_objects():
        if callable(thing) and id(thing) not in seen:
            seen.add(id(thing))
            yield name, thing


def methods(cls):
    """Yield (name, definitions) of the library's public methods of a class: its own first, then those it overrides."""
    for name in dir(cls):
        kinds = [vars(c)[name] for c in cls.__mro__ if name in vars(c) and c.__module__.startswith("optcore")]
        functions = [getattr(f, "__func__", f) for f in kinds]
        if not name.startswith("_") and functions and inspect.isroutine(functions[0]) and callable(functions[0]):
            yield name, functions
