"""Free-text answers to typed labels: deterministic, offline, without a judge model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from typing import Any

from facemllm.core.errors import FaceMLLMError
from facemllm.evaluation.parsing import quick
from facemllm.evaluation.parsing.age import read_age, read_age_bin
from facemllm.evaluation.parsing.attributes import read_attributes
from facemllm.evaluation.parsing.au import read_action_units
from facemllm.evaluation.parsing.choice import read_choice, read_text
from facemllm.evaluation.parsing.classes import left_open, read_class
from facemllm.evaluation.parsing.lexicon import Lexicon, filler, phrases, synonyms, vocabulary, words
from facemllm.evaluation.parsing.numbers import find_numbers
from facemllm.evaluation.parsing.pose import read_pose
from facemllm.evaluation.parsing.reading import Reading, parts
from facemllm.evaluation.parsing.result import OUTCOMES, Outcome, Parsed, Place, answer
from facemllm.evaluation.parsing.text import BREAKS, CLAUSE_BREAKS, cut
from facemllm.evaluation.parsing.triggers import ECHO, MARK, NO, WRAPPED, look
from facemllm.evaluation.parsing.wrappers import Cut, as_it_is, unwrap
from facemllm.evaluation.parsing.yesno import read_yes_no

__all__ = ["OUTCOMES", "PARSER_VERSION", "TASKS", "Outcome", "Parsed", "parse"]

PARSER_VERSION = 7
"""Raised whenever an answer may be read differently; part of every score."""

_READERS: dict[str, Callable[[Reading], Parsed]] = {
    "expression": partial(read_class, task="expression"),
    "gender": partial(read_class, task="gender"),
    "ethnicity": partial(read_class, task="ethnicity"),
    "age": read_age,
    "age_bin": read_age_bin,
    "pose": read_pose,
    "yesno": read_yes_no,
    "au": read_action_units,
}
TASKS = (*_READERS, "choice", "attributes")
"""All tasks that answers can be read for."""

_KNOWN = frozenset(TASKS)

_DECISIVE = ("answer", "ambiguous", "refusal")
_CHANGEABLE = frozenset(("pose", "attributes", "au"))  # tasks whose labels are dicts or lists
_OBJECTS = ("pose", "attributes")  # a correction of them may leave the rest as it was
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_CONCESSIVES = frozenset(("though", "although", "while", "despite"))
_SIDES = frozenset(("left", "right"))
_AROUND_NUMBERS = frozenset((
    "-", "to", "from", "between", "or", "/", "%", "+", "aged", "range", "their", "them", "does",
    "do", "are", "not",
))  # fmt: skip
_LONGEST = 8000  # characters of an answer that is read whole; of longer ones, half as many from each end


def parse(task: str, text: str, options: Sequence[str] | None = None) -> Parsed:
    """Read a free-text answer.

    Args:
        task: One of :data:`TASKS`. Labels are those of :class:`facemllm.data.FaceSample`; for ``yesno``
            "yes" or "no", for ``choice`` the option's text, for ``attributes`` name to True or False.
        text: The answer, as the model gave it.
        options: What could be chosen, needed for ``choice``. For other tasks, options shown with it,
            so that an answer by letter is understood.

    Raises:
        FaceMLLMError: If the task is unknown, or ``choice`` has no options.

    Example:
        >>> parse("age", "She looks like she is in her early thirties.").label
        32.0
        >>> parse("choice", "A woman who looks sad", ["happy", "sad"]).label
        'sad'
        >>> parse("expression", "I'm sorry, I can't tell if she is happy or sad.").outcome
        'refusal'
        >>> parse("pose", "pan 30 degrees right, tilt 15 degrees up").label
        {'pan': -30.0, 'tilt': 15.0}
    """
    if task not in _KNOWN or (task == "choice" and not options):
        raise _refused(task)
    parsed = _parse(task, text or "", tuple(options) if options else None)
    # Cached results are shared, so what can be changed is copied.
    if task in _CHANGEABLE and parsed.label is not None:
        return answer(parsed.label.copy(), parsed.place)
    return parsed


@lru_cache(maxsize=65536)  # models repeat themselves
def _parse(task: str, text: str, choices: tuple[str, ...] | None) -> Parsed:
    taken = as_it_is(text) if len(text) <= _LONGEST else _ends(text, task)
    said, plain, bits = look(taken.text)
    if (bits & WRAPPED or (bits & ECHO and task == "attributes")) and taken.offset is not None:
        taken = unwrap(text, task)
        said, plain, bits = look(taken.text)
    if len(said) <= quick.LONGEST and (found := quick.read_quickly(task, said, bits, taken, choices)):
        return found
    whole = Reading(said, plain, taken, bits=bits)
    if _may_turn(whole) and (settled := _by_parts(whole, task, choices)) is not None:
        return settled
    result = _read(whole, task, choices)
    if result.outcome == "ambiguous":
        return _settled(whole, task, choices) or result
    if result.outcome == "unparsed" and _is_other_type(whole, task):
        return Parsed("wrong type", span=whole.span(0, len(whole.all_words)))
    return result


def _may_turn(whole: Reading) -> bool:
    """Say quickly whether :func:`parts` can find any: with a mark, or with "27, no, 26"."""
    return bool(whole.bits & MARK) or (bool(whole.bits & NO) and "," in whole.all_words)


def _ends(text: str, task: str) -> Cut:
    """Return the beginning and the end of a text too long to be read whole."""
    return Cut(unwrap(f"{text[: _LONGEST // 2]}\n{text[-_LONGEST // 2 :]}", task).text, None)


def _by_parts(whole: Reading, task: str, choices: tuple[str, ...] | None) -> Parsed | None:
    """Return what an announced answer, a conclusion or a correction says, or None where there is none."""
    turned: Parsed | None = None
    lettered: Parsed | None = None  # "The answer is A." by letter alone, which the rest may contradict
    for kind, reading in parts(whole, task):
        result = _read(reading, task, choices)
        if kind == "said" and lettered is not None:
            return _contradicted(lettered, reading, choices or ())
        if result.outcome == "answer":
            if (
                kind == "said first"
                and task == "choice"
                and read_text(reading, choices or ()).outcome != "answer"
            ):
                lettered = result
            elif kind != "turn" or task not in _OBJECTS:
                return result
            else:
                turned = turned or result
        elif kind == "said" and result.outcome in _DECISIVE:
            return result
    return None if turned is None else _merged(whole, turned, task, choices)


def _contradicted(lettered: Parsed, reading: Reading, choices: tuple[str, ...]) -> Parsed:
    """Return an answer by letter, or ambiguous where the text after it says another option."""
    said = read_text(reading, choices)
    if said.outcome == "answer" and said.label != lettered.label:
        return Parsed("ambiguous", span=lettered.place)
    return lettered


def _merged(reading: Reading, turned: Parsed, task: str, choices: tuple[str, ...] | None) -> Parsed:
    """Return what was said with what was corrected put in its place."""
    before = turned.place.first if isinstance(turned.place, Place) else 0
    first = _read(reading.part(0, before), task, choices)
    if first.outcome != "answer":
        return turned
    return turned._replace(label={**first.label, **turned.label})


def _settled(reading: Reading, task: str, choices: tuple[str, ...] | None) -> Parsed | None:
    """Settle an ambiguous text by what it sets in bold, or by its first or last sentence alone."""
    if "**" in reading.cut.text and reading.cut.offset is not None:
        bold = [_read(_reading(text), task, choices) for text in _BOLD.findall(reading.cut.text)]
        answers = [one for one in bold if one.outcome == "answer"]
        if answers and all(one.label == answers[0].label for one in answers):
            return answers[0]._replace(place=None)
    for line in _keyed_lines(reading, task):
        if (found := _read(line, task, choices)).outcome == "answer":
            return found
    main = _main_clause(reading)
    if main is not None and (found := _read(main, task, choices)).outcome == "answer":
        return found
    sentences = [
        s for s in reading.sentences if s[1] - s[0] > 1 or reading.all_words[s[0]] not in CLAUSE_BREAKS
    ]
    if len(sentences) < 2 or left_open(reading, task) is not None:
        return None
    first = _read(reading.part(*sentences[0]), task, choices)
    last = _read(reading.part(*sentences[-1]), task, choices)
    if first.outcome == "answer" and (last.outcome != "answer" or last.label == first.label):
        return first
    return last if last.outcome == "answer" and first.outcome != "answer" else None


def _keyed_lines(reading: Reading, task: str) -> Iterator[Reading]:
    """Yield what stands in lines that name the task: "Emotion: happy"."""
    keys = phrases("keys", task) if task in synonyms()["keys"] else None
    for hit in keys.find(reading.all_words) if keys else ():
        if reading.all_words[hit.end : hit.end + 1] == [":"]:
            end = next(
                (i for i in range(hit.end, len(reading.all_words)) if reading.all_words[i] in ("\n", ";")),
                None,
            )
            yield reading.part(hit.end + 1, len(reading.all_words) if end is None else end)


def _main_clause(reading: Reading) -> Reading | None:
    """Return a one-sentence text without what "although" or "while" concedes."""
    text = reading.all_words
    at = next((index for index, word in enumerate(text) if word in _CONCESSIVES), None)
    if at is None or any(word in BREAKS for word in text[:-1]):
        return None
    if at > 1:
        return reading.part(0, at)
    comma = next((index for index in range(at, len(text)) if text[index] == ","), None)
    return None if comma is None else reading.part(comma + 1, len(text))


def _reading(text: str) -> Reading:
    said, plain = cut(text)
    return Reading(said, plain, Cut(text))


def _refused(task: str) -> FaceMLLMError:
    """Return the error for a task that is not known, or for a choice without options."""
    if task not in _KNOWN:
        return FaceMLLMError(
            f"cannot read answers of the task {task!r}",
            given=repr(task),
            expected=f"one of {', '.join(TASKS)}",
            do="correct it",
        )
    return FaceMLLMError(
        "cannot read a choice",
        given="no options",
        expected="the options that were shown",
        do='pass options=["...", "..."]',
    )


def _read(reading: Reading, task: str, options: tuple[str, ...] | None) -> Parsed:
    if task == "attributes":
        return read_attributes(reading, options)
    if not options:
        return _READERS[task](reading)
    chosen = read_choice(reading, options)
    if task == "choice":
        return chosen
    direct = _READERS[task](reading)
    if chosen.outcome == "ambiguous" or (direct.outcome != "answer" and chosen.outcome == "answer"):
        if chosen.outcome == "ambiguous":
            return chosen
        meant = _READERS[task](_reading(chosen.label))  # the letter of an option stands for its text
        return Parsed("answer", meant.label, chosen.place) if meant.outcome == "answer" else direct
    return direct


def _is_other_type(reading: Reading, task: str) -> bool:
    """Say whether the whole text is an answer of another kind: "34" to an expression, "happy" to an age."""
    text = reading.words
    covered = {index for number in find_numbers(text) for index in range(number.first, number.end)}
    lexicons, said, known = _other_types(task)
    for lexicon in lexicons:
        hits = [hit for hit in lexicon.find(text) if hit.value]
        covered |= {index for hit in hits for index in range(hit.first, hit.end)}
    if not covered and said.isdisjoint(text):
        return False
    return all(word in known or index in covered for index, word in enumerate(text))


@cache
def _other_types(task: str) -> tuple[tuple[Lexicon[Any], ...], frozenset[str], frozenset[str]]:
    """Return the vocabularies of other tasks, single words of theirs, and words that stand beside answers."""
    names = [
        name for name in ("yes_no", "expression", "gender", "ethnicity") if name.replace("_", "") != task
    ]
    heads = frozenset() if task == "au" else words("au", "heads")
    sides = frozenset() if task == "pose" else _SIDES
    beside = filler() | CLAUSE_BREAKS | _AROUND_NUMBERS | heads | sides
    beside |= frozenset() if task == "pose" else words("pose", "moves")
    return tuple(vocabulary(name) for name in names), heads | sides, beside
