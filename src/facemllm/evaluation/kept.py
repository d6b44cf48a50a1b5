"""The answers of an evaluation beside their labels, in columns: 23 bytes an answer, and each text once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from facemllm.data import FaceSample
from facemllm.evaluation.parsing import Outcome
from facemllm.evaluation.records import COUNTS, Record
from facemllm.evaluation.tasks import EvalTask, Question

_OUTCOMES = tuple(COUNTS)
Slot = tuple[EvalTask, Question, bool]
"""What an answer is to: a question of a task, put to the text or to a head."""


@dataclass
class _Columns:
    samples: Sequence[FaceSample]
    slots: list[Slot] = field(default_factory=list)
    numbers: dict[tuple[str, str | None, str, bool], int] = field(default_factory=dict)
    sample: array[int] = field(default_factory=lambda: array("I"))
    slot: array[int] = field(default_factory=lambda: array("H"))
    outcome: bytearray = field(default_factory=bytearray)
    text: list[str] = field(default_factory=list)
    prediction: list[Any] = field(default_factory=list)


class KeptRecords(Sequence[Record]):
    """Records that are made when they are looked at, from columns and from the samples.

    Args:
        samples: What was asked about.

    Example:
        >>> from facemllm.evaluation import supported_tasks
        >>> face = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
        >>> task = supported_tasks([face])[0]
        >>> kept = KeptRecords([face])
        >>> kept.add(0, task, task.questions[0], "About 30.", "answer", 30.0)
        >>> kept[0].prediction, kept[0].truth, len(kept.of("age")), len(kept.of("age", head=True))
        (30.0, 34.0, 1, 0)
    """

    def __init__(self, samples: Sequence[FaceSample]) -> None:
        self._columns = _Columns(samples)
        self._places: Sequence[int] | None = None

    def add(
        self,
        sample: int,
        task: EvalTask,
        question: Question,
        text: str,
        outcome: Outcome,
        prediction: Any,
        *,
        head: bool = False,
    ) -> None:
        """Keep an answer.

        Args:
            sample: Place of the sample among the samples.
            task: What was asked.
            question: Which of its questions.
            text: What was answered.
            outcome: How it was read.
            prediction: The answer in the dataset's terms.
            head: It is a head's.
        """
        columns = self._columns
        key = (task.name, question.attribute, question.text, head)
        number = columns.numbers.setdefault(key, len(columns.slots))
        if number == len(columns.slots):
            columns.slots.append((task, question, head))
        columns.sample.append(sample)
        columns.slot.append(number)
        columns.outcome.append(_OUTCOMES.index(outcome))
        columns.text.append(text)
        columns.prediction.append(prediction)

    @property
    def samples(self) -> Sequence[FaceSample]:
        """What was asked about."""
        return self._columns.samples

    def of(self, task: str, *, head: bool = False) -> KeptRecords:
        """Return the records of one task, or of the head that is named as it."""
        columns = self._columns
        wanted = {n for n, (one, _, own) in enumerate(columns.slots) if one.name == task and own == head}
        view = KeptRecords(columns.samples)
        view._columns = columns
        if len(wanted) < len(columns.slots):
            view._places = array("I", (i for i in self._order() if columns.slot[i] in wanted))
        return view

    def _order(self) -> Sequence[int]:
        return range(len(self._columns.slot)) if self._places is None else self._places

    def __len__(self) -> int:
        return len(self._order())

    def __iter__(self) -> Iterator[Record]:
        return (self._record(place) for place in self._order())

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        places = self._order()[index]
        return self._record(places) if isinstance(places, int) else [self._record(one) for one in places]

    def _record(self, place: int) -> Record:
        columns = self._columns
        sample = columns.samples[columns.sample[place]]
        task, question, head = columns.slots[columns.slot[place]]
        return Record(
            sample=sample.id,
            task=task.name,
            question=question,
            text=columns.text[place],
            outcome=_OUTCOMES[columns.outcome[place]],
            prediction=columns.prediction[place],
            truth=task.truth(sample, question),
            cluster=sample.identity or sample.id,
            groups=sample.groups,
            head=head,
            image=sample.image,
        )
