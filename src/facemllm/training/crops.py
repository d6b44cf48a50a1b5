"""Face crops of a dataset, found once and kept on disk.

Detecting faces costs more than training a small model on them, so crops are cached as plain pixels. A
crop is a little larger than what the model sees: the margin is room to shift and turn. Its centre is,
pixel for pixel, the crop that the processor makes when the model is asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from facemllm.core.errors import DatasetError, ImageError
from facemllm.data import FaceSample
from facemllm.model.vision import views
from facemllm.processing.processor import FaceProcessor
from facemllm.training.files import write_whole
from facemllm.training.progress import track

logger = logging.getLogger(__name__)

MARGIN = 8
"""Pixels kept on each side of what the model sees."""


@dataclass(frozen=True)
class CropSet:
    """Samples and the pixels of their faces.

    Attributes:
        name: Of the dataset.
        samples: n samples, in the order of ``pixels``.
        pixels: Crops [n, S + 2 * MARGIN, S + 2 * MARGIN, 3], uint8.
    """

    name: str
    samples: tuple[FaceSample, ...]
    pixels: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.samples)

    def limited(self, limit: int | None, seed: int) -> CropSet:
        """Return a random part of at most ``limit`` samples, in their order."""
        if limit is None or limit >= len(self):
            return self
        rows = sorted(random.Random(f"{seed}/{self.name}/{limit}").sample(range(len(self)), limit))
        return CropSet(self.name, tuple(self.samples[row] for row in rows), self.pixels[rows])


def crop_dataset(
    name: str,
    samples: Sequence[FaceSample],
    processor: FaceProcessor,
    *,
    cache: Path,
    detector: Any = "centerface",
    progress: bool = True,
) -> CropSet:
    """Return the crops of ``samples``, from ``cache`` where they are there already.

    Pictures without a detectable face are taken whole, as evaluation takes them; unreadable ones are left out
    with a warning.

    Raises:
        DatasetError: If no sample has a readable picture.
    """
    wide = FaceProcessor(
        processor.tokenizer,
        image_size=processor.image_size + 2 * MARGIN,
        crop_scale=processor.crop_scale * (processor.image_size + 2 * MARGIN) / processor.image_size,
        align=processor.align,
    )
    side = wide.image_size
    folder = cache / f"{name}-{_key(samples, wide, detector)}"
    if not (folder / "done.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(
            folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(samples), side, side, 3)
        )
        readable = []
        for index, sample in enumerate(track(samples, f"faces of {name}", enabled=progress)):
            try:
                view = views(sample.image, wide, on_no_face="whole", detector=detector)[0]
            except ImageError as error:
                logger.warning("left out %s: %s", sample.image, error.what)
                continue
            pixels[index] = np.asarray(view.crop)
            readable.append(index)
        pixels.flush()
        # Written last: a folder without it is an interrupted run, and is made anew.
        write_whole(folder / "done.json", json.dumps({"samples": len(samples), "readable": readable}))
    readable = json.loads((folder / "done.json").read_text())["readable"]
    if not readable:
        raise DatasetError(
            f"no readable picture in {name}",
            given=f"{len(samples)} samples",
            expected="photos",
            do="check the data root",
        )
    pixels = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
    if len(readable) < len(samples):
        pixels = pixels[readable]
    return CropSet(name, tuple(samples[index] for index in readable), pixels)


def centre(crop: Image.Image) -> Image.Image:
    """Return what the model sees of a crop with its margin."""
    width, height = crop.size
    return crop.crop((MARGIN, MARGIN, width - MARGIN, height - MARGIN))


def _key(samples: Sequence[FaceSample], processor: FaceProcessor, detector: Any) -> str:
    """Name the cache by what is in it: other pictures or another crop get another folder."""
    digest = hashlib.sha256(
        f"{processor.image_size} {processor.crop_scale:.6f} {processor.align} {detector!r}".encode()
    )
    for sample in samples:
        path = Path(sample.image)
        digest.update(f"{sample.id} {path.stat().st_size if path.is_file() else -1}\n".encode())
    return digest.hexdigest()[:16]
