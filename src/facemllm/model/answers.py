"""What a model gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from facemllm.faces import Face

UNKNOWN = "I don't know."
"""What a model trained with this library says to a question it has not learned to answer."""


@dataclass(frozen=True)
class Answer:
    """An answer about one face.

    Attributes:
        text: The generated text.
        question: The question it answers.
        confidence: Geometric mean of the probabilities of the generated tokens, in [0, 1]. A language
            model's own likelihood: calibrate it on labelled faces before relying on it.
        face: The face asked about; None where the whole picture was taken.
    """

    text: str
    question: str
    confidence: float
    face: Face | None = None

    @property
    def known(self) -> bool:
        """Whether the model claims to know."""
        return self.text.strip() != UNKNOWN

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "question": self.question,
            "answer": self.text,
            "confidence": round(self.confidence, 4),
            "known": self.known,
            "face": None if self.face is None else face_to_dict(self.face),
        }


def face_to_dict(face: Face) -> dict[str, Any]:
    """Return a face as plain values for JSON, in pixels of the upright picture."""
    return {
        "box": [round(float(value), 1) for value in face.box],
        "score": round(float(face.score), 3),
        "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in face.landmarks],
    }
