"""Where the pictures of a batch come from: features computed once, or pixels if the encoder trains."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facemllm.data import FaceSample
from facemllm.training import augment as augmentation
from facemllm.training.augment import augment, centre_views, normalise
from facemllm.training.crops import CropSet
from facemllm.training.files import make_array, write_note
from facemllm.training.progress import track

logger = logging.getLogger(__name__)


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

    def draw(self, rng: random.Random, row: int | None = None) -> tuple[FaceSample, bool, Tensor]:
        """Return a sample, a random one by default, whether it is mirrored, and its features [N, D]."""
        index = rng.randrange(len(self.crops)) if row is None else row
        view = rng.randrange(self.features.shape[1])
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

    def draw(self, rng: random.Random, row: int | None = None) -> tuple[FaceSample, bool, Tensor]:
        """Return a sample, a random one by default, whether it is mirrored, and its pixels [3, S, S]."""
        index = rng.randrange(len(self.crops)) if row is None else row
        generator = torch.Generator().manual_seed(rng.getrandbits(40))
        pixels = torch.from_numpy(self.crops.pixels[index : index + 1].copy())
        images, mirrored = augment(pixels, self.size, generator)
        return self.crops.samples[index], bool(mirrored[0]), normalise(images, self.mean, self.std)[0]


@torch.inference_mode()
def encode_views(
    encoder: Any,
    crops: CropSet,
    *,
    views: int,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    cache: Path,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = True,
) -> FeatureSet:
    """Encode every crop as it is, and ``views - 1`` times changed at random; once, and then from ``cache``.

    Features are kept in a folder named by all they depend on: pixels, weights and architecture of the
    encoder, and the arguments below. What has changed is found in no folder and computed anew. A run that is
    stopped goes on from what it has noted as done; the features are those of a run that was not stopped. Of
    several processes one computes them, and the others wait for it.

    Args:
        encoder: A vision encoder.
        crops: The faces.
        views: V, how often each is seen.
        size: Side S of the encoder's input in pixels.
        mean: Of the channels.
        std: Of the channels.
        cache: Folder of the features' folders.
        seed: Of the changes.
        batch_size: Crops a step.
        progress: Whether to show a bar.
    """
    from filelock import FileLock

    encoder.eval()
    look: dict[str, Any] = {"views": views, "size": size, "mean": mean, "std": std}
    look |= {"seed": seed, "batch": batch_size}
    folder = cache / f"{crops.name}-features-{_key(encoder, crops, look)}"
    shape = (len(crops), views, *encoder(torch.zeros(1, 3, size, size, device=_device(encoder))).shape[1:])
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # let go of by the system when a process ends, however it ends
        _fill(encoder, crops, folder, shape, **look, progress=progress)
    kept = (np.load(folder / name, mmap_mode="c", allow_pickle=False) for name in _FILES)
    return FeatureSet(crops, *(torch.from_numpy(array) for array in kept))


def _fill(
    encoder: Any,
    crops: CropSet,
    folder: Path,
    shape: tuple[int, ...],
    *,
    views: int,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int,
    batch: int,
    progress: bool,
) -> None:
    features, mirrored, done = _open(folder, shape)
    starts = range(done, len(crops), batch)
    for start in track(starts, f"features of {crops.name}", enabled=progress and done < len(crops)):
        end = min(start + batch, len(crops))
        # Of its own in each batch, so that a run that goes on changes crops as one that was not stopped.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
        pixels = torch.from_numpy(np.array(crops.pixels[start:end]))
        rows = [centre_views(pixels, size)]
        flips = [torch.zeros(len(pixels), dtype=torch.bool)]
        for _ in range(views - 1):
            images, flipped = augment(pixels, size, generator)
            rows.append(images)
            flips.append(flipped)
        images = normalise(torch.cat(rows), mean, std)
        out = encoder(images.to(_device(encoder), memory_format=torch.channels_last)).half().cpu()
        features[start:end] = out.unflatten(0, (views, -1)).transpose(0, 1).numpy()
        mirrored[start:end] = torch.stack(flips, 1).numpy()
        if end == len(crops) or (start // batch) % 16 == 15:
            _note(folder, features, mirrored, end)


_FILES = ("features.npy", "mirrored.npy")


def _key(encoder: Any, crops: CropSet, look: dict[str, Any]) -> str:
    changes = {"shift": augmentation.SHIFT, "turn": augmentation.TURN, "zoom": augmentation.ZOOM}
    digest = hashlib.blake2b(
        json.dumps([encoder.spec, look, changes], sort_keys=True).encode(), digest_size=12
    )
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for start in range(0, len(crops), 1024):
        digest.update(crops.pixels[start : start + 1024].tobytes())
    return digest.hexdigest()


def _open(folder: Path, shape: tuple[int, ...]) -> tuple[Any, Any, int]:
    """Return the arrays of a folder, made if need be, and how many crops are in them."""
    note = folder / "done.json"
    of_files = list(zip(_FILES, (np.float16, np.bool_), (shape, shape[:2]), strict=True))
    if note.is_file():
        try:
            done = int(json.loads(note.read_text())["crops"])
            # Opened for reading first: opened for writing, a file that is too short would grow.
            found = [np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _FILES]
            if all(
                (x.dtype, x.shape) == (kind, of) for x, (_, kind, of) in zip(found, of_files, strict=True)
            ):
                arrays = [np.lib.format.open_memmap(folder / name, mode="r+") for name in _FILES]
                return arrays[0], arrays[1], done
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("kept features cannot be read and are computed again: %s", folder)
        note.unlink()
    arrays = [make_array(folder / name, dtype, of) for name, dtype, of in of_files]
    return arrays[0], arrays[1], 0


def _note(folder: Path, features: Any, mirrored: Any, crops: int) -> None:
    """Write down how many crops are done, once they are on disk."""
    features.flush()
    mirrored.flush()
    write_note(folder / "done.json", json.dumps({"crops": crops}))


def _device(encoder: nn.Module) -> torch.device:
    return next(encoder.parameters()).device
