"""The report as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from facemllm.evaluation.groups import SMALLEST

_SHARES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "within_one_bin",
    "cs5",
    "bin_accuracy",
    "accuracy_all",
)
_HEADLINE = ("accuracy", "balanced_accuracy", "mae", "mae_pan", "mae_tilt", "within_one_bin", "cs5")
_INTRODUCTION = (
    "{faces} faces; {unreadable} pictures could not be read; in {no_face} the model found no face and took "
    "the whole picture. Metrics are over the answers that could be read, with 95 % bootstrap intervals; "
    "mae is the mean absolute error in years or degrees, everything else is in per cent."
)
_OUTCOMES = ("n", "answered", "refused", "unparsed", "ambiguous", "wrong_type")


def render_markdown(summary: Mapping[str, Any], plots: Sequence[str] = ()) -> str:
    """Return a report as Markdown."""
    config = summary["config"]
    where = f"{summary['dataset']}, split {summary['split']}" if summary["split"] else summary["dataset"]
    parts = [
        f"# {config['model']} on {where}",
        _INTRODUCTION.format(
            faces=summary["samples"], unreadable=summary["unreadable"]["n"], no_face=summary["no_face"]
        ),
        _table(
            ("task", *_OUTCOMES),
            ([name, *(task[key] for key in _OUTCOMES)] for name, task in summary["tasks"].items()),
        ),
        _headlines(summary["tasks"]),
    ]
    for name, task in summary["tasks"].items():
        parts += _task(name, task)
        parts += [f"![{plot}](plots/{plot})" for plot in plots if plot.startswith(f"{name}_")]
    parts.append(_versions(summary))
    return "\n\n".join(part for part in parts if part) + "\n"


def _headlines(tasks: Mapping[str, Any]) -> str:
    used = [key for key in _HEADLINE if any(key in task for task in tasks.values())]
    rows = []
    for name, task in tasks.items():
        rows.append([name, *(_cell(task, key) for key in used)])
        if "head" in task:
            rows.append([f"{name} (linear head)", *(_cell(task["head"], key) for key in used)])
    return _table(("task", *(key.replace("_", " ") for key in used)), rows)


def _cell(task: Mapping[str, Any], key: str) -> str:
    value = task.get(key)
    if value is None:
        return ""
    bounds = task.get("intervals", {}).get(key)
    return _number(key, value) + (
        f" ({_number(key, bounds[0])} to {_number(key, bounds[1])})" if bounds else ""
    )


def _number(key: str, value: float) -> str:
    return f"{100 * value:.1f}" if key in _SHARES else f"{value:.2f}"


def _task(name: str, task: Mapping[str, Any]) -> Iterable[str]:
    yield f"## {name}"
    yield from task.get("notes", ())
    if "per_attribute" in task:
        rows = (
            [attribute, one["n"], _cell(one, "accuracy"), _cell(one, "balanced_accuracy")]
            for attribute, one in task["per_attribute"].items()
        )
        yield _table(("attribute", "n", "accuracy", "balanced accuracy"), rows)
    if "confusion" in task:
        yield "Rows: label; columns: answer."
        yield _table(
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
    for group, cell in found["groups"].items():
        if cell.get("suppressed"):
            rows.append([group, cell["n"], f"(fewer than {SMALLEST})"])
        else:
            rows.append(
                [
                    group,
                    cell["n"],
                    _cell({metric: cell["value"], "intervals": {metric: cell["interval"]}}, metric),
                ]
            )
    table = _table((column, "n", metric), rows)
    gap = found["gap"]
    if gap is None:
        return table
    word = "more than chance" if gap["significant"] else "within chance"
    low, high = (_number(metric, bound) for bound in gap["interval"])
    return (
        f"{table}\n\nGap between {gap['best']} and {gap['worst']}: {_number(metric, gap['value'])} "
        f"({low} to {high}, allowing for the number of pairs): {word}."
    )


def _versions(summary: Mapping[str, Any]) -> str:
    rows = [
        ["parser", summary["config"]["parser_version"]],
        *([k, v] for k, v in summary["versions"].items()),
    ]
    return "## Versions\n\n" + _table(("what", "version"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
