"""Runs the C test program on the library as it was built, at every level, and on one built with sanitizers."""

import ast
import os
import platform
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import optcore as oc
from optcore._native import core

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMPILER = shlex.split(os.environ.get("CC") or "cc")
STRICT = ["-UNDEBUG", "-Werror", f"-I{ROOT / 'src_c'}", f"-I{HERE}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1"]  # -g1: the lines


def flags_of_the_build():
    """C_FLAGS, read from setup.py without running it."""
    assigned = [n for n in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(n, ast.Assign)]
    return next(ast.literal_eval(n.value) for n in assigned if getattr(n.targets[0], "id", None) == "C_FLAGS")


C_FLAGS = flags_of_the_build()


def compile_c(out, sources, *flags):
    command = [*COMPILER, *C_FLAGS, *STRICT, *map(str, sources), *flags, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def build_baseline(folder, *extra):
    """The test program and the baseline library, from their sources."""
    jobs = [("test", HERE / "test_kernels.c", []), ("prepare", ROOT / "src_c" / "prepare.c", []),
            ("dispatch", ROOT / "src_c" / "dispatch.c", ["-DOC_DISPATCH", "-DOC_HAVE_BASELINE"]),
            ("baseline", ROOT / "src_c" / "instantiate.c", ["-DOC_LEVEL=baseline"])]
    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(lambda j: compile_c(folder / f"{j[0]}.o", [j[1]], "-c", *extra, *j[2]), jobs))
    return compile_c(folder / "test_kernels", objects, *extra, "-lm")


def run(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=120,
                          env={**os.environ, "ASAN_OPTIONS": "handle_segv=0:handle_sigbus=0"})


def has_sanitizers():
    probe = subprocess.run([*COMPILER, *SANITIZERS, "-x", "c", "-", "-o", os.devnull], capture_output=True, text=True,
                           input="int main(void) { return 0; }", check=False)
    return probe.returncode == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_c(tmp_path_factory.mktemp("levels") / "test_kernels", [HERE / "test_kernels.c"],
                     f"-L{oc.get_library_dir()}", "-loptcore", "-lm")


def test_kernels_stay_in_their_range_and_agree(program):
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" at ")[1].split() == core.available_levels()


@pytest.mark.parametrize(("fault", "status", "message"), [
    ("overrun", 2, "touched memory outside its range"),
    ("underrun", 2, "touched memory outside its range"),
    ("stray", 1, "wrote outside its range"),
])
def test_the_alarms_ring(program, fault, status, message):
    done = run(program, fault)
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr


def test_kernels_are_clean_under_sanitizers(tmp_path):
    # A compiler without sanitizers still repeats the run without optimisation of the loops. -O1: with the sanitizers'
    # checks -O3 takes minutes, and they look at the same source.
    done = run(build_baseline(tmp_path, *(SANITIZERS if has_sanitizers() else []), "-O1"))
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_step_over_codes_does_not_depend_on_the_cut(tmp_path):
    library = [f"-L{oc.get_library_dir()}", "-loptcore", "-lm"]
    done = run(compile_c(tmp_path / "staged", [HERE / "test_staged.c"], *library))
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_fused_multiply_add_without_the_instruction_is_libm_s(tmp_path):
    without = ["-mno-fma"] if platform.machine() in {"x86_64", "AMD64"} else []
    done = run(compile_c(tmp_path / "fused", [HERE / "test_fused.c"], *without, "-lm"))
    assert done.returncode == 0, done.stderr[-2000:]
