"""State dicts as tensors and JSON, and the state of every random generator.

A state dict of torch nests dictionaries, lists, numbers and tensors. Here it becomes a flat table of tensors,
which safetensors can hold, and a description in JSON that says where each of them goes. Nothing in
either is code.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facemllm.core.errors import CheckpointError

PLAIN = (type(None), bool, int, float, str)


def flatten(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a description of ``value`` that JSON can hold, and its tensors by key.

    Tensors that are one and the same (tied weights) are kept once. A memory format of pictures
    (``channels_last``) is written down, so that what is read again is computed with in the same way.

    Raises:
        CheckpointError: If there is anything but tensors and plain values in it.

    Example:
        >>> flatten({"a": torch.ones(2), "n": 3})
        ({'dict': [['a', {'tensor': '0'}], ['n', {'plain': 3}]]}, {'0': tensor([1., 1.])})
    """
    tensors: dict[str, Tensor] = {}
    known: dict[Any, str] = {}

    def walk(item: Any) -> Any:
        if isinstance(item, Tensor):
            tensor = item.detach()
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, str(tensor.device))
            if not tensor.numel() or place not in known:
                known[place] = str(len(tensors))
                tensors[known[place]] = tensor.cpu().contiguous()
            described: dict[str, Any] = {"tensor": known[place]}
            if _is_channels_last(tensor):
                described["channels_last"] = True
            return described
        if isinstance(item, Mapping):
            return {"dict": [[key, walk(entry)] for key, entry in item.items()]}
        if isinstance(item, (list, tuple)):
            return {type(item).__name__: [walk(entry) for entry in item]}
        if isinstance(item, PLAIN):
            return {"plain": item}
        raise CheckpointError(
            "cannot keep this state",
            given=f"a {type(item).__name__}",
            expected="tensors, numbers, texts, and dictionaries or lists of them",
            do="leave it out of the state, or write it down as one of these",
        )

    return walk(value), tensors


def unflatten(described: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that :func:`flatten` described.

    Example:
        >>> unflatten(*flatten({"a": [1, (2.5, "b")]}))
        {'a': [1, (2.5, 'b')]}
    """
    if "tensor" in described:
        # A copy of its own: what lies in a file has no particular alignment.
        tensor = tensors[described["tensor"]].clone()
        return tensor.to(memory_format=torch.channels_last) if described.get("channels_last") else tensor
    if "dict" in described:
        return {key: unflatten(entry, tensors) for key, entry in described["dict"]}
    if "plain" in described:
        return described["plain"]
    (kind, entries), *_ = described.items()
    items = [unflatten(entry, tensors) for entry in entries]
    return tuple(items) if kind == "tuple" else items


def load_part(part: Any, state: Mapping[str, Any]) -> None:
    """Load a state dict, in which packed weights (QLoRA) have brought along what unpacks them.

    Packed weights are frozen and were packed alike when the model was built; what unpacks them is there.
    """
    parameters = part.named_parameters() if isinstance(part, nn.Module) else ()
    packed = {name for name, parameter in parameters if getattr(parameter, "quant_state", None) is not None}

    def inside(key: str) -> bool:
        return any(key[:index] in packed for index, letter in enumerate(key) if letter == ".")

    part.load_state_dict({k: v for k, v in state.items() if not inside(k)} if packed else state)


def random_state() -> dict[str, Any]:
    """Return where the generators of Python, numpy and torch stand in this process."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (others may use it)
    state: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set the generators to where they stood.

    Example:
        >>> state = random_state()
        >>> first = (random.random(), float(torch.rand(())))
        >>> set_random_state(state)
        >>> first == (random.random(), float(torch.rand(())))
        True
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _is_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.dim() == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )
