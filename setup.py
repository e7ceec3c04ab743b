"""Build of optcore: the C core once for each instruction-set level, then the Cython drivers over it.

pyproject.toml holds the metadata. This file holds what setuptools cannot say declaratively:
which levels the compiler offers, whether it has OpenMP, and one static library, ``liboptcore.a``,
that both the extension modules and embedding programs link.

Environment: ``OPTCORE_NO_OPENMP=1`` builds serial; ``OPTCORE_LEVELS=baseline,v3`` limits the levels;
``CC`` and ``CFLAGS`` are honoured; ``CFLAGS=-g`` builds with debug information.
"""

import json
import os
import platform
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

ROOT = Path(__file__).resolve().parent
HEADER = "src_c/optcore.h"  # the one that the extensions include
TEMPLATES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "src_c").glob("*.tmpl.h"))
HEADERS = sorted({str(p.relative_to(ROOT)) for p in (ROOT / "src_c").glob("*.h")} - set(TEMPLATES))
NATIVE = sorted(p.stem for p in (ROOT / "optcore" / "_native").glob("*.pyx"))

# -ffp-contract=off: a multiply-add that the compiler fuses would give other bits on v3 than on baseline.
# -fno-wrapv: CPython's own flags bring -fwrapv, with which gcc 12 spills the sums of vector loops.
# -fno-math-errno, -fno-trapping-math: without them neither square roots nor comparisons vectorise.
C_FLAGS = ["-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-wrapv",
           "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
EXTENSION_FLAGS = ["-O3", "-fno-math-errno", "-ffp-contract=off", "-Wno-unused-function"]
WRAP_REGIONS = ["-DOC_WRAPS_REGIONS", "-Wl,--wrap=GOMP_parallel"]    # optcore/_native/threads.pxd says what for
OPENMP_PROBE = """
#include <omp.h>
#ifdef OC_WRAPS_REGIONS
void __real_GOMP_parallel(void (*)(void *), void *, unsigned, unsigned);
void __wrap_GOMP_parallel(void (*f)(void *), void *x, unsigned n, unsigned g) { __real_GOMP_parallel(f, x, n, g); }
#endif
int main(void)
{
    int n = 0;
    #pragma omp parallel
    n = 1;
    return omp_get_max_threads() < n;
}
"""
LEVELS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    LEVELS |= {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}


CORE = "optcore._native.core"  # the one extension that links liboptcore.a


def newest(files):
    return max(os.path.getmtime(f) for f in files)


class BuildNative(build_ext):
    """Compile the C core and every extension, in one pool, with what the compiler turned out to have."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        # CPython's own flags bring -g: a fifth of the time, and three quarters of liboptcore.a.
        os.environ["CFLAGS"] = f"-g0 {os.environ.get('CFLAGS', '')}"

    def build_extensions(self):
        os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
        levels = self.available_levels()
        openmp = [] if os.environ.get("OPTCORE_NO_OPENMP") else self.openmp_flags()
        record = self.force_if_reconfigured(levels, openmp)
        if not openmp:
            print("optcore: building without OpenMP, the library will be serial")
        for ext in self.extensions:
            ext.extra_compile_args = [*EXTENSION_FLAGS, *openmp]
            ext.extra_link_args = list(openmp)
        core = next(e for e in self.extensions if e.name == CORE)
        with ThreadPoolExecutor(self.parallel) as pool:  # the core's objects first: one takes as long as ten others
            objects = [pool.submit(self.object_of, *job) for job in self.core_jobs(levels)]
            others = [pool.submit(self.build_extension, e) for e in self.extensions if e is not core]
        for done in others:
            done.result()
        self.archive = self.build_archive([o.result() for o in objects])
        core.extra_objects = [str(self.archive)]
        core.depends = [*core.depends, str(self.archive)]
        self.build_extension(core)
        record()

    def force_if_reconfigured(self, levels, openmp):
        """Force a build where the last one had another configuration; return the function that records this one.

        setuptools compares times of files only. No record stands while a build is under way, so that a broken one is
        done again whatever follows it.
        """
        path = Path(self.build_temp) / "configuration.json"
        now = json.dumps({"levels": levels, "flags": C_FLAGS, "openmp": openmp, "extension_flags": EXTENSION_FLAGS,
                          "compile": self.compiler.compiler_so, "link": self.compiler.linker_so}, indent=1)
        if not path.exists() or path.read_text() != now:
            self.force = True
        path.unlink(missing_ok=True)

        def record():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(now)
        return record

    def compiles(self, flags, source="int main(void) { return 0; }\n"):
        with tempfile.TemporaryDirectory() as tmp:
            path = Path(tmp) / "probe.c"
            path.write_text(source)
            try:
                objects = self.compiler.compile([str(path)], output_dir=tmp, extra_postargs=flags)
                self.compiler.link_executable(objects, str(Path(tmp) / "probe"), extra_postargs=flags)
            except (CompileError, LinkError):
                return False
        return True

    def openmp_flags(self):
        return next((f for f in (["-fopenmp", *WRAP_REGIONS], ["-fopenmp"]) if self.compiles(f, OPENMP_PROBE)), [])

    def available_levels(self):
        asked = os.environ.get("OPTCORE_LEVELS", ",".join(LEVELS)).split(",")
        unknown = set(asked) - set(LEVELS)
        if unknown:
            raise SystemExit(f"OPTCORE_LEVELS: unknown {sorted(unknown)}; this machine type has {list(LEVELS)}")
        return {k: v for k, v in LEVELS.items() if k == "baseline" or (k in asked and self.compiles(v))}

    def core_jobs(self, levels):
        """(source, what it includes, flags, name of the object): instantiate.c once for each level, the others once."""
        have = [f"-DOC_HAVE_{name.upper()}" for name in levels]
        return [*(("src_c/instantiate.c", [*HEADERS, *TEMPLATES], [f"-DOC_LEVEL={k}", *flags], k)
                  for k, flags in levels.items()),
                ("src_c/dispatch.c", HEADERS, ["-DOC_DISPATCH", *have], "dispatch"),
                ("src_c/prepare.c", HEADERS, ["-DOC_PREPARE"], "prepare")]

    def object_of(self, source, includes, flags, name):
        """Compile an object of the core unless it is newer than all that it is made from; return its path."""
        made = Path(self.build_temp) / "core" / name / f"oc_{name}.o"
        if not self.force and made.exists() and made.stat().st_mtime >= newest([source, *includes, "setup.py"]):
            return made
        made.parent.mkdir(parents=True, exist_ok=True)
        # CPython's own flags come first in compiler_so; the ones that must win stand after them. The name counts only
        # once the object is whole.
        self.compiler.spawn([*self.compiler.compiler_so, *C_FLAGS, *flags, "-Isrc_c", "-c", source,
                             "-o", str(made.with_name("kernels.o"))])
        return made.with_name("kernels.o").rename(made)

    def build_archive(self, objects):
        """Make liboptcore.a of the objects, or leave it where it is newer; return its path."""
        build = Path(self.build_temp) / "core"
        archive = build / "liboptcore.a"
        if not archive.exists() or archive.stat().st_mtime < newest(objects):
            archive.unlink(missing_ok=True)
            self.compiler.create_static_lib(list(map(str, objects)), "optcore", output_dir=str(build))
        self.install_for_embedders(archive, Path(self.build_lib) / "optcore")
        return archive

    def copy_extensions_to_source(self):  # an in-place or editable build
        super().copy_extensions_to_source()
        self.install_for_embedders(self.archive, ROOT / "optcore")

    def install_for_embedders(self, archive, package):
        """Put the header and the library where get_include() and get_library_dir() point."""
        for folder, files in (("lib", [archive]), ("include", [ROOT / "src_c" / "optcore.h"])):
            (package / folder).mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copy2(file, package / folder)


NUMPY_API = "NPY_1_25_API_VERSION"  # the oldest NumPy that a wheel runs with
extensions = [
    Extension(f"optcore._native.{name}", [f"optcore/_native/{name}.pyx"], depends=[HEADER],
              include_dirs=["src_c", "optcore/_native", numpy.get_include()],
              define_macros=[("NPY_NO_DEPRECATED_API", NUMPY_API), ("NPY_TARGET_VERSION", NUMPY_API)])
    for name in NATIVE
]
DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
              "initializedcheck": False, "embedsignature": True, "freethreading_compatible": True}

setup(ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, nthreads=os.cpu_count() if NATIVE else 0),
      cmdclass={"build_ext": BuildNative})
