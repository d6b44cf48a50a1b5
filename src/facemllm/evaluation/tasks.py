"""What can be asked about a dataset: the tasks its labels support, the questions, and the scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facemllm.core.errors import ConfigError
from facemllm.data import FaceSample, canonical_question
from facemllm.data.vocabularies import (
    AGE_BINS,
    ALL_EXPRESSIONS,
    EXPRESSIONS,
    GENDERS,
    VOCABULARIES,
    age_bin,
)
from facemllm.evaluation.bootstrap import Array
from facemllm.evaluation.metrics import (
    Result,
    age_bin_metrics,
    attribute_metrics,
    class_metrics,
    pose_metrics,
    year_metrics,
)
from facemllm.evaluation.parsing import Parsed, parse

TASKS = ("expression", "age", "gender", "ethnicity", "pose", "attributes")
SENSITIVE = ("gender", "ethnicity")
"""Perceived labels; left out on request."""

BROADER = {"east asian": "asian", "southeast asian": "asian", "latino": "other", "middle eastern": "other"}
"""The class an ethnicity belongs to in a dataset that has no class of its own for it (UTKFace)."""


@dataclass(frozen=True)
class Question:
    """A question of a task; ``attribute`` says which, for the task that has several."""

    text: str
    attribute: str | None = None


@dataclass(frozen=True)
class EvalTask:
    """A task as one dataset supports it.

    Attributes:
        name: Its name in the report.
        label: Key among a sample's labels: "age_bin" for the task "age" of a dataset without years.
        parser: How answers are read.
        questions: What is asked of every face that has the label.
        classes: The dataset's labels, where the task has classes.
        notes: What a reader of the score should know.
    """

    name: str
    label: str
    parser: str
    questions: tuple[Question, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def truth(self, sample: FaceSample, question: Question) -> Any:
        """Return the right answer for a sample, or None where it is not labelled."""
        value = sample.labels.get(self.label)
        if question.attribute is None or value is None:
            return value
        present = value.get(question.attribute)
        return None if present is None else "yes" if present else "no"

    def read(self, text: str) -> Parsed:
        """Read a model's answer."""
        parsed = parse(self.parser, text)
        if self.name == "pose" and parsed.outcome == "answer" and not {"pan", "tilt"} & set(parsed.label):
            return Parsed("unparsed", span=parsed.span)  # a roll alone answers nothing that is labelled
        return parsed

    def prediction(self, value: Any) -> Any:
        """Return a parsed answer, or what a head said, in the dataset's own terms."""
        if self.label == "age_bin":
            return value if value in AGE_BINS else age_bin(max(float(value), 0.0))
        if self.name == "ethnicity" and value not in self.classes:
            return BROADER.get(value, value) if BROADER.get(value) in self.classes else value
        return value

    def score(
        self,
        questions: Sequence[Question],
        truth: Sequence[Any],
        predicted: Sequence[Any],
        clusters: Sequence[Any],
    ) -> Result:
        """Return the task's metrics over answers."""
        if self.name == "attributes":
            return attribute_metrics([str(q.attribute) for q in questions], truth, predicted, clusters)
        if self.name == "pose":
            return pose_metrics(truth, predicted, clusters)
        if self.label == "age":
            return year_metrics(truth, predicted, clusters)
        if self.label == "age_bin":
            return age_bin_metrics(truth, predicted, clusters)
        return class_metrics(truth, predicted, clusters, self.classes)

    @property
    def group_score(self) -> str:
        """The metric that is compared between groups."""
        return {"pose": "mae", "age": "mae"}.get(self.label, "accuracy")

    def scores(self, truth: Sequence[Any], predicted: Sequence[Any]) -> Array:
        """Return one score for each answer [n]: an error for years and angles, otherwise 1 for right."""
        errors: dict[str, Callable[[Any, Any], float]] = {"pose": _pose_error, "age": _year_error}
        one = errors.get(self.label, _hit)
        pairs = zip(truth, predicted, strict=True)
        return np.fromiter((one(a, b) for a, b in pairs), np.float64, len(truth))


def supported_tasks(
    samples: Iterable[FaceSample], names: Sequence[str] | None = None, *, sensitive: bool = True
) -> list[EvalTask]:
    """Return the tasks that the samples' labels support.

    Args:
        samples: Labelled faces of one dataset.
        names: Only these; all by default. "age_bin" is another name of "age".
        sensitive: Also gender and ethnicity, when no names are given.

    Raises:
        ConfigError: If a named task has no labels.

    Example:
        >>> sample = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
        >>> [(task.name, task.questions[0].text) for task in supported_tasks([sample])]
        [('age', 'How old is this person?')]
    """
    samples = list(samples)
    known = {task.name: task for name in TASKS if (task := _task(name, samples)) is not None}
    if names is None:
        return [task for task in known.values() if sensitive or task.name not in SENSITIVE]
    wanted = list(dict.fromkeys("age" if name == "age_bin" else name for name in names))
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        raise ConfigError(
            "dataset does not support the task",
            given=", ".join(missing) or "no task",
            expected=f"among {', '.join(known) or '(no labels at all)'}",
            do="name other tasks, or another dataset",
        )
    return [known[name] for name in wanted]


def _task(name: str, samples: Sequence[FaceSample]) -> EvalTask | None:
    labels = {key for sample in samples for key in sample.labels}
    if name == "age" and "age" not in labels and "age_bin" in labels:
        note = "The age in years is asked; the answer is scored by the age bin it falls into."
        return EvalTask(name, "age_bin", "age", (Question(canonical_question("age")),), AGE_BINS, (note,))
    if name not in labels:
        return None
    if name == "attributes":
        attributes = sorted({key for sample in samples for key in sample.labels.get(name, {})})
        asked = tuple(Question(canonical_question(name, attribute), attribute) for attribute in attributes)
        return EvalTask(name, name, "yesno", asked, ("yes", "no")) if asked else None
    question = (Question(canonical_question(name)),)
    if name == "ethnicity":
        return _ethnicity(question, samples)
    if name == "expression":
        return _expression(question, samples)
    return EvalTask(name, name, name, question, GENDERS if name == "gender" else ())


def _expression(question: tuple[Question, ...], samples: Sequence[FaceSample]) -> EvalTask:
    """Contempt is a class only where the dataset has it; elsewhere the answer is wrong, and is said to be."""
    own = [words for name, words in VOCABULARIES.items() if name.startswith(f"{samples[0].dataset}-")]
    found = {sample.labels["expression"] for sample in samples if "expression" in sample.labels}
    if "contempt" not in found.union(*(words.labels for words in own)):
        note = "The dataset has no class for contempt: that answer counts as wrong."
        return EvalTask("expression", "expression", "expression", question, EXPRESSIONS, (note,))
    return EvalTask("expression", "expression", "expression", question, ALL_EXPRESSIONS)


def _ethnicity(question: tuple[Question, ...], samples: Sequence[FaceSample]) -> EvalTask:
    vocabulary = VOCABULARIES.get(f"{samples[0].dataset}-races")
    found = {sample.labels["ethnicity"] for sample in samples if "ethnicity" in sample.labels}
    classes = vocabulary.labels if vocabulary else tuple(sorted(found))
    mapped = [
        f"{narrow} as {broad}"
        for narrow, broad in BROADER.items()
        if narrow not in classes and broad in classes
    ]
    notes = (
        (f"Answers without a class of their own count as the broader one: {', '.join(mapped)}.",)
        if mapped
        else ()
    )
    return EvalTask("ethnicity", "ethnicity", "ethnicity", question, classes, notes)


def _hit(truth: Any, predicted: Any) -> float:
    return float(truth == predicted)


def _year_error(truth: float, predicted: float) -> float:
    return abs(predicted - truth)


def _pose_error(truth: dict[str, float], predicted: dict[str, float]) -> float:
    stated = [axis for axis in predicted if axis in truth]
    return float(np.mean([abs(predicted[axis] - truth[axis]) for axis in stated])) if stated else float("nan")
