"""The model of a recipe as shapes alone: on torch's meta device, without weights and without a download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from facemllm.connectors import create_connector
from facemllm.core.errors import ConfigError
from facemllm.encoders import VisionEncoder, create_encoder
from facemllm.language import LanguageModel, apply_lora, tiny_config, train_tokenizer
from facemllm.model import FaceMLLM
from facemllm.training.encoder_phase import HEADS
from facemllm.training.recipe import ThreeStageRecipe


def build_on_meta(recipe: ThreeStageRecipe) -> FaceMLLM:
    """Return the model that a recipe trains, with shapes and no values.

    Sizes of parts that a run would download are those that the recipe states as published. The tokenizer is a
    stand-in, so embeddings that a run adds for new tokens (``<image>``) are not counted.

    Raises:
        ConfigError: If the recipe names a language model whose published configuration it does not state.

    Example:
        >>> from facemllm.training import ThreeStageRecipe
        >>> model = build_on_meta(ThreeStageRecipe.load("llava15-7b"))
        >>> round(sum(p.numel() for p in model.language_model.parameters()) / 1e9, 1), model.device.type
        (7.1, 'meta')
    """
    with torch.device("meta"):
        encoder = _encoder(recipe)
        llm = _language_model(recipe)
        model = FaceMLLM.from_parts(
            encoder=encoder,
            connector=create_connector(**recipe.connector, in_dim=encoder.embed_dim, out_dim=llm.embed_dim),
            language_model=llm,
            crop_scale=recipe.crop_scale,
        )
        for task in recipe.encoder_phase.tasks if recipe.encoder_phase else ():
            spec = dict(HEADS[task])
            model.add_head(task, spec.pop("name"), **spec)
    return model


def _encoder(recipe: ThreeStageRecipe) -> VisionEncoder:
    options = _unread(recipe.encoder)
    if recipe.encoder_config is not None:
        options["config"] = recipe.encoder_config
    elif str(options["name"]).partition("/")[0] == "hf" and "config" not in options:
        raise _undeclared(recipe, "encoder")
    return create_encoder(**options)


def _unread(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of an encoder, and of the one within it, by which no weights are read."""
    changed = {key: _unread(value) if key == "base" else value for key, value in options.items()}
    if "pretrained" in changed or str(changed["name"]).partition("/")[0] == "facemllm":
        changed["pretrained"] = False
    return changed


def _language_model(recipe: ThreeStageRecipe) -> LanguageModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    phase = recipe.language_phase
    if phase is not None:
        config = tiny_config(
            phase.vocab_size, hidden_size=phase.hidden_size, layers=phase.layers, heads=phase.heads
        )
    elif recipe.language_config is not None:
        values = dict(recipe.language_config)
        config = AutoConfig.for_model(values.pop("model_type"), **values)
    else:
        raise _undeclared(recipe, "language_model")
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if recipe.lora is not None:
        model, _ = apply_lora(model, recipe.lora)
    with torch.device("cpu"):
        return LanguageModel(model, train_tokenizer(["stand-in"], vocab_size=512, special_tokens=["<image>"]))


def _undeclared(recipe: ThreeStageRecipe, part: str) -> ConfigError:
    field = {"encoder": "encoder_config", "language_model": "language_config"}[part]
    return ConfigError(
        f"the sizes of the {part} are not known without a download",
        given=f"recipe {recipe.name!r} without {field}",
        expected="its published configuration",
        do=f"copy what config.json says into {field}",
    )
