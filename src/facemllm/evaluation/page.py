"""The report as one page of HTML that needs nothing beside it: no script, no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemllm.evaluation import charts
from facemllm.evaluation.groups import SMALLEST
from facemllm.evaluation.markdown import (
    HEADLINE,
    OUTCOMES,
    SHARES,
    VARIANTS,
    cell,
    introduction,
    meanings,
    number,
)
from facemllm.evaluation.sheet import Faces, render_sheet

if TYPE_CHECKING:
    from facemllm.evaluation.records import Record

# The policy forbids every request, whatever a label or an answer holds.
_STYLE = Path(__file__).parent / "data" / "report.css"
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,"><title>{title}</title><style>
{style}</style></head><body>"""
_FOOT = (
    '<p class="note">Groups are as annotators perceived them. A score is of this dataset, these questions and'
    " this parser; it says nothing about people whom the dataset does not contain.</p></body></html>\n"
)


def head(title: str) -> str:
    """Return the beginning of a page."""
    return _HEAD.format(title=escape(title), style=_STYLE.read_text(encoding="utf-8"))


def render_html(
    summary: Mapping[str, Any], records: Sequence[Record] = (), *, faces: Faces = "blurred"
) -> str:
    """Return a report as a page.

    Args:
        summary: The report's numbers.
        records: Every answer, for scatters and the sheet of the worst.
        faces: "blurred", "shown", or "none" for no pictures at all.
    """
    config = summary["config"]
    where = f"{summary['dataset']}, split {summary['split']}" if summary["split"] else str(summary["dataset"])
    title = f"{config['model']} on {where}"
    parts = [
        head(title),
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(introduction(summary))}</p>",
        *(f'<p class="box warn">{escape(text)}</p>' for text in summary.get("warnings", ())),
    ]
    parts.append(
        "<nav>" + "".join(f'<a href="#{escape(n)}">{escape(n)}</a>' for n in summary["tasks"]) + "</nav>"
    )
    parts.append(
        table(("task", *OUTCOMES), ([n, *(t[key] for key in OUTCOMES)] for n, t in summary["tasks"].items()))
    )
    parts.append(_headlines(summary["tasks"]))
    if said := meanings(summary["tasks"]):
        parts.append(f'<p class="note">{escape(said)}</p>')
    for name, task in summary["tasks"].items():
        parts += _task(name, task, records, faces)
    rows = [["parser", config["parser_version"]], *map(list, summary["versions"].items())]
    asked = [[task, question] for task, texts in config["questions"].items() for question in texts]
    parts.append("<h2>What this rests on</h2>" + folded("Versions", table(("what", "version"), rows)))
    parts.append(folded("Questions", table(("task", "question"), asked)))
    parts.append(_FOOT)
    return "\n".join(part for part in parts if part)


def folded(summary: str, body: str) -> str:
    """Return what opens when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table that scrolls on its own where the window is narrow."""
    heads = "".join(f"<th>{escape(str(name)).replace('_', ' ')}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _headlines(tasks: Mapping[str, Any]) -> str:
    used = [key for key in HEADLINE if any(key in task for task in tasks.values())]
    rows = []
    for name, task in tasks.items():
        rows.append([name, *(cell(task, key) for key in used)])
        for key, what in VARIANTS.items():
            if task.get(key):
                rows.append([f"{name} ({what})", *(cell(task[key], metric) for metric in used)])
    return table(("task", *used), rows)


def _task(name: str, task: Mapping[str, Any], records: Sequence[Record], faces: Faces) -> Iterator[str]:
    yield f'<h2 id="{escape(name)}">{escape(name)}</h2>'
    yield from (f'<p class="note">{escape(note)}</p>' for note in task.get("notes", ()))
    if "protocol" in task:
        parts = {part: task["protocol"][part] for part in ("seen", "unseen")}
        rows = ([p, o["n"], cell(o, "accuracy"), cell(o, "balanced_accuracy")] for p, o in parts.items())
        yield table(("attributes", "n", "accuracy", "balanced accuracy"), rows)
    if "confusion" in task:
        drawn = charts.confusion(task["labels"], task["confusion"])
        yield f"<h3>Confusion, per cent of each label</h3>{drawn}"
    yield from _scatters(name, task, records)
    if "likelihood" in task:
        yield _calibration(task["likelihood"]["calibration"])
    if "per_attribute" in task:
        rows = (
            [a, one["n"], cell(one, "accuracy"), cell(one, "balanced_accuracy")]
            for a, one in task["per_attribute"].items()
        )
        yield folded("Each attribute", table(("attribute", "n", "accuracy", "balanced accuracy"), rows))
    for key, title in (("by_group", "by group"), ("answered_by_group", "share answered, by group")):
        found = task.get(key) or {}
        columns = found.get("columns", {}) if key == "by_group" else found
        metric = found.get("metric", "accuracy") if key == "by_group" else "accuracy"
        overall = found.get("overall", 0.0) if key == "by_group" else task["shares"]["answered"] or 0.0
        for column, one in columns.items():
            yield _groups(
                f"{metric if key == 'by_group' else ''} {title}: {column}",
                metric,
                overall,
                one,
                " x " in column,
            )
    sheet = render_sheet(records, name, faces)
    if sheet:
        blurred = {"blurred": " (faces blurred)", "shown": "", "none": ""}[faces]
        yield f"<h3>Answers that were most wrong{blurred}</h3>{sheet}"


def _scatters(name: str, task: Mapping[str, Any], records: Sequence[Record]) -> Iterator[str]:
    own = (
        (r.truth, r.prediction) for r in records if r.task == name and not r.head and r.outcome == "answer"
    )
    if name == "age" and "mae" in task:
        drawn_years = charts.scatter(list(own), "years")
        yield f"<h3>Answers against labels</h3>{drawn_years}"
    if name == "pose":
        drawn, poses = [], list(own)
        for axis in ("pan", "tilt"):
            pairs = [(truth[axis], said[axis]) for truth, said in poses if axis in truth and axis in said]
            drawn.append(f"<div><b>{axis}</b>{charts.scatter(pairs, 'degrees')}</div>")
        yield f'<h3>Answers against labels</h3><div class="side">{"".join(drawn)}</div>'


def _calibration(found: Mapping[str, Any]) -> str:
    return (
        f"<h3>Calibration of option likelihoods</h3><p>Expected calibration error {cell(found, 'ece')}; mean "
        f"confidence {found['confidence']:.3f}, share right {found['accuracy']:.3f}, Brier score "
        f"{found['brier']:.3f}, n {found['n']}.</p>{charts.reliability(found['reliability'])}"
    )


def _groups(title: str, metric: str, overall: float, found: Mapping[str, Any], small: bool) -> str:
    few = [group for group, one in found["groups"].items() if one.get("suppressed")]
    drawn = charts.bars(found["groups"], overall, metric in SHARES) if len(few) < len(found["groups"]) else ""
    gap, said = found["gap"], ""
    if gap:
        low, high = (number(metric, bound) for bound in gap["interval"])
        word = '<span class="warn">more than chance</span>' if gap["significant"] else "within chance"
        said = f"<p>Gap between {escape(gap['best'])} and {escape(gap['worst'])}: "
        said += (
            f"{number(metric, gap['value'])} ({low} to {high}, allowing for the number of pairs): {word}.</p>"
        )
    hidden = f'<p class="note">Fewer than {SMALLEST} answers: {escape(", ".join(few))}.</p>' if few else ""
    body = f"{drawn}{said}{hidden}"
    if small:
        return folded(title, body)
    return f"<h3>{escape(title)}</h3>{body}"
