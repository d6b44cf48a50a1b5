"""The phrasings of questions, read from the YAML files in ``questions/``.

Phrasings marked ``held_out`` are never used for training, so that a test can ask in words a model has not
seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from facemllm.core.config import M, StrictModel, load_yaml, validate
from facemllm.core.errors import DatasetError

_FOLDER = Path(__file__).parent / "questions"

Condition = str | dict[str, tuple[float, float]]
"""A label, or for each named quantity the closed interval it must lie in."""


class Phrasing(StrictModel):
    """One wording. In the files a plain string stands for a phrasing that is not held out."""

    text: str
    held_out: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class Rule(StrictModel):
    """A yes/no question whose answer follows from a label, and is left unasked where neither list applies."""

    texts: tuple[Phrasing, ...]
    holds: tuple[Condition, ...]
    fails: tuple[Condition, ...]

    def answer(self, label: str | None, facts: dict[str, tuple[float, float]]) -> bool | None:
        """Return whether it holds, or None where the label does not decide."""
        if any(_applies(condition, label, facts) for condition in self.holds):
            return True
        return False if any(_applies(condition, label, facts) for condition in self.fails) else None


class Comparison(StrictModel):
    """A question whether a number is above or below ``{n}``."""

    texts: tuple[Phrasing, ...]
    holds: Literal["above", "below"]


class QuestionSet(StrictModel):
    """All phrasings of one task.

    Attributes:
        version: Raised whenever the file changes.
        canonical: The one question that evaluation asks.
        open: Asked for the label itself; with options appended, also the multiple-choice form.
        choice: Multiple-choice questions, where the open ones do not fit.
        yes_no: Whether a candidate label is right; slots are filled from ``words``.
        true_false: Statements of a candidate label; slots are filled from ``words``.
        words: By label, what to fill the slots with.
        rules: Yes/no questions that follow from labels.
        comparisons: Yes/no questions about numbers.
    """

    version: int
    canonical: str
    open: tuple[Phrasing, ...] = ()
    choice: tuple[Phrasing, ...] = ()
    yes_no: tuple[Phrasing, ...] = ()
    true_false: tuple[Phrasing, ...] = ()
    words: dict[str, dict[str, str]] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


class Layout(Phrasing):
    """How options are put after a question, and whether the answer is an option's text or its letter."""

    answer: Literal["text", "letter"] = "text"


class Layouts(StrictModel):
    """All ways to show options."""

    version: int
    layouts: tuple[Layout, ...]


class MultipleSet(StrictModel):
    """All ways to ask which of several options hold."""

    version: int
    layouts: tuple[Phrasing, ...]


class Topic(StrictModel):
    """Questions that have no answer in a face.

    Attributes:
        texts: The questions, with slots filled from the words of the file.
        held_out: The whole topic is kept from training.
        unless: A task that, when trained, makes these questions answerable.
        private: About the person, and such that no photo answers it.
    """

    texts: tuple[str, ...]
    held_out: bool = False
    unless: str | None = None
    private: bool = False


class UnknownSet(StrictModel):
    """Topics that a face says nothing about, and words to fill slots and make word salads with."""

    version: int
    topics: dict[str, Topic]
    words: dict[str, tuple[str, ...]]


class Rewordings(StrictModel):
    """What any question may be put into, and names of what it is about.

    Attributes:
        version: Raised whenever the file changes.
        frames: Texts with ``{question}``, or with ``{lower}`` where it goes on with a small letter.
        persons: Instead of "this person".
        heads: Instead of "the head".
        faces: Instead of "the face".
    """

    version: int
    frames: tuple[Phrasing, ...]
    persons: tuple[Phrasing, ...]
    heads: tuple[Phrasing, ...]
    faces: tuple[Phrasing, ...]


@cache
def question_set(task: str) -> QuestionSet:
    """Return the phrasings of a task.

    Example:
        >>> question_set("age").canonical
        'How old is this person?'
    """
    return _read(QuestionSet, task)


@cache
def layouts() -> tuple[Layout, ...]:
    """Return all ways to show options."""
    return _read(Layouts, "choice").layouts


@cache
def multiple_set() -> tuple[Phrasing, ...]:
    """Return all ways to ask which of several options hold."""
    return _read(MultipleSet, "multiple").layouts


@cache
def unknown_set() -> UnknownSet:
    """Return the questions that a face has no answer to."""
    return _read(UnknownSet, "unknown")


@cache
def rewordings() -> Rewordings:
    """Return the words that people put around a question, and for what it is about."""
    return _read(Rewordings, "rewordings")


@cache
def caption_parts() -> dict[str, Any]:
    """Return the sentence parts that captions are made of."""
    return load_yaml(_FOLDER / "captions.yaml")


def usable(phrasings: Sequence[Phrasing], split: str) -> list[Phrasing]:
    """Return what a split may use: ``train`` those not held out, ``all`` all, others only held-out ones."""
    if split == "all":
        return list(phrasings)
    return [phrasing for phrasing in phrasings if phrasing.held_out == (split != "train")]


def pick(phrasings: Sequence[Phrasing], split: str, rng: random.Random) -> Phrasing:
    """Draw a phrasing that ``split`` may use.

    Raises:
        DatasetError: If there is none.
    """
    found = usable(phrasings, split)
    if not found:
        raise DatasetError(
            "no phrasing for this split",
            given=f"{len(phrasings)} phrasings, split {split!r}",
            expected="phrasings with held_out true and false in each list of the question files",
            do="add one to the question file",
        )
    return rng.choice(found)


def _read(model: type[M], name: str) -> M:
    return validate(model, load_yaml(_FOLDER / f"{name}.yaml"), source=f"questions/{name}.yaml")


def _applies(condition: Condition, label: str | None, facts: dict[str, tuple[float, float]]) -> bool:
    if isinstance(condition, str):
        return condition == label
    return all(
        name in facts and low <= facts[name][0] and facts[name][1] <= high
        for name, (low, high) in condition.items()
    )
