"""FaceBench: questions in JSON lines, with the model's answers in ``answer_info.response``.

Its own rule has three defects that this reproduces. An answer that holds the letters "error" (such as
"terror") is left out of the count. Of open questions only the *first letter* of an answer and of its key are
compared where they are texts, so that "Black" equals "Brown", and "Auburn" is nothing, because "a" is dropped
as an article. An answer that is not word for word an option goes to a paid judge, GPT-4o, which nobody can
repeat: here a judge may be passed; without one such answers are counted apart, and the official score is
given for the two ends, all of them wrong and all of them right.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.evaluation.extras import need
from facemllm.evaluation.parsing import PARSER_VERSION, parse
from facemllm.evaluation.parsing.text import CLAUSE_BREAKS, cut
from facemllm.evaluation.records import COUNTS

Judge = Callable[[Any, Sequence[str], str], Any]
"""From an answer, the options and the kind of question to an option, or to a list of them."""

_CHOICES, _MANY, _OPEN = ("TFQ", "SCQ"), "MCQ", "OEQ"
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = {
    word: str(n)
    for n, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
}
_NUMBERS["none"] = "0"
_SIGNS = ';/[]"{}()=+\\_->@<`,?!.'


def score_facebench(
    lines: str | Path | Iterable[Mapping[str, Any]], judge: Judge | None = None
) -> dict[str, Any]:
    """Score FaceBench's response file.

    Args:
        lines: Its JSON lines file, or the records.
        judge: Stands in for GPT-4o where an answer is not word for word an option.

    Returns:
        ``official`` and ``corrected``, each by kind of question (TFQ, SCQ, MCQ, OEQ), and ``differences``.
        Open questions have BLEU-1 officially (the file's other BLEU and ROUGE variants need packages that are
        not part of this library), and share of keys said in the corrected score.

    Raises:
        DatasetError: If there are no questions.
    """
    records = _records(lines)
    official: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    corrected: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    differences = []
    for record in records:
        kind = str(record["question_type"])
        theirs, ours = _official(record, judge, official[kind]), _corrected(record, corrected[kind])
        if theirs != ours:
            differences.append(
                {"question_id": record.get("question_id"), "image_id": record.get("image_id"), "kind": kind,
                 "text": _response(record), "key": record["gt_answer"], "official": theirs, "corrected": ours}
            )  # fmt: skip
    if not records:
        raise DatasetError(
            "no questions to score",
            given=str(lines)[:100],
            expected="FaceBench's responses",
            do="check the file",
        )
    return {
        "official": {kind: _means(sums) for kind, sums in sorted(official.items())},
        "corrected": {
            **{kind: _corrected_means(sums) for kind, sums in sorted(corrected.items())},
            "parser_version": PARSER_VERSION,
        },
        "differences": differences,
    }


def first_letter_bleu(answer: Any, key: Any) -> float:
    """Return BLEU-1 as FaceBench has it: of the first *element*, which of a text is its first letter.

    Example:
        >>> first_letter_bleu("Brown", "Black"), first_letter_bleu(["brown"], ["black"])
        (1.0, 0.0)
        >>> first_letter_bleu("Auburn", "Auburn")
        0.0
    """
    said, right = _normal(str(answer[0])), _normal(str(key[0]))
    if not said:
        return 0.0
    common = sum((Counter(said) & Counter(right)).values())
    shorter = 1.0 if len(said) > len(right) else 2.718281828459045 ** (1 - len(right) / len(said))
    return common / len(said) * shorter


def _official(record: Mapping[str, Any], judge: Judge | None, sums: dict[str, float]) -> bool | None:
    """Add one answer to the official sums; return whether it is right, or None where it does not count."""
    kind, options, key, said = (
        str(record["question_type"]),
        record["options"],
        record["gt_answer"],
        _response(record),
    )
    if said is None or (not said and kind not in _CHOICES):
        sums["miss"] += 1
        return None
    if "error" in str(said) or "ERROR" in str(said):
        sums["error"] += 1
        return None
    if kind == _OPEN:
        score = first_letter_bleu(said, key)
        sums["count"] += 1
        sums["bleu_score_1"] += score
        return score == 1.0
    listed = [said] if isinstance(said, str) and kind == _MANY else said
    literal = said in options if kind in _CHOICES else all(item in options for item in listed)
    if not literal:
        if judge is None:
            sums["count"] += 1
            sums["needs_judge"] += 1
            return None
        listed = judge(said, options, kind)
    sums["count"] += 1
    if kind in _CHOICES:
        hit = listed == key
        sums["accuracy"] += hit
        return hit
    metrics = need("sklearn.metrics", "metrics")
    keys = [key] if isinstance(key, str) else key
    right, given = ([int(option in values) for option in options] for values in (keys, listed))
    sums["f1_score_macro"] += metrics.f1_score(right, given, average="macro")
    sums["f1_score_micro"] += metrics.f1_score(right, given, average="micro")
    sums["accuracy_score"] += metrics.accuracy_score(right, given)
    return right == given


def _corrected(record: Mapping[str, Any], sums: dict[str, float]) -> bool | None:
    """Add one answer to the corrected sums; everything asked is counted, as what it is."""
    kind, options, key, said = (
        str(record["question_type"]),
        record["options"],
        record["gt_answer"],
        _response(record),
    )
    sums["n"] += 1
    text = ", ".join(map(str, said)) if isinstance(said, list) else str(said or "")
    if kind == _OPEN:
        keys = [key] if isinstance(key, str) else list(key)
        hit = any(_said(one, text) for one in keys)
        sums["answered"] += bool(text)
        sums["unparsed"] += not text
        sums["right"] += hit
        return hit
    if kind == _MANY:
        meant = {key} if isinstance(key, str) else set(key)
        chosen = {option for option in options if _said(option, text)}
        sums["answered" if chosen else "unparsed"] += 1
        sums["right"] += chosen == meant
        return chosen == meant if chosen else None
    read = parse("choice", text, options)
    sums[COUNTS[read.outcome]] += 1
    hit = read.outcome == "answer" and read.label == key
    sums["right"] += hit
    return hit if read.outcome == "answer" else None


def _said(option: str, text: str) -> bool:
    """Say whether the words of an option stand in a text, as words."""
    own, words = ([word for word in cut(value)[0] if word not in CLAUSE_BREAKS] for value in (option, text))
    return bool(own) and any(words[i : i + len(own)] == own for i in range(len(words)))


def _means(sums: Mapping[str, float]) -> dict[str, Any]:
    count = sums.get("count", 0.0)
    kept = {key: int(sums.get(key, 0)) for key in ("count", "miss", "error", "needs_judge")}
    means = {key: round(value / count, 5) for key, value in sums.items() if key not in kept and count}
    if kept["needs_judge"] and "accuracy" in means:
        means["accuracy_at_most"] = round(means["accuracy"] + kept["needs_judge"] / count, 5)
    return {**kept, **means}


def _corrected_means(sums: Mapping[str, float]) -> dict[str, Any]:
    kept = {key: int(value) for key, value in sums.items() if key != "right"}
    return {**kept, "accuracy_all": round(sums["right"] / sums["n"], 5)}


def _response(record: Mapping[str, Any]) -> Any:
    return (record.get("answer_info") or {}).get("response")


def _normal(text: str) -> list[str]:
    """Return the words of a text without signs and articles, numbers as digits."""
    plain = text.lower().translate(str.maketrans(_SIGNS, " " * len(_SIGNS)))
    return [_NUMBERS.get(word, word) for word in plain.split() if word not in _ARTICLES]


def _records(lines: str | Path | Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if not isinstance(lines, (str, Path)):
        return list(lines)
    try:
        return [
            json.loads(line) for line in Path(lines).read_text(encoding="utf-8").split("\n") if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise DatasetError(
            "not a FaceBench file", given=f"{lines}: {error}", expected="JSON lines", do="check the file"
        ) from None
