"""Builds the model of a recipe, pretraining the parts that have no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facemllm.connectors import create_connector
from facemllm.core.errors import ConfigError
from facemllm.data import read_dataset
from facemllm.encoders import create_encoder
from facemllm.language import LanguageModel, load_language_model
from facemllm.model import FaceMLLM
from facemllm.training.encoder_phase import pretrain_encoder
from facemllm.training.language_phase import make_language_model

if TYPE_CHECKING:
    from facemllm.training.trainer import Trainer


def assemble(trainer: Trainer) -> FaceMLLM:
    """Return the model of a trainer's recipe, ready for its first stage.

    Raises:
        ConfigError: If the recipe names neither a language model nor a phase that makes one.
    """
    recipe = trainer.recipe
    encoder = create_encoder(**recipe.encoder)
    llm = _language_model(trainer)
    model = FaceMLLM.from_parts(
        encoder=encoder,
        connector=create_connector(**recipe.connector, in_dim=encoder.embed_dim, out_dim=llm.embed_dim),
        language_model=llm,
        crop_scale=recipe.crop_scale,
    )
    trainer.model = model  # crops are made by its processor
    if recipe.encoder_phase is not None:
        pretrain_encoder(
            model,
            recipe.encoder_phase,
            [(trainer.crops(source), source.weight) for source in recipe.encoder_phase.data],
            folder=trainer.out / "encoder",
            log=trainer.log,
            seed=recipe.seed,
            progress=trainer.progress,
        )
    return model


def _language_model(trainer: Trainer) -> LanguageModel:
    recipe = trainer.recipe
    if recipe.language_phase is None:
        if recipe.language_model is None:
            raise ConfigError(
                "recipe has no language model",
                given=f"recipe {recipe.name!r} with neither language_model nor language_phase",
                expected="one of them",
                do="name a hub id, a folder or a GGUF file in language_model",
            )
        return load_language_model(recipe.language_model, lora=recipe.lora)
    sources = {(source.dataset, source.split) for stage in recipe.stages for source in stage.data}
    llm = make_language_model(
        recipe.language_phase,
        [read_dataset(name, trainer.data_root(), split=split) for name, split in sorted(sources)],
        tasks=recipe.language_phase.tasks,
        folder=trainer.out / "language",
        seed=recipe.seed,
        log=trainer.log,
        progress=trainer.progress,
    )
    return load_language_model(llm, lora=recipe.lora)
