"""Runs side by side: how far each is, what it gave, and in which options they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from facemllm.core.errors import TrainingError
from facemllm.training.progress import read_log


def find_runs(folder: str | Path) -> list[Path]:
    """Return the folders of runs in a folder, or the folder itself if it is one.

    Raises:
        TrainingError: If there are none.
    """
    place = Path(folder)
    found = [place] if (place / "recipe.yaml").is_file() else sorted(
        path.parent for path in place.glob("*/recipe.yaml")
    )  # fmt: skip
    if not found:
        raise TrainingError(
            "no runs here",
            given=folder,
            expected="a folder that `facemllm train --out` wrote, or one that holds such folders",
            do="check the path",
        )
    return found


def describe_run(folder: Path) -> dict[str, Any]:
    """Return what a run is and how far it came, as plain values.

    Returns:
        ``run``, ``recipe``, ``seed``, ``finished``, and ``phases``: for each its ``name``, ``steps`` done,
        ``of`` how many, the last ``loss``, and, where known, the best ``held_out`` loss, ``minutes``, and
        ``peak_mib``.
    """
    recipe = _recipe(folder)
    phases: dict[str, dict[str, Any]] = {}
    for line in read_log(folder / "log.jsonl"):
        if "phase" not in line:
            continue
        phase = phases.setdefault(
            line["phase"], {"name": line["phase"], "steps": 0, "of": None, "loss": None}
        )
        if "loss" in line:
            phase |= {"steps": line["step"] + 1, "of": line.get("of"), "loss": line["loss"]}
        if "held_out" in line:
            loss = line["held_out"]["loss"]
            phase["held_out"] = min(loss, phase.get("held_out", loss))
        if "seconds" in line:
            phase["minutes"] = round(phase.get("minutes", 0.0) + line["seconds"]["all"] / 60, 2)
        if line.get("peak_bytes"):
            phase["peak_mib"] = round(line["peak_bytes"] / 2**20)
    return {
        "run": str(folder),
        "recipe": recipe.get("name"),
        "seed": recipe.get("seed"),
        "finished": (folder / "model" / "config.json").is_file(),
        "phases": list(phases.values()),
    }


def differing(folders: Sequence[Path]) -> dict[str, list[Any]]:
    """Return the options in which the recipes of runs differ, by dotted name, a value for each run."""
    flat = [_flat(_recipe(folder)) for folder in folders]
    keys = sorted({key for options in flat for key in options})
    values = {key: [options.get(key) for options in flat] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def _recipe(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(
            "cannot read a run's recipe",
            given=f"{folder} ({type(error).__name__})",
            expected="recipe.yaml, as a run writes it",
            do="check the path",
        ) from error
    return found if isinstance(found, dict) else {}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings and lists by dotted name."""
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list) and any(isinstance(entry, (Mapping, list)) for entry in value):
        items = enumerate(value)
    else:
        return {name: value}
    return {k: v for key, entry in items for k, v in _flat(entry, f"{name}.{key}".strip(".")).items()}
