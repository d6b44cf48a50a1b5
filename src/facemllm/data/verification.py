"""Questions whether two pictures show one person."""

from __future__ import annotations

import random
from collections.abc import Collection

from facemllm.data.forms import FORMS, TRUE_FALSE, YES_NO, ask_choice, binary
from facemllm.data.phrasings import Phrasing, pick, question_set
from facemllm.data.schema import QA, FacePair, Form

ANSWERS = ("the same person", "two different people")


def write_verification(
    pair: FacePair, rng: random.Random, split: str = "train", *, forms: Collection[Form] = FORMS
) -> list[QA]:
    """Write questions about a pair of pictures, which come before the question in the order of the pair.

    Verification identifies nobody, but it compares people, so it is never asked beside other tasks.

    Args:
        pair: The two faces.
        rng: Draws phrasings and the order of options.
        split: Which phrasings, as in :func:`facemllm.data.write_questions`.
        forms: Which forms of questions; there is no open one.

    Example:
        >>> from facemllm.data.schema import FaceSample
        >>> face = FaceSample(id="1", image="1.jpg", labels={}, dataset="mine", licence="own")
        >>> pair = FacePair(first=face, second=face, same=True)
        >>> [qa] = write_verification(pair, random.Random(0), forms=["yes_no"])
        >>> qa.answer
        'yes'
    """
    phrasings = question_set("verification")
    right, other = ANSWERS if pair.same else ANSWERS[::-1]
    question = pick(phrasings.choice, split, rng).text
    found = [ask_choice("verification", question, right, [other], split, rng)]
    for form, options in (("yes_no", YES_NO), ("true_false", TRUE_FALSE)):
        texts: tuple[Phrasing, ...] = getattr(phrasings, form)
        found.append(binary("verification", pick(texts, split, rng).text, pair.same, options))
    return [qa for qa in found if qa.form in forms]
