"""What a run writes down: JSON lines while it goes on, tables, TensorBoard's files read by TensorBoard."""

import json
import math
import os
import signal
import subprocess
import sys

import killed_run
import numpy as np
import pandas
import pytest
from small_run import adamw, network, problem, quiet

from optcore.train import History, JSONLines, TensorBoard


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_line_is_there_at_once_and_is_the_history_s(tmp_path):
    X, y = problem()
    counts = []

    class Look:
        def on_step(self, run):
            counts.append(len(lines(tmp_path / "h")) - run.step - run.epoch)

        on_epoch = on_step

    history = quiet(network(), X, y, epochs=3, validation=0.2, callbacks=[JSONLines(tmp_path / "h"), Look()])
    assert set(counts) == {0}
    assert lines(tmp_path / "h") == list(history.rows())
    history.write(tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == (tmp_path / "h").read_bytes()


def test_a_resumed_run_goes_on_where_its_checkpoint_is(tmp_path):
    X, y = problem()

    class Stop:
        def on_step(self, run):
            if run.step == 12:
                raise RuntimeError

    net, callbacks = network(), [JSONLines(tmp_path / "h"), Stop()]
    with pytest.raises(RuntimeError):      # the file is 5 steps beyond the checkpoint
        quiet(net, X, y, optimizer=adamw(net), checkpoint=tmp_path / "c", callbacks=callbacks)
    assert len(lines(tmp_path / "h")) == 12 + 1
    net = network()
    history = quiet(net, X, y, optimizer=adamw(net), resume=tmp_path / "c", callbacks=[JSONLines(tmp_path / "h")])
    assert lines(tmp_path / "h") == list(history.rows())
    assert [r["step"] for r in lines(tmp_path / "h") if r["kind"] == "step"] == list(range(1, 36))


def test_nan_is_null(tmp_path):
    history = History()
    history.add_step(loss=math.nan, lr=math.inf, grad_norm=1.0, examples=1)
    history.write(tmp_path / "h")
    assert lines(tmp_path / "h") == [{"kind": "step", "step": 1, "epoch": 1, "loss": None, "lr": None,
                                      "grad_norm": 1.0, "examples": 1}]


@pytest.mark.parametrize(("logger", "name"), [(JSONLines, "path"), (TensorBoard, "folder")])
def test_a_place_that_is_no_path_is_named(logger, name):
    with pytest.raises(TypeError, match=f"^{name}: expected a path, got int"):
        logger(3)


def test_table_and_data_frame():
    X, y = problem()
    history = quiet(network(), X, y, epochs=3, validation=0.2)
    for kind, rows in (("epochs", 3), ("steps", 18)):
        table = history.table(kind)
        assert table.dtype.names == (kind[:-1], *getattr(history, kind))
        assert all(table[k].tolist() == v for k, v in getattr(history, kind).items())
        assert table[kind[:-1]].tolist() == list(range(1, rows + 1))
        frame = pandas.DataFrame(table)
        assert list(frame.columns) == list(table.dtype.names)
        assert len(frame) == rows
    assert History().table().shape == (0,)
    with pytest.raises(ValueError, match=r"^kind: expected 'epochs' or 'steps'"):
        history.table("batches")


READ = """
import sys, json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
print(json.dumps({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"""
WRITE = """
import sys, warnings
warnings.simplefilter("ignore")     # TensorBoard's own, of the packages that it uses
sys.modules[sys.argv[2]] = None     # as if it were not installed
sys.path.insert(0, sys.argv[3])
from small_run import adamw, network, problem, quiet
from optcore.train import TensorBoard
X, y = problem()
class Stop:
    def on_step(self, run):
        return run.step == 9
for stop in ([Stop()], []):
    net = network()
    history = quiet(net, X, y, epochs=3, validation=0.2, optimizer=adamw(net), checkpoint=sys.argv[1] + "/c",
                    resume=None if stop else sys.argv[1] + "/c", callbacks=[TensorBoard(sys.argv[1] + "/log"), *stop])
history.write(sys.argv[1] + "/h")
"""


@pytest.mark.parametrize("missing", ["tensorboardX", "torch"])
def test_tensorboard_reads_what_is_written(tmp_path, missing):
    """With either writer, over a resumption; TensorBoard keeps float32: 6e-8 relative."""
    here = os.path.dirname(killed_run.__file__)
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path), missing, here], check=True)
    read = subprocess.run([sys.executable, "-c", READ, str(tmp_path / "log")], check=True, capture_output=True,
                          text=True)
    scalars, rows = json.loads(read.stdout), lines(tmp_path / "h")
    steps, epochs = ([r for r in rows if r["kind"] == kind] for kind in ("step", "epoch"))
    assert set(scalars) == {f"step/{k}" for k in ("loss", "lr", "grad_norm", "examples")} | {
        f"epoch/{k}" for k in ("loss", "lr", "grad_norm", "seconds", "validation_loss", "validation_accuracy")}
    for tag, rows, step in (("step/loss", steps, "step"), ("epoch/validation_accuracy", epochs, "steps")):
        assert [s for s, _ in scalars[tag]] == [r[step] for r in rows]
        np.testing.assert_allclose([v for _, v in scalars[tag]], [r[tag.split("/")[1]] for r in rows], rtol=1e-7)


def test_without_a_writer(monkeypatch, tmp_path):
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"optcore\[tensorboard\]\""):
        TensorBoard(tmp_path)


# --- Ctrl-C

INTERRUPTED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from small_run import adamw, network, problem, quiet
from optcore.train import EarlyStopping
X, y = problem()
kept = {}
class Press:
    def on_step(self, run):
        kept[run.step] = run.net.theta.copy()
        if run.step in (9, 9 + int(sys.argv[2])):
            os.kill(os.getpid(), signal.SIGINT)
            [0] * 100       # bytecodes, at which the signal is handled
            if sys.argv[2] == "0":
                os.kill(os.getpid(), signal.SIGINT)
net = network()
h = quiet(net, X, y, validation=0.2, callbacks=[Press(), EarlyStopping()])
print(h.interrupted, len(h.steps["loss"]), net.theta.tobytes() == kept[9].tobytes())
"""


def interrupted(second):
    here = os.path.dirname(killed_run.__file__)
    return subprocess.run([sys.executable, "-c", INTERRUPTED, here, second], capture_output=True, text=True)


def test_ctrl_c_keeps_the_last_whole_step_and_says_so():
    """The parameters are the last step's, not the best of an early stopping."""
    run = interrupted("1")
    assert run.stdout == "True 9 True\n"
    assert run.stderr == "interrupted after step 9, in epoch 2; the run is not saved: fit had no checkpoint=\n"


def test_a_second_ctrl_c_is_as_usual():
    run = interrupted("0")
    assert run.returncode == -signal.SIGINT
    assert run.stderr.endswith("KeyboardInterrupt\n")
