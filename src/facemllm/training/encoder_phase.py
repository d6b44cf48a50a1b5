"""Pretraining of the vision encoder by task heads on labelled faces.

Every dataset knows some labels and not others, so each head learns from the samples that have its label.
Labels are used as they are: a bin of ages is a bin, and UTKFace's "asian" allows every class of FairFace
that it covers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.core.errors import ConfigError
from facemllm.data import FaceSample
from facemllm.data.vocabularies import EXPRESSIONS, GENDERS, age_range
from facemllm.encoders import MirroredEncoder
from facemllm.heads import create_head
from facemllm.model import FaceMLLM
from facemllm.training.augment import augment, normalise
from facemllm.training.batch_norm import add_batch_norm, fold_batch_norm, share_statistics
from facemllm.training.crops import CropSet
from facemllm.training.loop import run_steps
from facemllm.training.parallel import Processes
from facemllm.training.progress import RunLog
from facemllm.training.questions import mirror
from facemllm.training.recipe import EncoderPhase

ETHNICITIES = ("white", "black", "east asian", "southeast asian", "indian", "middle eastern", "latino")

# UTKFace has five classes; these are the finer ones that each covers.
UTKFACE_COVERS = {
    "white": ("white", "middle eastern", "latino"),
    "asian": ("east asian", "southeast asian"),
    "other": ("middle eastern", "latino"),
}

HEADS: dict[str, dict[str, Any]] = {
    "expression": {"name": "classification", "classes": EXPRESSIONS, "label_smoothing": 0.08, "dropout": 0.2},
    "age": {"name": "age", "dropout": 0.2},
    "gender": {"name": "classification", "classes": GENDERS, "label_smoothing": 0.03, "dropout": 0.2},
    "ethnicity": {"name": "classification", "classes": ETHNICITIES, "dropout": 0.2},
    "pose": {"name": "angles", "angles": ("pan", "tilt"), "dropout": 0.2},
}

STATISTICS_BATCHES = 50  # enough for a mean and a variance of each channel

CHANGED_BY_A_MIRROR = ("pose",)

LOSS_WEIGHTS = {"expression": 1.0, "age": 2.0, "gender": 1.0, "ethnicity": 0.5, "pose": 1.0}


def pretrain_encoder(
    model: FaceMLLM,
    phase: EncoderPhase,
    sources: Sequence[tuple[CropSet, float]],
    *,
    folder: Path,
    log: RunLog,
    seed: int,
    progress: bool = True,
) -> None:
    """Add a linear head for each task to ``model``, and train encoder and heads together.

    The heads stay with the model: they are the yardstick that its answers are compared with.

    Args:
        model: Its encoder is trained in place.
        phase: What to do.
        sources: Crops and their weights.
        folder: Of the checkpoint.
        log: Takes the losses.
        seed: Of all choices.
        progress: Whether to show a bar.

    Raises:
        ConfigError: If a batch has fewer pictures than there are processes.
    """
    processes = Processes()
    if phase.batch_size < processes.count:
        raise ConfigError(
            "a batch of the encoder phase cannot be divided",
            given=f"{phase.batch_size} pictures a step, {processes.count} processes",
            expected="at least one picture for each process",
            do="raise batch_size in encoder_phase, or launch fewer processes",
        )
    own = slice(processes.rank, None, processes.count)
    whole, device = model.encoder, model.device
    # Two views of a picture teach no more than one, for twice the cost.
    encoder = whole.base if isinstance(whole, MirroredEncoder) else whole
    with torch.random.fork_rng(devices=[]):  # heads begin alike, whatever else the model is made of
        torch.manual_seed(seed)
        heads = nn.ModuleDict(
            {task: create_head(**HEADS[task], in_dim=encoder.embed_dim) for task in phase.tasks}
        ).to(device)
    shares = [weight for _, weight in sources]

    def draw(key: str, *, early: bool, keep: slice = slice(None)) -> tuple[Tensor, list[FaceSample]]:
        """Return images [b, 3, S, S] and the labels of all of a batch, which ``key`` alone decides."""
        rng = random.Random(f"{seed}/encoder/{key}")
        pixels, samples = [], []
        for crops, _ in rng.choices(sources, shares, k=phase.batch_size):
            index = rng.randrange(len(crops))
            pixels.append(torch.from_numpy(crops.pixels[index].copy()))
            samples.append(crops.samples[index])
        generator = torch.Generator().manual_seed(rng.getrandbits(40))
        images, mirrored = augment(
            torch.stack(pixels),
            encoder.image_size,
            generator,
            out=phase.early_size if early else None,
            keep=keep,
        )
        samples = [mirror(sample, bool(flip)) for sample, flip in zip(samples, mirrored, strict=True)]
        images = normalise(images, encoder.mean, encoder.std)
        return images.to(device, memory_format=torch.channels_last), samples

    if phase.batch_norm:
        add_batch_norm(encoder, draw("start", early=phase.early_share > 0)[0])
    network = nn.ModuleDict({"encoder": encoder, "heads": heads}).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(phase.ema)
    )

    def loss_of(_: Any, step: int) -> Tensor:
        early = step < phase.early_share * phase.steps
        # All processes draw the same pictures, and each computes its own of them: see training/sharing.py.
        images, samples = draw(str(step), early=early, keep=own)
        features = encoder(images)
        losses = []
        for task in phase.tasks:
            labels, known = task_labels(task, samples)
            counted = (known & labels.any(1) if labels.dtype == torch.bool else known).float()
            labels, mine = labels[own], known[own]
            if counted[own].any():
                head: Any = heads[task]
                loss = head.loss(head(features[mine]), labels[mine].to(device))
                # A mean of its own pictures, made a part of that of all.
                share = float(counted[own].sum() / counted.sum()) * processes.count
                losses.append(LOSS_WEIGHTS[task] * share * loss)
        return torch.stack(losses).sum() if losses else features.sum() * 0

    network.train()
    share_statistics(encoder, processes.sum if processes.count > 1 else None)
    run_steps(
        network,
        loss_of,
        name="encoder",
        groups=[
            {"params": list(encoder.parameters()), "lr": phase.lr},
            {"params": list(heads.parameters()), "lr": 2 * phase.lr},
        ],
        steps=phase.steps,
        folder=folder / "checkpoint",
        log=log,
        seed=seed,
        weight_decay=phase.weight_decay,
        clip=5.0,
        precision=phase.precision,
        kept={"average": average},
        after_step=lambda _: average.update_parameters(network),
        progress=progress,
        shared=True,
        wrapped_up=False,
    )
    share_statistics(encoder, None)
    network.load_state_dict(average.module.state_dict())
    if phase.batch_norm:  # averaged weights have statistics of their own
        with torch.random.fork_rng():
            batches = (draw(f"statistics/{index}", early=False)[0] for index in range(STATISTICS_BATCHES))
            torch.optim.swa_utils.update_bn(batches, encoder)
        fold_batch_norm(encoder.eval())
    network.eval()
    for task, head in heads.items():
        model.add_head(task, _for_both_views(head, task) if encoder is not whole else head)


def _for_both_views(head: Any, task: str) -> nn.Module:
    """Return a head that was trained on one view, for the tokens of a MirroredEncoder."""
    wide = create_head(**HEADS[task], in_dim=2 * head.in_dim).eval()
    state = head.state_dict()
    mirrors = task not in CHANGED_BY_A_MIRROR
    state["linear.weight"] = MirroredEncoder.widened(state["linear.weight"], mirrors=mirrors)
    wide.load_state_dict(state)
    return wide


def task_labels(task: str, samples: Sequence[FaceSample]) -> tuple[Tensor, Tensor]:
    """Return labels as a head takes them, and which samples have one [B].

    ``expression`` and ``gender``: class indices [B]. ``ethnicity``: allowed classes [B, C]. ``age``: first
    and last possible year [B, 2]. ``pose``: pan and tilt in degrees [B, 2].
    """
    rows = [_label(task, sample) for sample in samples]
    known = torch.tensor([row is not None for row in rows])
    blank = next((row for row in rows if row is not None), 0)
    empty: Any = [0] * len(blank) if isinstance(blank, (list, tuple)) else 0
    labels = torch.tensor([empty if row is None else row for row in rows])
    return labels.bool() if task == "ethnicity" else labels, known


def _label(task: str, sample: FaceSample) -> Any:
    labels = sample.labels
    if task == "age":
        if "age" in labels:
            return [float(labels["age"])] * 2
        return [float(year) for year in age_range(labels["age_bin"])] if "age_bin" in labels else None
    if task not in labels:
        return None
    value = labels[task]
    if task == "expression":
        return EXPRESSIONS.index(value)
    if task == "gender":
        return GENDERS.index(value)
    if task == "ethnicity":
        allowed = UTKFACE_COVERS.get(value, (value,)) if sample.dataset == "utkface" else (value,)
        return [name in allowed for name in ETHNICITIES]
    return [float(value["pan"]), float(value["tilt"])]
