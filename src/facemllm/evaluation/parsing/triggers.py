"""Which kinds of phrases a text may hold, found in one look at its words.

Most answers hold no refusal, no correction and no negation. To ask every lexicon would cost more than reading
the answer does; so every word by which a phrase is looked for has bits here that say what it may be part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from facemllm.evaluation.parsing.lexicon import kinds, phrases, rarest, words
from facemllm.evaluation.parsing.numbers import BEGINS

ECHO, REFUSAL, MARK, NO, CONTEXT = 1, 2, 4, 8, 16
"""The question said again; a refusal; an announcement or correction; a "no"; what changes a label."""

LOUD, NUMBER = 32, 64
"""What may matter to a text with one label: all of these but what only weighs labels; where a number begins."""

_NOT, _WITH_NOT = 128, 256  # "not" itself, and words that refuse only beside it
_REMEMBERED = 1 << 14  # words whose bits are kept

CONTEXTS = ("negators", "hedges", "dismissals", "unclaimed", "emphasis", "outdone", "compared")
"""Kinds of words that change what a label after them counts for."""

VERDICTS = {"yes": True, "true": True, "no": False, "false": False, "unlikely": False, "absent": False}
"""Words that say, after a label, whether it holds."""

ECHOES = frozenset(("?", "whether", "asks", "asked"))


def trigger_bits(text: Sequence[str]) -> int:
    """Return the bits of all words of a text.

    Example:
        >>> trigger_bits(["a", "happy", "face"]), trigger_bits(["not", "happy"]) & CONTEXT == CONTEXT
        (0, True)
    """
    found = 0
    bits = _BITS
    for word in text:
        found |= bits[word]
    return found | REFUSAL if found & _WITH_NOT and found & _NOT else found


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
        refusing = [phrase for phrase, _ in phrases("refusal", name).phrases()]
        add(REFUSAL, {rarest(p.split(" ")) for p in refusing if "not" not in p.split(" ")})
        add(_WITH_NOT, {rarest(p.split(" ")) for p in refusing if "not" in p.split(" ")})
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
