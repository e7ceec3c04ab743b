"""Imports point down only: the table of docs/architecture.md, read from there and held against the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "optcore"
OPTIONAL = {"torch", "jax", "matplotlib", "sklearn", "safetensors", "rich", "mpi4py", "tensorboardX", "tensorboard",
            "pandas"}
REQUIRED = {"numpy", "scipy", "threadpoolctl"}


def allowed():
    """Module -> the modules of the library that it may import, from the table in the docs."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.split("| module | may import, of the library |")[1].split("\n\n")[0]
    rules = {}
    for modules, targets in re.findall(r"^\| (`.*?) \| (.*?) \|$", table, re.M):
        for module in re.findall(r"`(\w+)`", modules):
            rules[module] = set(re.findall(r"`(\w+)`", targets)) if "everything" not in targets else None
    return rules


def sources():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py" and "_native" not in p.parts)


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    """(top-level statement?, dotted module) of every import."""
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield id(node) in top, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            for alias in node.names:
                yield id(node) in top, f"{node.module}.{alias.name}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    rules = allowed()
    me = room(path)
    assert me in rules, f"{me} is not in the table of docs/architecture.md"
    for top, name in imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "optcore":
            assert parts[1] == me or rules[me] is None or parts[1] in rules[me], f"{me} imports {name}"
        elif top:
            known = parts[0] in sys.stdlib_module_names | REQUIRED | OPTIONAL & {me} - {"torch", "jax"}
            assert known, f"{name}: an optional dependency is imported inside the function that needs it"


def test_the_page_names_every_room():
    rooms = (ROOT / "docs" / "architecture.md").read_text().split("## The rooms")[1].split("\n## ")[0]
    places = [*PACKAGE.glob("_native/*.pyx"), *PACKAGE.glob("[a-z]*.py"), *PACKAGE.glob("[a-z]*/__init__.py")]
    names = {p.parent.name if p.name == "__init__.py" else p.stem for p in places}
    assert not [name for name in names if not re.search(rf"\b{name}\b", rooms)]
    assert names > {"update", "checks", "curvature"}, "the search finds what it looks for"


def test_import_optcore_needs_no_extra():
    code = (f"import sys, optcore as oc; oc.optim, oc.norm, oc.nn, oc.curvature, oc.train, oc.checkpoint, oc.plot; "
            f"print(sorted(set(sys.modules) & {OPTIONAL!r}))")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_the_core_is_pure():
    """src_c: no Python, OpenMP, allocation, I/O or mutable global."""
    for path in (ROOT / "src_c").glob("*.[ch]"):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
        assert not re.search(r"Python\.h|omp\.h|#pragma omp|\b(malloc|calloc|realloc|free|printf|fopen)\b", text), path
        assert set(re.findall(r"#include <(.*?)>", text)) <= {"stddef.h", "stdint.h", "math.h", "float.h", "string.h",
                                                             "assert.h", "cpuid.h", "immintrin.h"}
