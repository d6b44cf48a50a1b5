"""Encoders that are built on the tokens of another one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from facemllm.core.errors import ConfigError
from facemllm.encoders.base import VisionEncoder
from facemllm.encoders.registry import create_encoder


def grid_encoder(
    base: str | Mapping[str, Any] | VisionEncoder, options: Mapping[str, Any]
) -> tuple[VisionEncoder, int]:
    """Return an encoder, and the side of the square grid that its tokens are.

    Args:
        base: A name, a spec, or an instance.
        options: For the base, when it is given by name.

    Raises:
        ConfigError: If its tokens are no square grid.
    """
    encoder = (
        create_encoder(**base, **options) if isinstance(base, Mapping) else create_encoder(base, **options)
    )
    side = math.isqrt(encoder.num_tokens)
    if side**2 != encoder.num_tokens:
        raise ConfigError(
            "the base has no square grid of tokens",
            given=f"{encoder.num_tokens} tokens",
            expected="the square of a whole number",
            do="build the base with select='patch'",
        )
    return encoder, side
