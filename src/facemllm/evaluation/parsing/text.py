"""Text to tokens: what every reader of answers works on.

Tokens are lower-case words, numbers and signs that remember where they stood, so that every label can point
at the words it was read from. Spellings and contractions are brought to one form, here and in the lexicons.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

BREAKS = frozenset(".!?;\n")
"""Tokens that end a sentence."""

CLAUSE_BREAKS = BREAKS | frozenset(",:()[]")
"""Tokens that end a clause; negations and hedges stay inside one."""

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # written without spaces: each sign is a token
_WORD = rf"[^\W\d_{_CJK}]+"
_TOKEN = re.compile(
    rf"{_WORD}(?:'{_WORD})*|[{_CJK}]|\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+(?:\.\d+)?(?:'?s\b)?|\n"
    r"|[.!?;:,()\[\]/+%°±|=→&—✓✔✅☑✗✘❌☒✖~-]"
)
_ASCII_TOKEN = re.compile(  # the same on ASCII alone, and quicker
    r"[a-z]+(?:'[a-z]+)*|\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:\.\d+)?(?:'?s\b)?|\n|[.!?;:,()\[\]/+%|=&~-]", re.ASCII
)
_THOUSANDS = re.compile(r"\d,\d")
_PLAIN = str.maketrans(
    "’‘ʼ´`“”–−‐‑…\u2028\u2029，。：；！？（）【】、～", "'''''\"\"----.\n\n,.:;!?()[],~"
)  # one character for one: positions stay
_STEMS = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
_SUFFIXES = {"m": "am", "re": "are", "ve": "have", "ll": "will", "d": "would"}
_IS = frozenset(("she", "he", "it", "that", "there", "who", "what", "here"))
_SPELLINGS = {
    "cannot": ("can", "not"), "cant": ("can", "not"), "dont": ("do", "not"), "doesnt": ("does", "not"),
    "isnt": ("is", "not"), "arent": ("are", "not"), "wont": ("will", "not"), "didnt": ("did", "not"),
    "couldnt": ("could", "not"), "wasnt": ("was", "not"), "hasnt": ("has", "not"), "havent": ("have", "not"),
    "grey": ("gray",), "greyish": ("gray",), "grayish": ("gray",), "graying": ("gray",), "greying": ("gray",),
    "blonde": ("blond",), "moustache": ("mustache",), "colour": ("color",), "coloured": ("colored",),
    "makeup": ("make", "up"), "eyeglass": ("eyeglasses",), "towards": ("toward",), "deg": ("degrees",),
    "degs": ("degrees",),
}  # fmt: skip
_SIGNS = {
    "|": ":", "=": ":", "→": ":", "&": "and",
    **dict.fromkeys("✓✔✅☑", "yes"), **dict.fromkeys("✗✘❌☒✖", "no"),
}  # fmt: skip
_MADE = {**_SPELLINGS, **{sign: (word,) for sign, word in _SIGNS.items()}}
_CHANGED = frozenset((*_SPELLINGS, *_SIGNS, "-", "—", "~"))
"""Tokens that do not stay as they are written."""


class Token(NamedTuple):
    """A word, number or sign in lower case, and where it stood in the text."""

    text: str
    start: int
    end: int


class Spans:
    """Where the tokens of a text stand; found only when asked for, because most are never asked for.

    Args:
        plain: The text in lower case.
        written: Its tokens as they are written.
        made: Into how many tokens each was made; None where each stayed as it is written.
    """

    __slots__ = ("_first", "_found", "_made", "_plain", "_written")

    def __init__(self, plain: str, written: list[str], made: list[int] | None, first: int = 0) -> None:
        self._plain, self._written, self._made, self._first = plain, written, made, first
        self._found: list[tuple[int, int]] | None = None

    def part(self, first: int) -> Spans:
        """Return those of the tokens from ``first`` on."""
        part = Spans(self._plain, self._written, self._made, self._first + first)
        part._found = self._found
        return part

    def __getitem__(self, index: int) -> tuple[int, int]:
        if self._found is None:
            self._found = self._all()
        return self._found[index + self._first]

    def of(self, first: int, end: int) -> tuple[int, int]:
        """Return where the tokens from ``first`` to ``end`` begin and end."""
        if self._found is None and self._made is None and end == first + 1:
            word = self._written[first + self._first]
            start = self._plain.find(word)
            if self._plain.find(word, start + 1) < 0:  # it is there once
                return start, start + len(word)
        return self[first][0], self[end - 1][1]

    def _all(self) -> list[tuple[int, int]]:
        plain, end = self._plain, 0
        found: list[tuple[int, int]] = []
        for word in self._written:  # each is the next occurrence of its letters: nothing else holds any
            start = plain.index(word, end)
            end = start + len(word)
            found.append((start, end))
        if self._made is None:
            return found
        return [span for span, count in zip(found, self._made, strict=True) for _ in range(count)]


def tokenize(text: str, offset: int = 0) -> list[Token]:
    """Cut text into lower-case tokens.

    Hyphens stay only before numbers, a dash between words becomes a colon, "n't" becomes "not".

    Example:
        >>> [token.text for token in tokenize("She isn't clean-shaven: 30-35, mid-30s!")]
        ['she', 'is', 'not', 'clean', 'shaven', ':', '30', '-', '35', ',', 'mid', '-', '30s', '!']
    """
    words, spans = cut(text)
    return [Token(word, spans[i][0] + offset, spans[i][1] + offset) for i, word in enumerate(words)]


def cut(text: str) -> tuple[list[str], Spans]:
    """Return the words of a text and their places; the form that readers work on."""
    plain = _lower(text)
    written = _pattern(plain).findall(plain)
    if "'" not in plain and _CHANGED.isdisjoint(written) and not ("," in plain and _THOUSANDS.search(plain)):
        return written, Spans(plain, written, None)
    words, made, end = [], [], 0
    for word in written:
        start = plain.index(word, end)
        end = start + len(word)
        if word in _CHANGED:
            if word in "-—~":
                sign = _dash(plain, start, end)
                parts = (sign,) if sign else ()
            else:
                parts = _MADE[word]
        elif word[0].isdigit():
            parts = (word.replace(",", "").replace("'", ""),)
        elif "'" in word:
            parts = _expand(word)
        else:
            words.append(word)
            made.append(1)
            continue
        words.extend(parts)
        made.append(len(parts))
    return words, Spans(plain, written, made)


def _pattern(plain: str) -> re.Pattern[str]:
    return _ASCII_TOKEN if plain.isascii() else _TOKEN


def _lower(text: str) -> str:
    """Return the text in lower case with plain quotes, of the same length."""
    if text.isascii():
        return text.lower()
    plain = text.translate(_PLAIN)
    lower = plain.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := character.lower()) == 1 else character for character in plain)


def _dash(plain: str, start: int, end: int) -> str:
    """Return "-" for a minus or a range, ":" for a dash between words, nothing for a hyphen or a bullet."""
    after = plain[end : end + 2].lstrip(" ")[:1]
    before = plain[max(0, start - 2) : start].rstrip(" ")[-1:]
    if after.isdigit() and (plain[start] == "-" or before.isdigit()):
        return "-"
    if plain[start] == "—":
        return ":" if start else ""
    if plain[start] == "~":
        return "-" if after.isdigit() and before.isdigit() else ""
    spaced = plain[start - 1 : start] == " " and plain[end : end + 1] in (" ", "-", "")
    return ":" if spaced and before not in ("", "\n") else ""


@lru_cache(maxsize=4096)
def _expand(word: str) -> tuple[str, ...]:
    stem, _, suffix = word.rpartition("'")
    if suffix == "t" and stem.endswith("n"):
        stem = stem[:-1]
        return (_STEMS.get(stem, stem), "not") if stem else ("not",)
    if suffix == "s":
        # "she's" is "she is"; "man's" is "man" and an owner, which poses need ("the person's left").
        return (stem.replace("'", ""), "is" if stem in _IS else "s")
    parts = (stem.replace("'", ""), _SUFFIXES.get(suffix, suffix))
    return tuple(part for part in parts if part)
