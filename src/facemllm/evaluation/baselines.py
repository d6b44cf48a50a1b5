"""What every model should beat: constants; and specialists, which know tasks rather than questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Literal

from facemllm.data import FaceSample, render
from facemllm.evaluation.tasks import EvalTask

UNKNOWN = "I don't know."


class Constant:
    """Gives everyone the same answer: the best constant in hindsight.

    ``majority`` says the commonest label; of ages and poses, and with ``median``, it says the median. It is
    told the labels that it is measured on, so it is the most that any constant can reach, not a model.

    Example:
        >>> from facemllm.evaluation import supported_tasks
        >>> faces = [FaceSample(id=str(i), image="x", labels={"age": a}, dataset="mine", licence="own")
        ...          for i, a in enumerate([20, 30, 70])]
        >>> model = Constant("median")
        >>> model.prepare(faces, supported_tasks(faces))
        >>> model.ask([None], ["How old is this person?"])
        [['30']]
    """

    def __init__(self, kind: Literal["majority", "median"] = "majority") -> None:
        self.kind = kind
        self.answers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Constant({self.kind!r})"

    @property
    def fingerprint(self) -> str:
        """The answers."""
        return f"constant {sorted(self.answers.items())}"

    def prepare(self, samples: Iterable[FaceSample], tasks: Sequence[EvalTask]) -> None:
        """Look at the labels."""
        samples = list(samples)
        for task in tasks:
            for question in task.questions:
                truth = [label for sample in samples if (label := task.truth(sample, question)) is not None]
                if truth:
                    self.answers[question.text] = _constant(truth, task)

    def ask(self, image: Sequence[Any], questions: Sequence[str]) -> list[list[str]]:
        """Answer every question in the same way for every picture."""
        return [[self.answers.get(question, UNKNOWN) for question in questions] for _ in image]


class Specialist:
    """A package that predicts labels rather than answers questions, such as a classical face library.

    Args:
        predict: From a picture (PIL) to task to label: ``{"age": 31.5, "expression": "happy"}``.
        name: What it is called, with its version: part of what identifies its answers.

    Example:
        >>> model = Specialist(lambda picture: {"age": 31.5, "gender": "female"}, name="mine 1.0")
        >>> model.ask([None], ["How old is this person?", "What is the expression of this person?"])
        [['32', "I don't know."]]
    """

    def __init__(self, predict: Callable[[Any], Mapping[str, Any]], name: str) -> None:
        self.predict_labels, self.fingerprint = predict, f"specialist {name}"

    def ask(self, image: Sequence[Any], questions: Sequence[str]) -> list[list[str]]:
        """Answer canonical questions from the labels of each picture."""
        found = []
        for picture in image:
            labels = self.predict_labels(picture)
            answers = _answers(labels)
            found.append([answers.get(question, UNKNOWN) for question in questions])
        return found


def _answers(labels: Mapping[str, Any]) -> dict[str, str]:
    """Return question to answer for labels."""
    from facemllm.data import canonical_question

    answers = {}
    for task, label in labels.items():
        if task == "attributes":
            for name, present in label.items():
                answers[canonical_question(task, name)] = render(task, bool(present))
        else:
            answers[canonical_question(task)] = render(task, label)
    return answers


def _constant(truth: Sequence[Any], task: EvalTask) -> str:
    if isinstance(truth[0], dict):
        axes = {axis: median(pose[axis] for pose in truth) for axis in ("pan", "tilt")}
        return render("pose", axes)
    if task.label == "age":
        return render("age", median(truth))
    commonest = Counter(truth).most_common()
    label = min((label for label, count in commonest if count == commonest[0][1]), key=str)
    return str(label)
