"""An encoder that looks at the parts of a face, beside the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.core.errors import ConfigError
from facemllm.encoders.base import VisionEncoder
from facemllm.encoders.grid import grid_encoder
from facemllm.encoders.registry import ENCODERS
from facemllm.ops.regions import REGIONS, region_boxes, region_pool
from facemllm.processing.alignment import as_landmarks, canonical_landmarks


@ENCODERS.register("region-guided")
class RegionGuidedEncoder(VisionEncoder):
    """Adds one token a face region behind the tokens of another encoder.

    A region's token is the mean of the base's patch features inside the region's box, plus what the region's
    name means (learned). Without landmarks the regions lie at ``points``, or where an aligned crop has them.

    Args:
        base: Encoder with a square grid of patch tokens: a name, a spec, or an instance.
        regions: Of eyes, brows, nose, mouth, jaw.
        scale: The ``scale`` with which aligned crops were cut, for pictures without landmarks.
        points: Where crops that are cut in another way have their five landmarks on average, as fractions of
            the side [5, 2]; they take the place of ``scale``.
        **options: For the base, when it is given by name.

    Raises:
        ConfigError: If a region is unknown or given twice, or the base's tokens are no square grid.

    Example:
        >>> encoder = RegionGuidedEncoder("timm/resnet10t", image_size=128, regions=("eyes", "mouth"))
        >>> encoder(torch.zeros(1, 3, 128, 128)).shape  # 4 x 4 patches and 2 regions
        torch.Size([1, 18, 512])
    """

    def __init__(
        self,
        base: str | Mapping[str, Any] | VisionEncoder,
        *,
        regions: Sequence[str] = tuple(REGIONS),
        scale: float = 1.3,
        points: Sequence[Sequence[float]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.base, self.grid_size = grid_encoder(base, options)
        self.regions, self.scale = tuple(regions), scale
        self.points = None if points is None else as_landmarks(points).tolist()
        unknown = [name for name in self.regions if name not in REGIONS]
        if unknown or len(set(self.regions)) != len(self.regions) or not self.regions:
            raise ConfigError(
                "cannot guide by these regions",
                given=list(self.regions),
                expected=f"some of {', '.join(REGIONS)}, each once",
                do="correct the list",
            )
        self.embed_dim, self.image_size = self.base.embed_dim, self.base.image_size
        self.mean, self.std = self.base.mean, self.base.std
        self.num_tokens = self.base.num_tokens + len(self.regions)
        self.names = nn.Parameter(torch.randn(len(self.regions), self.embed_dim) * 0.02)
        self.spec = {
            "name": "region-guided",
            "base": dict(self.base.spec),
            "regions": list(self.regions),
            "scale": scale,
            **({} if self.points is None else {"points": self.points}),
        }

    def forward(self, pixel_values: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """Map pixel values [B, 3, S, S] to tokens [B, N + R, D].

        Args:
            pixel_values: Normalised crops.
            landmarks: Five points of each face, in pixels of the crop [B, 5, 2]; None for the usual ones.
        """
        patches: Tensor = self.base(pixel_values)  # [B, N, D]
        if landmarks is None:
            # Made here, not kept as a buffer: models may be built empty and filled from a checkpoint.
            usual = canonical_landmarks(1.0, self.scale) if self.points is None else self.points
            points = torch.tensor(usual, dtype=torch.float32, device=patches.device)
            points = points.expand(len(patches), 5, 2)
        else:
            points = landmarks.to(patches.device, torch.float32) / self.image_size
        side = self.grid_size
        grid = patches.transpose(1, 2).reshape(len(patches), -1, side, side)
        pooled = region_pool(grid, region_boxes(points, self.regions))
        return torch.cat([patches, pooled + self.names.to(patches.dtype)], dim=1)
