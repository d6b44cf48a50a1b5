"""An encoder that looks at a face and at its mirror image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from facemllm.encoders.base import VisionEncoder
from facemllm.encoders.grid import grid_encoder
from facemllm.encoders.registry import ENCODERS


@ENCODERS.register("mirrored")
class MirroredEncoder(VisionEncoder):
    """Puts two halves into the width of each token of another encoder: what it was, and a mean of two views.

    Age or expression are the same in a mirror, so the mean of both views tells them better than one view:
    this is test-time augmentation, made part of the encoder so that every head and every answer has it. Which
    way a face looks is not the same in a mirror; that is told by the first half.

    Args:
        base: Encoder with a square grid of tokens: a name, a spec, or an instance.
        **options: For the base, when it is given by name.

    Raises:
        ConfigError: If the base's tokens are no square grid.

    Example:
        >>> encoder = MirroredEncoder("timm/resnet10t", image_size=128)
        >>> encoder(torch.zeros(1, 3, 128, 128)).shape
        torch.Size([1, 16, 1024])
    """

    def __init__(self, base: str | Mapping[str, Any] | VisionEncoder, **options: Any) -> None:
        super().__init__()
        self.base, self.side = grid_encoder(base, options)
        self.embed_dim, self.num_tokens = 2 * self.base.embed_dim, self.base.num_tokens
        self.image_size, self.mean, self.std = self.base.image_size, self.base.mean, self.base.std
        self.spec = {"name": "mirrored", "base": dict(self.base.spec)}

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to tokens [B, N, 2 D]: of the picture, and of both views' mean."""
        seen, mirrored = self.base(torch.cat([pixel_values, pixel_values.flip(-1)])).chunk(2)
        # The mirror image's columns run the other way.
        mirrored = mirrored.unflatten(1, (self.side, self.side)).flip(2).flatten(1, 2)
        return torch.cat([seen, (seen + mirrored) / 2], dim=-1)

    @staticmethod
    def widened(weight: Tensor, *, mirrors: bool) -> Tensor:
        """Return the weight [C, 2 D] of a linear layer that was trained on the base's width [C, D].

        Args:
            weight: Of the layer.
            mirrors: Whether what it tells is the same of a mirror image, so that it may read the mean.
        """
        unused = torch.zeros_like(weight)
        return torch.cat([unused, weight] if mirrors else [weight, unused], dim=1)
