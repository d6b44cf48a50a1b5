import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from facemllm.processing import reading
from facemllm.processing.plain_jpeg import read_plain_jpeg
from facemllm.processing.reading import load_image

NOISE = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
PHOTO = Image.fromarray(NOISE).resize((122, 90), Image.Resampling.BICUBIC)
# Written by hand from the TIFF specification: header, offset of the first directory, its number of entries.
EMPTY = {"MM": b"MM\0\x2a\0\0\0\x08\0\0\0\0\0\0", "II": b"II\x2a\0\x08\0\0\0\0\0\0\0\0\0"}


def encoded(image: Image.Image = PHOTO, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(data: bytes) -> Image.Image | None:
    return read_plain_jpeg(data, least=8, most=1_000_000)


def opened(data: bytes) -> bytes:
    """The pixels as Pillow's own way in gives them."""
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def segment(kind: int, body: bytes) -> bytes:
    return bytes((0xFF, kind)) + (len(body) + 2).to_bytes(2, "big") + body


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def frame_at(data: bytes) -> int:
    return data.index(b"\xff\xc0\x00\x11")


ORDINARY = {
    "as usual": encoded(),
    "whole chroma": encoded(subsampling=0, quality=97),
    "half chroma": encoded(subsampling=1),
    "progressive": encoded(progressive=True),
    "restarts": encoded(restart_marker_blocks=3),
    "comment": encoded(comment=b"of a face"),
    "one table": encoded(optimize=True, quality=20),
    "grey": encoded(PHOTO.convert("L")),
    "narrow": encoded(PHOTO.crop((0, 0, 8, 90))),
    "empty Exif, MM": encoded(exif=b"Exif\0\0" + EMPTY["MM"]),
    "empty Exif, II": encoded(exif=b"Exif\0\0" + EMPTY["II"]),
}
GOOD = ORDINARY["as usual"]
OTHER = {
    "turned": encoded(exif=turned(6)),
    "upright, and says so": encoded(exif=turned(1)),
    "turned by XMP": encoded(xmp=b'<rdf:Description tiff:Orientation="6"/>'),
    "CMYK": encoded(PHOTO.convert("CMYK")),
    "profile": encoded(icc_profile=b"a profile of colours"),
    "many": encoded(kind="MPO", save_all=True, append_images=[PHOTO]),
    "cut in the pixels": GOOD[:-200],
    "cut in the header": GOOD[:100],
    "no frame": GOOD[: frame_at(GOOD)] + GOOD[frame_at(GOOD) + 19 :],
    "a second frame": GOOD[: frame_at(GOOD)]
    + segment(0xC0, bytes((8, 0, 8, 0, 8, 3, 1, 34, 0, 2, 17, 1, 3, 17, 1)))
    + GOOD[frame_at(GOOD) :],
    "12 bits": GOOD.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "a gap": GOOD[: frame_at(GOOD)] + b"\xff" + GOOD[frame_at(GOOD) :],
    "a segment without length": GOOD[:2] + b"\xff\xfe\x00\x00" + GOOD[2:],
    "no JFIF": GOOD.replace(b"JFIF\0", b"JFXX\0"),
    "no markers": b"\xff\xd8" + bytes(50),
    "nothing": b"",
    "PNG": encoded(kind="PNG"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_jpeg_has_the_pixels_that_pillow_opens(name):
    image = plain(ORDINARY[name])
    assert image is not None
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    assert image.tobytes() == opened(ORDINARY[name])


@pytest.mark.parametrize("name", OTHER)
def test_all_else_is_left_to_the_thorough_way(name):
    assert plain(OTHER[name]) is None


def test_too_small_and_too_large_ones_are_left_too():
    assert read_plain_jpeg(GOOD, least=90, most=122 * 90) is not None
    assert read_plain_jpeg(GOOD, least=91, most=122 * 90) is None
    assert read_plain_jpeg(GOOD, least=90, most=122 * 90 - 1) is None


def test_who_takes_pictures_cut_short_gets_them(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert load_image(OTHER["cut in the pixels"]).size == PHOTO.size


def test_damage_is_seen_as_pillow_sees_it():
    rng = np.random.default_rng(0)
    same = 0
    for turn in range(600):
        data = bytearray(list(ORDINARY.values())[turn % len(ORDINARY)])
        place = rng.integers(0, 650 if turn % 2 else len(data), 2)  # every other time in the header
        data[place[0] % len(data)] = rng.integers(256)
        data[place[1] % len(data)] ^= 1 << rng.integers(8)
        image = plain(bytes(data))
        if image is not None:
            assert image.tobytes() == opened(bytes(data))
            same += 1
    assert same > 100  # it does not refuse what is worth reading


KINDS = {
    **ORDINARY,
    **{
        name: OTHER[name]
        for name in ("turned", "upright, and says so", "turned by XMP", "CMYK", "profile", "many")
    },
    "16-bit grey PNG": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 250), "PNG"),
    "palette": encoded(PHOTO.quantize(16), "PNG"),
    "alpha": encoded(PHOTO.convert("RGBA"), "PNG"),
    "animated": encoded(kind="GIF", save_all=True, append_images=[PHOTO.convert("L")]),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_short_way_changes_no_pixel_of_any_kind(name, monkeypatch, tmp_path):
    (tmp_path / "photo").write_bytes(KINDS[name])
    taken = [load_image(KINDS[name]), load_image(tmp_path / "photo")]
    monkeypatch.setattr(reading, "read_plain_jpeg", lambda *_, **__: None)
    thorough = load_image(KINDS[name])
    assert all(image.size == thorough.size for image in taken)
    assert all(image.tobytes() == thorough.tobytes() for image in taken)


@pytest.mark.parametrize("name", ["celeba", "lfw", "utkface", "fairface", "fer2013", "HeadPoseImageDatabase"])
def test_the_pictures_of_datasets_are_ordinary(name):
    root = os.environ.get("FACEMLLM_DATA")
    paths = sorted(Path(root, name).rglob("*.jpg"))[:40] if root else []
    if not paths:
        pytest.skip("FACEMLLM_DATA does not name a folder with this dataset")
    for path in paths:
        image = plain(path.read_bytes())
        assert image is not None, path
        assert image.tobytes() == opened(path.read_bytes())
