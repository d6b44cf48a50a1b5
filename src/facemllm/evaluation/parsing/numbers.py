"""Numbers in digits and in words, decades, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_UNIT_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TEN_WORDS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_UNITS = {word: value for value, word in enumerate(_UNIT_WORDS)}
_TENS = {word: 10 * value for value, word in enumerate(_TEN_WORDS, start=2)} | {"fourty": 40}
_DECADES = {f"{word[:-1]}ies": value for word, value in _TENS.items()}
_SOMETHINGS = {f"{word}something": value for word, value in _TENS.items()}
_ROUGHLY = {f"{word}ish": value for word, value in (_TENS | _UNITS).items()}
_REMEMBERED = 1 << 14  # words
NUMBER_WORDS = frozenset((*_UNITS, *_TENS, *_DECADES, *_SOMETHINGS, *_ROUGHLY, "hundred"))


@dataclass(slots=True)
class Number:
    """A number said in tokens ``first`` to ``end``.

    Attributes:
        value: The number; the first year for a decade.
        first: First token.
        end: One after the last token.
        decade: It names a span of ten, as "thirties" or "30s" do.
        word: It was said in words.
    """

    value: float
    first: int
    end: int
    decade: bool = False
    word: bool = False


def find_numbers(text: Sequence[str]) -> list[Number]:
    """Return all numbers in tokens, in order.

    Example:
        >>> [number.value for number in find_numbers("between thirty five and 40 , or her fifties".split())]
        [35.0, 40.0, 50.0]
    """
    found: list[Number] = []
    skip = listed = 0
    begins = BEGINS
    for index in [i for i, word in enumerate(text) if begins[word]]:
        if index < skip:
            continue
        word = text[index]
        number: Number | None
        if word[0].isdecimal():
            if (not index or text[index - 1] == "\n") and _numbers_a_line(text, index, listed):
                listed += 1
                continue
            decade, end = word[-1] == "s", index + 1
            if end < len(text) and text[end] == "something":  # "30-something"
                decade, end = True, index + 2
            number = Number(float(word.rstrip("s")), index, end, decade)
        elif word != "a" or tuple(text[index + 1 : index + 2]) == ("hundred",):
            number = _words(text, index)
        else:
            continue
        if number is not None:
            found.append(number)
            skip = number.end
    return found


class _Begins(dict[str, bool]):
    """Whether a number may begin with a word; words that were met are remembered."""

    def __missing__(self, word: str) -> bool:
        if len(self) >= _REMEMBERED:
            self.clear()
        self[word] = found = word in NUMBER_WORDS or word[0].isdecimal() or word == "a"
        return found


BEGINS = _Begins()


def _numbers_a_line(text: Sequence[str], index: int, listed: int) -> bool:
    """Say whether a number at the start of a line is that of an item of a list: "1.", "2."."""
    if text[index] != str(listed + 1):
        return False
    if tuple(text[index + 1 : index + 2]) not in ((".",), (")",), (":",)):
        return False
    rest = text[index + 2 : index + 3]
    later = any(text[i] == str(listed + 2) and text[i - 1] == "\n" for i in range(index + 2, len(text)))
    return bool(rest) and rest[0] != "\n" and (listed > 0 or later or rest[0][0].isdecimal())


def _words(text: Sequence[str], index: int) -> Number | None:
    """Read number words up to 199, as ages and angles need them."""
    if text[index] in _DECADES:
        return Number(float(_DECADES[text[index]]), index, index + 1, decade=True, word=True)
    if text[index] in _SOMETHINGS:
        return Number(float(_SOMETHINGS[text[index]]), index, index + 1, decade=True, word=True)
    if text[index] in _ROUGHLY:
        return Number(float(_ROUGHLY[text[index]]), index, index + 1, word=True)
    end, value = index, 0.0
    hundred = _hundred(text, index)
    if hundred > index:
        end, value = hundred, 100.0
        if end < len(text) and text[end] == "and":
            end += 1 if _below_hundred(text, end + 1)[1] > end + 1 else 0
    small, after = _below_hundred(text, end)
    value, end = value + small, after if after > end else end
    if end == index:
        return None
    if text[end : end + 1] and text[end] == "something":
        return Number(value, index, end + 1, decade=True, word=True)
    return Number(value, index, end, word=True)


def _hundred(text: Sequence[str], index: int) -> int:
    """Return the token after "hundred", "a hundred" or "one hundred", or ``index``."""
    if text[index] == "hundred":
        return index + 1
    if text[index] in ("a", "one") and index + 1 < len(text) and text[index + 1] == "hundred":
        return index + 2
    return index


def _below_hundred(text: Sequence[str], index: int) -> tuple[float, int]:
    if index >= len(text):
        return 0.0, index
    if text[index] in _TENS:
        unit = _UNITS.get(text[index + 1], 0) if index + 1 < len(text) else 0
        ends = index + 2 if 0 < unit < 10 else index + 1
        return float(_TENS[text[index]] + (unit if 0 < unit < 10 else 0)), ends
    if text[index] in _UNITS:
        return float(_UNITS[text[index]]), index + 1
    return 0.0, index
