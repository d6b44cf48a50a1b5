"""What trains and what does not: chosen by name, counted before, proved after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from facemllm.core.errors import ConfigError, TrainingError

# A part's name stands for these patterns of parameter names.
PARTS = {
    "encoder": ("encoder.*",),
    "regions": ("encoder.names",),  # what tells region tokens of the region-guided encoder apart
    "connector": ("connector.*",),
    "language_model": ("language_model.*",),
    "lora": ("language_model.*lora_*",),
    "heads": ("heads.*",),
}


@dataclass(frozen=True)
class Selection:
    """The parameters that train, by the part or pattern that chose them.

    Attributes:
        names: Parameter names for each part or pattern.
    """

    names: Mapping[str, tuple[str, ...]]

    def __contains__(self, name: object) -> bool:
        return any(name in chosen for chosen in self.names.values())

    def table(self, model: nn.Module) -> list[tuple[str, int, int]]:
        """Return rows of (part, tensors, parameters)."""
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        return [(part, len(names), sum(sizes[name] for name in names)) for part, names in self.names.items()]


def select(model: nn.Module, patterns: Iterable[str]) -> Selection:
    """Make the parameters that match train and all others not.

    A parameter belongs to the first pattern that matches it.

    Raises:
        ConfigError: If a pattern matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    chosen: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for pattern in patterns:
        globs = PARTS.get(pattern, (pattern,))
        found = matching((name for name in names if name not in taken), globs)
        if not found:
            raise ConfigError(
                f"nothing to train matches {pattern!r}",
                given=pattern,
                expected=f"one of {', '.join(PARTS)} or a pattern of parameter names such as {names[0]!r}",
                do="correct the stage's `train`, or add the part to the model (LoRA, heads)",
            )
        chosen[pattern] = tuple(found)
        taken.update(found)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in taken)
    return Selection(chosen)


def matching(names: Iterable[str], globs: Iterable[str]) -> list[str]:
    """Return the names that any of the patterns matches, in their order.

    Example:
        >>> matching(["encoder.stem.weight", "connector.fc.weight"], ["encoder.*"])
        ['encoder.stem.weight']
    """
    patterns = tuple(globs)
    return [name for name in names if any(fnmatchcase(name, glob) for glob in patterns)]


def fingerprints(model: nn.Module) -> dict[str, str]:
    """Return a hash of the bytes of every parameter and buffer."""
    return {name: _hash(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}


@dataclass(frozen=True)
class Movement:
    """Which tensors changed during a stage.

    Attributes:
        moved: Names of tensors that changed.
        still: Names of tensors that did not.
    """

    moved: tuple[str, ...]
    still: tuple[str, ...]


def verify(before: Mapping[str, str], model: nn.Module, selection: Selection) -> Movement:
    """Compare a model with its fingerprints from before a stage.

    Raises:
        TrainingError: If a frozen tensor changed, or none of a part that should train did.
    """
    after = fingerprints(model)
    moved = tuple(name for name, value in after.items() if before.get(name) != value)
    aliases = _aliases(model, selection)
    wrong = [name for name in moved if name not in selection and name not in aliases]
    if wrong:
        raise TrainingError(
            "a frozen tensor changed",
            given=", ".join(wrong[:5]),
            expected="no change",
            do="report this as a bug",
        )
    for part, names in selection.names.items():
        if not set(names) & set(moved):
            raise TrainingError(
                f"{part!r} was to train and did not change",
                given=f"{len(names)} tensors without any change",
                expected="at least one that moved",
                do="check that the data reaches this part and that its learning rate is large enough",
            )
    return Movement(moved, tuple(name for name in after if name not in moved))


def _aliases(model: nn.Module, selection: Selection) -> set[str]:
    """Names in the state that share memory with a trained parameter (tied embeddings)."""
    state = model.state_dict(keep_vars=True)
    trained = {id(parameter) for name, parameter in model.named_parameters() if name in selection}
    return {name for name, tensor in state.items() if id(tensor) in trained}


def _hash(tensor: Tensor) -> str:
    data = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha1(data.view(torch.uint8).numpy().tobytes()).hexdigest()
