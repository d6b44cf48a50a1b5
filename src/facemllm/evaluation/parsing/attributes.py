"""Reading of several attributes out of one answer: which are said to be there and which not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.evaluation.parsing.context import Mention, in_context
from facemllm.evaluation.parsing.letters import LETTERS
from facemllm.evaluation.parsing.lexicon import Lexicon, phrases, split, synonyms, vocabulary, words, words_of
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS

_AFTER = {
    "yes": True, "true": True, "present": True, "1": True, "visible": True,
    "no": False, "false": False, "absent": False, "none": False, "0": False, "not": False, "missing": False,
}  # fmt: skip
_LINKS = frozenset((":", "-", "is", "are", "("))
_NONE = frozenset(("none", "nothing", "neither"))
_HAIR = 5  # adjectives looked at before "hair"
_ENDS = frozenset(("\n", ".", ";"))
_BESIDE = frozenset(("and", "option", "options", "answer", "answers", "the", "is", "are", "/", "+"))
_JOINED = frozenset((",", "and"))
_PRONOUNS = frozenset(("he", "him", "his", "she", "her", "hers"))
_SHOWN = frozenset(("is", "appears", "looks", ":"))

Found = tuple[str, bool]


def read_attributes(reading: Reading, options: tuple[str, ...] | None) -> Parsed:
    """Read attributes as name to True or False; those not spoken of are left out.

    Args:
        reading: The text.
        options: The attributes asked about, by name; None for CelebA's.
    """
    names = options or CELEBA_ATTRIBUTES.labels
    text = reading.words
    hits = _lexicon(names, options is not None).find(text)
    taken = {index for hit in hits for index in range(hit.first, hit.end)}
    plain = [Mention(hit.value, hit.first, hit.end, 1.0) for hit in hits]
    plain += [mention for mention in _hair(text, names) if mention.first not in taken]
    if plain:
        return _weighed(reading, sorted(plain, key=lambda mention: mention.first))
    if options and not _NONE.isdisjoint(text):
        return Parsed("answer", dict.fromkeys(options, False))
    if options and (named := _lettered(text, options)):
        return Parsed("answer", named, reading.span(0, len(text)))
    return reading.nothing()


def _lettered(text: Sequence[str], options: tuple[str, ...]) -> dict[str, bool]:
    """Read a text of letters alone as the options they stand for: "A, C", "B and D"."""
    letters = dict(zip(LETTERS, options, strict=False))
    said = [word for word in text if word not in CLAUSE_BREAKS and word not in _BESIDE]
    return {letters[word]: True for word in said} if letters.keys() >= set(said) else {}


def _weighed(reading: Reading, plain: list[Mention]) -> Parsed:
    text, signs = _signs(reading, plain)
    turn = max((hit.end for hit in phrases("context", "corrections").find(text)), default=0)
    found: dict[str, bool] = {}
    shared = _shared_states(text, plain)
    for mention in in_context(text, plain, reading.bits):
        if "dismissals" in mention.marks:
            continue
        name, holds = mention.label
        if _left_out(reading.all_words, mention.end):
            continue
        if text[mention.first] in _PRONOUNS:  # "no smile on her face" does not deny the "her"
            found.setdefault(name, holds)
            continue
        if mention.end in signs:
            found[name] = holds == signs[mention.end]
            continue
        after = next((word for word in text[mention.end : mention.end + 3] if word not in _LINKS), "")
        linked = mention.end < len(text) and text[mention.end] in _LINKS
        if mention.end in shared:
            linked, after = True, shared[mention.end]
        elif (
            linked and after == "not" and text[mention.end] != ":" and not _ends_there(text, mention.end + 1)
        ):
            linked = False  # "he is not smiling" says nothing of being male
        denied = mention.negated or (linked and _AFTER.get(after) is False)
        holds = holds != (denied or (not linked and _under_absent(text, mention.first)))
        if found.get(name, holds) != holds and mention.first < turn:
            return Parsed("ambiguous", span=reading.span(mention.first, mention.end))
        if found.get(name, holds) != holds and not turn:
            return Parsed("ambiguous", span=reading.span(mention.first, mention.end))
        found[name] = holds
    if not found:
        return reading.nothing()
    return Parsed("answer", found, reading.span(plain[0].first, plain[-1].end))


def _left_out(text: Sequence[str], index: int) -> bool:
    """Say whether all that is told of a name is that it cannot be: "Hat: not visible", "Hat: unclear"."""
    if text[index : index + 1] not in ([":"], ["("]):
        return False
    return any(phrases("refusal", name).at(text, index + 1) for name in ("alone", "whole", "forward"))


def _signs(reading: Reading, plain: Sequence[Mention]) -> tuple[list[str], dict[int, bool]]:
    """Return the text without the signs after names ("Smiling ✅"), and what they say by their place."""
    text, firsts = list(reading.words), {mention.first for mention in plain}
    found: dict[int, bool] = {}
    for mention in plain:
        at = mention.end
        if at < len(text) and text[at] in ("yes", "no"):
            ends = at + 1 == len(text) or text[at + 1] in CLAUSE_BREAKS
            if ends or (at + 1 in firsts and not reading.source(at).isalpha()):
                found[at] = text[at] == "yes"
    for at in found:
        text[at] = "."
    return text, found


def _ends_there(text: Sequence[str], index: int) -> bool:
    """Say whether "not", or "not visible", ends the clause."""
    rest = text[index + 1 : index + 3]
    return not rest or rest[0] in CLAUSE_BREAKS or rest[0] in words("context", "seen")


def _shared_states(text: Sequence[str], plain: Sequence[Mention]) -> dict[int, str]:
    """Return the state after a list of names for all of them: "Hat, Beard: no"."""
    found: dict[int, str] = {}
    for one, other in reversed(list(pairwise(plain))):
        if not _JOINED.issuperset(text[one.end : other.first]) or one.end == other.first:
            continue
        if other.end in found:
            found[one.end] = found[other.end]
        elif (state := text[other.end + 1 : other.end + 2]) and text[other.end] == ":" and state[0] in _AFTER:
            found[one.end] = state[0]
    return found


def _under_absent(text: Sequence[str], first: int) -> bool:
    """Say whether a name stands in a list headed "Not present:" or "Absent:"."""
    index = first
    while index and text[index - 1] not in _ENDS:
        index -= 1
        if text[index] == ":":
            head = text[max(0, index - 2) : index]
            return head[-1:] != [] and (
                head[-1] in words("context", "missing") or head in (["not", "present"], ["not", "visible"])
            )
    return False


def _hair(text: Sequence[str], names: tuple[str, ...]) -> Iterator[Mention]:
    """Yield what "long wavy brown hair" says beside its last adjective."""
    if "hair" not in text:
        return
    kinds = {
        name.lower().replace("_", " ").removesuffix(" hair"): name
        for name in names
        if name.lower().endswith("hair")
    }
    for index, word in enumerate(text):
        if word != "hair":
            continue
        for at in range(index - 1, max(-1, index - 1 - _HAIR), -1):
            adjective = "gray" if text[at] == "grey" else text[at]
            if adjective in kinds:
                yield Mention((kinds[adjective], True), at, at + 1, 1.0)
            elif adjective not in words("attribute_hair", "adjectives"):
                break
        if text[index + 1 : index + 2] and text[index + 1] in _SHOWN:  # "her hair is long and brown"
            for at in range(index + 2, min(len(text), index + 2 + _HAIR)):
                if text[at] in kinds:
                    yield Mention((kinds[text[at]], True), at, at + 1, 1.0)
                elif text[at] not in words("attribute_hair", "adjectives"):
                    break


@lru_cache(maxsize=256)
def _lexicon(names: tuple[str, ...], named: bool) -> Lexicon[Found]:
    # "She has bangs" is about bangs: what gender it betrays is read only where that was asked for by name.
    entries: dict[str, Found] = {}
    file: dict[str, Any] = synonyms()
    keys = {name: name.strip().lower().replace(" ", "_") for name in names}
    for name, key in keys.items():
        for phrase in split(file["attribute_opposites"].get(key, "")):
            entries.setdefault(phrase, (name, False))
        if named and key in ("male", "female"):
            for phrase, value in vocabulary("gender").phrases():
                if value:
                    entries.setdefault(phrase, (name, value[0] == key))
    for name, key in keys.items():
        for phrase in (" ".join(words_of(name)), *split(file["attributes"].get(key, ""))):
            entries[phrase] = (name, True)
    return Lexicon(entries)
