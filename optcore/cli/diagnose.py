"""``optcore diagnose``: why training stopped, in the terminal, as a page and as JSON."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from optcore import diagnosis, report, runs, train
from optcore.cli.common import (
    add_json,
    add_run,
    command,
    draw,
    eigenvalues,
    in_double,
    print_json,
    restored,
    status,
    title,
    wrapped,
)

_EXAMPLE = """\
example:
  optcore diagnose out/digits
  optcore diagnose out/digits --json | jq .diagnosis.verdict
"""
_CLOSER = {"dense_limit": 2000, "max_products": 300}  # of classify: its own defaults
_POINT = ("kind", "curvature", "loss", "gradient_norm", "decrease", "near", "tau", "bounds", "confidence",
          "minimum_ratio", "minimum_ratio_interval", "zero_share", "zero_share_interval", "size", "mode", "certificate")


def add(commands):
    """Add the command to the parser."""
    p = command(commands, "diagnose", _run, "ask why the training of a run stopped", _EXAMPLE)
    add_run(p)
    p.add_argument("-k", type=eigenvalues, metavar="N", default=3,
                   help="eigenvalues from each end, at most 100 (default: 3)")
    add_json(p)


def _run(arguments):
    folder = Path(arguments.folder)
    run = restored(folder)
    with status() as say:
        say("measuring on the held-out examples")
        held_out = train.evaluate(run.net, run.X_held_out, run.y_held_out, run.loss)
        with in_double(run, arguments.mode) as (double, objective):
            theta, optimizer = double.net.theta, double.saved_optimizer()
            say("looking at the point, deciding by runs of copies")
            answer = diagnosis.diagnose(objective, theta, optimizer=optimizer, batch_size=run.settings.batch_size,
                                        history=run.history, **_CLOSER)
            say("looking along directions")
            study = report.study(objective, theta, answer, optimizer=optimizer, k=arguments.k)
        say("drawing")
        point = answer.point
        notes = _written(folder, run, study, point)
    if arguments.json:
        print_json(_as_json(run, held_out, point, study, folder))
        return
    print(_point_text(run, held_out, point, study))
    print(wrapped(f"why did training stop?  {_why(run, answer)}"))
    _show(answer)
    print("\n".join(notes))


def _written(folder, run, study, point):
    """Draw the picture and the page; return a line for each, or one that says why there is none."""
    values = np.concatenate([np.sort(pairs.values) for pairs in (study.smallest, study.largest)])
    note = draw(folder / runs.DIAGNOSIS, run.history, eigenvalues=values, size=point.size, tau=point.tau,
                title=title(run), caption=f"{point.kind}, |gradient| {point.gradient_norm:.2g}")
    if note.startswith(" ("):
        return [note.strip(" ()").replace("no picture", "no picture and no report")]
    facts = [(name.replace("_", " "), _words(value)) for name, value in dataclasses.asdict(run.settings).items()
             if value != ""]
    report.write(folder / runs.REPORT, study, run.history, title=title(run), size=point.size, tau=point.tau,
                 facts=facts)
    return [f"picture: {folder / runs.DIAGNOSIS}", f"report: {folder / runs.REPORT}"]


def _words(value):
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _why(run, answer):
    """The verdict, why, and why the run was over."""
    s, history = run.settings, run.history
    done, lr = len(history.epochs["loss"]), history.steps["lr"][-1]
    end = "it was interrupted" if history.interrupted else f"its {s.epochs} epochs were over"
    rate = f", the learning rate having fallen from {s.lr:g} to {lr:.1g}" if lr < 0.1 * s.lr else ""
    sure = "" if answer.verdict == "undetermined" else f" (confidence {answer.confidence:.2g})"
    return (f"{answer.verdict}{sure}: {answer.causes[0].reason}. It stopped after epoch {done} because {end}{rate}. "
            f"What to do: {answer.remedy}.")


def _point_text(run, held_out, point, study):
    n, statistics = len(run.X), {"train": "statistics of that set", "eval": "running statistics"}[point.mode]
    accuracy = f"  (accuracy {100 * held_out['validation_accuracy']:.2f} %)" if run.classes else ""
    lines = [f"{title(run)}, {point.size:,} parameters, after {len(run.history.steps['loss']):,} steps", "",
             f"loss                  {point.loss:.6g}  (all {n:,} training examples, batch norm with {statistics}"
             f"{', penalty included' if run.settings.l1 or run.settings.l2 else ''})",
             f"loss, held out        {held_out['validation_loss']:.6g}{accuracy}",
             f"gradient norm         {point.gradient_norm:.6g}"]
    for name, pairs, order in (("largest", study.largest, -1), ("smallest", study.smallest, 1)):
        rank = np.argsort(pairs.values)[::order]
        lines.append(f"{name + ' eigenvalues':22s}" + "".join(f"{v:<13.5g}" for v in pairs.values[rank]).rstrip())
        lines.append("  residuals           " + "".join(f"{r:<13.1e}" for r in pairs.residuals[rank]).rstrip())
    lines += [f"kind of point         {point.kind}", *(wrapped("  " + s) for s in point.certificate.splitlines()), ""]
    return "\n".join(lines)


def _show(answer):
    """The evidence: a table on a terminal that rich can draw on, else plain lines."""
    rich = _rich() if sys.stdout.isatty() else None
    if rich is None:
        print("\n".join(str(answer).splitlines()[1:]))
        return
    console, table = rich
    for name in ("evidence", "value", "interval", "how"):
        table.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
    for name, q in answer.evidence.items():
        interval = "" if q.low == q.high else f"{q.low:.3g} to {q.high:.3g}"
        table.add_row(name, f"{q.value:.4g}", interval, q.note)
    console.print(table)
    for cause in answer.causes[1:]:
        console.print(f"also {cause.name}: {cause.reason}", markup=False)
    for item in answer.missing:
        console.print(f"not measured: {item}", markup=False)


def _rich():
    try:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        return None
    return Console(), Table(box=SIMPLE, show_edge=False, pad_edge=False)


def _as_json(run, held_out, point, study, folder):
    smallest, largest = ({"values": e.values, "residuals": e.residuals} for e in (study.smallest, study.largest))
    paths = {name: str(folder / file) if (folder / file).exists() else None
             for name, file in (("picture", runs.DIAGNOSIS), ("report", runs.REPORT))}
    return {"why": _why(run, study.diagnosis), "diagnosis": study.diagnosis.to_dict(),
            **{name: getattr(point, name) for name in _POINT}, "smallest": smallest, "largest": largest, **held_out,
            "steps": len(run.history.steps["loss"]), "interrupted": run.history.interrupted, **paths}
