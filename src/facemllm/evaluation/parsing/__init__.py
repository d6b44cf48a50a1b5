"""Free-text answers to typed labels: deterministic, offline, without a judge model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from facemllm.core.errors import FaceMLLMError
from facemllm.evaluation.parsing.age import read_age, read_age_bin
from facemllm.evaluation.parsing.attributes import read_attributes
from facemllm.evaluation.parsing.choice import read_choice
from facemllm.evaluation.parsing.classes import read_class, read_yes_no
from facemllm.evaluation.parsing.lexicon import filler, vocabulary
from facemllm.evaluation.parsing.numbers import find_numbers
from facemllm.evaluation.parsing.pose import read_pose
from facemllm.evaluation.parsing.reading import Reading, readings
from facemllm.evaluation.parsing.result import OUTCOMES, Outcome, Parsed
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS

__all__ = ["OUTCOMES", "PARSER_VERSION", "TASKS", "Outcome", "Parsed", "parse"]

PARSER_VERSION = 1
"""Raised whenever an answer may be read differently; part of every score."""

_READERS: dict[str, Callable[[Reading], Parsed]] = {
    "expression": lambda reading: read_class(reading, "expression"),
    "gender": lambda reading: read_class(reading, "gender"),
    "ethnicity": lambda reading: read_class(reading, "ethnicity"),
    "age": read_age,
    "age_bin": read_age_bin,
    "pose": read_pose,
    "yesno": read_yes_no,
}
TASKS = (*_READERS, "choice", "attributes")
"""All tasks that answers can be read for."""

_DECISIVE = ("answer", "ambiguous", "refusal")


def parse(task: str, text: str, options: Sequence[str] | None = None) -> Parsed:
    """Read a free-text answer.

    Args:
        task: One of :data:`TASKS`. Labels are those of :class:`facemllm.data.FaceSample`; for ``yesno``
            "yes" or "no", for ``choice`` the option's text, for ``attributes`` name to True or False.
        text: The answer, as the model gave it.
        options: What could be chosen, needed for ``choice``. For other tasks, options shown with it,
            so that an answer by letter is understood.

    Raises:
        FaceMLLMError: If the task is unknown, or ``choice`` has no options.

    Example:
        >>> parse("age", "She looks like she is in her early thirties.").label
        32.0
        >>> parse("choice", "A woman who looks sad", ["happy", "sad"]).label
        'sad'
        >>> parse("expression", "I'm sorry, I can't tell if she is happy or sad.").outcome
        'refusal'
        >>> parse("pose", "pan 30 degrees right, tilt 15 degrees up").label
        {'pan': -30.0, 'tilt': 15.0}
    """
    parsed = _parse(task, text or "", _checked(task, options))
    # Cached results are shared, so what can be changed is copied.
    return replace(parsed, label=dict(parsed.label)) if isinstance(parsed.label, dict) else parsed


@lru_cache(maxsize=65536)  # models repeat themselves
def _parse(task: str, text: str, choices: tuple[str, ...] | None) -> Parsed:
    result = Parsed("unparsed")
    for reading in readings(text, () if task == "attributes" else (task,)):
        result = _read(reading, task, choices)
        if result.outcome in _DECISIVE:
            return result
    if result.outcome == "unparsed" and _is_other_type(reading, task):
        return Parsed("wrong type", span=reading.span(0, len(reading.tokens)))
    return result


def _checked(task: str, options: Sequence[str] | None) -> tuple[str, ...] | None:
    if task not in TASKS:
        raise FaceMLLMError(
            f"cannot read answers of the task {task!r}",
            given=repr(task),
            expected=f"one of {', '.join(TASKS)}",
            do="correct it",
        )
    if task == "choice" and not options:
        raise FaceMLLMError(
            "cannot read a choice",
            given="no options",
            expected="the options that were shown",
            do='pass options=["...", "..."]',
        )
    return tuple(options) if options else None


def _read(reading: Reading, task: str, options: tuple[str, ...] | None) -> Parsed:
    if task == "attributes":
        return read_attributes(reading, options)
    if options and (task == "choice" or _READERS[task](reading).outcome != "answer"):
        chosen = read_choice(reading, options)
        if task == "choice" or chosen.outcome != "answer":
            return chosen
        meant = list(readings(chosen.label))[-1]  # the letter of an option stands for its text
        return Parsed("answer", _READERS[task](meant).label, chosen.span)
    return _READERS[task](reading)


def _is_other_type(reading: Reading, task: str) -> bool:
    """Say whether the whole text is an answer of another kind: "34" to an expression, "happy" to an age."""
    text = reading.words
    kinds = [[(number.first, number.end) for number in find_numbers(text)]]
    for name in ("yes_no", "expression", "gender", "ethnicity"):
        if name.replace("_", "") != task:
            kinds.append([(hit.first, hit.end) for hit in vocabulary(name).find(text) if hit.value])
    for found in kinds:
        covered = {index for first, end in found for index in range(first, end)}
        rest = {word for index, word in enumerate(text) if index not in covered}
        if found and rest <= filler() | CLAUSE_BREAKS:
            return True
    return False
