"""What the parser gives back."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from facemllm.evaluation.parsing.text import Spans, cut

Outcome = Literal["answer", "refusal", "unparsed", "ambiguous", "wrong type"]
OUTCOMES: tuple[Outcome, ...] = ("answer", "refusal", "unparsed", "ambiguous", "wrong type")


class Place(NamedTuple):
    """Tokens ``first`` to ``end`` of a text that begins at ``offset`` of the whole answer."""

    text: str
    offset: int
    first: int
    end: int

    def characters(self) -> tuple[int, int]:
        """Return the characters of the whole answer that the tokens stand for."""
        spans = Spans(cut(self.text)[1])
        return spans[self.first][0] + self.offset, spans[self.end - 1][1] + self.offset


class _Fields(NamedTuple):
    outcome: Outcome
    label: Any
    place: tuple[int, int] | Place | None


class Parsed(_Fields):
    """A free-text answer, read.

    Args:
        outcome: ``answer``; ``refusal`` (the model says it does not know or will not say); ``unparsed``
            (nothing of use was found); ``ambiguous`` (different answers, none preferred); ``wrong type`` (an
            answer of another kind, such as a number where an expression was asked).
        label: The answer: a label, years, a pose, an option; None for other outcomes.
        span: Start and end of the characters it was read from; None where there is no one place. The words
            of a text may be given instead: their characters are looked for only when they are asked for.
    """

    __slots__ = ()

    def __new__(
        cls, outcome: Outcome, label: Any = None, span: tuple[int, int] | Place | None = None
    ) -> Parsed:
        """Make one of its parts."""
        return tuple.__new__(cls, (outcome, label, span))

    @property
    def span(self) -> tuple[int, int] | None:
        """Start and end of the characters it was read from."""
        return self.place.characters() if isinstance(self.place, Place) else self.place

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"outcome": self.outcome, "label": self.label}


def answer(label: Any, place: tuple[int, int] | Place | None = None) -> Parsed:
    """Return an answer; the same as to construct one, and quicker."""
    return tuple.__new__(Parsed, ("answer", label, place))


UNPARSED = Parsed("unparsed")
