"""Task heads on an encoder's features."""

from facemllm.heads.age import AgeHead
from facemllm.heads.angles import AnglesHead
from facemllm.heads.base import HEADS, TaskHead, create_head
from facemllm.heads.classification import ClassificationHead, MultiLabelHead
from facemllm.heads.embedding import EmbeddingHead
from facemllm.heads.rotation import RotationHead, geodesic_distance, rotation_matrix

__all__ = [
    "HEADS", "AgeHead", "AnglesHead", "ClassificationHead", "EmbeddingHead", "MultiLabelHead", "RotationHead",
    "TaskHead",
    "create_head", "geodesic_distance", "rotation_matrix",
]  # fmt: skip
