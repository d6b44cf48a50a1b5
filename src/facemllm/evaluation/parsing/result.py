"""What the parser gives back."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Outcome = Literal["answer", "refusal", "unparsed", "ambiguous", "wrong type"]
OUTCOMES: tuple[Outcome, ...] = ("answer", "refusal", "unparsed", "ambiguous", "wrong type")


class Parsed(NamedTuple):
    """A free-text answer, read.

    Attributes:
        outcome: ``answer``; ``refusal`` (the model says it does not know or will not say); ``unparsed``
            (nothing of use was found); ``ambiguous`` (different answers, none preferred); ``wrong type`` (an
            answer of another kind, such as a number where an expression was asked).
        label: The answer: a label, years, a pose, an option; None for other outcomes.
        span: Start and end of the characters it was read from; None where there is no one place.
    """

    outcome: Outcome
    label: Any = None
    span: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"outcome": self.outcome, "label": self.label}


UNPARSED = Parsed("unparsed")
