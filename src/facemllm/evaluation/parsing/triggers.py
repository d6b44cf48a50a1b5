"""Which kinds of phrases a text may hold, found in one look at its words.

Most answers hold no refusal, no correction and no negation. To ask every lexicon would cost more than reading
the answer does; so every word by which a phrase is looked for has bits here that say what it may be part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from facemllm.evaluation.parsing.lexicon import kinds, phrases, rarest, words
from facemllm.evaluation.parsing.numbers import BEGINS
from facemllm.evaluation.parsing.text import is_cut_alike, lower, words_in
from facemllm.evaluation.parsing.wrappers import may_be_wrapped

ECHO, REFUSAL, MARK, NO, CONTEXT = 1, 2, 4, 8, 16
"""The question said again; a refusal; an announcement or correction; a "no"; what changes a label."""

LOUD, NUMBER, WRAPPED = 32, 64, 128
"""What may matter to a text with one label (all but what only weighs labels); a number; a wrapper's sign."""

_NOT, _WITH_NOT, _WITH_NO = 256, 512, 1024  # "not" itself; what refuses only beside "not", or beside "no"
_DASHED = 2048  # what is cut by what stands beside it
_PAIRED = _WITH_NOT | _WITH_NO
_REMEMBERED, _LONGEST = 1 << 14, 32  # how many words are kept, and of how many letters

CONTEXTS = ("negators", "hedges", "dismissals", "unclaimed", "emphasis", "outdone", "compared")
"""Kinds of words that change what a label after them counts for."""

VERDICTS = {"yes": True, "true": True, "no": False, "false": False, "unlikely": False, "absent": False}
"""Words that say, after a label, whether it holds."""

ECHOES = frozenset(("?", "whether", "asks", "asked"))


def look(text: str) -> tuple[list[str], str, int]:
    """Return the words of an answer, the text they were cut from, in lower case, and the bits of all.

    The words are those of :func:`facemllm.evaluation.parsing.text.cut`. As most words come again in other
    texts, what stands between spaces is cut and looked up once.
    """
    plain = lower(text)
    words: list[str] = []
    bits = 0
    for stretch in plain.split(" "):
        made, found = _STRETCHES[stretch]
        words += made
        bits |= found
    if "`" in text:  # in lower case it may have become a plain quote
        bits |= WRAPPED
    if bits & _DASHED:
        words = words_in(plain)
        bits |= trigger_bits(words)
    return words, plain, _with_pairs(bits) if bits & _PAIRED else bits


class _Stretches(dict[str, tuple[tuple[str, ...], int]]):
    """The words and bits of what was met between spaces."""

    def __missing__(self, stretch: str) -> tuple[tuple[str, ...], int]:
        """Cut a stretch and look its words up, and remember what was found."""
        words = tuple(words_in(stretch)) if is_cut_alike(stretch) else ()
        bits = 0 if is_cut_alike(stretch) else _DASHED
        for word in words:
            bits |= _BITS[word]
        found = words, bits | WRAPPED * may_be_wrapped(stretch)
        if len(self) >= _REMEMBERED:
            self.clear()
        if len(stretch) <= _LONGEST:
            self[stretch] = found
        return found


_STRETCHES = _Stretches()


def trigger_bits(text: Sequence[str]) -> int:
    """Return the bits of all words of a text.

    Example:
        >>> [trigger_bits(words) & CONTEXT == CONTEXT for words in (["happy", "face"], ["not", "happy"])]
        [False, True]
    """
    found = 0
    bits = _BITS
    for word in text:
        found |= bits[word]
    return _with_pairs(found) if found & _PAIRED else found


def _with_pairs(bits: int) -> int:
    """Return bits with that of a refusal where two words that make one were found."""
    both = (bits & _WITH_NOT and bits & _NOT) or (bits & _WITH_NO and bits & NO)
    return bits | REFUSAL if both else bits


class _Bits(dict[str, int]):
    """The bits of each word that was met."""

    def __missing__(self, word: str) -> int:
        """Look a word up, and remember what was found."""
        if len(self) >= _REMEMBERED:
            self.clear()
        self[word] = found = _listed().get(word, 0) | NUMBER * (BEGINS[word] and word != "a")
        return found


_BITS = _Bits()


@cache
def _listed() -> dict[str, int]:
    """Return the bits of each word that some list has, for numbers in digits are in none."""
    table: dict[str, int] = {}

    def add(bit: int, *groups: Iterable[str]) -> None:
        for group in groups:
            for word in group:
                table[word] = table.get(word, 0) | bit

    add(ECHO, ECHOES)
    for name in ("whole", "forward"):
        for phrase, _ in phrases("refusal", name).phrases():
            own = phrase.split(" ")
            beside = next((word for word in ("not", "no") if word in own), None)
            bit = {None: REFUSAL, "not": _WITH_NOT, "no": _WITH_NO}[beside]
            add(bit, (rarest([word for word in own if word != beside]),))
    add(_WITH_NOT, *(words("refusal", name) for name in ("verbs", "gives")))
    add(_NOT, ("not",))
    add(MARK, kinds("context", "answers", "corrections", "conclusions").triggers)
    add(MARK, ("first", "initially", "originally"))
    add(NO, ("no",))
    add(
        CONTEXT,
        ("not",),
        VERDICTS,
        words("context", "missing"),
        {
            rarest(p.split(" "))
            for p, _ in kinds("context", *CONTEXTS, "ignore").phrases()
            if "not" not in p.split(" ")
        },
        *(phrases("context", name).triggers for name in ("ruled_out", "outranked", "preferred")),
    )
    denying = kinds("context", "negators", "unclaimed").triggers | phrases("context", "ruled_out").triggers
    add(LOUD, denying, words("context", "missing"), VERDICTS, ("not",), words("statements", "denials"))
    add(LOUD, {word for word, bits in table.items() if bits & (ECHO | REFUSAL | MARK | NO)})
    return table
