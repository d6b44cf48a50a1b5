"""Vision encoders by name."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from facemllm.core.errors import ConfigError
from facemllm.core.registry import Registry
from facemllm.encoders.base import VisionEncoder

ENCODERS: Registry[VisionEncoder] = Registry("encoder")
"""Encoders by name. Other packages add theirs through the entry-point group ``facemllm.encoders``."""

_ATTRIBUTES = ("embed_dim", "num_tokens", "image_size", "mean", "std", "spec")


def create_encoder(name: str | nn.Module, **options: Any) -> VisionEncoder:
    """Return the encoder of that name, or check and return the one given.

    Args:
        name: "timm/<architecture>", "hf/<hub id or folder>", "region-guided", "mirrored", "dlib-face", a name
            of an entry point, or an encoder. What follows a family's name and a slash is the family's first
            argument.
        **options: What the encoder's class takes beside.

    Raises:
        RegistryError: If the name is unknown.
        ConfigError: If an option is unknown, or the instance is not an encoder.

    Example:
        >>> encoder = create_encoder("timm/resnet10t", image_size=64)
        >>> encoder.num_tokens, encoder.embed_dim
        (4, 512)
    """
    if not isinstance(name, str):
        return _check_instance(name, options)
    family, slash, member = name.partition("/")
    by_family = bool(slash) and family in ENCODERS and name not in ENCODERS
    factory = ENCODERS.get(family if by_family else name)
    arguments = (member,) if by_family else ()
    signature = inspect.signature(factory)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise ConfigError(
            f"wrong options for encoder {name!r}",
            given=error,
            expected=f"{family}{signature}",
            do="correct the options",
        ) from None
    return factory(*arguments, **options)


def _check_instance(part: Any, options: dict[str, Any]) -> VisionEncoder:
    missing = [attribute for attribute in _ATTRIBUTES if not hasattr(part, attribute)]
    if not isinstance(part, nn.Module) or missing or options:
        raise ConfigError(
            "this encoder cannot be used",
            given=f"{type(part).__name__}"
            + (f" without {', '.join(missing)}" if missing else "")
            + (f" with options {sorted(options)}" if options else ""),
            expected=f"a module with {', '.join(_ATTRIBUTES)}, and no options",
            do="derive it from facemllm.encoders.VisionEncoder; give a timm or transformers model by name",
        )
    return part  # type: ignore[return-value]
