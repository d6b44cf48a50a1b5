"""Training: recipes, stages, and the trainer that runs them."""

from facemllm.training.freezing import Movement, Selection, select, verify
from facemllm.training.guards import Guards
from facemllm.training.loop import Keeping
from facemllm.training.losses import answer_loss
from facemllm.training.plan import Part, Plan
from facemllm.training.recipe import (
    DataSource,
    EncoderPhase,
    HeldOut,
    LanguagePhase,
    Stage,
    ThreeStageRecipe,
)
from facemllm.training.runs import describe_run, differing, find_runs
from facemllm.training.shapes import build_on_meta
from facemllm.training.sizing import StageSize, size_stage
from facemllm.training.trainer import Trainer

__all__ = [
    "DataSource", "EncoderPhase", "Guards", "HeldOut", "Keeping", "LanguagePhase", "Movement", "Part", "Plan",
    "Selection", "Stage", "StageSize", "ThreeStageRecipe", "Trainer",
    "answer_loss", "build_on_meta", "describe_run", "differing", "find_runs", "select",
    "size_stage", "verify",
]  # fmt: skip
