"""Reading of several attributes out of one answer: which are said to be there and which not."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.evaluation.parsing.context import Mention, in_context
from facemllm.evaluation.parsing.lexicon import Lexicon, split, synonyms, words_of
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed

_AFTER = {
    "yes": True, "true": True, "present": True, "1": True,
    "no": False, "false": False, "absent": False, "none": False, "0": False, "not": False,
}  # fmt: skip
_LINKS = frozenset((":", "-", "=", "is", "are", "("))
_NONE = frozenset(("none", "nothing", "neither"))


def read_attributes(reading: Reading, options: tuple[str, ...] | None) -> Parsed:
    """Read attributes as name to True or False; those not spoken of are left out.

    Args:
        reading: The text.
        options: The attributes asked about, by name; None for CelebA's.
    """
    names = options or CELEBA_ATTRIBUTES.labels
    text = reading.words
    plain = [Mention(hit.value, hit.first, hit.end, 1.0) for hit in _lexicon(names).find(text)]
    found: dict[str, bool] = {}
    for mention in in_context(text, plain):
        name, holds = mention.label
        after = next((word for word in text[mention.end : mention.end + 3] if word not in _LINKS), "")
        linked = text[mention.end : mention.end + 1] != () and text[mention.end] in _LINKS
        holds = holds != (mention.negated or (linked and _AFTER.get(after) is False))
        if found.setdefault(name, holds) != holds:
            return Parsed("ambiguous", span=reading.span(mention.first, mention.end))
    if found:
        return Parsed("answer", found, reading.span(plain[0].first, plain[-1].end))
    if options and _NONE & set(text):
        return Parsed("answer", dict.fromkeys(options, False))
    return reading.nothing()


@lru_cache(maxsize=256)
def _lexicon(names: tuple[str, ...]) -> Lexicon[tuple[str, bool]]:
    entries: dict[str, tuple[str, bool]] = {}
    file: dict[str, Any] = synonyms()
    for name in names:
        key = name.strip().lower().replace(" ", "_")
        for phrase in split(file["attribute_opposites"].get(key, "")):
            entries.setdefault(phrase, (name, False))
    for name in names:
        key = name.strip().lower().replace(" ", "_")
        for phrase in (" ".join(words_of(name)), *split(file["attributes"].get(key, ""))):
            entries[phrase] = (name, True)
    return Lexicon(entries)
