"""What flows out of readers and question writers: samples, questions, datasets and what they skipped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal, overload

from pydantic import Field, field_validator, model_validator

from facemllm.core.config import StrictModel
from facemllm.data.labels import check_label, check_unseen
from facemllm.data.vocabularies import LANDMARK_SCHEMES

Form = Literal["open", "choice", "yes_no", "true_false", "multiple"]

SCHEMA_VERSION: Literal[1] = 1
"""Raised when a stored record means something else than before; part of every record."""


class Landmarks(StrictModel):
    """Points of a face in a named scheme, so that their order is never guessed.

    Attributes:
        scheme: A key of :data:`facemllm.data.vocabularies.LANDMARK_SCHEMES`.
        points: (x, y) in pixels of the picture, in the scheme's order.

    Example:
        >>> Landmarks(scheme="five-1", points=[(30, 40), (60, 40), (45, 60), (35, 75), (55, 75)]).scheme
        'five-1'
    """

    scheme: str
    points: tuple[tuple[float, float], ...]

    @model_validator(mode="after")
    def _check_count(self) -> Landmarks:
        known = LANDMARK_SCHEMES.get(self.scheme)
        if known is None:
            raise ValueError(f"landmarks must be of a scheme among {', '.join(LANDMARK_SCHEMES)}")
        if len(self.points) != known.count:
            raise ValueError(f"landmarks of {self.scheme} must be {known.count}, got {len(self.points)}")
        if not all(map(math.isfinite, chain.from_iterable(self.points))):
            raise ValueError("landmarks must be finite")
        return self


class FaceSample(StrictModel):
    """One labelled face, known by reference: the picture is not opened.

    Attributes:
        id: Unique within the dataset, and the same on every machine (no absolute path).
        image: Where the picture is: a path; ``shard.tar#member`` or ``table.csv#offset`` for a picture inside
            a file (see :func:`facemllm.processing.references.read_reference`); or an address not yet fetched.
        size: Width and height of the picture in pixels, where the dataset says so without opening it.
        box: Face box as (x1, y1, x2, y2) in pixels, or None when the whole picture is the face crop.
        landmarks: Points of the face, in pixels of the picture.
        labels: By task. ``expression``, ``gender``, ``ethnicity``, ``age_bin``: a canonical label;
            ``age``: years; ``age_range``: first and last year; ``pose``: ``{"pan": degrees towards the
            image's left, "tilt": degrees up}`` and, where known, ``"roll"``: degrees clockwise in the image;
            ``attributes``, ``action_units``, ``parts``: name to True or False; ``au_intensity``: action unit
            to 0 ... 5; ``affect``: valence and arousal from -1 to 1; ``expression_votes``: label to votes;
            ``caption``: a description of the face; ``alt_text``: what the web said beside the picture;
            ``conversation``: pairs of question and answer.
        cannot_tell: Labels that annotators looked for and could not tell: ``gender``, ``attributes/bald``.
            What is neither here nor in ``labels`` was never looked for.
        groups: Group metadata for per-group results.
        split: The split the sample belongs to, or None when the dataset does not say.
        fold: Where the dataset is cross-validated, the fold in which the sample is tested.
        dataset: Name of the reader.
        licence: The terms the picture came under.
        consent: What the people in the picture agreed to, where it is known.
        provenance: Where the record came from: the file and line of its label, an address, an id.
        identity: Who it is, when the dataset says; samples of one identity never straddle splits made here.
        version: Of this schema.

    Example:
        >>> FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own").labels
        {'age': 34.0}
    """

    id: str
    image: str
    size: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    landmarks: Landmarks | None = None
    labels: dict[str, Any]
    cannot_tell: tuple[str, ...] = ()
    groups: dict[str, str] = Field(default_factory=dict)
    split: str | None = None
    fold: int | None = None
    dataset: str
    licence: str
    consent: str | None = None
    provenance: dict[str, str] = Field(default_factory=dict)
    identity: str | None = None
    version: Literal[1] = SCHEMA_VERSION

    @field_validator("box")
    @classmethod
    def _check_box(
        cls, box: tuple[float, float, float, float] | None
    ) -> tuple[float, float, float, float] | None:
        if box is not None and not -math.inf < box[0] <= box[2] < math.inf:  # also refuses NaN
            raise ValueError("box must be left, top, right, bottom in pixels")
        if box is not None and not -math.inf < box[1] <= box[3] < math.inf:
            raise ValueError("box must be left, top, right, bottom in pixels")
        return box

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: dict[str, Any]) -> dict[str, Any]:
        return {task: check_label(task, value) for task, value in labels.items()}

    @field_validator("cannot_tell")
    @classmethod
    def _check_cannot_tell(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_unseen(entry) for entry in entries)

    @model_validator(mode="after")
    def _check_together(self) -> FaceSample:
        for entry in self.cannot_tell:
            task, _, name = entry.partition("/")
            if task in self.labels and (not name or name in self.labels[task]):
                raise ValueError(f"{entry} is labelled and cannot be told at the same time")
        return self


class FacePair(StrictModel):
    """Two pictures, and whether they show one person.

    Attributes:
        first: One face.
        second: The other.
        same: Whether they are of one person.
        split: The view or split the pair belongs to.
        fold: The fold it is tested in, from 1.

    Example:
        >>> face = FaceSample(id="1", image="1.jpg", labels={}, dataset="mine", licence="own")
        >>> FacePair(first=face, second=face, same=True).same
        True
    """

    first: FaceSample
    second: FaceSample
    same: bool
    split: str | None = None
    fold: int | None = None


class QA(StrictModel):
    """A question about a face, and its answer.

    Attributes:
        question: The text put to the model.
        answer: The canonical answer text, which :func:`facemllm.data.answers.parse` reads back to ``label``.
        task: The task it belongs to, also for yes/no and multiple-choice forms.
        options: What may be answered, in the order shown; None for an open question.
        label: The right answer as a value: an option's text, a number, a pose; None where there is none.
        form: How it is asked.
        attribute: Which attribute is asked about, for the task ``attributes``; also an action unit or a part.
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
        """Return how many samples have each label of ``task`` (True labels for attributes and the like)."""
        values = (sample.labels[task] for sample in self.samples if task in sample.labels)
        if task in ("attributes", "action_units", "parts"):
            return Counter(name for value in values for name, present in value.items() if present)
        return Counter(str(value) for value in values)
