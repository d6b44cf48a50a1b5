"""Questions in other people's words: what they put around a question, and how they name whom it is about."""

from __future__ import annotations

import random
import re
from functools import partial

from facemllm.data.phrasings import pick, rewordings

_FRAMED, _RENAMED, _PRONOUN = 0.2, 0.4, 0.4
_SOMEBODY = r"\b(?:this|the) person"
_PERSON = re.compile(
    rf"{_SOMEBODY}\b(?!'| (?:in|on|shown|here|you|we|pictured)\b)", re.IGNORECASE
)  # not "the person's", not "the person in the photo"
_OWNER = re.compile(rf"{_SOMEBODY}'s\b", re.IGNORECASE)
_SUBJECT = re.compile(
    rf"(?P<before>\b(?:is|does|has|was|did|can|will|that|whether|if) ){_SOMEBODY}\b(?!')"
    rf"|{_SOMEBODY}(?= (?:is|has|was|looks?|seems?|feels?|appears?|might|could|would|may|shows?)\b)",
    re.IGNORECASE,
)
_OBJECT = re.compile(
    rf"(?P<before>\b(?:of|on|at|for|see|with|give|about|judge) ){_SOMEBODY}\b(?!')", re.IGNORECASE
)
_PRONOUNS = (("his", "he", "him"), ("her", "she", "her"))
_HEAD, _FACE = re.compile(r"\bthe head\b"), re.compile(r"\b(?:this|the) face\b(?! (?:in|of|we|you)\b)")


def reworded(question: str, rng: random.Random, split: str = "train") -> str:
    """Return a question as somebody else may put it; about half are returned as they are.

    Whether it says "he" or "this woman" is drawn without regard to the face, so that it tells nothing.

    Args:
        question: Well-written.
        rng: Draws what is changed, and into what.
        split: ``train`` uses the words for training, ``all`` all, any other the held-out ones only.

    Example:
        >>> reworded("How old is this person?", random.Random(18))
        'How old is she?'
    """
    if rng.random() < _RENAMED:
        question = _renamed(question, rng, split)
    if rng.random() < _FRAMED:
        lower = question[:1].lower() + question[1:]
        question = pick(rewordings().frames, split, rng).text.format(question=question, lower=lower)
    return question


def _renamed(question: str, rng: random.Random, split: str) -> str:
    """Name the person, the face or the head otherwise, once and for all of the question."""
    found = rewordings()
    person, head, face = (pick(names, split, rng).text for names in (found.persons, found.heads, found.faces))
    if rng.random() < _PRONOUN:
        for names, pronoun in zip((_OWNER, _SUBJECT, _OBJECT), rng.choice(_PRONOUNS), strict=True):
            question = names.sub(partial(_cased, pronoun), question)
    else:
        question = _PERSON.sub(partial(_cased, person), question)
    return _FACE.sub(face, _HEAD.sub(head, question))


def _cased(text: str, instead: re.Match[str]) -> str:
    before = instead.groupdict().get("before") or ""
    named = instead[0].removeprefix(before)
    return before + (text[0].upper() + text[1:] if named[0].isupper() else text)
