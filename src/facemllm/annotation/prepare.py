"""From a file to the crop that an annotator sees: filter, read, detect, cut."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from facemllm.annotation.filters import Filter
from facemllm.annotation.items import Item, Prepared, Rejection
from facemllm.core.errors import ImageError
from facemllm.faces import Face, create_detector, detect_faces
from facemllm.processing.image import crop_face, load_image


class FacePreparer:
    """Turns an item into a crop of its most prominent face, or says why not. Safe to call from many threads.

    Args:
        filters: Run in order, first all without the picture, then all with it.
        detector: Name or instance of a face detector.
        crop: "face" to find and cut out the face, "none" if pictures are face crops already.
        crop_size: Largest side of the crop, in pixels; a small face is not enlarged beyond its own pixels.
        crop_scale: Side of the crop over the longer side of the face box: 2 shows hair, ears and neck.
        min_face: Least longer side of the face box, in pixels.
        quality: Of the JPEG.
        **options: For the detector, when it is given by name.
    """

    least = 112  # pixels: below this, models see too little

    def __init__(
        self,
        filters: Sequence[Filter] = (),
        *,
        detector: Any = "centerface",
        crop: str = "face",
        crop_size: int = 448,
        crop_scale: float = 2.0,
        min_face: int = 40,
        quality: int = 92,
        **options: Any,
    ) -> None:
        self.filters, self.crop = tuple(filters), crop
        self.crop_size, self.crop_scale, self.min_face, self.quality = (
            crop_size,
            crop_scale,
            min_face,
            quality,
        )
        if crop == "face" and detector == "centerface":
            # One thread a photo, as photos run side by side.
            options = {"threads": 1, **options}
        self.detector = create_detector(detector, **options) if crop == "face" else None

    def __call__(self, item: Item) -> Prepared | Rejection:
        """Prepare one picture."""
        if item.broken is not None:
            return Rejection("unreadable", item.broken)
        for rule in self.filters:
            if (refused := rule.before(item)) is not None:
                return refused
        try:
            data = item.read()
            picture = load_image(data)
        except (ImageError, OSError) as error:
            return Rejection("unreadable", error.what if isinstance(error, ImageError) else str(error))
        sha256 = hashlib.sha256(data).hexdigest()
        for rule in self.filters:
            if (refused := rule.after(item, sha256, picture.size)) is not None:
                return refused
        if self.detector is None:
            side = min(self.crop_size, max(picture.size))
            whole = picture.copy()
            whole.thumbnail((side, side), Image.Resampling.BICUBIC)
            return Prepared(self._jpeg(whole), sha256, picture.size)
        return self._cut(picture, sha256)

    def _cut(self, picture: Image.Image, sha256: str) -> Prepared | Rejection:
        assert self.detector is not None
        faces = detect_faces(picture, self.detector)
        if not faces:
            return Rejection("no_face", f"{picture.size[0]}x{picture.size[1]} pixels")
        side = _longer_side(faces[0])
        if side < self.min_face:
            return Rejection("face_too_small", f"{side:.0f} pixels, at least {self.min_face} are asked")
        size = max(self.least, min(self.crop_size, round(side * self.crop_scale)))
        try:
            crop = crop_face(picture, faces[0].box, size=size, scale=self.crop_scale).image
        except ImageError as error:
            return Rejection("no_face", error.what)
        return Prepared(self._jpeg(crop), sha256, picture.size, faces[0], len(faces))

    def _jpeg(self, picture: Image.Image) -> bytes:
        """Encode pixels alone: Pillow would carry a file's comment over, which may name a label."""
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(picture)).save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue()


def _longer_side(face: Face) -> float:
    x1, y1, x2, y2 = face.box
    return max(x2 - x1, y2 - y1)
