"""Saving and loading: safetensors and JSON only; a checkpoint is data and is never run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facemllm.core.errors import CheckpointError, FaceMLLMError
from facemllm.core.hub import check_model_name
from facemllm.language import refuse_remote_code
from facemllm.model.options import check_loading_options, unknown_option
from facemllm.processing.llava import LlavaFaceProcessor
from facemllm.processing.processor import FaceProcessor

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class SavingMixin:
    """``save_pretrained`` and ``from_pretrained`` of :class:`FaceMLLM`."""

    def save_pretrained(self: Any, save_directory: str | Path, **options: Any) -> None:
        """Save weights (safetensors), configuration and processor; with LoRA, also ``lora/`` for peft.

        Args:
            save_directory: A folder, made if needed.
            **options: As for ``PreTrainedModel.save_pretrained``, such as ``max_shard_size``.

        Raises:
            CheckpointError: If there can be no such folder, or nothing can be written into it.
        """
        if not isinstance(save_directory, (str, os.PathLike)) or not str(save_directory):
            raise _not_saved(repr(save_directory))
        folder = Path(save_directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            super().save_pretrained(folder, **options)  # type: ignore[misc]
            if self.processor is not None:
                self.processor.save_pretrained(folder)
            if self.config.lora:
                self.language_model.save_pretrained(folder / "lora")
        except OSError as error:
            raise _not_saved(f"{error.filename or folder}: {error.strerror or error}") from error

    @classmethod
    def from_pretrained(cls, name: str | Path, *args: Any, **options: Any) -> Any:
        """Load a saved FaceMLLM with its processor.

        Args:
            name: A folder, or an id on the hub.
            *args: As for ``PreTrainedModel.from_pretrained``.
            **options: Likewise: ``revision``, ``cache_dir``, ``local_files_only``, ``dtype`` and so on.

        Raises:
            CheckpointError: If it is missing or incomplete, is a pickle, is of another kind of model, or asks
                for code to be run; or if an option is unknown or cannot be met here.
        """
        if options.pop("trust_remote_code", False):
            raise CheckpointError(
                "cannot run code of a checkpoint",
                given="trust_remote_code=True",
                expected="a checkpoint that is data",
                do="leave the option out",
            )
        check_loading_options(options)
        hub = {key: options[key] for key in HUB_OPTIONS if key in options}
        kind = read_config(name, **hub).get("model_type")
        if kind != "facemllm":
            raise CheckpointError(
                "checkpoint is of another kind of model",
                given=f"model_type {kind!r}",
                expected="'facemllm'",
                do="load its language model with load_language_model and compose with FaceMLLM.from_parts",
            )
        where = str(name)
        want_info = options.pop("output_loading_info", False)
        model, info = loaded(
            lambda: super(SavingMixin, cls).from_pretrained(  # type: ignore[misc]
                where, *args, use_safetensors=True, output_loading_info=True, **options
            ),
            name,
        )
        problems = {
            key: sorted(map(str, info[key]))
            for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
            if info.get(key)
        }
        if problems:
            raise CheckpointError(
                "weights do not fit the configuration",
                given="; ".join(
                    f"{key.replace('_', ' ')}: {', '.join(found[:3])} ({len(found)})"
                    for key, found in problems.items()
                ),
                expected="a tensor for each parameter and no other",
                do="save the model again with save_pretrained",
            )
        model.processor = loaded(lambda: _load_processor(where, hub), name)
        model.eval()
        return (model, info) if want_info else model


def _not_saved(given: str) -> CheckpointError:
    return CheckpointError(
        "cannot save the model",
        given=given,
        expected="a folder, or where one can be made, with the right to write and room",
        do="pass another folder",
    )


def read_config(name: str | Path, **hub: Any) -> dict[str, Any]:
    """Read config.json as plain JSON, before any class is chosen by it.

    Raises:
        CheckpointError: If there is none, or it asks for code to be run.
    """
    asked = ("subfolder", "revision", "cache_dir", "local_files_only")
    check_model_name(name, **{key: hub[key] for key in asked if hub.get(key) is not None})
    config = _read_json(name, "config.json", hub)
    refuse_remote_code(config, source="config.json")
    return config


def _read_json(name: str | Path, file: str, hub: dict[str, Any]) -> dict[str, Any]:
    from transformers.utils import cached_file

    path = loaded(lambda: cached_file(str(name), file, **hub), name)
    try:
        values = json.loads(Path(path).read_text())
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {file}",
            given=f"{name}: {error}",
            expected="one JSON object",
            do="save the model again with save_pretrained, or copy or download the file again",
        ) from None
    return values


def _load_processor(name: str, hub: dict[str, Any]) -> FaceProcessor:
    """Load the processor by the class its configuration names, which must be one of ours."""
    classes = {kind.__name__: kind for kind in (FaceProcessor, LlavaFaceProcessor)}
    kind = _read_json(name, "processor_config.json", hub).get("processor_class")
    if kind not in classes:
        raise CheckpointError(
            "checkpoint has an unknown processor",
            given=repr(kind),
            expected=" or ".join(classes),
            do="save the model again with save_pretrained",
        )
    processor: FaceProcessor = classes[kind].from_pretrained(name, **hub)
    return processor


def loaded(load: Callable[[], Any], name: str | Path) -> Any:
    """Return what ``load`` does, with whatever goes wrong as a CheckpointError about ``name``."""
    try:
        return load()
    except FaceMLLMError:
        raise
    except Exception as error:  # transformers, hub and safetensors each raise their own
        if (told := unknown_option(error, name)) is not None:
            raise told from error
        files = isinstance(error, OSError)  # of the system, or of the hub
        raise CheckpointError(
            "cannot load a model",
            given=f"{name} ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]})",
            expected="'facemllm-tiny', or what save_pretrained wrote, in a folder or on the hub",
            do="check the name and the files; offline, download the model first" if files
            else "mend what stands in the brackets: an option, or a damaged file",
        ) from error  # fmt: skip
