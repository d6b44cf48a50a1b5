"""What a task head is, and the registry of heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from facemllm.core.errors import ConfigError
from facemllm.core.registry import Registry


class TaskHead(nn.Module, ABC):
    """A linear layer on the mean of an encoder's tokens, with the loss and the meaning of its outputs.

    Args:
        in_dim: D, width of the features.
        outputs: Number of raw outputs.
        dropout: Of the pooled features while training.
        **spec: Name and options that build it again, but for ``in_dim``.
    """

    def __init__(self, in_dim: int, outputs: int, *, dropout: float = 0.0, **spec: Any) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {**spec, "dropout": dropout}
        self.in_dim = in_dim
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_dim, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, N, D] to raw outputs [B, outputs]."""
        outputs: Tensor = self.linear(self.dropout(features.mean(1).to(self.linear.weight.dtype)))
        return outputs

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over the samples that have a label (0 if there are none)."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> list[Any]:
        """Return one plain Python value a sample."""


HEADS: Registry[TaskHead] = Registry("head")
"""Heads by name. Other packages add theirs through the entry-point group ``facemllm.heads``."""


def create_head(name: str | nn.Module, *, in_dim: int | None = None, **options: Any) -> nn.Module:
    """Build a head by name, or return the instance given.

    Args:
        name: "classification", "multilabel", "age", "angles", "rotation", "embedding", one of another
            package, or an instance.
        in_dim: D, width of the encoder's features; needed with a name.
        **options: Of the head.

    Raises:
        RegistryError: If the name is unknown.
        ConfigError: If an option does not fit, or an instance is of another width.

    Example:
        >>> import torch
        >>> head = create_head("classification", in_dim=8, classes=["none", "clear", "dark"])
        >>> head(torch.zeros(2, 9, 8)).shape
        torch.Size([2, 3])
    """
    if not isinstance(name, str):
        if options or in_dim not in (None, getattr(name, "in_dim", in_dim)):
            raise ConfigError(
                "cannot use this head",
                given=f"{type(name).__name__}(in_dim={getattr(name, 'in_dim', None)}), {sorted(options)}",
                expected=f"a head of width {in_dim} without options",
                do="set its options when you build it",
            )
        return name
    try:
        return HEADS.get(name)(in_dim=in_dim, **options)
    except TypeError as error:
        raise ConfigError(
            f"cannot build head {name!r}", given=sorted(options), expected="its own options", do=str(error)
        ) from None


def mean_of_known(losses: Tensor, known: Tensor) -> Tensor:
    """Return the mean of ``losses`` [B] where ``known`` [B], with a gradient even where nothing is known."""
    return (losses * known).sum() / known.sum().clamp(min=1)
