"""What a stage will do, before it does it: what trains and how, and the memory and time it will take.

Parameters are counted. Gradients and Adam's two averages follow from them. What the layers keep for the
backward pass is measured: a part of the first batch is read, the tensors that autograd keeps are added up,
and the sum is scaled by the number of tokens. Time is that of the same part, forward and back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.training.batches import Pairs
from facemllm.training.freezing import PARTS, Selection, matching
from facemllm.training.memory import memory_now
from facemllm.training.precision import described
from facemllm.training.recipe import Stage
from facemllm.training.sharing import shares
from facemllm.training.state import random_state, set_random_state

PROBE = 4
"""One in so many pictures of the first batch is read to measure with."""


@dataclass(frozen=True)
class Part:
    """One line of the table.

    Attributes:
        name: Of the part or pattern.
        trains: Whether it trains.
        tensors: How many.
        parameters: How many numbers.
        size: Bytes they are held in.
        precision: What they are held in and computed in.
        lr: Lowest and highest peak rate of its layers; none where it is frozen.
        weight_decay: Of AdamW.
        layer_decay: What the rate is multiplied by from layer to layer.
    """

    name: str
    trains: bool
    tensors: int
    parameters: int
    size: int = 0
    precision: str = "float32"
    lr: tuple[float, float] | None = None
    weight_decay: float | None = None
    layer_decay: float | None = None


@dataclass(frozen=True)
class Plan:
    """What a stage will do.

    Attributes:
        parts: What trains and what does not.
        clip: Largest norm of the gradient, of all parts together or of each.
        memory: Bytes by what takes them; empty where they were not measured.
        seconds: That a step takes; none where it was not measured.
        steps: How many steps there are.
    """

    parts: tuple[Part, ...]
    clip: float | Mapping[str, float]
    steps: int
    memory: Mapping[str, int]
    seconds: float | None = None

    @property
    def peak(self) -> int | None:
        """The most bytes that will be in use."""
        return sum(self.memory.values()) if self.memory else None

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells of the table, a row for each part."""
        return [
            (
                part.name,
                "trains" if part.trains else "frozen",
                f"{part.tensors:,}",
                f"{part.parameters:,}",
                f"{part.size / 2**20:,.1f}",
                _rates(part.lr),
                _number(part.weight_decay),
                _number(part.layer_decay),
                _number(self.clip[part.name] if isinstance(self.clip, Mapping) else self.clip)
                if part.trains
                else "",
                part.precision,
            )
            for part in self.parts
        ]

    def estimates(self) -> str:
        """Return memory and time in one line."""
        found = []
        if self.peak is not None:
            weights = sum(part.size for part in self.parts)
            shares = ", ".join(
                f"{name} {size / 2**20:,.0f}"
                + (f" with {weights / 2**20:,.0f} of weights" if name == "now" else "")
                for name, size in self.memory.items()
            )
            found.append(f"at most {self.peak / 2**20:,.0f} MiB of memory ({shares})")
        if self.seconds is not None:
            found.append(
                f"{self.steps} steps of {self.seconds:.2g} s, {_duration(self.seconds * self.steps)}"
            )
        return "; ".join(found)


HEADINGS = ("part", "", "tensors", "parameters", "MiB", "lr", "decay", "layer decay", "clip", "precision")


def parts_of(
    model: nn.Module, selection: Selection, stage: Stage, groups: Sequence[Mapping[str, Any]]
) -> tuple[Part, ...]:
    """Return a line for each part that trains, and one for what is frozen of each part of the model."""
    parameters = dict(model.named_parameters())

    def line(name: str, trains: bool, names: Sequence[str], **options: Any) -> Part:
        chosen = [parameters[n] for n in names]
        computed = stage.halved or all(stage.precisions.get(n.partition(".")[0]) == "bfloat16" for n in names)
        return Part(
            name,
            trains,
            len(chosen),
            sum(parameter.numel() for parameter in chosen),
            sum(parameter.nbytes for parameter in chosen),
            described(chosen, computed),
            **options,
        )

    lines = []
    for name, names in selection.names.items():
        rates = [group["lr"] for group in groups if group["part"] == name]
        decays = {"weight_decay": stage.weight_decay_of(name), "layer_decay": stage.layer_decay.get(name)}
        lines.append(line(name, True, names, lr=(min(rates), max(rates)), **decays))
    left = [name for name in parameters if name not in selection]
    for part in ("regions", "encoder", "connector", "lora", "language_model", "heads"):
        found = matching(left, PARTS[part])
        left = [name for name in left if name not in set(found)]
        if found:
            lines.append(line(part, False, found))
    if left:
        lines.append(line("other", False, left))
    return tuple(lines)


def measured(
    plan: Plan,
    model: nn.Module,
    drawn: Sequence[Pairs],
    loss: Callable[[Any], Tensor],
    groups: Sequence[Mapping[str, Any]],
    *,
    mapped: int = 0,
    processes: int = 1,
    halved: bool = False,
    accumulate: int = 1,
) -> Plan:
    """Return a plan with memory and time, measured on a part of the first batch; the model stays as it is.

    Args:
        plan: What is known without.
        model: On the device it trains on.
        drawn: The first batch.
        loss: Of a share of it.
        groups: Of the optimiser.
        mapped: Bytes of pictures or features that will be read from disk in all.
        processes: Among which a batch is divided.
        halved: Whether bfloat16 is computed with.
        accumulate: Parts in which a batch is computed.
    """
    device = next(model.parameters()).device
    state, buffers = random_state(), [(buffer, buffer.clone()) for buffer in model.buffers()]
    trained = [parameter for group in groups for parameter in group["params"]]
    probe = list(drawn)[: max(1, len(drawn) // PROBE)]
    before = memory_now(device)
    kept: dict[int, int] = {}
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    share = shares(probe)[0]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=halved):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss(share).backward()  # and the first time is slow
        start = time.perf_counter()
        loss(share).backward()
    seconds = time.perf_counter() - start
    for parameter in trained:
        parameter.grad = None
    for buffer, value in buffers:
        buffer.copy_(value)
    set_random_state(state)
    scale = tokens(drawn) / tokens(probe)
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    biggest = max(kept.values(), default=0)
    divided = scale / processes / accumulate
    memory = {
        "now": before or 0,
        "gradients": size,
        "Adam": 2 * size,
        "activations": int((sum(kept.values()) + biggest) * divided),
        "read from disk": mapped,
    }
    return replace(plan, memory=memory if before is not None else {}, seconds=seconds * scale / processes)


def tokens(drawn: Sequence[Pairs]) -> int:
    """Return how many tokens are computed for pictures and their pairs; a picture counts once."""
    total = 0
    for pairs in drawn:
        trunk = sum(pairs.encoded[0].image_mask)
        total += trunk + sum(len(encoded) - trunk for encoded in pairs.encoded)
    return total


def _rates(rates: tuple[float, float] | None) -> str:
    if rates is None:
        return ""
    low, high = rates
    return f"{high:g}" if low == high else f"{low:.3g} to {high:g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s in all"
    return f"{seconds / 60:.0f} min in all" if seconds < 5400 else f"{seconds / 3600:.1f} h in all"
