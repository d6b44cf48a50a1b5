"""The shortest way from the bytes of an ordinary JPEG to its pixels; for all others there is the long one.

Most pictures of datasets are JPEGs of a few kilobytes, of which Pillow's look at the header and its reading
piece by piece take a seventh of the time. Here the header is walked for what has to be known
beforehand, and Pillow's own decoder gets the whole file at once, with the same settings and the same pixels.
"""

from __future__ import annotations

from PIL import Image, ImageFile

# What an ordinary header is made of: tables of both kinds (DQT, DHT), restart interval, comment.
_SKIPPED = frozenset((0xDB, 0xC4, 0xDD, 0xFE))
_FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # SOF0 to SOF2: baseline, extended, progressive
_JFIF, _EXIF, _SCAN = 0xE0, 0xE1, 0xDA
_MODES = {1: "L", 3: "RGB"}
# Exif whose first directory has no entries, in either order of bytes: it turns nothing. CelebA has these.
_EMPTY_EXIF = (b"Exif\0\0MM\0*\0\0\0\x08\0\0", b"Exif\0\0II*\0\x08\0\0\0\0\0")


def read_plain_jpeg(data: bytes, *, least: int, most: int) -> Image.Image | None:
    """Decode an ordinary JPEG, or return None for whatever is not one and for what does not decode.

    Ordinary is grey or colour of 8 bits, baseline or progressive, complete, with no metadata that could turn
    it. What comes of all else, a picture or an error, is for the caller's thorough way to say.

    Args:
        data: A whole file.
        least: Pixels of the shorter side below which it is left to the caller.
        most: Pixels in all above which it is left to the caller.

    Returns:
        A picture in mode RGB that is nobody else's.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (20, 10), "red").save(file, "JPEG")
        >>> read_plain_jpeg(file.getvalue(), least=8, most=1000).size
        (20, 10)
        >>> read_plain_jpeg(file.getvalue(), least=8, most=100) is None
        True
    """
    frame = _frame(data)
    if frame is None or ImageFile.LOAD_TRUNCATED_IMAGES:
        return None
    mode, width, height = frame
    if min(width, height) < least or width * height > most:
        return None
    try:
        image = Image.new(mode, (width, height), None)  # every pixel is decoded, or there is no picture
        image.frombytes(data, "jpeg", mode, "")
    except (ValueError, OSError):  # cut short or damaged
        return None
    return image if mode == "RGB" else image.convert("RGB")


def _frame(data: bytes) -> tuple[str, int, int] | None:
    """Return mode, width and height of an ordinary JPEG.

    The decoder writes lines as long as it finds them in the file, into memory of the size found here. So both
    must find it at the same place: segments follow each other without a gap, and one of them is a frame.
    """
    if data[:2] != b"\xff\xd8":
        return None
    found: tuple[str, int, int] | None = None
    at = 2
    try:
        while data[at] == 0xFF:
            kind, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
            if kind == _SCAN:
                return found
            if kind in _FRAMES:
                mode = _MODES.get(data[at + 9])
                if found is not None or mode is None or data[at + 4] != 8 or length != 8 + 3 * data[at + 9]:
                    return None
                found = (mode, data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6])
            elif kind == _JFIF:
                if length < 16 or data[at + 4 : at + 9] != b"JFIF\0":
                    return None
            elif kind == _EXIF:
                if not data.startswith(_EMPTY_EXIF, at + 4, at + 2 + length):
                    return None
            elif kind not in _SKIPPED or length < 2:
                return None
            at += 2 + length
    except IndexError:  # ends within the header
        pass
    return None
