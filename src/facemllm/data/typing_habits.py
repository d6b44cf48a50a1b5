"""Questions as people type them: without capitals, or without the mark at the end."""

from __future__ import annotations

import random

_LOWER, _UPPER, _BARE = 0.12, 0.02, 0.1


def as_typed(question: str, rng: random.Random) -> str:
    """Return a question as somebody in a hurry may type it; most are returned as they are.

    Not for questions with lettered options, whose letters are part of the answer.

    Args:
        question: Well-written.
        rng: Draws what is left out.

    Example:
        >>> sorted({as_typed("How old?", random.Random(seed)) for seed in range(20)})
        ['HOW OLD?', 'How old', 'How old?', 'how old?']
    """
    share = rng.random()
    if share < _LOWER:
        question = question.lower()
    elif share < _LOWER + _UPPER:
        question = question.upper()
    return question.rstrip("?.! ") or question if rng.random() < _BARE else question
