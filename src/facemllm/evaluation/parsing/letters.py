"""Reading of option letters, and numbers of options, apart from articles and other words of one letter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from facemllm.evaluation.parsing.context import Mention, in_context
from facemllm.evaluation.parsing.lexicon import words_of
from facemllm.evaluation.parsing.reading import Reading

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_INTRODUCED = frozenset(
    [
        "option",
        "options",
        "answer",
        "choice",
        "letter",
        "choose",
        "select",
        "pick",
        "boxed",
        "text",
        "leaves",
        "category",
        *"项是选为案",
    ]
)
_WEAKLY = frozenset(
    ("is", "(", ":", "[", "be", "with", "say", "s", "for", "thought", "considered", "not", "toward")
)
_UNSAID = frozenset((".", "\n", "(", ")", "[", "]", ":", ",", "!", ";"))
_LISTING = frozenset(("and", "or", "either", "both", "/", "not"))
_SET_OFF = frozenset((")", ".", ":", "]"))
_ENDS = frozenset(("", ".", ")", ":", ",", "]", "\n", ";", "!", "because", "since", "as", "for"))
_VERBS = ("is", "fits", "seems", "matches", "appears", "best", "describes", "would", "sounds")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "last")
_ARTICLES = frozenset(("a", "i"))


def read_letters(reading: Reading, count: int) -> list[Mention]:
    """Return the options whose letters were given, as mentions of their indices in context.

    A letter is one only when it stands alone, is set off ("B)", "(b)", "B:") or introduced ("option B"), so
    that the article in "A woman who looks sad" is none.
    """
    text = reading.words
    letters = _letters(count)
    if letters.isdisjoint(text):
        return []
    said = [index for index, word in enumerate(text) if word in letters]
    solid = [index for index, word in enumerate(text) if word not in _UNSAID]
    listed = all(text[i] in letters or text[i] in _LISTING for i in solid)
    found = []
    for index in said:
        word = text[index]
        if listed or _stands_out(reading, index, solid[0] == index):
            found.append(Mention(LETTERS.index(word), index, index + 1, 2.0))
    return in_context(text, found, reading.bits)


def read_index(reading: Reading, count: int) -> list[Mention]:
    """Return the option whose number was given: "2" alone, "option 2" or "2." at the start."""
    text = reading.words
    ordinal = _ordinal(text, count)
    if ordinal is not None:
        return in_context(text, [ordinal], reading.bits)
    numbers = {str(n): n - 1 for n in range(1, count + 1)}
    if numbers.keys().isdisjoint(text):
        return []
    solid = [index for index, word in enumerate(text) if word not in _UNSAID]
    found = []
    for index, word in enumerate(text):
        if word in numbers:
            introduced = index > 0 and text[index - 1] in _INTRODUCED
            leads = index == solid[0] and text[index + 1 : index + 2] in ([")"], ["."], [":"])
            if solid == [index] or introduced or leads:
                found.append(Mention(numbers[word], index, index + 1, 2.0))
    return in_context(text, found, reading.bits)


def is_article(text: Sequence[str], index: int) -> bool:
    """Say whether an "a" can only be an article: another word follows, and none that an option would have."""
    after = text[index + 1] if index + 1 < len(text) else ""
    return after.isalpha() and after not in _ENDS and after not in _VERBS and after not in _LISTING


def _ordinal(text: Sequence[str], count: int) -> Mention | None:
    """Return the option meant by "the second option", "third one" or "the last choice"."""
    for index, word in enumerate(text[:-1]):
        if word in _ORDINALS and text[index + 1] in ("option", "choice", "one", "answer"):
            which = count - 1 if word == "last" else _ORDINALS.index(word)
            if which < count:
                return Mention(which, index, index + 2, 2.0)
    return None


def without_listing(reading: Reading, options: tuple[str, ...]) -> Reading:
    """Return a reading in which the list of options, said again with their letters, is blanked."""
    text = reading.words
    if LETTERS[min(len(options), len(LETTERS)) - 1] not in text:  # as mostly: not all of them are there
        return reading
    index, first = 0, None
    for letter, option in zip(LETTERS, _tokens(options), strict=False):
        while index < len(text) and not (
            text[index] == letter
            and index + 1 < len(text)
            and [w for w in text[index + 1 : index + 3 + len(option)] if w not in _UNSAID][: len(option)]
            == list(option)
        ):
            index += 1
        if index >= len(text):
            return reading
        first = index if first is None else first
        index += 1
    end = index + len(_tokens(options)[-1]) + 1
    rest = [*text[:first], *text[end:]]
    if first is None or all(word in _UNSAID for word in rest):
        return reading
    return Reading(
        [*text[:first], *["."] * (end - first), *text[end:]][: len(text)], reading.plain, reading.cut
    )


def _stands_out(reading: Reading, index: int, leads: bool) -> bool:
    text = reading.words
    word = text[index]
    after = text[index + 1] if index + 1 < len(text) else ""
    before = text[index - 1] if index else ""
    capital = reading.source(index).isupper()
    if before == "'" or after == "'":
        return False
    if leads and capital and after == "(":
        return True
    if capital and after in _LISTING and text[index + 2 : index + 3] and text[index + 2] in LETTERS:
        return True
    if capital and index > 1 and before in _LISTING and text[index - 2] in LETTERS and after not in ("'",):
        return True
    if word in _ARTICLES and after not in _ENDS and not (capital and after in _VERBS):
        return False
    if before in _INTRODUCED:
        return capital or word not in _ARTICLES or after in _ENDS
    closed = after in (")", "]") and before in ("(", "[")
    if closed or (after in _SET_OFF and before not in ("a", "an", "the")):
        return capital or closed or leads or after in (")", "]") or before in _WEAKLY
    if capital and after in (_VERBS if word != "i" else _VERBS[:3]):
        return True
    if leads and capital and (after in _ENDS or (word not in _ARTICLES and not after.isalpha())):
        return True
    if leads and after in ("\n", ",", ":", "(") and capital:
        return True
    if not capital:
        return before in _WEAKLY and after in ("", ".", "\n")
    if before in _WEAKLY or (after in _LISTING | {","} and before in _LISTING | _WEAKLY | {""}):
        return True
    return after in ("", ".", "\n", ",") and (word not in _ARTICLES or before != "")


@lru_cache(maxsize=64)
def _letters(count: int) -> frozenset[str]:
    return frozenset(LETTERS[:count])


@lru_cache(maxsize=4096)
def _tokens(options: tuple[str, ...]) -> Sequence[tuple[str, ...]]:
    return tuple(words_of(option) for option in options)
