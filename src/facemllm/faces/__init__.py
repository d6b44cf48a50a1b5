"""Faces in a picture: detectors by name, all with one result type."""

from facemllm.faces import centerface, plugins  # noqa: F401  (they register themselves)
from facemllm.faces.base import DETECTORS, Face, FaceDetector
from facemllm.faces.detect import create_detector, detect_faces

__all__ = ["DETECTORS", "Face", "FaceDetector", "create_detector", "detect_faces"]
