"""One class of several, or several labels at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from facemllm.heads.base import HEADS, TaskHead, checked_names, mean_of_known

MISSING = -100


@HEADS.register("classification")
class ClassificationHead(TaskHead):
    """Predicts one of several classes.

    Args:
        in_dim: D, width of the features.
        classes: Distinct names, in the order of the outputs.
        dropout: Of the pooled features.
        label_smoothing: Share of the target spread over all classes.

    Raises:
        ConfigError: If there are no classes, or one is named twice.

    Example:
        >>> head = ClassificationHead(4, classes=["no", "yes"])
        >>> head.predict(torch.tensor([[0.0, 1.0]]))
        ['yes']
    """

    def __init__(
        self, in_dim: int, classes: Sequence[str], *, dropout: float = 0.0, label_smoothing: float = 0.0
    ) -> None:
        names = checked_names("classes", classes)
        super().__init__(
            in_dim,
            len(names),
            dropout=dropout,
            name="classification",
            classes=names,
            label_smoothing=label_smoothing,
        )
        self.classes, self.label_smoothing = tuple(names), label_smoothing

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss.

        Args:
            outputs: Raw outputs [B, C].
            labels: Class indices [B], -100 where unknown; or the classes that are possible [B, C], boolean,
                for labels that are coarser than the classes (all False where unknown). Then the probability
                of the possible classes together is raised.
        """
        if labels.dtype == torch.bool:
            known = labels.any(1)
            allowed = labels | ~known[:, None]
            logprobs = outputs.float().log_softmax(1).masked_fill(~allowed, -torch.inf)
            return mean_of_known(-torch.logsumexp(logprobs, 1), known)
        known = labels != MISSING
        losses = F.cross_entropy(
            outputs.float(),
            labels,
            ignore_index=MISSING,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        return mean_of_known(losses, known)

    def predict(self, outputs: Tensor) -> list[str]:
        """Return the most probable class of each sample."""
        return [self.classes[index] for index in outputs.argmax(1).tolist()]

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the probability of each class [B, C]."""
        return outputs.float().softmax(1)


@HEADS.register("multilabel")
class MultiLabelHead(TaskHead):
    """Predicts labels that do not exclude each other: attributes, action units.

    Args:
        in_dim: D, width of the features.
        labels: Distinct names, in the order of the outputs.
        dropout: Of the pooled features.
        threshold: Probability from which a label is present.

    Raises:
        ConfigError: If there are no labels, or one is named twice.

    Example:
        >>> MultiLabelHead(4, labels=["AU1", "AU2"]).predict(torch.tensor([[3.0, -3.0]]))
        [{'AU1': True, 'AU2': False}]
    """

    def __init__(
        self, in_dim: int, labels: Sequence[str], *, dropout: float = 0.0, threshold: float = 0.5
    ) -> None:
        names = checked_names("labels", labels)
        super().__init__(
            in_dim, len(names), dropout=dropout, name="multilabel", labels=names, threshold=threshold
        )
        self.labels, self.threshold = tuple(names), threshold

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return binary cross entropy; ``labels`` [B, C] are 0 or 1, NaN where unknown."""
        known = ~labels.isnan()
        losses = F.binary_cross_entropy_with_logits(
            outputs.float(), labels.nan_to_num().float(), reduction="none"
        )
        return mean_of_known(losses, known)

    def predict(self, outputs: Tensor) -> list[dict[str, bool]]:
        """Return which labels are present, by name."""
        present = (outputs.float().sigmoid() >= self.threshold).tolist()
        return [dict(zip(self.labels, row, strict=True)) for row in present]
