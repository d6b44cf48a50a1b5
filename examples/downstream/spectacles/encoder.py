"""An encoder without any learnt weight, to show what it takes to plug one in."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from facemllm.encoders import VisionEncoder

ORIENTATIONS = 4


class HandmadeEncoder(VisionEncoder):
    """Brightness, colour and edges of each cell of a grid, as one token.

    Args:
        image_size: Side S of the picture in pixels.
        cells: Cells on a side of the grid.
    """

    def __init__(self, image_size: int = 96, cells: int = 12) -> None:
        super().__init__()
        self.image_size, self.cells = image_size, cells
        self.num_tokens, self.embed_dim = 1, cells * cells * (3 + ORIENTATIONS)
        self.spec = {"name": "handmade", "image_size": image_size, "cells": cells}

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to one token [B, 1, D]."""
        grey = pixel_values.mean(1, keepdim=True)
        # Light differs from photo to photo; contrast within a face does not.
        grey = (grey - grey.mean((2, 3), keepdim=True)) / (grey.std((2, 3), keepdim=True) + 1e-3)
        colour = pixel_values[:, [0, 2]] - pixel_values[:, [1, 1]]
        right = F.pad(grey[..., 1:] - grey[..., :-1], (0, 1, 0, 0))
        down = F.pad(grey[..., 1:, :] - grey[..., :-1, :], (0, 0, 0, 1))
        angles = torch.arange(ORIENTATIONS, device=grey.device) * math.pi / ORIENTATIONS
        edges = (right * angles.cos().view(1, -1, 1, 1) + down * angles.sin().view(1, -1, 1, 1)).abs()
        cells = F.adaptive_avg_pool2d(torch.cat([grey, 4 * colour, 4 * edges], dim=1), self.cells)
        return cells.flatten(1).unsqueeze(1)
