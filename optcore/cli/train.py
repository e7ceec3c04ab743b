"""``optcore train``: a network on a data set, into a run folder."""

import argparse
import dataclasses
import os
from pathlib import Path

from optcore import runs, train
from optcore.cli.common import add_json, command, draw, integer, number, positive, print_json, title

_EXAMPLE = """\
example:
  optcore train digits --out out/digits
  optcore train iris.csv --hidden 16 --epochs 100 --out out/iris
  optcore train digits --out out/digits --resume      (after Ctrl-C)
  optcore train digits --out out/digits --json --quiet | jq .validation_accuracy
"""


def add(commands):
    """Add the command to the parser."""
    p = command(commands, "train", _run, "train a network with batch norm and ReLU on a data set", _EXAMPLE)
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

    option("epochs", "passes over the training part", type=positive, metavar="N")
    option("batch-size", "examples in a step", type=positive, metavar="N")
    option("lr", "learning rate at the start", type=number, metavar="X")
    option("schedule", "of the learning rate", choices=runs.CHOICES["schedule"])
    option("weight-decay", "strength of the pull of all parameters towards 0, in rules that have one", type=number,
           metavar="X")
    option("l1", "of the penalty l1 * sum |w| of the weights, a term of the loss", type=number, metavar="X")
    option("l2", "of the penalty l2/2 * sum w^2 of the weights, a term of the loss", type=number, metavar="X")
    option("optimizer", "update rule", choices=runs.CHOICES["optimizer"])
    option("hidden", "widths of the hidden layers", type=positive, nargs="*", metavar="N")
    option("dtype", "of the network", choices=runs.CHOICES["dtype"])
    option("accumulate", "batches whose mean gradient is one update", type=positive, metavar="N")
    option("patience", "epochs without a smaller held-out loss after which the training ends, with its best "
           "parameters; 0: never", type=integer, metavar="N")
    p.add_argument("--class-weight", default=argparse.SUPPRESS, choices=runs.CHOICES["class_weight"][1:],
                   help="weigh classes by n/(classes * count), against rare ones")
    option("held-out", "share of the examples that is held out", type=number, metavar="X")
    p.add_argument("--standardize", default=argparse.SUPPRESS, choices=runs.CHOICES["standardize"],
                   help="to mean 0 and deviation 1: each column, or all together (default: all for digits, whose "
                        "columns are pixels; else columns)")
    p.add_argument("--task", default=argparse.SUPPRESS, choices=runs.CHOICES["task"][1:],
                   help="what the target is (default: names and whole numbers are classes)")
    option("seed", "of the split, the start and the order of the examples", type=integer, metavar="N")
    p.add_argument("--out", metavar="RUN", help="folder for the run (default: out/<name of the data>)")
    p.add_argument("--resume", action="store_true", help="continue the run in the folder, with its settings")
    p.add_argument("--overwrite", action="store_true", help="replace an unfinished run or other settings")
    p.add_argument("--trajectory", action="store_true", help="keep the parameters of every epoch, for the landscape")
    p.add_argument("--tensorboard", metavar="FOLDER", help="write the run for TensorBoard, too")
    p.add_argument("--quiet", action="store_true", help="no progress display")
    add_json(p)


def _run(arguments):
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
    if not arguments.json:
        print(_describe(run), flush=True)
    callbacks = [train.TensorBoard(arguments.tensorboard)] if arguments.tensorboard else []
    if arguments.trajectory:
        callbacks.append(runs.Trajectory(folder / runs.TRAJECTORY))
    history = run.fit(folder, resume=arguments.resume, progress=not arguments.quiet, callbacks=callbacks)
    picture = draw(folder / runs.TRAINING, history, title=title(run))
    if arguments.json:
        print_json(_as_json(run, history, folder))
    else:
        _say(run, history, folder, picture, arguments.data)
    return 130 if history.interrupted else 0


def _say(run, history, folder, picture, data):
    """What came of it, and what to do next."""
    print(_result(run, history))
    print(f"written: {folder}/ with {runs.CONFIG}, {runs.CHECKPOINT}, {runs.HISTORY}{picture}")
    if history.interrupted:
        print(f"interrupted after step {len(history.steps['loss'])}; "
              f"to continue: optcore train {data} --out {folder} --resume")
    else:
        print(f"why did it stop?  optcore diagnose {folder}")


def _as_json(run, history, folder):
    """The settings, and the last figures of the history."""
    last = {name: values[-1] for name, values in history.epochs.items() if values}
    picture = folder / runs.TRAINING
    return {"settings": dataclasses.asdict(run.settings), "parameters": run.net.theta.size,
            "epochs": len(history.epochs["loss"]), "steps": len(history.steps["loss"]), **last,
            "seconds": sum(history.epochs["seconds"]), "interrupted": history.interrupted, "run": str(folder),
            "picture": str(picture) if picture.exists() else None}


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
