"""The one loop that all phases and stages run: loss, gradient, step, log, checkpoint.

What a step does depends on the run's seed and the number of the step, never on what the process did before. A
checkpoint holds all the rest: weights, Adam's averages, the schedule, and where every random generator of
every process stands. So a run that was stopped anywhere ends with the bits of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from facemllm.training.checkpoints import Checkpoint, Checkpoints
from facemllm.training.guards import Guards
from facemllm.training.parallel import Processes, full_state, load_optimizer, unsynchronised, whole
from facemllm.training.progress import RunLog, track
from facemllm.training.state import load_part, random_state, set_random_state
from facemllm.training.watch import Watch

CHECKPOINT_EVERY = 100  # steps
LOG_EVERY = 10

Loss: TypeAlias = "Tensor | Sequence[Callable[[], Tensor]]"


@dataclass(frozen=True)
class Keeping:
    """Which checkpoints are made and kept.

    Args:
        every: Steps between them; 100 by default.
        last: How many of the newest are kept.
        best: How many of those with the lowest held-out loss are kept beside them.
    """

    every: int | None = None
    last: int = 2
    best: int = 1


class Clock:
    """Where the time of a loop goes.

    A block inside another counts for itself, and not for the other too.

    Attributes:
        seconds: By name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of a block to a name."""
        start, outside = time.perf_counter(), self._inside
        self._inside = 0.0
        yield
        spent = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inside
        self._inside = outside + spent


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


def step_seed(seed: int, step: int) -> int:
    """Return the seed of torch's generator in one step."""
    return seed * 1_000_003 + step


def run_steps(
    model: nn.Module,
    loss_of: Callable[[nn.Module, int], Loss],
    *,
    name: str,
    groups: Sequence[Mapping[str, Any]],
    steps: int,
    folder: Path,
    log: RunLog,
    seed: int,
    warmup: float = 0.05,
    weight_decay: float = 0.01,
    clip: float | Mapping[str, float] = 1.0,
    precision: str = "float32",
    extra: Mapping[str, Any] | None = None,
    kept: Mapping[str, Any] | None = None,
    after_step: Callable[[int], None] | None = None,
    progress: bool = True,
    shared: bool = False,
    wrapped_up: bool = True,
    keeping: Keeping | None = None,
    guards: Guards | None = None,
    watch: Watch | None = None,
    clock: Clock | None = None,
) -> None:
    """Train ``model`` in place, going on from the newest whole checkpoint in ``folder`` if there is one.

    Args:
        model: Whose state is kept. Which of its parameters train is up to ``groups``.
        loss_of: Maps the (wrapped) model and a step to a loss, or to functions that each compute a part of it
            (gradient accumulation); random choices must depend on the step alone.
        name: For the log and the bar.
        groups: AdamW's parameter groups, each with its own peak ``lr``, and its own ``weight_decay`` if any.
        steps: How many in all.
        folder: Of the checkpoints.
        log: Takes the losses.
        seed: torch is seeded by it and the step before each step.
        warmup: Share of steps in which the learning rate rises.
        weight_decay: Of AdamW.
        clip: Largest norm of the gradient; of all groups together, or one for each ``part`` of the groups.
        precision: "float32" or "bfloat16".
        extra: Plain values to keep in the checkpoint.
        kept: Other parts whose state belongs into the checkpoint, such as averaged weights.
        after_step: Called after each step.
        progress: Whether to show a bar.
        shared: Whether ``loss_of`` gives this process its part of the work. Else every process does all
            of it, and gets the same.
        wrapped_up: Whether a model that is shared is wrapped (DDP, FSDP2). Else gradients are averaged after
            the backward pass: for a small model that is called by its parts.
        keeping: Which checkpoints are made and kept.
        guards: Look at batches and gradients, and stop the run.
        watch: Measures on a held-out part, and may end the phase early.
        clock: Takes the time spent.

    Raises:
        TrainingError: If the loss is not finite, or a guard stops the run.
        CheckpointError: If all checkpoints are damaged, or one cannot be written.
    """
    keeping, clock, guards = keeping or Keeping(), clock or Clock(), guards or Guards()
    processes = Processes()
    store = Checkpoints(folder, last=keeping.last, best=keeping.best if watch is not None else 0)
    parts = {"model": model, **(kept or {})}
    done = store.load()
    start = 0 if done is None else done.step
    if done is not None:
        for key, part in parts.items():
            load_part(part, done.tensors[key])
        if watch is not None:
            watch.load_state_dict(done.extra["watch"])
        log.write(phase=name, resumed=start)
    if start >= steps or (watch is not None and watch.ended):
        _finish(store, parts, watch, done, processes)
        return
    if shared and wrapped_up:
        wrapped, holder, groups = processes.wrap(model, groups)
    else:
        wrapped = holder = model.to(processes.device)
    optimizer = torch.optim.AdamW(
        [dict(group) for group in groups], weight_decay=weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(steps, warmup))
    if done is not None:
        load_optimizer(optimizer, done.tensors["optimizer"])
        schedule.load_state_dict(done.tensors["schedule"])
        _set_random(done, processes)

    def keep(step: int, score: float | None) -> None:
        tensors = {key: full_state(part.state_dict()) for key, part in {**parts, "model": holder}.items()}
        tensors |= {"optimizer": full_state(optimizer.state_dict()), "schedule": schedule.state_dict()}
        tensors["random"] = processes.gather(random_state())
        plain = {**(extra or {}), **({"watch": watch.state_dict()} if watch is not None else {})}
        processes.agree(lambda: store.save(step, tensors, plain, score=score) if processes.main else None)

    every = keeping.every or CHECKPOINT_EVERY
    began = time.perf_counter()
    for step in track(range(start, steps), name, enabled=progress and processes.main):
        torch.manual_seed(step_seed(seed, step) + (processes.rank << 40 if shared else 0))
        loss = _gradient(
            wrapped, loss_of, step, precision, clock, lambda part: guards.graph(part, groups, phase=name)
        )
        if shared:
            loss = processes.sum(loss) / processes.count
        if shared and not wrapped_up:
            processes.average([parameter for group in groups for parameter in group["params"]])
        with clock("check"):
            guards.loss(loss, phase=name, step=step, processes=processes)
            guards.gradients(groups, phase=name, step=step, last=step == steps - 1, processes=processes)
        with clock("update"):
            norm = _clip(groups, clip)
            guards.norm(norm, phase=name, step=step)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if after_step is not None:
                after_step(step)
        last, score, better = step == steps - 1, None, False
        if watch is not None and (last or watch.due(step)):
            with clock("held out"):
                score = watch(wrapped, step, log)
            last, better = last or watch.ended, watch.improved
        if step % LOG_EVERY == 0 or last:
            rates = [round(float(rate), 8) for rate in schedule.get_last_lr()]
            log.write(
                phase=name, step=step, of=steps, loss=round(float(loss), 7), norm=round(norm, 4), lr=rates
            )
        if (step + 1) % every == 0 or last or better:
            with clock("checkpoint"):
                keep(step + 1, score)
        if last:
            break
    seconds = {"all": time.perf_counter() - began, **clock.seconds}
    log.write(phase=name, seconds={key: round(value, 3) for key, value in seconds.items()})
    if holder is not model:
        model.load_state_dict(full_state(holder.state_dict()))
    elif not (shared and wrapped_up):
        processes.equal(parts)
    _finish(store, parts, watch, None, processes)


def _clip(groups: Sequence[Mapping[str, Any]], clip: float | Mapping[str, float]) -> float:
    """Clip the gradient, of all parts together or of each for itself; return its norm from before."""
    norms = []
    for part, largest in clip.items() if isinstance(clip, Mapping) else ((None, clip),):
        chosen = [p for group in groups if part in (None, group.get("part")) for p in group["params"]]
        norms.append(float(whole(nn.utils.clip_grad_norm_(chosen, largest))))
    return math.hypot(*norms) if len(norms) > 1 else norms[0]


def _gradient(
    wrapped: nn.Module,
    loss_of: Callable[[nn.Module, int], Loss],
    step: int,
    precision: str,
    clock: Clock,
    look: Callable[[Tensor], None],
) -> Tensor:
    """Add up the gradient of a step; return its loss in this process, without a graph."""
    device = next(wrapped.parameters()).device
    halved = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
    total = torch.zeros((), device=device)
    with halved, clock("forward"):
        computed = loss_of(wrapped, step)
    works = [lambda: computed] if isinstance(computed, Tensor) else list(computed)
    for index, work in enumerate(works):
        with unsynchronised(wrapped, last=index == len(works) - 1):
            with clock("forward"), halved:
                loss = work()
            look(loss)
            with clock("backward"):
                loss.backward()
            total += loss.detach().float()
    return total


def _finish(
    store: Checkpoints,
    parts: Mapping[str, Any],
    watch: Watch | None,
    done: Checkpoint | None,
    processes: Processes,
) -> None:
    """Leave the weights of the phase in the model, and the generators where it has left them."""
    if done is not None:
        _set_random(done, processes)
    best = store.best() if watch is not None and watch.keep_best else None
    if best is not None:
        for key, part in parts.items():
            load_part(part, best.tensors[key])


def _set_random(done: Checkpoint, processes: Processes) -> None:
    states = done.tensors["random"]
    set_random_state(states[min(processes.rank, len(states) - 1)])
