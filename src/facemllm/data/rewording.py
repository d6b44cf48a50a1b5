"""Questions in other people's words: what they put around a question, and how they name whom it is about."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from facemllm.core.config import StrictModel, load_yaml, validate
from facemllm.data.phrasings import Phrasing, pick

_FILE = Path(__file__).parent / "questions" / "rewordings.yaml"
_FRAMED, _RENAMED, _PRONOUN = 0.2, 0.35, 0.4
_PERSON = re.compile(r"\b(?:this|the) person\b(?!'| (?:in|on|shown|here|you|we|pictured)\b)", re.IGNORECASE)
_SUBJECT = re.compile(
    r"\b(is|does|has|was|did|can|will|that|whether|if|think) (?:this|the) person\b(?!')", re.IGNORECASE
)
_OWNER = re.compile(r"\b(?:this|the) person's\b", re.IGNORECASE)
_HEAD, _FACE = re.compile(r"\bthe head\b"), re.compile(r"\b(?:this|the) face\b(?! (?:in|of|we|you)\b)")


class Rewordings(StrictModel):
    """What a question is put into, and names of what it is about.

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
def rewordings() -> Rewordings:
    """Return what the file holds."""
    return validate(Rewordings, load_yaml(_FILE), source="questions/rewordings.yaml")


def reworded(question: str, rng: random.Random, split: str = "train") -> str:
    """Return a question as somebody else may put it; about half are returned as they are.

    A pronoun is drawn without regard to the face, so that it tells nothing about it.

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
        pronoun, owner = rng.choice([("he", "his"), ("she", "her")])
        question = _OWNER.sub(lambda match: _cased(owner, match[0]), question)
        question = _SUBJECT.sub(rf"\1 {pronoun}", question)
    else:
        question = _PERSON.sub(lambda match: _cased(person, match[0]), question)
    return _FACE.sub(face, _HEAD.sub(head, question))


def _cased(text: str, like: str) -> str:
    return text.capitalize() if like[0].isupper() else text
