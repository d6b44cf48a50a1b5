"""Labels estimated by the model's own heads: where a dataset has none, and to teach the language model.

One dataset knows expressions, another ages, a third poses; a description should tell of all three. Where the
encoder's heads were trained, they fill in what is missing, for descriptions, for poses, and for the years of
a person of whom only the age group is known. Perceived gender and ethnicity are never filled in.

A head's estimate can also stand in for a label that is there: labels of faces are noisy, and what a head says
of a face is a plain function of the features that the language model sees (self-distillation).

Source: hard and soft targets, Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv
1503.02531; blended pictures, Beyer et al., "Knowledge distillation: A good teacher is patient and
consistent", arXiv 2106.05237.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from facemllm.data import FaceSample
from facemllm.data.vocabularies import age_bin, age_range

FILLED_IN = ("expression", "age", "pose")
ALSO_SAYS = {"age_bin": "age"}
STEP = 15.0  # degrees between the poses of Pointing'04


class Estimates:
    """Completes samples by heads.

    Args:
        heads: Task heads by name.
    """

    def __init__(self, heads: Mapping[str, Any]) -> None:
        self.heads = heads

    @torch.inference_mode()
    def __call__(self, sample: FaceSample, features: Tensor, tasks: Sequence[str] = FILLED_IN) -> FaceSample:
        """Return ``sample`` with the labels of ``tasks`` that it lacks, from its features [N, D]."""
        labels = dict(sample.labels)
        for task in tasks:
            if task not in labels and task in self.heads:
                labels[task] = self._estimate(task, features)
        if "age" in labels and "age_bin" in labels:
            low, high = age_range(labels["age_bin"])
            labels["age"] = min(max(float(labels["age"]), low), high)
        return sample.model_copy(update={"labels": labels})

    @torch.inference_mode()
    def instead(self, sample: FaceSample, features: Tensor, tasks: Sequence[str]) -> FaceSample:
        """Return ``sample`` with estimates in place of the labels of ``tasks`` that it has."""
        labels = dict(sample.labels)
        for task in tasks:
            if task in labels and task in self.heads and task != "age":
                labels[task] = self._estimate(task, features)
        if "age" in self.heads and (known := {"age", "age_bin"} & set(labels) & set(tasks)):
            age = self._estimate("age", features)
            estimates = {"age": age, "age_bin": age_bin(age)}
            # Of a group, the likeliest years too: else they would be clamped to the group.
            labels |= {name: estimates[name] for name in {"age"} | known}
        return sample.model_copy(update={"labels": labels})

    @torch.inference_mode()
    def shares(self, task: str, features: Tensor) -> dict[str, float]:
        """Return what a head of classes takes each of them for; nothing where the task has no such head."""
        head = self.heads.get(task)
        if head is None or not hasattr(head, "classes"):
            return {}
        logits = head(features[None].to(next(head.parameters()).device))[0]
        return dict(zip(head.classes, logits.softmax(-1).tolist(), strict=True))

    def known(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the labels that the heads can say."""
        return {name: value for name, value in labels.items() if ALSO_SAYS.get(name, name) in self.heads}

    def _estimate(self, task: str, features: Tensor) -> Any:
        head = self.heads[task]
        value = head.predict(head(features[None].to(next(head.parameters()).device)))[0]
        if task == "pose":  # to the step of the poses that were photographed
            return {axis: STEP * round(angle / STEP) for axis, angle in value.items()}
        return value
