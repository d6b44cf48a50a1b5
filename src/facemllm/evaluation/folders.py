"""What a folder already holds: a run goes on where it stopped, and replaces another's only if told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facemllm.core.errors import ConfigError
from facemllm.evaluation.models import kind_of
from facemllm.evaluation.store import PredictionStore

_SAME = {
    "model_fingerprint": "model",
    "dataset": "dataset",
    "split": "split",
    "limit": "limit",
    "protocol": "protocol",
}
"""Settings in which two runs of one folder must agree, and what they are called in a message."""

_MORE = {"with_heads": "heads", "likelihoods": "likelihoods"}
"""What a repeated run may add, and must not leave out."""

_BEGUN = "run.json"
"""Settings of the run that began last, which say whose answers there are before there is a report."""

_WRITTEN = (_BEGUN, "report.json", "report.md", "report.html", "results.jsonl")


def check_folder(folder: Path, config: Mapping[str, Any], store: PredictionStore) -> None:
    """Refuse to replace what another run left in a folder.

    The same run may be repeated, also with more tasks: it takes the answers that are there.

    Args:
        folder: Where answers and report go.
        config: Settings of the run, as its report will have them.
        store: The answers in the folder, as this run reads them.

    Raises:
        ConfigError: If the folder holds answers or a report of another model, dataset, split or settings, a
            report with more than this run would measure, or a ``report.json`` that is not ours.
    """
    _refuse(folder, _differences(folder, config, store))


def check_before_loading(folder: Path, model: str, config: Mapping[str, Any], store: PredictionStore) -> None:
    """Refuse what can be refused before a model is loaded, which takes longer than to look.

    Whether it is the same model is mostly known by its weights alone, so :func:`check_folder` comes after it.

    Args:
        folder: Where answers and report go.
        model: The model's name.
        config: Settings of the run; the model's fingerprint is None.
        store: The answers in the folder, of which none is this run's yet.

    Raises:
        ConfigError: As :func:`check_folder`.
    """
    store.others = {(dataset, mark) for dataset, mark in store.others if dataset != store.dataset}
    held = _differences(folder, config, store)
    path = _noted(folder)
    before = {} if held or path is None else _settings(path)
    if kind_of(str(before.get("model"))) not in (None, kind_of(model)):
        held.append(f"a report of model {before['model']!r}")
    elif before.get("crop", config["crop"]) != config["crop"]:
        held.append(f"a report of crop {before['crop']!r}")
    _refuse(folder, held)


def _refuse(folder: Path, held: list[str]) -> None:
    if held:
        raise ConfigError(
            "folder holds another run",
            given=f"{folder} with {'; '.join(held)}",
            expected="an empty folder, or one of the same model, dataset, split and settings",
            do="choose another folder, or pass --overwrite (overwrite=True) to replace what is there",
        )


def note_begun(folder: Path, config: Mapping[str, Any]) -> None:
    """Write down the settings of a run that begins."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{_BEGUN}.part"
    part.write_text(json.dumps({"config": dict(config)}, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(folder / _BEGUN)


def clear_folder(folder: Path, config: Mapping[str, Any], store: PredictionStore) -> bool:
    """Remove what another run left in a folder, and say whether there was anything."""
    if not _differences(folder, config, store):
        return False
    for name in (*_WRITTEN, *(path.name for path in folder.glob("predictions*.jsonl"))):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "plots", ignore_errors=True)
    return True


def _differences(folder: Path, config: Mapping[str, Any], store: PredictionStore) -> list[str]:
    """Return what in a folder is of another run, in words."""
    path = _noted(folder)
    if path is None:
        return _answers_of_others(store, None)
    what = "a report" if path.name == "report.json" else "an unfinished run"
    if path.name == _BEGUN and not any(folder.glob("predictions*.jsonl")):
        return []  # it was stopped before its first answer
    try:
        before = _settings(path)
        tasks = set(before["tasks"])
        told = {name: before[name] for name in ("model", *_SAME)}
    except (KeyError, TypeError):
        return [*_answers_of_others(store, None), f"a {path.name} that is no report of ours"]
    cropped = before.get("crop") != config.get("crop") and before["model"] == config.get("model")
    crop = repr(before.get("crop")) if cropped else None
    held = _answers_of_others(store, crop)
    for name, called in _SAME.items():
        if before[name] == config[name]:
            continue
        if name == "model_fingerprint" and config[name] is None:  # the model is not loaded yet
            continue
        if name == "model_fingerprint" and cropped:
            held.append(f"{what} of crop {crop}, not {config.get('crop')!r}")
        else:
            value = told["model"] if name == "model_fingerprint" else before[name]
            held.append(f"{what} of {called} {value!r}")
    if what == "an unfinished run":
        return held  # there is no report yet, of which anything could be lost
    if missing := sorted(tasks - set(config["tasks"])):
        held.append(f"a report that also has {', '.join(missing)}")
    held += [
        f"a report that has {called}"
        for name, called in _MORE.items()
        if before.get(name) and not config[name]
    ]
    return held


def _answers_of_others(store: PredictionStore, crop: str | None) -> list[str]:
    """Return whose answers are in the files; with ``crop``, those of the same model, otherwise cropped."""
    who = "another model" if crop is None else f"this model with crop {crop}"
    return [
        f"answers of {who} about {dataset}" if dataset == store.dataset else f"answers about {dataset}"
        for dataset, _ in sorted(store.others)
    ]


def _noted(folder: Path) -> Path | None:
    """Return the file that tells the settings of a folder's run, if there is one."""
    return next((folder / name for name in ("report.json", _BEGUN) if (folder / name).exists()), None)


def _settings(path: Path) -> dict[str, Any]:
    """Return the settings that a file tells; none if it is not ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
