"""A task as rows that any harness can carry: a picture, a question, and what is needed to score the answer.

Rows hold nothing but texts, so that they survive JSON lines, TSV and parquet. The harness asks; the answers
come back beside their rows and are scored by the code that scores our own evaluations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.data import FaceSample, render
from facemllm.evaluation.metrics import Result
from facemllm.evaluation.records import Record, read_answer, summarise
from facemllm.evaluation.tasks import EvalTask, Question

Row = dict[str, str]

MAX_NEW_TOKENS = 32
"""Longest answer that harnesses are told to ask for: that of :meth:`FaceMLLM.ask`."""

_SPEC = ("name", "label", "parser", "classes")


def make_rows(samples: Iterable[FaceSample], task: EvalTask) -> Iterator[Row]:
    """Yield a row for every question of a task about every labelled face, in the order of the dataset.

    Args:
        samples: Labelled faces.
        task: What is asked, from :func:`facemllm.evaluation.supported_tasks`.

    Example:
        >>> from facemllm.evaluation import supported_tasks
        >>> face = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
        >>> row = next(make_rows([face], *supported_tasks([face])[:1]))
        >>> row["question"], row["answer"]
        ('How old is this person?', '34')
    """
    spec = json.dumps({key: getattr(task, key) for key in _SPEC}, ensure_ascii=False)
    for sample in samples:
        for question in task.questions:
            truth = task.truth(sample, question)
            if truth is not None:
                yield {
                    "id": sample.id,
                    "image": str(Path(sample.image).absolute()),
                    "question": question.text,
                    "answer": truth if question.attribute else render(task.label, truth),
                    "attribute": question.attribute or "",
                    "label": json.dumps(truth, ensure_ascii=False),
                    "person": sample.identity or "",
                    "groups": json.dumps(sample.groups, ensure_ascii=False),
                    "task": spec,
                }


def score_rows(answered: Sequence[tuple[Mapping[str, Any], str]]) -> Result:
    """Return what a report says about a task, from rows and the texts that were answered.

    Raises:
        DatasetError: If there are no rows, or they are of several tasks.
    """
    specs = {row["task"] for row, _ in answered}
    if len(specs) != 1:
        raise DatasetError(
            "cannot score these answers",
            given=f"{len(answered)} answers to {len(specs)} tasks",
            expected="answers to the questions of one task",
            do="score each task by itself",
        )
    return summarise(task_of(answered[0][0]), [record_of(row, text) for row, text in answered])


def task_of(row: Mapping[str, Any]) -> EvalTask:
    """Return the task that a row is of, without its questions."""
    spec = json.loads(row["task"])
    return EvalTask(spec["name"], spec["label"], spec["parser"], (), tuple(spec["classes"]))


def record_of(row: Mapping[str, Any], text: str) -> Record:
    """Return the record of an answer to a row."""
    return read_answer(
        task_of(row),
        text,
        sample=str(row["id"]),
        question=Question(row["question"], row["attribute"] or None),
        truth=json.loads(row["label"]),
        cluster=str(row["person"] or row["id"]),
        groups=json.loads(row["groups"]),
    )
