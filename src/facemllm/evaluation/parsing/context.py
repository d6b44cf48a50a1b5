"""What the words around a label do to it, such as negation and hedging, and the choice among labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from facemllm.evaluation.parsing.lexicon import Hit, Lexicon, phrases, synonyms, words
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS

REACH = 6
"""How many tokens before a label a negation or a hedge may stand."""


@dataclass(frozen=True)
class Mention:
    """A label said in a text.

    Attributes:
        label: What was said.
        first: First token.
        end: One after the last token.
        strength: How much it counts; only the strongest labels of a text are compared.
        negated: It was denied.
    """

    label: Any
    first: int
    end: int
    strength: float
    negated: bool = False
    hedged: bool = False


def mentions(reading: Reading, lexicon: Lexicon[tuple[str, int] | None]) -> list[Mention]:
    """Return the labels of a vocabulary said in a text, each in its context."""
    plain = [
        Mention(hit.value[0], hit.first, hit.end, hit.value[1])
        for hit in lexicon.find(reading.words)
        if hit.value is not None
    ]
    return in_context(reading.words, plain)


def in_context(text: Sequence[str], plain: Sequence[Mention]) -> list[Mention]:
    """Return mentions with their strength and negation as the words before them have it."""
    marks = _marks(text)
    found: list[Mention] = []
    for mention in plain:
        marked = {mark for mark, position in _before(text, mention.first, found, marks)}
        negated, hedged = "negators" in marked, "hedges" in marked
        link = text[found[-1].end : mention.first] if found else ()
        joined = bool(link) and set(link) <= words("context", "joiners") | {"/", ","}
        if joined and {"or", "nor", "/"} & set(link):
            negated, hedged = negated or found[-1].negated, hedged or found[-1].hedged
        strength = mention.strength + ("emphasis" in marked) - 1.5 * hedged
        found.append(replace(mention, strength=strength, negated=negated, hedged=hedged))
    return found


def resolve(
    reading: Reading, found: Sequence[Mention], merge: Callable[[list[Mention]], list[Mention]] | None = None
) -> Parsed:
    """Choose among mentions: what was denied or corrected is left out, then the strongest label wins.

    Args:
        reading: The text.
        found: Mentions in order.
        merge: Reduces mentions that say the same in other words.
    """
    live = corrected(reading.words, [mention for mention in found if not mention.negated])
    if not live:
        return reading.nothing()
    strongest = max(mention.strength for mention in live)
    best = [mention for mention in live if mention.strength == strongest]
    best = merge(best) if merge else best
    span = reading.span(best[0].first, best[0].end)
    if any(mention.label != best[0].label for mention in best):
        return Parsed("ambiguous", span=span)
    return Parsed("answer", best[0].label, span)


def corrected(text: Sequence[str], live: list[Mention]) -> list[Mention]:
    """Leave out what was said before an "actually" or the like."""
    turns = [hit.end for hit in phrases("context", "corrections").find(text)]
    after = [mention for mention in live if turns and mention.first >= turns[-1]]
    return after or live


def broader_dropped(task: str) -> Callable[[list[Mention]], list[Mention]]:
    """Return a merge that leaves out labels which another label said refines."""
    broader: Mapping[str, str] = synonyms()[task].get("broader", {})

    def merge(best: list[Mention]) -> list[Mention]:
        covered = {broader[mention.label] for mention in best if mention.label in broader}
        return [mention for mention in best if mention.label not in covered]

    return merge


def _marks(text: Sequence[str]) -> list[tuple[str, Hit[bool]]]:
    ignored = {hit.first for hit in phrases("context", "ignore").find(text)}
    return [
        (name, hit)
        for name in ("negators", "hedges", "emphasis")
        for hit in phrases("context", name).find(text)
        if hit.first not in ignored
    ]


def _before(
    text: Sequence[str], first: int, earlier: Sequence[Mention], marks: Sequence[tuple[str, Hit[bool]]]
) -> list[tuple[str, int]]:
    """Return the marks that reach a label at ``first``, nearest bounds applied."""
    if not marks:
        return []
    stops = words("context", "stops") | CLAUSE_BREAKS
    start = first
    floor = max(first - REACH, earlier[-1].end if earlier else 0)
    while start > floor and text[start - 1] not in stops:
        start -= 1
    return [(name, hit.first) for name, hit in marks if start <= hit.first and hit.end <= first]
