"""Models by name: built in, in a folder, or on the hub."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from facemllm.core.hub import BUILT_IN
from facemllm.model.face_mllm import FaceMLLM
from facemllm.model.llava import from_llava
from facemllm.model.saving import HUB_OPTIONS, loaded, read_config


class AutoFaceMLLM:
    """Loads a FaceMLLM by name.

    Example:
        >>> AutoFaceMLLM.built_in()
        ('facemllm-tiny',)
    """

    @staticmethod
    def built_in() -> tuple[str, ...]:
        """Return the names of models that come with the package."""
        return BUILT_IN

    @staticmethod
    def from_pretrained(name: str | Path, **options: Any) -> FaceMLLM:
        """Load a model.

        Args:
            name: "facemllm-tiny", a folder, or an id on the hub, of a FaceMLLM or of transformers' LLaVA. A
                folder of the same name goes first.
            **options: As for ``transformers``: ``revision``, ``local_files_only``, ``cache_dir``, ``dtype``.

        Raises:
            CheckpointError: See :meth:`FaceMLLM.from_pretrained`.
        """
        options.setdefault("dtype", "float32" if str(name) in BUILT_IN else "auto")
        if str(name) in BUILT_IN and not Path(name).is_dir():
            name = str(files("facemllm") / "assets" / str(name))
        hub = {key: options[key] for key in HUB_OPTIONS if key in options}
        if not options.get("trust_remote_code") and read_config(name, **hub).get("model_type") == "llava":
            where = str(name)
            return loaded(lambda: from_llava(where, **options), name)  # type: ignore[no-any-return]
        return FaceMLLM.from_pretrained(name, **options)
