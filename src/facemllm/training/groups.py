"""AdamW's parameter groups: for each part a rate, a decay of its weights, and of its rate by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from facemllm.core.errors import ConfigError
from facemllm.training.freezing import Selection
from facemllm.training.recipe import Stage

LAYER = re.compile(r"\.(?:layers|layer|blocks|h|stages)\.(\d+)\.")
FIRST = re.compile(r"embed|stem|cls_token|pos_|patch|queries|conv1")


def parameter_groups(model: nn.Module, selection: Selection, stage: Stage) -> list[dict[str, Any]]:
    """Return the groups of a stage, each with ``params``, ``lr``, ``weight_decay`` and the ``part`` it is of.

    With a layer decay d, the rate of a layer is that of the part times d for each layer above it: what is
    general and near the input moves less.

    Source: layer-wise decay after ULMFiT, arXiv 1801.06146, and BEiT, arXiv 2106.08254.

    Raises:
        ConfigError: If a part with a layer decay has no layers.
    """
    parameters = dict(model.named_parameters())
    groups = []
    for part, names in selection.names.items():
        decay = stage.weight_decay_of(part)
        for scale, chosen in _by_scale(part, names, stage.layer_decay.get(part)):
            groups.append(
                {
                    "params": [parameters[name] for name in chosen],
                    "lr": stage.lr[part] * scale,
                    "weight_decay": decay,
                    "part": part,
                }
            )
    return groups


def layer_scales(names: Sequence[str], decay: float) -> Mapping[str, float]:
    """Return what the rate of each parameter is multiplied by; empty if none is in a numbered layer.

    Example:
        >>> layer_scales(["a.embed.w", "a.layers.0.w", "a.layers.1.w", "a.norm.w"], 0.5)
        {'a.embed.w': 0.125, 'a.layers.0.w': 0.25, 'a.layers.1.w': 0.5, 'a.norm.w': 1.0}
    """
    found = {name: LAYER.search(name) for name in names}
    numbers = [int(match[1]) for match in found.values() if match]
    if not numbers:
        return {}
    top = max(numbers) + 2
    depth = {
        name: int(match[1]) + 1 if match else (0 if FIRST.search(name) else top)
        for name, match in found.items()
    }
    return {name: decay ** (top - depth[name]) for name in names}


def _by_scale(part: str, names: Sequence[str], decay: float | None) -> list[tuple[float, list[str]]]:
    if decay is None:
        return [(1.0, list(names))]
    scales = layer_scales(names, decay)
    if not scales:
        raise ConfigError(
            f"layer decay of {part!r} matches no layer",
            given=f"{len(names)} parameters such as {names[0]!r}",
            expected="names with a numbered layer, such as '.layers.3.' or '.blocks.3.'",
            do="leave layer_decay out for this part",
        )
    grouped: dict[float, list[str]] = {}
    for name in names:
        grouped.setdefault(scales[name], []).append(name)
    return sorted(grouped.items())
