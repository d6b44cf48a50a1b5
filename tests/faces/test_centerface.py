import numpy as np
import pytest

from facemllm.faces.centerface import decode
from facemllm.faces.onnx_bytes import constant_weights, free_sizes


def maps(height=8, width=10):
    """Empty maps with one face: cell row 3, column 5."""
    heat, size, offset, points = (np.zeros((c, height, width), np.float32) for c in (1, 2, 2, 10))
    heat[0, 3, 5] = 0.8
    size[:, 3, 5] = np.log([6.0, 4.0])  # height 24 and width 16 pixels
    offset[:, 3, 5] = [0.25, -0.25]
    points[:, 3, 5] = [0.2, 0.1, 0.2, 0.9, 0.5, 0.5, 0.8, 0.3, 0.8, 0.7]  # y before x
    return heat, size, offset, points


def test_a_face_is_placed_by_hand_calculation():
    boxes, scores, landmarks = decode(*maps(), threshold=0.5, nms_iou=0.3)
    x, y = (5 - 0.25 + 0.5) * 4, (3 + 0.25 + 0.5) * 4
    np.testing.assert_allclose(boxes, [[x - 8, y - 12, x + 8, y + 12]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.8])
    np.testing.assert_allclose(landmarks[0, 0], [x - 8 + 0.1 * 16, y - 12 + 0.2 * 24], rtol=1e-6)
    np.testing.assert_allclose(landmarks[0, 4], [x - 8 + 0.7 * 16, y - 12 + 0.8 * 24], rtol=1e-6)


def test_of_overlapping_faces_the_likelier_stays():
    heat, size, offset, points = maps()
    for values in (size, offset, points):
        values[:, 3, 6] = values[:, 3, 5]
    heat[0, 3, 6] = 0.9
    _, scores, _ = decode(heat, size, offset, points, threshold=0.5, nms_iou=0.3)
    np.testing.assert_allclose(scores, [0.9])
    _, scores, _ = decode(heat, size, offset, points, threshold=0.5, nms_iou=0.99)
    np.testing.assert_allclose(scores, [0.9, 0.8])


def test_no_face_gives_empty_arrays():
    boxes, scores, landmarks = decode(*maps(), threshold=0.85, nms_iou=0.3)
    assert (boxes.shape, scores.shape, landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


def test_freeing_the_sizes_agrees_with_the_network_as_exported():
    """At the exported size, the changed file and the original give the same maps."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
    from facemllm.faces.centerface import bundled_model

    original = bundled_model().read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    fixed, free = (
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for model in (original, free_sizes(original))
    )
    pixels = np.random.default_rng(0).uniform(0, 255, (10, 3, 32, 32)).astype(np.float32)
    with pytest.raises(Exception, match="invalid dimensions"):
        fixed.run(None, {"input.1": pixels[:1]})
    for whole, single in zip(
        fixed.run(None, {"input.1": pixels}), free.run(None, {"input.1": pixels[:1]}), strict=True
    ):
        np.testing.assert_allclose(whole[:1], single, atol=1e-4)


def test_other_models_are_left_alone():
    assert free_sizes(b"another model") == b"another model"


def test_constant_weights_find_the_same_faces(portrait):
    pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
    from facemllm.faces import detect_faces
    from facemllm.processing.image import load_image

    photo = load_image(portrait)
    (exact,), (fast,) = (detect_faces(photo, "centerface", fast=fast) for fast in (False, True))
    assert np.abs(np.array(exact.box) - fast.box).max() < 0.01
    assert np.abs(exact.landmarks - fast.landmarks).max() < 0.01


def test_only_the_weights_leave_the_inputs():
    """A graph by hand: weights w, inputs x and w, and a field after it."""

    def field(number: int, body: bytes) -> bytes:
        return bytes((number << 3 | 2, len(body))) + body

    def model(*inputs: bytes) -> bytes:
        graph = field(5, field(8, b"w")) + b"".join(field(11, field(1, name)) for name in inputs)
        return b"\x08\x04" + field(7, graph + field(12, field(1, b"y"))) + field(8, b"\x10\x09")

    assert constant_weights(model(b"x", b"w")) == model(b"x")
    assert constant_weights(model(b"x")) == model(b"x")
