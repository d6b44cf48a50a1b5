"""Labels that a dataset lacks, estimated by the model's own heads.

One dataset knows expressions, another ages, a third poses; a description should tell of all three. Where the
encoder's heads were trained, they fill in what is missing, for descriptions and for the years of a person
of whom only the age group is known. Perceived gender and ethnicity are never filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from facemllm.data import FaceSample
from facemllm.data.vocabularies import age_range

FILLED_IN = ("expression", "age", "pose")


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
                head = self.heads[task]
                device = next(head.parameters()).device
                labels[task] = head.predict(head(features[None].to(device)))[0]
        if "age" in labels and "age_bin" in labels:
            low, high = age_range(labels["age_bin"])
            labels["age"] = min(max(float(labels["age"]), low), high)
        if "pose" in labels:  # to the step of the poses that were photographed
            labels["pose"] = {axis: 15.0 * round(angle / 15) for axis, angle in labels["pose"].items()}
        return sample.model_copy(update={"labels": labels})
