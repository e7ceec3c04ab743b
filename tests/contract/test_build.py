"""The distributions: an sdist builds a wheel, the core without a warning; the wheel runs away from the sources, and on
an older CPU; without OpenMP the library is serial and says so; touching a template rebuilds what includes it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import optcore as oc
from optcore._native import core

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import numpy as np, optcore as oc
theta = np.ones(100_000, "float32")
opt = oc.optim.AdamW(theta, lr=0.1)
opt.step(theta * 2)
assert abs(theta - 0.899).max() < 1e-6, theta
print(oc.__version__, oc.get_num_threads(), oc.show_config()["openmp"])
"""

BUILD = (sys.executable, "setup.py", "build_ext", "--inplace")
SERIAL = {"OPTCORE_NO_OPENMP": "1", "OPTCORE_LEVELS": "baseline"}


def run(*command, cwd, stderr=subprocess.PIPE, **env):
    done = subprocess.run(list(map(str, command)), cwd=cwd, env={**os.environ, **env}, stdout=subprocess.PIPE,
                          stderr=stderr, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + (done.stderr or "")[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of what a release is made from, without any product of a build."""
    target = tmp_path_factory.mktemp("sources") / "optcore"
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "out", "*.so", "*.a", "*.egg-info", "__pycache__", "include", "lib",
        ".*_cache"))
    for product in (target / "optcore" / "_native").glob("*.c"):
        product.unlink()
    return target


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The environment of a build without optimisation, which takes a tenth of the time."""
    compiler = tmp_path_factory.mktemp("compiler") / "quick-cc"
    compiler.write_text(f'#!/bin/sh\nexec {shlex.join(shlex.split(os.environ.get("CC") or "cc"))} "$@" -O0\n')
    compiler.chmod(0o755)
    return {"CC": str(compiler)}


@pytest.fixture(scope="module")
def built(sources, quick):
    """The tree of the sdist after a wheel was built in it, and what that printed in build.log. What only shows in
    optimised code shows in tests/c, where the baseline compiles with warnings as errors."""
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", cwd=sources)
    sdist = next((sources / "dist").glob("*.tar.gz"))
    run("tar", "xzf", sdist, cwd=sources.parent)
    unpacked = sources.parent / sdist.name.removesuffix(".tar.gz")
    log = run(sys.executable, "-m", "build", "--no-isolation", "--wheel", cwd=unpacked, stderr=subprocess.STDOUT,
              LC_ALL="C", **quick)
    (unpacked / "build.log").write_text(log)
    return unpacked


def test_the_core_compiles_without_a_warning(built):
    log = (built / "build.log").read_text()
    for level in core.available_levels():
        assert f"-DOC_LEVEL={level}" in log
    assert not re.findall(r"^src_c/.* warning: .*", log, re.MULTILINE)


def test_the_wheel_from_the_sdist_runs(built, tmp_path):
    wheel = next((built / "dist").glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("optcore/include/optcore.h", "optcore/lib/liboptcore.a", "optcore/py.typed",
                   "optcore/_native/c.pxd", "optcore/_native/update.pyi"):
        assert wanted in names
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "optcore").rglob("*.py")} <= set(names)  # no package is left out
    assert not [n for n in names if n.startswith(("tests/", "src_c/", "bench/"))]
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", tmp_path / "site", wheel, cwd=tmp_path)
    assert run(sys.executable, "-c", TRAIN, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    for level in core.available_levels():
        run(sys.executable, "-c", TRAIN, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"), OPTCORE_ISA=level)


def test_only_the_kernels_of_a_level_use_its_instructions():
    """What runs before the level is chosen, and the baseline kernels, hold no AVX instruction: an older CPU lives."""
    disassembly = run("objdump", "-d", "--no-show-raw-insn", core.__file__, cwd=ROOT)
    users = {}
    for block in re.split(r"\n\n", disassembly):
        name = re.search(r"<(.*?)>:", block)
        if name:
            for register in re.findall(r"%([yz]mm)\d", block):
                users.setdefault(register, set()).add(name.group(1))
    level = re.compile(r"_v[34](\.|$)")
    assert not [n for names in users.values() for n in names if not level.search(n)]
    if "v4" in core.available_levels():
        assert users["zmm"], "the search finds what it looks for"


def times(tree):
    return {p.name: p.stat().st_mtime_ns for p in (tree / "optcore" / "_native").glob("*.so")}


def test_a_serial_build_says_so(built, quick, tmp_path):
    """In a tree that holds a build with OpenMP and all levels: another configuration builds everything again."""
    copy = tmp_path / "serial"
    shutil.copytree(built, copy)
    run(*BUILD, cwd=copy, **quick)
    before = times(copy)
    probe = ("import optcore as oc; from optcore._native import core\n"
             "print(*core.available_levels(), oc.show_config()['openmp'] is None)")
    out = run(sys.executable, "-c", probe, cwd=copy, PYTHONPATH=str(copy))
    assert out.split() == [*core.available_levels(), str(oc.show_config()["openmp"] is None)]

    serial = {**quick, **SERIAL}
    run(*BUILD, cwd=copy, **serial)
    assert all(after > before[name] for name, after in times(copy).items())
    out = run(sys.executable, "-c", TRAIN, cwd=copy, PYTHONPATH=str(copy))
    assert out.split()[1:] == ["1", "None"]
    assert "without OpenMP" in run(sys.executable, "-m", "optcore.cli", "info", cwd=copy, PYTHONPATH=str(copy))
    assert run(sys.executable, "-c", probe, cwd=copy, PYTHONPATH=str(copy)).split() == ["baseline", "True"]

    # In the same copy: the same configuration builds nothing again; a touched template the core that includes it,
    # and nothing else.
    before = times(copy)
    run(*BUILD, cwd=copy, **serial)
    assert times(copy) == before
    (copy / "src_c" / "norm.tmpl.h").touch()
    run(*BUILD, cwd=copy, **serial)
    again = times(copy)
    assert again.keys() == before.keys()
    assert {name.split(".")[0] for name in before if again[name] > before[name]} == {"core"}
