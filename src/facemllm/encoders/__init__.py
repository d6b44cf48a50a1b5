"""Vision encoders: from pixels to tokens."""

from facemllm.encoders.base import VisionEncoder
from facemllm.encoders.dlib_face import DlibFaceEncoder
from facemllm.encoders.mirrored import MirroredEncoder
from facemllm.encoders.region import RegionGuidedEncoder
from facemllm.encoders.registry import ENCODERS, create_encoder
from facemllm.encoders.saved import saved_encoder
from facemllm.encoders.timm import TimmEncoder
from facemllm.encoders.transformers import TransformersEncoder

__all__ = [
    "ENCODERS",
    "DlibFaceEncoder",
    "MirroredEncoder",
    "RegionGuidedEncoder",
    "TimmEncoder",
    "TransformersEncoder",
    "VisionEncoder",
    "create_encoder",
    "saved_encoder",
]
