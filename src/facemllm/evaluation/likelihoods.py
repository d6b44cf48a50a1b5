"""What a model finds likely among the options, scored beside what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from facemllm.core.errors import ConfigError
from facemllm.data import FaceSample
from facemllm.evaluation.asking import Askable
from facemllm.evaluation.calibration import calibration_metrics
from facemllm.evaluation.metrics import attribute_metrics, class_metrics
from facemllm.evaluation.store import PredictionStore
from facemllm.evaluation.tasks import EvalTask, Question

_KEPT = ("accuracy", "balanced_accuracy", "macro_f1", "intervals", "per_attribute")


def options_of(task: EvalTask) -> tuple[str, ...]:
    """Return what is chosen among in a task, or nothing for one without options (years, angles)."""
    return () if task.label == "age_bin" else task.classes


def check_chooses(model: Askable) -> None:
    """Refuse a model that has no likelihoods to give.

    Raises:
        ConfigError: If it has no method ``choose``.
    """
    if not callable(getattr(model, "choose", None)):
        raise ConfigError(
            "model gives no likelihoods",
            given=f"an object of type {type(model).__name__} without a method choose",
            expected="choose(pictures, questions, options), which gives probabilities by option",
            do="leave out likelihoods, or add the method",
        )


def score_likelihoods(
    store: PredictionStore, samples: Sequence[FaceSample], task: EvalTask
) -> dict[str, Any] | None:
    """Return accuracy by the likeliest option, and how far its probability can be trusted.

    None where nothing was chosen.
    """
    truth, likeliest, names, clusters = [], [], [], []
    for sample, question, right, chances in _chosen(store, samples, task):
        truth.append(right)
        likeliest.append(max(chances, key=lambda option: chances[option]))
        names.append(str(question.attribute))
        clusters.append(sample.identity or sample.id)
    if not truth:
        return None
    if task.name == "attributes":
        scored = attribute_metrics(names, truth, likeliest, clusters)
    else:
        scored = class_metrics(truth, likeliest, clusters, task.classes)
    kept_scores = {key: scored[key] for key in _KEPT if key in scored}
    again = (chances for *_, chances in _chosen(store, samples, task))
    return {"n": len(truth), **kept_scores, "calibration": calibration_metrics(again, truth, clusters)}


def _chosen(
    store: PredictionStore, samples: Sequence[FaceSample], task: EvalTask
) -> Iterator[tuple[FaceSample, Question, Any, dict[str, float]]]:
    """Yield sample, question, right answer and probabilities by option, unpacked one sample at a time."""
    for sample in samples:
        kept = store.get(sample.id)["chosen"]
        for question in task.questions:
            right = task.truth(sample, question)
            if right is not None and question.text in kept:
                yield sample, question, right, kept[question.text]
