"""Reading of facial action units: by number ("AU6 and AU12", "units 6, 12") and by name ("cheek raiser")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

from facemllm.evaluation.parsing.context import Mention, in_context
from facemllm.evaluation.parsing.lexicon import Lexicon, filler, phrases, split, synonyms, words
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed
from facemllm.evaluation.parsing.text import BREAKS, CLAUSE_BREAKS

_LARGEST = 64
_LINKS = frozenset(
    [
        ",",
        "and",
        "+",
        "/",
        "-",
        ":",
        "or",
        "nor",
        "(",
        ")",
        "both",
        "the",
        "are",
        "is",
        "include",
        "includes",
        "active",
        "present",
        "visible",
        "activated",
        "number",
        "numbers",
        "likely",
        "following",
    ]
)
_ABSENT = frozenset(("0", "no", "false", "absent", "inactive", "not", "off"))
_NONE = frozenset(("not", "no", "none", "without"))
_STATES = frozenset((":", "is", "are", "appears", "remains"))


def read_action_units(reading: Reading) -> Parsed:
    """Read the action units said to be active, as their sorted numbers; "none" is an empty list."""
    text = reading.words
    plain = _numbers(text)
    taken = {index for mention in plain for index in range(mention.first, mention.end)}
    named = [
        Mention(unit, hit.first, hit.end, 1.0)
        for hit in _names().find(text)
        if hit.first not in taken
        for unit in hit.value
    ]
    found = in_context(text, sorted([*plain, *named], key=lambda mention: mention.first), reading.bits)
    states: dict[int, bool] = {}
    for mention in found:
        if "dismissals" not in mention.marks:
            holds = not mention.negated and not _absent(text, mention)
            states[mention.label] = states.get(mention.label, True) and holds
    if found:
        span = reading.span(found[0].first, found[-1].end)
        return Parsed("answer", sorted(unit for unit, holds in states.items() if holds), span)
    none = phrases("au", "none").find(text)
    if not none and not _NONE.isdisjoint(text) and not words("au", "heads").isdisjoint(text):
        return Parsed("answer", [])  # "I don't see any active action units"
    if "[" in text and text[text.index("[") + 1 : text.index("[") + 2] == ["]"]:
        return Parsed("answer", [])  # "AUs: []"
    if none or _only_none(text):
        return Parsed("answer", [], reading.span(none[0].first, none[0].end) if none else None)
    return reading.nothing()


def _numbers(text: Sequence[str]) -> list[Mention]:
    """Return numbers that follow "AU" or "action units", or the numbers of a text that has nothing else."""
    found: list[Mention] = []
    heads = words("au", "heads")
    if heads.isdisjoint(text):
        if (listed := _under_states(text)) is not None:
            return listed
        if all(word.isdecimal() or word in _LINKS or word in CLAUSE_BREAKS for word in text):
            return [Mention(n, i, i + 1, 2.0) for i, word in enumerate(text) if (n := _unit(word))]
        return found
    counting, first = False, 0
    for index, word in enumerate(text):
        if word in heads:
            counting, first = True, index
        elif counting and (unit := _unit(word)):
            if found and index - 1 > first and _is_aside(text, index):
                continue
            found.append(Mention(unit, index if found and first < found[-1].end else first, index + 1, 2.0))
        elif counting and word not in _LINKS:
            counting = False
    return found


def _under_states(text: Sequence[str]) -> list[Mention] | None:
    """Return the numbers listed under "Active:", not those under "Inactive:"; None without such a list."""
    found, state, said = [], "", False
    for index, word in enumerate(text):
        if text[index + 1 : index + 2] == [":"]:
            state = word
            said |= word in ("active", "activated")
        elif (unit := _unit(word)) and state in ("active", "activated"):
            found.append(Mention(unit, index, index + 1, 2.0))
    return found if said else None


def _unit(word: str) -> int:
    return int(word) if word.isdecimal() and len(word) <= 2 and 0 < int(word) <= _LARGEST else 0


def _is_aside(text: Sequence[str], index: int) -> bool:
    """Say whether a number after a unit is its state or intensity: "AU12: 1", "AU12 (2)", "AU12 = 0"."""
    before = text[index - 1]
    after = text[index + 1] if index + 1 < len(text) else ""
    return before in (":", "is") or (before == "(" and after == ")")


def _absent(text: Sequence[str], mention: Mention) -> bool:
    """Say whether a unit is followed by its absence: "AU25: no", "AU4 (brow lowerer) is not active"."""
    index = mention.end
    if tuple(text[index : index + 1]) in (("r",), ("c",)):  # "AU12_r: 0"
        index += 1
    if index + 2 < len(text) and text[index] == "(" and text[index + 2] == ")":
        return _says_absent(text[index + 1])
    if index < len(text) and text[index] == "(":
        closing = next((i for i in range(index, min(len(text), index + 6)) if text[i] == ")"), None)
        if closing is not None and closing + 1 < len(text) and text[closing + 1] in _STATES:
            index = closing + 1
    if index + 1 >= len(text) or text[index] not in _STATES or not _says_absent(text[index + 1]):
        return False
    return text[index] != ":" or text[index + 1] != "not" or text[index + 2 : index + 3] != ["only"]


def _says_absent(word: str) -> bool:
    """Say whether a state means absence: a word such as "inactive", or zero ("0", "0.00")."""
    return word in _ABSENT or (word[0].isdecimal() and not word.strip("0."))


def _only_none(text: Sequence[str]) -> bool:
    said = [
        word for word in text if word not in CLAUSE_BREAKS and word not in filler() and word not in BREAKS
    ]
    return said in (["none"], ["nothing"], ["no"], ["zero"], ["0"])


@cache
def _names() -> Lexicon[tuple[int, ...]]:
    file = synonyms()["au"]
    entries: dict[str, tuple[int, ...]] = {}
    for one in file["seen"]:
        for part, state in product(split(one["parts"]), split(one["states"])):
            for form in (f"{state} {part}", f"{part} {state}", f"{part} is {state}", f"{part} are {state}"):
                entries[form] = tuple(one["units"])
    for unit, names in file["names"].items():
        entries |= dict.fromkeys(split(names), (int(unit),))
    return Lexicon(entries)
