"""The short way for plain answers: one label, and no word that could change what it counts for.

Each reader here gives what the long way would give, or None, which leaves the answer to it. A test holds both
ways to the same readings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from facemllm.data.vocabularies import MAX_AGE
from facemllm.evaluation.parsing.age import age_words, only_years
from facemllm.evaluation.parsing.choice import literal_options
from facemllm.evaluation.parsing.letters import LETTERS, is_article
from facemllm.evaluation.parsing.lexicon import Lexicon, kinds, vocabulary, words, words_of
from facemllm.evaluation.parsing.result import Parsed, Place, answer
from facemllm.evaluation.parsing.triggers import ECHO, LOUD, MARK, NO, NUMBER, REFUSAL, trigger_bits
from facemllm.evaluation.parsing.wrappers import Cut

LONGEST = 40
"""Words of the longest answer that is tried."""

_Table = Mapping[str, tuple[Any, frozenset[str]]]
_PAUSES = frozenset(",.!\n;")
_EITHER = frozenset(("and", "or", "/"))
_CHANGING = ECHO | REFUSAL | MARK | NO
_TASKS = frozenset(("expression", "gender", "ethnicity", "age", "yesno", "choice"))
_AROUND = (((), ()), ((), (".",)), ((), (")",)), (("(",), (")",)), (("(",), (")", ".")))
"""Signs before and after a letter that is all of an answer."""


def read_quickly(
    task: str, text: Sequence[str], bits: int, cut: Cut, options: tuple[str, ...] | None
) -> Parsed | None:
    """Read a plain answer from its words and what :func:`trigger_bits` says of them, or return None."""
    if task not in _TASKS or (options and task != "choice"):
        return None
    start = 0
    if bits & MARK and text[0] in _announcing() and (start := _announced(text)):
        text = text[start:]
        bits = trigger_bits(text)
    if task == "yesno":
        return _read_yes_no(text, bits, cut, start)
    if bits & LOUD:
        return None
    if task == "age":
        return _read_age(text, cut, start) if bits & NUMBER else None
    if options:
        return _read_option(text, cut, start, options)
    return _only_hit(text, cut, start, _labels(task))


def _announced(text: Sequence[str]) -> int:
    """Return how many words at the start only announce the answer: "The answer is", "I would say"."""
    hit = kinds("context", "answers", "conclusions").at(text, 0)
    return hit.end if hit and hit.end < len(text) else 0


@cache
def _announcing() -> frozenset[str]:
    return frozenset(
        phrase.split(" ")[0] for phrase, _ in kinds("context", "answers", "conclusions").phrases()
    )


def _read_option(text: Sequence[str], cut: Cut, start: int, options: tuple[str, ...]) -> Parsed | None:
    table = _option_words(options)
    if table is None:
        return None
    forms = _forms(options)
    if (found := forms.get(tuple(text))) is not None:
        return answer(options[found[0]], _place(cut, start + found[1], start + found[2]))
    return _only_hit(text, cut, start, table)


def _only_hit(text: Sequence[str], cut: Cut, start: int, table: _Table) -> Parsed | None:
    """Return the label of the one word that states one; None where more could be meant."""
    at, label = -1, None
    for index, word in enumerate(text):
        if word in table:
            said, nexts = table[word]
            if nexts and index + 1 < len(text) and text[index + 1] in nexts:
                return None
            if said is not None:
                if said == "" and word == "a" and is_article(text, index):
                    continue
                if at >= 0 or said == "":
                    return None
                at, label = index, said
    return None if at < 0 else answer(label, _place(cut, start + at, start + at + 1))


def _read_age(text: Sequence[str], cut: Cut, start: int) -> Parsed | None:
    if not age_words().isdisjoint(text):
        return None
    years = only_years(text)
    if years is None or years.middle > MAX_AGE:
        return None
    return answer(round(years.middle, 2), _place(cut, start + years.first, start + years.end))


def _read_yes_no(text: Sequence[str], bits: int, cut: Cut, start: int) -> Parsed | None:
    if not text or text[0] not in ("yes", "no") or (len(text) > 1 and text[1] not in _PAUSES):
        return None
    rest = text[1:]
    follows = next((word for word in rest if word not in _PAUSES), "")
    if not words("refusal", "sends").isdisjoint(rest):  # "Yes, I can help. Please share the photo."
        return None
    if follows in _EITHER or "yes" in rest or (bits & _CHANGING and trigger_bits(rest) & _CHANGING):
        return None
    return answer(text[0], _place(cut, start, start + 1))


def _place(cut: Cut, first: int, end: int) -> Place | None:
    return None if cut.offset is None else tuple.__new__(Place, (cut.text, cut.offset, first, end))


@cache
def _labels(task: str) -> _Table:
    return _first_words(vocabulary(task), lambda value: value[0] if value else "")


def _first_words(lexicon: Lexicon[Any], label: Callable[[Any], Any]) -> dict[str, tuple[Any, frozenset[str]]]:
    """Return, by their first word, what the phrases of one word mean and how longer ones go on."""
    table: dict[str, tuple[Any, frozenset[str]]] = {}
    for phrase, value in lexicon.phrases():
        first, *rest = phrase.split(" ")
        said, nexts = table.get(first, (None, frozenset()))
        table[first] = (said, nexts | {rest[0]}) if rest else (label(value), nexts)
    return table


@lru_cache(maxsize=1024)
def _option_words(options: tuple[str, ...]) -> _Table | None:
    """Return the first words of options, and letters as words that leave an answer to the long way."""
    table = _first_words(literal_options(options), lambda value: value)
    letters = set(LETTERS[: len(options)])
    if any(len(word) == 1 for word in table) or len(set(options)) < len(options):
        return None
    for letter in letters:
        table[letter] = ("", frozenset())
    return table


@lru_cache(maxsize=1024)
def _forms(options: tuple[str, ...]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Return the ways to name an option by its letter alone: which option, and where its letter stands."""
    found: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for index, letter in zip(range(len(options)), LETTERS, strict=False):
        for before, after in _AROUND:
            found[(*before, letter, *after)] = (index, len(before), len(before) + 1)
            if after:  # "B. sad", "(B) sad"
                own = words_of(options[index])
                for tail in ((), (".",)):
                    found[(*before, letter, *after[:1], *own, *tail)] = (index, len(before), len(before) + 1)
    return found
