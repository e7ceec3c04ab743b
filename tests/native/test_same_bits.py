"""The promise of determinism: the same bits for every thread count and every level, checked by hash on every kernel.

A room registers by a file in ``cases/``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hash_cases import THREADS, rooms

from optcore._native import core

SCRIPT = Path(__file__).with_name("hash_cases.py")


@pytest.fixture(scope="module")
def hashes():
    found = {}
    for level in core.available_levels():
        run = subprocess.run([sys.executable, str(SCRIPT)], env={**os.environ, "OPTCORE_ISA": level},
                             capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        answer = json.loads(run.stdout)
        assert answer["level"] == level
        found[level] = answer["hashes"]
    return found


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
