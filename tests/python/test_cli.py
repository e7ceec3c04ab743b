"""The command: what it prints, writes and returns; the diagnosis against PyTorch's dense Hessian."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch

import optcore as oc
from optcore import checkpoint, runs
from optcore.cli import bench, main
from optcore.cli.common import in_double
from optcore.runs import Settings

SMALL = ["--hidden", "6", "--epochs", "3", "--batch-size", "8", "--quiet"]


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 3)) * [1, 10, 100]
    lines = [",".join([*map(repr, row.tolist()), "yes" if row[0] * row[1] > 0 else "no"]) for row in X]
    (tmp_path / "table.csv").write_text("a,b,c,kind\n" + "\n".join(lines) + "\n")
    return str(tmp_path / "table.csv")


def trained(table, tmp_path, *options):
    folder = str(tmp_path / "run")
    assert main(["train", table, "--out", folder, *SMALL, *options]) == 0
    return folder


def test_train_writes_a_run(table, tmp_path, capsys):
    folder = trained(table, tmp_path)
    out = capsys.readouterr().out
    assert "90 examples, 3 features, 2 classes; 72 to train, 18 held out" in out
    assert "network   3-6-2 with batch norm and ReLU, 50 parameters, float32" in out
    assert sorted(os.listdir(folder)) == ["checkpoint.previous.safetensors", "checkpoint.safetensors", "config.toml",
                                          "history.jsonl", "scaling.safetensors", "training.png"]
    rows = [json.loads(line) for line in Path(folder, "history.jsonl").read_text().splitlines()]
    assert [r["kind"] for r in rows] == (["step"] * 9 + ["epoch"]) * 3
    assert rows[-1]["validation_accuracy"] * 18 == pytest.approx(round(rows[-1]["validation_accuracy"] * 18))
    assert f"optcore diagnose {folder}" in out


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_diagnosis_against_torch(table, tmp_path, capsys, mode):
    folder = trained(table, tmp_path)
    capsys.readouterr()
    assert main(["diagnose", folder, "--json", "--mode", mode]) == 0
    report = json.loads(capsys.readouterr().out)

    state = checkpoint.load(os.path.join(folder, "checkpoint.safetensors"))
    d = oc.data.load(table)
    kept, _ = oc.data.split(90, 0.2, np.random.default_rng(0), d.y)
    X = d.X[kept]
    X = torch.from_numpy(((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32).astype(np.float64))
    y = torch.from_numpy(d.y[kept])
    theta = torch.from_numpy(state["theta"].astype(np.float64))
    mean, var = (torch.from_numpy(state["buffers"][f"1.running_{k}"].astype(np.float64)) for k in ("mean", "var"))

    def loss(t):
        w, b, gamma, beta, v, c = torch.split(t, [18, 6, 6, 6, 12, 2])
        z = torch.nn.functional.batch_norm(X @ w.reshape(6, 3).T + b, mean.clone(), var.clone(), gamma, beta,
                                           training=mode == "train")
        return torch.nn.functional.cross_entropy(torch.relu(z) @ v.reshape(2, 6).T + c, y)

    gradient = torch.autograd.functional.jacobian(loss, theta)
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta)).numpy()
    # Standardised columns agree to one float32 rounding of an element at most, 6e-8 of the data.
    assert report["loss"] == pytest.approx(loss(theta).item(), rel=1e-6)
    assert report["gradient_norm"] == pytest.approx(gradient.norm().item(), rel=1e-5)
    scale = abs(values).max()
    np.testing.assert_allclose(sorted(report["smallest"]["values"]), values[:3], atol=1e-5 * scale)
    np.testing.assert_allclose(sorted(report["largest"]["values"]), values[-3:], atol=1e-5 * scale)
    assert max(report["smallest"]["residuals"] + report["largest"]["residuals"]) < 1e-6 * scale
    assert report["kind"] == "not critical"         # three epochs do not get there
    assert "its 3 epochs were over" in report["why"]
    assert os.path.exists(report["picture"])


def test_diagnosis_as_text(table, tmp_path, capsys):
    folder = trained(table, tmp_path)
    before = {path: path.read_bytes() for path in Path(folder).iterdir()}
    capsys.readouterr()
    assert main(["diagnose", folder]) == 0
    out = capsys.readouterr().out
    for part in ("why did training stop?  ", "gradient norm  ", "largest eigenvalues ", "smallest eigenvalues ",
                 "residuals  ", "kind of point         not critical",
                 "  evidence", f"picture: {os.path.join(folder, 'diagnosis.png')}",
                 f"report: {os.path.join(folder, 'report.html')}"):
        assert part in out
    assert "its 3 epochs were over" in " ".join(out.split())
    page = Path(folder, "report.html").read_text()
    assert page.count("<img") >= 6
    assert "<td></td></tr></tbody>" not in page  # a setting that was not given
    assert all(path.read_bytes() == content for path, content in before.items())


def test_spectrum(table, tmp_path, capsys):
    folder = trained(table, tmp_path)
    capsys.readouterr()
    assert main(["diagnose", folder, "--json"]) == 0
    point = json.loads(capsys.readouterr().out)
    assert main(["spectrum", folder, "-k", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(found["largest"]["values"], point["largest"]["values"], rtol=1e-6)
    assert found["bounds"][0] <= min(found["smallest"]["values"])
    assert found["bounds"][1] >= max(found["largest"]["values"])
    # 50 parameters: all eigenvalues are known, and counted.
    assert sum(found[name]["share"] for name in ("positive", "zero", "negative")) == pytest.approx(1)
    assert found["positive"]["interval"] == [found["positive"]["share"]] * 2
    assert os.path.exists(found["picture"])
    assert main(["spectrum", folder]) == 0
    out = capsys.readouterr().out
    for part in ("50 eigenvalues", "largest, with residuals", "all eigenvalues lie, computed, between", "negative  "):
        assert part in out


def test_bench(monkeypatch, capsys):
    monkeypatch.setattr(bench, "_ADAMW", (1000,))
    monkeypatch.setattr(bench, "_NORM", ((32, 8),))
    assert main(["bench", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["work"] for row in found["rows"]] == ["AdamW, 1,000", "batch norm, 32x8"]
    for row in found["rows"]:
        assert set(row["ratios"]) >= {"NumPy"}
        assert min(row["seconds"], row["gb_s"], *row["ratios"].values(), found["copy_gb_s"]) > 0
    assert main(["bench", "--rounds", "1"]) == 0
    assert "x NumPy" in capsys.readouterr().out


def test_regression(tmp_path, capsys):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 2))
    np.savez(tmp_path / "r.npz", X=X, y=X[:, 0] - 0.5 * X[:, 1] + 100)
    folder = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "r.npz"), "--out", folder, "--hidden", "8", "--epochs", "60", "--quiet"]) == 0
    assert main(["diagnose", folder, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.split("diagnose " + folder)[1])
    assert report["validation_loss"] < 0.2      # of a variance of 1: learned
    assert "validation_accuracy" not in report


def test_the_same_command_again_and_another_one(table, tmp_path, capsys):
    folder = trained(table, tmp_path)
    first = checkpoint.load(os.path.join(folder, "checkpoint.safetensors"))["theta"]
    trained(table, tmp_path)
    assert first.tobytes() == checkpoint.load(os.path.join(folder, "checkpoint.safetensors"))["theta"].tobytes()
    assert main(["train", table, "--out", folder, *SMALL, "--seed", "1"]) == 1
    assert "holds a run with other settings; --overwrite replaces it" in capsys.readouterr().err
    assert main(["train", table, "--out", folder, *SMALL, "--seed", "1", "--overwrite"]) == 0


def command(*arguments, **options):
    code = "import sys; from optcore.cli import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, **options)


def test_ctrl_c_and_resume(table, tmp_path, capsys):
    options = ["--hidden", "6", "--epochs", "150", "--batch-size", "1000"]
    whole, part = str(tmp_path / "whole"), str(tmp_path / "part")
    assert main(["train", table, "--out", whole, *options, "--quiet"]) == 0
    with command("train", table, "--out", part, *options) as process:
        while not os.path.exists(os.path.join(part, "checkpoint.safetensors")):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    assert process.returncode == 130
    assert f"to continue: optcore train {table} --out {part} --resume" in out
    capsys.readouterr()
    assert main(["diagnose", part]) == 0
    assert "it was interrupted" in " ".join(capsys.readouterr().out.split())
    assert main(["train", table, "--out", part, "--resume", "--quiet"]) == 0
    ends = [checkpoint.load(os.path.join(f, "checkpoint.safetensors")) for f in (whole, part)]
    assert ends[0]["step"] == ends[1]["step"] == 150
    assert ends[0]["theta"].tobytes() == ends[1]["theta"].tobytes()
    assert main(["train", table, "--out", part, "--resume", "--lr", "0.5"]) == 1
    assert "was started with lr 0.01; leave the option out" in capsys.readouterr().err


def test_the_demo_reaches_its_accuracy(tmp_path, capsys):
    assert main(["train", "digits", "--out", str(tmp_path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "network   64-128-10 with batch norm and ReLU, 9,866 parameters" in out
    accuracy = float(out.split("held-out accuracy ")[1].split(" %")[0])
    assert accuracy >= 97


def test_info(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config == json.loads(json.dumps(oc.show_config()))
    assert f"instructions  {config['isa']} (available: {', '.join(config['isa_available'])}" in text
    assert ("OpenMP        yes" in text) == bool(config["openmp"])


def test_info_of_a_serial_build(monkeypatch, capsys):
    config = oc.show_config() | {"openmp": None}
    monkeypatch.setattr(oc.process, "show_config", lambda: config)
    assert main(["info"]) == 0
    assert "OpenMP        serial: built without OpenMP" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "missing.csv"], "missing.csv: no such file"),
    (["train", "letters"], "expected 'digits' or a .csv, .tsv, .npz, .npy or IDX file"),
    (["train", "digits", "--lr", "-1"], "lr: expected"),
    (["train", "digits", "--held-out", "2"], "held_out: expected a share in (0, 1), got 2.0"),
    (["train", "digits", "--out", __file__], "test_cli.py: expected a folder for the run, got a file"),
    (["diagnose", "nowhere"], "nowhere: expected the folder of a training run"),
])
def test_errors_say_what_to_do(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"optcore {arguments[0]}: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "digits", "--epochs", "x"], "--epochs: expected a whole number, got 'x'"),
    (["train", "digits", "--lr", "x"], "--lr: expected a number, got 'x'"),
    (["train", "digits", "--seed", "1.5"], "--seed: expected a whole number, got '1.5'"),
    (["spectrum", "run", "--steps", "x"], "--steps: expected a whole number, got 'x'"),
])
def test_no_number(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_commands_look_at_what_was_descended(table, tmp_path, capsys):
    """Weighted cross-entropy and penalties, from the formulas; the accuracy is that of float32 outputs."""
    folder = Path(trained(table, tmp_path, "--class-weight", "balanced", "--l1", "0.01", "--l2", "0.1"))
    run = runs.prepare(runs.read_settings(folder))
    run.restore(folder)
    z, w = run.net.predict(run.X).astype(np.float64), len(run.y) / (2 * np.bincount(run.y))[run.y]
    errors = scipy.special.logsumexp(z, axis=1) - z[np.arange(len(z)), run.y]
    weights = np.concatenate([run.net.parameters[name].ravel() for name in ("0.weight", "3.weight")])
    penalty = 0.01 * abs(weights).sum() + 0.05 * (weights**2).sum()
    with in_double(run, "eval") as (double, objective):
        assert objective.loss(double.net.theta) == pytest.approx(errors @ w / w.sum() + penalty, rel=1e-6)
    capsys.readouterr()
    assert main(["train", table, "--out", str(folder), *SMALL, "--l1", "-1"]) == 1
    assert "l1: expected at least 0, got -1" in capsys.readouterr().err


@pytest.mark.parametrize("name", runs.CHOICES["optimizer"])
def test_every_rule_that_is_offered_trains(name, table):
    """Rprop has no weight decay, whose default is not 0."""
    run = runs.prepare(Settings(data=table, optimizer=name, hidden=(3,)))
    rule = run.optimizer()
    before = run.net.theta.copy()
    oc.train.fit(run.net, run.X, run.y, run.loss, rule, 1, 24, progress=False)
    assert type(rule) is oc.optim.get(name)
    assert (run.net.theta != before).any()
    assert set(oc.optim.names()) - set(runs.CHOICES["optimizer"]) == {"muon"}       # takes no biases


def test_a_reader_that_has_left():
    with subprocess.Popen([sys.executable, "-m", "optcore.cli", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        process.stdout.close()
        assert process.wait() == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train"], ["train", "digits", "--epochs", "0"],
                                       ["train", "digits", "--optimizer", "best"], ["diagnose"]])
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: optcore" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "diagnose", "spectrum", "landscape", "bench", "info"])
def test_help_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert f"example:\n  optcore {name}" in out
    assert "exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted" in out
    assert "  --json " in out


@pytest.mark.parametrize(("k", "message"), [("100000", "expected at most 100, got 100000"),
                                            ("0", "expected at least 1, got 0")])
@pytest.mark.parametrize("name", ["diagnose", "spectrum"])
def test_how_many_eigenvalues(name, k, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "run", "-k", k])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: argument -k: {message}\n")


def test_train_for_machines(table, tmp_path, capsys):
    folder = trained(table, tmp_path, "--json")
    said = json.loads(capsys.readouterr().out)
    last = json.loads(Path(folder, "history.jsonl").read_text().splitlines()[-1])
    assert said["settings"]["hidden"] == [6]
    assert (said["epochs"], said["steps"], said["interrupted"], said["run"]) == (3, 27, False, folder)
    assert said["parameters"] == 3 * 6 + 6 + 2 * 6 + 6 * 2 + 2
    assert {name: said[name] for name in ("loss", "validation_loss", "validation_accuracy")} == {
        name: last[name] for name in ("loss", "validation_loss", "validation_accuracy")}


def test_damaged_and_changed_runs(table, tmp_path, capsys):
    folder = trained(table, tmp_path)
    path = Path(folder, "checkpoint.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    before = Path(folder, "checkpoint.previous.safetensors")
    before.write_bytes(b"")
    assert main(["diagnose", folder]) == 1
    assert f"{path}: not a whole, unchanged checkpoint" in capsys.readouterr().err
    path.write_bytes(whole)
    Path(table).write_text(Path(table).read_text().replace("yes", "no", 1))
    assert main(["diagnose", folder]) == 1
    assert "they have changed since" in capsys.readouterr().err
    Path(folder, "config.toml").write_text("data = [")
    assert main(["diagnose", folder]) == 1
    assert "config.toml: not the settings of an optcore run" in capsys.readouterr().err


def test_settings_survive_toml(tmp_path):
    s = Settings(data='C:\\x "y"\n\x7f\u20ac\U0001f600.csv', hidden=(), lr=1e-5, weight_decay=0.0, seed=7)
    s.write(tmp_path / "config.toml")
    assert Settings.read(tmp_path / "config.toml") == s


@pytest.mark.parametrize("line", ['hidden = ["a"]', 'lr = "x"', "dtype = 5", 'held_out = "a"', "data = 3",
                                  'epochs = "x"', "seed = -1"])
def test_wrong_values_in_the_settings(table, tmp_path, capsys, line):
    config = Path(trained(table, tmp_path), "config.toml")
    name = line.split(" ")[0]
    kept = [v for v in config.read_text().splitlines() if not v.startswith(f"{name} =")]
    config.write_text("\n".join([*kept, line]))
    assert main(["diagnose", str(config.parent)]) == 1
    assert f"({name}: expected" in capsys.readouterr().err


def test_a_checkpoint_of_something_else(table, tmp_path, capsys):
    folder = trained(table, tmp_path)
    checkpoint.save(os.path.join(folder, "checkpoint.safetensors"), {"theta": np.ones(3)})
    assert main(["diagnose", folder]) == 1
    assert "is not the checkpoint of a training run" in capsys.readouterr().err


def test_an_unfinished_run_is_not_deleted(table, tmp_path, capsys):
    path = Path(trained(table, tmp_path), "checkpoint.safetensors")
    checkpoint.save(path, checkpoint.load(path) | {"epoch": 1})
    before = path.read_bytes()
    assert main(["train", table, "--out", str(path.parent), *SMALL]) == 1
    assert "--resume continues it, --overwrite begins again" in capsys.readouterr().err
    assert path.read_bytes() == before
    trained(table, tmp_path, "--overwrite")


def test_two_rows_and_a_negative_seed(tmp_path, capsys):
    path = tmp_path / "two.csv"
    path.write_text("1,2,a\n3,4,b\n")
    for options, message in (([], "expected at least 2 examples"), (["--seed", "-1"], "seed: expected at least 0")):
        assert main(["train", str(path), "--out", str(tmp_path / "run"), *options]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- every kind of data, and the options of fit

def big_endian(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def digits_as(kind, folder):
    """scikit-learn's digits as a file of this kind; return the command's arguments."""
    d = oc.data.load("digits")
    X, y = d.X.reshape(-1, 8, 8).astype(np.uint8), d.y.astype(np.uint8)
    if kind == "idx":
        for name, array in (("images-idx3", X), ("labels-idx1", y)):
            (folder / f"t-{name}-ubyte.gz").write_bytes(gzip.compress(big_endian(array)))
        return [str(folder / "t-images-idx3-ubyte.gz")]
    if kind == "npy":
        np.save(folder / "X.npy", X)
        np.save(folder / "labels.npy", y)
        return [str(folder / "X.npy"), "--target", str(folder / "labels.npy")]
    if kind == "npz":
        np.savez(folder / "d.npz", X=X, labels=y)
        return [str(folder / "d.npz"), "--target", "labels"]
    lines = [",".join(map(str, [*row[:3], f"d{c}", *row[3:]])) for row, c in zip(X.reshape(-1, 64), y, strict=True)]
    names = [f"p{i}" for i in range(64)]
    (folder / "d.csv").write_text("\n".join([",".join([*names[:3], "digit", *names[3:]]), *lines]) + "\n")
    return [str(folder / "d.csv"), "--target", "digit"]


@pytest.mark.parametrize("kind", ["idx", "npy", "npz", "csv"])
def test_every_kind_of_file_trains_to_the_same_bits(tmp_path, kind):
    options = ["--standardize", "all", "--epochs", "2", "--hidden", "8", "--quiet"]
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    for source, folder in zip((["digits"], digits_as(kind, tmp_path)), folders, strict=True):
        assert main(["train", *source, "--out", folder, *options]) == 0
    ends = [checkpoint.load(os.path.join(f, "checkpoint.safetensors")) for f in folders]
    assert ends[0]["theta"].tobytes() == ends[1]["theta"].tobytes()
    assert ends[0]["history"]["epochs"]["validation_loss"].tolist() == \
        ends[1]["history"]["epochs"]["validation_loss"].tolist()
    assert main(["diagnose", folders[1], "--json"]) == 0


def test_options_of_fit(table, tmp_path, capsys):
    folder = trained(table, tmp_path, "--patience", "2", "--class-weight", "balanced", "--accumulate", "2", "--epochs",
                     "60", "--tensorboard", str(tmp_path / "log"), "--lr", "0.1")
    rows = [json.loads(line) for line in Path(folder, "history.jsonl").read_text().splitlines()]
    losses = [r["validation_loss"] for r in rows if r["kind"] == "epoch"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 60
    assert os.listdir(tmp_path / "log")
    scaling = checkpoint.load(os.path.join(folder, "scaling.safetensors"))["X"]
    d = oc.data.load(table)
    kept, _ = oc.data.split(90, 0.2, np.random.default_rng(0), d.y)
    np.testing.assert_allclose(scaling["mean"], d.X[kept].mean(axis=0), rtol=1e-12)
    capsys.readouterr()
    assert main(["diagnose", folder, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    # of the best epoch
    assert report["validation_loss"] == losses[best]
    accuracy = [r["validation_accuracy"] for r in rows if r["kind"] == "epoch"][best]
    assert report["validation_accuracy"] == accuracy
    assert main(["train", table, "--out", folder, "--resume", "--quiet"]) == 0
    assert len(checkpoint.load(os.path.join(folder, "checkpoint.safetensors"))["history"]["epochs"]["loss"]) == best + 3
