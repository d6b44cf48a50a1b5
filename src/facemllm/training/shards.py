"""Crops of records in tar shards: the shards are divided among the processes, and each is cropped once.

    cache/records-train-00000.tar-<key>/   pixels.npy  done.json
    cache/records-train-00001.tar-<key>/   ...

A shard is the unit of work: process r of n crops the shards r, r + n, r + 2 n ..., so that none is cropped
twice or left out, and a run that was stopped goes on with the shards that are not done. All processes then
read all of them, as what a step draws is decided by the step alone (see
:mod:`facemllm.training.questions`) and only then divided (:mod:`facemllm.training.sharing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facemllm.data import FaceSample
from facemllm.processing.processor import FaceProcessor
from facemllm.processing.references import is_reference
from facemllm.training.crops import CropSet, Joined, checked, crop_dataset, make_crops
from facemllm.training.parallel import Processes


def by_shard(samples: Sequence[FaceSample]) -> dict[str, list[FaceSample]]:
    """Return samples by the shard that their picture is in, under "" those of no shard.

    Example:
        >>> known = {"labels": {}, "dataset": "d", "licence": "t"}
        >>> places = ("a.tar#1.jpg", "a.tar#2.jpg", "b.tar#1.jpg")
        >>> samples = [FaceSample(id=place, image=place, **known) for place in places]
        >>> [(shard, len(found)) for shard, found in by_shard(samples).items()]
        [('a.tar', 2), ('b.tar', 1)]
    """
    found: dict[str, list[FaceSample]] = {}
    for sample in samples:
        inside = is_reference(sample.image) and sample.image.rpartition("#")[0].lower().endswith(".tar")
        found.setdefault(sample.image.rpartition("#")[0] if inside else "", []).append(sample)
    return found


def crops_of(
    name: str,
    samples: Sequence[FaceSample],
    processor: FaceProcessor,
    *,
    cache: Path,
    processes: Processes,
    detector: Any = "centerface",
    progress: bool = True,
) -> CropSet:
    """Return the crops of a dataset; those of shards are made by all processes, others by the main one.

    Args:
        name: Of the dataset.
        samples: Those of a shard stand together.
        processor: Of the model.
        cache: A folder that all processes see.
        processes: Among which shards are divided; all of them call this together.
        detector: Name or instance of a face detector.
        progress: Whether to show bars.

    Raises:
        DatasetError: If no sample has a readable picture.
    """
    options: dict[str, Any] = {"cache": cache, "detector": detector, "progress": progress}
    shards = by_shard(samples)
    if len(shards) < 2:
        return processes.first(lambda: crop_dataset(name, samples, processor, **options))

    def crop(shard: str) -> CropSet:
        return make_crops(f"{name}-{Path(shard).name}", shards[shard], processor, **options)

    own = list(shards)[processes.rank :: processes.count]
    processes.agree(lambda: [len(crop(shard)) for shard in own])
    processes.wait()
    pieces = [crop(shard) for shard in shards]  # they are there now
    pixels = Joined([piece.pixels for piece in pieces if isinstance(piece.pixels, np.ndarray)])
    return checked(CropSet(name, tuple(s for piece in pieces for s in piece.samples), pixels), samples)
