"""Text to tokens: what every reader of answers works on.

Tokens are lower-case words, numbers and signs that remember where they stood, so that every label can point
at the words it was read from. Spellings and contractions are brought to one form, here and in the lexicons.
"""

from __future__ import annotations

import re
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
    r"[a-z]+(?:'[a-z]+)*|[\n.!?;:,()\[\]/+%|=&~-]"
    r"|\d(?:\d{0,2}(?:,\d{3})+(?!\d)|\d*(?:\.\d+)?(?:'?s\b)?)",
    re.ASCII,
)
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
_DASHES = frozenset("-—~")
"""Signs that mean one thing or another by what stands around them; all else is cut alike anywhere."""

_REMEMBERED = 1 << 14  # words whose forms are kept


class Token(NamedTuple):
    """A word, number or sign in lower case, and where it stood in the text."""

    text: str
    start: int
    end: int


class Spans:
    """Where the tokens of a text stand; found only when asked for, because most are never asked for.

    Args:
        plain: The text in lower case.
    """

    __slots__ = ("_found", "_plain")

    def __init__(self, plain: str) -> None:
        self._plain = plain
        self._found: list[tuple[int, int]] | None = None

    def __getitem__(self, index: int) -> tuple[int, int]:
        if self._found is None:
            plain, end, self._found = self._plain, 0, []
            for word in _pattern(plain).findall(plain):
                start = plain.index(word, end)  # the next of its letters: nothing else holds any
                end = start + len(word)
                made = bool(_dash(plain, start, end)) if word in _DASHES else len(_FORMS[word])
                self._found += [(start, end)] * made
        return self._found[index]


def tokenize(text: str, offset: int = 0) -> list[Token]:
    """Cut text into lower-case tokens.

    Hyphens stay only before numbers, a dash between words becomes a colon, "n't" becomes "not".

    Example:
        >>> [token.text for token in tokenize("She isn't clean-shaven: 30-35, mid-30s!")]
        ['she', 'is', 'not', 'clean', 'shaven', ':', '30', '-', '35', ',', 'mid', '-', '30s', '!']
    """
    words, plain = cut(text)
    spans = Spans(plain)
    return [Token(word, spans[i][0] + offset, spans[i][1] + offset) for i, word in enumerate(words)]


def cut(text: str) -> tuple[list[str], str]:
    """Return the words of a text, which readers work on, and the text they were cut from, in lower case."""
    plain = lower(text)
    return words_in(plain), plain


def words_in(plain: str) -> list[str]:
    """Return the words of a text that is in lower case already."""
    words: list[str] = []
    end = 0
    for word in _pattern(plain).findall(plain):
        if word not in _DASHES:
            words += _FORMS[word]
        else:
            end = plain.index(word, end) + 1
            if sign := _dash(plain, end - 1, end):
                words.append(sign)
    return words


class _Forms(dict[str, tuple[str, ...]]):
    """What each token that was met is made into: most are kept, contractions and spellings are not."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        """Make a token into words, and remember it."""
        if word in _MADE:
            forms = _MADE[word]
        elif word[0].isdigit():
            forms = (word.replace(",", "").replace("'", ""),)
        else:
            forms = _expand(word) if "'" in word else (word,)
        if len(self) >= _REMEMBERED:
            self.clear()
        self[word] = forms
        return forms


def is_cut_alike(stretch: str) -> bool:
    """Say whether a stretch between spaces gives the same words in any text: no dash begins or ends it."""
    return stretch[:1] not in _DASHES and stretch[-1:] not in _DASHES


def _pattern(plain: str) -> re.Pattern[str]:
    return _ASCII_TOKEN if plain.isascii() else _TOKEN


def lower(text: str) -> str:
    """Return the text in lower case with plain quotes, of the same length."""
    if text.isascii():
        return text.lower()
    plain = text.translate(_PLAIN)
    lowered = plain.lower()
    if len(lowered) == len(text):
        return lowered
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


_FORMS = _Forms()
