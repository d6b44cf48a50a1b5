"""A step's pictures and pairs as inputs of one forward pass: a pack, or padded rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.model.packing import pack
from facemllm.processing.processor import FaceProcessor
from facemllm.processing.template import Encoded
from facemllm.training.losses import SoftTarget, shifted


@dataclass(frozen=True)
class Pairs:
    """A picture and the question-answer pairs drawn for it.

    Attributes:
        sample: Id of the sample.
        picture: Features [N, D] or pixels [3, S, S].
        encoded: The tokenised pairs.
        tasks: Their tasks.
        soft: Of each pair the shares by which ids may begin its answer; None, or nothing at all, where only
            its own may.
    """

    sample: str
    picture: Tensor
    encoded: tuple[Encoded, ...]
    tasks: tuple[str, ...]
    soft: tuple[SoftTarget | None, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass, and what is learnt from its logits.

    Attributes:
        inputs: Keyword arguments of the model.
        predictors: Which of the flattened logits predict the targets [M].
        targets: Ids to predict [M].
        pairs: The pair each belongs to [M].
        tasks: The task of each pair.
        samples: The sample of each pair.
        soft: Soft targets by the place among the targets [M].
    """

    inputs: dict[str, Any]
    predictors: Tensor
    targets: Tensor
    pairs: Tensor
    tasks: tuple[str, ...]
    samples: tuple[str, ...]
    soft: Mapping[int, SoftTarget]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        inputs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.inputs.items()}
        return replace(
            self,
            inputs=inputs,
            **{k: getattr(self, k).to(device) for k in ("predictors", "targets", "pairs")},
        )

    def run(self, model: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Run a model; return the logits that predict the targets [M, V], and pictures' tokens [P, N, D]."""
        output = model(**self.inputs)
        return output.logits.flatten(0, 1)[self.predictors], output.image_features

    def logits(self, model: nn.Module) -> Tensor:
        """Run a model and return the logits that predict the targets [M, V]."""
        return self.run(model)[0]


def packed(drawn: Sequence[Pairs], *, key: str) -> Batch:
    """Lay all pictures with their pairs end to end: each picture once, no padding.

    Args:
        drawn: Pictures and their pairs.
        key: What the model calls the pictures: ``encoder_features`` or ``pixel_values``.
    """
    rows = pack([pairs.encoded for pairs in drawn])
    inputs = {
        "input_ids": rows.input_ids,
        "tree": rows.tree,
        "logits_to_keep": rows.predictors,
        key: torch.stack([pairs.picture for pairs in drawn]),
    }
    # The model returns the logits of the predictors only.
    predictors = torch.arange(len(rows.targets))
    return Batch(inputs, predictors, rows.targets, rows.pairs, *_names(drawn), _soft(drawn, rows.pairs))


def padded(drawn: Sequence[Pairs], *, key: str, processor: FaceProcessor) -> Batch:
    """Make a row of each pair, with its picture, padded to the longest; equal to :func:`packed`, but dearer.

    Args:
        drawn: Pictures and their pairs.
        key: As for :func:`packed`.
        processor: Of the model.
    """
    rows = processor.pad([pair for pairs in drawn for pair in pairs.encoded], with_labels=True, left=False)
    labels = rows.pop("labels")
    predictors, targets = shifted(labels)
    pictures = torch.stack([pairs.picture for pairs in drawn for _ in pairs.encoded])
    pairs = predictors // labels.shape[1]
    return Batch({**rows, key: pictures}, predictors, targets, pairs, *_names(drawn), _soft(drawn, pairs))


def _names(drawn: Sequence[Pairs]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    tasks = tuple(task for pairs in drawn for task in pairs.tasks)
    return tasks, tuple(pairs.sample for pairs in drawn for _ in pairs.encoded)


def _soft(drawn: Sequence[Pairs], pairs: Tensor) -> dict[int, SoftTarget]:
    """Return the soft targets by the place of their answer's first token."""
    soft = [target for one in drawn for target in one.soft or (None,) * len(one.encoded)]
    if not any(soft):
        return {}
    first = {pair: place for place, pair in reversed(list(enumerate(pairs.tolist())))}
    return {first[pair]: target for pair, target in enumerate(soft) if target is not None}
