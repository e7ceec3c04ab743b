"""kill -9 at any moment: what is lost, and the same bits at the end; damaged files and the one before."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import killed_run
import numpy as np
import pytest
from small_run import network, problem, quiet

from optcore import checkpoint
from optcore.cli import main
from optcore.train import load_state

SCRIPT = killed_run.__file__


@pytest.fixture(scope="module")
def expected():
    """The hash of the uninterrupted run."""
    return killed_run.train()


def start(path, *kill):
    return subprocess.Popen([sys.executable, SCRIPT, str(path), *kill], stdout=subprocess.PIPE, text=True)


def test_killed_at_random_moments(tmp_path, expected):
    """One run after the other, each saved after every step, which takes most of its time: many die inside a write."""
    path, moments, steps, kills = tmp_path / "run.safetensors", random.Random(4), 0, 0
    while True:
        with start(path) as process:
            limit, last = moments.randrange(1, 16), steps
            for line in process.stdout:
                if line.startswith("end"):
                    break
                last = int(line)
                if last == steps + limit:
                    time.sleep(moments.uniform(0.0, 0.004))
                    process.send_signal(signal.SIGKILL)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        saved = load_state(path)["step"]
        assert saved >= last - 1        # the last step that was told, or the one before: its checkpoint comes after
        steps = saved
    assert kills >= 5
    assert line.split()[1] == expected


@pytest.mark.parametrize("call", killed_run.CALLS)
def test_killed_inside_a_write(tmp_path, expected, call):
    """Before each of the system calls of a save, with half a file written, and between the two renames."""
    path = tmp_path / "run.safetensors"
    calls = {"open": 1, "fsync": 2, "link": 1, "replace": 2}[call]      # in a save
    for n in range(4 * calls + 1, 5 * calls + 1):
        with start(path, call, str(n)) as process:
            told = [int(line) for line in process.stdout]
        assert process.returncode == -signal.SIGKILL
        assert load_state(path)["step"] >= told[-1] - 1
    with start(path) as process:
        out = process.stdout.read().split()
    assert process.returncode == 0
    assert out[-1] == expected
    assert sorted(os.listdir(tmp_path)) == ["run.previous.safetensors", "run.safetensors"]      # no leftovers


# --- damaged files

def damaged(whole):
    """Files that are not whole: a bit of the length, the header, each array, the end; cut; empty; of another kind."""
    for i in (0, 7, 20, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        yield whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1:]
    yield from (whole[:-1], whole[:len(whole) // 2], whole[:9], b"", b"PK\x03\x04 not a checkpoint", whole + b"\0")


def test_the_one_before_is_used_and_said(tmp_path):
    X, y = problem()
    path, before = tmp_path / "run.safetensors", tmp_path / "run.previous.safetensors"
    quiet(network(), X, y, epochs=3, checkpoint=path)
    assert (load_state(path)["epoch"], load_state(before)["epoch"]) == (3, 2)
    whole = path.read_bytes()
    net = network()
    quiet(net, X, y, epochs=5)
    for i, content in enumerate(damaged(whole)):
        path.write_bytes(content)
        other = network(seed=8)
        copy = tmp_path / str(i)
        copy.mkdir()
        for file in (path, before):
            shutil.copy(file, copy)
        with pytest.warns(UserWarning, match=r"not a whole, unchanged checkpoint: .*previous\.safetensors, of step 14"):
            quiet(other, X, y, epochs=5, resume=copy / path.name, checkpoint=copy / path.name)
        assert other.theta.tobytes() == net.theta.tobytes()
        assert [load_state(copy / f.name)["epoch"] for f in (path, before)] == [5, 4]


def test_a_damaged_file_takes_no_one_s_place(tmp_path):
    """After the run went on from the one before, its first checkpoint replaces the damaged file, not the whole one."""
    X, y = problem()
    path, before = tmp_path / "c", tmp_path / "c.previous"
    quiet(network(), X, y, epochs=2, checkpoint=path)
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="the one before it"):
        quiet(network(), X, y, epochs=2, resume=path, checkpoint=path, checkpoint_every=5)
    assert (load_state(path)["epoch"], load_state(before)["epoch"]) == (2, 1)


def test_a_missing_file_counts_as_damaged(tmp_path):
    X, y = problem()
    quiet(network(), X, y, epochs=2, checkpoint=tmp_path / "c")
    (tmp_path / "c").unlink()
    with pytest.warns(UserWarning, match=r"c\.previous, of step 7"):
        assert load_state(tmp_path / "c")["epoch"] == 1


def test_neither_is_whole(tmp_path):
    X, y = problem()
    quiet(network(), X, y, epochs=2, checkpoint=tmp_path / "c")
    for name in ("c", "c.previous"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match=r"c: not a whole.*; nor is the one before it: .*c\.previous:"):
        quiet(network(), X, y, resume=tmp_path / "c")


def test_another_run_s_checkpoint_is_not_the_one_before(tmp_path):
    X, y = problem()
    quiet(network(), X, y, epochs=3, checkpoint=tmp_path / "c")
    quiet(network(), X, y, epochs=1, seed=2, checkpoint=tmp_path / "c")
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.parametrize("error", [OSError(1, "no links here"), OSError(95, "Operation not supported")])
def test_where_there_are_no_links(tmp_path, monkeypatch, error):
    def link(*_):
        raise error

    monkeypatch.setattr(os, "link", link)
    path, before = tmp_path / "c", tmp_path / "before"
    for i in range(3):
        checkpoint.save(path, {"i": i, "x": np.full(3, i)}, previous=before)
    assert (checkpoint.load(path)["i"], checkpoint.load(before)["i"]) == (2, 1)
    assert sorted(os.listdir(tmp_path)) == ["before", "c"]


def test_a_step_s_checkpoint_counts_steps(tmp_path):
    X, y = problem()
    seen = []

    class Look:
        def on_step(self, run):
            if run.step > 4:
                seen.append(load_state(tmp_path / "c")["step"])

    quiet(network(), X, y, epochs=2, checkpoint=tmp_path / "c", checkpoint_every=9, checkpoint_steps=4,
          callbacks=[Look()])
    assert seen == [4] * 4 + [8] * 4 + [12] * 2      # 14 steps
    with pytest.raises(ValueError, match=r"^checkpoint_steps: expected at least 1"):
        quiet(network(), X, y, checkpoint_steps=0)


def test_the_command_goes_on_with_the_one_before(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["train", "digits", "--out", str(folder), "--hidden", "4", "--epochs", "2", "--quiet"]
    assert main(options) == 0
    theta = load_state(folder / "checkpoint.safetensors")["theta"]
    (folder / "checkpoint.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert main([*options[:4], "--resume", "--quiet"]) == 0
    assert "warning: " in (err := capsys.readouterr().err)
    assert "taking the one before it" in err
    assert load_state(folder / "checkpoint.safetensors")["theta"].tobytes() == theta.tobytes()
