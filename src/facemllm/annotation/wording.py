"""What a caption is held to: at most five sentences, the right language, and no perceived trait unasked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache, partial

from facemllm.annotation.answer import Fault
from facemllm.annotation.prompt import PromptFile

MOST_SENTENCES = 5
MOST_CHARACTERS = 1200
_SENTENCE_END = re.compile(r"[.!?]+(?=\s+[A-Z\"'(]|\s*$)")
_LETTERS = re.compile(r"[^\W\d_]+")
_LEAST_SHARE = 1 / 6  # of frequent words; English prose has a third to a half


def check_caption(caption: str, prompt: PromptFile) -> Fault | None:
    """Return why a caption cannot be used, or None.

    Example:
        >>> from facemllm.annotation.prompt import load_prompt
        >>> file = load_prompt("face").file
        >>> check_caption("The person has short brown hair and smiles.", file) is None
        True
        >>> check_caption("Une femme aux cheveux bruns sourit devant un mur clair.", file).reason
        'wrong_language'
    """
    if not caption:
        return Fault("caption", "the caption is empty")
    if count_sentences(caption) > MOST_SENTENCES or len(caption) > MOST_CHARACTERS:
        return Fault("caption", f"the caption has more than {MOST_SENTENCES} sentences")
    if prompt.frequent_words and not in_language(caption, prompt.frequent_words):
        return Fault("wrong_language", f"the caption is not in the language {prompt.language}")
    return None


def count_sentences(text: str) -> int:
    """Return how many sentences a text has.

    Example:
        >>> count_sentences("The person smiles. The hair, approx. 5 cm, is brown"), count_sentences("One.")
        (2, 1)
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return len(ends) + bool(text[ends[-1] if ends else 0 :].strip())


def in_language(text: str, frequent_words: Sequence[str]) -> bool:
    """Return whether a text seems to be in the language of some frequent words.

    Words of another script count as words; a text of fewer than four words is judged by its script alone.
    """
    words = [word.lower() for word in _LETTERS.findall(text)]
    if not words:
        return False
    known, latin = _word_set(tuple(frequent_words))
    if latin and sum(word.isascii() for word in words) < 0.6 * len(words):
        return False
    return len(words) < 4 or sum(word in known for word in words) / len(words) >= _LEAST_SHARE


@lru_cache(maxsize=8)
def _word_set(words: tuple[str, ...]) -> tuple[frozenset[str], bool]:
    """Return words as a set, and whether all are written in plain Latin letters."""
    return frozenset(words), all(word.isascii() for word in words)


def neutral(caption: str, prompt: PromptFile, include: Collection[str] = ()) -> tuple[str, bool]:
    """Take words out of a caption that tell a perceived trait nobody asked for.

    Returns:
        The caption, and whether it was changed.

    Example:
        >>> from facemllm.annotation.prompt import load_prompt
        >>> neutral("An Asian woman smiles. She wears a hat on her black hair.", load_prompt("face").file)
        ('A person smiles. The person wears a hat on their black hair.', True)
    """
    rules = tuple(
        (pattern, replacement)
        for label, words in prompt.neutral.items()
        if label not in include
        for pattern, replacement in words.items()
    )
    if not rules or not _any_of(rules).search(caption):
        return caption, False
    text = caption
    for pattern, replacement in rules:
        text = _compiled(pattern).sub(partial(_replaced, replacement), text)
    if text == caption:
        return caption, False
    text = re.sub(r"\s+(?=[,.;])", "", text).strip()
    return text[:1].upper() + text[1:], True


@lru_cache(maxsize=8)
def _any_of(rules: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{pattern})\b" for pattern, _ in rules), re.IGNORECASE)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(an?\s+)?(?:{pattern})\b(\s*)(?=(\w?))", re.IGNORECASE)


def _replaced(replacement: str, match: re.Match[str]) -> str:
    """Return what stands in place of a word and the article before it, in its letter case."""
    article, space, following = match.groups()
    if article:
        fitting = "an" if (replacement or following)[:1].lower() in tuple("aeiou") else "a"
        shown = fitting.capitalize() if article[0].isupper() else fitting
        return f"{shown} {replacement}{space if replacement else ''}"
    shown = replacement.capitalize() if match[0][0].isupper() else replacement
    return f"{shown}{space}" if replacement else ""
