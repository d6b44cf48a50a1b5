"""Reading of ages: years, months, ranges, decades, bounds and stages of life.

A range or a decade is read as its middle: "30 to 40" and "in her thirties" are 35; early, mid and late
thirties are 32, 35 and 38. "Over 60" is 61 and "under 10" is 9, the nearest whole year allowed;
"not over 60" and "at most 60" are 60, as "70+" is 70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from facemllm.data.vocabularies import MAX_AGE, age_bin
from facemllm.evaluation.parsing.context import Mention, in_context
from facemllm.evaluation.parsing.lexicon import Lexicon, filler, phrases, synonyms, words, words_of
from facemllm.evaluation.parsing.numbers import Number, find_numbers
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed, answer
from facemllm.evaluation.parsing.triggers import CONTEXT, NUMBER

_SHIFTS = {"early": (0, 4), "middle": (3, 7), "late": (6, 10)}
_TEENS = {"early": (13, 15), "middle": (14, 17), "late": (17, 19)}
_OR_GAP = 10  # "30 or 35" is a range; "20 or 60" is a contradiction
_LINKS = frozenset(("-", "to", "and", "or", "/"))
_OF_DECADES = _LINKS | {"of", "part", "half", "end", "the", "her", "his", "their"}
_OWNERS = frozenset(
    ("her", "his", "their", "the", "s", "years", "year", "old", "yrs", "age", "in", "early", "late", "mid")
)
_LOWER, _UPPER = (frozenset(names) for names in (("lower", "minimum"), ("upper", "maximum")))
_OF, _ERROR = (
    frozenset(("of", "is", ":")),
    frozenset(("margin", "error", "uncertainty", "deviation")),
)
_GIVEN = frozenset(("take", "minus", "within", "±"))
_ROUGHLY = frozenset(("about", "around", "roughly", "approximately", "some", "maybe", "perhaps"))
_SMALL = 13  # number words below it are ages only with a unit: "one of them", "two people"
_CLAUSE_ENDS = frozenset((".", ",", "!", ";", "\n", ")", "?"))
_BOUNDED, _STAGE, _PLAIN, _MARKED = 0.5, 1, 2, 3


@dataclass(slots=True)
class _Years:
    """An age as an interval of years, and the tokens it was said in."""

    low: float
    high: float
    first: int
    end: int
    strength: float
    decade: bool = False
    bound: str = ""

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


def read_age(reading: Reading) -> Parsed:
    """Read an age in years."""
    text = reading.words
    if age_words().isdisjoint(text):  # as mostly
        found = _counted(text) if reading.bits & NUMBER else []
    else:
        found = _find(text)
        found = sorted([*found, *_stages(text, found)], key=lambda years: years.first)
    found = _ranges(text, found)
    if not found:
        return reading.nothing()
    if len(found) == 1 and not reading.bits & CONTEXT:
        return _answer(reading, found[0])
    plain = [Mention(years, years.first, years.end, years.strength) for years in found]
    live = [m for m in in_context(text, plain, reading.bits) if not m.negated]
    if not live:
        return reading.nothing()
    for mention in live:  # every age is hedged: "perhaps around 30" is as good as "30"
        mention.strength += ("hedges" in mention.marks) * 1.5 - ("emphasis" in mention.marks)
    strongest = max(mention.strength for mention in live)
    if strongest >= _PLAIN:
        best = [
            m.label for m in live if m.strength >= _PLAIN and (m.strength == strongest or not m.label.bound)
        ]
        best = _told(best)
    else:
        best = [m.label for m in live if m.strength == strongest]
    narrowest = min(best, key=lambda years: years.high - years.low)
    if max(years.low for years in best) > min(years.high for years in best):
        return Parsed("ambiguous", span=reading.span(narrowest.first, narrowest.end))
    return _answer(reading, narrowest)


def _answer(reading: Reading, years: _Years) -> Parsed:
    span, middle = reading.span(years.first, years.end), years.middle
    return Parsed("wrong type", None, span) if middle > MAX_AGE else answer(round(middle, 2), span)


def _told(best: list[_Years]) -> list[_Years]:
    """Leave out numbers without a unit where others have one, unless they agree, and years of a calendar."""
    possible = [years for years in best if years.low <= MAX_AGE] or best
    strongest = max(years.strength for years in possible)
    marked = [years for years in possible if years.strength == strongest]
    low, high = max(y.low for y in marked), min(y.high for y in marked)
    return marked + [y for y in possible if y.strength < strongest and low <= y.low and y.high <= high]


def read_age_bin(reading: Reading) -> Parsed:
    """Read an age and return the bin it falls into."""
    parsed = read_age(reading)
    return parsed._replace(label=age_bin(parsed.label)) if parsed.outcome == "answer" else parsed


def read_range(text: str) -> tuple[float, float] | None:
    """Return the years that an option such as "20-29", "70+" or "in the thirties" stands for.

    Example:
        >>> read_range("20-29"), read_range("more than 70"), read_range("happy")
        ((20.0, 29.0), (71.0, 120.0), None)
    """
    tokens = list(words_of(text))
    found = _ranges(tokens, _find(tokens))
    if len(found) != 1:
        return None
    years = found[0]
    if years.low == years.high and (years.bound == "above" or text.strip().endswith("+")):
        return years.low, float(MAX_AGE)
    if years.low == years.high and years.bound == "below":
        return 0.0, years.high
    return years.low, years.high - 1 if years.decade else years.high


def _find(text: Sequence[str]) -> list[_Years]:
    """Return every number that can be an age, alone, also where it is said as "half a century"."""
    found = _counted(text)
    halves = _halves().find(text)
    if halves:
        taken = {index for hit in halves for index in range(hit.first, hit.end)}
        found = [years for years in found if years.first not in taken]
        found += [_Years(hit.value, hit.value, hit.first, hit.end, _MARKED) for hit in halves]
        found.sort(key=lambda years: years.first)
    return found


def _counted(text: Sequence[str]) -> list[_Years]:
    """Return every number said as such that can be an age, alone."""
    return [years for number in find_numbers(text) if (years := _as_years(text, number)) is not None]


def _as_years(text: Sequence[str], number: Number) -> _Years | None:
    first, end, value = number.first, number.end, number.value
    before = text[first - 1] if first else ""
    after = text[end] if end < len(text) else ""
    terms = _terms()
    if before in terms.not_before or after in terms.other_units or (after == "/" and not number.decade):
        return None
    if before == "-" and first > 1 and text[first - 2] in ("+", "/"):
        return None
    if _is_margin(text, number):
        return None
    if after[:1] == "代":
        return None
    if number.decade:
        return _decade(text, number)
    marked = bool(before) and not terms.markers.isdisjoint(text[max(0, first - 3) : first])
    unit = after in terms.units
    period = terms.periods.get(after)
    if number.word and value < _SMALL and not (unit or period or marked or _stands(text, number)):
        return None
    if period:
        value *= period
        return _Years(value, value, first, end + 1, _MARKED)
    bound, offset = (_bound(text, first) if before else ("", 0.0)) if after != "+" else ("above", 0.0)
    value = max(value + offset, 0.0)
    strength = _BOUNDED if bound else _MARKED if unit or marked else _PLAIN
    return _Years(value, value, first, end + unit, strength, bound=bound)


def _is_margin(text: Sequence[str], number: Number) -> bool:
    """Say whether a number tells how sure an age is: "with a margin of error of around 5 years"."""
    if not _ERROR.isdisjoint(text[number.end : number.end + 2]):
        return True  # "a five-year margin"
    at = number.first
    while at and text[at - 1] in _ROUGHLY:
        at -= 1
    before = text[at - 1] if at else ""
    return before in _GIVEN or (before in _OF and not _ERROR.isdisjoint(text[max(0, at - 5) : at]))


def only_years(text: Sequence[str]) -> _Years | None:
    """Return the one age, or range of ages, that a text without :func:`age_words` says, or None."""
    found = _ranges(text, _counted(text))
    return found[0] if len(found) == 1 else None


@cache
def age_words() -> frozenset[str]:
    """Return words by which an age may be said without a number."""
    return frozenset(_stage_years().keys() | _halves().triggers)


class _Terms(NamedTuple):
    """The words around a number that say what it counts."""

    not_before: frozenset[str]
    other_units: frozenset[str]
    units: frozenset[str]
    markers: frozenset[str]
    periods: dict[str, float]
    bounds: frozenset[str]


@cache
def _terms() -> _Terms:
    periods: dict[str, float] = synonyms()["age"]["periods"]
    bounds = phrases("age", "above").triggers | phrases("age", "below").triggers
    return _Terms(
        words("age", "not_before") | {"±", "/"},
        words("age", "other_units"),
        words("age", "units") | periods.keys(),
        words("age", "markers"),
        periods,
        bounds,
    )


def _decade(text: Sequence[str], number: Number) -> _Years | None:
    """Read "30s" or "thirties" with the early, mid or late before it."""
    if number.value > MAX_AGE or number.value % 10:
        return None
    low, high = (13.0, 20.0) if number.value == 10 else (number.value, number.value + 10)
    first, shifts = _shifts(text, number.first)
    if shifts:
        low = number.value + min(_SHIFTS[kind][0] for kind in shifts)
        high = number.value + max(_SHIFTS[kind][1] for kind in shifts)
    return _Years(low, high, first, number.end, _MARKED, decade=True)


def _shifts(text: Sequence[str], index: int) -> tuple[int, list[str]]:
    """Return the early, mid and late said before a decade, and where they begin."""
    first, found = index, []
    while index:  # "mid-30s", "early to mid thirties"
        index -= 1
        kind = _shift(text[index])
        if kind is not None:
            found.append(kind)
            first = index
        elif text[index] not in _OF_DECADES:
            break
    return first, found


def _shift(word: str) -> str | None:
    return next((kind for kind in _SHIFTS if word in words("age", kind)), None)


def _bound(text: Sequence[str], first: int) -> tuple[str, float]:
    """Return whether "over" or "under" stands before a number, and what it adds."""
    before = text[max(0, first - 3) : first]
    if _terms().bounds.isdisjoint(before):
        return "", 0.0
    for length in (3, 2, 1):  # "no older than", which bounds from below, before "older than"
        start = first - length
        for name, offset in (("above", 1.0), ("below", -1.0)):
            hit = phrases("age", name).at(text, start) if start >= 0 else None
            if hit is not None and hit.end == first:
                inclusive = not {"least", "most", "to", "upwards", "no", "not"}.isdisjoint(text[start:first])
                return name, 0.0 if inclusive else offset
    return "", 0.0


def _ranges(text: Sequence[str], found: list[_Years]) -> list[_Years]:
    """Join two ages said as a range into one interval."""
    if len(found) < 2:
        return found
    joined: list[_Years] = []
    for years in found:
        last = joined[-1] if joined else None
        if last and _is_rest(text, last, years):
            low, high = last.low + years.low, last.high + years.high
            joined[-1] = _Years(low, high, last.first, years.end, _MARKED)
            continue
        if last and _is_range(text, last, years, text[last.end : years.first]):
            strength = max(last.strength, years.strength, _PLAIN)
            joined[-1] = _Years(last.low, years.high, last.first, years.end, strength, years.decade)
        else:
            joined.append(years)
    return joined


def _is_rest(text: Sequence[str], last: _Years, years: _Years) -> bool:
    """Say whether two ages are one: "19 years and 6 months"."""
    return (
        text[years.end - 1] in _terms().periods
        and text[last.end - 1] in _terms().units - _terms().periods.keys()
        and all(word in ("and", ",", "old") for word in text[last.end : years.first])
    )


def _is_range(text: Sequence[str], last: _Years, years: _Years, link: Sequence[str]) -> bool:
    if years.low < last.low:
        return False
    if (last.bound, years.bound) == ("above", "below") and len(link) < 6:
        return True
    core = [word for word in link if word not in _OWNERS]
    if core in (["-"], ["to"], ["through"], ["until"], ["and", "up", "to"], ["up", "to"], ["to", "-"]):
        return True
    if core == [",", "max", ":"] or (core[-1:] == [":"] and "max" in core):
        return True
    if core[:1] == [","] and len(core) < 5 and not _UPPER.isdisjoint(core):
        return not _LOWER.isdisjoint(text[max(0, last.first - 4) : last.first])
    if core == ["and"]:
        return not {"between", "from"}.isdisjoint(text[max(0, last.first - 4) : last.first])
    return core in (["or"], ["/"]) and years.high - last.low <= max(_OR_GAP, 2 * _OR_GAP * years.decade)


def _stages(text: Sequence[str], numbers: Sequence[_Years]) -> list[_Years]:
    """Return stages of life that mean definite years, weaker than any number."""
    stages = _stage_years()
    taken = {index for years in numbers for index in range(years.first, years.end)}
    found = []
    for index, word in enumerate(text):
        if word not in stages or index in taken:
            continue
        low, high = stages["preteen" if index and text[index - 1] == "pre" else word]
        first, shifts = _shifts(text, index) if low == _TEENS["early"][0] else (index, [])
        if shifts:
            low, high = min(_TEENS[kind][0] for kind in shifts), max(_TEENS[kind][1] for kind in shifts)
        found.append(_Years(low, high, first, index + 1, _STAGE, decade=True))
    return found


@cache
def _stage_years() -> dict[str, tuple[float, float]]:
    years = {name: (float(low), float(high)) for name, (low, high) in synonyms()["age"]["stages"].items()}
    return years | {f"{name}s": span for name, span in years.items() if not name.endswith("s")}


@cache
def _halves() -> Lexicon[float]:
    return Lexicon({phrase: float(value) for phrase, value in synonyms()["age"]["halves"].items()})


def _stands(text: Sequence[str], number: Number) -> bool:
    """Say whether a small number word can be an age: alone, or at the end of "she is about five"."""
    before = text[number.first - 1] if number.first else ""
    after = text[number.end] if number.end < len(text) else "."
    if "between" in text[max(0, number.first - 4) : number.first]:
        return True
    if before in words("age", "leads") and after in _CLAUSE_ENDS and number.value > 1:
        return True
    if text[number.end : number.end + 2] == ["or", "so"]:
        return True
    if after in _LINKS and not _terms().units.isdisjoint(text[number.end + 2 : number.end + 4]):
        return True  # "seven to nine years"
    if before == "of" and text[number.first - 2] in words("age", "young"):
        return True  # "a child of eight"
    known = filler() | {".", ","}
    return all(word in known for index, word in enumerate(text) if not number.first <= index < number.end)
