"""FaceXBench: multiple choice in JSON files, with the model's answers in ``prediction``.

The official rule is described here by what it does, and tests hold it to that. Its defects: the article of
"A woman who looks sad" is taken for option A; "Not neutral, sad" gives whichever option is listed first; an
option within a word counts ("unhappy" holds "happy", "female" holds "male"); a refusal is a wrong answer; and
some questions have keys that no answer can meet.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.evaluation.parsing import PARSER_VERSION, parse
from facemllm.evaluation.records import COUNTS

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NONE = re.compile(r"none of (the )?(above|these)|^none$", re.IGNORECASE)
_PICTURE = re.compile(r"image \d+", re.IGNORECASE)
_COMPARES = re.compile(r"\b(older|younger|oldest|youngest)\b", re.IGNORECASE)


def facexbench_prompt(
    file: Mapping[str, Any], question: Mapping[str, Any], *, prepend_text: bool = False
) -> str:
    """Return a question as FaceXBench puts it: context, question, its rule, then the options in brackets.

    Example:
        >>> file = {"category": "bias_fairness", "postpend_text": "Answer with the letter."}
        >>> print(facexbench_prompt(file, {"question_text": "How old?", "options": ["3", "30"]}))
        How old?
        Answer with the letter.
        (A) 3
        (B) 30
        <BLANKLINE>
    """
    parts = [str(file["context"])] if file.get("category") == "tools_use" else []
    if prepend_text and file.get("prepend_text"):
        parts.append(str(file["prepend_text"]))
    parts.append(str(question["question_text"]))
    if file.get("postpend_text"):
        parts.append(str(file["postpend_text"]))
    shown = zip(LETTERS[:4], question["options"], strict=False)  # a fifth option is never shown
    return "\n".join([*parts, *(f"({letter}) {option}" for letter, option in shown)]) + "\n"


def official_option(text: str, options: Sequence[Any]) -> str | None:
    """Return the letter that FaceXBench's own rule reads from an answer, or None.

    The rule: the first letter that stands as a word of its own and is that of an option, in capitals,
    wherever it stands; failing that, the first option in their order whose text is anywhere in the answer.

    Example:
        >>> official_option("A woman who looks sad", ["happy", "sad"])
        'A'
        >>> official_option("she is unhappy", ["happy", "sad"])
        'A'
    """
    said = text.strip()
    letter = _alone(len(options)).search(said) if options else None
    if letter:
        return letter.group()
    return next((LETTERS[i] for i, option in enumerate(options) if str(option).strip() in said), None)


def score_facexbench(files: str | Path | Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Score FaceXBench's result files.

    Args:
        files: A folder of its JSON files with a ``prediction`` in each question, or their contents.

    Returns:
        ``official`` (per cent right, overall and by category, sub-category and number of images),
        ``corrected`` (the same by this library's parser, without questions whose key is impossible, with the
        shares of answers, refusals and the rest) and ``differences``: the questions on which the two part.

    Raises:
        DatasetError: If there are no questions.
    """
    counted: dict[str, dict[tuple[str, str], list[float]]] = {
        "official": defaultdict(list),
        "corrected": defaultdict(list),
    }
    outcomes = dict.fromkeys(COUNTS.values(), 0)
    differences, impossible = [], []
    for file in _contents(files):
        where = {
            "category": str(file.get("category", "unknown")),
            "sub-category": str(file.get("sub-category", "unknown")),
            "num_images": str(file.get("num_images", "unknown")),
        }
        for number, question in file.get("questions", {}).items():
            options = [str(option) for option in question.get("options", [])]
            text, key = str(question.get("prediction") or ""), question.get("correct_answer_option")
            official = official_option(text, options)
            _count(counted["official"], where, official == key)
            fault = impossible_key(question)
            if fault:
                impossible.append({**where, "question": number, "fault": fault})
                continue
            read = parse("choice", text, options)
            outcomes[COUNTS[read.outcome]] += 1
            ours = LETTERS[options.index(read.label)] if read.outcome == "answer" else None
            _count(counted["corrected"], where, ours == key)
            if official != ours:
                differences.append(
                    {**where, "question": number, "text": text, "options": options, "key": key,
                     "official": official, "corrected": ours, "outcome": read.outcome}
                )  # fmt: skip
    if not counted["official"]:
        raise DatasetError(
            "no questions to score",
            given=str(files)[:100],
            expected="FaceXBench's JSON files",
            do="check the folder",
        )
    return {
        "official": _summary(counted["official"]),
        "corrected": {
            **_summary(counted["corrected"]),
            **outcomes,
            "impossible": impossible,
            "parser_version": PARSER_VERSION,
        },
        "differences": differences,
    }


def impossible_key(question: Mapping[str, Any]) -> str | None:
    """Return why no answer can be right, or None.

    Example:
        >>> asked = {"question_text": "Who is older?", "correct_answer_option": "B",
        ...          "options": ["Same age group", "None of the above", "Image 2", "Image 1"]}
        >>> impossible_key(asked)
        'every case is among the options, and the key is none of them'
    """
    options = [str(option).strip() for option in question.get("options", [])]
    key = question.get("correct_answer_option")
    index = LETTERS.find(str(key)) if key else -1
    if not 0 <= index < len(options):
        return "the key is not the letter of an option"
    if len({option.lower() for option in options}) < len(options):
        return "two options are the same"
    stated = question.get("answer")
    if isinstance(stated, str) and stated.strip() and stated.strip().lower() != options[index].lower():
        return "the key's letter and its text are of different options"
    pictures = sum(bool(_PICTURE.fullmatch(option)) for option in options)
    same = any("same" in option.lower() for option in options)
    compared = _COMPARES.search(str(question.get("question_text", "")))
    if compared and pictures > 1 and same and _NONE.search(options[index]):
        return "every case is among the options, and the key is none of them"
    return None


def _contents(files: str | Path | Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    if not isinstance(files, (str, Path)):
        yield from files
        return
    for path in sorted(Path(files).rglob("*.json")):
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(
                "not a FaceXBench file", given=f"{path.name}: {error}", expected="JSON", do="check the file"
            ) from None


def _count(counts: dict[tuple[str, str], list[float]], where: Mapping[str, str], right: bool) -> None:
    counts["all", "all"].append(float(right))
    for kind, name in where.items():
        counts[kind, name].append(float(right))


def _summary(counts: Mapping[tuple[str, str], list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {"n": len(counts.get(("all", "all"), ()))}
    for (kind, name), hits in sorted(counts.items()):
        share = round(100 * sum(hits) / len(hits), 2)
        if kind == "all":
            found["accuracy"] = share
        else:
            found.setdefault(f"by_{kind}", {})[name] = {"n": len(hits), "accuracy": share}
    return found


@cache
def _alone(count: int) -> re.Pattern[str]:
    return re.compile(rf"\b[A-{LETTERS[count - 1]}]\b")
