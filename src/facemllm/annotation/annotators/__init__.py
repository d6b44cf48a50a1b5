"""Annotators by name: any OpenAI-compatible endpoint, a local model, or recorded answers."""

from facemllm.annotation.annotators import local, openai, replay  # noqa: F401  (they register themselves)
from facemllm.annotation.annotators.base import (
    ANNOTATORS,
    Annotator,
    Busy,
    NoAnswer,
    Question,
    Reply,
    Unusable,
    create_annotator,
)

__all__ = [
    "ANNOTATORS", "Annotator", "Busy", "NoAnswer", "Question", "Reply", "Unusable", "create_annotator",
]  # fmt: skip
