"""optcore: gradient-based training on CPUs, and an answer to why it stopped.

Update rules, normalization and curvature, compiled from C and Cython. ``import optcore as oc`` loads the compiled
core; each part (``oc.optim``, ``oc.norm``, ``oc.curvature``, ...) is imported when it is first used, and an optional
dependency only by the function that needs it.
"""

import importlib

from optcore.process import (
    __version__,
    get_include,
    get_library_dir,
    get_num_threads,
    set_num_threads,
    show_config,
    threads,
)

_MODULES = ("checkpoint", "curvature", "data", "diagnosis", "functional", "jax", "landscape", "nn", "norm", "objective",
            "optim", "plot", "schedules", "sklearn", "torch", "train")
_MEMBERS = {"Objective": "objective", "diagnose": "diagnosis"}

__all__ = ["Objective", "__version__", "checkpoint", "curvature", "data", "diagnose", "functional", "get_include",
           "get_library_dir", "get_num_threads", "jax", "landscape", "nn", "norm", "optim", "plot", "schedules",
           "set_num_threads", "show_config", "sklearn", "threads", "torch", "train"]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"optcore.{name}")
    if name in _MEMBERS:
        return getattr(importlib.import_module(f"optcore.{_MEMBERS[name]}"), name)
    raise AttributeError(f"module 'optcore' has no attribute {name!r}")


def __dir__():
    return sorted({*__all__, *globals()})
