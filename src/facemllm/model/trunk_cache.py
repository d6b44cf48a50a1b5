"""Trunks that were read before, so that the next question about the same picture need not read it again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from threading import Lock
from typing import Any, cast

from torch import nn

from facemllm.model.passes import KeysAndValues
from facemllm.model.vision import View

DEFAULT_BYTES = 256 * 2**20


class TrunkCache:
    """Keys and values of trunks by what they are of; the one unused for longest goes first.

    Args:
        max_bytes: What all of them may take together; 0 keeps none.

    Example:
        >>> cache = TrunkCache(max_bytes=0)
        >>> cache.put("a", KeysAndValues([]))
        >>> cache.get("a") is None
        True
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, KeysAndValues] = OrderedDict()
        self.nbytes = 0
        self._lock = Lock()  # several threads may ask one model

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> KeysAndValues | None:
        """Return a trunk, or None if it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, trunk: KeysAndValues) -> None:
        """Keep a trunk, and drop others until all fit; one that is too large by itself is not kept."""
        if trunk.nbytes > self.max_bytes or not self.max_bytes:
            return
        with self._lock:
            if key in self._kept:
                self.nbytes -= self._kept.pop(key).nbytes
            self._kept[key] = trunk
            self.nbytes += trunk.nbytes
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self.nbytes = 0

    def __deepcopy__(self, memo: Any) -> TrunkCache:
        return TrunkCache(self.max_bytes)  # what is kept is of the model that was copied

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def view_key(view: View) -> str:
    """Return a name for the pixels of a crop."""
    digest = hashlib.sha256(f"{view.crop.mode} {view.crop.size}".encode())
    digest.update(view.crop.tobytes())
    return digest.hexdigest()


def weights_key(model: nn.Module) -> Hashable:
    """Return a value that changes with each change of a weight or adapter: training, loading, moving, a cast.

    Torch counts the changes of each tensor in place; a tensor that was replaced has another address. Changes
    through ``parameter.data`` are hidden from torch, so they are hidden from us: clear the cache after them.
    """
    weights = tuple(
        (parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version, parameter.dtype)
        for parameter in model.parameters()
    )
    adapters = tuple(  # of peft: which are active, and how strongly
        (bool(module.disable_adapters), tuple(module.active_adapters), tuple(module.scaling.items()))
        for module in cast("Iterator[Any]", model.modules())
        if hasattr(module, "active_adapters") and hasattr(module, "scaling")
    )
    return weights, adapters
