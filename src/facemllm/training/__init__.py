"""Training: recipes, stages, and the trainer that runs them."""

from facemllm.training.freezing import Movement, Selection, select, verify
from facemllm.training.losses import answer_loss
from facemllm.training.recipe import DataSource, EncoderPhase, LanguagePhase, Stage, ThreeStageRecipe
from facemllm.training.shapes import build_on_meta
from facemllm.training.sizing import StageSize, size_stage
from facemllm.training.trainer import Trainer

__all__ = [
    "DataSource", "EncoderPhase", "LanguagePhase", "Movement", "Selection", "Stage", "StageSize",
    "ThreeStageRecipe",
    "Trainer",
    "answer_loss", "build_on_meta", "select", "size_stage", "verify",
]  # fmt: skip
