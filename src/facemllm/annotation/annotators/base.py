"""What an annotator is: a question about one crop in, a reply out; and the ways in which it may fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from facemllm.annotation.prompt import Prompt
from facemllm.core.errors import ConfigError
from facemllm.core.registry import Registry


@dataclass(frozen=True)
class Question:
    """What is put to an annotator.

    Attributes:
        prompt: Texts and schema; the same for every picture.
        jpeg: The crop.
        item: Id of the picture, for annotators that look answers up. It must not be told to a model.
        turns: What was said before: pairs of the annotator's answer and what is wrong with it.
    """

    prompt: Prompt
    jpeg: bytes
    item: str
    turns: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: The answer, which should be JSON.
        finish: Why it ended: "stop", "length" when it was cut, "content_filter" when it was withheld.
        refusal: What the model said instead of answering.
        tokens_in: Tokens read.
        tokens_out: Tokens written.
        served: Which model answered, in the server's words.
    """

    text: str | None
    finish: str = "stop"
    refusal: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    served: str | None = None


class Busy(Exception):
    """The annotator answered that it cannot answer now: too many requests, or a fault of its own.

    Args:
        outcome: As the ledger counts it: "http 429".
        after: Seconds it asks to wait, if it says so.
    """

    def __init__(self, outcome: str, *, after: float | None = None) -> None:
        super().__init__(outcome)
        self.outcome, self.after = outcome, after


class NoAnswer(Exception):
    """Nothing came back: it timed out, or the connection broke. The request may have been carried out."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Unusable(Exception):
    """The annotator answered that it will not take this request; asking again would not help.

    Args:
        outcome: As the ledger counts it: "http 400".
        detail: What it said.
        reason: Of the reject.
    """

    def __init__(self, outcome: str, detail: str = "", *, reason: str = "request_refused") -> None:
        super().__init__(outcome)
        self.outcome, self.detail, self.reason = outcome, detail, reason


@runtime_checkable
class Annotator(Protocol):
    """Anything that answers questions about crops.

    Attributes:
        name: Of the plug-in.
        model: Which model answers.
        endpoint: Host of the server, or None.
        parameters: Of generation, as they are stored with every record.

    An annotator with an attribute ``untimed = True`` is waited for as long as it takes.
    """

    name: str
    model: str
    endpoint: str | None
    parameters: dict[str, Any]

    async def __call__(self, question: Question, *, key: str) -> Reply:
        """Answer a question.

        Args:
            question: What is asked.
            key: The same for the same request, for endpoints that know idempotency keys.

        Raises:
            Busy: If it should be asked again later.
            NoAnswer: If nothing came back.
            Unusable: If asking again would not help for this picture.
            FaceMLLMError: If asking again would not help for any picture.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


ANNOTATORS: Registry[Annotator] = Registry("annotator")
"""Annotators by name. Other packages add theirs through the entry-point group ``facemllm.annotators``."""


def create_annotator(annotator: str | Annotator, **options: Any) -> Annotator:
    """Build an annotator by name, or return the instance given.

    Raises:
        RegistryError: If the name is unknown.
        ConfigError: If an option is unknown, or options are given with an instance.
    """
    if not isinstance(annotator, str):
        if options:
            raise ConfigError(
                "cannot use an annotator",
                given=f"{type(annotator).__name__} with options {sorted(options)}",
                expected="a name, or an instance without options",
                do="pass the options when you build the instance",
            )
        return annotator
    factory = ANNOTATORS.get(annotator)
    try:
        return factory(**options)
    except TypeError as error:
        raise ConfigError(
            f"cannot build the annotator {annotator!r}",
            given=f"{', '.join(f'{key}={value!r}' for key, value in options.items())} ({error})",
            expected="the options that its documentation names",
            do="see docs/annotation.md, or facemllm annotate --help",
        ) from None


@dataclass(frozen=True)
class Stated:
    """What the user says about an annotator, besides how to reach it.

    Attributes:
        terms: The terms under which its answers may be used.
        price_in: US dollars for a million tokens read; None if unknown.
        price_out: US dollars for a million tokens written.
    """

    terms: str = "not stated"
    price_in: float | None = None
    price_out: float | None = None

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Return what tokens cost, in US dollars; nothing without prices."""
        return (tokens_in * (self.price_in or 0.0) + tokens_out * (self.price_out or 0.0)) / 1e6
