"""The one loop that all phases and stages run: loss, gradient, step, log, checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.core.errors import TrainingError
from facemllm.training.checkpoints import load_checkpoint, save_checkpoint
from facemllm.training.progress import RunLog, track

CHECKPOINT_EVERY = 100  # steps


def warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """Return the learning-rate factor of a step: up in a line, then down as half a cosine.

    Example:
        >>> factor = warmup_cosine(100, 0.1)
        >>> factor(0), factor(9), round(factor(99), 3)
        (0.1, 1.0, 0.0)
    """
    rising = max(1, int(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - rising) / max(1, steps - rising)))

    return factor


def run_steps(
    model: nn.Module,
    loss_of: Callable[[nn.Module, int], Tensor],
    *,
    name: str,
    groups: Sequence[Mapping[str, Any]],
    steps: int,
    folder: Path,
    log: RunLog,
    seed: int,
    warmup: float = 0.05,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    precision: str = "float32",
    extra: Mapping[str, Any] | None = None,
    kept: Mapping[str, Any] | None = None,
    after_step: Callable[[int], None] | None = None,
    progress: bool = True,
) -> None:
    """Train ``model`` in place, going on from the checkpoint in ``folder`` if there is one.

    Args:
        model: Whose state is kept. Which of its parameters train is up to ``groups``.
        loss_of: Maps the (wrapped) model and a step to a loss; random choices must depend on the step alone.
        name: For the log and the bar.
        groups: AdamW's parameter groups, each with its own peak ``lr``.
        steps: How many in all.
        folder: Of the checkpoint.
        log: Takes the losses.
        seed: torch is seeded by it and the step before each step.
        warmup: Share of steps in which the learning rate rises.
        weight_decay: Of AdamW.
        clip: Largest norm of the gradient.
        precision: "float32" or "bfloat16".
        extra: Plain values to keep in the checkpoint.
        kept: Other parts whose state belongs into the checkpoint, such as averaged weights.
        after_step: Called after each step.
        progress: Whether to show a bar.

    Raises:
        TrainingError: If the loss is not finite.
        CheckpointError: If the checkpoint is damaged.
    """
    done = load_checkpoint(folder)
    start = done[0]["step"] if done else 0
    states = {"model": model, **(kept or {})}
    if done:
        for key, part in states.items():
            part.load_state_dict(done[1][key])
    if start >= steps:
        return
    from accelerate import Accelerator

    # The precision is a phase's own, an Accelerator's that of the whole process: autocast is torch's.
    accelerator = Accelerator(mixed_precision="no")
    optimizer = torch.optim.AdamW(
        [dict(group) for group in groups], weight_decay=weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(steps, warmup))
    if done:
        optimizer.load_state_dict(done[1]["optimizer"])
        schedule.load_state_dict(done[1]["schedule"])
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    parameters = [parameter for group in groups for parameter in group["params"]]
    for step in track(range(start, steps), name, enabled=progress):
        torch.manual_seed(seed * 1_000_003 + step)
        with torch.autocast(accelerator.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_of(wrapped, step)
        if not torch.isfinite(loss):
            raise TrainingError(
                "loss is not finite",
                given=f"{loss.item()} in step {step} of {name!r}",
                expected="a number",
                do="lower its learning rate; the last checkpoint is intact",
            )
        accelerator.backward(loss)
        norm = float(accelerator.clip_grad_norm_(parameters, clip))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if after_step is not None:
            after_step(step)
        last = step == steps - 1
        if step % 10 == 0 or last:
            rates = [round(float(rate), 8) for rate in schedule.get_last_lr()]
            log.write(phase=name, step=step, loss=round(loss.item(), 5), norm=round(norm, 4), lr=rates)
        if (step + 1) % CHECKPOINT_EVERY == 0 or last:
            tensors = {**states, "optimizer": optimizer, "schedule": schedule}
            save_checkpoint(
                folder,
                step=step + 1,
                tensors={key: part.state_dict() for key, part in tensors.items()},
                extra=dict(extra or {}),
            )
