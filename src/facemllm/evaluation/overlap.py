"""Was the model trained on what it is measured on? By its record of training data, and by the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from facemllm.data import FaceSample

SAME_PICTURES = (frozenset({"fer2013", "ferplus"}),)
"""Datasets of the same pictures: FER+ labels those of FER2013 anew."""


@dataclass(frozen=True)
class Overlap:
    """What is known about training and test.

    Attributes:
        known: Whether the model records its training data, or pictures of the training were given.
        recorded: Entries of the record that name the dataset that is measured, with what they mean.
        copies: Test pictures that are copies of training pictures: id to id of the training picture.
        compared: How many training pictures were looked at, or None.
    """

    known: bool
    recorded: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    compared: int | None = None

    @property
    def warnings(self) -> list[str]:
        """What a reader of the score must know."""
        found = list(self.recorded)
        if self.copies:
            found.append(
                f"{len(self.copies)} of the test pictures are copies of training pictures: the score is of "
                "what the model has seen."
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a report."""
        return {
            "known": self.known,
            "warnings": self.warnings,
            "training_pictures": self.compared,
            "copies": dict(sorted(self.copies.items())[:100]),
            "copies_n": len(self.copies),
        }


def find_overlap(
    model: Any,
    samples: Sequence[FaceSample],
    dataset: str,
    split: str | None,
    training_pictures: Iterable[tuple[str, str]] | None = None,
) -> Overlap:
    """Compare a model's training with what it is measured on.

    Args:
        model: Its ``config.training_data`` (or ``training_data``) lists dataset and split; anything else has
            none, and nothing is known.
        samples: What it is measured on.
        dataset: Name of the dataset.
        split: Which split, or None where it is not known.
        training_pictures: Names and paths of pictures of the training, whose copies are looked for.

    Example:
        >>> class Trained:
        ...     training_data = [{"dataset": "utkface", "split": "train", "samples": 4008}]
        >>> find_overlap(Trained(), [], "utkface", "test").warnings
        []
        >>> find_overlap(Trained(), [], "utkface", "all").warnings[0][:60]
        'The model was trained on utkface, split train (4,008 samples'
    """
    record = getattr(getattr(model, "config", None), "training_data", None) or getattr(
        model, "training_data", None
    )
    said = [text for one in record or () if (text := _overlaps(one, dataset, split)) is not None]
    copies: dict[str, str] = {}
    compared = None
    if training_pictures is not None:
        copies, compared = _copies(samples, training_pictures)
    return Overlap(bool(record) or compared is not None, tuple(said), copies, compared)


def _overlaps(entry: Mapping[str, Any], dataset: str, split: str | None) -> str | None:
    """Return what an entry of the record means for a test, or None if it means nothing."""
    trained, part = str(entry.get("dataset")), str(entry.get("split", "all"))
    count = entry.get("samples")
    where = f" in {entry['path']}" if entry.get("path") else ""
    what = f"{trained}{where}, split {part}" + (f" ({count:,} samples)" if isinstance(count, int) else "")
    if trained != dataset:
        if any({trained, dataset} <= group for group in SAME_PICTURES):
            return f"The model was trained on {what}, which shares pictures with {dataset}."
        return None
    if split is None:
        return f"The model was trained on {what}; which split is measured here is not known."
    if "all" in (part, split) or part == split:
        return f"The model was trained on {what}, which is also measured here (split {split})."
    return None


def _copies(samples: Sequence[FaceSample], pictures: Iterable[tuple[str, str]]) -> tuple[dict[str, str], int]:
    from facemllm.data.fingerprints import fingerprint
    from facemllm.data.leaks import find_leaks

    training = fingerprint(pictures)
    report = find_leaks(training, fingerprint((sample.id, sample.image) for sample in samples))
    found: dict[str, str] = {}
    for leak in report.leaks:
        found.setdefault(leak.b, leak.a)
    return found, len(training)
