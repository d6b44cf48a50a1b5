"""Checkpoints that are whole or not there at all, that are read as data only, and that notice damage.

    checkpoint/
      step-000200/  state.json  model.safetensors  optimizer.safetensors ...
      step-000300/

A checkpoint is written under another name, brought to disk, and only then renamed. ``state.json`` holds the
length and the SHA-256 of each file and of itself, so a torn, cut or changed file is found when it is read,
and the checkpoint before it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemllm.core.errors import CheckpointError
from facemllm.training.files import sync, write_whole
from facemllm.training.state import flatten, unflatten

logger = logging.getLogger(__name__)

STATE = "state.json"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What was read.

    Attributes:
        folder: Where it lies.
        step: How many steps were done.
        extra: Plain values.
        tensors: State dicts by name.
        score: The lower the better, if it was measured.
    """

    folder: Path
    step: int
    extra: dict[str, Any]
    tensors: dict[str, Any]
    score: float | None = None


class Checkpoints:
    """The checkpoints of one phase: the last ones and, where they have a score, the best ones.

    Args:
        folder: Their folder.
        last: How many of the newest are kept.
        best: How many of those with the lowest score are kept beside them.

    Example:
        >>> import tempfile, torch
        >>> kept = Checkpoints(Path(tempfile.mkdtemp()), last=2)
        >>> for step in (1, 2, 3):
        ...     kept.save(step, {"model": {"weight": torch.full((2,), float(step))}})
        >>> kept.steps(), kept.load().tensors["model"]["weight"].tolist()
        ([2, 3], [3.0, 3.0])
    """

    def __init__(self, folder: Path, *, last: int = 2, best: int = 0) -> None:
        self.folder, self.last, self.best_kept = folder, max(1, last), best

    def steps(self) -> list[int]:
        """Return the steps of which there is a checkpoint, whole or not."""
        found = self.folder.glob("step-*") if self.folder.is_dir() else ()
        return sorted(int(path.name[5:]) for path in found if path.name[5:].isdigit())

    def save(
        self,
        step: int,
        tensors: Mapping[str, Any],
        extra: Mapping[str, Any] | None = None,
        *,
        score: float | None = None,
    ) -> None:
        """Write a checkpoint, then remove those that are no longer kept.

        Args:
            step: How many steps were done.
            tensors: State dicts by name.
            extra: Plain values.
            score: The lower the better.

        Raises:
            CheckpointError: If it cannot be written, for example on a full disk. What was there before stays.
        """
        fresh = self.folder / f".writing-{step:06d}"
        try:
            self._sweep()
            fresh.mkdir(parents=True)
            parts, files = {}, {}
            for name, part in tensors.items():
                parts[name] = _write_part(fresh / f"{name}.safetensors", part)
                files[name] = _fingerprint(fresh / f"{name}.safetensors")
            state = {"version": VERSION, "step": step, "score": score, "extra": dict(extra or {})}
            state |= {"parts": parts, "files": files}
            state = json.loads(json.dumps(state))  # as it will be read
            write_whole(fresh / STATE, json.dumps({"sha256": _digest(state), "state": state}))
            self._put_in_place(fresh, self._path(step))
            self._prune()
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
                raise
            with suppress(OSError):
                shutil.rmtree(fresh, ignore_errors=True)  # gives a full disk its room back
            raise CheckpointError(
                "cannot write a checkpoint",
                given=f"{self._path(step)} ({error})",
                expected="room on the disk, and the right to write there",
                do="make room, then go on with resume=True; the earlier checkpoints are intact",
            ) from error

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None where there is none at all.

        Raises:
            CheckpointError: If there are checkpoints and all are damaged.
        """
        return self._first_whole([self._path(step) for step in reversed(self.steps())])

    def peek(self) -> dict[str, Any] | None:
        """Return the plain values of the newest checkpoint without reading its tensors, or None."""
        for step in reversed(self.steps()):
            with suppress(CheckpointError):
                extra: dict[str, Any] = _state(self._path(step))["extra"]
                return extra
        return None

    def best(self) -> Checkpoint | None:
        """Return the checkpoint with the lowest score, or None where none has one."""
        return self._first_whole([self._path(step) for _, step in self._scores()])

    def _first_whole(self, folders: list[Path]) -> Checkpoint | None:
        problems = []
        for folder in folders:
            try:
                return _read(folder)
            except CheckpointError as error:
                logger.warning("%s: %s; the one before it is used", error.what, error.given)
                problems.append(error.given)
        if problems:
            raise CheckpointError(
                "no checkpoint is whole",
                given="; ".join(problems),
                expected="one that an earlier run wrote",
                do=f"delete {self.folder} to start this phase again",
            )
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def _put_in_place(self, fresh: Path, place: Path) -> None:
        if place.exists():  # a damaged one, or one that is written again: the one before it is still there
            place.rename(self.folder / f".removing-{place.name}")
        fresh.rename(place)
        sync(self.folder)

    def _prune(self) -> None:
        steps = self.steps()
        kept = set(steps[-self.last :]) | {step for _, step in self._scores()[: self.best_kept]}
        for step in steps:
            if step not in kept:
                self._path(step).rename(self.folder / f".removing-step-{step:06d}")
        self._sweep()

    def _sweep(self) -> None:
        """Remove what an interrupted run was writing or removing."""
        for pattern in (".writing-*", ".removing-*"):
            for leftover in self.folder.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)

    def _scores(self) -> list[tuple[float, int]]:
        scores = []
        for step in self.steps():
            with suppress(CheckpointError):
                score = _state(self._path(step))["score"]
                if score is not None:
                    scores.append((float(score), step))
        return sorted(scores)


def _write_part(path: Path, part: Any) -> Any:
    """Write the tensors of a state dict, and return the description of the rest."""
    from safetensors.torch import save_file

    described, tensors = flatten(part)
    save_file(tensors, path)
    sync(path)
    return described


def _read(folder: Path) -> Checkpoint:
    """Read a checkpoint, and compare every byte of it with what was noted."""
    from safetensors.torch import load_file

    state = _state(folder)
    tensors = {}
    for name, noted in state["files"].items():
        path = folder / f"{name}.safetensors"
        if not path.is_file() or _fingerprint(path) != noted:
            raise _damaged(f"{path} is not what was written")
        tensors[name] = unflatten(state["parts"][name], load_file(path))
    return Checkpoint(folder, state["step"], state["extra"], tensors, state["score"])


def _state(folder: Path) -> dict[str, Any]:
    try:
        written = json.loads((folder / STATE).read_text(encoding="utf-8"))
        state: dict[str, Any] = written["state"]
        whole = written["sha256"] == _digest(state) and state["version"] == VERSION
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(f"{folder / STATE} ({type(error).__name__})") from error
    if not whole:
        raise _damaged(f"{folder / STATE} is not what was written")
    return state


def _damaged(given: str) -> CheckpointError:
    return CheckpointError(
        "a checkpoint is damaged",
        given=given,
        expected="the bytes that were written",
        do="resume: the one before it is used",
    )


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _slowly(file)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _slowly(file: Any) -> Any:
    """Do what ``hashlib.file_digest`` does, for Python 3.10."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest
