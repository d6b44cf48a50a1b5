"""Reading of labels out of a fixed vocabulary: expression, gender, ethnicity; and of yes and no."""

from __future__ import annotations

from facemllm.evaluation.parsing.context import broader_dropped, mentions, resolve
from facemllm.evaluation.parsing.lexicon import vocabulary, words
from facemllm.evaluation.parsing.reading import Reading
from facemllm.evaluation.parsing.result import Parsed
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS


def read_class(reading: Reading, task: str) -> Parsed:
    """Read a label of the vocabulary of ``task``."""
    return resolve(reading, mentions(reading, vocabulary(task)), broader_dropped(task))


def read_yes_no(reading: Reading) -> Parsed:
    """Read yes or no: said outright at the start or anywhere, or as a statement or its denial.

    "The person is not wearing glasses" is no; "She is wearing glasses" is yes.
    """
    lead = CLAUSE_BREAKS | words("statements", "lead") | words("context", "hedges")
    said = [
        (hit.value[0], hit.first, hit.end)
        for hit in vocabulary("yes_no").find(reading.words)
        if hit.value is not None
    ]
    leading = [item for item in said if set(reading.words[: item[1]]) <= lead]
    if leading:
        label, first, end = leading[0]
        rest = reading.words[end:]
        # "Yes and no" says neither.
        if rest[:1] in (("and",), ("or",), ("/",)) and any(other != label for other, _, _ in said):
            return Parsed("ambiguous", span=reading.span(first, end))
        return Parsed("answer", label, reading.span(first, end))
    statement = _read_statement(reading)
    if statement is not None:
        return statement
    labels = {label for label, _, _ in said}
    if len(labels) == 1:
        label, first, end = said[0]
        before = reading.words[first - 1 : first]
        if before == ("not",):
            label = "no" if label == "yes" else "yes"
        return Parsed("answer", label, reading.span(first, end))
    if labels:
        return Parsed("ambiguous", span=reading.span(said[0][1], said[0][2]))
    return reading.nothing()


def _read_statement(reading: Reading) -> Parsed | None:
    """Read "she is wearing a hat" as yes and "she is not" as no, from the first statement."""
    text = reading.words
    subjects, states = words("statements", "subjects"), words("statements", "states")
    for index in range(len(text) - 1):
        if text[index] not in subjects or text[index + 1] not in states:
            continue
        end = next((i for i in range(index, len(text)) if text[i] in CLAUSE_BREAKS), len(text))
        if end - index < 3 and text[index + 2 : end] != ("not",):
            continue
        denied = bool(words("statements", "denials") & set(text[index:end]))
        return Parsed("answer", "no" if denied else "yes", reading.span(index, end))
    return None
