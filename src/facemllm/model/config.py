"""The configuration of a FaceMLLM: names and options of its parts, never code."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


class FaceMLLMConfig(PreTrainedConfig):
    """What it takes to rebuild a model before its weights are read.

    Args:
        text_config: Configuration of the causal language model.
        encoder: Name and options of the vision encoder, as ``create_encoder`` takes them.
        connector: Name and options of the connector, as ``create_connector`` takes them.
        heads: Name and options of each task head, by the name it is asked by.
        lora: Options of the LoRA adapters around the language model; none for no LoRA.
        image_token_id: Id of ``<image>``.
        image_tokens: N, the tokens of one picture after the connector.
        crop: What of a photo is shown to the encoder by default: "face" or "none".
        crop_scale: Side of the crop over the longer side of the face box.
        answer_tasks: Tasks this model was trained to answer.
        training_data: What it was trained on: dataset, split, licence.

    Example:
        >>> FaceMLLMConfig(encoder={"name": "dlib-face"}).crop
        'face'
    """

    model_type = "facemllm"
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")}  # noqa: RUF012

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    encoder: dict[str, Any] | None = None
    connector: dict[str, Any] | None = None
    heads: dict[str, Any] | None = None
    lora: dict[str, Any] | None = None
    image_token_id: int = 0
    image_tokens: int = 1
    crop: str = "face"
    crop_scale: float = 1.1
    answer_tasks: list[str] | None = None
    training_data: list[dict[str, Any]] | None = None
    tie_word_embeddings: bool = False
