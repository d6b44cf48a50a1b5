"""What a label may be, task by task; everything else is refused before it can reach a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from facemllm.data.vocabularies import (
    ACTION_UNITS,
    AGE_BINS,
    ALL_EXPRESSIONS,
    ETHNICITIES,
    GENDERS,
    MAX_AGE,
    PARTS,
)

CLASSES: dict[str, tuple[str, ...]] = {
    "expression": ALL_EXPRESSIONS,
    "gender": GENDERS,
    "ethnicity": ETHNICITIES,
    "age_bin": AGE_BINS,
}
"""The labels of every task that has classes."""

MAX_INTENSITY = 5.0
"""Intensities of action units run from 0 (absent) to 5 (E of FACS, maximal)."""


def check_label(task: str, value: Any) -> Any:
    """Return a label in its canonical form.

    Raises:
        ValueError: If the task is unknown, or the value is none of its labels.

    Example:
        >>> check_label("age", 34), check_label("action_units", {"AU12": True})
        (34.0, {'AU12': True})
    """
    if task in CLASSES:
        if value not in CLASSES[task]:
            raise ValueError(f"{task} must be one of {', '.join(CLASSES[task])}, got {value!r}")
        return value
    if task not in _CHECKS:
        raise ValueError(f"unknown task {task!r}; known: {', '.join(LABEL_TASKS)}")
    return _CHECKS[task](value)


def check_unseen(entry: str) -> str:
    """Return the name of a label that annotators could not tell: ``gender``, or ``attributes/bald``.

    Raises:
        ValueError: If no such label can be missing.
    """
    task, slash, name = entry.partition("/")
    if (task in CLASSES and not slash) or (task in ("attributes", "action_units", "parts") and name):
        return entry
    raise ValueError(f"cannot_tell must name a class task, or attributes/NAME, got {entry!r}")


def _age(value: Any) -> float:
    if not 0 <= float(value) <= MAX_AGE:
        raise ValueError(f"age must lie between 0 and {MAX_AGE} years, got {value!r}")
    return float(value)


def _age_range(value: Any) -> tuple[float, float]:
    low, high = (float(bound) for bound in value)
    if not 0 <= low <= high <= MAX_AGE:
        raise ValueError(f"age_range must be two rising ages up to {MAX_AGE} years, got {value!r}")
    return low, high


def _pose(value: Any) -> dict[str, float]:
    if not {"pan", "tilt"} <= set(value) <= {"pan", "tilt", "roll"}:
        raise ValueError(f"pose must have the keys pan and tilt, and may have roll, got {sorted(value)}")
    if not all(abs(float(degrees)) <= 180 for degrees in value.values()):  # also refuses NaN
        raise ValueError("angles must lie between -180 and 180 degrees")
    return {axis: float(degrees) for axis, degrees in value.items()}


def _attributes(value: Any) -> dict[str, bool]:
    return _true_or_false("attributes", value)


def _action_units(value: Any) -> dict[str, bool]:
    return _true_or_false("action_units", value, ACTION_UNITS.codes)


def _parts(value: Any) -> dict[str, bool]:
    return _true_or_false("parts", value, PARTS)


def _true_or_false(task: str, value: Mapping[str, Any], known: tuple[str, ...] = ()) -> dict[str, bool]:
    if not set(map(type, value.values())) <= {bool}:
        raise ValueError(f"{task} must map names to True or False")
    if known and (unknown := sorted(set(value) - set(known))):
        raise ValueError(f"{task} must be among {', '.join(known)}, got {', '.join(unknown)}")
    return dict(value)


def _intensity(value: Any) -> dict[str, float]:
    if unknown := sorted(set(value) - set(ACTION_UNITS.codes)):
        raise ValueError(f"au_intensity must be of {', '.join(ACTION_UNITS.codes)}, got {', '.join(unknown)}")
    if not all(0 <= float(level) <= MAX_INTENSITY for level in value.values()):
        raise ValueError(f"au_intensity must lie between 0 and {MAX_INTENSITY:g}")
    return {unit: float(level) for unit, level in value.items()}


def _affect(value: Any) -> dict[str, float]:
    if set(value) != {"valence", "arousal"} or not all(abs(float(x)) <= 1 for x in value.values()):
        raise ValueError("affect must have valence and arousal, each between -1 and 1")
    return {axis: float(level) for axis, level in value.items()}


def _votes(value: Any) -> dict[str, int]:
    if not all(count >= 0 and count == int(count) for count in value.values()):
        raise ValueError("expression_votes must map labels to whole numbers")
    return {str(label): int(count) for label, count in value.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text must not be empty")
    return value.strip()


def _conversation(value: Any) -> tuple[tuple[str, str], ...]:
    turns = tuple((str(question).strip(), _text(answer)) for question, answer in value)
    if not turns:
        raise ValueError("a conversation must have at least one turn")
    return turns


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "age": _age,
    "age_range": _age_range,
    "pose": _pose,
    "attributes": _attributes,
    "action_units": _action_units,
    "au_intensity": _intensity,
    "parts": _parts,
    "affect": _affect,
    "expression_votes": _votes,
    "caption": _text,
    "alt_text": _text,
    "conversation": _conversation,
}

LABEL_TASKS = (*CLASSES, *_CHECKS)
"""Everything a sample may be labelled with."""
