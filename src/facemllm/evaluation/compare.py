"""Models side by side on the same answers: paired differences, with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facemllm.core.errors import ConfigError, DatasetError
from facemllm.evaluation import charts
from facemllm.evaluation.bootstrap import mean_interval
from facemllm.evaluation.markdown import SHARES, cell, markdown_table, number
from facemllm.evaluation.page import folded, head, table

if TYPE_CHECKING:
    from facemllm.evaluation.report import Report

Key = tuple[str, str, str]
_ERRORS = ("mae",)


@dataclass(frozen=True)
class Run:
    """A saved evaluation.

    Attributes:
        name: What it is called in the comparison.
        summary: Its ``report.json``.
        scores: (sample, task, question) to the score of the answer: 1 for right and 0 for anything else; for
            tasks measured by errors, the error (answers that could not be read are left out).
        people: Sample to who is on it.
    """

    name: str
    summary: dict[str, Any]
    scores: dict[Key, float]
    people: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found; ``result`` holds it as plain values."""

    result: dict[str, Any]

    def to_markdown(self) -> str:
        """Return the tables as Markdown."""
        return (
            "\n\n".join(
                f"## {title}\n\n{markdown_table(names, rows)}" for title, names, rows in self._tables()
            )
            + "\n"
        )

    def to_html(self) -> str:
        """Return one page that needs nothing beside it."""
        return render_comparisons([self], " and ".join(self.result["runs"]))

    def save(self, folder: str | Path) -> Path:
        """Write ``compare.json``, ``compare.md`` and ``compare.html`` and return the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.result, ensure_ascii=False, indent=2) + "\n"
        (folder / "compare.json").write_text(text, encoding="utf-8")
        (folder / "compare.md").write_text(self.to_markdown(), encoding="utf-8")
        (folder / "compare.html").write_text(self.to_html(), encoding="utf-8")
        return folder

    def _tables(self) -> list[tuple[str, Sequence[str], list[list[Any]]]]:
        found: list[tuple[str, Sequence[str], list[list[Any]]]] = []
        for task, one in self.result["tasks"].items():
            metric = one["metric"]
            rows = [
                [name, values["n"], values["answered"], values["value"]]
                for name, values in one["runs"].items()
            ]
            found.append((task, ("run", "n", "answered", metric), rows))
            pairs = [
                [
                    f"{pair['first']} - {pair['second']}",
                    pair["n"],
                    _difference(task, metric, pair),
                    pair["verdict"],
                ]
                for pair in one["differences"]
            ]
            found.append(
                (f"{task}: differences on the same questions", ("runs", "n", "difference", "verdict"), pairs)
            )
        return found


def render_comparisons(comparisons: Sequence[Comparison], title: str) -> str:
    """Return several comparisons, each of one dataset, as one page that needs nothing beside it.

    For each task a chart of all systems with their intervals, what is shown to be better than what, and the
    tables behind it.
    """
    parts = [head(title), f"<h1>{escape(title)}</h1>", f"<p>{escape(_EXPLANATION)}</p>"]
    for one in comparisons:
        result = one.result
        where = f"{result['dataset']}, split {result['split']}" if result["split"] else result["dataset"]
        parts.append(f"<h2>{escape(str(where))}</h2>")
        parts += [f'<p class="box warn">{escape(text)}</p>' for text in result["warnings"]]
        parts.append('<div class="side">')
        for task, found in result["tasks"].items():
            parts.append(f"<div>{_drawn(task, found)}</div>")
        parts.append("</div>")
        tables = "".join(
            f"<h3>{escape(name)}</h3>{table(names, rows)}" for name, names, rows in one._tables()
        )
        parts.append(folded("The numbers, and the differences on the same questions", tables))
    return "\n".join([*parts, "</body></html>\n"])


def _drawn(task: str, found: Mapping[str, Any]) -> str:
    """Return a task as a chart and a sentence for each difference that is shown."""
    metric = found["metric"]
    unit = "per cent right" if metric in SHARES else f"{_unit(task)} off, on average; less is better"
    numbers = {
        name: (one["number"], one["interval"])
        for name, one in found["runs"].items()
        if one["number"] is not None
    }
    parts = [f'<h3>{escape(task)} <span class="note">({unit})</span></h3>']
    if numbers:
        choose = min if metric in _ERRORS else max
        best = choose(numbers, key=lambda name: numbers[name][0])
        parts.append(charts.intervals(numbers, metric in SHARES, best))
    for pair in found["differences"]:
        if pair["verdict"] == _NOTHING:
            said = f"{escape(pair['first'])} and {escape(pair['second'])}: {_NOTHING}."
        else:
            better = pair["verdict"].removesuffix(" is better")
            other = pair["second"] if better == pair["first"] else pair["first"]
            gap = escape(_difference(task, metric, pair).lstrip("+-"))
            said = f"<b>{escape(better)}</b> is better than {escape(other)} by {gap.partition(' (')[0]}."
        parts.append(f'<p class="verdict">{said}</p>')
    return "".join(parts)


_NOTHING = "no difference shown"
_EXPLANATION = (
    "Differences are over the questions that both were asked. Where answers are right or wrong, one that "
    "could not be read counts as wrong; of errors in years and degrees only those count that both answered. "
    "Intervals are 95 % bootstrap over people or pictures, each drawn for both runs at once."
)


def load_run(folder: str | Path, name: str | None = None) -> Run:
    """Return a saved evaluation.

    Args:
        folder: With ``report.json`` and ``results.jsonl``, as :meth:`Report.save` writes them.
        name: What to call it; by default the model's name.

    Raises:
        DatasetError: If the files are not there, or are not of an evaluation.
    """
    folder = Path(folder)
    try:
        summary = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        answers = (folder / "results.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in answers.split("\n") if line]
        metrics = {task: _metric(one) for task, one in summary["tasks"].items()}
        scores: dict[Key, float] = {}
        people: dict[str, str] = {}
        for line in lines:
            if line.get("head"):
                continue
            people[line["id"]] = line.get("cluster", line["id"])
            score = _score(line, metrics[line["task"]])
            if score is not None:
                scores[line["id"], line["task"], line["question"]] = score
        return Run(name or str(summary["config"]["model"]), summary, scores, people)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            "not a saved evaluation",
            given=f"{folder}: {type(error).__name__}: {error}",
            expected="a folder with report.json and results.jsonl",
            do="pass the folder that `facemllm evaluate --out` wrote",
        ) from None


def run_of(report: Report, name: str | None = None) -> Run:
    """Return a report as a run, without saving it."""
    scores: dict[Key, float] = {}
    people: dict[str, str] = {}
    for record in report.records:
        if record.head:
            continue
        line = record.to_dict()
        people[record.sample] = record.cluster
        score = _score(line, _metric(report.tasks[record.task]))
        if score is not None:
            scores[record.sample, record.task, record.question.text] = score
    return Run(name or str(report.summary["config"]["model"]), report.summary, scores, people)


def compare(runs: Sequence[str | Path | Run]) -> Comparison:
    """Put evaluations of the same dataset side by side.

    Args:
        runs: Two or more folders or loaded runs.

    Raises:
        ConfigError: If there are fewer than two, or they are of different datasets.

    Example:
        >>> compare(["runs/a", "runs/b"]).save("runs/a-b")  # doctest: +SKIP
    """
    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    datasets = {(run.summary["dataset"], run.summary["split"]) for run in loaded}
    if len(loaded) < 2 or len(datasets) != 1:
        raise ConfigError(
            "cannot compare",
            given=f"{len(loaded)} runs on {', '.join(sorted(str(one) for one in datasets)) or 'nothing'}",
            expected="two or more runs on the same dataset and split",
            do="evaluate the models on the same faces",
        )
    loaded = _distinct(loaded)
    tasks = [
        task for task in loaded[0].summary["tasks"] if all(task in run.summary["tasks"] for run in loaded)
    ]
    warnings = []
    if len({run.summary["config"]["parser_version"] for run in loaded}) > 1:
        warnings.append("The runs were read by different versions of the parser.")
    warnings += [f"{run.name}: {text}" for run in loaded for text in run.summary.get("warnings", ())]
    return Comparison({
        "dataset": loaded[0].summary["dataset"], "split": loaded[0].summary["split"],
        "runs": [run.name for run in loaded], "warnings": warnings,
        "tasks": {task: _task(task, loaded) for task in tasks},
    })  # fmt: skip


def _metric(task: Mapping[str, Any]) -> str:
    """Return the metric of a task's report that is compared."""
    return str(task.get("by_group", {}).get("metric", "accuracy"))


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """Number runs of the same name."""
    names: dict[str, int] = {}
    found = []
    for run in runs:
        names[run.name] = names.get(run.name, 0) + 1
        suffix = f" ({names[run.name]})" if names[run.name] > 1 else ""
        found.append(Run(run.name + suffix, run.summary, run.scores, run.people))
    return found


def _task(task: str, runs: Sequence[Run]) -> dict[str, Any]:
    metric = _metric(runs[0].summary["tasks"][task])
    shown = {}
    for run in runs:
        one = run.summary["tasks"][task]
        shown[run.name] = {
            "n": one["n"], "answered": one["answered"], "value": cell(one, metric),
            "number": one.get(metric), "interval": one.get("intervals", {}).get(metric),
        }  # fmt: skip
    pairs = [_pair(task, metric, first, second) for first, second in combinations(runs, 2)]
    return {"metric": metric, "runs": shown, "differences": pairs}


def _pair(task: str, metric: str, first: Run, second: Run) -> dict[str, Any]:
    keys = [key for key in first.scores if key[1] == task and key in second.scores]
    gaps = np.array([first.scores[key] - second.scores[key] for key in keys])
    bounds = mean_interval(gaps, [first.people[key[0]] for key in keys]) if len(keys) else None
    value = float(gaps.mean()) if len(keys) else None
    verdict = _NOTHING
    if bounds and value is not None and (bounds.low > 0 or bounds.high < 0):
        better = first if (value > 0) != (metric in _ERRORS) else second
        verdict = f"{better.name} is better"
    return {
        "first": first.name, "second": second.name, "n": len(keys),
        "difference": None if value is None else round(value, 5),
        "interval": bounds.to_list() if bounds else None, "verdict": verdict,
    }  # fmt: skip


def _unit(task: str) -> str:
    """Return what errors of a task are measured in."""
    return "degrees" if task == "pose" else "years"


def _difference(task: str, metric: str, pair: Mapping[str, Any]) -> str:
    if pair["difference"] is None:
        return ""
    values = [pair["difference"], *(pair["interval"] or [])]
    signed = [("+" if value >= 0 else "") + number(metric, value) for value in values]
    unit = " points" if metric in SHARES else f" {_unit(task)}"
    return signed[0] + unit + (f" ({signed[1]} to {signed[2]})" if len(signed) > 1 else "")


def _score(line: Mapping[str, Any], metric: str) -> float | None:
    truth, answer = line["label"], line["prediction"]
    if metric not in _ERRORS:
        return float(line["outcome"] == "answer" and answer == truth)
    if line["outcome"] != "answer":
        return None
    if isinstance(truth, dict):
        stated = [axis for axis in answer if axis in truth]
        return float(np.mean([abs(answer[axis] - truth[axis]) for axis in stated])) if stated else None
    return abs(float(answer) - float(truth))
