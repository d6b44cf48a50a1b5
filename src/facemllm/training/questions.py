"""From features and labels to a step's pictures and question-answer pairs.

What a step draws is a function of (recipe, stage, step) and of nothing else, so a resumed run sees exactly
what it would have seen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from facemllm.core.errors import TrainingError
from facemllm.data import QA, FaceSample, as_typed, mirror_sample, reworded, write_questions, write_unknown
from facemllm.data.answers import render
from facemllm.processing.processor import FaceProcessor
from facemllm.processing.template import IGNORE
from facemllm.training.batches import Batch, Pairs, packed, padded
from facemllm.training.estimates import Estimates
from facemllm.training.features import FeatureSet, PixelSet
from facemllm.training.losses import SoftTarget
from facemllm.training.passes import Passes
from facemllm.training.recipe import Stage


class StageData:
    """Draws the batches of a stage.

    Args:
        sources: Encoded datasets.
        weights: Share of each.
        stage: What is asked.
        processor: Of the model.
        seed: Of the run; the stage's name is added to it.
        estimates: What the task heads say of a picture; none where there are no trained heads.
    """

    def __init__(
        self,
        sources: Sequence[FeatureSet | PixelSet],
        weights: Sequence[float],
        stage: Stage,
        processor: FaceProcessor,
        seed: int,
        estimates: Estimates | None = None,
    ) -> None:
        self.sources, self.weights = list(sources), list(weights)
        self.estimates = estimates
        self.stage, self.processor, self.seed = stage, processor, f"{seed}/{stage.name}"
        # A source may be asked fewer tasks than the stage: its labels may be coarser than another's.
        self._tasks = [
            [task for task in stage.tasks if source.tasks is None or task in source.tasks]
            for source in stage.data
        ]
        words = "|".join(re.escape(word) for word in stage.leave_out)
        self._left_out = re.compile(rf"\b(?:{words})", re.IGNORECASE) if words else None
        # Phrasings and answers repeat: tokenising each pair once saves a third of a small model's step.
        self._encode = lru_cache(maxsize=100_000)(processor.encode_qa)
        pictures = max(1, stage.batch_size // stage.questions_per_image)
        sizes = [len(source.crops) for source in self.sources]
        self._passes = (
            Passes(sizes, self.weights, pictures=pictures, seed=self.seed) if stage.passes else None
        )

    def draw(self, step: int) -> list[Pairs]:
        """Return the pictures of one step, each with its question-answer pairs.

        Raises:
            TrainingError: If no question could be written for the drawn samples.
        """
        rng = random.Random(f"{self.seed}/{step}")
        if self._passes is not None:
            asked = [
                self._drawn(source, rng, self.stage.questions_per_image, row)
                for source, row in self._passes(step)
            ]
            found = [pairs for pairs in asked if pairs is not None]
            if not found:
                raise self._no_questions()
            return found
        drawn: list[Pairs] = []
        tries, missing = 0, self.stage.batch_size
        while missing > 0:
            tries += 1
            if tries > 50 * self.stage.batch_size:
                raise self._no_questions()
            chosen = rng.choices(range(len(self.sources)), self.weights)[0]
            pairs = self._drawn(chosen, rng, missing)
            if pairs is not None:
                missing -= len(pairs.encoded)
                drawn.append(pairs)
        return drawn

    def _drawn(self, source: int, rng: random.Random, most: int, row: int | None = None) -> Pairs | None:
        """Return a picture of a source with at most so many pairs; None if nothing can be asked about it."""
        sample, mirrored, picture = self.sources[source].draw(rng, row)
        sample, tasks = mirror(sample, mirrored), self._tasks[source]
        teacher = self.estimates
        if teacher is not None and rng.random() >= self.stage.taught:
            teacher = None
        if teacher is not None:
            if self.stage.mixed and rng.random() < self.stage.mixed:
                other = self.sources[source].draw(rng)[2]
                picture = torch.lerp(picture, other, rng.random())
                # Of what no head can say, such a picture has nothing.
                sample = sample.model_copy(update={"labels": teacher.known(sample.labels)})
            sample = teacher.instead(sample, picture, tasks)
        pairs = self._pairs(sample, picture, tasks, rng)[:most]
        if not pairs:
            return None
        encoded = tuple(self._encode(question_of(qa, rng), qa.answer) for qa in pairs)
        asked = tuple(qa.task if qa.form == "open" else qa.form for qa in pairs)
        soft: tuple[SoftTarget | None, ...] = ()
        if teacher is not None and self.stage.soft_targets:
            soft = tuple(self._soft(teacher, qa, picture) for qa in pairs)
        return Pairs(sample.id, picture, encoded, asked, soft)

    def _soft(self, teacher: Estimates, qa: QA, picture: Tensor) -> SoftTarget | None:
        """Return by which ids an open answer may begin, as far as a head of classes believes."""
        if qa.form != "open":
            return None
        target: dict[int, float] = {}
        for label, share in teacher.shares(qa.task, picture).items():
            labels = self._encode("?", render(qa.task, label)).labels  # whatever is asked, it begins alike
            first = next(token for token in labels if token != IGNORE)
            target[first] = target.get(first, 0.0) + share
        return target or None

    def _no_questions(self) -> TrainingError:
        return TrainingError(
            "no questions for this stage",
            given=f"stage {self.stage.name!r}, tasks {', '.join(self.stage.tasks)}",
            expected="datasets with labels of these tasks",
            do="add a dataset or a task to the stage",
        )

    def batch(self, step: int, *, packs: bool = True) -> Batch:
        """Return one step's pairs as a pack, or as padded rows where the language model cannot take packs."""
        drawn, key = self.draw(step), self.sources[0].key
        return packed(drawn, key=key) if packs else padded(drawn, key=key, processor=self.processor)

    def _pairs(
        self, sample: FaceSample, picture: Tensor, tasks: Sequence[str], rng: random.Random
    ) -> list[QA]:
        stage, estimates = self.stage, self.estimates
        if stage.ask == "captions" or (stage.ask == "all" and rng.random() < stage.descriptions):
            completed = sample if estimates is None else estimates(sample, picture)
            return self._allowed(write_questions(completed, rng, ["description"], forms=["open"]))[:1]
        if estimates is not None:
            # Of a group of ages, the likeliest years.
            missing = ["age"] if "age_bin" in sample.labels else []
            sample = estimates(sample, picture, [*missing, *stage.estimated])
        if rng.random() < stage.unknown:
            return self._allowed([write_unknown(rng, "train", tasks=stage.tasks)])
        forms: Any = (
            ["choice", "yes_no", "true_false"]
            if stage.ask == "basic"
            else ["open", "choice", "yes_no", "true_false"]
        )
        written = self._allowed(write_questions(sample, rng, tasks, forms=forms))
        if not written:
            return []
        if stage.ask == "all":
            # Open questions are what people ask and what is measured; the other forms keep what stage two
            # taught.
            weights = [4.0 if qa.form == "open" else 0.6 for qa in written]
        else:
            weights = [1.0] * len(written)
        weights = [
            weight * stage.task_weights.get(qa.task, 1.0) for weight, qa in zip(weights, written, strict=True)
        ]
        return rng.choices(written, weights, k=min(stage.questions_per_image, len(written)))

    def _allowed(self, pairs: Sequence[QA]) -> list[QA]:
        """Return the pairs that have none of the words which are left out of the stage."""
        if self._left_out is None:
            return list(pairs)
        return [qa for qa in pairs if not self._left_out.search(f"{qa.question}\n{qa.answer}")]


def question_of(qa: QA, rng: random.Random) -> str:
    """Return the question of a pair as one of many people may put and type it, unless it shows options."""
    if qa.form in ("choice", "multiple"):
        return qa.question
    return as_typed(reworded(qa.question, rng), rng)


def mirror(sample: FaceSample, mirrored: bool) -> FaceSample:
    """Return the sample as it is seen: mirrored, or as it was."""
    return mirror_sample(sample) if mirrored else sample
