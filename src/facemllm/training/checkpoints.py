"""Checkpoints that are whole or not there at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from facemllm.core.errors import CheckpointError


def save_checkpoint(
    folder: Path, *, step: int, tensors: dict[str, Any], extra: dict[str, Any] | None = None
) -> None:
    """Write a checkpoint beside the old one, then put it in its place.

    Args:
        folder: Where it is kept; replaced as a whole.
        step: How many steps were done.
        tensors: State dicts by name.
        extra: Plain values.
    """
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, state in tensors.items():
        torch.save(state, fresh / f"{name}.pt")
    (fresh / "state.json").write_text(json.dumps({"step": step, "tensors": sorted(tensors), **(extra or {})}))
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return (plain values, tensors) of a checkpoint, or None where there is none.

    Raises:
        CheckpointError: If it is damaged. Only tensors and plain containers are read, never code.
    """
    for place in (folder, folder.with_name(folder.name + ".old")):
        if (place / "state.json").is_file():
            try:
                state = json.loads((place / "state.json").read_text())
                tensors = {
                    name: torch.load(place / f"{name}.pt", map_location="cpu", weights_only=True)
                    for name in state["tensors"]
                }
            except Exception as error:  # a torn file raises nearly anything
                raise CheckpointError(
                    "cannot read a checkpoint",
                    given=f"{place} ({type(error).__name__})",
                    expected="what an earlier run wrote",
                    do="delete the folder to start this phase again",
                ) from error
            return state, tensors
    return None
