"""Options that several commands share, and quiet loading."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from facemllm.model import FaceMLLM

Model = Annotated[
    str, typer.Option("--model", "-m", help="Built-in name, folder, or hub id.", metavar="MODEL")
]
Crop = Annotated[
    str | None,
    typer.Option("--crop", help="face: find faces; none: the picture is a face crop.", metavar="face|none"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def load_model(name: str) -> FaceMLLM:
    """Load a model without the chatter of the libraries underneath."""
    check_and_quiet(name)
    from facemllm.model import AutoFaceMLLM

    return AutoFaceMLLM.from_pretrained(name)


def check_and_quiet(name: str) -> None:
    """Say at once where a name leads to no model, and silence the libraries that will load it."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from facemllm.core.hub import check_model_name

    check_model_name(name, announce=False)  # before libraries are loaded, which takes seconds
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def check_photo(path: str) -> None:
    """Fail at once where a path leads nowhere: a model takes seconds to load."""
    if not Path(path).expanduser().exists():
        from facemllm.processing.reading import load_image

        load_image(path)  # says what is wrong; reads what is a reference into another file


def print_json(value: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(value, ensure_ascii=False, indent=2))
