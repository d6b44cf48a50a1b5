"""FaceBench: questions in JSON lines, with the model's answers in ``answer_info.response``.

Its own rule has defects that this reproduces. An answer that holds the letters "error" (such as "terror")
is left out of the count. Of open questions only the *first letter* of an answer and of its key are compared
where they are texts, so that "Black" equals "Brown", and "Auburn" is nothing, because "a" is dropped as an
article; of lists only their first elements are. An answer that is not word for word an option, in its very
spelling, goes to a paid judge, GPT-4o, which nobody can repeat; what it says to a question with several
answers is one text, in which every option that occurs, also within a word ("Lip" in "Upper Lip"), counts as
given. Here a judge may be passed; without one such answers are counted apart, and the official score is
given for the two ends, all of them wrong and all of them right. Contractions written without their
apostrophe, which the rule mends in lists, are left as they are.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.evaluation.benchmarks.facebench_text import WHOLE, has_packages, text_scores
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
_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
_STOPS_TAKEN = 32  # the rule's own slip: a flag stands where the count does


def score_facebench(
    lines: str | Path | Iterable[Mapping[str, Any]], judge: Judge | None = None
) -> dict[str, Any]:
    """Score FaceBench's response file.

    Args:
        lines: Its JSON lines file, or the records.
        judge: Stands in for GPT-4o where an answer is not word for word an option.

    Returns:
        ``official`` and ``corrected``, each by kind of question (TFQ, SCQ, MCQ, OEQ), the official also by
        view, which is how the benchmark reports it, and ``differences``.
        Open questions have BLEU and ROUGE officially (only BLEU-1 without the extra ``facebench``; see
        :mod:`facemllm.evaluation.benchmarks.facebench_text`), and share of keys said in the corrected score.

    Raises:
        DatasetError: If there are no questions.
    """
    records = _records(lines)
    official: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    views: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    corrected: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    differences = []
    for record in records:
        kind = str(record["question_type"])
        view = str((record.get("metadata") or {}).get("view", "Unknown")).lower()
        sums: dict[str, float] = defaultdict(float)
        theirs, ours = _official(record, judge, sums), _corrected(record, corrected[kind])
        for name, value in sums.items():
            official[kind][name] += value
            views[view, kind][name] += value
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
    by_view: dict[str, dict[str, Any]] = defaultdict(dict)
    for (view, kind), sums in sorted(views.items()):
        by_view[view][kind] = _means(sums)
    return {
        "official": {
            **{kind: _means(sums) for kind, sums in sorted(official.items())},
            "by_view": dict(by_view),
        },
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
    if not said or not right:
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
    if said is None or (not said and (kind == _OPEN or (kind == _MANY and said != ""))):
        sums["miss"] += 1
        return None
    if _holds_error(kind, said):
        sums["error"] += 1
        return None
    if kind == _OPEN:
        score = first_letter_bleu(said, key)
        scores = {"bleu_score_1": score}
        if has_packages():
            scores = text_scores(said, key, _normal(str(said[0])), _normal(str(key[0])))
        sums["count"] += 1
        for name, value in scores.items():
            sums[name] += value
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
        _add_binary(sums, options, key, listed)
        return hit
    metrics = need("sklearn.metrics", "metrics")
    keys = [key] if isinstance(key, str) else key
    right, given = ([int(option in values) for option in options] for values in (keys, listed))
    sums["f1_score_macro"] += metrics.f1_score(right, given, average="macro")
    sums["f1_score_micro"] += metrics.f1_score(right, given, average="micro")
    sums["accuracy_score"] += metrics.accuracy_score(right, given)
    return right == given


def _add_binary(sums: dict[str, float], options: Sequence[str], key: Any, said: Any) -> None:
    """Add the weighted scores over options that the rule gives beside accuracy."""
    metrics = need("sklearn.metrics", "metrics")
    names = sorted(set(options))
    right, given = ([int(name == value) for name in names] for value in (key, said))
    for name in ("f1", "precision", "recall"):
        score = getattr(metrics, f"{name}_score")(right, given, average="weighted", zero_division=0)
        sums[name if name != "f1" else "f1_score"] += score


def _holds_error(kind: str, said: Any) -> bool:
    """Say whether an answer is left out: a text that holds "error", or a list, by its elements."""
    if kind == _OPEN:
        return isinstance(said, dict) or "error" in str(said) or "ERROR" in str(said)
    if kind == _MANY and not isinstance(said, str):
        return any(word in str(item) for item in said for word in ("error", "ERROR"))
    return "error" in said or "ERROR" in said


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
    counts = dict.fromkeys(WHOLE, sums.get("rouge_count", 0.0))
    means = {
        key: round(value / counts.get(key, count), 5)
        for key, value in sums.items()
        if key not in kept and key != "rouge_count" and count
    }
    if "bleu_score_1" in sums and sums.get("rouge_count", count) != count:
        kept["rouge_count"] = int(sums.get("rouge_count", 0))
    if kept["needs_judge"] and "accuracy" in means:
        means["accuracy_at_most"] = round(means["accuracy"] + kept["needs_judge"] / count, 5)
    return {**kept, **means}


def _corrected_means(sums: Mapping[str, float]) -> dict[str, Any]:
    kept = {key: int(value) for key, value in sums.items() if key != "right"}
    return {**kept, "accuracy_all": round(sums["right"] / sums["n"], 5)}


def _response(record: Mapping[str, Any]) -> Any:
    return (record.get("answer_info") or {}).get("response")


def _normal(text: str) -> list[str]:
    """Return the words of a text as the rule has them: without signs and articles, numbers as digits.

    A sign leaves nothing behind where it stands beside a space somewhere in the text (or where the text has a
    number with a comma), and a space elsewhere.
    """
    plain = text.lower()
    drop = bool(_THOUSANDS.search(plain))
    whole = plain
    for sign in _SIGNS:
        beside = f"{sign} " in whole or f" {sign}" in whole
        plain = plain.replace(sign, "" if beside or drop else " ")
    plain = _STOP.sub("", plain, count=_STOPS_TAKEN)
    return [_NUMBERS.get(word, word) for word in plain.split() if _NUMBERS.get(word, word) not in _ARTICLES]


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
