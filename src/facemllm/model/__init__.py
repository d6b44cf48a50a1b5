"""The model: configuration, forward pass, asking, saving; registered with transformers' Auto classes."""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from facemllm.model.answers import UNKNOWN, Answer
from facemllm.model.auto import AutoFaceMLLM
from facemllm.model.config import FaceMLLMConfig
from facemllm.model.face_mllm import FaceMLLM
from facemllm.processing.processor import FaceProcessor

AutoConfig.register(FaceMLLMConfig.model_type, FaceMLLMConfig)
AutoModelForImageTextToText.register(FaceMLLMConfig, FaceMLLM)
AutoProcessor.register(FaceMLLMConfig, FaceProcessor)

__all__ = ["UNKNOWN", "Answer", "AutoFaceMLLM", "FaceMLLM", "FaceMLLMConfig"]
