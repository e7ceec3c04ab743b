"""The promise of determinism: the same bits for every thread count and every level, checked by hash on every kernel.

A room registers by a file in ``cases/``.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hash_cases import THREADS, rooms

from optcore._native import core

SCRIPT = Path(__file__).with_name("hash_cases.py")


def hashes_at(level):
    # Passive: the levels run side by side, and threads that spin while they wait would take each other's cores.
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False,
                         env={**os.environ, "OPTCORE_ISA": level, "OMP_WAIT_POLICY": "passive"})
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["level"] == level
    return answer["hashes"]


@pytest.fixture(scope="module")
def hashes():
    levels = core.available_levels()
    with ThreadPoolExecutor() as pool:
        return dict(zip(levels, pool.map(hashes_at, levels), strict=True))


def test_every_driver_has_cases():
    native = {p.stem for p in Path(core.__file__).parent.glob("*.pyi")} - {"core", "threads", "arrays", "pages"}
    assert native <= set(rooms())


def test_same_bits(hashes):
    wrong = []
    names = list(hashes["baseline"])
    assert len(names) > 50
    for name in names:
        seen = {(level, n): hashes[level][name][str(n)] for level in hashes for n in THREADS}
        if len(set(seen.values())) > 1:
            reference = seen["baseline", 1]
            wrong.append(f"{name}: {[k for k, v in seen.items() if v != reference]}")
    assert not wrong, "\n".join(wrong)
