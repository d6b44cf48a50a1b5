"""Answers beside labels, and the summary of a task over all its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facemllm.evaluation.bootstrap import mean_interval, share_interval
from facemllm.evaluation.groups import group_table
from facemllm.evaluation.metrics import Result
from facemllm.evaluation.parsing import Outcome
from facemllm.evaluation.tasks import EvalTask, Question

if TYPE_CHECKING:
    from facemllm.evaluation.protocols import Protocol

COUNTS: dict[Outcome, str] = {
    "answer": "answered",
    "refusal": "refused",
    "unparsed": "unparsed",
    "ambiguous": "ambiguous",
    "wrong type": "wrong_type",
}
"""What the counts of outcomes are called in a report."""

_LONG = ("per_attribute", "by_group", "answered_by_group", "notes", "shares")


@dataclass(frozen=True, slots=True)
class Record:
    """One answer about one face.

    Attributes:
        sample: Id of the sample.
        task: Name of the task.
        question: What was asked.
        text: What was answered; for a head, its result as text.
        outcome: How the text was read.
        prediction: The answer in the dataset's terms, if there is one.
        truth: The right answer.
        cluster: Who is on the picture, or the sample's id.
        groups: Group metadata of the sample.
        head: The record is of a head, not of generated text.
        image: Where the picture is; it is not written to files.
    """

    sample: str
    task: str
    question: Question
    text: str
    outcome: Outcome
    prediction: Any
    truth: Any
    cluster: str
    groups: dict[str, str] = field(default_factory=dict)
    head: bool = False
    image: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return (
            {
                "id": self.sample,
                "task": self.task,
                "question": self.question.text,
                "text": self.text,
                "outcome": self.outcome,
                "prediction": self.prediction,
                "label": self.truth,
            }
            | ({"cluster": self.cluster} if self.cluster != self.sample else {})
            | ({"head": True} if self.head else {})
        )


def read_answer(task: EvalTask, text: str, **facts: Any) -> Record:
    """Return a record of an answer as the parser reads it.

    Args:
        task: What was asked.
        text: What was answered.
        facts: The other fields of :class:`Record`: sample, question, truth, cluster, and what else is known.
    """
    parsed = task.read(text)
    return Record(
        task=task.name,
        text=text,
        outcome=parsed.outcome,
        prediction=task.prediction(parsed.label) if parsed.outcome == "answer" else None,
        **facts,
    )


def summarise(task: EvalTask, records: Sequence[Record]) -> Result:
    """Return everything a report says about a task.

    Metrics are over the answers that could be read; ``accuracy_all`` counts everything else as wrong.
    ``refused``, ``unparsed``, ``ambiguous`` and ``wrong_type`` are counts that with
    ``answered`` add up to ``n``.
    """
    found = Counter(record.outcome for record in records)
    counts = {name: found[outcome] for outcome, name in COUNTS.items()}
    n = len(records)
    result: Result = {
        "n": n,
        **counts,
        "shares": {key: round(count / n, 5) if n else None for key, count in counts.items()},
    }
    result["images"] = len({record.sample for record in records})
    if task.notes:
        result["notes"] = list(task.notes)
    if not counts["answered"]:
        return result
    # One value of each answer is held at a time, not the records, which may be made as they are looked at.
    who = _numbers([record.cluster for record in records])
    said = np.fromiter((record.outcome == "answer" for record in records), bool, n)
    truth = [record.truth for record in records if record.outcome == "answer"]
    predicted = [record.prediction for record in records if record.outcome == "answer"]
    clusters = who[said]
    questions = [record.question for record in records if record.outcome == "answer"]
    result |= task.score(questions, truth, predicted, clusters)
    del questions
    scores = task.scores(truth, predicted)
    is_error = task.group_score == "mae"
    if not is_error:
        result["accuracy_all"] = round(float(scores.sum()) / n, 5)
    groups = [record.groups for record in records]
    if counts["answered"] < n:
        result["answered_by_group"] = group_table(said.astype(np.float64), groups, who)
        groups = list(compress(groups, said))
    over = mean_interval if is_error else share_interval
    result["by_group"] = {
        "metric": task.group_score,
        "overall": round(float(scores.mean()), 5),
        "interval": bounds.to_list() if (bounds := over(scores, clusters)) else None,
        "columns": group_table(scores, groups, clusters, lower_is_better=is_error),
    }
    return result


def _numbers(names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return the place of each name in the order of all, which is what intervals are drawn by."""
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.fromiter((places[name] for name in names), np.int32, len(names))


def brief(summary: Result) -> Result:
    """Return a summary without what is long: groups, attributes, notes."""
    return {key: value for key, value in summary.items() if key not in _LONG}


def summarise_protocol(protocol: Protocol, task: EvalTask, records: Sequence[Record]) -> Result:
    """Return the scores of a protocol's seen and unseen attributes apart."""
    result: Result = {"name": protocol.name, "version": protocol.version}
    for part in ("seen", "unseen"):
        own = [record for record in records if protocol.part(str(record.question.attribute)) == part]
        result[part] = brief(summarise(task, own)) if own else {"n": 0}
    return result
