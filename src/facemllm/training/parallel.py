"""One process or many: what ``accelerate launch`` or ``torchrun`` started, found in the environment.

Nothing in a recipe or in the code changes with the number of processes. Work that is shared is divided by
the caller (see :mod:`facemllm.training.sharing`); what is here wraps the model, adds up numbers, and keeps
all processes of one mind about errors: if one stops, all stop, with that one's reason.

    accelerate launch --num_processes 2 -m facemllm.cli.main train tiny ...            # DDP
    accelerate launch --use_fsdp --fsdp_version 2 --num_processes 2 -m ...             # FSDP2
    torchrun --nproc_per_node 2 -m facemllm.cli.main train tiny ...                    # DDP
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from facemllm.core.errors import ConfigError, FaceMLLMError, TrainingError

T = TypeVar("T")
PATIENCE = timedelta(hours=6)
"""How long a process waits for the others: making face crops of a large set takes one process hours."""


class Processes:
    """The processes of a run.

    Attributes:
        rank: Number of this process.
        count: How many there are.
        device: Where this process computes.
        kind: "one", "ddp" or "fsdp2".
    """

    def __init__(self) -> None:
        from accelerate import PartialState

        if _on("ACCELERATE_USE_DEEPSPEED") or _on("ACCELERATE_USE_MEGATRON_LM"):
            raise ConfigError(
                "this kind of parallel training is not built in",
                given="accelerate launched with DeepSpeed or Megatron-LM",
                expected="DDP (the default) or FSDP2",
                do="launch with --use_fsdp --fsdp_version 2, which shards as much",
            )
        if _on("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "2") != "2":
            raise ConfigError(
                "FSDP version 1 is not supported",
                given=f"FSDP_VERSION={os.environ['FSDP_VERSION']}",
                expected="2",
                do="launch with --fsdp_version 2",
            )
        cpu = _on("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        self._state = PartialState(cpu, **({} if PartialState._shared_state else {"timeout": PATIENCE}))
        self.rank, self.count = self._state.process_index, self._state.num_processes
        self.device: torch.device = self._state.device
        many = "fsdp2" if _on("ACCELERATE_USE_FSDP") else "ddp"
        self.kind = many if self.count > 1 else "one"

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for the others."""
        self._state.wait_for_everyone()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.count > 1:
            values = values.to(self.device)
            torch.distributed.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Return the value of each process, in order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return found

    def first(self, work: Callable[[], T]) -> T:
        """Let the main process work first, the others after it: they find what it has put on disk."""
        if self.main:
            result = self.agree(work)
        else:
            self.agree(lambda: None)
            result = work()
        self.wait()
        return result

    def agree(self, work: Callable[[], T]) -> T:
        """Work, and raise in every process what one of them raised.

        Raises:
            FaceMLLMError: What this process raised, or a TrainingError that tells what another one did.
        """
        error: FaceMLLMError | None = None
        result: Any = None
        try:
            result = work()
        except FaceMLLMError as raised:
            error = raised
        told = self.gather(None if error is None else (error.what, error.given, error.expected, error.do))
        if error is not None:
            raise error
        for rank, parts in enumerate(told):
            if parts is not None:
                what, given, expected, do = parts
                raise TrainingError(f"{what} (process {rank})", given=given, expected=expected, do=do)
        return result

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the mean of all gradients; a parameter that has none anywhere keeps none."""
        if self.count == 1:
            return
        there = self.sum(torch.tensor([float(parameter.grad is not None) for parameter in parameters]))
        chosen = [parameter for parameter, found in zip(parameters, there.tolist(), strict=True) if found]
        each = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
        mean = self.sum(torch.cat([gradient.flatten() for gradient in each])) / self.count
        parts = mean.split([parameter.numel() for parameter in chosen])
        for parameter, part in zip(chosen, parts, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part.view_as(parameter))

    def equal(self, parts: Mapping[str, nn.Module]) -> None:
        """Give every process the main one's parameters and buffers."""
        if self.count > 1:
            for part in parts.values():
                for tensor in part.state_dict(keep_vars=True).values():
                    torch.distributed.broadcast(tensor.data, 0)

    def wrap(
        self, model: nn.Module, groups: Sequence[Mapping[str, Any]]
    ) -> tuple[nn.Module, nn.Module, list[dict[str, Any]]]:
        """Return the model to call, the module that holds what trains, and the groups with its parameters.

        With one process or DDP that module is ``model`` itself. With FSDP2 it is a sharded copy, and
        ``model`` gets its weights by :func:`full_state`.
        """
        model.to("cpu" if self.kind == "fsdp2" else self.device)
        if self.kind == "one":
            return model, model, [dict(group) for group in groups]
        if self.kind == "ddp":
            # Buckets stay as they are at the start: added up in the same order after a resume as before.
            wrapped = nn.parallel.DistributedDataParallel(
                model,
                device_ids=None if self.device.type == "cpu" else [self.device.index],
                find_unused_parameters=True,
            )
            return wrapped, model, [dict(group) for group in groups]
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        sharded = _shard(copy.deepcopy(model), self.device)
        parameters = dict(sharded.named_parameters())
        moved = [
            {**group, "params": [parameters[names[id(parameter)]] for parameter in group["params"]]}
            for group in groups
        ]
        return sharded, sharded, moved


@contextmanager
def unsynchronised(wrapped: nn.Module, last: bool) -> Iterator[None]:
    """Add up gradients in this process alone, until the last part of a step."""
    if isinstance(wrapped, nn.parallel.DistributedDataParallel) and not last:
        with wrapped.no_sync():
            yield
    else:  # FSDP2 adds up shards, which are small
        yield


def full_state(state: Any) -> Any:
    """Return a state dict with whole tensors in place of shards; all processes must call it together."""
    if isinstance(state, Tensor):
        return whole(state).cpu() if hasattr(state, "full_tensor") else state
    if isinstance(state, Mapping):
        return {key: full_state(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(full_state(value) for value in state)
    return state


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state with whole tensors, sharded as the parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    placed: dict[int, Any] = {}
    for index, values in state["state"].items():
        parameter: Any = parameters[index]
        placed[index] = {
            key: _placed(value, parameter)
            if isinstance(value, Tensor) and value.shape == parameter.shape
            else value
            for key, value in values.items()
        }
    optimizer.load_state_dict({**state, "state": placed})


def whole(value: Tensor) -> Tensor:
    """Return a number that may lie in shards as a plain tensor."""
    shards: Any = value
    full: Tensor = shards.full_tensor() if hasattr(value, "full_tensor") else value
    return full


def _placed(full: Tensor, parameter: Any) -> Tensor:
    if not hasattr(parameter, "device_mesh"):
        return full
    from torch.distributed.tensor import distribute_tensor

    mesh = parameter.device_mesh
    return distribute_tensor(full.to(mesh.device_type), mesh, parameter.placements)


def _shard(model: nn.Module, device: torch.device) -> nn.Module:
    """Shard each block of a list of blocks for itself, and what is left together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList) and len(module) > 1:
            for block in module:
                if any(True for _ in block.parameters()) and not isinstance(block, nn.ModuleList):
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _on(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("1", "true", "yes")
