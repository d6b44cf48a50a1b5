"""Pictures in: almost anything to upright 8-bit RGB, or an error that says what is wrong."""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from facemllm.core.errors import ImageError
from facemllm.processing.references import is_reference, read_reference

MIN_SIDE = 8
"""Pictures with a shorter side (pixels) hold nothing to see."""

MAX_PIXELS = 89_478_485
"""Larger pictures are decoded reduced (JPEG) or refused; Pillow warns from this size on as well."""

# Formats worth decoding. Pillow knows more, some of which start other programs (EPS runs Ghostscript).
_FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "HEIF", "PPM", "TGA", "ICO",
)  # fmt: skip
_JPEG = b"\xff\xd8\xff"
_READABLE = "a photo as JPEG, PNG, WebP, GIF, BMP or TIFF"
_REDUCED_SIDE = 4096  # a JPEG over MAX_PIXELS is decoded to at least this, in half to an eighth of its size


def load_image(source: Any) -> Image.Image:
    """Read a picture from almost anything and return it upright, as 8-bit RGB.

    EXIF orientation is applied; transparency is laid over white; of an animation the first frame is taken;
    16-bit greys are scaled; a JPEG over :data:`MAX_PIXELS` is decoded at reduced size.

    Args:
        source: A path, a reference such as ``shard.tar#photo.jpg``, bytes of a file,
            an open binary file, a PIL image, an array [height, width] or
            [height, width, 1|3|4] (uint8, uint16, bool, or float in [0, 1]), or a tensor
            [1|3|4, height, width] with the same kinds of values.

    Raises:
        ImageError: If there is no such picture, it is broken, too small or too large.

    Example:
        >>> import numpy as np
        >>> load_image(np.zeros((10, 20, 3), dtype=np.uint8)).size
        (20, 10)
    """
    # Once for all steps: a context of its own for each costs as much as reading a photo's header.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)  # odd metadata does not spoil a photo
        return _load(source)


def _load(source: Any) -> Image.Image:
    if isinstance(source, Image.Image):
        name, image = "a PIL image", source
    elif isinstance(source, torch.Tensor):
        name, image = "a tensor", _from_tensor(source)
    elif isinstance(source, np.ndarray):
        name, image = "an array", _from_array(source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name, image = f"{len(source)} bytes", _open(io.BytesIO(source), f"{len(source)} bytes")
    elif isinstance(source, str) and is_reference(source) and not Path(source).exists():
        return _load(read_reference(source))
    elif isinstance(source, (str, os.PathLike)):
        with _opened(source) as file:
            name = file.name
            return _clean(_open(file, name), name, own=True)  # decoded while the file is open
    elif hasattr(source, "read"):
        data = source.read()
        return _load(data if isinstance(data, bytes) else b"")
    else:
        raise ImageError(
            "cannot read a picture",
            given=f"an object of type {type(source).__name__}",
            expected="a path, bytes, a PIL image, an array or a tensor",
            do="pass one picture; for many, pass a list to the model's methods",
        )
    return _clean(image, name)


def _opened(source: str | os.PathLike[str]) -> Any:
    """Open a regular file; a pipe or a device is not waited for."""
    text = os.fspath(source)
    if text.split(":", 1)[0].lower() in ("http", "https", "ftp", "s3", "gs", "data"):
        raise ImageError(
            "cannot read a picture from an address",
            given=text[:80],
            expected="a file",
            do="download the picture first and pass its path",
        )
    path = os.path.expanduser(text)  # noqa: PTH111 (as strings: datasets are read path by path)
    try:  # opened first and looked at then: one walk along the path instead of two
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (as above; the caller closes)
    except PermissionError:
        raise  # whose message names the file and says more than that it is not there
    except IsADirectoryError:
        kind = "a folder"
    except (OSError, ValueError):  # a name the system cannot hold
        kind = "nothing"
    else:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        kind = "a device"
    raise ImageError(
        "cannot open a picture",
        given=f"{text[:200]!r}, which is {kind}",
        expected=_READABLE,
        do="check the path; pass one file at a time",
    )


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open(file: Any, name: str) -> Image.Image:
    """Open without decoding. ``file`` must stay open until the image is loaded."""
    head = file.read(16)
    file.seek(0)
    formats = ["JPEG"]
    if not head.startswith(_JPEG):  # only then, as looking at all formats takes longer than a photo's header
        Image.init()
        formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        return Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        if not head.startswith(_JPEG):
            raise _too_large(name) from None
    except Exception as error:  # noqa: BLE001 (broken headers raise nearly anything)
        heic = head[4:8] == b"ftyp"
        raise ImageError(
            "cannot read a picture",
            given=f"{name} ({'empty' if not head else 'HEIC or a film' if heic else type(error).__name__})",
            expected=_READABLE,
            do="for HEIC photos, pip install pillow-heif and call its register_heif_opener()"
            if heic
            else "open it in a viewer; convert or replace it",
        ) from None
    file.seek(0)
    try:
        jpeg = JpegImageFile(file)  # unlike Image.open, does not stop at the size in the header
    except Exception as error:  # noqa: BLE001 (as above)
        raise _broken(name, error) from None
    if jpeg.info.get("progressive"):  # libjpeg then holds all coefficients in memory, reduced or not
        raise _too_large(name)
    jpeg.draft("RGB", (_REDUCED_SIDE, _REDUCED_SIDE))
    return jpeg


def _clean(image: Image.Image, name: str, *, own: bool = False) -> Image.Image:
    """Decode, turn upright and convert to RGB; a picture that is our ``own`` need not be left as it is."""
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
        image.load()
        image = _upright(image)
        if own and type(image) is JpegImageFile and image.mode == "RGB":
            return image._new(image.im)  # what copy() does, but for the pixels: nobody else holds them
        return _to_rgb(image)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 (broken data raises OSError, SyntaxError, struct.error, ...)
        raise _broken(name, error) from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image  # which would copy even an upright one
    except Exception:  # noqa: BLE001 (unreadable EXIF data; the photo itself is fine)
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
    if (
        array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
        or array.dtype.kind not in "buif"
    ):
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


def _broken(name: str, error: Exception) -> ImageError:
    return ImageError(
        "a picture is broken",
        given=f"{name} ({error or type(error).__name__})",
        expected="a complete file",
        do="copy or download it again",
    )


def _too_large(name: str) -> ImageError:
    return ImageError(
        "a picture is too large",
        given=name,
        expected=f"at most {MAX_PIXELS / 1e6:.0f} million pixels; more in a baseline JPEG, read reduced",
        do="resize it first",
    )


def _bad_array(shape: Any, dtype: Any, expected: str) -> ImageError:
    return ImageError(
        "an array is not a picture",
        given=f"shape {tuple(shape)}, {dtype}",
        expected=expected,
        do="convert it, or pass a PIL image",
    )
