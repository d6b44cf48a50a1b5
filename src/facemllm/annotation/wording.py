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
_LONG = 8  # words; a shorter text may well have no frequent word


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
    if prompt.frequent_words and not in_language(caption, prompt.frequent_words, prompt.foreign_words):
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


def in_language(text: str, frequent_words: Sequence[str], foreign_words: Sequence[str] = ()) -> bool:
    """Return whether a text seems to be in the language of some frequent words.

    Words of another script count as words. A text with more foreign than frequent words is not in the
    language, nor is one of eight words or more with few frequent ones; a shorter one gets the benefit of the
    doubt.

    Example:
        >>> in_language("Curly ginger locks.", ["the", "with"], ["ein", "mit"])
        True
        >>> in_language("Ein Kind lacht.", ["the", "with"], ["ein", "mit"])
        False
    """
    words = [word.lower() for word in _LETTERS.findall(text)]
    if not words:
        return False
    known, latin = _word_set(tuple(frequent_words))
    foreign, _ = _word_set(tuple(foreign_words))
    if latin and sum(word.isascii() for word in words) < 0.6 * len(words):
        return False
    hits = sum(word in known for word in words)
    if sum(word in foreign for word in words) > hits:
        return False
    return len(words) < _LONG or hits / len(words) >= _LEAST_SHARE


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


def check_traits(caption: str, prompt: PromptFile, include: Collection[str] = ()) -> Fault | None:
    """Return why a caption cannot be used even after :func:`neutral`, or None.

    Either a word that tells an unasked trait is left, or the sentence is broken.

    Example:
        >>> from facemllm.annotation.prompt import load_prompt
        >>> file = load_prompt("face").file
        >>> check_traits("A Korean actor smiles.", file).reason
        'unasked_trait'
        >>> check_traits("A Korean actor smiles.", file, ["ethnicity"]) is None
        True
    """
    text, _ = neutral(caption, prompt, include)
    for label, patterns in prompt.tells.items():
        if label not in include and (found := _one_of(patterns).search(text)):
            return Fault("unasked_trait", f"the caption says {found[0]!r}; leave out what tells the {label}")
    if prompt.broken and (found := _one_of(prompt.broken).search(text)):
        return Fault("broken_caption", f"the caption has no whole sentence around {found[0]!r}")
    return None


@lru_cache(maxsize=32)
def _one_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{pattern})(?!\w)" for pattern in patterns), re.IGNORECASE)


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
