"""Composable face perception for multimodal large language models.

The names below are imported when they are first used, so that ``import facemllm`` alone stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> module that defines it
_HOMES = {
    "AutoFaceMLLM": "facemllm.model.auto",
    "FaceMLLM": "facemllm.model.face_mllm",
    "FaceMLLMConfig": "facemllm.model.config",
    "FaceProcessor": "facemllm.processing.processor",
    "Answer": "facemllm.model.answers",
    "create_encoder": "facemllm.encoders",
    "create_connector": "facemllm.connectors",
    "create_head": "facemllm.heads",
    "load_language_model": "facemllm.language",
    "detect_faces": "facemllm.faces",
    "read_dataset": "facemllm.data",
    "write_questions": "facemllm.data",
    "Stage": "facemllm.training",
    "ThreeStageRecipe": "facemllm.training",
    "Trainer": "facemllm.training",
    "evaluate": "facemllm.evaluation",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from facemllm.connectors import create_connector as create_connector
    from facemllm.data import read_dataset as read_dataset
    from facemllm.data import write_questions as write_questions
    from facemllm.encoders import create_encoder as create_encoder
    from facemllm.evaluation import evaluate as evaluate
    from facemllm.faces import detect_faces as detect_faces
    from facemllm.heads import create_head as create_head
    from facemllm.language import load_language_model as load_language_model
    from facemllm.model.answers import Answer as Answer
    from facemllm.model.auto import AutoFaceMLLM as AutoFaceMLLM
    from facemllm.model.config import FaceMLLMConfig as FaceMLLMConfig
    from facemllm.model.face_mllm import FaceMLLM as FaceMLLM
    from facemllm.processing.processor import FaceProcessor as FaceProcessor
    from facemllm.training import Stage as Stage
    from facemllm.training import ThreeStageRecipe as ThreeStageRecipe
    from facemllm.training import Trainer as Trainer


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'facemllm' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
