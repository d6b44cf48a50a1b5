"""Text to tokens: what every reader of answers works on.

Wrappers are taken off first (thinking, code fences, JSON); then the text is cut into tokens that remember
where they stood, so that every label can point at the words it was read from.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

BREAKS = frozenset(".!?;\n")
"""Tokens that end a sentence."""

CLAUSE_BREAKS = BREAKS | frozenset(",:()[]")
"""Tokens that end a clause; negations and hedges stay inside one."""

_TOKEN = re.compile(
    r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?(?:'?s\b)?|[^\W\d_]+(?:'[^\W\d_]+)*|\r?\n|[.!?;:,()\[\]/+%°±-]"
)
_PLAIN = str.maketrans("’‘ʼ`“”–—−‐‑…", "''''\"\"-----.")  # one character for one, so positions stay
_STEMS = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
_RUN_TOGETHER = {
    "cannot": "can", "cant": "can", "dont": "do", "doesnt": "does", "isnt": "is", "arent": "are",
    "wont": "will", "didnt": "did", "couldnt": "could", "wasnt": "was", "hasnt": "has", "havent": "have",
}  # fmt: skip
_SUFFIXES = {"m": "am", "re": "are", "ve": "have", "ll": "will", "d": "would"}
_ANSWER_KEYS = ("final_answer", "answer", "label", "prediction", "response", "result", "output", "choice")
_FENCE = re.compile(r"```[\w-]*\s*\n?(.*?)```", re.DOTALL)


class Token(NamedTuple):
    """A word, number or sign in lower case, and where it stood in the text."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Cut:
    """The part of a text that may hold an answer.

    Attributes:
        text: The part, of the same characters as the original or rewritten from JSON.
        offset: Where it began in the original; None when it was rewritten, so that positions mean nothing.
    """

    text: str
    offset: int | None = 0


def tokenize(text: str, offset: int = 0) -> list[Token]:
    """Cut text into lower-case tokens; hyphens stay only before numbers, "n't" becomes "not".

    Example:
        >>> [token.text for token in tokenize("She isn't clean-shaven: 30-35, mid-30s!")]
        ['she', 'is', 'not', 'clean', 'shaven', ':', '30', '-', '35', ',', 'mid', '-', '30s', '!']
    """
    plain = text.translate(_PLAIN)
    tokens: list[Token] = []
    for match in _TOKEN.finditer(plain):
        start, end = match.span()
        word = match.group().lower()
        if word[0] == "-":
            if plain[end : end + 2].lstrip()[:1].isdigit():
                tokens.append(Token("-", start + offset, end + offset))
        elif word[0].isdigit():
            tokens.append(Token(word.replace(",", "").replace("'", ""), start + offset, end + offset))
        elif "'" in word:
            tokens += (Token(part, start + offset, end + offset) for part in _expand(word))
        elif word in _RUN_TOGETHER:
            tokens += (Token(part, start + offset, end + offset) for part in (_RUN_TOGETHER[word], "not"))
        else:
            tokens.append(Token("\n" if word[-1] == "\n" else word, start + offset, end + offset))
    return tokens


def unwrap(text: str, keys: tuple[str, ...] = ()) -> Cut:
    r"""Take off thinking, code fences and JSON.

    Args:
        text: An answer as a model gave it.
        keys: Names under which a JSON object may hold the answer, beside "answer", "label" and the like.

    Example:
        >>> unwrap('<think>a smile</think>```json\n{"expression": "happy"}\n```', ("expression",)).text
        'happy'
    """
    start = text.rfind("</think>")
    offset = start + len("</think>") if start >= 0 else 0
    inner = text[offset:]
    fence = _FENCE.search(inner) if "```" in inner else None
    if fence:
        offset, inner = offset + fence.start(1), fence.group(1)
    stripped = inner.strip()
    if stripped[:1] not in ("{", "["):
        return Cut(inner, offset)
    try:
        value = json.loads(stripped)
    except (ValueError, RecursionError):
        return Cut(inner, offset)
    return Cut(_flatten(value, keys), None)


def _expand(word: str) -> list[str]:
    stem, _, suffix = word.rpartition("'")
    if suffix == "t" and stem.endswith("n"):
        stem = stem[:-1]
        return [_STEMS.get(stem, stem), "not"] if stem else ["not"]
    if suffix == "s":
        # "she's" is "she is"; "man's" is "man" and an owner, which poses need ("the person's left").
        return [stem.replace("'", ""), "is" if stem in ("she", "he", "it", "that", "there", "who") else "s"]
    return [part for part in (stem.replace("'", ""), _SUFFIXES.get(suffix, suffix)) if part]


def _flatten(value: Any, keys: tuple[str, ...]) -> str:
    """Write a JSON value as words; of an object with a key for the answer, only that value."""
    if isinstance(value, dict):
        named = {str(key).lower(): inner for key, inner in value.items()}
        for key in (*keys, *_ANSWER_KEYS):
            if key in named:
                return _flatten(named[key], keys)
        if len(named) == 1 and isinstance(next(iter(named.values())), str) and not keys:
            return str(next(iter(named.values())))
        return ", ".join(f"{key}: {_flatten(inner, ())}" for key, inner in named.items())
    if isinstance(value, list):
        return ", ".join(_flatten(inner, keys) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
