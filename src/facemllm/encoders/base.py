"""What a vision encoder is: pixels in, tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.core.errors import ConfigError


class VisionEncoder(nn.Module, ABC):
    """A network from a square picture to N tokens of width D.

    A subclass sets every attribute below in its constructor, and defines ``forward``.

    Attributes:
        embed_dim: D, the width of a token.
        num_tokens: N, the number of tokens of one picture.
        image_size: S, the side of the picture in pixels.
        mean: Subtracted from the channels, whose values are in [0, 1].
        std: The channels are divided by it.
        spec: What builds it again: ``create_encoder(**spec)``, with fresh weights and without a download.
            JSON can hold it.
    """

    embed_dim: int
    num_tokens: int
    image_size: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    spec: dict[str, Any]

    @abstractmethod
    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to tokens [B, N, D], row by row."""


@torch.no_grad()
def measure(encoder: VisionEncoder) -> tuple[int, int]:
    """Return how many tokens ``encoder`` makes of a picture, and their width, by running it once.

    Raises:
        ConfigError: If it cannot take pictures of its ``image_size``.
    """
    training = encoder.training
    parameter = next(encoder.parameters())
    side = encoder.image_size
    try:
        blank = torch.zeros(1, 3, side, side, device=parameter.device, dtype=parameter.dtype)
        tokens = encoder.eval()(blank)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            "the encoder cannot take pictures of this size",
            given=f"image_size={side} ({reason})",
            expected="a size its architecture allows, mostly a multiple of the patch size or of 32",
            do="change image_size, or leave it out for the architecture's own",
        ) from None
    finally:
        encoder.train(training)
    return tokens.shape[1], tokens.shape[2]


def as_triple(values: Any) -> tuple[float, float, float]:
    """Return one value a channel, given three of them or one for all.

    Example:
        >>> as_triple([0.5])
        (0.5, 0.5, 0.5)
    """
    red, *others = (float(value) for value in values)
    green, blue = others or (red, red)
    return red, green, blue
