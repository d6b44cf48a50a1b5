"""Any vision tower of transformers as a vision encoder: CLIP, SigLIP, DINOv2 and their like."""

from __future__ import annotations

import inspect
import json
from typing import Any, Literal

from torch import Tensor, nn

from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.encoders.base import VisionEncoder, as_triple, measure
from facemllm.encoders.registry import ENCODERS

# Means and deviations of families, for checkpoints without a preprocessor configuration.
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NORMALISATION = {"clip": _CLIP, "dino": _IMAGENET, "siglip": _HALF, "vit": _HALF}


@ENCODERS.register("hf")
class TransformersEncoder(VisionEncoder):
    """The hidden states of a transformers vision model.

    Args:
        source: Hub id or folder. Of a model with text and vision, the vision part is taken.
        layer: Which of ``hidden_states`` to take (0 is the embeddings, -1 the last layer); None takes the
            final, normalised state. The default, the last but one, is LLaVA-1.5's choice.
        select: "patch" drops class and register tokens, "full" keeps them in front.
        image_size: Side of the picture in pixels; another than the model's own interpolates its positions.
        config: The vision part's configuration. If given, nothing is read or downloaded; weights are fresh.
        mean: Of the channels; None takes the checkpoint's, or its family's.
        std: As for the mean.
        revision: Of the hub repository.

    Raises:
        CheckpointError: If there is no such checkpoint, it has no vision tower, or lacks weights of it.
        ConfigError: If the size or layer does not fit the model.
    """

    def __init__(
        self,
        source: str | None = None,
        *,
        layer: int | None = -2,
        select: Literal["patch", "full"] = "patch",
        image_size: int | None = None,
        config: dict[str, Any] | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        if select not in ("patch", "full"):
            raise ConfigError(
                "cannot select tokens",
                given=f"select={select!r}",
                expected="'patch' or 'full'",
                do="correct it",
            )
        if source is None and config is None:
            raise ConfigError(
                "cannot build the encoder",
                given="neither source nor config",
                expected="one of them",
                do="write hf/<hub id>",
            )
        self.layer, self.select = layer, select
        model: Any = _load(source or "", revision) if config is None else _from_config(config)
        self.model = model
        own: Any = model.config
        found_mean, found_std = _normalisation(
            source if config is None else None, str(own.model_type), revision
        )
        self.mean, self.std = as_triple(mean or found_mean), as_triple(std or found_std)
        native = _first(own.image_size)
        self.image_size = image_size or native
        parameters = inspect.signature(self.model.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}
        if self.image_size == native:
            self._options = {}
        self._check_layer(own)
        patches = (self.image_size // _first(own.patch_size)) ** 2 if hasattr(own, "patch_size") else None
        self._prefix = 0
        self.num_tokens, self.embed_dim = measure(self)
        if patches is not None and select == "patch":
            self._prefix = max(self.num_tokens - patches, 0)
            self.num_tokens -= self._prefix
        self.spec = {
            "name": f"hf/{source}" if source else "hf",
            "layer": layer,
            "select": select,
            "image_size": self.image_size,
            "config": json.loads(own.to_json_string(use_diff=False)),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to tokens [B, N, D]."""
        deep = self.layer is not None
        output = self.model(
            pixel_values=pixel_values, output_hidden_states=deep, return_dict=True, **self._options
        )
        tokens = output.hidden_states[self.layer] if deep else output.last_hidden_state
        if tokens.ndim == 4:  # convolutional: [B, D, H, W]
            tokens = tokens.flatten(2).transpose(1, 2)
        return tokens[:, self._prefix :]

    def _check_layer(self, config: Any) -> None:
        count = getattr(config, "num_hidden_layers", None)
        if self.layer is not None and count is not None and not -count - 1 <= self.layer <= count:
            raise ConfigError(
                "the vision tower has no such layer",
                given=f"layer={self.layer}",
                expected=f"{-count - 1} to {count}",
                do="choose another layer, or None for the final state",
            )


def _load(source: str, revision: str | None) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        vision = getattr(config, "vision_config", config)
        if not hasattr(vision, "image_size"):
            raise ValueError(f"a {config.model_type!r} model, which has no vision tower")
        model, report = AutoModel.from_pretrained(
            source, config=vision, revision=revision, output_loading_info=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            "cannot load a vision tower",
            given=f"{source}: {str(error).strip().partition(chr(10))[0] or type(error).__name__}",
            expected="a hub id or folder of a vision model of transformers, with safetensors weights",
            do="check the name, the revision and the connection (or HF_HUB_OFFLINE)",
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            "a checkpoint lacks weights of its vision tower",
            given=f"{source} without {len(missing)} of them: {', '.join(missing[:4])}",
            expected="all weights",
            do="use a complete checkpoint",
        )
    return model


def _from_config(config: dict[str, Any]) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    values = dict(config)
    kind = values.pop("model_type", None)
    try:
        return AutoModel.from_config(AutoConfig.for_model(kind, **values))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "cannot build a vision tower",
            given=f"model_type={kind!r}: {error}",
            expected="a vision configuration of transformers",
            do="correct it",
        ) from None


def _normalisation(source: str | None, model_type: str, revision: str | None) -> tuple[Any, Any]:
    if source is not None:
        from transformers.image_processing_base import ImageProcessingMixin

        try:
            values, _ = ImageProcessingMixin.get_image_processor_dict(source, revision=revision)
        except (OSError, ValueError):  # a checkpoint without one
            values = {}
        if values.get("image_mean") and values.get("image_std"):
            return values["image_mean"], values["image_std"]
    return next((pair for family, pair in _NORMALISATION.items() if family in model_type), _IMAGENET)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, (list, tuple)) else value)
