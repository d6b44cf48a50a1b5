"""Pictures in: almost anything to upright 8-bit RGB, or an error that says what is wrong."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from facemllm.core.errors import ImageError
from facemllm.processing.plain_jpeg import read_plain_jpeg
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
_AT_ONCE = 1 << 24  # bytes; a file up to this size is read in one piece, which is quicker than piece by piece
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
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
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if is_reference(text) and not Path(text).exists():
            return _from_bytes(read_reference(text), text)
        return _from_path(text)
    if isinstance(source, Image.Image):
        return _calmly(_clean, source, "a PIL image")
    if isinstance(source, torch.Tensor):
        return _clean(_from_tensor(source), "a tensor")
    if isinstance(source, np.ndarray):
        return _clean(_from_array(source), "an array")
    if hasattr(source, "read"):
        source = source.read()
        source = source if isinstance(source, bytes) else b""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), f"{len(source)} bytes")
    raise ImageError(
        "cannot read a picture",
        given=f"an object of type {type(source).__name__}",
        expected="a path, bytes, a PIL image, an array or a tensor",
        do="pass one picture; for many, pass a list to the model's methods",
    )


def _from_path(text: str) -> Image.Image:
    """Read a regular file; a pipe or a device is not waited for."""
    if text.split(":", 1)[0].lower() in ("http", "https", "ftp", "s3", "gs", "data"):
        raise ImageError(
            "cannot read a picture from an address",
            given=text[:80],
            expected="a file",
            do="download the picture first and pass its path",
        )
    # As text, and by its number: datasets are read path by path, and a file object is dear for one reading.
    path = os.path.expanduser(text)  # noqa: PTH111
    try:  # opened first and looked at then: one walk along the path instead of two
        number = os.open(path, _READ)
    except PermissionError:
        raise  # whose message names the file and says more than that it is not there
    except (OSError, ValueError):  # a name the system cannot hold
        raise _nowhere(text, "does not exist") from None
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise _nowhere(text, "is a folder" if stat.S_ISDIR(found.st_mode) else "is a device")
        if found.st_size > _AT_ONCE or len(data := os.read(number, found.st_size)) < found.st_size:
            with open(number, "rb", closefd=False) as file:
                file.seek(0)
                return _calmly(_decode, file, path)  # decoded while the file is open
    finally:
        os.close(number)
    return _from_bytes(data, path)


def _from_bytes(data: bytes, name: str) -> Image.Image:
    plain = read_plain_jpeg(data, least=MIN_SIDE, most=MAX_PIXELS)
    if plain is not None:
        return plain
    # Only metadata is warned about here, and a JPEG without Exif has none that Pillow reads.
    quiet = data.startswith(_JPEG) and b"Exif" not in data
    return _decode(io.BytesIO(data), name) if quiet else _calmly(_decode, io.BytesIO(data), name)


def _calmly(work: Callable[..., Image.Image], *given: Any) -> Image.Image:
    """Work without warnings, but for that of a huge picture, which becomes an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)  # odd metadata does not spoil a photo
        return work(*given)


def _decode(file: IO[bytes], name: str) -> Image.Image:
    """Read the picture in a file, which must stay open until then."""
    head = file.read(16)
    file.seek(0)
    if head.startswith(_JPEG):  # known beforehand: to look at all formats takes longer than a photo's header
        return _clean(_open_jpeg(file, name, head), name, own=True)
    Image.init()
    try:
        image = Image.open(file, formats=[kind for kind in _FORMATS if kind in Image.OPEN])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name) from None
    except Exception as error:  # noqa: BLE001 (broken headers raise nearly anything)
        raise _unreadable(name, head, error) from None
    return _clean(image, name)


def _open_jpeg(file: IO[bytes], name: str, head: bytes) -> Image.Image:
    try:
        jpeg = JpegImageFile(file)  # unlike Image.open, does not stop at the size in the header
    except Exception as error:  # noqa: BLE001 (as above)
        raise _unreadable(name, head, error) from None
    if jpeg.width * jpeg.height > MAX_PIXELS:
        if jpeg.info.get("progressive"):  # libjpeg then holds all coefficients in memory, reduced or not
            raise _too_large(name)
        jpeg.draft("RGB", (_REDUCED_SIDE, _REDUCED_SIDE))
    return jpeg


def _clean(image: Image.Image, name: str, *, own: bool = False) -> Image.Image:
    """Decode, turn upright and convert to RGB; a JPEG that is our ``own`` need not be left as it is."""
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
        if not own or "exif" in image.info or "xmp" in image.info:  # elsewhere, a JPEG has no orientation
            image = _upright(image)
        return image if own and image.mode == "RGB" else _to_rgb(image)  # nobody else holds these pixels
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


def _nowhere(text: str, why: str) -> ImageError:
    return ImageError(
        "cannot open a picture",
        given=f"{text[:200]!r}, which {why}",
        expected=_READABLE,
        do="check the path; pass one file at a time",
    )


def _unreadable(name: str, head: bytes, error: Exception) -> ImageError:
    heic = head[4:8] == b"ftyp"
    return ImageError(
        "cannot read a picture",
        given=f"{name} ({'empty' if not head else 'HEIC or a film' if heic else type(error).__name__})",
        expected=_READABLE,
        do="for HEIC photos, pip install pillow-heif and call its register_heif_opener()"
        if heic
        else "open it in a viewer; convert or replace it",
    )


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
