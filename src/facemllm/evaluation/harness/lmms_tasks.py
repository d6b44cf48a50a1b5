"""Our tasks as task files of lmms-eval: YAML and JSON lines in, our own scores out.

lmms-eval finds the files by ``--include_path`` and imports the functions below by their names, so nothing
needs to be copied into it and nothing is downloaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import ConfigError
from facemllm.data import FaceSample
from facemllm.evaluation.harness.rows import MAX_NEW_TOKENS, make_rows, score_rows
from facemllm.evaluation.parsing import PARSER_VERSION
from facemllm.evaluation.tasks import EvalTask

TASK_VERSION = 1
"""Raised when a task file asks or scores differently."""

METRICS = {
    "years": ("mae", "cs5", "answered"),
    "age_bin": ("accuracy", "within_one_bin", "answered"),
    "pose": ("mae_pan", "mae_tilt", "mae", "answered"),
    "classes": ("accuracy", "balanced_accuracy", "macro_f1", "answered"),
    "attributes": ("accuracy", "balanced_accuracy", "answered"),
}
"""What lmms-eval prints for each kind of task."""

_HERE = "facemllm.evaluation.harness.lmms_tasks"
_FILE = """# Written by `facemllm harness lmms-eval`; {count} questions about {faces} faces.
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.jsonl
test_split: test
output_type: generate_until
doc_to_visual: !function {here}.picture
doc_to_text: question
doc_to_target: answer
generation_kwargs:
  max_new_tokens: {tokens}
  do_sample: false
  temperature: 0
  until: []
process_results: !function {here}.keep
metric_list:
{metrics}
metadata:
  version: {version}
  parser: {parser}
"""
_METRIC = """  - metric: {metric}
    aggregation: !function {here}.{metric}
    higher_is_better: {higher}"""


def write_lmms_tasks(
    samples: Iterable[FaceSample],
    tasks: Sequence[EvalTask],
    folder: str | Path,
    *,
    prefix: str = "facemllm",
) -> list[str]:
    """Write task files for lmms-eval and return the names of the tasks.

    Each task becomes ``NAME.yaml`` and ``NAME.jsonl``; ``PREFIX.yaml`` groups them under the prefix, where
    there are several. Pictures are referred to by path.

    Args:
        samples: Labelled faces of one dataset.
        tasks: What to ask about them, from :func:`facemllm.evaluation.supported_tasks`.
        folder: Made if missing; pass it to lmms-eval as ``--include_path``.
        prefix: Beginning of the names; letters, digits, dots, dashes and underscores.

    Raises:
        ConfigError: If the prefix cannot be part of a name, or there are no tasks.
    """
    if not re.fullmatch(r"[\w.-]+", prefix) or not tasks:
        raise ConfigError(
            "cannot write tasks for lmms-eval",
            given=f"prefix {prefix!r}, {len(tasks)} tasks",
            expected="a prefix of letters, digits, dots, dashes and underscores, and at least one task",
            do="choose another prefix, or a dataset with labels",
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    samples, names = list(samples), []
    for task in tasks:
        rows = list(make_rows(samples, task))
        name = f"{prefix}_{task.name}"
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        text = _FILE.format(
            name=name,
            count=len(rows),
            faces=len({row["id"] for row in rows}),
            here=_HERE,
            tokens=MAX_NEW_TOKENS,
            metrics="\n".join(_metric(metric) for metric in metrics_of(task)),
            version=TASK_VERSION,
            parser=PARSER_VERSION,
        )
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        names.append(name)
    if len(names) > 1:
        group = f"group: {prefix}\ntask:\n" + "".join(f"  - {name}\n" for name in names)
        (folder / f"{prefix}.yaml").write_text(group, encoding="utf-8")
    return names


def metrics_of(task: EvalTask) -> tuple[str, ...]:
    """Return the metrics of a task that lmms-eval prints."""
    kind = {"age": "years", "age_bin": "age_bin", "pose": "pose", "attributes": "attributes"}
    return METRICS[kind.get(task.label, "classes")]


def _metric(metric: str) -> str:
    higher = "false" if metric.startswith("mae") else "true"
    return _METRIC.format(metric=metric, here=_HERE, higher=higher)


# --- what lmms-eval calls


def picture(doc: Mapping[str, Any]) -> list[Any]:
    """Return the picture of a row, as our own evaluation loads it."""
    from facemllm.processing.image import load_image

    return [load_image(doc["image"])]


def keep(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Put an answer beside its row, for every metric of the task: scores are of all answers together."""
    from facemllm.evaluation.harness.rows import task_of

    answered = {"row": dict(doc), "text": results[0]}
    return dict.fromkeys(metrics_of(task_of(doc)), answered)


def _aggregation(metric: str) -> Callable[[Sequence[Mapping[str, Any]]], float]:
    def aggregate(results: Sequence[Mapping[str, Any]]) -> float:
        summary = score_rows([(one["row"], one["text"]) for one in results])
        value = summary["shares"]["answered"] if metric == "answered" else summary.get(metric)
        return math.nan if value is None else float(value)

    aggregate.__name__ = metric
    aggregate.__doc__ = f"Return {metric} over all answers, as our own report has it."
    return aggregate


mae = _aggregation("mae")
mae_pan = _aggregation("mae_pan")
mae_tilt = _aggregation("mae_tilt")
cs5 = _aggregation("cs5")
accuracy = _aggregation("accuracy")
balanced_accuracy = _aggregation("balanced_accuracy")
macro_f1 = _aggregation("macro_f1")
within_one_bin = _aggregation("within_one_bin")
answered = _aggregation("answered")
