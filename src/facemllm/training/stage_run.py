"""One stage, from what it selects to the proof of what moved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor, nn

from facemllm.core.errors import TrainingError
from facemllm.language import number_token_ids
from facemllm.model import FaceMLLM
from facemllm.training.ahead import Ahead
from facemllm.training.batches import Pairs, packed, padded
from facemllm.training.checkpoints import Checkpoints
from facemllm.training.curves import draw_curves
from facemllm.training.estimates import Estimates
from facemllm.training.features import FeatureSet
from facemllm.training.files import write_note
from facemllm.training.freezing import Selection, fingerprints, select, verify
from facemllm.training.groups import parameter_groups
from facemllm.training.guards import Guards
from facemllm.training.label_order import check_label_order
from facemllm.training.loop import Clock, run_steps, step_seed
from facemllm.training.losses import token_losses
from facemllm.training.memory import memory_peak, reset_peak
from facemllm.training.parallel import Processes
from facemllm.training.plan import Plan, measured, parts_of
from facemllm.training.precision import computing, hold
from facemllm.training.questions import StageData
from facemllm.training.recipe import HeldOut, Stage
from facemllm.training.sharing import Share, shares, without_channels
from facemllm.training.watch import Watch

if TYPE_CHECKING:
    from facemllm.training.trainer import Trainer

FEATURES_EVERY = 50
"""Steps between two looks at whether features have collapsed."""


@dataclass
class StageLoss:
    """The loss of a stage's steps, in the parts that this process computes.

    Args:
        model: Not wrapped.
        data: Draws the pictures and their pairs.
        stage: What is asked.
        seed: Of the phase.
        processes: Among which a step is divided.
        guards: Look at every batch.
        clock: Takes the time of drawing.
        drawn: Of a step; ``data.draw`` by default.
    """

    model: FaceMLLM
    data: StageData
    stage: Stage
    seed: int
    processes: Processes
    guards: Guards
    clock: Clock = field(default_factory=Clock)
    drawn: Callable[[int], list[Pairs]] | None = None

    def __post_init__(self) -> None:
        self._numbers = number_token_ids(self.model.checked_processor().tokenizer)
        self._key = self.data.sources[0].key

    def __call__(self, wrapped: nn.Module, step: int) -> list[Callable[[], Tensor]]:
        """Return functions that each compute a part of the loss of a step."""
        with self.clock("data"):
            drawn = (self.drawn or self.data.draw)(step)
            self.guards.batch(drawn)
            if self._key == "encoder_features":
                drawn = without_channels(drawn, self.stage.feature_dropout, step_seed(self.seed, step))
            divided = shares(
                drawn, rank=self.processes.rank, count=self.processes.count, parts=self.stage.accumulate
            )
        look = step % FEATURES_EVERY == 0
        return [partial(self.part, wrapped, share, look=look) for share in divided]

    def part(self, wrapped: nn.Module, share: Share, *, look: bool = False) -> Tensor:
        """Return the loss of what is computed in one forward pass."""
        with self.clock("data"):
            if self.model.plain_reasons:
                batch = padded(share.pairs, key=self._key, processor=self.model.checked_processor())
            else:
                batch = packed(share.pairs, key=self._key)
            batch = batch.to(next(wrapped.parameters()).device)
        logits, features = batch.run(wrapped)
        if look and features is not None and share.weight:
            pictures = [pairs.sample for pairs in share.pairs]  # padded rows repeat them
            self.guards.features(features, pictures if len(pictures) == len(features) else batch.samples)
        ages = torch.tensor([task == "age" for task in batch.tasks], device=logits.device)
        losses = token_losses(
            logits,
            batch.targets,
            ordered=ages[batch.pairs],
            numbers=self._numbers,
            spread=self.stage.age_spread,
            soft=batch.soft,
        )
        self.guards.tokens(losses, batch.samples, batch.pairs)
        return losses.sum() * share.weight


def run_stage(trainer: Trainer, index: int, stage: Stage, model: FaceMLLM) -> None:
    """Run a stage, or take its result from where an earlier run has finished it.

    Raises:
        TrainingError: If a guard stops it, or it did not train what it says.
    """
    selection = select(model, stage.train)
    if "encoder" in hold(model, selection, stage):
        trainer.forget_features()  # they are of other weights
    with computing(model, stage):
        _run(trainer, index, stage, model, selection)


def _run(trainer: Trainer, index: int, stage: Stage, model: FaceMLLM, selection: Selection) -> None:
    """Run a stage on a model whose parts are held and compute as it says."""
    folder = trainer.out / "stages" / f"{index + 1}-{stage.name}"
    processes = trainer.processes
    store = Checkpoints(folder / "checkpoint")
    kept = store.peek()
    before = kept["before"] if kept is not None else fingerprints(model)
    trains_encoder = any(name.startswith("encoder.") for names in selection.names.values() for name in names)
    data = stage_data(trainer, stage, model, trains_encoder)
    identity = _identity(data)
    if kept is not None and kept["data"] != identity:
        raise TrainingError(
            "the data is not what it was when this stage began",
            given=f"stage {stage.name!r}, now {identity}",
            expected=f"{kept['data']}",
            do="resume with the same datasets, or begin anew in another folder",
        )
    seed = trainer.recipe.seed * 31 + index
    guards, clock = stage_guards(model), Clock()
    set_modes(model, selection)
    if stage.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss_of = StageLoss(model, data, stage, seed, processes, guards, clock)
    groups = parameter_groups(model, selection, stage)
    plan = Plan(parts_of(model, selection, stage, groups), stage.clip, stage.steps, {})
    if (store.steps() or [0])[-1] < stage.steps:
        plan = _measured(trainer, model, stage, loss_of, groups, plan)
        trainer.say_plan(f"stage {index + 1} of {len(trainer.recipe.stages)}: {stage.name}", plan)
    watch = _watch(trainer, stage, model, trains_encoder, loss_of) if stage.held_out else None
    reset_peak(processes.device)
    with Ahead(data.draw, stage.steps) as ahead:
        loss_of.drawn = ahead
        run_steps(
            model,
            loss_of,
            name=stage.name,
            groups=groups,
            steps=stage.steps,
            folder=folder / "checkpoint",
            log=trainer.log,
            seed=seed,
            warmup=stage.warmup,
            clip=stage.clip,
            precision="bfloat16" if stage.halved else "float32",  # of parts: see training/precision.py
            extra={"before": before, "stage": stage.name, "data": identity},
            progress=trainer.progress,
            shared=True,
            keeping=trainer.keeping,
            guards=guards,
            watch=watch,
            clock=clock,
        )
    peak = memory_peak(processes.device)
    if peak is not None and clock.seconds:
        trainer.log.write(phase=stage.name, peak_bytes=peak, predicted_bytes=plan.peak)
    if stage.activation_checkpointing:
        model.gradient_checkpointing_disable()
    model.eval()
    if processes.main:
        draw_curves(trainer.log.path, stage.name, folder / "curves.png")
    _prove(trainer, stage, model, folder, before, selection)


def stage_data(
    trainer: Trainer, stage: Stage, model: FaceMLLM, trains_encoder: bool, part: HeldOut | None = None
) -> StageData:
    """Return what draws the batches of a stage, or of its held-out part."""
    recipe, sources = trainer.recipe, (part.data if part is not None else stage.data)
    heads = bool(len(model.heads)) and not trains_encoder
    pictures = [trainer.pictures(source, model, trains_encoder) for source in sources]
    if heads:
        _check_heads(model, pictures)
    return StageData(
        pictures,
        [source.weight for source in sources],
        stage if part is None else stage.model_copy(update={"data": sources}),
        model.checked_processor(),
        recipe.seed if part is None else recipe.seed + 7_919,
        estimates=Estimates(dict(model.heads.items())) if heads else None,
    )


def _measured(
    trainer: Trainer,
    model: FaceMLLM,
    stage: Stage,
    loss_of: StageLoss,
    groups: Sequence[dict[str, Any]],
    plan: Plan,
) -> Plan:
    """Return the plan with memory and time."""
    processes = trainer.processes
    if processes.kind == "fsdp2":  # the whole model may not fit where a part of it will
        return plan
    nn.Module.to(model, processes.device)
    drawn = loss_of.data.draw(0)
    loss_of.guards.batch(drawn)
    each = drawn[0].picture.numel() * (2 if loss_of.data.sources[0].key == "encoder_features" else 1)
    there = sum(_bytes(source) for source in loss_of.data.sources)
    probe = replace(loss_of, clock=Clock(), guards=Guards())
    return measured(
        plan,
        model,
        drawn,
        lambda share: probe.part(model, share),
        groups,
        mapped=min(there, stage.steps * len(drawn) * each),
        processes=processes.count,
        halved=stage.halved,
        accumulate=stage.accumulate,
    )


def _bytes(source: Any) -> int:
    return source.features.nbytes if isinstance(source, FeatureSet) else source.crops.pixels.nbytes


def stage_guards(model: FaceMLLM) -> Guards:
    """Return the guards of a model's stages."""
    return Guards(
        image_tokens=model.config.image_tokens,
        longest=getattr(model.config.text_config, "max_position_embeddings", None),
    )


def set_modes(model: FaceMLLM, selection: Selection) -> None:
    """Set to training what trains: what does not must not drop features at random either."""
    model.train()
    for part in ("encoder", "heads"):
        if not any(name.startswith(f"{part}.") for names in selection.names.values() for name in names):
            getattr(model, part).eval()


def _identity(data: StageData) -> list[list[Any]]:
    """Return name, length and a digest of the samples of each source."""
    return [
        [
            source.crops.name,
            len(source.crops),
            hashlib.sha256("\n".join(sample.id for sample in source.crops.samples).encode()).hexdigest()[:16],
        ]
        for source in data.sources
    ]


def _check_heads(model: FaceMLLM, sources: Sequence[Any], most: int = 512) -> None:
    for task, head in model.heads.items():
        predicted: list[str] = []
        true: list[str] = []
        for source in sources:
            if not isinstance(source, FeatureSet) or not hasattr(head, "classes"):
                continue
            rows = [row for row, sample in enumerate(source.crops.samples) if task in sample.labels][:most]
            rows = [row for row in rows if source.crops.samples[row].labels[task] in head.classes]
            if rows:
                with torch.inference_mode():
                    features = source.features[rows, 0].float().to(next(head.parameters()).device)
                    predicted += head.eval().predict(head(features))
                true += [source.crops.samples[row].labels[task] for row in rows]
        check_label_order(task, predicted, true)


def _watch(
    trainer: Trainer, stage: Stage, model: FaceMLLM, trains_encoder: bool, loss_of: StageLoss
) -> Watch:
    part = stage.held_out
    assert part is not None
    data = stage_data(trainer, stage, model, trains_encoder, part)
    drawn = [data.draw(number) for number in range(part.batches)]
    processes = trainer.processes

    def measure(wrapped: nn.Module) -> dict[str, float]:
        total = torch.zeros((), device=processes.device)
        for pairs in drawn:
            for share in shares(pairs, rank=processes.rank, count=processes.count):
                total += loss_of.part(wrapped, share).float()
        found = {"loss": float(processes.sum(total)) / processes.count / len(drawn)}
        for hook in trainer.hooks:
            found = {**hook(wrapped, stage), **found}
        return found

    return Watch(measure, every=part.every, patience=part.patience, phase=stage.name)


def _prove(
    trainer: Trainer, stage: Stage, model: FaceMLLM, folder: Path, before: Any, selection: Selection
) -> None:
    """Compare every tensor with its fingerprint from before the stage, and write down what moved."""
    if (folder / "movement.yaml").is_file():
        return
    movement = verify(before, model, selection)
    if trainer.processes.main:
        write_note(
            folder / "movement.yaml",
            yaml.safe_dump({"moved": list(movement.moved), "still": list(movement.still)}),
        )
    trainer.say(f"{stage.name}: {len(movement.moved)} tensors moved, {len(movement.still)} did not")
