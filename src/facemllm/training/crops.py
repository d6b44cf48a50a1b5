"""Face crops of a dataset, found once and kept on disk.

Detecting faces costs more than training a small model on them, so crops are cached as plain pixels. A
crop is a little larger than what the model sees: the margin is room to shift and turn. Its centre is,
pixel for pixel, the crop that the processor makes when the model is asked.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
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
from facemllm.processing.references import is_reference, reference_size
from facemllm.training.files import make_array, write_note
from facemllm.training.progress import track

logger = logging.getLogger(__name__)

MARGIN = 8
"""Pixels kept on each side of what the model sees."""


class Joined:
    """Arrays end to end, read as one, of which nothing is copied until it is asked for.

    Args:
        pieces: At least one; their rows are alike.

    Example:
        >>> both = Joined([np.zeros((2, 3), np.uint8), np.ones((1, 3), np.uint8)])
        >>> both.shape, both[2].tolist(), both[1:].tolist()
        ((3, 3), [1, 1, 1], [[0, 0, 0], [1, 1, 1]])
    """

    def __init__(self, pieces: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.pieces = list(pieces)
        self._ends = list(itertools.accumulate(len(piece) for piece in self.pieces))
        self.shape = (self._ends[-1], *self.pieces[0].shape[1:])
        self.nbytes = sum(piece.nbytes for piece in self.pieces)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, rows: int | slice | Sequence[int]) -> npt.NDArray[np.uint8]:
        if isinstance(rows, int):
            piece = bisect.bisect_right(self._ends, rows)
            return self.pieces[piece][rows - self._ends[piece]]  # counted from its end
        chosen = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        found = np.empty((len(chosen), *self.shape[1:]), self.pieces[0].dtype)
        for place, row in enumerate(chosen):
            found[place] = self[int(row)]
        return found


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
    pixels: npt.NDArray[np.uint8] | Joined

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
        TrainingError: If there is no room for the crops.
    """
    return checked(
        make_crops(name, samples, processor, cache=cache, detector=detector, progress=progress), samples
    )


def make_crops(
    name: str,
    samples: Sequence[FaceSample],
    processor: FaceProcessor,
    *,
    cache: Path,
    detector: Any = "centerface",
    progress: bool = True,
) -> CropSet:
    """Do what :func:`crop_dataset` does; the set is empty where no picture is readable."""
    wide = FaceProcessor(
        processor.tokenizer,
        image_size=processor.image_size + 2 * MARGIN,
        crop_scale=processor.crop_scale * (processor.image_size + 2 * MARGIN) / processor.image_size,
        align=processor.align,
    )
    side = wide.image_size
    folder = cache / f"{name}-{_key(samples, wide, detector)}"
    if not (folder / "done.json").is_file():
        pixels = make_array(folder / "pixels.npy", np.uint8, (len(samples), side, side, 3))
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
        write_note(folder / "done.json", json.dumps({"samples": len(samples), "readable": readable}))
    readable = json.loads((folder / "done.json").read_text())["readable"]
    pixels = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
    if len(readable) < len(samples):
        pixels = pixels[readable]
    return CropSet(name, tuple(samples[index] for index in readable), pixels)


def checked(crops: CropSet, samples: Sequence[FaceSample]) -> CropSet:
    """Return crops, of which there must be some.

    Raises:
        DatasetError: If there are none.
    """
    if not len(crops):
        raise DatasetError(
            f"no readable picture in {crops.name}",
            given=f"{len(samples)} samples",
            expected="photos",
            do="check the data root",
        )
    return crops


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
        if is_reference(sample.image):
            size = reference_size(sample.image)
        else:
            path = Path(sample.image)
            size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{sample.id} {size}\n".encode())
    return digest.hexdigest()[:16]
