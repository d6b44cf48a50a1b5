"""What each part is held in and computes in: float32, or bfloat16 at half the memory.

Weights that train are float32 whatever a stage says: a step of AdamW is often smaller than the distance
between two neighbours in bfloat16 (one part in 256), and would be lost. They compute in bfloat16 by
autocast. Weights that are frozen have no steps to lose, so they are held in what they compute in.

Source: mixed precision with float32 master weights, Micikevicius et al., arXiv 1710.03740.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from facemllm.core.errors import ConfigError
from facemllm.training.freezing import PARTS, Selection, matching
from facemllm.training.recipe import COMPUTING, Stage

BESIDE = (*PARTS["lora"], *PARTS["regions"])
"""Weights that train beside frozen ones of the same part, and are few: they are float32 always."""


def check_parts(model: nn.Module, stage: Stage) -> None:
    """Look whether a model has the parts that a stage gives a precision to.

    Raises:
        ConfigError: If it does not.
    """
    there = [part for part in COMPUTING if _modules(model, part)]
    missing = sorted(set(stage.precisions) - set(there))
    if missing:
        raise ConfigError(
            f"no part {missing[0]!r} to give a precision to",
            given=f"precision of stage {stage.name!r}: {dict(stage.precisions)}",
            expected=f"parts of the model: {', '.join(there)}",
            do=f"leave {missing[0]!r} out of `precision`, or add the part to the model",
        )


def hold(model: nn.Module, selection: Selection, stage: Stage) -> set[str]:
    """Bring the weights of each part to what a stage holds them in; return the parts that have changed.

    Weights that train, LoRA and region tokens are float32. A part is frozen if none but LoRA and region
    tokens train in it; then its weights are bfloat16 where the stage gives it that precision. If the stage
    gives one precision for all, only what is bfloat16 already stays it, and only if that precision is
    bfloat16. All else is float32. Packed weights (QLoRA) stay packed.

    What has been rounded stays rounded: a part that is held in bfloat16 in one stage and trains in the next
    begins with the rounded weights.

    Args:
        model: A FaceMLLM.
        selection: What trains.
        stage: What it is held in.
    """
    beside = set(matching([name for name, _ in model.named_parameters()], BESIDE))
    changed: set[str] = set()
    for part in COMPUTING:
        trains = any(
            name.startswith(f"{part}.") and name not in beside
            for names in selection.names.values()
            for name in names
        )
        named = stage.precisions.get(part)
        for name, tensor in floating(getattr(model, part, None), part):
            kept = stage.halved and tensor.dtype == torch.bfloat16
            halved = (named == "bfloat16" or kept) and not trains and name not in beside
            if _cast(tensor, torch.bfloat16 if halved else torch.float32):
                changed.add(part)
    return changed


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Bring all weights to a dtype, in place.

    Unlike ``model.to(dtype)`` it leaves buffers alone that are not saved, such as the frequencies of rotary
    positions: a model that is loaded has them in full precision.
    """
    for _, tensor in floating(model):
        _cast(tensor, dtype)


def floating(module: nn.Module | None, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Return names and tensors of the floating-point parameters and saved buffers of a module."""
    if module is None:
        return
    dot = f"{prefix}." if prefix else ""
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and getattr(parameter, "quant_state", None) is None:
            yield dot + name, parameter
    for owner, inner in module.named_modules(prefix=prefix):
        for key, buffer in inner.named_buffers(recurse=False):
            if buffer.is_floating_point() and key not in inner._non_persistent_buffers_set:
                yield f"{owner}.{key}" if owner else key, buffer


@contextmanager
def computing(model: nn.Module, stage: Stage) -> Iterator[None]:
    """Let each part compute in the precision that a stage gives it, while the block runs.

    Inputs of a part come in what it is held in. A part that is given bfloat16 runs under autocast.
    """
    with ExitStack() as stack:
        for part in COMPUTING:
            for module in _modules(model, part):
                around = _Around(held_in(module), stage.precisions.get(part) == "bfloat16")
                before = module.register_forward_pre_hook(around.before, with_kwargs=True)
                # always_call: autocast ends where the forward pass fails, too.
                after = module.register_forward_hook(around.after, always_call=True)
                stack.callback(before.remove)
                stack.callback(after.remove)
        yield


def held_in(module: nn.Module) -> torch.dtype:
    """Return the dtype of most of a module's weights.

    Example:
        >>> held_in(nn.Linear(2, 2).bfloat16())
        torch.bfloat16
    """
    sizes: dict[torch.dtype, int] = {}
    for _, tensor in floating(module):
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)


def described(parameters: Sequence[nn.Parameter], computed: bool) -> str:
    """Return how a table names what parameters are held in and, where it is another, computed in.

    Args:
        parameters: At least one.
        computed: Whether they compute in bfloat16.

    Example:
        >>> described([nn.Parameter(torch.zeros(1))], True)
        'bfloat16, held in float32'
    """
    kinds = {
        "packed" if not p.is_floating_point() else str(p.dtype).removeprefix("torch.") for p in parameters
    }
    held = " and ".join(sorted(kinds))
    return f"bfloat16, held in {held}" if computed and held != "bfloat16" else held


class _Around:
    """What happens before and after a part's forward pass.

    Args:
        dtype: What its inputs are brought to.
        halved: Whether it runs under autocast.
    """

    def __init__(self, dtype: torch.dtype, halved: bool) -> None:
        self.dtype, self.halved = dtype, halved
        self._entered: dict[int, list[Any]] = {}  # by thread: heads are asked while the next batch is drawn

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Enter."""
        if self.halved:
            context = torch.autocast(_device(module, args).type, dtype=torch.bfloat16)
            context.__enter__()
            self._entered.setdefault(threading.get_ident(), []).append(context)
        return tuple(map(self._fitting, args)), {key: self._fitting(value) for key, value in kwargs.items()}

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Leave."""
        if self.halved:
            self._entered[threading.get_ident()].pop().__exit__(None, None, None)

    def _fitting(self, value: Any) -> Any:
        return value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _modules(model: nn.Module, part: str) -> list[nn.Module]:
    """Return the modules of a part whose forward pass is that of the part."""
    module = getattr(model, part, None)
    if module is None:
        return []
    return list(module.values()) if isinstance(module, nn.ModuleDict) else [module]


def _cast(tensor: Tensor, dtype: torch.dtype) -> bool:
    if tensor.dtype == dtype:
        return False
    tensor.data = tensor.data.to(dtype)
    return True


def _device(module: nn.Module, args: tuple[Any, ...]) -> torch.device:
    first: Any = next(module.parameters(), next((value for value in args if isinstance(value, Tensor)), None))
    return first.device if first is not None else torch.device("cpu")
