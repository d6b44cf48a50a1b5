"""Mirroring: twice is nothing, and the mirrored pixels show what the mirrored sample says."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from facemllm.data import FaceSample, Landmarks, mirror_landmarks, mirror_sample
from facemllm.data.places import places_of
from facemllm.data.vocabularies import LANDMARK_SCHEMES, PARTS

WIDTH, HEIGHT = 120, 90


def sample(**fields) -> FaceSample:
    fields = {"size": (WIDTH, HEIGHT), "labels": {}} | fields
    return FaceSample(id="1", image="1.jpg", dataset="mine", licence="own", **fields)


halves = st.integers(0, 2 * WIDTH).map(lambda number: number / 2)  # so that W - (W - x) is exactly x
angles = st.integers(-170, 170).map(float)


@st.composite
def samples(draw) -> FaceSample:
    x, y = sorted(draw(st.tuples(halves, halves))), sorted(draw(st.tuples(halves, halves)))
    scheme = draw(st.sampled_from(sorted(LANDMARK_SCHEMES)))
    count = LANDMARK_SCHEMES[scheme].count
    names = ("left_eye_closed", "mole on the Right cheek", "smiling", "bright eyes", "LEFT_EARRING")
    booleans = st.dictionaries(st.sampled_from(names), st.booleans())
    return sample(
        box=(x[0], y[0], x[1], y[1]),
        landmarks=Landmarks(
            scheme=scheme, points=draw(st.lists(st.tuples(halves, halves), min_size=count, max_size=count))
        ),
        labels={
            "pose": {"pan": draw(angles), "tilt": draw(angles), "roll": draw(angles)},
            "attributes": draw(booleans),
            "parts": {part: draw(st.booleans()) for part in PARTS[:3]},
            "expression": "happy",
            "caption": "A brightly lit woman is smiling.",
        },
        cannot_tell=("parts/right eyebrow", "attributes/left_dimple"),
    )


@given(samples())
def test_mirroring_twice_gives_the_sample_back(face):
    assert mirror_sample(mirror_sample(face)) == face


@given(samples())
def test_a_mirrored_sample_is_valid_and_says_what_it_must(face):
    mirrored = mirror_sample(face)
    assert FaceSample.model_validate(mirrored.model_dump()) == mirrored
    before, after = face.labels["pose"], mirrored.labels["pose"]
    assert after == {"pan": -before["pan"], "tilt": before["tilt"], "roll": -before["roll"]}
    assert mirrored.labels["parts"]["right eye"] == face.labels["parts"]["left eye"]
    assert mirrored.cannot_tell == ("parts/left eyebrow", "attributes/right_dimple")
    for name, other in (("left_eye_closed", "right_eye_closed"), ("LEFT_EARRING", "RIGHT_EARRING")):
        assert face.labels["attributes"].get(name) == mirrored.labels["attributes"].get(other)
    assert face.labels["attributes"].get("bright eyes") == mirrored.labels["attributes"].get("bright eyes")
    x1, y1, x2, y2 = mirrored.box
    assert x1 <= x2
    assert (x2 - x1, y1, y2) == (face.box[2] - face.box[0], face.box[1], face.box[3])


@pytest.mark.parametrize("scheme", sorted(LANDMARK_SCHEMES))
def test_mirrored_pixels_show_each_part_where_the_mirrored_sample_has_it(scheme):
    found, rng = LANDMARK_SCHEMES[scheme], np.random.default_rng(0)
    # Spots that do not touch, in a colour of each point's own.
    places = [(x + 0.5, y + 0.5) for y in range(3, HEIGHT - 3, 8) for x in range(3, WIDTH - 3, 8)]
    order = rng.permutation(len(places))[: found.count]
    face = sample(landmarks=Landmarks(scheme=scheme, points=[places[index] for index in order]))
    image = Image.new("RGB", (WIDTH, HEIGHT))
    for index, (x, y) in enumerate(face.landmarks.points):
        ImageDraw.Draw(image).rectangle((x - 2.5, y - 2.5, x + 1.5, y + 1.5), (index + 1, 200, 255 - index))
    seen = np.asarray(ImageOps.mirror(image))
    mirrored = mirror_sample(face)
    for index, (x, y) in enumerate(mirrored.landmarks.points):
        shown = int(seen[int(y), int(x), 0]) - 1
        assert shown == found.opposite[index]
    # What was the left eye is now the right one, as the picture is seen.
    for part, corners in places_of(face).items():
        other = part.replace("left", "RIGHT").replace("right", "left").replace("RIGHT", "right")
        expected = sorted((WIDTH - x, y) for x, y in _four(corners))
        assert sorted(_four(places_of(mirrored)[other])) == expected


def _four(corners):
    (x1, y1), (x2, y2) = corners[0], corners[-1]
    return [(x1, y1), (x2, y1), (x1, y2), (x2, y2)] if len(corners) > 1 else [(x1, y1)]


def symmetric_face() -> Landmarks:
    """68 points of a face that is its own mirror image, in the order of iBUG 300-W."""

    def ring(x, y, width, height, angles):
        return [(x - width * math.cos(a), y - height * math.sin(a)) for a in map(math.radians, angles)]

    jaw = ring(60, 40, 40, -45, [180 * step / 16 for step in range(17)])
    brows = ring(40, 30, 14, 6, range(0, 181, 45)) + ring(80, 30, 14, 6, range(0, 181, 45))
    nose = [(60, y) for y in (35, 40, 45, 50)] + ring(60, 52, 8, -3, range(0, 181, 45))
    eye = (0, 60, 120, 180, 240, 300)  # from the outer or inner corner on the left, over the upper lid
    eyes = ring(42, 38, 8, 4, eye) + ring(78, 38, 8, 4, eye)
    lips = ring(60, 68, 16, 8, range(0, 360, 30)) + ring(60, 68, 10, 3, range(0, 360, 45))
    return Landmarks(scheme="ibug68-1", points=jaw + brows + nose + eyes + lips)


def test_a_symmetric_face_is_its_own_mirror_image():
    face = symmetric_face()
    np.testing.assert_allclose(mirror_landmarks(face, WIDTH).points, face.points, atol=1e-9)


def test_an_order_that_is_off_by_one_pair_would_show():
    face = symmetric_face()
    swapped = list(mirror_landmarks(face, WIDTH).points)
    swapped[61], swapped[63] = swapped[63], swapped[61]
    assert not np.allclose(swapped, face.points)


def test_texts_that_speak_of_sides_are_dropped():
    for text in (
        "Her head is turned to the Left.",
        "All right.",
        "He looks leftwards.",
        "<loc_010><loc_020>",
    ):
        labels = {"caption": text, "alt_text": "a man", "conversation": [("Where?", text)], "age": 34}
        assert set(mirror_sample(sample(labels=labels)).labels) == {"alt_text", "age"}
    kept = {"caption": "A bright, brightly dressed, upright man in a copyright notice."}
    assert mirror_sample(sample(labels=kept)).labels == kept


def test_places_are_dropped_where_the_width_is_unknown():
    face = sample(size=None, box=(1, 2, 3, 4), landmarks=symmetric_face())
    mirrored = mirror_sample(face)
    assert mirrored.box is None
    assert mirrored.landmarks is None


def test_a_detector_finds_the_mirrored_landmarks_in_mirrored_photos():
    root = Path(os.environ.get("FACEMLLM_DATA", "")) / "lfw"
    if "FACEMLLM_DATA" not in os.environ or not root.is_dir():
        pytest.skip("needs real photos: set FACEMLLM_DATA to a folder that holds lfw/")
    pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
    from facemllm.faces import detect_faces
    from facemllm.processing.reading import load_image

    compared, unmirrored = [], []
    for path in sorted(root.glob("A*/*_0001.jpg"))[:12]:
        image = load_image(path)
        pair = [detect_faces(picture) for picture in (image, ImageOps.mirror(image))]
        if all(pair):
            first, second = (Landmarks(scheme="five-1", points=faces[0].landmarks.tolist()) for faces in pair)
            eyes = math.dist(first.points[0], first.points[1])
            compared.append(_mean(mirror_landmarks(first, image.width), second) / eyes)
            unmirrored.append(_mean(first, second) / eyes)
    assert len(compared) >= 8
    assert np.median(compared) < 0.08  # of the distance of the eyes
    assert np.median(unmirrored) > np.median(compared)


def _mean(one: Landmarks, other: Landmarks) -> float:
    return float(np.mean([math.dist(*pair) for pair in zip(one.points, other.points, strict=True)]))
