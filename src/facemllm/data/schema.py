"""What flows out of readers and question writers: samples, questions, datasets and what they skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from pydantic import Field, field_validator

from facemllm.core.config import StrictModel
from facemllm.data.vocabularies import AGE_BINS, ETHNICITIES, EXPRESSIONS, GENDERS, MAX_AGE

Form = Literal["open", "choice", "yes_no", "true_false"]

_CLASSES: dict[str, tuple[str, ...]] = {
    "expression": EXPRESSIONS,
    "gender": GENDERS,
    "ethnicity": ETHNICITIES,
    "age_bin": AGE_BINS,
}


class FaceSample(StrictModel):
    """One labelled face, known by reference: the picture is not opened.

    Attributes:
        id: Unique within the dataset, and the same on every machine (no absolute path).
        image: Path of the picture.
        box: Face box as (x1, y1, x2, y2) in pixels, or None when the whole picture is the face crop.
        labels: By task. ``expression``, ``gender``, ``ethnicity``, ``age_bin``: a canonical label;
            ``age``: years; ``pose``: ``{"pan": degrees towards the image's left, "tilt": degrees up}``;
            ``attributes``: name to True or False.
        groups: Group metadata for per-group results.
        split: The split the sample belongs to, or None when the dataset does not say.
        dataset: Name of the reader.
        licence: The terms the picture came under.
        identity: Who it is, when the dataset says; samples of one identity never straddle splits made here.

    Example:
        >>> FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own").labels
        {'age': 34.0}
    """

    id: str
    image: str
    box: tuple[float, float, float, float] | None = None
    labels: dict[str, Any]
    groups: dict[str, str] = Field(default_factory=dict)
    split: str | None = None
    dataset: str
    licence: str
    identity: str | None = None

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: dict[str, Any]) -> dict[str, Any]:
        return {task: _checked(task, value) for task, value in labels.items()}


def _checked(task: str, value: Any) -> Any:
    if task in _CLASSES:
        if value not in _CLASSES[task]:
            raise ValueError(f"{task} must be one of {', '.join(_CLASSES[task])}, got {value!r}")
        return value
    if task == "age":
        if not 0 <= float(value) <= MAX_AGE:
            raise ValueError(f"age must lie between 0 and {MAX_AGE} years, got {value!r}")
        return float(value)
    if task == "pose":
        if set(value) != {"pan", "tilt"}:
            raise ValueError(f"pose must have the keys pan and tilt, got {sorted(value)}")
        return {axis: float(degrees) for axis, degrees in value.items()}
    if task == "attributes":
        if not all(isinstance(present, bool) for present in value.values()):
            raise ValueError("attributes must map names to True or False")
        return dict(value)
    raise ValueError(f"unknown task {task!r}; known: {', '.join([*_CLASSES, 'age', 'pose', 'attributes'])}")


class QA(StrictModel):
    """A question about a face, and its answer.

    Attributes:
        question: The text put to the model.
        answer: The canonical answer text, which :func:`facemllm.data.answers.parse` reads back to ``label``.
        task: The task it belongs to, also for yes/no and multiple-choice forms.
        options: What may be answered, in the order shown; None for an open question.
        label: The right answer as a value: an option's text, a number, a pose; None where there is none.
        form: How it is asked.
        attribute: Which attribute is asked about, for the task ``attributes``.
    """

    question: str
    answer: str
    task: str
    options: tuple[str, ...] | None = None
    label: Any = None
    form: Form = "open"
    attribute: str | None = None


class SkipReport:
    """Counts records that could not be used, by reason, and keeps the first few to show.

    Example:
        >>> report = SkipReport()
        >>> report.add("labels.csv, line 3", "x.jpg,?", "unknown age")
        >>> report.total
        1
        >>> print(report)
        skipped 1 record: 1 x unknown age
          labels.csv, line 3: unknown age: 'x.jpg,?'
    """

    shown = 5

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.examples: list[tuple[str, str, str]] = []

    @property
    def total(self) -> int:
        """How many records were skipped."""
        return sum(self.reasons.values())

    def add(self, where: str, record: str, reason: str) -> None:
        """Count one record: ``where`` it stands, what it says, and why it is of no use."""
        self.reasons[reason] += 1
        if len(self.examples) < self.shown:
            self.examples.append((where, record, reason))

    def __len__(self) -> int:
        return self.total

    def __str__(self) -> str:
        if not self.total:
            return "skipped no records"
        counts = ", ".join(f"{count} x {reason}" for reason, count in self.reasons.most_common())
        lines = [f"skipped {self.total} record{'s' * (self.total > 1)}: {counts}"]
        lines += [f"  {where}: {reason}: {record!r}" for where, record, reason in self.examples]
        if self.total > len(self.examples):
            lines.append(f"  and {self.total - len(self.examples)} more")
        return "\n".join(lines)


class Dataset(Sequence[FaceSample]):
    """The samples of one split of one dataset, and what was skipped on the way.

    Args:
        name: Name of the reader.
        split: The split asked for.
        samples: In the order of the dataset's own files.
        skipped: Records that could not be used, of all splits.
        licence: The terms of the dataset.
    """

    def __init__(
        self, name: str, split: str, samples: Sequence[FaceSample], *, skipped: SkipReport, licence: str
    ) -> None:
        self.name, self.split, self.skipped, self.licence = name, split, skipped, licence
        self.samples = tuple(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[FaceSample]:
        return iter(self.samples)

    @overload
    def __getitem__(self, index: int) -> FaceSample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FaceSample]: ...
    def __getitem__(self, index: int | slice) -> FaceSample | Sequence[FaceSample]:
        return self.samples[index]

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {self.split!r}, {len(self)} samples, {self.skipped.total} skipped)"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that at least one sample has a label for, sorted."""
        return tuple(sorted({task for sample in self.samples for task in sample.labels}))

    def counts(self, task: str) -> Mapping[str, int]:
        """Return how many samples have each label of ``task`` (True labels for attributes)."""
        values = (sample.labels[task] for sample in self.samples if task in sample.labels)
        if task == "attributes":
            return Counter(name for value in values for name, present in value.items() if present)
        return Counter(str(value) for value in values)
