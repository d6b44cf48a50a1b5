"""The report as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from facemllm.evaluation.groups import SMALLEST

SHARES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "within_one_bin",
    "cs5",
    "bin_accuracy",
    "accuracy_all",
)
HEADLINE = (
    "accuracy",
    "balanced_accuracy",
    "mae",
    "mae_pan",
    "mae_tilt",
    "geodesic",
    "within_one_bin",
    "cs5",
)
_INTRODUCTION = (
    "{faces}; {unreadable} pictures could not be read; in {no_face} the model found no face and took "
    "the whole picture. Metrics are over the answers that could be read, with 95 % intervals (bootstrap; "
    "Wilson's where everything or nothing is right); "
    "mae is the mean absolute error in years or degrees, everything else is in per cent."
)
_MEANINGS = {
    "mae_pan": "mae pan, mae tilt: mean absolute error of each angle",
    "geodesic": "geodesic: mean angle between the poses answered and labelled",
    "within_one_bin": "within one bin: share of ages in the right age group or its neighbour",
    "cs5": "cs5: share of ages that are at most five years off",
}
VARIANTS = {
    "head": "linear head",
    "likelihood": "likeliest option",
    "without_copies": "without copies of training pictures",
}
OUTCOMES = ("n", "answered", "refused", "unparsed", "ambiguous", "wrong_type")


def introduction(summary: Mapping[str, Any]) -> str:
    """Return what a reader of the tables must know."""
    whole = summary.get("drawn_from")
    faces = f"{summary['samples']} of {whole} faces, drawn by a hash of their ids" if whole else ""
    return _INTRODUCTION.format(
        faces=faces or f"{summary['samples']} faces",
        unreadable=summary["unreadable"]["n"],
        no_face=summary["no_face"],
    )


def render_markdown(summary: Mapping[str, Any], plots: Sequence[str] = ()) -> str:
    """Return a report as Markdown."""
    config = summary["config"]
    where = f"{summary['dataset']}, split {summary['split']}" if summary["split"] else summary["dataset"]
    parts = [
        f"# {config['model']} on {where}",
        introduction(summary),
        *(f"> **Warning.** {text}" for text in summary.get("warnings", ())),
        markdown_table(
            ("task", *OUTCOMES),
            ([name, *(task[key] for key in OUTCOMES)] for name, task in summary["tasks"].items()),
        ),
        _headlines(summary["tasks"]),
        meanings(summary["tasks"]),
    ]
    for name, task in summary["tasks"].items():
        parts += _task(name, task)
        parts += [f"![{plot}](plots/{plot})" for plot in plots if plot.startswith(f"{name}_")]
    parts.append(_versions(summary))
    return "\n\n".join(part for part in parts if part) + "\n"


def _headlines(tasks: Mapping[str, Any]) -> str:
    used = [key for key in HEADLINE if any(key in task for task in tasks.values())]
    rows = []
    for name, task in tasks.items():
        rows.append([name, *(cell(task, key) for key in used)])
        for key, what in VARIANTS.items():
            if task.get(key):
                rows.append([f"{name} ({what})", *(cell(task[key], metric) for metric in used)])
    return markdown_table(("task", *(key.replace("_", " ") for key in used)), rows)


def meanings(tasks: Mapping[str, Any]) -> str:
    """Return what those metrics of the headlines mean whose names do not say it."""
    said = [text for key, text in _MEANINGS.items() if any(key in task for task in tasks.values())]
    return f"{'; '.join(said)}." if said else ""


def cell(task: Mapping[str, Any], key: str) -> str:
    """Return a metric with its interval, as a report prints it."""
    value = task.get(key)
    if value is None:
        return ""
    bounds = task.get("intervals", {}).get(key)
    return number(key, value) + (f" ({number(key, bounds[0])} to {number(key, bounds[1])})" if bounds else "")


def number(key: str, value: float) -> str:
    """Return a value of a metric: shares in per cent, everything else as it is."""
    return f"{100 * value:.1f}" if key in SHARES else f"{value:.2f}"


def _task(name: str, task: Mapping[str, Any]) -> Iterable[str]:
    yield f"## {name}"
    yield from task.get("notes", ())
    if "per_attribute" in task:
        rows = (
            [attribute, one["n"], cell(one, "accuracy"), cell(one, "balanced_accuracy")]
            for attribute, one in task["per_attribute"].items()
        )
        yield markdown_table(("attribute", "n", "accuracy", "balanced accuracy"), rows)
    if "confusion" in task:
        yield "Rows: label; columns: answer."
        yield markdown_table(
            ("", *task["labels"]),
            ([label, *row] for label, row in zip(task["labels"], task["confusion"], strict=False)),
        )
    by_group = task.get("by_group")
    if by_group and by_group["columns"]:
        yield f"### {name}: {by_group['metric']} by group, as the dataset perceives people"
        for column, found in by_group["columns"].items():
            yield _groups(column, by_group["metric"], found)


def _groups(column: str, metric: str, found: Mapping[str, Any]) -> str:
    rows = []
    for group, one in found["groups"].items():
        if one.get("suppressed"):
            rows.append([group, one["n"], f"(fewer than {SMALLEST})"])
        else:
            rows.append(
                [
                    group,
                    one["n"],
                    cell({metric: one["value"], "intervals": {metric: one["interval"]}}, metric),
                ]
            )
    table = markdown_table((column, "n", metric), rows)
    gap = found["gap"]
    if gap is None:
        return table
    word = "more than chance" if gap["significant"] else "within chance"
    low, high = (number(metric, bound) for bound in gap["interval"])
    return (
        f"{table}\n\nGap between {gap['best']} and {gap['worst']}: {number(metric, gap['value'])} "
        f"({low} to {high}, allowing for the number of pairs): {word}."
    )


def _versions(summary: Mapping[str, Any]) -> str:
    rows = [
        ["parser", summary["config"]["parser_version"]],
        *([k, v] for k, v in summary["versions"].items()),
    ]
    return "## Versions\n\n" + markdown_table(("what", "version"), rows)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
