import numpy as np
import pytest

from facemllm.core.errors import FaceMLLMError, MissingExtraError
from facemllm.faces import create_detector
from facemllm.faces.base import faces_from_arrays


def test_landmarks_named_from_the_persons_side_are_put_in_image_order():
    points = np.array([[[60, 40], [40, 42], [50, 50], [58, 70], [42, 71]]])
    (face,) = faces_from_arrays(np.array([[30, 30, 70, 80]]), np.array([0.9]), points)
    assert face.landmarks.tolist() == [[40, 42], [60, 40], [50, 50], [42, 71], [58, 70]]
    assert points[0, 0, 0] == 60  # the detector's own array is left alone
    assert face.area == 40 * 50


def test_output_of_a_wrong_shape_is_refused():
    with pytest.raises(FaceMLLMError, match="output does not fit"):
        faces_from_arrays(np.zeros((1, 5)), np.zeros(1), np.zeros((1, 5, 2)))


def test_yunet_says_which_file_is_missing(tmp_path):
    pytest.importorskip("cv2", reason="needs opencv")
    with pytest.raises(FaceMLLMError, match="face_detection_yunet"):
        create_detector("yunet", model_path=tmp_path / "none.onnx")


def test_insightface_names_its_extra():
    try:
        import insightface  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="insightface"):
            create_detector("insightface")
    else:
        pytest.skip("insightface is installed")
