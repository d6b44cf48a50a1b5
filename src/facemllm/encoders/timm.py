"""Any timm model as a vision encoder."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import torch
from torch import Tensor, nn

from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.encoders.base import VisionEncoder, as_triple, measure
from facemllm.encoders.registry import ENCODERS


@ENCODERS.register("timm")
class TimmEncoder(VisionEncoder):
    """The features of a timm model, before its pooling and classifier.

    Convolutional feature maps become one token a position, row by row.

    Args:
        arch: Name of a timm model, with a tag of weights if wanted; or "hf-hub:<id>", "local-dir:<folder>".
        image_size: Side of the picture in pixels; None takes the model's own.
        layer: Which intermediate features to take, counted as timm does (-2 for the last but one block of a
            transformer, or stage of a convolutional network); None takes the final, normalised ones.
            Layers behind it are removed.
        select: "patch" drops class and register tokens, "full" keeps them in front.
        pretrained: Download timm's weights.
        **options: For timm's ``create_model``, such as ``drop_path_rate``.

    Raises:
        ConfigError: If timm does not know the model, or the size or layer does not fit it.

    Example:
        >>> encoder = TimmEncoder("vit_tiny_patch16_224", image_size=64, layer=-2)
        >>> encoder(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 16, 192])
    """

    def __init__(
        self,
        arch: str,
        *,
        image_size: int | None = None,
        layer: int | None = None,
        select: Literal["patch", "full"] = "patch",
        pretrained: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if select not in ("patch", "full"):
            raise ConfigError(
                "cannot select tokens",
                given=f"select={select!r}",
                expected="'patch' or 'full'",
                do="correct it",
            )
        self.layer, self.select = layer, select
        self.model: Any = _build(arch, image_size, pretrained, options)
        if image_size is not None:
            _check_patches(self.model, arch, image_size)
        defaults = getattr(self.model, "pretrained_cfg", None) or {}
        self.mean = as_triple(defaults.get("mean", self.mean))
        self.std = as_triple(defaults.get("std", self.std))
        self.image_size = image_size or defaults.get("input_size", (3, 224, 224))[-1]
        self.spec = {
            "name": f"timm/{arch}",
            "image_size": self.image_size,
            "layer": layer,
            "select": select,
            **options,
        }
        self._prefix = getattr(self.model, "num_prefix_tokens", 0)
        if layer is not None:
            self.model, self._take = _cut(self.model, arch, image_size, layer, pretrained, options)
        self.num_tokens, self.embed_dim = measure(self)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixel values [B, 3, S, S] to tokens [B, N, D]."""
        if self.layer is None:
            return self._final(self.model.forward_features(pixel_values))
        if self._take is None:  # a feature extractor made by timm, with one output
            return self._final(self.model(pixel_values)[0])
        extra: dict[str, Any] = (
            {"return_prefix_tokens": True} if self.select == "full" and self._prefix else {}
        )
        (features,) = self.model.forward_intermediates(
            pixel_values,
            indices=[self._take],
            intermediates_only=True,
            output_fmt="NCHW",
            stop_early=True,
            **extra,
        )
        if not extra:
            return _flatten(features)
        features, prefix = features
        return torch.cat([prefix, _flatten(features)], dim=1)

    def _final(self, features: Tensor) -> Tensor:
        if features.ndim == 3:
            return features if self.select == "full" else features[:, self._prefix :]
        # Some transformers keep channels last.
        last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return features.flatten(1, 2) if last else _flatten(features)


def _flatten(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)


def _build(
    arch: str, image_size: int | None, pretrained: bool, options: dict[str, Any], **more: Any
) -> nn.Module:
    import timm

    arguments = {"pretrained": pretrained, "num_classes": 0, **options, **more}
    if more:  # timm's feature extractors take no classifier arguments
        arguments.pop("num_classes")
    try:
        if image_size is not None:
            try:  # transformers must know the size; convolutional networks refuse the argument and need not
                return timm.create_model(arch, img_size=image_size, **arguments)
            except TypeError:
                pass
        return timm.create_model(arch, **arguments)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        near = difflib.get_close_matches(arch.partition(".")[0], timm.list_models(), n=3)
        raise ConfigError(
            f"timm cannot build {arch!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""),
            given=error,
            expected="a model of timm, an image_size it allows, and options it takes",
            do="see timm.list_models()",
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"cannot get the weights of timm's {arch!r}",
            given=str(error).strip().partition("\n")[0],
            expected="weights in the cache or a connection to the hub",
            do="check the connection, or pass pretrained=False",
        ) from error


def _check_patches(model: Any, arch: str, image_size: int) -> None:
    """Refuse a size that patches do not fill: timm would drop the rest of the picture in silence.

    The size that a model was trained at is let through: SigLIP's 384 pixels are no multiple of its 14.
    """
    from timm.layers import PatchEmbed

    if image_size in (getattr(model, "pretrained_cfg", None) or {}).get("input_size", ()):
        return
    patches = getattr(model, "patch_embed", None)
    if not isinstance(patches, PatchEmbed) or patches.dynamic_img_pad:  # others pad the picture
        return
    patch = max(patches.patch_size)
    if image_size % patch:
        lower = image_size // patch * patch
        raise ConfigError(
            f"image_size does not fit the patches of timm's {arch!r}",
            given=f"image_size={image_size}: its last {image_size % patch} pixels a side would never be seen",
            expected=f"a multiple of the patch size {patch}",
            do=f"pass image_size={lower or patch}" + (f" or {lower + patch}" if lower else ""),
        )


def _cut(
    model: nn.Module, arch: str, image_size: int | None, layer: int, pretrained: bool, options: dict[str, Any]
) -> tuple[nn.Module, int | None]:
    """Return the model up to ``layer``, and the index to ask it for (None: the model returns a list)."""
    try:
        if hasattr(model, "forward_intermediates"):
            # Takes away what lies behind, so that no weights stay unused.
            prune: Any = model.prune_intermediate_layers
            (taken,) = prune([layer], prune_norm=True, prune_head=True)
            return model, taken
        return _build(arch, image_size, pretrained, options, features_only=True, out_indices=[layer]), None
    except (AssertionError, IndexError, ConfigError) as error:
        raise ConfigError(
            f"timm's {arch!r} has no such layer",
            given=f"layer={layer}",
            expected=f"a layer it has ({error})",
            do="choose another layer",
        ) from None
