"""Reading of multiple-choice answers: a letter, a number, an option's text, or words that mean one option."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from facemllm.evaluation.parsing.age import read_age, read_range
from facemllm.evaluation.parsing.classes import read_class
from facemllm.evaluation.parsing.context import Mention, in_context, resolve
from facemllm.evaluation.parsing.letters import read_index, read_letters, without_listing
from facemllm.evaluation.parsing.lexicon import (
    Lexicon,
    filler,
    phrases,
    split,
    synonyms,
    vocabulary,
    words,
    words_of,
)
from facemllm.evaluation.parsing.numbers import find_numbers
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed, Place, answer
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS
from facemllm.evaluation.parsing.yesno import read_yes_no

_ENDINGS = ("ing", "ed", "es", "s", "e", "y")
_SHORTEST = 3
_GENERIC = frozenset(("wear", "has", "hav", "does", "show", "see", "visibl", "present", "worn"))
_ASIDE = (("none",), ("other",), ("others",), ("neither",), ("unknown",), ("not",))
_KINDS = ("yes_no", "expression", "gender", "ethnicity")


def read_choice(reading: Reading, options: tuple[str, ...]) -> Parsed:
    """Read which option was chosen; the label is the option's text.

    A letter and a text that contradict are ambiguous.
    """
    reading = without_listing(reading, options)
    text = read_text(reading, options)
    letters = read_letters(reading, len(options)) or (
        [] if _kind(options)[0] == "range" or text.outcome == "answer" else read_index(reading, len(options))
    )
    if not letters:
        return text
    chosen = resolve(reading, letters)
    if chosen.outcome != "answer":
        left = [i for i in range(len(options)) if i not in {m.label for m in letters if m.negated}]
        if text.outcome == "answer" or (chosen.outcome != "ambiguous" and len(left) != 1):
            return text
        return chosen if len(left) != 1 else answer(options[left[0]])
    option = options[chosen.label]
    if text.outcome == "answer" and text.label != option and not _says_no_more(reading, letters, text):
        return Parsed("ambiguous", span=chosen.place)
    return answer(option, chosen.place)


def _says_no_more(reading: Reading, letters: Sequence[Mention], text: Parsed) -> bool:
    """Say whether the other option's text stands before the letter and was only considered."""
    if not isinstance(text.place, Place) or reading.cut.offset is None:
        return False
    between = reading.all_words[text.place.end - reading.offset : letters[-1].first]
    return not {".", "\n"}.isdisjoint(between)


def read_text(reading: Reading, options: tuple[str, ...]) -> Parsed:
    """Read which option's text, or words that mean it, was said."""
    words_said = reading.words
    hits = literal_options(options).find(words_said)
    said = (
        in_context(words_said, [Mention(hit.value, hit.first, hit.end, 2.0) for hit in hits], reading.bits)
        if hits
        else []
    )
    if said and all(mention.negated for mention in said) and len(options) == 2:
        denied = {mention.label for mention in said}
        others = [option for option in options if option not in denied]
        if len(others) == 1:  # of two options, denying one is choosing the other
            return answer(others[0], reading.span(said[0].first, said[0].end))
    if any(not mention.negated for mention in said):
        return resolve(reading, said)
    meant = _read_meaning(reading, options)
    if meant.outcome in ("answer", "ambiguous"):
        return meant
    alike = _alike(reading, options)
    if alike is not None and (not said or words_of(alike)[0] in words("statements", "denials")):
        return answer(alike)  # "does not wear any glasses" where "No glasses" is an option
    if said:
        return meant
    if meant.outcome == "refusal":
        unknown = [option for option in options if _is_refusal(option)]
        if len(unknown) == 1:
            return answer(unknown[0], meant.place)
    return meant


def _read_meaning(reading: Reading, options: tuple[str, ...]) -> Parsed:
    kind, labels = _kind(options)
    if kind == "range":
        return _read_in_range(reading, options)
    if kind:
        parsed = read_yes_no(reading) if kind == "yes_no" else read_class(reading, kind)
        if parsed.outcome != "answer":
            return parsed
        if parsed.label in labels:
            return answer(options[labels.index(parsed.label)], parsed.place)
    return reading.nothing()


def _read_in_range(reading: Reading, options: Sequence[str]) -> Parsed:
    parsed = read_age(reading)
    if parsed.outcome == "unparsed":
        numbers = [number for number in find_numbers(reading.words) if not number.decade]
        if len(numbers) != 1:
            return parsed
        parsed = answer(numbers[0].value, reading.span(numbers[0].first, numbers[0].end))
    if parsed.outcome != "answer":
        return parsed
    for option in options:
        bounds = read_range(option)
        if bounds and bounds[0] <= parsed.label < bounds[1] + 1:
            return answer(option, parsed.place)
    return reading.nothing()


def _alike(reading: Reading, options: tuple[str, ...]) -> str | None:
    """Return the one option whose words, whatever their endings, were all said, and denied as it denies."""
    denials = words("statements", "denials")
    text = [word for word in reading.words if word not in CLAUSE_BREAKS]
    stems = {_stem(word) for word in text}
    denied = not denials.isdisjoint(text)
    fitting = []
    for option, (own, denies) in zip(options, _stems(options), strict=True):
        if own and own <= stems and denies == denied:
            fitting.append((len(own), option))
    most = max((size for size, _ in fitting), default=0)
    best = [option for size, option in fitting if size == most]
    return best[0] if len(best) == 1 else None


@lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return _stem(word[: -len(ending)]) if ending in ("s", "es") else word[: -len(ending)]
    return word


@lru_cache(maxsize=1024)
def _stems(options: tuple[str, ...]) -> tuple[tuple[frozenset[str], bool], ...]:
    denials = words("statements", "denials")
    found = []
    for option in options:
        own = words_of(option)
        content = (
            frozenset(
                _stem(w) for w in own if w not in denials and w not in filler() and w not in CLAUSE_BREAKS
            )
            - _GENERIC
        )
        found.append((content, not denials.isdisjoint(own)))
    return tuple(found)


@lru_cache(maxsize=1024)
def _is_refusal(option: str) -> bool:
    tokens = list(words_of(option))
    return any(bool(phrases("refusal", name).find(tokens)) for name in ("forward", "whole", "alone"))


@lru_cache(maxsize=1024)
def literal_options(options: tuple[str, ...]) -> Lexicon[str]:
    """Return the words of the options, as they are or without what need not be said, as a lexicon."""
    entries = {" ".join(words_of(option)): option for option in options}
    for option in options:
        entries.setdefault(" ".join(_bare(option)), option)
    for option in options:  # "person with a hat" for "A person with a hat"
        tokens = words_of(option)
        if len(tokens) > 2 and tokens[0] in ("a", "an", "the"):
            entries.setdefault(" ".join(tokens[1:]), option)
    for option in options:  # "glasses" for "Eyeglasses"
        for phrase in split(synonyms()["attributes"].get("_".join(_bare(option)), "")):
            entries.setdefault(" ".join(words_of(phrase)), option)
    for phrase, option in _distinct(options).items():
        entries.setdefault(phrase, option)
    return Lexicon(entries)


def _distinct(options: tuple[str, ...]) -> dict[str, str]:
    """Return options without the words that all of them end or begin with: "gray" for "Gray hair"."""
    tokens = [_bare(option) for option in options]
    for cut_off in (_without_end, _without_start):
        parts = cut_off(tokens)
        if all(parts) and all(word.isalpha() and len(word) >= _SHORTEST for part in parts for word in part):
            return {" ".join(part): option for part, option in zip(parts, options, strict=True)}
    ends = Counter(part[-1:] for part in tokens)  # "wavy" for "Wavy hair" where "Bald" is an option too
    shared = {
        " ".join(part[:-1]): option
        for part, option in zip(tokens, options, strict=True)
        if ends[part[-1:]] > 1 and len(part) > 1 and all(w.isalpha() and len(w) >= _SHORTEST for w in part)
    }
    return shared if len(shared) > 1 else {}


def _without_start(tokens: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    shared = 0
    while len({part[shared : shared + 1] for part in tokens}) == 1 and tokens[0][shared : shared + 1]:
        shared += 1
    return [part[shared:] for part in tokens] if shared else [()]


def _without_end(tokens: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [part[::-1] for part in _without_start([part[::-1] for part in tokens])]


@lru_cache(maxsize=1024)
def _kind(options: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the vocabulary that the options are distinct labels of, and their labels.

    An option such as "none of these" has the label "".
    """
    aside = [_is_refusal(option) or words_of(option)[:1] in _ASIDE for option in options]
    for task in _KINDS:
        labels = []
        for option in options:
            tokens = _bare(option)
            hit = vocabulary(task).at(tokens, 0) if tokens else None
            labels.append(hit.value[0] if hit and hit.value and hit.end == len(tokens) else "")
        told = [label for label in labels if label]
        if len(told) > 1 and len(set(told)) == len(told) and all(map(_or, labels, aside)):
            return task, tuple(labels)
    yes_no = vocabulary("yes_no")
    firsts = [
        hit.value[0] if (t := words_of(o)) and (hit := yes_no.at(t, 0)) and hit.value else "" for o in options
    ]
    if all(firsts) and len(set(firsts)) == len(options):  # "Yes, she is" and "No, she is not"
        return "yes_no", tuple(firsts)
    ranges = [read_range(option) is not None for option in options]
    return ("range", ()) if sum(ranges) > 1 and all(map(_or, ranges, aside)) else (None, ())


def _bare(option: str) -> tuple[str, ...]:
    """Return the words of an option without a letter that it may carry: "A. happy", "(B) sad"."""
    tokens = words_of(option)
    start = 1 if tokens[:1] == ("(",) else 0
    lettered = len(tokens) > start + 2 and len(tokens[start]) == 1 and tokens[start + 1] in (")", ".", ":")
    return tokens[start + 2 :] if lettered else tokens


def _or(one: object, other: object) -> bool:
    return bool(one or other)
