"""Names of models: built in, a folder, or an id on the hub, told apart before anything is fetched."""

from __future__ import annotations

import difflib
import logging
import os
import re
from pathlib import Path

from facemllm.core.errors import CheckpointError

BUILT_IN = ("facemllm-tiny",)
"""Models that come with the package."""

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_log = logging.getLogger("facemllm")


def check_model_name(
    name: str | Path,
    *,
    subfolder: str = "",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    announce: bool = True,
) -> None:
    """Say at once where a name leads to no model, and before a long wait what is waited for.

    Args:
        name: Built-in name, folder, or id on the hub.
        subfolder: In which the model lies.
        revision: Branch, tag or commit on the hub.
        cache_dir: Where models of the hub are kept; None for the hub's own place.
        local_files_only: Whether the hub may not be asked, as with HF_HUB_OFFLINE=1.
        announce: Whether to log that the hub will be asked.

    Raises:
        CheckpointError: If there is no such folder, it holds no model or only pickles, or the name is no id;
            or if it is one of which nothing is kept here while the hub may not be asked.

    Example:
        >>> check_model_name("facemllm-tiny")
        >>> check_model_name("facemllm-tinny")
        Traceback (most recent call last):
        ...
        facemllm.core.errors.CheckpointError: cannot load a model
          given:    'facemllm-tinny', which is neither built in nor a folder, and no id (owner/name)
          expected: a built-in name (facemllm-tiny), a folder that save_pretrained wrote, an id on the hub
          do:       did you mean facemllm-tiny?
    """
    if not isinstance(name, (str, os.PathLike)) or not str(name).strip():
        raise _no_model(f"{name!r} as a name", "pass a name")
    text, place = str(name), Path(name)
    do = "check the path"
    if place.is_dir():
        inside = place / subfolder
        problem = None if (inside / "config.json").is_file() else f"the folder {inside} has no config.json"
        if pickles := only_pickles(inside):
            problem = f"the folder {inside}, whose weights are pickles ({', '.join(pickles[:3])})"
            do = "pickles can run code and are refused: convert the weights to safetensors"
    elif text in BUILT_IN:
        return
    elif place.exists():
        problem = f"{place} is a file"
    elif not _HUB_ID.fullmatch(text):
        paths = "/" in text or "\\" in text
        problem = f"{text!r}, " + (
            "which is no folder" if paths else
            "which is neither built in nor a folder, and no id (owner/name)"
        )  # fmt: skip
        near = difflib.get_close_matches(text, BUILT_IN, n=1, cutoff=0.5)
        do = f"did you mean {near[0]}?" if near else do if paths else "use one of these"
    else:
        problem = _not_at_hand(text, subfolder, revision, cache_dir, local_files_only, announce)
        do = "check the name; to fetch it, unset HF_HUB_OFFLINE and allow the hub"
    if problem is not None:
        raise _no_model(problem, do)


def _no_model(given: str, do: str) -> CheckpointError:
    return CheckpointError(
        "cannot load a model",
        given=given,
        expected=f"a built-in name ({', '.join(BUILT_IN)}), a folder that save_pretrained wrote, an id "
        "on the hub",
        do=do,
    )


def only_pickles(folder: Path) -> list[str]:
    """Return the names of weights that are pickles, where there are no safetensors beside them."""
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _PICKLED)


def _not_at_hand(
    name: str,
    subfolder: str,
    revision: str | None,
    cache_dir: str | Path | None,
    local_only: bool,
    announce: bool,
) -> str | None:
    """Return why a model of the hub cannot be had; where it will be asked for, say so."""
    from huggingface_hub import constants, try_to_load_from_cache

    file = f"{subfolder}/config.json" if subfolder else "config.json"
    if isinstance(try_to_load_from_cache(name, file, cache_dir=cache_dir, revision=revision), str):
        return None
    if local_only or constants.HF_HUB_OFFLINE:
        return f"{name!r}, of which nothing is kept here, while the hub may not be asked (HF_HUB_OFFLINE)"
    if announce:
        _log.warning(
            "%s is neither built in nor a folder: asking %s for it; without a connection that takes a "
            "minute to fail (set HF_HUB_OFFLINE=1 not to ask)",
            name,
            constants.ENDPOINT,
        )
    return None
