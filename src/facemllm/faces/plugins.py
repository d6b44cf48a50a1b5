"""Detectors that need a download: YuNet through OpenCV, and insightface's."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facemllm.core.errors import FaceMLLMError, MissingExtraError
from facemllm.faces.base import DETECTORS, Face, faces_from_arrays

_YUNET_REPO, _YUNET_FILE = "opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx"


@DETECTORS.register("yunet")
class YuNet:
    """YuNet, run by OpenCV (``opencv-python-headless`` does, without display libraries).

    Source: Wu et al. 2023, YuNet: a tiny millisecond-level face detector.

    Args:
        model_path: ONNX file of YuNet; None fetches it from the hub, once.
        max_side: Longer side the picture is scaled down to, in pixels.
        min_score: Least confidence of a face.
        nms_iou: Overlap from which the less confident of two boxes is dropped.

    Raises:
        MissingExtraError: If OpenCV is not installed.
        FaceMLLMError: If the model file is missing.
    """

    def __init__(
        self,
        *,
        model_path: str | os.PathLike[str] | None = None,
        max_side: int = 640,
        min_score: float = 0.6,
        nms_iou: float = 0.3,
    ) -> None:
        try:
            import cv2
        except ImportError:
            raise MissingExtraError(
                "opencv-python-headless", extra="detect", needed_for="the detector yunet"
            ) from None
        if model_path is None:
            from huggingface_hub import hf_hub_download

            model_path = hf_hub_download(_YUNET_REPO, _YUNET_FILE)
        if not Path(model_path).is_file():
            raise FaceMLLMError(
                "cannot read a face detector",
                given=model_path,
                expected=f"{_YUNET_FILE} of {_YUNET_REPO}",
                do="check the path",
            )
        self.max_side, self.min_score = max_side, min_score
        self._net: Any = cv2.FaceDetectorYN.create(
            os.fspath(model_path), "", (320, 320), min_score, nms_iou, 5000
        )
        self._lock = threading.Lock()  # the network keeps its input size as state

    def __call__(self, image: Image.Image, *, min_score: float | None = None) -> list[Face]:
        """Return the faces in an RGB picture with at least ``min_score``."""
        zoom = min(1.0, self.max_side / max(image.size))
        width, height = (max(1, round(side * zoom)) for side in image.size)
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB").resize((width, height)))[:, :, ::-1])
        with self._lock:
            self._net.setInputSize((width, height))
            self._net.setScoreThreshold(self.min_score if min_score is None else min_score)
            _, rows = self._net.detect(pixels)
        if rows is None:
            return []
        scale = np.array([width / image.width, height / image.height])
        corners = np.stack([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1) / scale
        return faces_from_arrays(corners.reshape(-1, 4), rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2) / scale)


@DETECTORS.register("insightface")
class InsightFace:
    """The detector of an insightface model pack (its weights are for research only).

    Args:
        pack: Name of the model pack.
        max_side: Side of the square the picture is fitted into, in pixels.
        min_score: Least confidence of a face.

    Raises:
        MissingExtraError: If insightface is not installed.
    """

    def __init__(self, *, pack: str = "buffalo_l", max_side: int = 640, min_score: float = 0.5) -> None:
        try:
            from insightface.app import FaceAnalysis
        except ImportError:
            raise MissingExtraError(
                "insightface", extra="detect", needed_for="the detector insightface"
            ) from None
        self.min_score = min_score
        self._app: Any = FaceAnalysis(name=pack, allowed_modules=["detection"])
        # A low threshold here, so that a call may ask for a lower one than the default.
        self._app.prepare(ctx_id=-1, det_size=(max_side, max_side), det_thresh=min(min_score, 0.1))

    def __call__(self, image: Image.Image, *, min_score: float | None = None) -> list[Face]:
        """Return the faces in an RGB picture with at least ``min_score``."""
        threshold = self.min_score if min_score is None else min_score
        found = self._app.get(np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1]))
        found = [face for face in found if face.det_score >= threshold]
        boxes = np.array([face.bbox for face in found], dtype=np.float64).reshape(-1, 4)
        scores = np.array([face.det_score for face in found], dtype=np.float64)
        return faces_from_arrays(
            boxes, scores, np.array([face.kps for face in found], dtype=np.float64).reshape(-1, 5, 2)
        )
