import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facemllm.core.errors import ImageError
from facemllm.processing.alignment import canonical_landmarks, transform_points
from facemllm.processing.image import crop_face, load_image, to_tensor


def dotted(side: int, points, radius: float = 3.0) -> Image.Image:
    """A dark picture with a white dot at each point (continuous pixels)."""
    y, x = np.mgrid[:side, :side] + 0.5
    pixels = np.zeros((side, side))
    for px, py in points:
        pixels = np.maximum(pixels, 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)))
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")


def brightest_near(image: Image.Image, point, radius: int) -> np.ndarray:
    """The centre of mass of the light around ``point`` (continuous pixels)."""
    grey = np.asarray(image.convert("L"), dtype=float)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]] + 0.5
    weight = grey * (np.hypot(x - point[0], y - point[1]) < radius)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


POINTS = np.array([[90.0, 100.0], [150.0, 90.0], [125.0, 130.0], [100.0, 165.0], [150.0, 160.0]])


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [48, 112, 300])
def test_landmarks_move_with_the_pixels(align, size):
    crop = crop_face(dotted(240, POINTS, 4.0), (70, 60, 180, 190), POINTS, size=size, scale=1.5, align=align)
    zoom = np.sqrt(np.linalg.det(crop.matrix[:, :2]))
    for point in crop.landmarks:
        assert np.hypot(*(brightest_near(crop.image, point, 12 * zoom) - point)) < 0.35


def test_without_alignment_the_crop_is_a_plain_resize():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    crop = crop_face(photo, (20, 20, 40, 40), size=20, scale=1.0)
    assert np.array_equal(np.asarray(crop.image), np.asarray(photo)[20:40, 20:40])


def test_aligned_landmarks_come_to_the_template():
    turn = np.array([[0.8, -0.6, 100], [0.6, 0.8, 30]])
    points = transform_points(canonical_landmarks(90, 1.0), turn)
    crop = crop_face(dotted(240, points), (60, 60, 180, 180), points, size=128, scale=1.4, align=True)
    np.testing.assert_allclose(crop.landmarks, canonical_landmarks(128, 1.4), atol=1e-6)


def test_points_of_the_crop_go_back_to_the_picture():
    crop = crop_face(Image.new("RGB", (240, 240)), (70, 60, 180, 190), POINTS, size=50)
    np.testing.assert_allclose(crop.to_picture(crop.landmarks), POINTS)


def test_beyond_the_border_the_edge_is_repeated():
    photo = Image.new("RGB", (40, 40), (200, 30, 60))
    crop = crop_face(photo, (-10, -10, 20, 20), size=64, scale=2.0)
    assert np.asarray(crop.image).reshape(-1, 3).std(axis=0).max() == 0


@pytest.mark.parametrize("align", [False, True])
def test_shrinking_averages_instead_of_picking(align):
    board = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)  # single black and white pixels
    points = canonical_landmarks(400)
    crop = crop_face(
        Image.fromarray(board).convert("RGB"), (0, 0, 400, 400), points, size=40, scale=0.9, align=align
    )
    assert np.asarray(crop.image, dtype=float).std() < 6


@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 10), (50, 50, 60, 60), (5, 5, 1, 1), (0, 0, float("nan"), 3), (0, 0, 1e7, 1e7), (1, 2, 3)],
)
def test_impossible_boxes_are_refused(box):
    with pytest.raises(ImageError, match="box does not fit"):
        crop_face(Image.new("RGB", (40, 40)), box)


def test_alignment_needs_landmarks():
    with pytest.raises(ImageError, match="cannot align"):
        crop_face(Image.new("RGB", (40, 40)), (0, 0, 20, 20), align=True)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-30, 90),
    st.floats(-30, 90),
    st.floats(1, 200),
    st.floats(1, 200),
    st.integers(1, 40),
    st.floats(0.5, 3),
)
def test_any_overlapping_box_gives_a_square(x, y, width, height, size, scale):
    photo = Image.new("RGB", (70, 50), "white")
    if x >= 70 or y >= 50 or x + width <= 0 or y + height <= 0:
        return
    crop = crop_face(photo, (x, y, x + width, y + height), size=size, scale=scale)
    assert crop.image.size == (size, size)
    assert np.asarray(crop.image).min() == 255  # nothing but the picture and its repeated edge


def test_tensors_are_normalised_by_channel():
    tensor = to_tensor(
        Image.new("RGB", (30, 20), (255, 0, 51)), 8, mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 2.0)
    )
    assert tensor.shape == (3, 8, 8)
    torch.testing.assert_close(tensor.mean((1, 2)), torch.tensor([1.0, -1.0, 0.0]), atol=1e-6, rtol=0)


def test_images_are_read_where_cropping_lives():
    assert load_image(Image.new("L", (9, 9))).mode == "RGB"
