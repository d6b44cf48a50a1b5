"""What may be asked, checked before a picture is opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from facemllm.core.errors import ConfigError


def checked_questions(questions: Any) -> list[str]:
    """Return the questions as a list.

    Raises:
        ConfigError: If one is not text, or is blank: to nothing, a model would answer anything.

    Example:
        >>> checked_questions("How old is this person?")
        ['How old is this person?']
    """
    asked = [questions] if isinstance(questions, str) or not isinstance(questions, Iterable) else [*questions]
    for question in asked:
        if not isinstance(question, str) or not question.strip():
            raise ConfigError(
                "cannot ask this",
                given=repr(question),
                expected="a question as text, or a list of questions",
                do='write one, such as "How old is this person?"',
            )
    return asked


def check_lengths(asked: Iterable[str], lengths: Iterable[int], text_config: Any) -> None:
    """Refuse questions that, with the picture's tokens, are longer than the language model reads.

    Raises:
        ConfigError: If one is: beyond its positions a language model says anything.
    """
    most = getattr(text_config, "max_position_embeddings", None)
    for question, length in zip(asked, lengths, strict=True):
        if most is not None and length > most:
            raise ConfigError(
                "a question is too long for the language model",
                given=f"{length:,} tokens with those of the picture: {question[:40]!r}...",
                expected=f"at most {most:,}",
                do="ask shorter, or use a model with a longer context",
            )


def checked_options(asked: list[str], options: Any) -> list[list[str]]:
    """Return a list of options for each question.

    Args:
        asked: K questions.
        options: A list of K lists, or one list for all of them.

    Raises:
        ConfigError: If there are fewer than two different options, one is not text, or there are not as many
            lists as questions.

    Example:
        >>> checked_options(["Smiling?", "Hat?"], ["yes", "no"])
        [['yes', 'no'], ['yes', 'no']]
    """
    lists = [] if isinstance(options, str) or not isinstance(options, Iterable) else [*options]
    if lists and all(isinstance(option, str) for option in lists):
        lists = [lists] * len(asked)
    if len(lists) != len(asked):
        raise ConfigError(
            "questions and options do not fit together",
            given=f"{len(asked)} questions, options {options!r}",
            expected="a list of options for each question",
            do="pass options=[[...], ...], or one list for all",
        )
    for own in lists:
        texts = isinstance(own, (list, tuple)) and all(isinstance(option, str) for option in own)
        if not texts or len(set(own)) < 2 or len(set(own)) != len(own):
            raise ConfigError(
                "cannot choose",
                given=repr(own),
                expected="two or more different options, as text",
                do="pass options=[...]",
            )
    return [list(own) for own in lists]


def checked_count(name: str, value: Any) -> int:
    """Return a number of things of which there is at least one.

    Raises:
        ConfigError: If it is not a whole number above zero.

    Example:
        >>> checked_count("batch_size", 8)
        8
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"wrong {name}", given=repr(value), expected="a whole number above zero", do=f"change {name}"
        )
    return value
