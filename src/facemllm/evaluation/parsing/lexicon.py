"""Phrases and what they mean, read from ``data/synonyms.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from facemllm.core.config import load_yaml
from facemllm.evaluation.parsing.text import cut

SYNONYMS = Path(__file__).parent.parent / "data" / "synonyms.yaml"
_END = ""
WORD, CUE = 2, 1
"""How much a phrase counts: one that states a label, and one that hints at it."""

_COMMON = (
    "photo", "picture", "visible",
    "his", "her", "their", "eyes", "mouth", "lips", "lip", "nose", "head", "looks", "looking", "hair",
    "give", "going", "go", "let", "might", "may", "all", "more", "than", "so", "if", "which", "who",
    "right", "yes",
    "because", "from", "seems", "appears", "seem", "appear", "or", "one", "there", "people", "do",
    "does", "have", "has", "am", "we", "you", "my", "best", "like", "any", "no", "would", "could",
    "can", "look", "see", "an", "on", "for", "not", "that", "it", "this", "are", "image", "face",
    "person", "be", "to", "at", "in", "of", "and", "with", "i", "a", "is", "the", ":",
)  # fmt: skip
"""Words of many texts, the commonest last."""

V = TypeVar("V")


@dataclass(slots=True)
class Hit(Generic[V]):
    """A phrase found in tokens ``first`` to ``end`` (exclusive), and its value."""

    value: V
    first: int
    end: int


class Lexicon(Generic[V]):
    """Finds phrases in tokens: from left to right, the longest first, without overlaps.

    Attributes:
        triggers: A word of each phrase, by which to say quickly that none is in a text.
        starts: The first word of each phrase.

    Example:
        >>> lexicon = Lexicon({"asian": "asian", "east asian": "east asian"})
        >>> lexicon.find(["an", "east", "asian", "man"])
        [Hit(value='east asian', first=1, end=3)]
    """

    def __init__(self, phrases: Mapping[str, V]) -> None:
        # A tree of words: each node maps the next word to a node, and _END to what the phrase so far means.
        self._tree: dict[str, Any] = {}
        self._phrases: dict[str, V] = {}
        for phrase, value in phrases.items():
            words = words_of(phrase)
            if words:
                self._phrases[" ".join(words)] = value
                node = self._tree
                for word in words:
                    node = node.setdefault(word, {})
                node[_END] = value
        self.triggers = frozenset(rarest(phrase.split(" ")) for phrase in self._phrases)
        self.starts = frozenset(self._tree)

    def phrases(self) -> list[tuple[str, V]]:
        """Return all phrases with their values."""
        return list(self._phrases.items())

    def may_be_in(self, words: Sequence[str]) -> bool:
        """Say quickly whether a phrase could be in ``words``: whether the rarest word of one is."""
        return not self.triggers.isdisjoint(words)

    def find(self, words: Sequence[str]) -> list[Hit[V]]:
        """Return all phrases in ``words``."""
        if self.triggers.isdisjoint(words):  # as for most lexicons and texts
            return []
        hits: list[Hit[V]] = []
        tree, count, skip = self._tree, len(words), 0
        for index, word in enumerate(words):
            if word not in tree or index < skip:
                continue
            node, position, end = tree[word], index + 1, 0  # as in :meth:`at`, which costs a call
            while True:
                if _END in node:
                    value, end = node[_END], position
                if position == count or (node := node.get(words[position])) is None:
                    break
                position += 1
            if end:
                hits.append(Hit(value, index, end))
                skip = end
        return hits

    def at(self, words: Sequence[str], index: int) -> Hit[V] | None:
        """Return the longest phrase that begins at ``index``."""
        position, count = index, len(words)
        node: Any = self._tree
        found: Hit[V] | None = None
        while position < count and (node := node.get(words[position])) is not None:
            position += 1
            if _END in node:
                found = Hit(node[_END], index, position)
        return found


def rarest(words: Sequence[str]) -> str:
    """Return the word of a phrase by which to look for it: the longest that is not in every other text."""
    return min(words, key=lambda word: (_COMMON.index(word) if word in _COMMON else -1, -len(word)))


def words_of(phrase: str) -> tuple[str, ...]:
    """Return a phrase as the tokens it would be read as."""
    return tuple(cut(phrase)[0])


def split(phrases: str | Iterable[str]) -> list[str]:
    """Return the phrases of a comma-separated list.

    Example:
        >>> split("sad, very sad")
        ['sad', 'very sad']
    """
    parts = phrases.split(",") if isinstance(phrases, str) else phrases
    return [part.strip().strip('"') for part in parts if part.strip()]


@cache
def synonyms() -> dict[str, Any]:
    """Return the whole synonyms file."""
    return load_yaml(SYNONYMS)


@cache
def phrases(section: str, name: str) -> Lexicon[bool]:
    """Return a plain list of phrases of the file as a lexicon whose values are all True."""
    return Lexicon(dict.fromkeys(split(synonyms()[section][name]), True))


@cache
def kinds(section: str, *names: str) -> Lexicon[str]:
    """Return several lists of phrases of the file as one lexicon from phrase to the name of its list."""
    return Lexicon({phrase: name for name in names for phrase in split(synonyms()[section][name])})


@cache
def words(section: str, name: str) -> frozenset[str]:
    """Return a list of single words of the file."""
    return frozenset(split(synonyms()[section][name]))


@cache
def vocabulary(task: str) -> Lexicon[tuple[str, int] | None]:
    """Return the lexicon of a task: phrase to (label, strength), or None for phrases that say nothing.

    Example:
        >>> vocabulary("expression").find(["unhappy"])[0].value
        ('sad', 2)
    """
    section = synonyms()[task]
    entries: dict[str, tuple[str, int] | None] = {}
    for label, kinds in section["labels"].items():
        entries |= dict.fromkeys(split(kinds.get("cues", "")), (label, CUE))
        entries |= dict.fromkeys(split(kinds["words"]), (label, WORD))
        entries[label] = (label, WORD)
    entries |= dict.fromkeys(split(section.get("ignore", "")))
    for colour in split(section.get("colours", "")):
        entries |= dict.fromkeys(f"{colour} {thing}" for thing in split(section["things"]))
    for owner, label in section.get("owners", {}).items():  # "her husband" hints at her, not at a man
        forms = [f"{kind} {one}".strip() for kind in ("", *split(section["kinds"]))
                 for one in split(section["relatives"])]  # fmt: skip
        entries |= dict.fromkeys((f"{owner} {form}" for form in forms), (label, CUE) if label else None)
    return Lexicon(entries)


@cache
def filler() -> frozenset[str]:
    """Return words that carry no answer."""
    return frozenset(split(synonyms()["filler"]))
