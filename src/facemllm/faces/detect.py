"""One function for all detectors: the faces in a picture, most prominent first."""

from __future__ import annotations

from typing import Any

from PIL import Image

from facemllm.core.errors import FaceMLLMError
from facemllm.faces.base import DETECTORS, Face, FaceDetector


def create_detector(detector: str | FaceDetector = "centerface", **options: Any) -> FaceDetector:
    """Build a detector by name, or return the instance given.

    Raises:
        RegistryError: If the name is unknown.
        FaceMLLMError: If options are given with an instance, or it cannot be called.
    """
    if isinstance(detector, str):
        return DETECTORS.create(detector, **options)
    if not callable(detector) or options:
        raise FaceMLLMError(
            "cannot use a detector",
            given=f"{type(detector).__name__} with options {sorted(options)}",
            expected="a name, or a callable without options",
            do="pass the options when you build the instance",
        )
    return detector


def detect_faces(
    image: Any,
    detector: str | FaceDetector = "centerface",
    *,
    min_score: float | None = None,
    **options: Any,
) -> list[Face]:
    """Find all faces in a picture.

    Args:
        image: A photo: anything :func:`facemllm.processing.image.load_image` reads.
        detector: A name ("centerface", "yunet", "insightface", or one of another package), or an instance.
        min_score: Least confidence; None takes the detector's default.
        **options: For the detector, when it is given by name.

    Returns:
        Faces, largest area times score first. An empty list if there are none.

    Example:
        >>> detect_faces(Image.new("RGB", (64, 64)))  # doctest: +SKIP
        []
    """
    from facemllm.processing.image import load_image

    picture = image if isinstance(image, Image.Image) and image.mode == "RGB" else load_image(image)
    faces = create_detector(detector, **options)(picture, min_score=min_score)
    return sorted(faces, key=lambda face: face.area * face.score, reverse=True)
