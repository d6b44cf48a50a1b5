"""Age as a distribution over years, of which the mean is told."""

from __future__ import annotations

import torch
from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.heads.base import HEADS, TaskHead, mean_of_known


@HEADS.register("age")
class AgeHead(TaskHead):
    """Predicts a distribution over whole years; its mean is the age.

    Known ages pull the distribution towards a narrow Gaussian and its mean towards the age; a known group of
    ages raises the probability of that group as a whole and leaves it open where in the group.

    Source: DEX (expected value), Rothe et al., ICCV-W 2015; label distributions, Geng et al., TPAMI 2013.

    Args:
        in_dim: D, width of the features.
        max_age: Last year.
        spread: Standard deviation of the target, in years.
        dropout: Of the pooled features.

    Example:
        >>> head = AgeHead(4)
        >>> [round(age) for age in head.predict(torch.zeros(1, 101))]
        [50]
    """

    def __init__(self, in_dim: int, *, max_age: int = 100, spread: float = 2.0, dropout: float = 0.0) -> None:
        super().__init__(in_dim, max_age + 1, dropout=dropout, name="age", max_age=max_age, spread=spread)
        self.max_age, self.spread = max_age, spread

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss.

        Args:
            outputs: Raw outputs [B, years].
            labels: Years [B], or first and last possible year [B, 2]; NaN where unknown.

        Raises:
            ConfigError: If a last year is before its first.
        """
        bounds = labels.float() if labels.ndim == 2 else labels.float()[:, None].expand(-1, 2)
        known = ~bounds.isnan().any(1)
        low, high = bounds.nan_to_num().clamp(0, self.max_age).unbind(1)
        if (high < low).any():
            raise ConfigError(
                "ages are in the wrong order", given=labels.tolist(), expected="first <= last", do="swap them"
            )
        years = torch.arange(self.max_age + 1, device=outputs.device, dtype=torch.float32)
        logprobs = outputs.float().log_softmax(1)
        target = torch.exp(-0.5 * ((years - low[:, None]) / self.spread) ** 2)
        target = target / target.sum(1, keepdim=True)
        off = ((logprobs.exp() * years).sum(1) - low).abs()
        exact = 0.5 * -(target * logprobs).sum(1) + 0.1 * off
        outside = (years < low[:, None]) | (years > high[:, None])
        group = -torch.logsumexp(logprobs.masked_fill(outside, -torch.inf), 1)
        return mean_of_known(torch.where(low == high, exact, 0.7 * group), known)

    def predict(self, outputs: Tensor) -> list[float]:
        """Return the mean age of each sample in years."""
        years = torch.arange(self.max_age + 1, device=outputs.device, dtype=torch.float32)
        return (outputs.float().softmax(1) @ years).tolist()
