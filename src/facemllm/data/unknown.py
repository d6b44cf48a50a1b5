"""Questions that a face has no answer to, so that a model learns to say it does not know."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Collection

from facemllm.data.answers import UNKNOWN
from facemllm.data.phrasings import unknown_set
from facemllm.data.schema import QA

_SLOT = re.compile(r"{(\w+)}")
_ARTICLE = re.compile(r"\ba(?= [aeiou])")
_SALAD, _GIBBERISH, _SUM = 0.1, 0.12, 0.03


def write_unknown(rng: random.Random, split: str = "train", tasks: Collection[str] = ()) -> QA:
    """Write a question whose answer is "I don't know.".

    Most are real questions about other things or about what a face does not show; some are words in random
    order or no words at all.

    Args:
        rng: Draws the question.
        split: ``train`` leaves out held-out topics, ``all`` uses everything, others use held-out topics only.
        tasks: Tasks the model is trained for; topics that these answer are left out.

    Example:
        >>> qa = write_unknown(random.Random(1))
        >>> qa.answer, qa.label
        ("I don't know.", None)
    """
    share = rng.random()
    if share < _GIBBERISH:
        question = _gibberish(rng)
    elif share < _GIBBERISH + _SALAD:
        question = _salad(rng)
    elif share < _GIBBERISH + _SALAD + _SUM:
        question = _sum(rng)
    else:
        question = _fill(rng.choice(unknown_templates(split, tasks)), rng)
    return QA(question=question, answer=UNKNOWN, task="unknown")


def write_private(rng: random.Random, split: str = "train") -> list[QA]:
    """Write a question about the person that no photo of a face answers, such as a name or a job.

    "I don't know." is right for any model here, also one that sees and knows more than faces.

    Returns:
        One question, or none where the split has no such topic: none is held out from training.

    Example:
        >>> [qa] = write_private(random.Random(1))
        >>> qa.question, qa.answer
        ('On which street does this person live?', "I don't know.")
    """
    found = unknown_templates(split, private=True)
    questions = [_fill(rng.choice(found), rng)] if found else []
    return [QA(question=question, answer=UNKNOWN, task="unknown") for question in questions]


def unknown_templates(
    split: str = "train", tasks: Collection[str] = (), *, private: bool = False
) -> list[str]:
    """Return the questions, slots unfilled, that a split may use; ``private`` leaves out all other topics."""
    return [
        text
        for topic in unknown_set().topics.values()
        if topic.unless not in tasks and (split == "all" or topic.held_out == (split != "train"))
        if topic.private or not private
        for text in topic.texts
    ]


def _fill(template: str, rng: random.Random) -> str:
    text = _SLOT.sub(lambda slot: rng.choice(unknown_set().words[slot[1]]), template)
    return _ARTICLE.sub("an", text)


def _salad(rng: random.Random) -> str:
    words = [word for group in unknown_set().words.values() for word in group]
    text = " ".join(rng.choice(words) for _ in range(rng.randint(2, 9)))
    return (text.capitalize() if rng.random() < 0.7 else text) + rng.choice(["?", "?", ".", ""])


def _sum(rng: random.Random) -> str:
    sign = rng.choice(["+", "-", "*", " plus ", " minus ", " times "])
    numbers = f"{rng.randint(0, 99)}{sign}{rng.randint(0, 99)}"
    return rng.choice(["What is {}?", "How much is {}?", "{} =", "{}", "Calculate {}."]).format(numbers)


def _gibberish(rng: random.Random) -> str:
    """No words: letters at random, one letter many times, or marks alone."""
    kind = rng.random()
    if kind < 0.25:
        return rng.choice("?.!-,/#") * rng.choice([1, 1, 1, 2, 3, 5])
    if kind < 0.5:
        return rng.choice(string.ascii_letters + string.digits) * rng.randint(1, 60)
    letters = string.ascii_lowercase
    words = ("".join(rng.choice(letters) for _ in range(rng.randint(2, 9))) for _ in range(rng.randint(1, 5)))
    return " ".join(words) + rng.choice(["?", ""])
