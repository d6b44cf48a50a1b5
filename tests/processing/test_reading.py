import contextlib
import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image

from facemllm.core.errors import ImageError
from facemllm.processing.reading import load_image

GRADIENT = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (32, 1))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation):
    upright = Image.fromarray(GRADIENT).convert("RGB")
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what a camera held so would have stored
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encoded(stored, "PNG", exif=exif))
    assert image.size == (64, 32)
    assert np.array_equal(grey(image), GRADIENT)


@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_a_jpeg_is_turned_by_exif_and_by_xmp(kind, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    stored = Image.fromarray(GRADIENT).convert("RGB")
    data = encoded(stored, "JPEG", **{kind: exif if kind == "exif" else xmp})
    (tmp_path / "photo.jpg").write_bytes(data)
    assert load_image(data).size == (32, 64)
    assert load_image(tmp_path / "photo.jpg").size == (32, 64)
    assert load_image(encoded(stored, "JPEG")).size == (64, 32)


def test_a_file_too_long_for_one_piece_is_the_same_picture(tmp_path, monkeypatch):
    from facemllm.processing import reading

    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(Image.fromarray(GRADIENT).convert("RGB"), "JPEG"))
    whole = load_image(path).tobytes()
    monkeypatch.setattr(reading, "_AT_ONCE", 100)
    assert load_image(path).tobytes() == whole


def test_a_jpeg_read_is_a_picture_of_its_own():
    image = load_image(encoded(Image.fromarray(GRADIENT).convert("RGB"), "JPEG"))
    again = load_image(image)
    again.paste("white", (0, 0, 64, 32))
    kept = copy.deepcopy(image)  # by its state, as it travels between processes
    assert kept.tobytes() == image.tobytes() != again.tobytes()


def test_an_opened_pil_image_is_turned_too_and_stays_untouched():
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Image.open(io.BytesIO(encoded(Image.fromarray(GRADIENT), "PNG", exif=exif)))
    assert load_image(opened).size == (32, 64)
    assert opened.size == (64, 32)


def test_sixteen_bit_greys_are_scaled_not_clipped():
    data = encoded(Image.fromarray(GRADIENT.astype(np.uint16) * 257), "PNG")
    assert np.array_equal(grey(load_image(data)), GRADIENT)


def test_big_endian_sixteen_bit_tiff(tmp_path):
    # A minimal TIFF written by hand: MM byte order, 16 bits, no compression.
    pixels = (GRADIENT.astype(">u2") * 257).tobytes()
    tags = [
        (256, 64),
        (257, 32),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 32),
        (279, len(pixels)),
    ]
    directory = len(tags).to_bytes(2, "big")
    for tag, value in tags:
        directory += tag.to_bytes(2, "big") + b"\x00\x04" + (1).to_bytes(4, "big") + value.to_bytes(4, "big")
    data = b"MM\x00\x2a" + (8 + len(pixels)).to_bytes(4, "big") + pixels + directory + bytes(4)
    assert np.array_equal(grey(load_image(data)), GRADIENT)


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_tiff_in_either_scale(top):
    data = encoded(Image.fromarray((GRADIENT / 255 * top).astype(np.float32)), "TIFF")
    assert np.abs(grey(load_image(data)) - GRADIENT).max() <= 1


def test_cmyk():
    data = encoded(Image.new("RGB", (20, 20), (220, 40, 40)).convert("CMYK"), "JPEG", quality=95)
    pixel = np.asarray(load_image(data))[10, 10].astype(int)
    assert np.abs(pixel - (220, 40, 40)).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode):
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 5, 10))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    result = grey(load_image(encoded(image, "PNG")))
    assert (result[:, :5] == 0).all()
    assert (result[:, 5:] == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black", "black")]
    image = load_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert grey(image).min() > 250


@pytest.mark.parametrize(
    "array",
    [
        GRADIENT,
        np.stack([GRADIENT] * 3, -1),
        np.stack([GRADIENT] * 3, -1) / 255,
        (GRADIENT / 255).astype(np.float16),
        GRADIENT[..., None],
        GRADIENT.astype(np.uint16) * 257,
        GRADIENT.astype(np.int64),
        torch.from_numpy(GRADIENT),
        torch.from_numpy(GRADIENT / 255)[None].expand(3, -1, -1),
        (torch.from_numpy(GRADIENT) / 255).to(torch.bfloat16)[None].requires_grad_(),
    ],
    ids=lambda a: f"{a.dtype}-{tuple(a.shape)}",
)
def test_arrays_and_tensors(array):
    assert np.abs(grey(load_image(array)) - GRADIENT).max() <= 1


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((3, 32, 32)), "height, width"),
        (np.zeros((32, 32, 3, 1)), "height, width"),
        (np.full((32, 32), 7.0), "values are from 7 to 7"),
        (np.full((32, 32), -0.5), "values are from -0.5"),
        (np.full((32, 32), np.nan), "values are from nan"),
        (np.zeros((0, 32), np.uint8), "not a picture|too small"),
        (np.full((32, 32), "a"), "not a picture"),
        (torch.zeros(32, 32, 3), "channels first"),
    ],
)
def test_arrays_that_are_no_pictures(array, match):
    with pytest.raises(ImageError, match=match):
        load_image(array)


def test_paths_files_and_bytes_agree(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(GRADIENT), "PNG"))
    with path.open("rb") as file:
        results = [
            load_image(source) for source in (path, str(path), path.read_bytes(), file, Image.open(path))
        ]
    assert all(np.array_equal(grey(result), GRADIENT) for result in results)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", "a folder|does not exist"),
        ("missing.jpg", "which does not exist"),
        (".", "which is a folder"),
        ("https://example.org/a.jpg", "download the picture first"),
        ("data:image/png;base64,AAAA", "download the picture first"),
        ("a\0b.jpg", "which does not exist"),
        ("a" * 5000, "which does not exist"),
        ("/dev/null", "which is a device"),
    ],
)
def test_paths_that_lead_nowhere(name, match):
    with pytest.raises(ImageError, match=match):
        load_image(name)


def test_errors_have_four_parts(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("not a photo")
    with pytest.raises(ImageError) as caught:
        load_image(path)
    error = caught.value
    assert "notes.jpg" in error.given
    assert "JPEG" in error.expected
    assert error.what
    assert error.do


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files_are_refused(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    for part in (0.9, 0.5, 0.02):
        with pytest.raises(ImageError, match=r"broken|cannot read"):
            load_image(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damaged_files_raise_nothing_but_image_errors(kind):
    rng = np.random.default_rng(0)
    good = encoded(Image.fromarray(GRADIENT).convert("RGB"), kind)
    for _ in range(60):
        data = bytearray(good)
        for position in rng.integers(0, len(data), 8):
            data[position] = rng.integers(256)
        with contextlib.suppress(ImageError):
            assert load_image(bytes(data)).mode == "RGB"


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"%PDF-1.7", b"\xff\xd8\xff", b"<svg></svg>"])
def test_other_files_are_refused(data):
    with pytest.raises(ImageError, match="cannot read"):
        load_image(data)


def test_heic_says_what_to_install():
    with pytest.raises(ImageError, match="pillow-heif"):
        load_image(b"\x00\x00\x00\x18ftypheic" + bytes(100))


def test_postscript_is_never_run():
    with pytest.raises(ImageError, match="cannot read"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\nshowpage\n")


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_tiny_pictures_are_refused(size):
    with pytest.raises(ImageError, match="too small"):
        load_image(Image.new("RGB", size))


def _png_header(width: int, height: int) -> bytes:
    """A PNG of the given size that is a few bytes long: a bomb without the boom."""
    import struct
    import zlib

    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    end = b"\x00\x00\x00\x00IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end


@pytest.mark.parametrize("side", [9_800, 20_000, 60_000])
def test_huge_pngs_are_refused_from_their_header(side, recwarn):
    with pytest.raises(ImageError, match="too large"):
        load_image(_png_header(side, side))
    assert not recwarn.list


def test_a_huge_jpeg_is_read_reduced(monkeypatch):
    from facemllm.processing import reading

    photo = Image.fromarray(np.tile(GRADIENT, (32, 8))).convert("RGB")  # 512 x 1024
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    monkeypatch.setattr(reading, "MAX_PIXELS", 200_000)
    monkeypatch.setattr(reading, "_REDUCED_SIDE", 200)
    image = load_image(encoded(photo, "JPEG"))
    assert image.size == (photo.width // 2, photo.height // 2)
    with pytest.raises(ImageError, match="too large"):
        load_image(encoded(photo, "JPEG", progressive=True))


def test_an_unknown_kind_of_object():
    with pytest.raises(ImageError, match="type int"):
        load_image(7)
