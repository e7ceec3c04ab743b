"""Train the digits network of `make demo` with states of every storage and write the table of docs/storage.md:
`make storage-study`.
"""

import sys
from pathlib import Path

import numpy as np

from optcore import optim, runs, schedules, train

PAGE = Path(__file__).resolve().parent / "storage.md"
STATES = ("float32", "bfloat16", "float16", "int8")
SEEDS = range(5)


def trained(state, seed):
    """Train one network; return its losses after the last epoch on what was held out and in training, and its accuracy.

    The seed decides the examples held out, the first weights, their order, and the random rounding.
    """
    run = runs.prepare(runs.Settings("digits", seed=seed))
    s = run.settings
    steps = train.steps_per_epoch(run.net, len(run.X), s.batch_size)
    opt = optim.AdamW(run.net.theta, lr=schedules.cosine_decay(s.lr, s.epochs * steps), weight_decay=s.weight_decay,
                      state_dtype=state, seed=seed, nonfinite="raise")
    history = train.fit(run.net, run.X, run.y, run.loss, opt, s.epochs, s.batch_size, seed=seed, progress=False,
                        validation=(run.X_held_out, run.y_held_out))
    return tuple(history.epochs[name][-1] for name in ("validation_loss", "loss", "validation_accuracy"))


def measure(states=STATES):
    """State -> array [seeds, 3] of what `trained` returns."""
    return {state: np.array([trained(state, seed) for seed in SEEDS]) for state in states}


def table(measured):
    """The table of the page."""
    lines = ["| states | held-out loss of seeds 0 to 4 | mean | deviation | training loss, mean | accuracy, mean |",
             "| --- | --- | --- | --- | --- | --- |"]
    for state, rows in measured.items():
        losses = " ".join(f"{x:.4f}" for x in rows[:, 0])
        lines.append(f"| {state} | {losses} | {rows[:, 0].mean():.4f} | {rows[:, 0].std(ddof=1):.4f} "
                     f"| {rows[:, 1].mean():.4f} | {rows[:, 2].mean():.2%} |")
    return "\n".join(lines)


def main():
    """Write the table between the markers of the page."""
    text = PAGE.read_text()
    begin, end = "<!-- table: make storage-study -->\n", "<!-- end of table -->"
    before, rest = text.split(begin)
    PAGE.write_text(f"{before}{begin}{table(measure())}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(table(measure()))
    else:
        main()
