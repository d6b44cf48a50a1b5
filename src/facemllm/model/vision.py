"""From a photo to the crops a model looks at: one way for training, evaluation and answering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from facemllm.core.errors import FaceMLLMError, NoFaceError
from facemllm.faces import Face, detect_faces
from facemllm.processing.image import load_image
from facemllm.processing.processor import FaceProcessor

CropMode = Literal["face", "none"]
OnNoFace = Literal["error", "whole"]


@dataclass(frozen=True)
class View:
    """A crop that is shown to the encoder, and the face it was made from (None: the whole picture)."""

    crop: Image.Image
    face: Face | None


def views(
    image: Any,
    processor: FaceProcessor,
    *,
    crop: str = "face",
    on_no_face: str = "error",
    detector: Any = "centerface",
) -> list[View]:
    """Return a view of every face in a picture, the most prominent first.

    Args:
        image: Anything :func:`facemllm.processing.image.load_image` reads.
        processor: Of the model that will look.
        crop: "face" to detect faces; "none" to take the picture as a face crop.
        on_no_face: "error", or "whole" to take the whole picture where no face is found.
        detector: Name or instance of a face detector.

    Raises:
        NoFaceError: If no face is found and ``on_no_face`` is "error".
        ImageError: If the picture cannot be read.
        FaceMLLMError: If an option is none of its values.
    """
    for name, value, allowed in (
        ("crop", crop, ("face", "none")),
        ("on_no_face", on_no_face, ("error", "whole")),
    ):
        if value not in allowed:
            raise FaceMLLMError(
                f"cannot use {name}",
                given=repr(value),
                expected=" or ".join(map(repr, allowed)),
                do=f"choose one for {name}",
            )
    picture = load_image(image)
    faces = detect_faces(picture, detector) if crop == "face" else []
    if faces:
        return [View(processor.crop(picture, face.box, face.landmarks).image, face) for face in faces]
    if crop == "face" and on_no_face == "error":
        raise NoFaceError(
            "no face found",
            given=f"a picture of {picture.width}x{picture.height} pixels"
            + (f" ({image})" if isinstance(image, str) else ""),
            expected="at least one visible face",
            do="use a clearer or closer photo; if it already is a face crop, pass crop='none' (--crop none)",
        )
    return [View(processor.crop(picture).image, None)]
