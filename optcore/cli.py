"""The command ``optcore``: train a network on a data set, ask why training stopped, say what this build is."""

import argparse
import dataclasses
import json
import os
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np

from optcore import curvature, nn, plot, process, runs, train

_TRAIN_EXAMPLE = """\
example:
  optcore train digits --out out/digits
  optcore train iris.csv --hidden 16 --epochs 100 --out out/iris
  optcore train digits --out out/digits --resume      (after Ctrl-C)
"""
_DIAGNOSE_EXAMPLE = """\
example:
  optcore diagnose out/digits
  optcore diagnose out/digits --json | jq .kind
"""
_INFO_EXAMPLE = """\
example:
  optcore info
  OPTCORE_ISA=baseline optcore info --json
"""
_USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, FloatingPointError)


def main(argv=None):
    """Run the command; return the exit code: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C."""
    arguments = _parser().parse_args(argv)

    def show(message, *_):
        print(f"optcore {arguments.command}: warning: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show
            return arguments.run(arguments) or 0
    except _USER_ERRORS as error:
        print(f"optcore {arguments.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"optcore {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="optcore", description="Gradient-based training on CPUs, and an answer "
                                     "to why it stopped.", epilog="optcore COMMAND --help says more, with an example.")
    parser.add_argument("--version", action="version", version=f"optcore {process.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    diagnose = _add(commands, "diagnose", _diagnose, "ask why the training of a run stopped", _DIAGNOSE_EXAMPLE)
    diagnose.add_argument("folder", metavar="RUN", help="the folder that optcore train wrote")
    diagnose.add_argument("-k", type=_positive, default=3, help="eigenvalues from each end (default: 3)")
    diagnose.add_argument("--mode", choices=("train", "eval"), default="train",
                          help="batch norm with the statistics of the training set, as trained, or with the "
                               "running ones (default: train)")
    diagnose.add_argument("--json", action="store_true", help="print one JSON object")
    info = _add(commands, "info", _info, "say what this build is and what it found on this machine", _INFO_EXAMPLE)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add(commands, name, run, text, example):
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=example,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    command.set_defaults(run=run)
    return command


def _add_train(commands):
    p = _add(commands, "train", _train, "train a network with batch norm and ReLU on a data set", _TRAIN_EXAMPLE)
    p.add_argument("data", metavar="DATA", help="digits (from scikit-learn), a .csv, .tsv, .npz or .npy file, or "
                   "MNIST-style IDX images")
    p.add_argument("--target", default=argparse.SUPPRESS, metavar="T", help="of a table the name or index of the "
                   "target's column (default: the last); of an .npz its array (default: y); of .npy and IDX the file "
                   "(default: the IDX labels beside the images)")
    default = runs.Settings(data="")

    def option(flag, text, **how):
        value = getattr(default, flag.replace("-", "_"))
        value = " ".join(map(str, value)) if isinstance(value, tuple) else value
        p.add_argument(f"--{flag}", default=argparse.SUPPRESS, help=f"{text} (default: {value})", **how)

    option("epochs", "passes over the training part", type=_positive, metavar="N")
    option("batch-size", "examples in a step", type=_positive, metavar="N")
    option("lr", "learning rate at the start", type=float)
    option("schedule", "of the learning rate", choices=runs.CHOICES["schedule"])
    option("weight-decay", "strength of the pull of all parameters towards 0", type=float, metavar="X")
    option("optimizer", "update rule", choices=runs.CHOICES["optimizer"])
    option("hidden", "widths of the hidden layers", type=_positive, nargs="*", metavar="N")
    option("dtype", "of the network", choices=runs.CHOICES["dtype"])
    option("accumulate", "batches whose mean gradient is one update", type=_positive, metavar="N")
    option("patience", "epochs without a smaller held-out loss after which the training ends, with its best "
           "parameters; 0: never", type=int, metavar="N")
    p.add_argument("--class-weight", default=argparse.SUPPRESS, choices=runs.CHOICES["class_weight"][1:],
                   help="weigh classes by n/(classes * count), against rare ones")
    option("held-out", "share of the examples that is held out", type=float, metavar="X")
    p.add_argument("--standardize", default=argparse.SUPPRESS, choices=runs.CHOICES["standardize"],
                   help="to mean 0 and deviation 1: each column, or all together (default: all for digits, whose "
                        "columns are pixels; else columns)")
    p.add_argument("--task", default=argparse.SUPPRESS, choices=runs.CHOICES["task"][1:],
                   help="what the target is (default: names and whole numbers are classes)")
    option("seed", "of the split, the start and the order of the examples", type=int)
    p.add_argument("--out", metavar="RUN", help="folder for the run (default: out/<name of the data>)")
    p.add_argument("--resume", action="store_true", help="continue the run in the folder, with its settings")
    p.add_argument("--overwrite", action="store_true", help="replace an unfinished run or other settings")
    p.add_argument("--tensorboard", metavar="FOLDER", help="write the run for TensorBoard, too")
    p.add_argument("--quiet", action="store_true", help="no progress display")


def _positive(text):
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {n}")
    return n


# ------------------------------------------------------------------------------------------------------ train

def _train(arguments):
    source = arguments.data if arguments.data == "digits" else os.path.abspath(arguments.data)
    folder = Path(arguments.out or Path("out") / Path(source).stem)
    given = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(runs.Settings) if f.name in arguments}
    if "target" in given and Path(source).suffix not in (".csv", ".tsv", ".npz"):       # a file
        given["target"] = os.path.abspath(given["target"])
    given |= {"data": source} | ({"hidden": tuple(given["hidden"])} if "hidden" in given else {})
    if arguments.resume:
        settings = runs.read_settings(folder)
        differ = [f"{k} {getattr(settings, k)!r}" for k, v in given.items() if getattr(settings, k) != v]
        if differ:
            raise ValueError(f"--resume: {folder} was started with {', '.join(differ)}; leave the option out")
    else:
        settings = runs.Settings(**{"standardize": "all" if source == "digits" else "columns"} | given)
    run = runs.prepare(settings)
    run.optimizer()     # refuses what it cannot use before the folder is touched
    if not arguments.resume:
        runs.new_folder(folder, settings, arguments.overwrite)
    print(_describe(run), flush=True)
    callbacks = [train.TensorBoard(arguments.tensorboard)] if arguments.tensorboard else []
    history = run.fit(folder, resume=arguments.resume, progress=not arguments.quiet, callbacks=callbacks)
    print(_result(run, history))
    picture = _draw(folder / runs.TRAINING, history, title=_title(run))
    print(f"written: {folder}/ with {runs.CONFIG}, {runs.CHECKPOINT}, {runs.HISTORY}{picture}")
    if history.interrupted:
        print(f"interrupted after step {len(history.steps['loss'])}; "
              f"to continue: optcore train {arguments.data} --out {folder} --resume")
        return 130
    print(f"why did it stop?  optcore diagnose {folder}")
    return 0


def _describe(run):
    s, n, held = run.settings, len(run.X), len(run.X_held_out)
    target = f"{len(run.classes)} classes" if run.classes else "one value to predict"
    lr = f"lr {s.lr:g}{' falling to 0 along a cosine' if s.schedule == 'cosine' else ''}"
    return (f"data      {s.data}: {n + held:,} examples, {run.X.shape[1]} features, {target}; "
            f"{n:,} to train, {held:,} held out\n"
            f"network   {run.shape} with batch norm and ReLU, {run.net.theta.size:,} parameters, {s.dtype}\n"
            f"training  {s.optimizer}, {lr}, batches of {s.batch_size}, {s.epochs} epochs")


def _result(run, history):
    if not history.epochs["loss"]:
        return "no epoch finished"
    seconds = sum(history.epochs["seconds"])
    text = (f"{len(history.epochs['loss'])} epochs, {len(history.steps['loss']):,} steps in {seconds:.1f} s; "
            f"training loss {history.epochs['loss'][-1]:.4g}, held out {history.epochs['validation_loss'][-1]:.4g}")
    if run.classes:
        share, n = history.epochs["validation_accuracy"][-1], len(run.y_held_out)
        text += f"\nheld-out accuracy {100 * share:.2f} % ({round(share * n)} of {n})"
    return text


def _title(run):
    return f"{Path(run.settings.data).stem}: {run.shape}, {run.settings.optimizer}"


def _draw(path, history, **options):
    """Draw the picture where matplotlib is installed; return the end of a sentence that says what was written."""
    try:
        plot.training(history, path, **options)
    except ModuleNotFoundError as error:
        return f" (no picture: {error})"
    return f", {path.name}"


# --------------------------------------------------------------------------------------------------- diagnose

def _diagnose(arguments):
    folder = Path(arguments.folder)
    run = runs.prepare(runs.read_settings(folder))
    run.restore(folder)
    held_out = train.evaluate(run.net, run.X_held_out, run.y_held_out, run.loss)
    # In double: near the end of a training the small eigenvalues drown in float32's rounding.
    double = run.in_double()
    objective = nn.objective(double.net, run.loss, double.X, double.y, mode=arguments.mode)
    theta = double.net.theta
    with process.one_pool:
        point = curvature.classify(objective, theta)
        H = curvature.Hessian(objective, theta)
        ends = [curvature.eigenpairs(H, k=min(arguments.k, theta.size // 2), which=which) for which in ("SA", "LA")]
    values = np.concatenate([np.sort(e.values) for e in ends])
    picture = folder / runs.DIAGNOSIS
    note = _draw(picture, run.history, eigenvalues=values, size=theta.size, tau=point.tau, title=_title(run),
                 caption=f"{point.kind}, |gradient| {point.gradient_norm:.2g}")
    if arguments.json:
        print(json.dumps(_as_json(run, held_out, point, ends, picture), indent=2))
    else:
        print(_report(run, held_out, point, ends))
        print(f"picture: {picture}" if not note.startswith(" (") else note.strip(" ()"))


def _why(run, point):
    """One sentence for the question."""
    s = run.settings
    done, lr = len(run.history.epochs["loss"]), run.history.steps["lr"][-1]
    end = "it was interrupted" if run.history.interrupted else f"its {s.epochs} epochs were over"
    rate = f", the learning rate having fallen from {s.lr:g} to {lr:.1g}" if lr < 0.1 * s.lr else ""
    if point.kind == "not critical":
        return (f"not at a critical point: the gradient is not zero, and a Newton-like step still promises "
                f"{point.decrease:.2g} of the loss {point.loss:.2g}. Training stopped after epoch {done} because "
                f"{end}{rate}.")
    if point.kind == "undetermined":
        return f"undetermined: see below. Training stopped after epoch {done} because {end}{rate}."
    return f"at a critical point, a {point.kind}. Training stopped after epoch {done} because {end}{rate}."


def _report(run, held_out, point, ends):
    n, statistics = len(run.X), {"train": "statistics of that set", "eval": "running statistics"}[point.mode]
    accuracy = f"  (accuracy {100 * held_out['validation_accuracy']:.2f} %)" if run.classes else ""
    lines = [f"{_title(run)}, {point.size:,} parameters, after {len(run.history.steps['loss']):,} steps", "",
             f"loss                  {point.loss:.6g}  (all {n:,} training examples, batch norm with {statistics})",
             f"loss, held out        {held_out['validation_loss']:.6g}{accuracy}",
             f"gradient norm         {point.gradient_norm:.6g}"]
    for name, pairs, order in (("largest", ends[1], -1), ("smallest", ends[0], 1)):
        rank = np.argsort(pairs.values)[::order]
        lines.append(f"{name + ' eigenvalues':22s}" + "".join(f"{v:<13.5g}" for v in pairs.values[rank]).rstrip())
        lines.append("  residuals           " + "".join(f"{r:<13.1e}" for r in pairs.residuals[rank]).rstrip())
    lines += [f"kind of point         {point.kind}", *(_wrapped("  " + s) for s in point.certificate.splitlines())]
    return "\n".join([*lines, "", _wrapped(f"why did training stop?  {_why(run, point)}")])


def _wrapped(text):
    return textwrap.fill(text, 100, subsequent_indent="    ")


def _as_json(run, held_out, point, ends, picture):
    def plain(x):
        x = x.tolist() if isinstance(x, np.ndarray | np.generic) else x
        if isinstance(x, list | tuple):
            return [plain(v) for v in x]
        return None if isinstance(x, float) and not np.isfinite(x) else x

    smallest, largest = ({"values": plain(e.values), "residuals": plain(e.residuals)} for e in ends)
    names = ("kind", "curvature", "loss", "gradient_norm", "decrease", "near", "tau", "bounds", "confidence",
             "minimum_ratio", "minimum_ratio_interval", "zero_share", "zero_share_interval", "size", "mode",
             "certificate")
    return {"why": _why(run, point), **{k: plain(getattr(point, k)) for k in names}, "smallest": smallest,
            "largest": largest, **held_out, "steps": len(run.history.steps["loss"]),
            "interrupted": run.history.interrupted, "picture": str(picture) if picture.exists() else None}


# ------------------------------------------------------------------------------------------------------- info

def _info(arguments):
    config = process.show_config()
    if arguments.json:
        print(json.dumps(config, indent=2))
        return
    openmp = f"yes ({config['openmp']})" if config["openmp"] else "serial: built without OpenMP"
    rows = [("optcore", config["version"]), ("instructions", f"{config['isa']} (available: "
             f"{', '.join(config['isa_available'])}; OPTCORE_ISA chooses)"), ("OpenMP", openmp),
            ("threads", config["num_threads"]), ("NumPy", config["numpy"])]
    rows += [("BLAS", f"{b['library']} {b['version']}, core type {b['core_type']}, {b['threads']} threads outside")
             for b in config["blas"]]
    for name, value in rows:
        print(f"{name:14s}{value}")


if __name__ == "__main__":
    raise SystemExit(main())
