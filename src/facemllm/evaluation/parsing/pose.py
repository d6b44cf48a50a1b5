"""Reading of head poses: pan (left positive), tilt (up positive) and roll (left positive), in degrees.

Left and right are those of the image unless they are said to be the person's own, which are the other way
round. A direction without a number is read as a nominal angle ("slightly to the left" is 10 degrees).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from facemllm.evaluation.parsing.lexicon import Lexicon, filler, phrases, synonyms, words
from facemllm.evaluation.parsing.numbers import Number, find_numbers
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS
from facemllm.evaluation.parsing.triggers import NUMBER

_SIGNS = {"left": ("pan", 1.0), "right": ("pan", -1.0), "up": ("tilt", 1.0), "down": ("tilt", -1.0)}
_AXES = ("pan", "tilt", "roll")
# What a number before it counts, instead of telling an angle: "two angles".
_COUNTED = frozenset(("angle", "angles", "axes", "axis", "model", "numbers", "values", "things", "ways"))
_ENDS = frozenset((",", ";", ".", "and", "\n", "with", "while", "but", ")", "or", "nor"))
_GLUE = frozenset(("to", "side", "toward", "direction", "both", "then"))
_NOT_AWAY = frozenset(("not", "no", "away", "never"))
_LARGEST = 180.0
_NEGATION_REACH = 3


def _counts(number: Number, text: Sequence[str]) -> bool:
    """Say whether a number counts things, or is that of "3D", instead of telling an angle."""
    after = text[number.end] if number.end < len(text) else ""
    return after in _COUNTED or (after == "d" and number.value in (2, 3))


@dataclass(slots=True)
class _Part:
    """What one part of a sentence says about one axis."""

    axis: str | None = None
    direction: str | None = None
    sign: float = 1.0
    degrees: float | None = None
    amount: str = "plain"
    moved: bool = False
    named: bool = False
    tokens: list[int] = field(default_factory=list)


def read_pose(reading: Reading) -> Parsed:
    """Read a pose; an axis that is not spoken of has no key."""
    text = reading.words
    numbers = _midpoints(text, find_numbers(text)) if reading.bits & NUMBER else []
    numbers = [number for number in numbers if not _counts(number, text)]
    if (listed := _listed(text, numbers)) is not None:
        return Parsed("answer", listed, reading.span(numbers[0].first, numbers[-1].end))
    parts = _joined(_parts(text, numbers))
    angles: dict[str, float] = {}
    used: list[int] = []
    for nominal in (False, True):
        told = dict(angles)
        for part in parts:
            axis = part.axis or part.direction
            value = _value(part, nominal)
            if axis is None or value is None or axis in told:
                continue
            if angles.get(axis, value) != value:
                return Parsed("ambiguous", span=reading.span(part.tokens[0], part.tokens[-1] + 1))
            angles[axis] = value
            used += part.tokens
    if not angles and not any(part.axis or part.direction for part in parts) and len(numbers) in (2, 3):
        angles = {axis: _signed(text, number) for axis, number in zip(_AXES, numbers, strict=False)}
        used = [number.first for number in numbers]
    bare = [part for part in parts if part.degrees is not None and not (part.axis or part.direction)]
    if (
        len(bare) == 1
        and len(angles) == 1
        and (other := {"pan": "tilt", "tilt": "pan"}.get(next(iter(angles))))
    ):
        angles[other] = bare[0].sign * float(bare[0].degrees or 0)  # "90 left, 0"
        used += bare[0].tokens
    _fill(text, angles, used)
    if not angles:
        return reading.nothing()
    span = reading.span(min(used), max(used) + 1)
    if max(map(abs, angles.values())) > _LARGEST:
        return Parsed("wrong type", span=span)
    return Parsed("answer", {axis: angles[axis] + 0.0 for axis in _AXES if axis in angles}, span)


def _listed(text: Sequence[str], numbers: Sequence[Number]) -> dict[str, float] | None:
    """Read "(pan, tilt) = (-25, 10)": the names first, then as many numbers."""
    if len(numbers) < 2:
        return None
    known, names = _axes(), words("pose", "names")
    named = [i for i, word in enumerate(text) if word in names and word in known]
    if len(named) != len(numbers) or named[-1] > numbers[0].first:
        return None
    axes = [known[text[i]] for i in named]
    if len(set(axes)) != len(axes):
        return None
    values = [_signed(text, number) for number in numbers]
    if not _directions().keys().isdisjoint(text) or max(map(abs, values)) > _LARGEST:
        return None
    told = dict(zip(axes, values, strict=True))
    return {axis: told[axis] + 0.0 for axis in _AXES if axis in told}


def _value(part: _Part, nominal: bool) -> float | None:
    if not nominal:
        if part.degrees is None or (part.axis is None and part.direction is None):
            return None
        if part.degrees and not (part.named or part.direction):
            return None  # "turned 45 degrees" does not say which way
        return part.sign * part.degrees
    if part.degrees is not None or part.direction is None or not part.moved:
        return None
    return part.sign * float(synonyms()["pose"]["nominal"][part.amount])


def _fill(text: Sequence[str], angles: dict[str, float], used: list[int]) -> None:
    """Add what "level" and "facing the camera" say about axes without an angle."""
    levels = words("pose", "level")
    level = None
    if not levels.isdisjoint(text):
        level = next(i for i, word in enumerate(text) if word in levels)
    frontal = _frontal().find(text)
    if frontal and not _NOT_AWAY.isdisjoint(_same_clause(text, frontal[0].first)):
        frontal = []
    if frontal and angles == {"pan": 0.0}:
        angles["tilt"] = 0.0  # "not turned; she faces the camera"
        used += [frontal[0].first, frontal[0].end - 1]
    elif frontal and "pan" not in angles and ("roll" not in angles or "tilt" in angles):
        axes = ("pan",) if angles else ("pan", "tilt")
        angles.update(dict.fromkeys(axes, 0.0))
        used += [frontal[0].first, frontal[0].end - 1]
    if level is not None and "tilt" not in angles and angles:
        angles["tilt"] = 0.0
        used.append(level)


def _same_clause(text: Sequence[str], index: int, most: int = 4) -> Sequence[str]:
    """Return the words right before ``index``, back to where its clause begins."""
    start = index
    while start > max(0, index - most) and text[start - 1] not in CLAUSE_BREAKS:
        start -= 1
    return text[start:index]


def _parts(text: Sequence[str], numbers: Sequence[Number]) -> list[_Part]:
    """Cut a text where punctuation, "and" or the next axis word begins something new."""
    starts = {number.first: number for number in numbers}
    named = {hit.first: hit for hit in _angles().find(text)}
    parts = [_Part()]
    skip, known, axes, amounts, directions = 0, _known(), _axes(), _amounts(), _directions()
    moves, zero, names = words("pose", "moves"), words("pose", "zero"), words("pose", "names")
    for index, word in enumerate(text):
        if index < skip or (word not in known and index not in starts and index not in named):
            continue
        part, number = parts[-1], None if index in named else starts.get(index)
        if word in _ENDS:
            parts.append(_Part(moved=part.moved and word in ("and", ",")))
        elif number is not None or index in named:
            if part.degrees is not None:
                part = _new(parts)
            value = _signed(text, number) if number is not None else named[index].value
            part.degrees = abs(value)
            part.sign *= -1.0 if value < 0 else 1.0
            part.tokens.append(index)
            skip = number.end if number is not None else named[index].end
        elif word in directions and (direction := _direction(text, index, directions[word])):
            _take_direction(text, index, part if part.direction is None else _new(parts), direction)
        elif axis := axes.get(word):
            if part.axis not in (None, axis) and (part.degrees is not None or part.direction):
                part = _new(parts)
            part.axis = axis
            part.named |= word in names
            part.tokens.append(index)
            if part.degrees is None and _negated(text, index, parts):
                part.degrees = 0.0
        elif word in zero and part.degrees is None and part.axis is not None:
            part.degrees = 0.0
            part.tokens.append(index)
        elif word in amounts:
            part.amount = amounts[word]
            part.moved = True
        if word in moves:
            parts[-1].moved = True
    if not any(part.axis or part.moved for part in parts) and _only_directions(text):
        for part in parts:
            part.moved = True  # "up and to the left"
    return parts


def _only_directions(text: Sequence[str]) -> bool:
    return _beside().issuperset(text)


def _new(parts: list[_Part]) -> _Part:
    parts.append(_Part(moved=parts[-1].moved))
    return parts[-1]


def _take_direction(text: Sequence[str], index: int, part: _Part, direction: str) -> None:
    axis, sign = _SIGNS[direction]
    if part.axis == "tilt" and axis == "pan" and not _pitch_said(text):
        part.axis = "roll"  # a head tilted to the left is rolled
    part.direction = axis
    before = text[max(0, index - 3) : index]
    owned = (
        axis == "pan"
        and not words("pose", "owners").isdisjoint(before[-2:])
        and words("pose", "viewers").isdisjoint(before)
    )
    part.sign *= -sign if owned else sign
    part.tokens.append(index)


def _negated(text: Sequence[str], index: int, parts: list[_Part]) -> bool:
    """Say whether an axis is denied: "no tilt", "not turned or tilted"."""
    for at in range(index - 1, max(-1, index - 1 - _NEGATION_REACH), -1):
        if text[at] in ("no", "not", "without", "zero", "neither", "nor"):
            return True
        if text[at] == "or" and len(parts) > 1:
            return parts[-2].degrees == 0.0
        if text[at] in _ENDS or text[at] == ":":
            return False
    return False


def _joined(parts: list[_Part]) -> list[_Part]:
    """Bring an angle and the direction said in the part before it together: "to the left, by 30 degrees"."""
    joined: list[_Part] = []
    for part in parts:
        if joined and _completes(joined[-1], part):
            last = joined[-1]
            last.degrees = part.degrees if last.degrees is None else last.degrees
            last.direction = last.direction or part.direction
            last.sign *= part.sign
            last.moved |= part.moved
            last.named |= part.named
            last.tokens += part.tokens
        elif part.axis or part.direction or part.degrees is not None:
            joined.append(part)
    for part in joined:
        if part.axis in ("pan", "tilt") and part.direction:
            part.axis = part.direction  # "turned 10 degrees up"
    return joined


def _completes(last: _Part, part: _Part) -> bool:
    """Say whether ``part`` is the bare angle that ``last`` lacks, or the bare direction of its angle."""
    if part.axis:
        return False
    if last.degrees is None:
        return bool(last.axis or last.direction) and part.degrees is not None and not part.direction
    fits = not last.direction and last.axis in (part.direction, None)
    return part.degrees is None and part.direction is not None and fits


def _midpoints(text: Sequence[str], numbers: Sequence[Number]) -> list[Number]:
    """Return the numbers, a range ("20 to 30 degrees", "20-30") as one number at its middle."""
    joined: list[Number] = []
    for number in numbers:
        if number.decade or (number.word and text[number.end : number.end + 1] in (["of"], ["person"])):
            continue
        last = joined[-1] if joined else None
        link = text[last.end : number.first] if last else []
        between = (
            link == ["and"] and last is not None and "between" in text[max(0, last.first - 2) : last.first]
        )
        if last and (link in (["-"], ["to"]) or between):
            joined[-1] = Number((last.value + number.value) / 2, last.first, number.end)
        else:
            joined.append(number)
    return joined


def _signed(text: Sequence[str], number: Number) -> float:
    before = text[number.first - 1] if number.first else ""
    return -number.value if before in ("-", "minus", "negative") else number.value


def _direction(text: Sequence[str], index: int, name: str) -> str | None:
    """Return a direction said by its word, unless that means another thing: "the right side", "right at"."""
    after = text[index + 1] if index + 1 < len(text) else ""
    if after in words("pose", "sides") and {"toward", "to", "over"}.isdisjoint(
        text[max(0, index - 2) : index]
    ):
        return None
    return None if name == "right" and after == "at" else name


def _pitch_said(text: Sequence[str]) -> bool:
    return "pan" in text or "pitch" in text or "yaw" in text


@cache
def _directions() -> dict[str, str]:
    return {word: name for name in _SIGNS for word in words("pose", name)}


@cache
def _axes() -> dict[str, str]:
    return {word: name for name in reversed(_AXES) for word in words("pose", name)}


@cache
def _amounts() -> dict[str, str]:
    return {word: name for name in ("slight", "strong") for word in words("pose", name)}


@cache
def _beside() -> frozenset[str]:
    """Words that may stand in a text that says nothing but directions."""
    return filler() | words("pose", "viewers") | _directions().keys() | _amounts().keys() | _ENDS | _GLUE


@cache
def _known() -> frozenset[str]:
    """Words that :func:`_parts` does something about."""
    said = _directions().keys() | _axes().keys() | _amounts().keys()
    return frozenset(said | _ENDS | words("pose", "moves") | words("pose", "zero"))


@cache
def _frontal() -> Lexicon[bool]:
    return phrases("pose", "frontal")


@cache
def _angles() -> Lexicon[float]:
    return Lexicon({phrase: float(angle) for phrase, angle in synonyms()["pose"]["angles"].items()})
