"""Builds the model of a recipe, pretraining the parts that have no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facemllm.connectors import create_connector
from facemllm.core.errors import ConfigError
from facemllm.encoders import create_encoder
from facemllm.language import LanguageModel, load_language_model
from facemllm.model import AutoFaceMLLM, FaceMLLM
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
    if recipe.heads_from is not None:
        take_heads(model, recipe.heads_from)
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


def take_heads(model: FaceMLLM, source: str) -> None:
    """Hang the task heads of a saved FaceMLLM on ``model``.

    Raises:
        ConfigError: If it has none, or they are of another width than the encoder.
    """
    heads = dict(AutoFaceMLLM.from_pretrained(source).heads.items())
    width = model.encoder.embed_dim
    if not heads or any(head.in_dim != width for head in heads.values()):
        raise ConfigError(
            "cannot take over these heads",
            given=f"{source} with heads {[(name, head.in_dim) for name, head in heads.items()]}",
            expected=f"at least one, of the encoder's width {width}",
            do="take encoder and heads from the same model",
        )
    for name, head in heads.items():
        model.add_head(name, head)


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
        if recipe.quantize is not None and trainer.processes.kind == "fsdp2":
            raise ConfigError(
                "packed weights are not sharded",
                given="quantize, in processes that shard the model (FSDP2)",
                expected="one process, or DDP: packed weights are a quarter as large",
                do="launch without FSDP, or leave `quantize` out of the recipe",
            )
        return load_language_model(recipe.language_model, lora=recipe.lora, quantize=recipe.quantize)
    sources = {source.key: source for stage in recipe.stages for source in stage.data}
    llm = make_language_model(
        recipe.language_phase,
        [trainer.samples(sources[key]) for key in sorted(sources)],
        tasks=recipe.language_phase.tasks,
        folder=trainer.out / "language",
        seed=recipe.seed,
        log=trainer.log,
        progress=trainer.progress,
    )
    return load_language_model(llm, lora=recipe.lora)
