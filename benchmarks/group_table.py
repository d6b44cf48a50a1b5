"""How good the built-in model is for whom: the model card's table by perceived group.

It is made by ``python -m benchmarks.table`` from the groups of ``results/DATASET/report.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "age_bin": "age group, as labelled",
    "gender": "perceived gender",
    "ethnicity": "perceived ethnicity",
}
UNITS = {"accuracy": "% right", "mae": "years off"}


def group_table(name: str, report: Mapping[str, Any]) -> str:
    """Return each task's score and interval by group, a line a group, and the widest gap of each column.

    Args:
        name: Of the dataset and its part.
        report: As ``facemllm evaluate`` writes it.

    Example:
        >>> cell = {"n": 40, "value": 0.9, "interval": [0.8, 0.95]}
        >>> gender = {"groups": {"female": cell, "male": cell | {"n": 3, "suppressed": True}}, "gap": None}
        >>> groups = {"metric": "accuracy", "columns": {"gender": gender}}
        >>> print(group_table("Faces", {"tasks": {"gender": {"by_group": groups}}}).splitlines()[2])
        | perceived gender | female | 40 | 90.0 (80.0 to 95.0) |
    """
    tasks = {task: one["by_group"] for task, one in report["tasks"].items() if one.get("by_group")}
    head = [name, "group", "n", *(f"{task}, {UNITS[one['metric']]}" for task, one in tasks.items())]
    lines = [head, ["---", "---", "---:", *["---:"] * len(tasks)]]
    for column, title in COLUMNS.items():
        of_tasks = {
            task: one["columns"][column] for task, one in tasks.items() if column in one.get("columns", {})
        }
        groups = {group: cell for one in of_tasks.values() for group, cell in one["groups"].items()}
        for group in sorted(groups, key=_order):
            cells = [
                _cell(of_tasks.get(task, {"groups": {}})["groups"].get(group), one["metric"])
                for task, one in tasks.items()
            ]
            lines.append([title, group, f"{groups[group]['n']:,}", *cells])
            title = ""
        gaps = [_gap(of_tasks.get(task, {}).get("gap"), one["metric"]) for task, one in tasks.items()]
        if any(gaps):
            lines.append(["", "*widest gap*", "", *gaps])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _order(group: str) -> tuple[int, str]:
    digits = group.split("-")[0].rstrip("+")
    return (int(digits) if digits.isdigit() else 0, group)


def _cell(cell: Mapping[str, Any] | None, metric: str) -> str:
    if cell is None:
        return ""
    if cell.get("suppressed"):
        return "too few"
    return f"{_number(cell['value'], metric)} {_span(cell['interval'], metric)}"


def _gap(gap: Mapping[str, Any] | None, metric: str) -> str:
    return "" if gap is None else f"{_number(gap['value'], metric)} {_span(gap['interval'], metric)}"


def _number(value: float, metric: str) -> str:
    return f"{100 * value:.1f}" if metric == "accuracy" else f"{value:.2f}"


def _span(interval: list[float], metric: str) -> str:
    return f"({_number(interval[0], metric)} to {_number(interval[1], metric)})"
