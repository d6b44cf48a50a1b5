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
from facemllm.training.trainer import Trainer

__all__ = [
    "DataSource", "EncoderPhase", "Guards", "HeldOut", "Keeping", "LanguagePhase", "Movement", "Part", "Plan",
    "Selection", "Stage", "ThreeStageRecipe", "Trainer",
    "answer_loss", "describe_run", "differing", "find_runs", "select", "verify",
]  # fmt: skip
