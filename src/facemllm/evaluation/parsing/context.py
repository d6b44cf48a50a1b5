"""What the words around a label do to it, such as negation and hedging, and the choice among labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from facemllm.evaluation.parsing.lexicon import Lexicon, kinds, phrases, synonyms, words
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed, answer
from facemllm.evaluation.parsing.text import BREAKS, CLAUSE_BREAKS
from facemllm.evaluation.parsing.triggers import CONTEXT, CONTEXTS, VERDICTS

REACH = 6
"""How many tokens before a label a negation or a hedge may stand."""

_FAR = ("dismissals", "unclaimed")
"""Kinds that reach to the end of their clause, over verbs."""
_DENYING = frozenset(("negators", "unclaimed"))
_WEIGHTS = {"emphasis": 1.0, "hedges": -1.5, "dismissals": -4.0, "outdone": -1.5, "compared": -4.0}
_NO_MARKS: frozenset[str] = frozenset()
_EITHER = frozenset(("or", "nor", "/"))
_LEAST_LIST = 3


@dataclass(slots=True)
class Mention:
    """A label said in a text.

    Attributes:
        label: What was said.
        first: First token.
        end: One after the last token.
        strength: How much it counts; only the strongest labels of a text are compared.
        negated: It was denied.
        marks: Which kinds of words stand before it.
    """

    label: Any
    first: int
    end: int
    strength: float
    negated: bool = False
    marks: frozenset[str] = frozenset()


def mentions(reading: Reading, lexicon: Lexicon[tuple[str, int] | None]) -> list[Mention]:
    """Return the labels of a vocabulary said in a text, each in its context."""
    text = reading.words
    plain = [
        Mention(hit.value[0], hit.first, hit.end, hit.value[1])
        for hit in lexicon.find(text)
        if hit.value is not None
    ]
    return in_context(text, plain, reading.bits)


def in_context(text: Sequence[str], plain: list[Mention], bits: int = CONTEXT) -> list[Mention]:
    """Give mentions the strength and negation that the words around them have, and return them.

    A denial before a list ("no sign of fear, anger or disgust") holds for all of it, and so does one after it
    ("fear and anger are absent").

    Args:
        text: The words.
        plain: The mentions, in order, as they were found; they are changed.
        bits: What :func:`trigger_bits` says of the text, or of one that holds it.
    """
    if not plain or not bits & CONTEXT:  # nothing here changes anything
        return plain
    before = _Before(text)
    if before.marks:
        floor = 0
        for mention in plain:
            mention.marks = before.of(mention.first, floor)
            mention.negated = not _DENYING.isdisjoint(mention.marks)
            floor = mention.end
    for group in _lists(text, plain) if len(plain) > 1 else (plain,):
        if len(group) > 1 and before.marks:
            _spread(text, group)
        if _denied_after(text, group[-1].end):
            for mention in group:
                mention.negated = True
    after = _after()
    for mention in plain:
        for kind in mention.marks:
            mention.strength += _WEIGHTS.get(kind, 0.0)
        if mention.end < len(text) and text[mention.end] in after:
            _weigh_by_what_follows(text, mention)
    return plain


def _weigh_by_what_follows(text: Sequence[str], mention: Mention) -> None:
    """Let "can be ruled out", "is a distant second" or ": no" change the label before it."""
    end = mention.end
    if "dismissals" not in mention.marks and phrases("context", "ruled_out").at(text, end):
        mention.negated = True
    if phrases("context", "outranked").at(text, end):
        mention.strength += _WEIGHTS["hedges"]
    elif phrases("context", "preferred").at(text, end):
        mention.strength += _WEIGHTS["emphasis"]
    verdict = _verdict(text, end)
    if verdict is not None:  # "Happy: no" in a list of all labels
        mention.negated = not verdict
        mention.strength += verdict


@cache
def _after() -> frozenset[str]:
    """Return the words by which what :func:`_weigh_by_what_follows` looks for begins."""
    starts = [phrases("context", name).starts for name in ("ruled_out", "outranked", "preferred")]
    return frozenset((":", "(")).union(*starts)


def resolve(
    reading: Reading, found: Sequence[Mention], merge: Callable[[list[Mention]], list[Mention]] | None = None
) -> Parsed:
    """Choose among mentions: what was denied is left out, then the strongest label wins.

    Args:
        reading: The text.
        found: Mentions in order.
        merge: Reduces mentions that say the same in other words.
    """
    live = [mention for mention in found if not mention.negated] if len(found) != 1 else found
    if not live or live[0].negated:
        return reading.nothing()
    if len(live) == 1:
        return answer(live[0].label, reading.span(live[0].first, live[0].end))
    strongest = max(mention.strength for mention in live)
    best = [mention for mention in live if mention.strength == strongest]
    best = merge(best) if merge else best
    span = reading.span(best[0].first, best[0].end)
    if any(mention.label != best[0].label for mention in best):
        return Parsed("ambiguous", span=span)
    return answer(best[0].label, span)


@cache
def broader_dropped(task: str) -> Callable[[list[Mention]], list[Mention]]:
    """Return a merge that leaves out labels which another label said refines."""
    broader: Mapping[str, str] = synonyms()[task].get("broader", {})

    def merge(best: list[Mention]) -> list[Mention]:
        covered = {broader[mention.label] for mention in best if mention.label in broader}
        return [mention for mention in best if mention.label not in covered]

    return merge


def _lists(text: Sequence[str], found: Sequence[Mention]) -> list[list[Mention]]:
    """Return mentions in runs that only commas, conjunctions and the like stand between."""
    joiners = _joiners()
    groups: list[list[Mention]] = []
    for mention in found:
        if groups and joiners.issuperset(text[groups[-1][-1].end : mention.first]):
            groups[-1].append(mention)
        else:
            groups.append([mention])
    return groups


def _spread(text: Sequence[str], group: list[Mention]) -> None:
    """Let a denial or hedge of the first of a list hold for what "or" joins to it."""
    links = [text[one.end : other.first] for one, other in pairwise(group)]
    for index, link in enumerate(links):
        listed = len(group) >= _LEAST_LIST and not _EITHER.isdisjoint(links[-1])
        if not _EITHER.isdisjoint(link) or (listed and "but" not in link):
            group[index + 1].negated = group[index + 1].negated or group[index].negated
            group[index + 1].marks |= group[index].marks - {"negators", "emphasis"}


@cache
def _joiners() -> frozenset[str]:
    return words("context", "joiners") | {"/", ","}


def _denied_after(text: Sequence[str], end: int) -> bool:
    """Say whether "is not", "are absent" or the like follows a label, and ends the clause."""
    index = end
    while index < len(text) and (text[index] in "()" or text[index].isdigit()):
        index += 1
    word = text[index] if index < len(text) else "."
    if word not in _denying_after():  # as mostly
        return False
    after = text[index + 1] if index + 1 < len(text) else ""
    missing, seen = words("context", "missing"), words("context", "seen")
    if word in missing or (word == "not" and after in seen):
        return True
    if word in words("context", "being"):
        if after == "not":
            rest = text[index + 2] if index + 2 < len(text) else ""
            return not rest or rest in CLAUSE_BREAKS or rest in seen
        return after in missing
    return False


@cache
def _denying_after() -> frozenset[str]:
    return words("context", "missing") | words("context", "being") | {"not"}


def _verdict(text: Sequence[str], end: int) -> bool | None:
    """Return what a yes or no right after a label says of it: "Happy: no", "sad (yes)"."""
    if end + 1 >= len(text) or text[end] not in (":", "(") or text[end + 1] not in VERDICTS:
        return None
    ends = end + 2 >= len(text) or text[end + 2] in CLAUSE_BREAKS
    return VERDICTS[text[end + 1]] if ends else None


def ignored_words(text: Sequence[str]) -> set[int]:
    """Return the tokens of phrases such as "not only" and "no doubt", which deny nothing."""
    return {i for hit in kinds("context", "ignore", "outdone").find(text) for i in range(hit.first, hit.end)}


class _Before:
    """What stands before the labels of a text: the marks in it, and how far each reaches."""

    __slots__ = ("far", "inside", "marks", "text")

    def __init__(self, text: Sequence[str]) -> None:
        hits = kinds("context", *CONTEXTS, "ignore").find(text)
        self.text = text
        self.marks = [(hit.value, hit.first, hit.end) for hit in hits if hit.value != "ignore"]
        self.inside = {index for _, first, end in self.marks for index in range(first, end)}
        self.far = any(name in _FAR for name, _, _ in self.marks)

    def of(self, first: int, floor: int) -> frozenset[str]:
        """Return the kinds of marks that reach a label at ``first``, nearest bounds applied."""
        if self.marks[0][2] > first:
            return _NO_MARKS
        text, stops = self.text, _stops()
        start, floor = first, max(first - REACH, floor)
        while start > floor and (text[start - 1] not in stops or start - 1 in self.inside):
            start -= 1
        reached = {name for name, begin, end in self.marks if start <= begin and end <= first}
        if self.far:
            bound = first
            while bound > 0 and text[bound - 1] not in BREAKS and text[bound - 1] != "but":
                bound -= 1
            bound = max(bound, floor) if floor > bound and "but" in text[bound:floor] else bound
            reached |= {n for n, begin, end in self.marks if n in _FAR and bound <= begin and end <= first}
        return frozenset(reached)


@cache
def _stops() -> frozenset[str]:
    return words("context", "stops") | CLAUSE_BREAKS
