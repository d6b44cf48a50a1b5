"""Pictures in: any photo to clean RGB, a face to a square crop, a crop to a tensor.

Training and inference go through the same three functions, so they see the same pixels. Coordinates are
continuous pixels (see :mod:`facemllm.processing.alignment`).
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from facemllm.core.errors import ImageError
from facemllm.processing.alignment import (
    Points,
    as_landmarks,
    canonical_landmarks,
    invert_transform,
    similarity_transform,
    transform_points,
)

MIN_SIDE = 8
"""Pictures with a shorter side (pixels) hold nothing to see."""

MAX_PIXELS = 89_478_485
"""Larger pictures are decoded reduced (JPEG) or refused; Pillow warns from this size on as well."""

# Formats worth decoding. Pillow knows more, some of which start other programs (EPS runs Ghostscript).
_FORMATS = "JPEG MPO PNG WEBP GIF BMP TIFF JPEG2000 AVIF HEIF PPM TGA ICO".split()
_READABLE = "a photo as JPEG, PNG, WebP, GIF, BMP or TIFF"
_REDUCED_SIDE = 4096  # a JPEG over MAX_PIXELS is decoded to at least this, in half to an eighth of its size


@dataclass(frozen=True)
class Crop:
    """A square cut out of a picture.

    Attributes:
        image: The cut, RGB, ``size`` x ``size``.
        landmarks: Five points [5, 2] in pixels of the cut, or None.
        matrix: Transform [2, 3] from the picture to the cut.
    """

    image: Image.Image
    landmarks: Points | None
    matrix: Points

    def to_picture(self, points: Any) -> Points:
        """Return ``points`` [P, 2] of the cut in pixels of the picture it came from."""
        return transform_points(points, invert_transform(self.matrix))


def load_image(source: Any) -> Image.Image:
    """Read a picture from almost anything and return it upright, as 8-bit RGB.

    EXIF orientation is applied; transparency is laid over white; of an animation the first frame is taken;
    16-bit greys are scaled; a JPEG over :data:`MAX_PIXELS` is decoded at reduced size.

    Args:
        source: A path, bytes of a file, an open binary file, a PIL image, an array [height, width] or
            [height, width, 1|3|4] (uint8, uint16, bool, or float in [0, 1]), or a tensor
            [1|3|4, height, width] with the same kinds of values.

    Raises:
        ImageError: If there is no such picture, it is broken, too small or too large.

    Example:
        >>> import numpy as np
        >>> load_image(np.zeros((10, 20, 3), dtype=np.uint8)).size
        (20, 10)
    """
    if isinstance(source, Image.Image):
        name, image = "a PIL image", source
    elif isinstance(source, torch.Tensor):
        name, image = "a tensor", _from_tensor(source)
    elif isinstance(source, np.ndarray):
        name, image = "an array", _from_array(source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name, image = f"{len(source)} bytes", _open(io.BytesIO(source), f"{len(source)} bytes")
    elif isinstance(source, (str, os.PathLike)):
        path = _existing_file(source)
        name = str(path)
        with path.open("rb") as file:
            return _clean(_open(file, name), name)  # decoded while the file is open
    elif hasattr(source, "read"):
        data = source.read()
        return load_image(data if isinstance(data, bytes) else b"")
    else:
        raise ImageError(
            "cannot read a picture",
            given=f"an object of type {type(source).__name__}",
            expected="a path, bytes, a PIL image, an array or a tensor",
            do="pass one picture; for many, pass a list to the model's methods",
        )
    return _clean(image, name)


def crop_face(
    image: Image.Image,
    box: Sequence[float],
    landmarks: Any = None,
    size: int = 112,
    scale: float = 1.3,
    align: bool = False,
) -> Crop:
    """Cut a face out as a square, with antialiasing; landmarks move with the pixels.

    Beyond the picture's border its edge pixels are repeated: a black frame would be a strong artificial edge
    that tells a model where in the photo the face was, and that tight dataset crops would not have.

    Args:
        image: RGB picture.
        box: x1, y1, x2, y2 in pixels; it may reach over the border.
        landmarks: Five points [5, 2] in pixels of the picture, if known.
        size: Side of the cut, in pixels.
        scale: Side of the cut over the longer side of the box; when aligning, over the tight aligned crop.
        align: Rotate and scale so that the landmarks come nearest to the canonical face.

    Raises:
        ImageError: If the box is empty or outside the picture, or landmarks are missing or not five points.

    Example:
        >>> photo = Image.new("RGB", (100, 80))
        >>> crop = crop_face(photo, (40, 30, 60, 50), landmarks=[[50, 40]] * 5, size=64, scale=1.6)
        >>> crop.image.size, crop.landmarks[0].tolist()
        ((64, 64), [32.0, 32.0])
    """
    points = None if landmarks is None else as_landmarks(landmarks)
    if size < 1 or not scale > 0:
        raise ImageError("cannot crop", given=f"size={size}, scale={scale}", expected="positive numbers", do="correct them")
    x1, y1, x2, y2 = _checked_box(box, image.size, scale)
    if align:
        if points is None:
            raise ImageError(
                "cannot align a face", given="no landmarks", expected="five landmarks", do="detect the face, or pass align=False"
            )
        matrix = similarity_transform(points, canonical_landmarks(size, scale))
    else:
        zoom = size / (scale * max(x2 - x1, y2 - y1))
        matrix = np.array(
            [[zoom, 0.0, size / 2 - zoom * (x1 + x2) / 2], [0.0, zoom, size / 2 - zoom * (y1 + y2) / 2]]
        )
    moved = None if points is None else transform_points(points, matrix)
    return Crop(_warp(image, matrix, size), moved, matrix)


def to_tensor(
    image: Image.Image,
    size: int,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> torch.Tensor:
    """Resize a picture to a square and normalise it.

    Args:
        image: RGB picture.
        size: Side of the result S, in pixels.
        mean: Of the channels, values in [0, 1].
        std: Of the channels, values in [0, 1].

    Returns:
        Tensor [3, S, S], float32.

    Example:
        >>> to_tensor(Image.new("RGB", (9, 9), "white"), size=4)[:, 0, 0].tolist()
        [1.0, 1.0, 1.0]
    """
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1) / 255.0
    return ((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).contiguous()


# --- reading


def _existing_file(source: str | os.PathLike[str]) -> Path:
    text = os.fspath(source)
    if text.split(":", 1)[0].lower() in ("http", "https", "ftp", "s3", "gs", "data"):
        raise ImageError(
            "cannot read a picture from an address", given=text[:80], expected="a file", do="download the picture first and pass its path"
        )
    path = Path(text).expanduser()
    try:
        kind = "a folder" if path.is_dir() else "a file" if path.is_file() else "nothing" if not path.exists() else "a device"
    except (OSError, ValueError):  # a name the system cannot hold
        kind = "nothing"
    if kind != "a file":
        raise ImageError(
            "cannot open a picture", given=f"{text[:200]!r}, which is {kind}", expected=_READABLE, do="check the path; pass one file at a time"
        )
    return path


def _open(file: Any, name: str) -> Image.Image:
    """Open without decoding. ``file`` must stay open until the image is loaded."""
    head = file.read(16)
    file.seek(0)
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # odd metadata does not spoil a photo
            return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        if not head.startswith(b"\xff\xd8\xff"):
            raise _too_large(name) from None
    except Exception as error:  # broken headers raise nearly anything
        heic = head[4:8] == b"ftyp"
        raise ImageError(
            "cannot read a picture",
            given=f"{name} ({'empty' if not head else 'HEIC or a film' if heic else type(error).__name__})",
            expected=_READABLE,
            do="for HEIC photos, pip install pillow-heif and call its register_heif_opener()" if heic else "open it in a viewer; convert or replace it",
        ) from None
    file.seek(0)
    try:
        jpeg = JpegImageFile(file)  # unlike Image.open, does not stop at the size in the header
    except Exception as error:
        raise _broken(name, error) from None
    if jpeg.info.get("progressive"):  # libjpeg then holds all coefficients in memory, reduced or not
        raise _too_large(name)
    jpeg.draft("RGB", (_REDUCED_SIDE, _REDUCED_SIDE))
    return jpeg


def _clean(image: Image.Image, name: str) -> Image.Image:
    """Decode, turn upright and convert to RGB."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(f"{name}, {width}x{height} pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            "a picture is too small",
            given=f"{name}, {width}x{height} pixels",
            expected=f"at least {MIN_SIDE} pixels a side",
            do="use a larger picture; faces are read well from about 48 pixels on",
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning)
            image.load()
            image = _to_rgb(_upright(image))
    except ImageError:
        raise
    except Exception as error:  # broken data raises nearly anything: OSError, SyntaxError, struct.error, ...
        raise _broken(name, error) from None
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF data: the photo itself is fine, and says nothing about its orientation
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # 16- or 32-bit greys; Pillow's own conversion would clip them at 255
        values = np.asarray(image)
        if image.mode == "F" and values.max() > 1:  # float TIFF files come in either scale
            values = values / (255.0 if values.max() <= 255 else 65535.0)
        return _from_array(values).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" or type(image) is not Image.Image else image.copy()


def _from_tensor(tensor: torch.Tensor) -> Image.Image:
    array = tensor.detach().cpu()
    if array.is_floating_point():
        array = array.float()
    if array.ndim == 3:
        if array.shape[0] not in (1, 3, 4):
            raise _bad_array(array.shape, array.dtype, "a tensor [3, height, width] (channels first)")
        array = array.permute(1, 2, 0)
    return _from_array(array.numpy())


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    expected = "[height, width] or [height, width, 1|3|4] of uint8, or of float in [0, 1]"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.dtype.kind not in "buif":
        raise _bad_array(array.shape, array.dtype, expected)
    if array.size and array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        kind, width = array.dtype.kind, array.dtype.itemsize
        top = 1 if kind in "bf" else 65535 if (kind == "u" and width == 2) or high > 255 else 255
        # One per cent of tolerance: resizing or normalising and back leaves values a little outside.
        if not -0.01 * top <= low <= high <= 1.01 * top:  # also false for NaN
            raise _bad_array(array.shape, array.dtype, f"{expected}; values are from {low:g} to {high:g}")
        array = (np.clip(array.astype(np.float32) / top, 0, 1) * 255).round().astype(np.uint8)
    if 0 in array.shape:
        raise _bad_array(array.shape, array.dtype, expected)
    return Image.fromarray(np.ascontiguousarray(array))


# --- cutting


def _checked_box(box: Sequence[float], picture: tuple[int, int], scale: float) -> tuple[float, float, float, float]:
    values = [float(value) for value in box]
    if len(values) == 4 and all(map(math.isfinite, values)):
        x1, y1, x2, y2 = values
        inside = min(x2, picture[0]) > max(x1, 0) and min(y2, picture[1]) > max(y1, 0)
        # The side is bounded so that a mistaken box cannot ask for gigabytes of padding.
        if inside and scale * max(x2 - x1, y2 - y1) <= 16 * max(picture):
            return x1, y1, x2, y2
    raise ImageError(
        "a face box does not fit the picture",
        given=[round(value, 2) for value in values],
        expected=f"x1 < x2 and y1 < y2 that overlap a picture of {picture[0]}x{picture[1]} pixels",
        do="pass pixels, not fractions, as x1, y1, x2, y2",
    )


def _warp(image: Image.Image, matrix: Points, size: int) -> Image.Image:
    """Resample ``image`` through ``matrix`` [2, 3] to ``size`` x ``size``."""
    inverse = invert_transform(matrix)
    corners = transform_points([[0, 0], [size, 0], [0, size], [size, size]], inverse)
    # Two output pixels of margin, so that resampling at the border sees real neighbours.
    step = math.hypot(*inverse[:, 0])
    low, high = corners.min(axis=0) - 2 * step - 2, corners.max(axis=0) + 2 * step + 2
    left, top, right, bottom = (int(v) for v in (*np.floor(low), *np.ceil(high)))
    region = _padded_region(image, left, top, right, bottom)
    if abs(inverse[0, 1]) < 1e-9:  # no rotation: one exact antialiased resize
        (x1, y1), (x2, y2) = corners[0] - (left, top), corners[3] - (left, top)
        return region.resize((size, size), Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))
    # Affine resampling looks at 4x4 pixels only, so shrink by a whole factor first to average the rest.
    factor = max(1, int(step))
    region = region.reduce(factor) if factor > 1 else region
    inverse = (inverse - np.array([[0, 0, left], [0, 0, top]])) / factor
    return region.transform((size, size), Image.Transform.AFFINE, tuple(inverse.ravel()), Image.Resampling.BICUBIC)


def _padded_region(image: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    width, height = image.size
    inner = (min(max(left, 0), width - 1), min(max(top, 0), height - 1), max(min(right, width), 1), max(min(bottom, height), 1))
    region = image.crop(inner)
    pad = (max(-left, 0), max(-top, 0), max(right - width, 0), max(bottom - height, 0))
    if not any(pad):
        return region
    pixels = np.pad(np.asarray(region.convert("RGB")), ((pad[1], pad[3]), (pad[0], pad[2]), (0, 0)), mode="edge")
    return Image.fromarray(pixels)


# --- errors


def _broken(name: str, error: Exception) -> ImageError:
    return ImageError(
        "a picture is broken", given=f"{name} ({error or type(error).__name__})", expected="a complete file", do="copy or download it again"
    )


def _too_large(name: str) -> ImageError:
    return ImageError(
        "a picture is too large",
        given=name,
        expected=f"at most {MAX_PIXELS / 1e6:.0f} million pixels (baseline JPEG may be larger: it is read reduced)",
        do="resize it first",
    )


def _bad_array(shape: Any, dtype: Any, expected: str) -> ImageError:
    return ImageError(
        "an array is not a picture", given=f"shape {tuple(shape)}, {dtype}", expected=expected, do="convert it, or pass a PIL image"
    )
