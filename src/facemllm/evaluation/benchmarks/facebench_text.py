"""FaceBench's scores of open questions: BLEU and ROUGE, by the packages and the settings that its rule uses.

BLEU is nltk's, of one sentence, with its first smoothing. ROUGE is rouge-score's. Here too the rule has its
own ways. ``precision``, ``recall`` and ``fmeasure`` are ROUGE-L of the first elements, which of texts are
first letters, and answer and key are passed in each other's place: what is called precision is recall.
``rouge1``, ``rouge2``, ``rougeL`` and ``rougeLsum`` are F scores of the whole texts, without stemming; of
several keys the best counts. An answer that is a list stops the rule with an error there; these four scores
then have a count of their own, ``rouge_count``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

_WEIGHTS = {
    "bleu_score": (0.25, 0.25, 0.25, 0.25),
    "bleu_score_1": (1, 0, 0, 0),
    "bleu_score_2": (0, 1, 0, 0),
    "bleu_score_3": (0, 0, 1, 0),
}
WHOLE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
"""Scores that are of whole texts."""


@cache
def has_packages() -> bool:
    """Say whether the extra ``facebench`` (nltk and rouge-score) is installed."""
    return all(find_spec(name) is not None for name in ("nltk", "rouge_score"))


def text_scores(answer: Any, key: Any, said: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """Return all scores that the rule gives an answer to an open question.

    Args:
        answer: What was answered, as it stands in the file.
        key: The right answer, or several.
        said: The words of the first element of the answer, as the rule has them.
        right: Those of the first element of the key.

    Example:
        >>> scores = text_scores("Dark brown", "Brown", ["d"], ["b"])
        >>> scores["bleu_score_1"], scores["fmeasure"], round(scores["rouge1"], 3)
        (0, 0.0, 0.667)
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method1
    scores: dict[str, float] = {
        name: sentence_bleu([list(right)], list(said), smoothing_function=smooth, weights=weights)
        for name, weights in _WEIGHTS.items()
    }
    first = _scorer(("rougeL",), stem=True).score(" ".join(said), " ".join(right))["rougeL"]
    scores |= {name: getattr(first, name) for name in ("precision", "recall", "fmeasure")}
    if isinstance(answer, str):
        scorer = _scorer(WHOLE, stem=False)
        whole = scorer.score(key, answer) if isinstance(key, str) else scorer.score_multi(list(key), answer)
        scores |= {name: whole[name].fmeasure for name in WHOLE}
        scores["rouge_count"] = 1.0
    return scores


@cache
def _scorer(kinds: tuple[str, ...], *, stem: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), use_stemmer=stem)
