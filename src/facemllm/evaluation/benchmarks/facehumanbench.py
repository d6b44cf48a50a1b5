"""Face-Human-Bench: questions in JSON files of one kind each, and a model's answers in one results file.

The official rule is described here by what it does, and tests hold it to that. An output of one character
is the answer, whatever it is. Else every A to D that a full stop, comma, colon, bracket or backslash
follows is taken for a letter, also within or at the end of a word ("in the USA." is A), also where it is
denied ("not A, but B" is A), and so is what follows the Chinese word for "option"; if all of them are the
same letter, it is the answer. Anything else ("The answer is B") goes to a paid judge, GPT-3.5, which nobody
can repeat, and of what the judge says only the first character counts ("Cannot tell" is C). Here a judge
may be passed; without one such outputs are counted apart, and the official score is given for the two ends,
all of them wrong and all of them right.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facemllm.core.errors import DatasetError
from facemllm.evaluation.parsing import PARSER_VERSION, parse
from facemllm.evaluation.records import COUNTS

Judge = Callable[[str, str, str], str]
"""From the question as it was shown, the output and the language ("en", "zh") to a letter, or X for none."""

LETTERS = "ABCD"
_SIGNED = re.compile(r"[ABCD][\\.。)）,，:：]")
_OPTION = re.compile(r"选项 ?([ABCD])")
_ASKS = {
    "en": ("Question: ", "Please select the correct answer from the options above."),
    "zh": ("问题: ", "请从以上选项中选择正确的答案。"),
}
_BOTH = ("original", "cropped")
_LEVELS: dict[str, dict[str, dict[str, tuple[tuple[str, tuple[str, ...]], ...]]]] = {
    "face": {
        "attribute": {"compound": (("face_attribute_compound", _BOTH),)},
        "age": {
            f"{years}-year-interval": ((f"face_age_basic_{years}", _BOTH),) for years in (15, 10, 5)
        },
        "expression": {
            "basic": (("face_expression_basic", _BOTH),),
            "compound": (("face_expression_compound", ("cropped",)),),
        },
        "attack": {
            "digital_attack": tuple(
                (f"face_attack_digital_{kind}_swap", ("cropped",)) for kind in ("expression", "identity")
            ),
            "physical_attack": tuple(
                (f"face_attack_physical_{kind}", ("cropped",)) for kind in ("paper", "replay")
            ),
        },
        "recognition": {
            kind: ((f"face_recognition_{kind}", ("cropped",)),)
            for kind in ("basic", "cross_age", "cross_pose", "mask", "similar_looking")
        },
    },
    "human": {
        "attribute": {
            "compound": (
                ("human_attribute_compound", ("boxed",)),
                ("human_attribute_compound_cropped", ("cropped",)),
            )
        },
        "action": {"basic": (("human_action_basic", ("boxed",)),)},
        "spatial_relation": {
            "count": tuple(
                (f"human_spatial_relation_count_{size}", ("original",)) for size in ("10", "100", "100plus")
            ),
            "relative_location": (("human_spatial_relation_location", ("boxed",)),),
        },
        "social_relation": {
            "occupation": (("human_social_relation_occupation", ("boxed",)),),
            "social_relationship": (("human_social_relation_relationship", ("boxed",)),),
        },
        "reid": {"basic": (("human_reid_basic", ("cropped",)),)},
    },
}  # fmt: skip


def facehumanbench_prompt(sample: Mapping[str, Any], turn: int = 0, language: str = "en") -> tuple[str, str]:
    r"""Return a question as Face-Human-Bench puts it, its options turned by ``turn``, and the right letter.

    Example:
        >>> sample = {"QA": {"question": "How old?", "options": [3, 8, 13], "answer": 1}}
        >>> text, letter = facehumanbench_prompt(sample, turn=1)
        >>> print(text, letter, sep="\n")
        Question: How old?
        A. 8
        B. 13
        C. 3
        Please select the correct answer from the options above.
        A
    """
    before, after = _ASKS[language]
    shown = _shown(sample, turn)
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, shown, strict=False)]
    asked = sample["QA"]
    key = LETTERS[(asked["answer"] - turn) % len(asked["options"])]
    return "\n".join([f"{before}{asked['question']}", *lines, after]), key


def official_letter(output: str) -> str | None:
    """Return what the rule of Face-Human-Bench takes for the answer; None where it asks its judge.

    Example:
        >>> official_letter("B. 13"), official_letter("not A, but B"), official_letter("The answer is B")
        ('B', 'A', None)
        >>> official_letter("She was born in the USA.")
        'A'
    """
    if len(output) == 1:
        return output
    letters = {found[0] for found in _SIGNED.findall(output)} | set(_OPTION.findall(output))
    return letters.pop() if len(letters) == 1 else None


def score_facehumanbench(
    results: str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]], judge: Judge | None = None
) -> dict[str, Any]:
    """Score Face-Human-Bench's results file.

    Args:
        results: The JSON file with ``results`` (each with ``sample_info`` and ``eval``), its contents, or the
            list of results. Where an earlier run of its own scripts left a ``final_answer``, that is used.
        judge: Stands in for GPT-3.5 where the rule finds no letter.

    Returns:
        ``official`` and ``corrected``: ``accuracy`` is the mean over two first levels of means over levels
        below, as the benchmark has it, ``answered_accuracy`` the same without refusals, ``by_subset`` and
        ``by_level`` what it is made of; ``missing`` names subsets that the file lacks (its own script fails
        on them, here they are left out). ``differences``: the questions on which the two part.

    Raises:
        DatasetError: If there are no results, or they are not those of Face-Human-Bench.
    """
    official: dict[str, dict[str, int]] = defaultdict(_zeros)
    corrected: dict[str, dict[str, int]] = defaultdict(_zeros)
    differences, outcomes = [], dict.fromkeys(COUNTS.values(), 0)
    for index, (result, language) in enumerate(_results(results)):
        asked = _asked(result, index)
        subset = f"{result['task_type']}-{result['data_version']}"
        theirs = _official(asked, language, judge)
        right = _tally(official[subset], asked["answer"], theirs)
        shown = _shown(result["sample_info"], asked["round"])
        read = parse("choice", str(asked["output"]), shown)
        outcomes[COUNTS[read.outcome]] += 1
        ours = LETTERS[shown.index(read.label)] if read.outcome == "answer" else None
        hit = _tally(corrected[subset], asked["answer"], ours or "X")
        if right != hit or (theirs not in (None, "X") and theirs[:1] != ours):
            differences.append(
                {"subset": subset, "index": index, "text": asked["output"], "options": shown,
                 "key": asked["answer"], "official": theirs, "corrected": ours, "outcome": read.outcome}
            )  # fmt: skip
    if not official:
        raise DatasetError(
            "no results to score",
            given=str(results)[:100],
            expected="Face-Human-Bench's results",
            do="check the file",
        )
    return {
        "official": _summary(official),
        "corrected": {**_summary(corrected), **outcomes, "parser_version": PARSER_VERSION},
        "differences": differences,
    }


def _official(asked: Mapping[str, Any], language: str, judge: Judge | None) -> str | None:
    stored = asked.get("final_answer")
    if stored is not None:
        return str(stored)
    letter = official_letter(str(asked["output"]))
    if letter is None and judge is not None:
        return judge(str(asked.get("text", "")), str(asked["output"]), language)
    return letter


def _zeros() -> dict[str, int]:
    return {"n": 0, "right": 0, "refused": 0, "needs_judge": 0}


def _tally(counts: dict[str, int], key: str, letter: str | None) -> bool | None:
    """Count an answer as the official script does: by its first character, "X" as a refusal."""
    counts["n"] += 1
    if letter is None:
        counts["needs_judge"] += 1
        return None
    right = letter[:1] == key[:1]
    counts["right"] += right
    counts["refused"] += letter == "X"
    return right


def _summary(counts: Mapping[str, dict[str, int]]) -> dict[str, Any]:
    subsets = {name: _scores(one) for name, one in sorted(counts.items())}
    levels: dict[str, dict[str, float | None]] = {}
    missing: list[str] = []
    firsts = []
    for first, seconds in _LEVELS.items():
        below = []
        for second, thirds in seconds.items():
            third_scores = []
            for parts in thirds.values():
                names = [f"{task}-{version}" for task, versions in parts for version in versions]
                missing += [name for name in names if name not in subsets]
                third_scores.append(_mean([subsets[name] for name in names if name in subsets]))
            below.append(_mean(third_scores))
            levels[f"{first}/{second}"] = below[-1]
        firsts.append(_mean(below))
        levels[first] = firsts[-1]
    known = {name: scores for name, scores in levels.items() if scores}
    return {**_mean(firsts), "by_level": known, "by_subset": subsets, "missing": missing}


def _scores(one: Mapping[str, int]) -> dict[str, Any]:
    answered = one["n"] - one["refused"]
    return {
        **one,
        "accuracy": one["right"] / one["n"],
        "accuracy_at_most": (one["right"] + one["needs_judge"]) / one["n"],
        "answered_accuracy": one["right"] / answered if answered else None,
    }


def _mean(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each score over those that have it; the official script knows no gaps."""
    found = {}
    for name in ("accuracy", "accuracy_at_most", "answered_accuracy"):
        values = [one[name] for one in scores if one.get(name) is not None]
        if values:
            found[name] = sum(values) / len(values)
    return found


def _shown(sample: Mapping[str, Any], turn: int) -> list[str]:
    options = [str(option) for option in sample["QA"]["options"]]
    return [options[(index + turn) % len(options)] for index in range(len(options))]


def _asked(result: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    try:
        asked = result["eval"][0]
        _ = asked["round"], asked["answer"], asked["output"], result["sample_info"]["QA"]["options"]
        _ = result["task_type"], result["data_version"]
    except (KeyError, IndexError, TypeError) as error:
        raise DatasetError(
            f"result {index} is not one of Face-Human-Bench",
            given=f"{str(result)[:100]}: {error!r}",
            expected="task_type, data_version, sample_info and eval with round, answer and output",
            do="check the file",
        ) from None
    return asked  # type: ignore[no-any-return]


def _results(results: Any) -> list[tuple[Mapping[str, Any], str]]:
    """Return results, each with its language."""
    if isinstance(results, (str, Path)):
        try:
            results = json.loads(Path(results).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetError(
                "not a Face-Human-Bench file",
                given=f"{results}: {error}",
                expected="JSON",
                do="check the file",
            ) from None
    if isinstance(results, Mapping):
        language = str(results.get("language", "en"))
        return [(one, language) for one in results.get("results", [])]
    return [(one, "en") for one in results]
