"""The vision encoder of a FaceMLLM that was trained before."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from facemllm.core.errors import CheckpointError
from facemllm.encoders.base import VisionEncoder
from facemllm.encoders.registry import ENCODERS, create_encoder

_PREFIX = "encoder."


@ENCODERS.register("facemllm")
def saved_encoder(source: str | Path = "facemllm-tiny", *, pretrained: bool = True) -> VisionEncoder:
    """Return the encoder of a saved FaceMLLM, with its weights and without the rest of the model.

    What comes back is the encoder itself (its ``spec`` does not name where the weights came from), so a model
    built on it is saved and loaded as any other.

    Args:
        source: "facemllm-tiny", or a folder that ``save_pretrained`` wrote.
        pretrained: Read the weights; without them, the architecture alone.

    Raises:
        CheckpointError: If the folder is not a saved FaceMLLM, or lacks weights of its encoder.

    Example:
        >>> encoder = create_encoder("facemllm/facemllm-tiny")
        >>> encoder.spec["name"], encoder.num_tokens, encoder.embed_dim
        ('mirrored', 9, 512)
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = Path(str(files("facemllm") / "assets" / str(source)))
    try:
        config = json.loads((folder / "config.json").read_text())
        spec = dict(config["encoder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            "no encoder to take over",
            given=f"{source} ({type(error).__name__})",
            expected="'facemllm-tiny', or a folder with the config.json of a FaceMLLM",
            do="check the name; a model on the hub must be downloaded first",
        ) from None
    encoder = create_encoder(**spec)
    if pretrained:
        encoder.load_state_dict(_weights(folder, set(encoder.state_dict())))
    return encoder


def _weights(folder: Path, wanted: set[str]) -> dict[str, Any]:
    """Return the tensors of an encoder, in single precision."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as tensors:
                names = [name for name in tensors.keys() if name.startswith(_PREFIX)]  # noqa: SIM118
                found |= {name[len(_PREFIX) :]: tensors.get_tensor(name).float() for name in names}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                "cannot read weights", given=path, expected="a safetensors file", do=str(error)
            ) from None
    if set(found) != wanted:
        missing = sorted(wanted.symmetric_difference(found))
        raise CheckpointError(
            "the weights do not fill the encoder",
            given=f"{folder}: {len(missing)} tensors missing or too many, such as {missing[0]}",
            expected="a tensor for each weight of the encoder",
            do="save the model again with save_pretrained",
        )
    return found
