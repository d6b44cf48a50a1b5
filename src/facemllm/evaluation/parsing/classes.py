"""Reading of labels out of a fixed vocabulary: expression, gender, ethnicity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from facemllm.evaluation.parsing.context import Mention, broader_dropped, mentions, resolve
from facemllm.evaluation.parsing.lexicon import CUE, WORD, filler, vocabulary, words
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed, answer
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS

_INITIALS = {"gender": {"m": "male", "f": "female"}}
_NONE = frozenset(("none", "nothing"))
_BY_FEATURES = ("expression", "ethnicity")
_BETWEEN = frozenset(("or", ",", "either", "maybe", "perhaps", "possibly", "even", "a", "an"))
_SET_ASIDE = frozenset(("dismissals", "outdone", "compared", "unclaimed"))
_FEW, _LONG = 3, 5
"""How many words may stand beside a misspelt one, and how long it must be."""


def read_class(reading: Reading, task: str) -> Parsed:
    """Read a label of the vocabulary of ``task``."""
    found = mentions(reading, vocabulary(task))
    if task == "expression":
        absent = _no_expression(reading.words)
        if absent:
            inside = {index for mention in absent for index in range(mention.first, mention.end)}
            found = [m for m in found if m.first not in inside or m.label == "neutral"] + absent
        if len(found) > 1 and all(mention.negated and mention.strength <= CUE for mention in found):
            return Parsed(
                "answer", "neutral", reading.span(found[0].first, found[-1].end)
            )  # "no smile, no frown"
    if (undecided := left_open(reading, task)) is not None:
        return undecided
    parsed = resolve(reading, found, broader_dropped(task))
    if parsed.outcome == "ambiguous" and (best := _likeliest(reading.words, found)):
        return answer(best.label, reading.span(best.first, best.end))
    if parsed.outcome == "unparsed" and not found:
        return _bare(reading, task) or _misspelt(reading, task) or parsed
    return parsed


def left_open(reading: Reading, task: str) -> Parsed | None:
    """Return ambiguous where all that is stated are alternatives ("fear or surprise"), else None.

    Features said beside them ("the wide eyes fit both") decide nothing; another word of the vocabulary, or a
    pronoun where gender is asked, does.
    """
    text = reading.words
    if "or" not in text or task not in _BY_FEATURES:
        return None
    stated = {hit.first for hit in vocabulary(task).find(text) if hit.value and hit.value[1] == WORD}
    told = [m for m in mentions(reading, vocabulary(task)) if m.first in stated and not m.negated]
    if len(told) < 2 or any(m.marks & _SET_ASIDE for m in told) or len({m.strength for m in told}) > 1:
        return None
    links = [text[one.end : other.first] for one, other in pairwise(told)]
    joined = "or" in links[-1] and all(_BETWEEN.issuperset(link) for link in links)
    told = broader_dropped(task)(told)
    if not joined or len({m.label for m in told}) < 2:
        return None
    return Parsed("ambiguous", span=reading.span(told[0].first, told[0].end))


def _likeliest(text: Sequence[str], found: Sequence[Mention]) -> Mention | None:
    """Return the label with the greatest score where all have one: "happy: 0.1, sad: 0.8", "sad (80 %)"."""
    scores = []
    for mention in found:
        if "%" in (before := text[max(0, mention.first - 2) : mention.first]) and before[0][0].isdecimal():
            scores.append(float(before[0].rstrip("s")))  # "80 % sad, 20 % angry"
            continue
        follows = [word for word in text[mention.end : mention.end + 3] if word not in (":", "(", "-")][:1]
        if not follows or not follows[0][0].isdecimal() or follows[0].endswith("s"):
            return None
        scores.append(float(follows[0]))
    ranked = sorted(scores, reverse=True)
    return found[scores.index(ranked[0])] if len(ranked) > 1 and ranked[0] > ranked[1] else None


def _bare(reading: Reading, task: str) -> Parsed | None:
    """Read what is an answer only when it is all that is said: "none" for an expression, "f" for female."""
    said = [i for i, word in enumerate(reading.words) if word not in CLAUSE_BREAKS and word not in filler()]
    if len(said) != 1:
        return None
    word = reading.words[said[0]]
    label = "neutral" if task == "expression" and word in _NONE else _INITIALS.get(task, {}).get(word)
    return answer(label, reading.span(said[0], said[0] + 1)) if label else None


def _misspelt(reading: Reading, task: str) -> Parsed | None:
    """Read a long word that is nearly one of the vocabulary, where little else is said: "suprised"."""
    known = filler()
    said = [i for i, word in enumerate(reading.words) if word not in CLAUSE_BREAKS and word not in known]
    if not 0 < len(said) <= _FEW:
        return None
    for index in said:
        label = _corrected(reading.words[index], task)
        if label is not None:
            return answer(label, reading.span(index, index + 1))
    return None


def _corrected(word: str, task: str) -> str | None:
    """Return the label meant by a word with a letter too many or too few, or, of long words, a wrong one."""
    if len(word) < _LONG or not word.isalpha():
        return None
    right, short = _spellings(task)
    shorter = _shortened(word)
    near = [right[form] for form in shorter if form in right]
    if word in short:
        near.append(short[word])
    if len(word) > _LONG + 1:
        near += [short[form] for form in shorter if form in short]
    # The first letter is seldom wrong, and "glasses" are not lasses.
    labels = {label for label, initial in near if initial == word[0]}
    return labels.pop() if len(labels) == 1 else None


def _shortened(word: str) -> set[str]:
    """Return what a word is without one of its letters."""
    return {word[:i] + word[i + 1 :] for i in range(len(word))}


@cache
def _spellings(task: str) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """Return the long single words that state a label, and what is left of them without one letter.

    Each with the label and the first letter of the word.
    """
    right = {
        phrase: (value[0], phrase[0])
        for phrase, value in vocabulary(task).phrases()
        if value and value[1] == WORD and phrase.isalpha() and len(phrase) >= _LONG
    }
    return right, {form: meant for phrase, meant in right.items() for form in _shortened(phrase)}


def _no_expression(text: Sequence[str]) -> list[Mention]:
    """Return where a text says that there is no emotion: "isn't showing any particular emotion"."""
    things, between = words("no_expression", "things"), words("no_expression", "between")
    if things.isdisjoint(text):
        return []
    found = []
    for index, word in enumerate(text):
        if word not in things:
            continue
        start = index
        while start and text[start - 1] in between:
            start -= 1
        if start and text[start - 1] in _denials():
            found.append(Mention("neutral", start - 1, index + 1, WORD + 0.5))
    return found


@cache
def _denials() -> frozenset[str]:
    return words("statements", "denials")
