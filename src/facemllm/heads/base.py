"""What a task head is, and the registry of heads."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
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
    make = HEADS.get(name)
    try:
        return make(in_dim=in_dim, **options)
    except (TypeError, RuntimeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "no options"
        takes = [str(option) for option in inspect.signature(make).parameters.values()][1:]
        raise ConfigError(
            f"cannot build head {name!r}",
            given=f"{given} ({error})",
            expected=", ".join(option for option in takes if option != "*"),
            do="pass what is missing, and leave out what it does not take",
        ) from None


def check_head_name(name: object) -> None:
    """Refuse a name that a head cannot be kept under.

    Raises:
        ConfigError: If it is empty or no text, has a dot in it, or torch uses it itself.

    Example:
        >>> check_head_name("age")
    """
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict(), name):
        raise ConfigError(
            "wrong name for a head",
            given=repr(name),
            expected="a name without dots, which part the names of weights, and none that torch uses itself",
            do="choose another name",
        )


def checked_names(what: str, names: Sequence[str]) -> list[str]:
    """Return the names of outputs, each of which must be told from the others.

    Raises:
        ConfigError: If there are none, one is there twice, or one is blank or no text.

    Example:
        >>> checked_names("classes", ("no", "yes"))
        ['no', 'yes']
    """
    listed = [] if isinstance(names, str) else list(names)
    right = all(isinstance(name, str) and name.strip() for name in listed)
    if not listed or not right or len(set(listed)) < len(listed):
        raise ConfigError(
            f"cannot build a head with these {what}",
            given=f"{what}={names!r}",
            expected="a list of at least one name, each once",
            do=f"correct {what}",
        )
    return listed


def mean_of_known(losses: Tensor, known: Tensor) -> Tensor:
    """Return the mean of ``losses`` [B] where ``known`` [B], with a gradient even where nothing is known."""
    return (losses * known).sum() / known.sum().clamp(min=1)
