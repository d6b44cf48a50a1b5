"""Reading of multiple-choice answers: a letter, a number, an option's text, or words that mean one option."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from facemllm.evaluation.parsing.age import read_age, read_range
from facemllm.evaluation.parsing.classes import read_class, read_yes_no
from facemllm.evaluation.parsing.context import Mention, in_context, resolve
from facemllm.evaluation.parsing.lexicon import Lexicon, vocabulary, words_of
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_INTRODUCED = frozenset(["option", "answer", "choice", "letter", "is", "(", ":"])
_UNSAID = frozenset((".", "\n", "(", ")", "[", "]", ":", ","))
_LISTING = frozenset(("and", "or", "either", "both", "/"))
_SET_OFF = frozenset([")", ".", ":", "]"])


def read_choice(reading: Reading, options: tuple[str, ...]) -> Parsed:
    """Read which option was chosen; the label is the option's text.

    A letter is one only when it stands alone, is set off ("B)", "(b)", "B:") or introduced ("option B"), so
    that the article in "A woman who looks sad" is none. A letter and a text that contradict are ambiguous.
    """
    letters = _read_letters(reading, len(options))
    text = _read_text(reading, options)
    if len(letters) != 1:
        return Parsed("ambiguous") if letters and text.outcome == "unparsed" else text
    ((index, span),) = letters.items()
    if text.outcome == "answer" and text.label != options[index]:
        return Parsed("ambiguous", span=span)
    return Parsed("answer", options[index], span)


def _read_letters(reading: Reading, count: int) -> dict[int, tuple[int, int] | None]:
    """Return the indices of the options whose letters were given, and where."""
    text = reading.words
    solid = [index for index, word in enumerate(text) if word not in _UNSAID]
    listed = len(solid) > 1 and all(text[i] in _LISTING or text[i] in _LETTERS[:count] for i in solid)
    found: dict[int, tuple[int, int] | None] = {}
    for index, word in enumerate(text):
        if len(word) != 1 or word not in _LETTERS[:count]:
            continue
        after = text[index + 1] if index + 1 < len(text) else ""
        before = text[index - 1] if index else ""
        alone = listed or solid == [index]
        capital = _is_capital(reading, index)
        set_off = (after in _SET_OFF and (before not in ("a", "an", "the", "with"))) or (
            after == "," and capital
        )
        opens = index == solid[0] and after in ("-", "\n") and capital
        introduced = before in _INTRODUCED and (
            word != "a" or after in ("", ".", ")", ":", ",", "\n") or capital
        )
        article = word in ("a", "i") and after not in (
            "",
            ".",
            ")",
            ":",
            ",",
            "]",
            "\n",
            "-",
            "because",
            "since",
        )
        if alone or ((set_off or opens or introduced) and not article):
            found.setdefault(_LETTERS.index(word), reading.span(index, index + 1))
    return found


def _is_capital(reading: Reading, index: int) -> bool:
    token = reading.tokens[index]
    start = token.start - (reading.cut.offset or 0)
    return reading.cut.text[start : start + 1].isupper()


def _read_text(reading: Reading, options: tuple[str, ...]) -> Parsed:
    literal = _literal(options).find(reading.words)
    said = in_context(reading.words, [Mention(hit.value, hit.first, hit.end, 2.0) for hit in literal])
    if said and all(mention.negated for mention in said) and len(options) == 2:
        denied = {mention.label for mention in said}
        others = [option for option in options if option not in denied]
        if len(others) == 1:  # of two options, denying one is choosing the other
            return Parsed("answer", others[0], reading.span(said[0].first, said[0].end))
    if any(not mention.negated for mention in said):
        return resolve(reading, said)
    kind, labels = _kind(options)
    if kind == "range":
        return _read_in_range(reading, options)
    if kind:
        parsed = read_yes_no(reading) if kind == "yes_no" else read_class(reading, kind)
        if parsed.outcome != "answer":
            return parsed
        if parsed.label in labels:
            return Parsed("answer", options[labels.index(parsed.label)], parsed.span)
    return reading.nothing()


def _read_in_range(reading: Reading, options: Sequence[str]) -> Parsed:
    parsed = read_age(reading)
    if parsed.outcome != "answer":
        return parsed
    for option in options:
        bounds = read_range(option)
        if bounds and bounds[0] <= parsed.label < bounds[1] + 1:
            return Parsed("answer", option, parsed.span)
    return reading.nothing()


@lru_cache(maxsize=1024)
def _literal(options: tuple[str, ...]) -> Lexicon[str]:
    return Lexicon({" ".join(words_of(option)): option for option in options})


@lru_cache(maxsize=1024)
def _kind(options: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the vocabulary that all options are distinct labels of, and the labels."""
    for task in ("yes_no", "expression", "gender", "ethnicity"):
        labels = []
        for option in options:
            tokens = words_of(option)
            hit = vocabulary(task).at(tokens, 0) if tokens else None
            labels.append(hit.value[0] if hit and hit.value and hit.end == len(tokens) else "")
        if all(labels) and len(set(labels)) == len(options):
            return task, tuple(labels)
    return ("range", ()) if all(read_range(option) for option in options) else (None, ())
