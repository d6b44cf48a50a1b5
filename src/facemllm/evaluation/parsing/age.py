"""Reading of ages: years, months, ranges, decades, bounds and stages of life.

A range or a decade is read as its middle: "30 to 40" and "in her thirties" are 35; early, mid and late
thirties are 32, 35 and 38. "Over 60" is 61 and "under 10" is 9, the nearest whole year allowed; "70+" is 70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from facemllm.data.vocabularies import MAX_AGE, age_bin
from facemllm.evaluation.parsing.context import Mention, corrected, in_context
from facemllm.evaluation.parsing.lexicon import filler, phrases, synonyms, words
from facemllm.evaluation.parsing.numbers import Number, find_numbers
from facemllm.evaluation.parsing.reading import Reading, readings
from facemllm.evaluation.parsing.result import Parsed

_SHIFTS = {"early": (0, 4), "middle": (3, 7), "late": (6, 10)}
_OR_GAP = 10  # "30 or 35" is a range; "20 or 60" is a contradiction
_LINKS = frozenset(("-", "to", "and", "or", "/"))
_SMALL = 13  # number words below it are ages only with a unit: "one of them", "two people"


@dataclass(frozen=True)
class _Years:
    """An age as an interval of years, and the tokens it was said in."""

    low: float
    high: float
    first: int
    end: int
    strength: float
    decade: bool = False

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


def read_age(reading: Reading) -> Parsed:
    """Read an age in years."""
    found = _ranges(reading.words, _find(reading.words)) + _stages(reading.words)
    plain = [
        Mention(years, years.first, years.end, years.strength)
        for years in sorted(found, key=lambda y: y.first)
    ]
    live = corrected(reading.words, [m for m in in_context(reading.words, plain) if not m.negated])
    if not live:
        return reading.nothing()
    strongest = max(mention.strength for mention in live)
    best = [mention.label for mention in live if mention.strength == strongest]
    narrowest = min(best, key=lambda years: years.high - years.low)
    span = reading.span(narrowest.first, narrowest.end)
    if max(years.low for years in best) > min(years.high for years in best):
        return Parsed("ambiguous", span=span)
    if narrowest.middle > MAX_AGE:
        return Parsed("wrong type", span=span)
    return Parsed("answer", round(narrowest.middle, 2), span)


def read_age_bin(reading: Reading) -> Parsed:
    """Read an age and return the bin it falls into."""
    parsed = read_age(reading)
    return replace(parsed, label=age_bin(parsed.label)) if parsed.outcome == "answer" else parsed


def read_range(text: str) -> tuple[float, float] | None:
    """Return the years that an option such as "20-29", "70+" or "in the thirties" stands for.

    Example:
        >>> read_range("20-29"), read_range("more than 70"), read_range("happy")
        ((20.0, 29.0), (71.0, 120.0), None)
    """
    reading = list(readings(text))[-1]
    found = _ranges(reading.words, _find(reading.words))
    if len(found) != 1:
        return None
    years = found[0]
    if years.low == years.high and (
        text.strip().endswith("+") or _bound(reading.words, years.first)[0] == "above"
    ):
        return years.low, float(MAX_AGE)
    if years.low == years.high and _bound(reading.words, years.first)[0] == "below":
        return 0.0, years.high
    return years.low, years.high - 1 if years.decade else years.high


def _find(text: Sequence[str]) -> list[_Years]:
    """Return every number that can be an age, alone."""
    numbers = find_numbers(text)
    return [years for number in numbers if (years := _as_years(text, number)) is not None]


def _as_years(text: Sequence[str], number: Number) -> _Years | None:
    before = text[number.first - 1] if number.first else ""
    after = text[number.end] if number.end < len(text) else ""
    if before in ("±", "/") or after in words("age", "other_units") or (after == "/" and not number.decade):
        return None
    if before == "-" and text[number.first - 2 : number.first - 1] in (("+",), ("/",)):
        return None
    periods: dict[str, float] = synonyms()["age"]["periods"]
    marked = bool(set(text[max(0, number.first - 3) : number.first]) & words("age", "markers"))
    unit = after in words("age", "units") or after in periods
    if number.decade:
        return _decade(text, number)
    if number.word and number.value < _SMALL and not (unit or marked or _alone(text, number)):
        return None
    if after in periods:
        value = number.value * periods[after]
        return _Years(value, value, number.first, number.end + 1, 3)
    value = max(number.value + _bound(text, number.first)[1], 0.0)
    return _Years(value, value, number.first, number.end + unit, 3 if unit or marked else 2)


def _decade(text: Sequence[str], number: Number) -> _Years | None:
    """Read "30s" or "thirties" with the early, mid or late before it."""
    low, high = (13.0, 20.0) if number.value == 10 else (number.value, number.value + 10)
    if number.value > MAX_AGE or number.value % 10:
        return None
    first, shifts, index = number.first, [], number.first
    while index:  # "mid-30s", "early to mid thirties"
        index -= 1
        kind = _shift(text[index])
        if kind is not None:
            shifts.append(_SHIFTS[kind])
            first = index
        elif text[index] not in _LINKS:
            break
    if shifts:
        low, high = number.value + min(s[0] for s in shifts), number.value + max(s[1] for s in shifts)
    return _Years(low, high, first, number.end, 3, decade=True)


def _shift(word: str) -> str | None:
    return next((kind for kind in _SHIFTS if word in words("age", kind)), None)


def _bound(text: Sequence[str], first: int) -> tuple[str, float]:
    """Return whether "over" or "under" stands before a number, and what it adds."""
    for name, offset in (("above", 1.0), ("below", -1.0)):
        for length in (1, 2):
            start = first - length
            hit = phrases("age", name).at(text, start) if start >= 0 else None
            if hit is not None and hit.end == first:
                inclusive = (
                    "least" in text[start:first] or "most" in text[start:first] or "to" in text[start:first]
                )
                return name, 0.0 if inclusive else offset
    return "", 0.0


def _ranges(text: Sequence[str], found: list[_Years]) -> list[_Years]:
    """Join two ages said as a range into one interval."""
    joined: list[_Years] = []
    for years in found:
        last = joined[-1] if joined else None
        link = tuple(text[last.end : years.first]) if last else ()
        if last and _is_range(text, last, years, link):
            high = years.high
            joined[-1] = _Years(
                last.low, high, last.first, years.end, max(last.strength, years.strength), years.decade
            )
        else:
            joined.append(years)
    return joined


def _is_range(text: Sequence[str], last: _Years, years: _Years, link: tuple[str, ...]) -> bool:
    if years.low < last.low:
        return False
    core = tuple(
        word for word in link if word not in ("her", "his", "their", "the", "s", "years", "year", "old")
    )
    if core in (("-",), ("to",), ("through",), ("until",), ("and", "up", "to")):
        return True
    if core == ("and",):
        return bool({"between", "from"} & set(text[max(0, last.first - 3) : last.first]))
    return core in (("or",), ("/",)) and years.high - last.low <= max(_OR_GAP, 2 * _OR_GAP * years.decade)


def _stages(text: Sequence[str]) -> list[_Years]:
    """Return stages of life that mean definite years, weaker than any number."""
    stages = _stage_years()
    taken = {index for years in _find(text) for index in range(years.first, years.end)}
    return [
        _Years(*stages[word], index, index + 1, 1)
        for index, word in enumerate(text)
        if word in stages and index not in taken
    ]


@cache
def _stage_years() -> dict[str, tuple[float, float]]:
    years = {name: (float(low), float(high)) for name, (low, high) in synonyms()["age"]["stages"].items()}
    return years | {f"{name}s": span for name, span in years.items() if not name.endswith("s")}


def _alone(text: Sequence[str], number: Number) -> bool:
    fill = filler() | {".", ","}
    return all(word in fill for index, word in enumerate(text) if not number.first <= index < number.end)
