"""Reading of yes and no: said outright, or as a statement or its denial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from facemllm.evaluation.parsing.age import only_years
from facemllm.evaluation.parsing.context import ignored_words
from facemllm.evaluation.parsing.lexicon import filler, phrases, vocabulary, words
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed, answer
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS
from facemllm.evaluation.parsing.triggers import NUMBER

_ENDS = frozenset(".!?;\n:,")
_EITHER = frozenset(("and", "or", "/"))
_POLITE = frozenset(("please", "kindly"))
_REQUESTS = frozenset((word, "you") for word in ("can", "could", "will", "would", "if"))
_CLAIMS = frozenset(("statement", "claim", "sentence", "assertion", "description"))
_ALONE = CLAUSE_BREAKS | {"yes", "no"}
_TURNS = frozenset(("but", "so", "then", "hence", "thus", "therefore"))


def read_yes_no(reading: Reading) -> Parsed:
    """Read yes or no: said outright at the start or anywhere, or as a statement or its denial.

    "The person is not wearing glasses" is no; "She is wearing glasses" is yes.
    """
    text = reading.words
    if not words("refusal", "enough").isdisjoint(text) and phrases("refusal", "alone").find(text):
        return reading.nothing()  # "not enough information"
    if _asks_for_picture(reading.all_words):
        return Parsed("refusal", span=reading.span(0, len(text)))
    said = [
        (hit.value[0], hit.first, hit.end) for hit in vocabulary("yes_no").find(text) if hit.value is not None
    ]
    if len({label for label, *_ in said}) == 2 and all(
        word in _ALONE or word in words("context", "hedges") for word in text
    ):
        return Parsed("ambiguous", span=reading.span(said[0][1], said[0][2]))
    for (one, first, end), (other, start, _) in pairwise(said):
        if one != other and start == end + 1 and text[end] in _EITHER:  # "it is both yes and no"
            return Parsed("ambiguous", span=reading.span(first, start + 1))
    if said and _lead().issuperset(text[: said[0][1]]):
        label, first, end = said[0]
        follows = next((word for word in text[end:] if word not in CLAUSE_BREAKS), "")
        # "Yes and no" says neither.
        if follows in _EITHER and any(other != label for other, _, _ in said):
            return Parsed("ambiguous", span=reading.span(first, end))
        return answer(label, reading.span(first, end))
    for label, first, end in said:  # "he has no hat, but yes, he has glasses"
        if (
            text[first] in ("yes", "no")
            and tuple(text[end : end + 1]) in ((), (",",), (".",))
            and text[first - 1] in _TURNS
        ):
            return answer(label, reading.span(first, end))
    for label, first, end in said:  # "the statement is false, because the mouth is closed"
        if text[first - 1] in ("is", "was") and not _CLAIMS.isdisjoint(text[max(0, first - 5) : first]):
            return answer(label, reading.span(first, end))
    statement = _read_statement(reading)
    if statement is not None:
        return Parsed("wrong type", span=statement.place) if _tells_an_age(reading) else statement
    labels = {label for label, _, _ in said}
    if len(labels) == 1:
        label, first, end = said[0]
        if "not" in text[max(0, first - 2) : first]:
            label = "no" if label == "yes" else "yes"
        return answer(label, reading.span(first, end))
    if labels:
        return Parsed("ambiguous", span=reading.span(said[0][1], said[0][2]))
    return _bare(reading) or reading.nothing()


def _read_statement(reading: Reading) -> Parsed | None:
    """Read "she is wearing a hat" as yes and "she is not" as no, from the first statement.

    A later "there isn't one" says what the first was about, and decides.
    """
    first: Parsed | None = None
    for start, end in _clauses(reading.words):
        found = _statement(reading, start, end)
        if first is not None and reading.words[start] == "not" and reading.words[start - 1] == ",":
            return answer("no", reading.span(start, end))  # "straight, not wavy"
        if found is None:
            continue
        if first is None:
            first = found
        elif found.label == "no" and not words("statements", "ellipses").isdisjoint(reading.words[start:end]):
            return found
    return first


def _asks_for_picture(text: Sequence[str]) -> bool:
    """Say whether all that is said is an offer and a request: "Sure! Could you share the photo?"."""
    sends, pictures = words("refusal", "sends"), words("refusal", "pictures")
    if sends.isdisjoint(text) or pictures.isdisjoint(text):
        return False
    begins = (i for i, one in enumerate(text) if one in _POLITE or tuple(text[i : i + 2]) in _REQUESTS)
    begin = next(begins, len(text))
    asked = text[begin:]
    if sends.isdisjoint(asked) or pictures.isdisjoint(asked):
        return False
    offered = words("refusal", "offers")
    return all(word in offered or word in CLAUSE_BREAKS for word in text[:begin])


def _tells_an_age(reading: Reading) -> bool:
    """Say whether a statement tells an age and no more: "The person is about 40 years old."."""
    text, units = reading.words, words("age", "units")
    years = only_years(text) if reading.bits & NUMBER else None
    if years is None or not (years.decade or not units.isdisjoint(text[years.first : years.end])):
        return False
    beside = filler() | CLAUSE_BREAKS | words("statements", "subjects") | words("context", "hedges")
    beside |= words("age", "leads") | units
    return all(word in beside for i, word in enumerate(text) if not years.first <= i < years.end)


def _clauses(text: Sequence[str]) -> list[tuple[int, int]]:
    found, start = [], 0
    for index, word in enumerate(text):
        if word in _ENDS:
            if index > start:
                found.append((start, index))
            start = index + 1
    if start < len(text):
        found.append((start, len(text)))
    return found


def _statement(reading: Reading, start: int, end: int) -> Parsed | None:
    text = reading.words
    subjects, states = words("statements", "subjects"), words("statements", "states")
    clause = text[start:end]
    if subjects.isdisjoint(clause) and clause[0] not in words("statements", "openers"):
        return None
    state = not states.isdisjoint(clause)
    denied = _denied(clause)
    if not state and not (denied and text[start] in words("statements", "denials")):
        return None
    if text[start] in ("if", "when", "let") or text[start : start + 2] in (["it", "could"], ["it", "may"]):
        return None
    return answer("no" if denied else "yes", reading.span(start, end))


def _denied(clause: Sequence[str]) -> bool:
    if phrases("statements", "denying").find(clause):
        return True
    if absent := phrases("statements", "bare").find(clause):
        return "not" not in clause[max(0, absent[0].first - 3) : absent[0].first]
    if words("statements", "denials").isdisjoint(clause):
        return False
    ignored = ignored_words(clause)
    return any(word in words("statements", "denials") and i not in ignored for i, word in enumerate(clause))


def _bare(reading: Reading) -> Parsed | None:
    """Read words that are an answer only when they are all that is said: "probably", "not", "unlikely"."""
    text = reading.words
    if (told := [word for word in text if word not in CLAUSE_BREAKS]) in (["1"], ["0"]):
        at = text.index(told[0])
        return answer("yes" if told == ["1"] else "no", reading.span(at, at + 1))
    for label in ("no", "yes"):
        hit = next(iter(phrases("statements", f"bare_{label}").find(text)), None)
        if hit is not None and all(
            word in CLAUSE_BREAKS or word in filler()
            for index, word in enumerate(text)
            if not hit.first <= index < hit.end
        ):
            return answer(label, reading.span(hit.first, hit.end))
    clauses = _clauses(text)
    if clauses and text[clauses[0][0]] in words("statements", "bare_denials"):
        return answer("no", reading.span(*clauses[0]))
    return None


@cache
def _lead() -> frozenset[str]:
    return CLAUSE_BREAKS | words("statements", "lead") | words("context", "hedges")
