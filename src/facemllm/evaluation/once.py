"""One look at each picture, though a model answers, chooses and predicts: it is searched and encoded once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Detectors:
    """Face detectors that remember what they found, for as long as a batch lasts.

    Example:
        >>> from PIL import Image
        >>> found = []
        >>> def detector(image, min_score=None):
        ...     found.append(image.size)
        ...     return []
        >>> once = Detectors().of(detector)
        >>> once(Image.new("RGB", (8, 8))), once(Image.new("RGB", (8, 8)))
        ([], [])
        >>> found
        [(8, 8)]
    """

    def __init__(self) -> None:
        self._by_name: dict[Any, _Remembered] = {}

    def of(self, detector: Any) -> _Remembered:
        """Return a detector, given by name or as an instance, that remembers."""
        key = detector if isinstance(detector, str) else id(detector)
        return self._by_name.setdefault(key, _Remembered(detector))


class _Remembered:
    def __init__(self, detector: Any) -> None:
        self._detector = detector
        self._found: dict[Any, Any] = {}

    def __call__(self, image: Any, min_score: float | None = None) -> Any:
        key = (_pixels(image), min_score)
        if key not in self._found:
            if isinstance(self._detector, str):
                from facemllm.faces import create_detector

                self._detector = create_detector(self._detector)
            self._found[key] = self._detector(image, min_score=min_score)
        return list(self._found[key])


@contextmanager
def looking_once(model: Any) -> Iterator[Detectors]:
    """Let a FaceMLLM encode each crop once, and its detector look once, while a batch is asked about.

    Trunks that it reads are forgotten with the batch: no picture of an evaluation comes again, and a cache
    that fills with their keys and values would grow with the number of pictures. What the model remembered
    before, it remembers afterwards.
    """
    encode, cache = getattr(model, "encode", None), getattr(model, "trunk_cache", None)
    if not callable(encode) or "encode" in vars(model) or cache is None:
        yield Detectors()
        return
    model.encode = _remembering(encode)
    model.trunk_cache = copy.deepcopy(cache)  # as large, and empty
    try:
        yield Detectors()
    finally:
        del model.encode
        model.trunk_cache = cache


def _remembering(encode: Any) -> Any:
    import torch

    kept: dict[Any, Any] = {}

    def once(crops: Sequence[Any]) -> Any:
        keys = [_pixels(crop) for crop in crops]
        new = {key: crop for key, crop in zip(keys, crops, strict=True) if key not in kept}
        if new:
            kept.update(zip(new, encode(list(new.values())), strict=True))
        return torch.stack([kept[key] for key in keys])

    return once


def _pixels(image: Any) -> bytes:
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).digest()
