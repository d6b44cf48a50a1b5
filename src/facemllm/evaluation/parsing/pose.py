"""Reading of head poses: pan (left positive) and tilt (up positive), in degrees, each where it was said.

Left and right are those of the image unless they are said to be the person's own, which are the other way
round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from facemllm.evaluation.parsing.lexicon import Lexicon, phrases, synonyms, words
from facemllm.evaluation.parsing.numbers import Number, find_numbers
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed

_SIGNS = {"left": ("pan", 1.0), "right": ("pan", -1.0), "up": ("tilt", 1.0), "down": ("tilt", -1.0)}
_AXES = ("pan", "tilt", "roll")
_ENDS = frozenset((",", ";", ".", "and", "\n", "with", "while", "but", ")"))
_LARGEST = 180.0


@dataclass
class _Part:
    """What one part of a sentence says about one axis."""

    axis: str | None = None
    direction: str | None = None
    sign: float = 1.0
    degrees: float | None = None
    tokens: list[int] = field(default_factory=list)


def read_pose(reading: Reading) -> Parsed:
    """Read pan and tilt; a pose said for one axis only has only that key."""
    text = reading.words
    angles: dict[str, float] = {}
    used: list[int] = []
    for part in _joined(_parts(text)):
        axis = part.axis or part.direction
        if axis in ("pan", "tilt") and part.degrees is not None:
            value = part.sign * part.degrees
            if axis in angles and angles[axis] != value:
                return Parsed("ambiguous", span=reading.span(part.tokens[0], part.tokens[-1] + 1))
            angles[axis] = value
            used += part.tokens
    bare = find_numbers(text)
    if not angles and len(bare) == 2 and not any(_axis(word) for word in text):
        angles = {axis: _signed(text, number) for axis, number in zip(("pan", "tilt"), bare, strict=True)}
        used = [number.first for number in bare]
    frontal = _frontal().find(text)
    if not angles and frontal and not any(word in ("not", "no", "away") for word in text[: frontal[0].first]):
        return Parsed("answer", {"pan": 0.0, "tilt": 0.0}, reading.span(frontal[0].first, frontal[0].end))
    if not angles:
        return reading.nothing()
    span = reading.span(min(used), max(used) + 1)
    if max(map(abs, angles.values())) > _LARGEST:
        return Parsed("wrong type", span=span)
    return Parsed("answer", {axis: angles[axis] + 0.0 for axis in _AXES if axis in angles}, span)


def _parts(text: Sequence[str]) -> list[_Part]:
    """Cut a text where punctuation, "and" or the next axis word begins something new."""
    numbers = {number.first: number for number in _midpoints(text)}
    named = {hit.first: hit for hit in _angles().find(text)}
    part, index = _Part(), 0
    parts = [part]

    def fresh() -> _Part:
        parts.append(_Part())
        return parts[-1]

    while index < len(text):
        word, number = text[index], numbers.get(index)
        if word in _ENDS:
            part = fresh()
        elif number is not None or index in named:
            if part.degrees is not None:
                part = fresh()
            part.degrees = abs(_signed(text, number)) if number is not None else named[index].value
            part.sign *= -1.0 if number is not None and _signed(text, number) < 0 else 1.0
            part.tokens.append(index)
            index = (number.end if number is not None else named[index].end) - 1
        elif direction := _direction(word):
            axis, sign = _SIGNS[direction]
            if part.direction is not None:
                part = fresh()
            if part.axis == "tilt" and axis == "pan" and not _pitch_said(text):
                part.axis = "roll"  # a head tilted to the left is rolled
            part.direction = axis
            owned = axis == "pan" and bool(set(text[max(0, index - 2) : index]) & words("pose", "owners"))
            part.sign *= -sign if owned else sign
            part.tokens.append(index)
        elif axis_named := _axis(word):
            if (
                part.axis is not None
                and part.axis != axis_named
                and (part.degrees is not None or part.direction)
            ):
                part = fresh()
            part.axis = axis_named
            part.tokens.append(index)
        elif word in words("pose", "zero") and part.degrees is None and part.axis is not None:
            part.degrees = 0.0
            part.tokens.append(index)
        index += 1
    return parts


def _joined(parts: list[_Part]) -> list[_Part]:
    """Bring an angle and the direction said in the part before it together: "to the left, by 30 degrees"."""
    joined: list[_Part] = []
    for part in parts:
        if joined and _completes(joined[-1], part):
            last = joined[-1]
            last.degrees = part.degrees if last.degrees is None else last.degrees
            last.direction = last.direction or part.direction
            last.sign *= part.sign
            last.tokens += part.tokens
        elif part.axis or part.direction or part.degrees is not None:
            if part.axis in ("pan", "tilt") and part.direction:
                part.axis = part.direction  # "turned 10 degrees up"
            joined.append(part)
    return joined


def _completes(last: _Part, part: _Part) -> bool:
    """Say whether ``part`` is the bare angle that ``last`` lacks, or the bare direction of its angle."""
    if part.axis:
        return False
    if last.degrees is None:
        return bool(last.axis or last.direction) and part.degrees is not None and not part.direction
    fits = not last.direction and last.axis in (part.direction, None)
    return part.degrees is None and part.direction is not None and fits


def _midpoints(text: Sequence[str]) -> list[Number]:
    """Return the numbers, a range ("20 to 30 degrees", "20-30") as one number at its middle."""
    joined: list[Number] = []
    for number in find_numbers(text):
        last = joined[-1] if joined else None
        link = tuple(text[last.end : number.first]) if last else ()
        if last and link in (("-",), ("to",)) and not number.decade:
            joined[-1] = Number((last.value + number.value) / 2, last.first, number.end)
        elif not number.decade and not (
            number.word and text[number.end : number.end + 1] in (("of",), ("person",))
        ):
            joined.append(number)
    return joined


def _signed(text: Sequence[str], number: Number) -> float:
    before = text[number.first - 1] if number.first else ""
    return -number.value if before in ("-", "minus", "negative") else number.value


def _direction(word: str) -> str | None:
    return next((name for name in _SIGNS if word in words("pose", name)), None)


def _axis(word: str) -> str | None:
    return next((name for name in _AXES if word in words("pose", name)), None)


def _pitch_said(text: Sequence[str]) -> bool:
    return "pan" in text or "pitch" in text or "yaw" in text


@cache
def _frontal() -> Lexicon[bool]:
    return phrases("pose", "frontal")


@cache
def _angles() -> Lexicon[float]:
    return Lexicon({phrase: float(angle) for phrase, angle in synonyms()["pose"]["angles"].items()})
