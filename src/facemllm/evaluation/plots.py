"""Plots of a report: confusion matrices, predicted against labelled numbers, and bars by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facemllm.evaluation.extras import need

if TYPE_CHECKING:
    from facemllm.evaluation.report import Report

_MOST_BARS = 24
_LINE, _DOT, _BAR = "#888888", "#1f6f8b", "#99c2cc"


def draw_all(report: Report, folder: Path) -> list[str]:
    """Draw every plot into ``folder/plots`` and return the file names.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    drawn = []
    for name, task in report.tasks.items():
        answers = (
            (r.truth, r.prediction)
            for r in report.records
            if r.task == name and not r.head and r.outcome == "answer"
        )
        if "confusion" in task:
            drawn.append(_save(_confusion(name, task), plots, f"{name}_confusion.png"))
        if name == "age" and "mae" in task:
            drawn.append(_save(_scatter("age", "years", list(answers)), plots, "age_scatter.png"))
        if name == "pose":
            poses = list(answers)
            for axis in ("pan", "tilt"):
                drawn.append(
                    _save(_scatter(axis, "degrees", _angles(poses, axis)), plots, f"pose_{axis}_scatter.png")
                )
        for column, found in task.get("by_group", {}).get("columns", {}).items():
            shown = {group: cell for group, cell in found["groups"].items() if "value" in cell}
            if " x " not in column and 1 < len(shown) <= _MOST_BARS:
                figure = _bars(f"{name} by {column}", task["by_group"], shown)
                drawn.append(_save(figure, plots, f"{name}_by_{column}.png"))
    return drawn


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # A figure of its own and no pyplot: no window system is needed and no global state is left behind.
    figure = need("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")
    need("matplotlib.backends.backend_agg", "plots").FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, folder: Path, name: str) -> str:
    figure.savefig(folder / name, dpi=110)
    return name


def _confusion(name: str, task: dict[str, Any]) -> Any:
    counts = np.asarray(task["confusion"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    columns = task["labels"]
    rows = columns[: len(counts)]
    figure, axes = _figure(1.8 + 0.75 * len(columns), 1.4 + 0.6 * len(rows))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    axes.set_title(f"{name}: per cent of each label")
    for row, column in np.ndindex(*shares.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", color=colour)
    return figure


def _scatter(name: str, unit: str, pairs: Sequence[tuple[float, float]]) -> Any:
    figure, axes = _figure(5, 5)
    if pairs:
        truth, predicted = np.asarray(pairs, dtype=float).T
        axes.scatter(truth, predicted, s=8, alpha=0.35, color=_DOT, linewidths=0)
        low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
        axes.plot([low, high], [low, high], color=_LINE, linewidth=1)
    axes.set_xlabel(f"label ({unit})")
    axes.set_ylabel(f"answer ({unit})")
    axes.set_title(f"{name}, n = {len(pairs)}")
    return figure


def _bars(title: str, by_group: dict[str, Any], shown: dict[str, Any]) -> Any:
    figure, axes = _figure(6.5, 1.2 + 0.34 * len(shown))
    for position, cell in enumerate(shown.values()):
        axes.barh(position, cell["value"], color=_BAR)
        if cell["interval"]:
            axes.plot(cell["interval"], [position, position], color="black", linewidth=1.2)
        axes.text(0, position, f" n = {cell['n']}", va="center", fontsize=8)
    axes.axvline(by_group["overall"], color=_LINE, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.set_xlabel(f"{by_group['metric']} (line: overall; black: 95 % interval)")
    axes.set_title(title)
    return figure


def _angles(poses: Sequence[tuple[Any, Any]], axis: str) -> list[tuple[float, float]]:
    return [(truth[axis], said[axis]) for truth, said in poses if axis in said]
