"""The last layer of a reading, of which only the branches are read.

Of the trunk nothing but keys and values is wanted there: neither its attention, nor what follows it, nor its
logits. So the layer computes these first, and then runs on the tokens of the branches alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from torch import Tensor, nn

from facemllm.model.passes import Enough, FirstPass

_HOOKING = Lock()


@contextmanager
def without_trunk(language_model: Any, reading: FirstPass) -> Iterator[None]:
    """Have the last layer leave the trunk out, for the forward pass of a reading within the block.

    The pass then returns the branches' tokens only; a reading of the trunk alone ends the block. A model
    whose layers are not known, or take what cannot be cut, runs as it is.

    Args:
        language_model: A causal LM of transformers, peft around it or not.
        reading: The pack that is handed to the model.
    """
    layer = _last_layer(language_model)
    if layer is None:
        yield
        return
    _hook(layer)
    reading.cut = True
    try:
        yield
    except Enough:
        return
    finally:
        reading.cut = False


def _hook(layer: nn.Module) -> None:
    """Hook a layer once and for all: hooks that come and go are seen half by other threads that ask."""
    with _HOOKING:
        if _cut not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_cut, with_kwargs=True)


def _cut(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Take keys and values of the trunk, and run the layer on what is left; on a reading that asks for it."""
    reading = kwargs.get("pack")
    if not isinstance(reading, FirstPass) or not reading.cut:
        return None
    length, trunk = reading.length, reading.trunk
    first, rest = (_rows((args, kwargs), length, part) for part in (slice(trunk), slice(trunk, None)))
    if first is None or rest is None:
        return None
    with reading.keys_only():
        module.forward(*first[0], **first[1])
    if length == trunk:
        raise Enough
    return rest


def _last_layer(language_model: Any) -> nn.Module | None:
    base = language_model.get_base_model() if hasattr(language_model, "get_base_model") else language_model
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    layers = getattr(decoder, "layers", None)
    count = getattr(base.config, "num_hidden_layers", None)
    if isinstance(layers, nn.ModuleList) and isinstance(count, int) and 0 < count <= len(layers):
        return layers[count - 1]
    return None


def _rows(value: Any, length: int, part: slice) -> Any:
    """Cut tensors [B, L, ...] among a layer's arguments; None if another of their axes may be of tokens."""
    if isinstance(value, Tensor):
        axes = [axis for axis, size in enumerate(value.shape) if size == length]
        if not axes:
            return value
        return value[:, part] if axes == [1] else None
    if isinstance(value, (tuple, list)):
        items = [_rows(item, length, part) for item in value]
        lost = any(new is None and old is not None for new, old in zip(items, value, strict=True))
        return None if lost else type(value)(items)
    if isinstance(value, dict):
        items = _rows(list(value.values()), length, part)
        return None if items is None else dict(zip(value, items, strict=True))
    return value
