"""The report as one HTML file that needs no network and no script."""

import base64
import html
import math
from pathlib import Path

from optcore.plot import style
from optcore.report import pictures

_STYLE = """
:root { color-scheme: light dark; --ink: #22272e; --soft: #667085; --line: #dfe3e8; --card: #fff; --page: #f6f7f9;
  --mark: #1f4e8c; --warm: #d1662b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #343b45; --card: #1d2229;
  --page: #14181d; --mark: #7fb0ee; --warm: #f0955f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.15rem; font-weight: 600; margin: 0 0 1rem; color: var(--soft); overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
section.verdict { background: var(--card); border: 1px solid var(--line); border-left: .4rem solid var(--mark);
  border-radius: .5rem; padding: 1rem 1.2rem; }
.verdict p { margin: .4rem 0; } .verdict .name { font-size: 1.7rem; font-weight: 700; color: var(--mark); }
.verdict .sure { color: var(--soft); margin-left: .6rem; font-size: 1rem; font-weight: 400; }
.remedy { border-left: .25rem solid var(--warm); padding-left: .8rem; margin-top: .8rem !important; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; color: var(--soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; background: #fff; color: #22272e; border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem; break-inside: avoid; } figure.wide { grid-column: 1 / -1; }
figure img { width: 100%; height: auto; max-height: 32rem; object-fit: contain; display: block; }
figcaption { font-size: .9rem; margin-bottom: .4rem; } figcaption b { display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; background: var(--card); font-size: .92rem; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; } td.note, footer, .soft { color: var(--soft); }
footer { margin-top: 2rem; font-size: .85rem; }
@media print { body { background: #fff; } main { max-width: none; padding: 0; } }
"""


def write(path, study, history, *, title, size, tau=0.0, facts=()):
    """Write the report to a file.

    Parameters
    ----------
    path : str or path
    study : Study
    history : History
    title : str
    size : int
        Number of parameters.
    tau : float
        Eigenvalues within +-tau count as zero.
    facts : sequence of (str, str)
        Further rows of what was trained: name and value.

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed.
    """
    d = study.diagnosis
    body = [f"<h1>{_text(title)}</h1>", _verdict(d), _causes(d), "<h2>Pictures</h2>", '<div class="grid">',
            *(_figure(*row) for row in _pictures(study, history, size, tau) if row[2] is not None), "</div>",
            _evidence(d), _missing(d), _facts(facts)]
    page = (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_text(d.verdict)} - {_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
            + "\n".join(filter(None, body)) + "\n</main>\n</body>\n</html>\n")
    Path(path).write_text(page, encoding="utf-8")


def _pictures(study, history, size, tau):
    """(title, caption, figure or None, whether it is wide) of each."""
    yield "Training", "Loss, gradient norm and learning rate: a loss that rests need not mean a small gradient.", \
        pictures.training(history), False
    yield "The loss on a plane", "Across the directions of the largest and the smallest curvature.", \
        pictures.plane(study), False
    yield "The loss along directions", "The loss itself beside the second-order model at theta.", \
        pictures.lines(study), True
    yield "What a step gains and loses", "By the rule, at its rate, with its batches.", \
        pictures.shares(study.diagnosis), False
    yield "The gradient, layer by layer", "How much of it arrives.", pictures.layers(study), False
    yield "The ends of the spectrum", "Eigenvalues of the Hessian.", pictures.eigenvalues(study, size, tau), False
    yield "The density of the spectrum", "By stochastic Lanczos quadrature.", pictures.density(study), False


def _figure(title, caption, figure, wide):
    data = base64.b64encode(style.svg(figure).encode()).decode()
    return (f'<figure{" class=wide" if wide else ""}><figcaption><b>{_text(title)}</b>{_text(caption)}</figcaption>'
            f'<img alt="{_text(title)}" src="data:image/svg+xml;base64,{data}"></figure>')


def _verdict(d):
    sure = "" if d.verdict == "undetermined" else f'<span class="sure">confidence {d.confidence:.2g}</span>'
    return (f'<section class="verdict"><p class="name">{_text(d.verdict.replace("_", " "))}{sure}</p>'
            f"<p>{_text(d.to_dict()['meaning'])}</p><p>{_text(_sentence(d.causes[0].reason))}</p>"
            f'<p class="remedy"><b>What to do.</b> {_text(_sentence(d.remedy))}</p></section>')


def _causes(d):
    if len(d.causes) < 2:
        return ""
    rows = "".join(f"<dt>{_text(c.name.replace('_', ' '))} ({c.confidence:.2g})</dt><dd>{_text(c.reason)}</dd>"
                   for c in d.causes[1:])
    return f"<h2>What also holds</h2><dl>{rows}</dl>"


def _evidence(d):
    rows = "".join(f'<tr><td>{_text(name)}</td><td class="number">{_text(_number(q.value))}</td>'
                   f'<td class="number">{_text(_interval(q))}</td><td class="note">{_text(q.note)}</td></tr>'
                   for name, q in d.evidence.items())
    return ('<h2>Evidence</h2><div class="scroll"><table><thead><tr><th>quantity</th><th>value</th><th>interval</th>'
            f"<th>how</th></tr></thead><tbody>{rows}</tbody></table></div>")


def _missing(d):
    rows = "".join(f"<li>{_text(item)}</li>" for item in d.missing)
    return f"<h2>Not measured, and could change the verdict</h2><ul>{rows}</ul>" if rows else ""


def _facts(facts):
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in facts)
    return f'<h2>What was trained</h2><div class="scroll"><table><tbody>{rows}</tbody></table></div>' if rows else ""


def _interval(q):
    return "" if q.low == q.high or not (math.isfinite(q.low) or math.isfinite(q.high)) else (
        f"{_number(q.low)} to {_number(q.high)}")


def _number(value):
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _sentence(text):
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def _text(value):
    return html.escape(str(value))
