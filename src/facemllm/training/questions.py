"""From features and labels to batches of question-answer pairs.

A batch is a function of (recipe, stage, step) and of nothing else, so a resumed run sees exactly the
batches it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from facemllm.core.errors import TrainingError
from facemllm.data import QA, FaceSample, write_questions, write_unknown
from facemllm.processing.processor import FaceProcessor
from facemllm.training.features import FeatureSet, PixelSet
from facemllm.training.recipe import Stage


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass.

    Attributes:
        images: ``encoder_features`` [B, N, D] or ``pixel_values`` [B, 3, S, S] of each pair's image.
        input_ids: [B, L].
        attention_mask: [B, L].
        labels: -100 where nothing is to be learnt [B, L].
        tasks: The task of each pair.
        samples: The id of each pair's sample.
    """

    images: dict[str, Tensor]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    tasks: tuple[str, ...]
    samples: tuple[str, ...]


class StageData:
    """Draws the batches of a stage.

    Args:
        sources: Encoded datasets.
        weights: Share of each.
        stage: What is asked.
        processor: Of the model.
        seed: Of the run; the stage's name is added to it.
        complete: Adds estimated labels to a sample, see :class:`~facemllm.training.estimates.Estimates`.
    """

    def __init__(
        self,
        sources: Sequence[FeatureSet | PixelSet],
        weights: Sequence[float],
        stage: Stage,
        processor: FaceProcessor,
        seed: int,
        complete: Callable[..., FaceSample] | None = None,
    ) -> None:
        self.sources, self.weights = list(sources), list(weights)
        self.complete = complete
        self.stage, self.processor, self.seed = stage, processor, f"{seed}/{stage.name}"
        # A source may be asked fewer tasks than the stage: its labels may be coarser than another's.
        self._tasks = [
            [task for task in stage.tasks if source.tasks is None or task in source.tasks]
            for source in stage.data
        ]
        # Phrasings and answers repeat: tokenising each pair once saves a third of a small model's step.
        self._encode = lru_cache(maxsize=100_000)(processor.encode_qa)

    def batches(self, step: int) -> list[Batch]:
        """Return the pairs of one step in ``length_groups`` batches, short pairs first.

        A row is padded to the longest of its batch, so rows of like length together waste fewer tokens. What
        is learnt is the same: see :func:`facemllm.training.losses.joint_loss`.

        Raises:
            TrainingError: If no question could be written for the drawn samples.
        """
        rng = random.Random(f"{self.seed}/{step}")
        rows: list[tuple[Tensor, QA, str]] = []
        draws = 0
        while len(rows) < self.stage.batch_size:
            draws += 1
            if draws > 50 * self.stage.batch_size:
                raise TrainingError(
                    "no questions for this stage",
                    given=f"stage {self.stage.name!r}, tasks {', '.join(self.stage.tasks)}",
                    expected="datasets with labels of these tasks",
                    do="add a dataset or a task to the stage",
                )
            chosen = rng.choices(range(len(self.sources)), self.weights)[0]
            sample, mirrored, picture = self.sources[chosen].draw(rng)
            for qa in self._pairs(mirror(sample, mirrored), picture, self._tasks[chosen], rng):
                rows.append((picture, qa, sample.id))
        rows = rows[: self.stage.batch_size]
        rows.sort(key=lambda row: len(self._encode(row[1].question, row[1].answer)))
        size = -(-len(rows) // self.stage.length_groups)
        return [self._collate(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _collate(self, rows: Sequence[tuple[Tensor, QA, str]]) -> Batch:
        encoded = [self._encode(qa.question, qa.answer) for _, qa, _ in rows]
        padded = self.processor.pad(encoded, with_labels=True, left=False)
        return Batch(
            images={self.sources[0].key: torch.stack([picture for picture, _, _ in rows])},
            tasks=tuple(qa.task if qa.form == "open" else qa.form for _, qa, _ in rows),
            samples=tuple(name for _, _, name in rows),
            **padded,
        )

    def _pairs(
        self, sample: FaceSample, picture: Tensor, tasks: Sequence[str], rng: random.Random
    ) -> list[QA]:
        stage = self.stage
        if stage.ask == "captions" or (stage.ask == "all" and rng.random() < stage.descriptions):
            completed = sample if self.complete is None else self.complete(sample, picture)
            return write_questions(completed, rng, ["description"], forms=["open"])[:1]
        if self.complete is not None and "age_bin" in sample.labels:
            sample = self.complete(sample, picture, ["age"])  # of a group of ages, the likeliest years
        if rng.random() < stage.unknown:
            return [write_unknown(rng, "train", tasks=stage.tasks)]
        forms: Any = (
            ["choice", "yes_no", "true_false"]
            if stage.ask == "basic"
            else ["open", "choice", "yes_no", "true_false"]
        )
        written = write_questions(sample, rng, tasks, forms=forms)
        if not written:
            return []
        if stage.ask == "all":
            # Open questions are what people ask and what is measured; the other forms keep what stage two
            # taught.
            weights = [4.0 if qa.form == "open" else 0.6 for qa in written]
        else:
            weights = [1.0] * len(written)
        return rng.choices(written, weights, k=min(stage.questions_per_image, len(written)))


def mirror(sample: FaceSample, mirrored: bool) -> FaceSample:
    """Return the sample with the labels of its mirror image: only the pan of the pose changes its sign."""
    pose = sample.labels.get("pose")
    if not mirrored or pose is None:
        return sample
    return sample.model_copy(update={"labels": {**sample.labels, "pose": {**pose, "pan": -pose["pan"]}}})
