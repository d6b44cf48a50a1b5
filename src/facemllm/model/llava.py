"""A checkpoint of transformers' LLaVA as a FaceMLLM, with the same weights and the same answers."""

from __future__ import annotations

from typing import Any

import torch

from facemllm.connectors import create_connector
from facemllm.core.errors import CheckpointError
from facemllm.encoders import create_encoder
from facemllm.language import LanguageModel
from facemllm.model.face_mllm import FaceMLLM
from facemllm.model.options import check_loading_options
from facemllm.processing.llava import LlavaFaceProcessor
from facemllm.processing.special_tokens import IMAGE_TOKEN


def from_llava(name: str, **options: Any) -> FaceMLLM:
    """Load what ``LlavaForConditionalGeneration.save_pretrained`` and its processor's wrote.

    The tensors are those of the checkpoint, not copies of them. The model looks at whole pictures, as LLaVA
    does; pass ``crop="face"`` to ask about the face alone.

    Args:
        name: A folder, or an id on the hub.
        **options: As for ``transformers``: ``revision``, ``local_files_only``, ``cache_dir``, ``dtype``.

    Raises:
        CheckpointError: If it is a variant of LLaVA that our parts do not compute exactly, or an option
            cannot be met here.
    """
    from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration, LlavaProcessor

    check_loading_options(options)
    hub = {key: value for key, value in options.items() if key != "dtype"}
    llava: Any = LlavaForConditionalGeneration.from_pretrained(name, use_safetensors=True, **options)
    its: Any = LlavaProcessor.from_pretrained(name, **hub)
    config = llava.config
    _check(config, its)
    encoder: Any = create_encoder(
        "hf",
        config=config.vision_config.to_dict(),
        layer=config.vision_feature_layer,
        select="patch" if config.vision_feature_select_strategy == "default" else "full",
        mean=its.image_processor.image_mean,
        std=its.image_processor.image_std,
    )
    encoder.model = llava.model.vision_tower
    with torch.device("meta"):  # its weights are replaced as a whole
        causal = AutoModelForCausalLM.from_config(config.text_config)
    setattr(causal, causal.base_model_prefix, llava.model.language_model)
    causal.set_output_embeddings(llava.lm_head)
    connector: Any = create_connector("mlp", encoder.embed_dim, llava.lm_head.in_features)
    connector.mlp.linear_1 = llava.model.multi_modal_projector.linear_1
    connector.mlp.linear_2 = llava.model.multi_modal_projector.linear_2
    model = FaceMLLM.from_parts(
        encoder=encoder,
        connector=connector,
        language_model=LanguageModel(causal, its.tokenizer),
        crop="none",
    )
    model.generation_config = llava.generation_config
    model.processor = LlavaFaceProcessor(
        its.image_processor,
        its.tokenizer,
        image_size=encoder.image_size,
        image_tokens=model.config.image_tokens,
        stop_token_ids=_stops(llava, its.tokenizer),
        chat_template=its.chat_template,
    )
    return model


def _check(config: Any, processor: Any) -> None:
    odd = []
    if config.projector_hidden_act != "gelu" or not config.multimodal_projector_bias:
        odd.append(
            f"projector_hidden_act={config.projector_hidden_act!r}, "
            f"multimodal_projector_bias={config.multimodal_projector_bias}"
        )
    if not isinstance(config.vision_feature_layer, int):
        odd.append(f"vision_feature_layer={config.vision_feature_layer}")
    found = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if found != config.image_token_id:
        odd.append(f"image_token_id={config.image_token_id}, but {IMAGE_TOKEN} is {found}")
    if odd:
        raise CheckpointError(
            "cannot use this LLaVA checkpoint",
            given="; ".join(odd),
            expected=f"a two-layer GELU projector with bias, one vision layer, and the token {IMAGE_TOKEN}",
            do="compose its parts with FaceMLLM.from_parts",
        )


def _stops(llava: Any, tokenizer: Any) -> list[int]:
    eos = llava.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id} if eos is None else set(eos if isinstance(eos, list) else [eos])
    return sorted(ids - {None})
