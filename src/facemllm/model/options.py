"""Options of loading, judged before anything is loaded: what is wrong with them is no fault of the files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from facemllm.core.errors import CheckpointError

_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")


def check_loading_options(options: Mapping[str, Any]) -> None:
    """Refuse a dtype that is none, and a GPU that is not there.

    Args:
        options: As for ``from_pretrained``.

    Raises:
        CheckpointError: If ``dtype`` or ``device_map`` cannot be met here.

    Example:
        >>> check_loading_options({"dtype": "bfloat16", "device_map": "cpu"})
    """
    for name in ("dtype", "torch_dtype"):
        value = options.get(name)
        kind = getattr(torch, value, None) if isinstance(value, str) else value
        if not (value in (None, "auto") or isinstance(kind, (torch.dtype, Mapping))):
            raise CheckpointError(
                "cannot load a model in this dtype",
                given=f"{name}={value!r}",
                expected="'auto', a dtype of torch, or its name, such as 'float32' or 'bfloat16'",
                do=f"correct {name}",
            )
    placed = options.get("device_map")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for place in placed.values() if isinstance(placed, Mapping) else [placed]:
        number = _gpu(place)
        if number is not None and number >= there:
            raise CheckpointError(
                "cannot load a model onto this device",
                given=f"device_map={placed!r} where torch sees {there} GPUs",
                expected="a device that is there, such as 'cpu', or 'auto' for the best of them",
                do="leave device_map out, or install a torch and a driver that see the GPU",
            )


def unknown_option(error: Exception, name: object) -> CheckpointError | None:
    """Return the error about an option that no part of a model takes, if that is what went wrong."""
    found = _UNKNOWN.search(str(error)) if isinstance(error, TypeError) else None
    if found is None:
        return None
    return CheckpointError(
        "cannot load a model with this option",
        given=f"{found[1]}=... for {name}",
        expected="options of transformers' from_pretrained: revision, local_files_only, cache_dir, dtype ...",
        do=f"leave {found[1]} out, or correct its name",
    )


def _gpu(place: Any) -> int | None:
    """Return the number of the GPU that a place names, or None if it names another device."""
    if isinstance(place, int):
        return place
    kind, _, number = str(place).partition(":")  # a torch.device tells itself likewise
    return (int(number) if number.isdecimal() else 0) if kind == "cuda" else None
