"""Copies are found whatever was done to them, and pictures that are not copies are not."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from facemllm.core.errors import DatasetError
from facemllm.data import find_leaks, fingerprint
from facemllm.data.fingerprints import WINDOWS, Prints, overlap


def scene(seed: int) -> Image.Image:
    """A picture of shapes on a shaded ground, unlike that of any other seed."""
    rng = random.Random(seed)
    image = Image.linear_gradient("L").resize((160, 160)).rotate(rng.choice((0, 90, 180, 270))).convert("RGB")
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        x, y, size = rng.randint(-20, 150), rng.randint(-20, 150), rng.randint(12, 60)
        colour = tuple(rng.randint(0, 255) for _ in range(3))
        getattr(pen, rng.choice(("ellipse", "rectangle")))(
            (x, y, x + size, y + rng.randint(12, 60)), fill=colour
        )
    return image


def crop(image: Image.Image) -> Image.Image:
    return image.crop((3, 11, 3 + round(image.width * 0.9), 11 + round(image.height * 0.9)))


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


CHANGES = {
    "crop": crop,
    "tenth off below": lambda image: image.crop((0, 0, image.width, round(image.height * 0.9))),
    "half": lambda image: image.resize((80, 80)),
    "stretched": lambda image: image.resize((200, 130)),
    "jpeg": jpeg,
    "mirror": ImageOps.mirror,
    "all": lambda image: jpeg(ImageOps.mirror(crop(image)).resize((96, 96))),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    for number in range(40):
        scene(number).save(root / f"{number:02d}.png")
    return root


def prints(*paths):
    return fingerprint([(path.stem, str(path)) for path in paths])


@pytest.fixture(scope="module")
def originals(folder):
    return prints(*sorted(folder.glob("*.png")))


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_changed_copy_is_found_and_nothing_else(originals, tmp_path, change):
    for number in (3, 17, 28):
        CHANGES[change](scene(number)).save(tmp_path / f"copy of {number:02d}.png")
    report = find_leaks(originals, prints(*sorted(tmp_path.glob("*.png"))))
    assert {(leak.a, leak.b) for leak in report.leaks} == {
        ("03", "copy of 03"), ("17", "copy of 17"), ("28", "copy of 28"),
    }  # fmt: skip
    assert all(leak.mirrored == (change in ("mirror", "all")) for leak in report.leaks)
    assert {leak.kind for leak in report.leaks} == {"perceptual"}


def test_the_crop_may_be_in_either_set(originals, tmp_path):
    crop(scene(7)).save(tmp_path / "crop.png")
    copy = prints(tmp_path / "crop.png")
    assert [(leak.a, leak.b) for leak in find_leaks(copy, originals).leaks] == [("crop", "07")]


def test_exact_copies_are_exact_even_of_flat_pictures(tmp_path):
    for name, colour in (("one", "red"), ("two", "red"), ("three", "blue")):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{name}.png")
    report = find_leaks(prints(*sorted(tmp_path.glob("*.png"))))
    assert [(leak.a, leak.b, leak.kind) for leak in report.leaks] == [("one", "two", "exact")]
    assert report.flat == ("one", "three", "two")


def test_one_set_is_searched_in_itself(folder, tmp_path):
    assert find_leaks(prints(*sorted(folder.glob("*.png")))).leaks == ()
    copies = []
    for number in (5, 6):
        for change in ("crop", "jpeg"):
            copies.append(tmp_path / f"{number} {change}.png")
            CHANGES[change](scene(number)).save(copies[-1])
    report = find_leaks(prints(*sorted(folder.glob("*.png")), *copies))
    assert report.groups() == [["a/05", "a/5 crop", "a/5 jpeg"], ["a/06", "a/6 crop", "a/6 jpeg"]]
    assert report.counts == {"perceptual": 6}


def embedded(vectors, names="abc"):
    """Fingerprints of pictures that have nothing in common but their vectors."""
    rng = np.random.default_rng(len(vectors))
    count = len(vectors)
    return Prints(
        names=tuple(f"{names}{index}" for index in range(count)),
        digests=tuple(f"{names}{index}" for index in range(count)),
        thumbnails=rng.random((count, 48, 48), dtype=np.float32),
        flat=np.zeros(count, dtype=bool),
        vectors=np.asarray(vectors, np.float32),
        unreadable={},
    )


def test_embeddings_find_what_pixels_do_not_whatever_all_of_them_share():
    rng = np.random.default_rng(0)
    shared = 20 * rng.standard_normal(16)  # so that any two have a cosine near 1, as most encoders' do
    vectors = shared + rng.standard_normal((80, 16))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.95, "without taking their mean away, every pair would be a copy"
    copies = vectors[[3, 70]] + 0.05 * rng.standard_normal((2, 16))
    between = find_leaks(embedded(vectors), embedded(copies, "copy"))
    assert {(leak.a, leak.b, leak.kind) for leak in between.leaks} == {
        ("abc3", "copy0", "embedding"), ("abc70", "copy1", "embedding"),
    }  # fmt: skip
    within = find_leaks(embedded(np.concatenate([vectors, copies])))
    assert {(leak.a, leak.b) for leak in within.leaks} == {("abc3", "abc80"), ("abc70", "abc81")}
    assert find_leaks(embedded(vectors)).leaks == ()


def test_vectors_are_made_in_batches_and_of_few_pictures_not_compared(folder):
    def embed(pictures):
        return np.array([[float(np.asarray(p)[0, 0, 0]), 1.0] for p in pictures])

    paths = sorted(folder.glob("*.png"))[:6]
    found = fingerprint([(path.stem, str(path)) for path in paths], embed=embed, batch=4)
    assert found.vectors.shape == (6, 2)
    with pytest.raises(DatasetError, match="too few pictures to compare by embeddings"):
        find_leaks(found)


def test_pictures_that_cannot_be_read_are_named(folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but no more")
    found = fingerprint(
        [("good", str(folder / "00.png")), ("broken", str(tmp_path / "broken.png")), ("gone", "no.png")]
    )
    assert found.names == ("good",)
    assert set(found.unreadable) == {"broken", "gone"}
    assert set(find_leaks(found).unreadable) == {"broken", "gone"}


def test_the_overlap_is_high_only_at_the_right_place():
    whole = fingerprint([]).thumbnails
    assert overlap(whole, whole, WINDOWS[:0]).shape == (0,)
    images = [np.asarray(scene(n).convert("L").resize((48, 48)), np.float32) / 255 for n in (1, 2)]
    pairs = [(0, 0), (0, 1), (1, 1)]
    scores = overlap(
        np.stack([images[a] for a, _ in pairs]),
        np.stack([images[b] for _, b in pairs]),
        np.repeat(WINDOWS[:1], 3, 0),
    )
    assert scores[0] > 0.99
    assert scores[2] > 0.99
    assert scores[1] < 0.6


def test_thresholds_and_empty_sets_are_refused(originals):
    with pytest.raises(DatasetError, match="threshold out of range"):
        find_leaks(originals, threshold=0)
    with pytest.raises(DatasetError, match="nothing to look for copies in"):
        find_leaks(originals, fingerprint([]))
