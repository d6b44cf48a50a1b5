"""Where the pictures of a batch come from: features computed once, or pixels if the encoder trains."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facemllm.data import FaceSample
from facemllm.training.augment import augment, centre_views, normalise
from facemllm.training.crops import CropSet
from facemllm.training.progress import track


@dataclass(frozen=True)
class FeatureSet:
    """Features of V views of each crop of a set: what a frozen encoder need not compute in every step.

    Attributes:
        crops: The set.
        features: Encoder output [n, V, N, D], half precision.
        mirrored: Whether a view is a mirror image [n, V].
    """

    crops: CropSet
    features: Tensor
    mirrored: Tensor

    key = "encoder_features"

    def draw(self, rng: random.Random) -> tuple[FaceSample, bool, Tensor]:
        """Return a random sample, whether it is mirrored, and its features [N, D]."""
        index, view = rng.randrange(len(self.crops)), rng.randrange(self.features.shape[1])
        return self.crops.samples[index], bool(self.mirrored[index, view]), self.features[index, view].float()


@dataclass(frozen=True)
class PixelSet:
    """Crops that are changed at random each time they are drawn, for a stage that trains the encoder.

    Attributes:
        crops: The set.
        size: Side S of the encoder's input in pixels.
        mean: Of the channels.
        std: Of the channels.
    """

    crops: CropSet
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    key = "pixel_values"

    def draw(self, rng: random.Random) -> tuple[FaceSample, bool, Tensor]:
        """Return a random sample, whether it is mirrored, and its pixels [3, S, S]."""
        index = rng.randrange(len(self.crops))
        generator = torch.Generator().manual_seed(rng.getrandbits(40))
        pixels = torch.from_numpy(self.crops.pixels[index : index + 1].copy())
        images, mirrored = augment(pixels, self.size, generator)
        return self.crops.samples[index], bool(mirrored[0]), normalise(images, self.mean, self.std)[0]


@torch.inference_mode()
def encode_views(
    encoder: nn.Module,
    crops: CropSet,
    *,
    views: int,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = True,
) -> FeatureSet:
    """Encode every crop as it is, and ``views - 1`` times changed at random.

    Args:
        encoder: A vision encoder.
        crops: The faces.
        views: V, how often each is seen.
        size: Side S of the encoder's input in pixels.
        mean: Of the channels.
        std: Of the channels.
        seed: Of the changes.
        batch_size: Crops a step.
        progress: Whether to show a bar.
    """
    encoder.eval()
    generator = torch.Generator().manual_seed(seed)
    device = next(encoder.parameters()).device
    features, mirrored = [], []
    starts = range(0, len(crops), batch_size)
    for start in track(starts, f"features of {crops.name}", enabled=progress):
        pixels = torch.from_numpy(crops.pixels[start : start + batch_size].copy())
        rows = [centre_views(pixels, size)]
        flips = [torch.zeros(len(pixels), dtype=torch.bool)]
        for _ in range(views - 1):
            images, flipped = augment(pixels, size, generator)
            rows.append(images)
            flips.append(flipped)
        images = normalise(torch.cat(rows), mean, std).to(device, memory_format=torch.channels_last)
        out = encoder(images).half().cpu()
        features.append(out.unflatten(0, (views, -1)).transpose(0, 1).contiguous())
        mirrored.append(torch.stack(flips, 1))
    return FeatureSet(crops, torch.cat(features), torch.cat(mirrored))
